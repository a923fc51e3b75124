"""Backends that break the rules: cut, stalled and garbled answers, and bytes that belong to no answer."""

import asyncio
from dataclasses import dataclass

import pytest

from tests.integration.client import chunked, get
from tests.integration.conftest import Connect
from tests.integration.origin import (
    OK,
    Origin,
    OriginConnection,
    close_at_once,
    hang,
    reply,
    reset_at_once,
    serve,
)
from tests.integration.shared import SharedProgram
from tests.integration.test_refusals import check_refusal
from tests.integration.wire import End, Truncated

EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL"


@dataclass(frozen=True)
class Bad:
    """A head that no client may be given."""

    name: str
    raw: bytes
    end: str = "PH"

    def __str__(self) -> str:
        return self.name


BAD_HEADS = [
    Bad("garbage", b"hello there\r\n\r\n"),
    Bad("binary", b"\x00\x01\x02\x03\r\n\r\n"),
    Bad("ssh", b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    Bad("http-0.9", b"<html>hello</html>\r\n\r\n"),
    Bad("version-2", b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    Bad("status-text", b"HTTP/1.1 OK\r\nContent-Length: 2\r\n\r\nok"),
    Bad("status-0", b"HTTP/1.1 000 No\r\nContent-Length: 2\r\n\r\nok"),
    Bad("status-99", b"HTTP/1.1 99 No\r\nContent-Length: 2\r\n\r\nok"),
    Bad("status-1000", b"HTTP/1.1 1000 No\r\nContent-Length: 2\r\n\r\nok"),
    Bad(
        "length-and-chunked",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    Bad(
        "chunked-and-length",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    ),
    Bad("length-twice", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!"),
    Bad("length-with-plus", b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok"),
    Bad("length-negative", b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok"),
    Bad("length-text", b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nok"),
    Bad("coding-gzip", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok"),
    Bad("coding-gzip-chunked", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    Bad("coding-chunked-twice", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    Bad("space-before-colon", b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok"),
    Bad("obs-fold", b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok"),
    Bad("nul-in-value", b"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 2\r\n\r\nok"),
    Bad("bare-lf", b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok"),
    Bad("bare-cr-in-value", b"HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b\r\nContent-Length: 2\r\n\r\nok"),
    Bad(
        "head-too-large",
        b"HTTP/1.1 200 OK\r\n" + b"X: " + b"x" * 300_000 + b"\r\nContent-Length: 2\r\n\r\nok",
    ),
    Bad("head-without-end", b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000),
    Bad(
        "coding-chunked-in-two-fields",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    Bad("coding-with-a-tab", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\t\r\n\r\n0\r\n\r\n"),
    Bad("length-over-63-bits", b"HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775808\r\n\r\nok"),
    Bad("length-of-many-digits", b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\nok"),
    Bad("length-of-many-zeros", b"HTTP/1.1 200 OK\r\nContent-Length: " + b"0" * 5000 + b"2\r\n\r\nok"),
    Bad("status-999", b"HTTP/1.1 999 Denied\r\nContent-Length: 2\r\n\r\nok"),
    Bad("control-in-value", b"HTTP/1.1 200 OK\r\nX: a\x01b\r\nContent-Length: 2\r\n\r\nok"),
    Bad("bare-lf-in-value", b"HTTP/1.1 200 OK\r\nX: a\nSet-Cookie: b\r\nContent-Length: 2\r\n\r\nok"),
    Bad("unasked-101", b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"),
]


@pytest.mark.parametrize("bad", BAD_HEADS, ids=str)
async def test_bad_head(bad: Bad, proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """An answer whose head can't be trusted is 502; its connection is not used again, the client's is."""
    origin.play(reply(bad.raw, then="hang"), serve())
    client = await connect()
    check_refusal(await client.ask(get("once.test")), 502, stays_open=True)
    assert (await client.ask(get("once.test", "/next"))).body == b"/next"
    line, _ = await proxy.log.await_lines(2, client.source)
    assert (line.status, line.end, line.tries, line.ua) == (502, bad.end, 1, ["a"])
    assert len(origin.connections) == 2
    await origin.connections[0].ended()


@pytest.mark.parametrize(
    "raw",
    [b"", b"H", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"],
    ids=["nothing", "one-byte", "status-line", "no-empty-line"],
)
@pytest.mark.parametrize("then", ["close", "reset"])
async def test_end_before_the_head_is_whole(
    raw: bytes, then: str, proxy: SharedProgram, connect: Connect, origin: Origin
) -> None:
    """A connection that ends before or in the head: 502 SH, nothing of the head shown."""
    origin.play(reply(raw, then=then) if raw else {"close": close_at_once, "reset": reset_at_once}[then])
    client = await connect()
    check_refusal(await client.ask(get("once.test")), 502, stays_open=True)
    (line,) = await proxy.log.await_lines(1, client.source)
    assert (line.status, line.end, line.tries, line.us) == (502, "SH", 1, ["-"])


async def test_end_after_100_is_no_answer(proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """An interim response doesn't count as an answer: 502 SH follows it."""
    origin.play(reply(b"HTTP/1.1 103 Early Hints\r\n\r\n", then="close"))
    client = await connect()
    await client.send(get("once.test"))
    first, second = await client.responses(2)
    assert (first.status, second.status) == (103, 502)
    (line,) = await proxy.log.await_lines(1, client.source)
    assert (line.status, line.end) == (502, "SH")


TRUNCATED = [
    pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", "close", id="length-close"),
    pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", "reset", id="length-reset"),
    pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", "close", id="length-no-body-close"),
    pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "close", id="chunked-close"),
    pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "reset", id="chunked-reset"),
    pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhello", "close", id="in-chunk-close"),
    pytest.param(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        "close",
        id="last-chunk-close",
    ),
    pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nxyz\r\n", "hang", id="bad-chunk"),
    pytest.param(b"HTTP/1.1 200 OK\r\n\r\nhello", "reset", id="until-close-reset"),
]


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize(("raw", "then"), TRUNCATED)
async def test_truncated_never_looks_whole(
    raw: bytes, then: str, version: str, proxy: SharedProgram, connect: Connect, origin: Origin
) -> None:
    """A body cut short is cut short for the client in a way that it can see: no last chunk, no clean end."""
    origin.play(reply(raw, then=then))
    client = await connect()
    await client.send(get("once.test", version=version))
    with pytest.raises(Truncated) as caught:
        await client.read_response()
    if version == "1.0" and b"Content-Length" not in raw:
        assert caught.value.end is End.RESET, "a client that reads until the end can only see a reset"
    (line,) = await proxy.log.await_lines(1, client.source)
    assert (line.status, line.end, line.us, line.tries) == (200, "SD", ["200"], 1)


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nhello",
    ],
    ids=["length", "chunked", "until-close"],
)
@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_stalled_body(raw: bytes, version: str, proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """A body that stops coming for timeouts.idle is given up: sD, and visibly cut."""
    origin.play(reply(raw, then="hang"))
    client = await connect()
    await client.send(get("hasty.test", version=version))
    with pytest.raises(Truncated):
        await client.read_response()
    (line,) = await proxy.log.await_lines(1, client.source)
    assert (line.status, line.end, line.bytes) == (200, "sD", 5)
    await origin.connections[0].ended()


async def test_slow_but_steady_body_is_not_stalled(connect: Connect, origin: Origin) -> None:
    """The idle timeout is between two reads: a body that takes longer in all is delivered."""

    async def script(connection: OriginConnection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
        await connection.drip(b"0123456789", pause=0.06)
        await connection.read_rest()

    origin.play(script)
    assert (await (await connect()).ask(get("hasty.test"))).body == b"0123456789"


async def test_response_timeout(proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """A backend that doesn't answer in timeouts.response: 504 sH, its connection closed."""
    origin.play(hang, serve())
    client = await connect()
    check_refusal(await client.ask(get("hasty.test")), 504, stays_open=True)
    assert (await client.ask(get("hasty.test", "/next"))).body == b"/next"
    line, _ = await proxy.log.await_lines(2, client.source)
    assert (line.status, line.end, line.tries, line.us) == (504, "sH", 1, ["-"])
    await origin.connections[0].ended()


async def test_head_that_drips_too_slowly(proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """A head that never gets whole is a response timeout, however busily it drips."""

    async def script(connection: OriginConnection) -> None:
        await connection.request()
        await connection.drip(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000, pause=0.02)

    origin.play(script)
    client = await connect()
    check_refusal(await client.ask(get("hasty.test")), 504, stays_open=True)
    (line,) = await proxy.log.await_lines(1, client.source)
    assert (line.status, line.end) == (504, "sH")


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(OK + EVIL, id="two-answers"),
        pytest.param(OK + b"EVIL", id="too-much"),
        pytest.param(b"HTTP/1.1 204 No\r\n\r\n" + EVIL, id="204-and-more"),
        pytest.param(b"HTTP/1.1 204 No\r\nContent-Length: 4\r\n\r\nEVIL", id="204-with-body"),
        pytest.param(b"HTTP/1.1 304 No\r\nContent-Length: 4\r\n\r\nEVIL", id="304-with-body"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"ok") + EVIL,
            id="chunked-and-more",
        ),
        pytest.param(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + EVIL, id="close-and-more"),
    ],
)
async def test_second_answer_reaches_nobody(raw: bytes, proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """What a backend sends beyond its answer reaches no client, neither this one nor the next."""
    origin.play(reply(raw, then="hang"), serve())
    client, neighbour = await connect(), await connect()
    assert (await client.ask(get("solo.test"))).status == int(raw[9:12])
    assert (await neighbour.ask(get("solo.test", "/mine"))).body == b"/mine"
    assert (await client.ask(get("solo.test", "/next"))).body == b"/next"
    await origin.connections[0].ended()
    for each in (client, neighbour):
        assert b"EVIL" not in each.received
        assert each.unread() == b""
    assert [line.end for line in await proxy.log.await_lines(2, client.source)] == ["--", "--"]


async def test_head_with_a_body_poisons_nothing(connect: Connect, origin: Origin) -> None:
    """A body that a backend wrongly sends to a HEAD is thrown away with its connection."""
    origin.play(reply(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(EVIL) + EVIL, then="hang"), serve())
    client = await connect()
    await client.send(get("solo.test", method="HEAD") + get("solo.test", "/next"))
    assert (await client.read_response(bodiless=True)).status == 200
    assert (await client.read_response()).body == b"/next"
    assert b"EVIL" not in client.received
    assert len(origin.connections) == 2


async def test_unsolicited_bytes_on_an_idle_connection(connect: Connect, origin: Origin) -> None:
    """An answer that nobody asked for kills its connection: the next request doesn't get it."""
    go = asyncio.Event()

    async def script(connection: OriginConnection) -> None:
        await connection.request()
        await connection.send(OK)
        await go.wait()
        await connection.send(EVIL)
        await connection.read_rest()

    origin.play(script, serve())
    client = await connect()
    assert (await client.ask(get("solo.test"))).body == b"ok"
    go.set()
    await origin.connections[0].ended()
    assert (await client.ask(get("solo.test", "/next"))).body == b"/next"
    assert len(origin.connections) == 2


async def test_408_on_an_idle_connection(connect: Connect, origin: Origin) -> None:
    """The 408 that some servers send before closing an idle connection is nobody's answer."""
    go = asyncio.Event()

    async def script(connection: OriginConnection) -> None:
        await connection.request()
        await connection.send(OK)
        await go.wait()
        await connection.send(b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n")
        connection.half_close()
        await connection.read_rest()

    origin.play(script, serve())
    client = await connect()
    assert (await client.ask(get("solo.test"))).body == b"ok"
    go.set()
    await origin.connections[0].ended()
    assert (await client.ask(get("solo.test", "/next"))).body == b"/next"


async def test_answer_before_the_request(connect: Connect, origin: Origin) -> None:
    """A backend that speaks first disturbs its own exchange at most, not the next one."""

    async def script(connection: OriginConnection) -> None:
        await connection.send(EVIL)
        connection.half_close()
        await connection.read_rest()

    origin.play(script, serve())
    client = await connect()
    answer = await client.ask(get("once.test"))
    # The greeting may have come in while the request was being written: then it can't be told from an answer.
    assert answer.status in {200, 502}
    assert (await client.ask(get("once.test", "/next"))).body == b"/next"


async def test_many_interim_responses_are_bounded(proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """A backend that sends 1xx without end doesn't hold the exchange beyond timeouts.response."""

    async def script(connection: OriginConnection) -> None:
        await connection.request()
        while True:
            await connection.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
            await asyncio.sleep(0.02)

    origin.play(script)
    client = await connect()
    await client.send(get("hasty.test"))
    while (answer := await client.read_response()).status == 103:
        pass
    assert answer.status in {502, 504}
    (line,) = await proxy.log.await_lines(1, client.source)
    assert (line.status, line.end) in {(504, "sH"), (502, "PH")}
