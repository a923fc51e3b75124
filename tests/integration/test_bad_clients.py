"""Clients that are slow, that stop, and that leave: in each phase, with the status and end of the log."""

import asyncio

import pytest

from tests.integration.client import RawClient, get, post
from tests.integration.conftest import Connect
from tests.integration.origin import Origin, OriginConnection, hang, reply, serve
from tests.integration.shared import SharedProgram
from tests.integration.test_refusals import check_refusal
from tests.integration.wire import Truncated

LEAVE = pytest.mark.parametrize("leave", ["close", "reset", "half-close"])
BIG = 64 * 1024 * 1024


def _leave(client: RawClient, how: str) -> None:
    """Go: FIN and all gone, RST, or FIN with the reading side still there (the same to the program)."""
    {"close": client.close, "reset": client.reset, "half-close": client.half_close}[how]()


@LEAVE
@pytest.mark.parametrize("part", [b"G", b"GET / HT", get("solo.test")[:-2]], ids=["a-byte", "request-line", "headers"])
async def test_gone_in_the_head(
    part: bytes, leave: str, proxy: SharedProgram, connect: Connect, origin: Origin
) -> None:
    """A client that leaves in the middle of its head: 499 CR, no attempt."""
    client = await connect()
    await client.send(part)
    await asyncio.sleep(0.02)  # the program may have read it; nothing tells when
    _leave(client, leave)
    (line,) = await proxy.log.await_lines(1, client.source)
    assert (line.status, line.end, line.tries, line.bytes) == (499, "CR", 0, 0)
    assert origin.connections == []


@LEAVE
async def test_gone_without_a_word(leave: str, proxy: SharedProgram, connect: Connect) -> None:
    """A connection on which nothing was ever sent leaves no line: there was no exchange."""
    client = await connect()
    _leave(client, leave)
    after = await connect()
    await after.ask(get("nowhere.test"))
    await proxy.log.await_lines(1, after.source)
    assert proxy.log.lines(client.source) == []


@LEAVE
async def test_gone_in_the_body(leave: str, proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """A client that leaves in the middle of its upload: 499 CR, and the backend sees its connection end."""
    origin.play(hang)
    client = await connect()
    await client.send(post("solo.test", b"x" * 1000)[:-1])
    await origin.request()
    _leave(client, leave)
    (line,) = await proxy.log.await_lines(1, client.source)
    assert (line.status, line.end, line.ua, line.us) == (499, "CR", ["a"], ["-"])
    await origin.connections[0].ended()


@pytest.mark.parametrize("leave", ["close", "reset"])
async def test_gone_in_a_chunked_body(leave: str, proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """The same in chunks: the backend never sees a last chunk."""
    origin.play(hang)
    client = await connect()
    await client.send(get("solo.test", "/", "Transfer-Encoding: chunked", method="POST") + b"5\r\nhello\r\n")
    await origin.request()
    _leave(client, leave)
    (line,) = await proxy.log.await_lines(1, client.source)
    assert (line.status, line.end) == (499, "CR")
    await origin.connections[0].ended()
    assert b"\r\n0\r\n" not in origin.connections[0].received


@LEAVE
async def test_gone_while_connecting(leave: str, proxy: SharedProgram, connect: Connect) -> None:
    """A client that leaves while its backend is being connected: 499 CC."""
    client = await connect()
    await client.send(get("hole.test"))
    await proxy.await_metric("pyproxy_backend_active", 1, pool="hole")
    _leave(client, leave)
    (line,) = await proxy.log.await_lines(1, client.source)
    assert (line.status, line.end, line.ua, line.us) == (499, "CC", ["hole"], ["-"])


@LEAVE
async def test_gone_while_waiting_for_the_head(
    leave: str, proxy: SharedProgram, connect: Connect, origin: Origin
) -> None:
    """A client that leaves before the answer: 499 CH, and the backend's connection is closed, not kept."""
    origin.play(hang)
    client = await connect()
    await client.send(get("solo.test"))
    await origin.request()
    _leave(client, leave)
    (line,) = await proxy.log.await_lines(1, client.source)
    assert (line.status, line.end, line.ua, line.us, line.bytes) == (499, "CH", ["a"], ["-"], 0)
    await origin.connections[0].ended()


@LEAVE
async def test_gone_in_the_response(leave: str, proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """A client that leaves in the middle of the answer: CD with the status it was sent."""
    origin.play(_endless)
    client = await connect()
    await client.send(get("solo.test"))
    await client.read_until(b"\r\n\r\n")
    await client.read(1000)
    _leave(client, leave)
    (line,) = await proxy.log.await_lines(1, client.source)
    assert (line.status, line.end, line.us) == (200, "CD", ["200"])
    assert line.bytes >= 1000


async def _endless(connection: OriginConnection) -> None:
    """Send a body until nobody takes it any more."""
    await connection.request()
    await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n")
    while True:
        await connection.send(b"x" * 65536)


@pytest.mark.parametrize("leave", ["close", "reset"])
async def test_gone_with_requests_waiting(leave: str, proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """
    With pipelined requests waiting, the program notices at the latest when it answers.

    Nothing is left open.
    """
    origin.play(hang)
    client = await connect()
    await client.send(get("hasty.test", "/1") + get("hasty.test", "/2") + get("hasty.test", "/3"))
    await origin.request()
    _leave(client, leave)
    line = await proxy.log.await_line(client.source)
    assert line.request == "GET /1 HTTP/1.1"
    assert (line.status, line.end) in {(499, "CH"), (504, "sH")}
    await origin.connections[0].ended()
    await proxy.settled()
    assert {line.status for line in proxy.log.lines(client.source)} <= {499, 504}


async def test_gone_after_connection_close(proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """A client that reads its answer and leaves has had all of it: no error."""
    client = await connect()
    assert (await client.ask(get("solo.test"))).status == 200
    client.reset()
    (line,) = await proxy.log.await_lines(1, client.source)
    assert (line.status, line.end) == (200, "--")
    assert len(origin.requests) == 1


@pytest.mark.parametrize("part", [b"G", b"GET / HTTP/1.1\r\n", get("solo.test")[:-2]], ids=["byte", "line", "headers"])
async def test_slow_head(part: bytes, hasty: SharedProgram, connect_hasty: Connect) -> None:
    """A head that isn't whole in client.header_timeout: 408 cR, and the connection closes."""
    client = await connect_hasty()
    await client.send(part)
    check_refusal(await client.read_response(), 408)
    await client.expect_eof()
    (line,) = await hasty.log.await_lines(1, client.source)
    assert (line.status, line.end, line.tries) == (408, "cR", 0)


async def test_slow_head_that_drips(hasty: SharedProgram, connect_hasty: Connect) -> None:
    """A header a little at a time doesn't prolong it."""
    client = await connect_hasty()
    await client.send(get("solo.test")[:-2])
    sender = asyncio.create_task(client.drip(b"X: y\r\n" * 200, pause=0.02))
    check_refusal(await client.read_response(), 408)
    sender.cancel()
    await asyncio.gather(sender, return_exceptions=True)
    (line,) = await hasty.log.await_lines(1, client.source)
    assert (line.status, line.end) == (408, "cR")


async def test_slow_second_head(hasty: SharedProgram, connect_hasty: Connect, hasty_origin: Origin) -> None:
    """The next head of a keep-alive connection has the same time, from its first byte."""
    client = await connect_hasty()
    assert (await client.ask(get("solo.test"))).status == 200
    await client.send(b"GET / HTTP/1.1\r\n")
    check_refusal(await client.read_response(), 408)
    await client.expect_eof()
    _, line = await hasty.log.await_lines(2, client.source)
    assert (line.status, line.end) == (408, "cR")
    assert len(hasty_origin.requests) == 1


async def test_slow_body(hasty: SharedProgram, connect_hasty: Connect, hasty_origin: Origin) -> None:
    """A body that stops coming for client.body_timeout: 408 cD, and the backend's attempt is cut."""
    hasty_origin.play(hang)
    client = await connect_hasty()
    await client.send(post("solo.test", b"x" * 10)[:-1])
    check_refusal(await client.read_response(), 408)
    await client.expect_eof()
    (line,) = await hasty.log.await_lines(1, client.source)
    assert (line.status, line.end, line.ua) == (408, "cD", ["a"])
    await hasty_origin.connections[0].ended()


async def test_steady_body_may_take_longer(connect_hasty: Connect, hasty_origin: Origin) -> None:
    """The body's timeout is between two reads."""
    client = await connect_hasty()
    raw = post("solo.test", b"0123456789")
    await client.send(raw[:-10])
    await client.drip(raw[-10:], pause=0.06)
    assert (await client.read_response()).status == 200
    assert hasty_origin.requests[0].body == b"0123456789"


async def test_slow_reader(hasty: SharedProgram, connect_hasty: Connect, hasty_origin: Origin) -> None:
    """A client that stops reading for client.write_timeout is cut off: cD, and the backend is let go."""
    hasty_origin.play(reply(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BIG + b"x" * BIG))
    client = await connect_hasty(receive_buffer=4096)
    await client.send(get("solo.test"))
    (line,) = await hasty.log.await_lines(1, client.source)
    assert (line.status, line.end) == (200, "cD")
    assert line.bytes < BIG
    with pytest.raises(Truncated):
        await client.read_response()


async def test_reader_that_goes_on_in_time(connect_hasty: Connect, hasty_origin: Origin) -> None:
    """A reader that takes longer in all, but never stops for so long, is served to the end."""
    size = 16 * 1024 * 1024
    hasty_origin.play(serve(body=b"x" * size))
    client = await connect_hasty()
    await client.send(get("solo.test"))
    while len(client.received) < size:
        await client.fill(1024 * 1024)
        await asyncio.sleep(0.03)
    assert len((await client.read_response()).body) == size
