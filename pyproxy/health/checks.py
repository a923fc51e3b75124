"""
One check of one backend: connect, ask if there is something to ask, and say what came of it.

Must not know pools, counters or when to check. Every check has a connection of its own, which is dropped as soon as
the result is known. A result names the layer and what happened there::

    L4 connected       L4 refused    L4 timeout    L4 reset    L4 unreachable    L4 no socket
    L7 200             L7 timeout    L7 closed     L7 not HTTP L7 body           L7 503, expected 200-399
"""

import asyncio
import errno
from dataclasses import dataclass
from typing import Final, cast

import httptools

from pyproxy.clock import monotonic, wall
from pyproxy.config.runtime import Backend, Health, join_address
from pyproxy.errors import PyproxyError
from pyproxy.health.steer import HEADER

#: The text is looked for in so much of a body; a head may be as large.
MAX_BYTES: Final = 64 * 1024
#: An answer may be this much with all that isn't body: chunks of a few bytes, extensions, trailers.
ANSWER_MAX_BYTES: Final = 8 * MAX_BYTES

#: A PROXY header that names no client, since the checks are our own (proxy-protocol.txt, 2.1 and 2.2).
PROXY_LOCAL: Final = {
    "v1": b"PROXY UNKNOWN\r\n",
    "v2": b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00",
}

_OUR_LIMITS: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL}
_OUTCOMES: Final = {
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "reset",
    errno.EPIPE: "reset",
    errno.ETIMEDOUT: "timeout",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable",
    errno.ENOENT: "no socket",
    errno.EACCES: "not permitted",
    errno.EPERM: "not permitted",
    errno.EAGAIN: "queue full",  # of a unix socket
}


class NotChecked(PyproxyError):
    """The check could not be made for a reason of our own, which says nothing about the backend."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """
    What came of a check that began at ``at`` (wall clock) and took ``duration`` seconds.

    ``said`` is the node's ``X-LB-State``, empty without one, None if that wasn't asked for or nothing was answered.
    """

    at: float
    ok: bool
    detail: str
    duration: float
    said: str | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """Where and what to ask; ``request`` is empty if a connection is all that is wanted."""

    host: str
    port: int
    path: str  # of a unix socket
    request: bytes
    health: Health

    @property
    def address(self) -> str:
        """As text."""
        return f"unix:{self.path}" if self.path else join_address(self.host, self.port)


def make_target(backend: Backend, health: Health, send_proxy: str | None) -> Target:
    """Work out once what every check of a backend sends."""
    request = PROXY_LOCAL[send_proxy] if send_proxy else b""
    if health.type == "http":
        host = health.host or ("localhost" if backend.path else join_address(backend.host, backend.port))
        lines = f"GET {health.path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: pyproxy-check\r\nConnection: close\r\n\r\n"
        request += lines.encode()
    return Target(backend.host, health.port or backend.port, backend.path, request, health)


async def check(target: Target) -> CheckResult:
    """Check once, within the timeout; raises ``NotChecked``."""
    loop = asyncio.get_running_loop()
    at, begin = wall(), monotonic()
    probe = _Probe(target, loop.create_future())
    try:
        async with asyncio.timeout(target.health.timeout):
            if target.path:
                await loop.create_unix_connection(lambda: probe, target.path)
            else:
                await loop.create_connection(lambda: probe, target.host, target.port)
            ok, detail = await probe.result
    except TimeoutError as error:
        # The kernel's own ETIMEDOUT is a TimeoutError too.
        ok, detail = False, "L7 timeout" if probe.is_connected and error.errno is None else "L4 timeout"
    except OSError as error:
        if error.errno in _OUR_LIMITS:
            raise NotChecked(str(error)) from error
        ok, detail = False, f"L4 {_OUTCOMES.get(error.errno or 0, error.strerror or str(error))}"
    finally:
        probe.close()
    return CheckResult(at, ok, detail, monotonic() - begin, probe.said if target.health.steer else None)


class _Probe(asyncio.Protocol):
    """The connection of one check; ``result`` is whether it is good, and the detail."""

    def __init__(self, target: Target, result: "asyncio.Future[tuple[bool, str]]") -> None:
        self.result = result
        self.is_connected = False
        self.said: str | None = None
        self._words: list[bytes] = []
        self._target = target
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._received = 0
        self._has_head = False
        self._needle = (target.health.body or "").encode()
        self._body = bytearray()

    def close(self) -> None:
        """Drop the connection, and whatever still comes."""
        self.result.cancel()
        if self._transport is not None:
            self._transport.abort()

    # transport callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask; a connection alone is enough for type ``tcp``."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's don't inherit from it
        self.is_connected = True
        if self.result.done():  # the time was up just before
            self._transport.abort()
            return
        if self._target.request:
            self._transport.write(self._target.request)
        if self._target.health.type == "tcp":
            self._decide(True, "L4 connected")

    def data_received(self, data: bytes) -> None:
        """Read as much as it takes to decide."""
        if self.result.done():
            return
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # nobody asked for one: 101 is judged by its status
        except httptools.HttpParserError:
            self._decide(False, "L7 not HTTP")
        if not self._has_head and self._received > MAX_BYTES:
            self._decide(False, "L7 not HTTP")
        elif self._received > ANSWER_MAX_BYTES:
            self._decide(False, "L7 body")

    def eof_received(self) -> bool:
        """An end says that the body is whole, if nothing else did."""
        self._handle_end()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """A connection that breaks is no answer."""
        if exc is not None:
            self._decide(False, "L4 reset")
        self._handle_end()

    def _handle_end(self) -> None:
        self._decide(False, "L7 body" if self._has_head else "L7 closed")

    # parser callbacks

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note what the node says of itself."""
        if name.lower() == HEADER:
            self._words.append(value)

    def on_headers_complete(self) -> None:
        """Judge the status; an interim one is passed over."""
        status, health = self._parser.get_status_code(), self._target.health
        if 100 <= status < 200 and status != 101:
            self._words.clear()
            return
        self._has_head = True
        self.said = b", ".join(self._words).decode("latin-1")
        if not any(low <= status <= high for low, high in health.expect):
            self._decide(False, f"L7 {status}, expected {show_expect(health.expect)}")
        elif not self._needle:
            self._decide(True, f"L7 {status}")

    def on_body(self, data: bytes) -> None:
        """Look for the text in what has come."""
        if self.result.done():
            return
        start = max(len(self._body) - len(self._needle) + 1, 0)
        self._body += data[: MAX_BYTES - len(self._body)]
        if self._body.find(self._needle, start) >= 0:
            self._decide(True, f"L7 {self._parser.get_status_code()}")
        elif len(self._body) >= MAX_BYTES:
            self._decide(False, "L7 body")

    def on_message_complete(self) -> None:
        """Note that the text is not there."""
        if self._has_head:
            self._decide(False, "L7 body")

    def _decide(self, ok: bool, detail: str) -> None:
        if not self.result.done():
            self.result.set_result((ok, detail))


def show_expect(ranges: tuple[tuple[int, int], ...]) -> str:
    """
    Write ranges of status codes as the file does.

    >>> show_expect(((200, 399), (404, 404)))
    '200-399,404'
    """
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in ranges)
