"""
``GET /api/v1/events``: what happens in the program as server-sent events, until the listener or the program leaves.

Must not know what can happen: it is handed something that satisfies ``Events``.

A listener has a number, the last event that it was sent; nothing is queued for it. While it doesn't read, nothing more
is sent, and if that lasts it is dropped. What is gone by the time it reads on is a ``skipped`` event in its stream.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Protocol, TypedDict

import orjson
from aiohttp import hdrs, web

from pyproxy.admin.body import InvalidBody
from pyproxy.admin.control import Unavailable
from pyproxy.config.values import parse_duration

CONTENT_TYPE = "text/event-stream"
MOST_STREAMS = 32
HEARTBEAT = 15.0  # seconds without an event until a comment is sent: whoever left is noticed, proxies keep it open
PATIENCE = 10.0  # seconds that a listener may not read at all
LONGEST = 3600.0  # seconds that a stream lasts; a listener comes back by itself, and its token is looked at again

_BATCH = 100  # events in one write
_RETRY = b"retry: 2000\n\n"  # milliseconds until a browser comes back
_COMMENT = b": still here\n\n"

Value = str | int | float | None

EventView = TypedDict(
    "EventView",
    {
        "at": str,
        "kind": str,
        "pool": str | None,
        "backend": str | None,
        "from": Value,
        "to": Value,
        "reason": str | None,
        "by": str | None,
    },
)
"""Something that happened: ``from`` and ``to`` are values that changed, ``by`` who did it. Time in RFC 3339."""


class Events(Protocol):
    """What happens, with a number for each event; the first is 1, ``last`` the newest."""

    @property
    def last(self) -> int:
        """The number of the newest event."""
        ...

    def since(self, number: int) -> tuple[EventView | None, list[tuple[int, EventView]]]:
        """Give the kept events after this one, and a note for the listener if there were others before those."""
        ...

    def id_of(self, number: int) -> str:
        """Give the id that a listener may come back with."""
        ...

    def find(self, text: str) -> int:
        """Give the number of an id; 0 is the beginning, -1 is unknown."""
        ...

    async def changed(self, number: int) -> None:
        """Wait for an event after this one, or for ``wake``."""
        ...

    def wake(self) -> None:
        """Let go who waits."""
        ...


class Streams:
    """The streams that are open; they end when the application does."""

    def __init__(self, events: Events, longest: float = LONGEST) -> None:
        self.events = events
        self.longest = longest
        self.is_closing = False
        self._open: set[asyncio.Transport] = set()
        self._writing: set[asyncio.Transport] = set()

    def __repr__(self) -> str:
        return f"<Streams {len(self._open)} open>"

    @contextlib.contextmanager
    def opened(self, transport: asyncio.Transport) -> Iterator[None]:
        """Count a stream; raises ``Unavailable`` if there are too many. Those whose listener has left don't count."""
        if sum(not other.is_closing() for other in self._open) >= MOST_STREAMS:
            raise Unavailable(f"there are {MOST_STREAMS} streams of events already")
        self._open.add(transport)
        try:
            yield
        finally:
            self._open.discard(transport)

    @contextlib.asynccontextmanager
    async def writing(self, transport: asyncio.Transport) -> AsyncIterator[None]:
        """Write to a listener in here; one that doesn't read is a ``TimeoutError``."""
        self._writing.add(transport)
        try:
            async with asyncio.timeout(PATIENCE):
                yield
        finally:
            self._writing.discard(transport)

    async def close(self, _app: web.Application) -> None:
        """End all streams, at once: those whose listener doesn't read as well."""
        self.is_closing = True
        for transport in self._writing:
            transport.abort()
        self.events.wake()


STREAMS = web.AppKey("streams", Streams)

routes = web.RouteTableDef()


@routes.get("/api/v1/events")
async def events(request: web.Request) -> web.StreamResponse:
    """What happens, from now on or from an event that was seen before."""
    streams = request.app[STREAMS]
    seconds = _seconds_of(request, streams.longest)
    number = _begin_of(request, streams.events)
    response = web.StreamResponse()
    response.content_type = CONTENT_TYPE
    response.headers["X-Accel-Buffering"] = "no"  # an nginx in front would keep events back
    transport = request.transport
    if transport is None:  # it has left already
        return response
    with streams.opened(transport):
        await response.prepare(request)
        if request.method != hdrs.METH_HEAD:
            stream = _Stream(streams, transport, response, number)
            try:
                await stream.run(seconds)
            except (ConnectionError, TimeoutError):  # it has left, or doesn't read
                transport.abort()
    return response


class _Stream:
    """One answer that goes on; ``number`` is the last event that was sent."""

    def __init__(
        self, streams: Streams, transport: asyncio.Transport, response: web.StreamResponse, number: int
    ) -> None:
        self._streams = streams
        self._events = streams.events
        self._transport = transport
        self._response = response
        self._number = number

    def __repr__(self) -> str:
        return f"<_Stream at {self._number}>"

    async def run(self, seconds: float) -> None:
        """Send what happens until the time is up or the program ends; then the answer is whole."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        await self._write(_RETRY)
        while True:
            await self._catch_up()
            left = end - loop.time()
            if self._streams.is_closing or left <= 0:
                break
            try:
                async with asyncio.timeout(min(left, HEARTBEAT)):
                    await self._events.changed(self._number)
            except TimeoutError:
                await self._write(_COMMENT)
        async with self._streams.writing(self._transport):
            await self._response.write_eof()

    async def _catch_up(self) -> None:
        """Send what has happened since the last event that was sent, as far as it is kept."""
        note, found = self._events.since(self._number)
        if note is not None:
            await self._write(_line(note))
            self._number = self._events.last
        for start in range(0, len(found), _BATCH):
            batch = found[start : start + _BATCH]
            await self._write(b"".join([_line(event, self._events.id_of(number)) for number, event in batch]))
            self._number = batch[-1][0]

    async def _write(self, data: bytes) -> None:
        async with self._streams.writing(self._transport):
            await self._response.write(data)


def _line(event: EventView, name: str | None = None) -> bytes:
    data = b"data: %b\n\n" % orjson.dumps(event)
    return data if name is None else b"id: %b\n%b" % (name.encode(), data)


def _begin_of(request: web.Request, source: Events) -> int:
    """Find where to begin: a browser that comes back sends the id in a header, beside the path it first asked for."""
    known = request.headers.get("Last-Event-ID", request.query.get("after"))
    return source.last if known is None else source.find(known)


def _seconds_of(request: web.Request, longest: float) -> float:
    text = request.query.get("for")
    if text is None:
        return longest
    try:
        return min(parse_duration(float(text) if text.isdecimal() else text), longest)
    except ValueError as error:
        raise InvalidBody([f"for: {error}"]) from error
