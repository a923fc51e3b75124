"""Pins the stream of events: its lines, where it begins, when it ends, and what becomes of who doesn't read."""

import asyncio
import json
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from pyproxy.admin import events as module
from pyproxy.admin.events import STREAMS
from tests.unit.admin.asking import Client, body


class Listener:
    """One who asks for events; ``received`` is what was written to it."""

    def __init__(self, client: Client, path: str = "/api/v1/events?for=0", method: str = "GET", **headers: str) -> None:
        self.received = b""
        self.reads = asyncio.Event()
        self.reads.set()
        self.transport = Mock()
        self.transport.is_closing.return_value = False
        self.transport.abort.side_effect = lambda: setattr(self, "is_dropped", True)
        self.is_dropped = False
        writer = Mock(write=self._write, write_eof=self._write_eof, write_headers=self._nothing)
        names = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
        request = make_mocked_request(
            method, path, headers=names, app=client.app, writer=writer, transport=self.transport
        )
        self.task = asyncio.ensure_future(client.app._handle(request))
        self.is_whole = False

    async def _write(self, data: bytes, *_: Any, **__: Any) -> None:
        await self.reads.wait()
        if self.is_dropped:
            raise ConnectionResetError
        self.received += data

    async def _write_eof(self, *_: Any) -> None:
        self.is_whole = True

    async def _nothing(self, *_: Any) -> None:
        pass

    async def end(self) -> web.StreamResponse:
        """Wait for the end of the stream."""
        return await asyncio.wait_for(self.task, 10)

    def events(self) -> list[tuple[str | None, Any]]:
        """What came, with ids."""
        result = []
        for block in self.received.decode().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
            if "data" in fields:
                result.append((fields.get("id"), json.loads(fields["data"])))
        return result

    def words(self) -> list[Any]:
        """What came: the kind of a note, or the new value."""
        return [event["to"] if name else event["kind"] for name, event in self.events()]


async def turn(condition: Callable[[], object]) -> None:
    """Let the loop go on until something is so."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


def filled(count: int) -> Client:
    """A program in which so much has happened."""
    client = Client()
    for number in range(1, count + 1):
        client.events.publish("state", after=number)
    return client


async def test_a_stream_has_ids_and_is_not_kept_back() -> None:
    """An event is its id and one line of JSON; the type is that of server-sent events."""
    client = filled(1)
    listener = Listener(client, "/api/v1/events?for=0&after=0")
    response = await listener.end()
    assert (response.status, response.content_type) == (200, "text/event-stream")
    assert response.headers["X-Accel-Buffering"] == "no"
    assert response.headers["Cache-Control"] == "no-store"
    ((name, event),) = listener.events()
    assert name == client.events.id_of(1)
    assert set(event) == {"at", "kind", "pool", "backend", "from", "to", "reason", "by"}
    assert listener.received.startswith(b"retry: 2000\n\n")
    assert listener.is_whole


@pytest.mark.parametrize(
    ("query", "last", "expected"),
    [("", None, []), ("&after=0", None, [1, 2, 3]), ("&after=0", 2, [3]), ("&after=gone", None, ["skipped", 1, 2, 3])],
)
async def test_where_a_stream_begins(query: str, last: int | None, expected: list[object]) -> None:
    """With the next event; after one that was seen, of which a header says more than the path; or with a note."""
    client = filled(3)
    headers = {} if last is None else {"Last_Event_ID": client.events.id_of(last)}
    listener = Listener(client, f"/api/v1/events?for=0{query}", **headers)
    await listener.end()
    assert listener.words() == expected


async def test_what_happens_is_sent_as_it_happens() -> None:
    """Until the program ends: then the answer is whole."""
    client = filled(1)
    listener = Listener(client, "/api/v1/events")
    await turn(lambda: listener.received)
    for number in (2, 3):
        client.events.publish("state", after=number)
        await turn(lambda: len(listener.words()) == number - 1)  # noqa: B023 - called at once
    await client.app[STREAMS].close(client.app)
    await listener.end()
    assert listener.words() == [2, 3]
    assert listener.is_whole
    assert not listener.is_dropped


async def test_silence_is_broken_by_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has left is noticed by writing only."""
    monkeypatch.setattr(module, "HEARTBEAT", 0.001)
    client = Client()
    listener = Listener(client, "/api/v1/events")
    await turn(lambda: listener.received.count(b": still here\n\n") >= 2)
    listener.is_dropped = True
    await listener.end()


async def test_who_does_not_read_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds nothing but its place, and that not for long."""
    monkeypatch.setattr(module, "PATIENCE", 0.001)
    client = Client()
    listener = Listener(client, "/api/v1/events")
    listener.reads.clear()
    await listener.end()
    assert listener.is_dropped
    assert "0 open" in repr(client.app[STREAMS])


async def test_who_reads_slowly_misses_something_and_is_told() -> None:
    """Whoever publishes doesn't wait."""
    client = Client()
    listener = Listener(client, "/api/v1/events")
    await turn(lambda: listener.received)
    listener.reads.clear()
    for number in range(1, 3002):
        client.events.publish("state", after=number)
        if number == 1:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
    listener.reads.set()
    await turn(lambda: listener.words()[-1:] == [3001])
    assert listener.words() == [1, "skipped", *range(2002, 3002)]
    await client.app[STREAMS].close(client.app)
    await listener.end()


async def test_the_end_waits_for_nobody() -> None:
    """One that doesn't read is dropped at once."""
    client = Client()
    listener = Listener(client, "/api/v1/events")
    await turn(lambda: listener.received)
    listener.reads.clear()
    client.events.publish("state")
    streams = client.app[STREAMS]
    await turn(lambda: streams._writing)
    await streams.close(client.app)
    assert listener.is_dropped
    listener.reads.set()
    await listener.end()


async def test_there_is_room_for_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is refused, unless somebody has left."""
    monkeypatch.setattr(module, "MOST_STREAMS", 1)
    client = Client()
    first = Listener(client, "/api/v1/events")
    await turn(lambda: first.received)
    refused = await Listener(client).end()
    assert isinstance(refused, web.Response)
    assert refused.status == 503
    assert body(refused) == {"error": "there are 1 streams of events already"}
    first.transport.is_closing.return_value = True
    assert (await Listener(client).end()).status == 200
    await client.app[STREAMS].close(client.app)
    await first.end()


async def test_a_time_that_is_none_is_refused_and_head_has_no_body() -> None:
    """As everywhere in the API."""
    client = Client()
    response = await client.ask("/api/v1/events?for=soon")
    assert response.status == 422
    assert body(response)["detail"][0].startswith("for: must be a duration")
    listener = Listener(client, "/api/v1/events", "HEAD")
    assert (await listener.end()).status == 200
    assert listener.received == b""
