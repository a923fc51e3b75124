"""Pins what one check sends, what it makes of every kind of answer, and that it never reads for ever."""

import asyncio
import errno
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pyproxy.config.runtime import Backend, Health
from pyproxy.health import checks
from pyproxy.health.checks import ANSWER_MAX_BYTES, MAX_BYTES, CheckResult, NotChecked, check, make_target

HEALTH = Health("http", "/up?x", None, ((200, 399),), None, 2.0, 0.05, 2, 3, None)
BACKEND = Backend("a", "10.0.0.1", 80, 1, False, 0)
HEAD = b"GET /up?x HTTP/1.1\r\nHost: 10.0.0.1:80\r\nUser-Agent: pyproxy-check\r\nConnection: close\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"

Item = bytes | None | Exception


class Peer(asyncio.Transport):
    """The other side of a check: says its items as soon as there is something to answer; None is FIN."""

    def __init__(self, *items: Item) -> None:
        super().__init__()
        self.items = items
        self.sent = b""
        self.is_aborted = False
        self.protocol: Any = None
        self.where: tuple[Any, ...] = ()

    def connect(self, factory: Callable[[], Any], *where: Any) -> None:
        self.where = where
        self.protocol = factory()
        self.protocol.connection_made(self)

    def write(self, data: Any) -> None:
        self.sent += data
        for item in self.items:
            asyncio.get_running_loop().call_soon(self._say, item)

    def _say(self, item: Item) -> None:
        if isinstance(item, bytes):
            self.protocol.data_received(item)
        elif item is None:
            self.protocol.eof_received()
        else:
            self.protocol.connection_lost(item)

    def abort(self) -> None:
        self.is_aborted = True


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Check a backend whose peer says these things."""

    async def run(
        *items: Item, health: Health = HEALTH, backend: Backend = BACKEND, send_proxy: str | None = None
    ) -> tuple[CheckResult, Peer]:
        peer = Peer(*items)

        async def connect(factory: Callable[[], Any], *where: Any) -> None:
            peer.connect(factory, *where)

        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "create_connection", connect)
        monkeypatch.setattr(loop, "create_unix_connection", connect)
        result = await check(make_target(backend, health, send_proxy))
        assert peer.is_aborted, "every connection is dropped"
        return result, peer

    return run


async def test_a_good_answer(run: Callable[..., Any]) -> None:
    """What is sent, where, and what is said of it."""
    result, peer = await run(OK)
    assert (result.ok, result.detail) == (True, "L7 200")
    assert 0 <= result.duration < 1
    assert (peer.sent, peer.where) == (HEAD, ("10.0.0.1", 80))


@pytest.mark.parametrize("cut", range(1, len(OK)))
async def test_an_answer_in_pieces(run: Callable[..., Any], cut: int) -> None:
    """Wherever it is split."""
    result, _ = await run(OK[:cut], OK[cut:], health=replace(HEALTH, body="hi"))
    assert (result.ok, result.detail) == (True, "L7 200")


@pytest.mark.parametrize(
    ("items", "detail"),
    [
        ([b"HTTP/1.1 503 Service Unavailable\r\n\r\n"], "L7 503, expected 200-399"),
        (
            [b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nxx"],
            "L7 101, expected 200-399",
        ),
        ([b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\n\r\n"], "L7 404, expected 200-399"),
        ([b"SSH-2.0-OpenSSH\r\n"], "L7 not HTTP"),
        ([b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1000] + [b"x" * 1000] * 70, "L7 not HTTP"),
        ([None], "L7 closed"),
        ([b"HTTP/1.1 200 OK\r\nContent", None], "L7 closed"),
        ([ConnectionResetError()], "L4 reset"),
        ([b"HTTP/1.1 200", ConnectionResetError()], "L4 reset"),
        ([b"HTTP/1.1 200"], "L7 timeout"),
        ([], "L7 timeout"),
    ],
)
async def test_bad_answers(run: Callable[..., Any], items: list[Item], detail: str) -> None:
    """Layer and outcome."""
    result, _ = await run(*items)
    assert (result.ok, result.detail) == (False, detail)


CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nall\r\n6\r\n is w\xc3\r\n6\r\n\xb6ll!!!\r\n0\r\n\r\n"
)


@pytest.mark.parametrize(
    ("items", "detail"),
    [
        ([CHUNKED], "L7 200"),
        ([b"HTTP/1.0 200 OK\r\n\r\nall is ", b"w\xc3", b"\xb6ll"], "L7 200"),
        ([b"HTTP/1.0 200 OK\r\n\r\nall is well", None], "L7 body"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nall"], "L7 body"),
        ([b"HTTP/1.1 204 No Content\r\n\r\n"], "L7 body"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nall", None], "L7 body"),
        ([b"HTTP/1.0 200 OK\r\n\r\n", *[b"x" * 1024] * 64, b"all is w\xc3\xb6ll"], "L7 body"),
        ([b"HTTP/1.0 200 OK\r\n\r\n", *[b"x" * 1024] * 63, b"all is w\xc3\xb6ll"], "L7 200"),
        ([b"HTTP/1.1 500 Oops\r\nContent-Length: 12\r\n\r\nall is w\xc3\xb6ll"], "L7 500, expected 200-399"),
    ],
)
async def test_the_text_in_the_body(run: Callable[..., Any], items: list[Item], detail: str) -> None:
    """In the first 64 KiB, whatever the framing, also across pieces."""
    assert MAX_BYTES == 64 * 1024
    result, _ = await run(*items, health=replace(HEALTH, body="is wöll"))
    assert (result.ok, result.detail) == (detail == "L7 200", detail)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 200 OK\r\nX-LB-State: drain\r\n\r\n", "drain"),
        (b"HTTP/1.1 503 No\r\nx-lb-state:maint\r\n\r\n", "maint"),
        (b"HTTP/1.1 200 OK\r\n\r\n", ""),
        (b"HTTP/1.1 200 OK\r\nX-LB-State: drain\r\nX-LB-State: ready\r\n\r\n", "drain, ready"),
        (b"HTTP/1.1 103 Early\r\nX-LB-State: drain\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", ""),
        (b"HTTP/1.1 200 OK\r\nX-LB-State: drain", None),
        (b"SSH-2.0\r\n", None),
    ],
)
async def test_what_the_node_says_of_itself(run: Callable[..., Any], answer: bytes, said: str | None) -> None:
    """In any answer that has a head, also a bad one; if nobody wants to know it isn't told."""
    result, _ = await run(answer, health=replace(HEALTH, steer=True))
    assert result.said == said
    result, _ = await run(answer)
    assert result.said is None


async def test_what_else_may_be_asked(run: Callable[..., Any]) -> None:
    """Host, port and codes of the file."""
    health = replace(HEALTH, host="app.test", port=81, expect=((204, 204), (301, 302)))
    result, peer = await run(b"HTTP/1.1 301 Moved\r\n\r\n", health=health)
    assert result.ok
    assert b"\r\nHost: app.test\r\n" in peer.sent
    assert peer.where == ("10.0.0.1", 81)
    result, _ = await run(OK, health=health)
    assert result.detail == "L7 200, expected 204,301-302"


async def test_unix_sockets(run: Callable[..., Any]) -> None:
    """The path is where to connect, and no host."""
    backend = Backend("a", "", 0, 1, False, 0, path="/run/a.sock")
    _, peer = await run(OK, backend=backend, health=replace(HEALTH, port=81))
    assert peer.where == ("/run/a.sock",)
    assert b"\r\nHost: localhost\r\n" in peer.sent
    assert make_target(backend, HEALTH, None).address == "unix:/run/a.sock"


@pytest.mark.parametrize(
    ("version", "header"),
    [("v1", b"PROXY UNKNOWN\r\n"), ("v2", b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00")],
)
async def test_a_proxy_header_without_a_client(run: Callable[..., Any], version: str, header: bytes) -> None:
    """As on every connection of such a pool, for type tcp too."""
    _, peer = await run(OK, send_proxy=version)
    assert peer.sent == header + HEAD
    _, peer = await run(health=replace(HEALTH, type="tcp"), send_proxy=version)
    assert peer.sent == header


async def test_tcp(run: Callable[..., Any]) -> None:
    """A connection is all, and nothing is sent."""
    result, peer = await run(health=replace(HEALTH, type="tcp"))
    assert (result.ok, result.detail, peer.sent) == (True, "L4 connected", b"")


@pytest.mark.parametrize(
    ("number", "detail"),
    [
        (errno.ECONNREFUSED, "L4 refused"),
        (errno.ECONNRESET, "L4 reset"),
        (errno.ETIMEDOUT, "L4 timeout"),
        (errno.EHOSTUNREACH, "L4 unreachable"),
        (errno.ENETUNREACH, "L4 unreachable"),
        (errno.ENOENT, "L4 no socket"),
        (errno.EACCES, "L4 not permitted"),
        (errno.EDOM, "L4 Numerical argument out of domain"),
    ],
)
async def test_no_connection(monkeypatch: pytest.MonkeyPatch, number: int, detail: str) -> None:
    """The kernel says why."""

    async def connect(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", connect)
    result = await check(make_target(BACKEND, HEALTH, None))
    assert (result.ok, result.detail) == (False, detail)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL])
async def test_our_own_limits_are_no_result(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """A backend isn't down because we have no descriptor left."""

    async def connect(*_: Any) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", connect)
    with pytest.raises(NotChecked):
        await check(make_target(BACKEND, HEALTH, None))


async def test_a_connection_that_never_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packets that are dropped on the way."""

    async def connect(*_: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", connect)
    result = await check(make_target(BACKEND, HEALTH, None))
    assert (result.ok, result.detail) == (False, "L4 timeout")
    assert result.duration >= HEALTH.timeout


def test_one_that_opens_too_late_is_dropped() -> None:
    """The loop may have it ready in the very turn in which the time is up."""
    loop = asyncio.new_event_loop()
    peer = Peer()
    probe = checks._Probe(make_target(BACKEND, HEALTH, None), loop.create_future())
    probe.close()
    peer.connect(lambda: probe)
    assert (peer.is_aborted, peer.sent) == (True, b"")
    loop.close()


@pytest.mark.parametrize("start", [b"1;", b"0\r\nX: "])
async def test_what_is_no_body_is_bounded(run: Callable[..., Any], start: bytes) -> None:
    """Chunk extensions and trailers without end are no reason to read on until the time is up."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    pieces = [b"x" * MAX_BYTES] * (ANSWER_MAX_BYTES // MAX_BYTES + 1)
    result, _ = await run(head + start, *pieces, health=replace(HEALTH, body="hi"))
    assert (result.ok, result.detail) == (False, "L7 body")
