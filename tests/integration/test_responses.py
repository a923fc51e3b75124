"""What a client receives of a response: framings, HTTP/1.0, 1xx, HEAD, trailers, headers."""

import asyncio
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import pytest

from tests.integration.client import chunked, get, post
from tests.integration.conftest import Connect
from tests.integration.origin import OK, Origin, OriginConnection, Script, drip, early, reply, serve
from tests.integration.shared import SharedProgram
from tests.integration.wire import End, Truncated

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@dataclass(frozen=True)
class Answer:
    """A backend's answer with a body of ``hello``; ``closes``: its end is the end of the connection."""

    name: str
    raw: bytes
    closes: bool = False

    def __str__(self) -> str:
        return self.name


ANSWERS = [
    Answer("length", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
    Answer("length-and-close", b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello", True),
    Answer("chunked", CHUNKED + chunked(b"hel", b"lo")),
    Answer("chunked-and-close", CHUNKED[:-2] + b"Connection: close\r\n\r\n" + chunked(b"hello"), True),
    Answer("chunked-extensions", CHUNKED + b'5;a="b"\r\nhello\r\n0;last\r\n\r\n'),
    Answer("until-close", b"HTTP/1.1 200 OK\r\n\r\nhello", True),
    Answer("1.0-until-close", b"HTTP/1.0 200 OK\r\n\r\nhello", True),
    Answer("1.0-length", b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", True),
    Answer("1.0-keep-alive", b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello"),
    Answer("no-reason", b"HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\nhello"),
]


@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "byte-by-byte"])
@pytest.mark.parametrize("answer", ANSWERS, ids=str)
async def test_each_framing_to_1_1(
    answer: Answer, bytewise: bool, proxy: SharedProgram, connect: Connect, origin: Origin
) -> None:
    """Whatever the backend's framing, an HTTP/1.1 client gets the whole body and keeps its connection."""
    origin.play(_once(answer, bytewise=bytewise), serve())
    client = await connect()
    got = await client.ask(get("solo.test"))
    assert (got.status, got.body, got.start[0]) == (200, b"hello", b"HTTP/1.1")
    assert (got.get("content-length") is None) != (got.get("transfer-encoding") is None), "one framing, not two"
    assert got.get("connection") is None
    assert (await client.ask(get("solo.test", "/next"))).body == b"/next"
    first, _ = await proxy.log.await_lines(2, client.source)
    assert (first.status, first.bytes, first.end, first.us, first.tries) == (200, 5, "--", ["200"], 1)
    assert len(origin.connections) == (2 if answer.closes else 1)


@pytest.mark.parametrize("answer", ANSWERS, ids=str)
async def test_each_framing_to_1_0(answer: Answer, proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """An HTTP/1.0 client never sees chunks: it gets a length or the end of the connection."""
    origin.play(_once(answer))
    client = await connect()
    got = await client.ask(get("solo.test", version="1.0"))
    assert (got.status, got.body) == (200, b"hello")
    assert got.get("transfer-encoding") is None
    await client.expect_eof()
    (line,) = await proxy.log.await_lines(1, client.source)
    assert (line.status, line.bytes, line.end) == (200, 5, "--")


@pytest.mark.parametrize("answer", ANSWERS, ids=str)
async def test_each_framing_to_1_0_keep_alive(answer: Answer, connect: Connect, origin: Origin) -> None:
    """An HTTP/1.0 client that asked for it keeps its connection, if the length is known."""
    origin.play(_once(answer), serve())
    client = await connect()
    got = await client.ask(get("solo.test", "/", "Connection: keep-alive", version="1.0"))
    assert (got.status, got.body) == (200, b"hello")
    assert got.get("transfer-encoding") is None
    if got.get("content-length") is None:
        await client.expect_eof()
    else:
        assert (got.get("connection") or b"").lower() == b"keep-alive"
        again = await client.ask(get("solo.test", "/next", "Connection: keep-alive", version="1.0"))
        assert again.body == b"/next"


def _once(answer: Answer, *, bytewise: bool = False) -> Script:
    async def script(connection: OriginConnection) -> None:
        await connection.request()
        if bytewise:
            await connection.drip(answer.raw)
        else:
            await connection.send(answer.raw)
        if answer.closes:
            connection.half_close()
            await connection.read_rest()
        else:
            await serve()(connection)

    return script


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
    ],
    ids=["length", "chunked", "no-length", "304"],
)
async def test_head_has_no_body(raw: bytes, proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """A HEAD ends with its head, and what follows on either connection is its own answer."""
    origin.play(reply(raw), serve())
    client = await connect()
    await client.send(get("solo.test", method="HEAD") + get("solo.test", "/next"))
    head = await client.read_response(bodiless=True)
    following = await client.read_response()
    assert (head.status, head.body) == (int(raw[9:12]), b"")
    assert (following.status, following.body) == (200, b"/next")
    if b"Content-Length" in raw:
        assert head.get("content-length") == b"5"
    first, second = await proxy.log.await_lines(2, client.source)
    assert (first.bytes, first.end, second.bytes, second.end) == (0, "--", 5, "--")


async def test_fact_1_head_with_content_length_swallows_nothing(connect: Connect, origin: Origin) -> None:
    """After a HEAD's ``Content-Length: 5`` the same upstream connection's next answer is whole."""
    origin.play(reply(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"))
    client = await connect()
    await client.ask(get("solo.test", method="HEAD"))
    assert (await client.ask(get("solo.test", "/next"))).body == b"/next"
    assert (await client.ask(get("solo.test", "/after"))).body == b"/after"
    assert len(origin.connections) == 1, "the connection was good for another request"


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
    ids=["204", "204-length", "304", "304-length", "304-chunked"],
)
async def test_bodiless_statuses(raw: bytes, proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """204 and 304 end with their heads whatever these say; the next answer is whole."""
    origin.play(reply(raw), serve())
    client = await connect()
    first = await client.ask(get("solo.test"))
    assert first.status == int(raw[9:12])
    assert first.get("transfer-encoding") is None
    assert (await client.ask(get("solo.test", "/next"))).body == b"/next"
    line, _ = await proxy.log.await_lines(2, client.source)
    assert (line.bytes, line.end) == (0, "--")


async def test_interim_responses_pass(proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """103 and 102 reach the client before the final answer and don't complete the exchange."""
    early_hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"
    origin.play(reply(early_hints + b"HTTP/1.1 102 Processing\r\n\r\n" + OK))
    client = await connect()
    await client.send(get("solo.test"))
    first, second, third = await client.responses(3)
    assert (first.status, first.get("link")) == (103, b"</a.css>; rel=preload")
    assert (second.status, third.status, third.body) == (102, 200, b"ok")
    assert (await client.ask(get("solo.test", "/next"))).body == b"/next"
    line, _ = await proxy.log.await_lines(2, client.source)
    assert (line.status, line.us, line.bytes) == (200, ["200"], 2)


async def test_interim_response_that_says_close(connect: Connect, origin: Origin) -> None:
    """After a 103 that closes the connection no answer can follow: the client gets a 502, not a wait."""
    origin.play(reply(b"HTTP/1.1 103 Early Hints\r\nConnection: close\r\n\r\n" + OK))
    client = await connect()
    await client.send(get("once.test"))
    first, second = await client.responses(2)
    assert (first.status, first.get("connection"), second.status) == (103, None, 502)


async def test_interim_responses_are_not_for_1_0(connect: Connect, origin: Origin) -> None:
    """An HTTP/1.0 client doesn't know 1xx and isn't sent any."""
    origin.play(reply(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK))
    assert (await (await connect()).ask(get("solo.test", version="1.0"))).status == 200


async def test_expect_is_forwarded_and_continue_comes_back(
    proxy: SharedProgram, connect: Connect, origin: Origin
) -> None:
    """Expect goes up, the backend's 100 comes down, then the body goes up and the answer down."""

    async def script(connection: OriginConnection) -> None:
        head = await connection.request_head()
        assert head.get("expect") == b"100-continue"
        await connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert await connection.read(5) == b"hello"
        await connection.send(OK)
        await serve()(connection)

    origin.play(script)
    client = await connect()
    raw = post("solo.test", b"hello", "Expect: 100-continue")
    await client.send(raw[:-5])
    assert (await client.read_response()).status == 100
    await client.send(raw[-5:])
    assert (await client.read_response()).body == b"ok"
    assert (await client.ask(get("solo.test", "/next"))).body == b"/next"
    line, _ = await proxy.log.await_lines(2, client.source)
    assert (line.status, line.end) == (200, "--")


async def test_expect_refused_by_the_backend(proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """A final answer instead of 100 reaches a client that hasn't sent its body."""
    origin.play(early(b"HTTP/1.1 417 No\r\nContent-Length: 2\r\n\r\nno", reads_on=False), serve())
    client = await connect()
    await client.send(post("solo.test", b"hello", "Expect: 100-continue")[:-5])
    answer = await client.read_response()
    assert (answer.status, answer.body) == (417, b"no")
    (line,) = await proxy.log.await_lines(1, client.source)
    assert (line.status, line.end) == (417, "--")


@pytest.mark.parametrize("reads_on", [True, False], ids=["reads-on", "stops-reading"])
async def test_early_response_while_the_body_uploads(
    reads_on: bool, proxy: SharedProgram, connect: Connect, origin: Origin
) -> None:
    """An answer that comes before the body is whole reaches a client that still sends."""
    origin.play(early(b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno", reads_on=reads_on), serve())
    client = await connect()
    total = 1024 * 1024
    await client.send(get("solo.test", "/", f"Content-Length: {total}", method="POST") + b"x" * 1000)
    answer = await client.read_response()
    assert (answer.status, answer.body) == (403, b"no")
    try:
        await client.send(b"x" * (total - 1000))
        await client.send(get("solo.test", "/next"))
        rest = await client.read_rest() if answer.get("connection") == b"close" else b""
    except ConnectionError:
        rest = b""
    assert rest == b""
    if answer.get("connection") != b"close":
        assert (await client.read_response()).body == b"/next"
    line = await proxy.log.await_line(client.source)
    assert (line.status, line.end, line.us) == (403, "--", ["403"])


@pytest.mark.parametrize(
    ("raw", "connections"),
    [
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 3),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive, close\r\nContent-Length: 2\r\n\r\nok", 3),
        (b"HTTP/1.1 200 OK\r\nConnection: keep-alive, close\r\nContent-Length: 2\r\n\r\nok", 3),
        (b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nok", 1),
    ],
    ids=["1.0-chunked", "1.0-close-too", "1.1-close-too", "1.0-keep-alive"],
)
async def test_whether_old_and_contradictory_answers_keep_the_connection(
    raw: bytes, connections: int, connect: Connect, origin: Origin
) -> None:
    """Chunked is a faulty framing in HTTP/1.0 (RFC 9112, 6.1), and "close" beside "keep-alive" is the last word."""

    async def script(connection: OriginConnection) -> None:
        while True:
            await connection.request()
            await connection.send(raw)

    origin.play(script)
    client = await connect()
    for _ in range(3):
        assert (await client.ask(get("solo.test"))).body == b"ok"
    assert len(origin.connections) == connections


async def test_date_and_upgrade(connect: Connect, origin: Origin) -> None:
    """An answer without Date gets one, one that has it keeps it; a 426 says what to upgrade to (RFC 9110)."""
    named = b"HTTP/1.1 426 x\r\nDATE: then\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n"
    origin.play(reply(OK, named))
    client = await connect()
    first, second = [await client.ask(get("solo.test")) for _ in range(2)]
    assert parsedate_to_datetime((first.get("date") or b"").decode()) is not None
    assert second.all("date") == [b"then"]
    assert (second.get("upgrade"), second.get("connection")) == (b"websocket", b"upgrade")


async def test_a_reason_phrase_has_no_control_characters(connect: Connect, origin: Origin) -> None:
    """Whatever a backend puts there; the phrase itself is nobody's business."""
    origin.play(reply(b"HTTP/1.1 298 a\x00b\x1b[2Jc\xe9\r\nContent-Length: 0\r\n\r\n"))
    client = await connect()
    assert (await client.ask(get("solo.test"))).raw.startswith(b"HTTP/1.1 298 ab[2Jc\xe9\r\n")


async def test_early_response_and_close(proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """A backend that answers early, says close and closes: its answer is delivered whole."""

    async def script(connection: OriginConnection) -> None:
        await connection.request_head()
        await connection.send(b"HTTP/1.1 413 Big\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig")
        connection.close()

    origin.play(script)
    client = await connect()
    await client.send(get("solo.test", "/", "Content-Length: 500000", method="POST") + b"x" * 1000)
    answer = await client.read_response()
    assert (answer.status, answer.body) == (413, b"big")
    (line,) = await proxy.log.await_lines(1, client.source)
    assert (line.status, line.end) == (413, "--")


TRAILING = CHUNKED[:-2] + b"Trailer: X-Sum\r\n\r\n" + chunked(b"hello", trailers=b"X-Sum: 1\r\n")


async def test_trailers_with_te(connect: Connect, origin: Origin) -> None:
    """Response trailers reach a client that said ``TE: trailers``."""
    origin.play(reply(TRAILING))
    client = await connect()
    answer = await client.ask(get("solo.test", "/", "TE: trailers", "Connection: TE"))
    assert (answer.body, answer.trailers) == (b"hello", ((b"x-sum", b"1"),))
    assert (await client.ask(get("solo.test", "/next"))).body == b"/next"


async def test_trailers_without_te(connect: Connect, origin: Origin) -> None:
    """Without it they are dropped, and they never become headers of anything."""
    origin.play(reply(TRAILING))
    client = await connect()
    answer = await client.ask(get("solo.test"))
    assert (answer.body, answer.trailers) == (b"hello", ())
    assert b"X-Sum: 1" not in answer.raw
    following = await client.ask(get("solo.test", "/next"))
    assert following.body == b"/next"
    assert b"X-Sum" not in following.raw


@pytest.mark.parametrize(
    "trailer", [b"Content-Length: 500", b"Transfer-Encoding: gzip", b"Connection: close", b"Host: x"]
)
async def test_trailers_cannot_carry_framing(trailer: bytes, connect: Connect, origin: Origin) -> None:
    """A trailer named like a framing field is dropped, or the answer refused: never obeyed."""
    origin.play(reply(CHUNKED + chunked(b"hello", trailers=trailer + b"\r\n"), then="serve"), serve())
    client = await connect()
    try:
        answer = await client.ask(get("solo.test", "/", "TE: trailers", "Connection: TE"))
    except Truncated:
        client = await connect()
    else:
        assert (answer.body, answer.trailers) in {(b"hello", ()), (b"hello", ((b"host", b"x"),))}
    assert (await client.ask(get("solo.test", "/next"))).body == b"/next"


async def test_response_headers_pass_unchanged(connect: Connect, origin: Origin) -> None:
    """End-to-end headers keep order, spelling, repetition and bytes; nothing is added."""
    lines = b"Server: x\r\nDate: D\r\nset-cookie: a=1\r\nX-B: \xfc\r\nSet-Cookie: b=2\r\nX_y: 1\r\n"
    origin.play(reply(b"HTTP/1.1 299 My Reason\r\n" + lines + b"Content-Length: 2\r\n\r\nok"))
    answer = await (await connect()).ask(get("solo.test"))
    assert answer.raw.startswith(b"HTTP/1.1 299 My Reason\r\n")
    assert lines in answer.raw
    assert answer.names() == {b"server", b"date", b"set-cookie", b"x-b", b"x_y", b"content-length"}


@pytest.mark.parametrize(
    "header",
    [
        b"Keep-Alive: timeout=666",
        b"Connection: X-Secret\r\nX-Secret: 666",
        b"Connection: keep-alive, 666",
        b"Proxy-Connection: 666",
        b"Upgrade: 666",
        b"Proxy-Authenticate: 666",
    ],
)
async def test_hop_by_hop_response_headers_end_here(header: bytes, connect: Connect, origin: Origin) -> None:
    """The backend's connection is not the client's."""
    origin.play(reply(b"HTTP/1.1 200 OK\r\n" + header + b"\r\nContent-Length: 2\r\n\r\nok"))
    answer = await (await connect()).ask(get("solo.test"))
    assert b"666" not in answer.raw


async def test_connection_of_a_response_cannot_take_framing(connect: Connect, origin: Origin) -> None:
    """A backend naming Content-Length in Connection doesn't lose its body's end."""
    origin.play(reply(b"HTTP/1.1 200 OK\r\nConnection: Content-Length\r\nContent-Length: 2\r\n\r\nok"))
    client = await connect()
    assert (await client.ask(get("solo.test"))).body == b"ok"
    assert (await client.ask(get("solo.test", "/next"))).body == b"/next"


async def test_response_streams_before_it_is_whole(connect: Connect, origin: Origin) -> None:
    """The first bytes of a body reach the client while the backend holds the rest back."""
    go_on = asyncio.Event()

    async def script(connection: OriginConnection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nfirst")
        await go_on.wait()
        await connection.send(b"second")
        await connection.read_rest()

    origin.play(script)
    client = await connect()
    await client.send(get("solo.test"))
    await client.read_until(b"first")
    go_on.set()
    assert await client.read(6) == b"second"


async def test_large_body_arrives_in_order(proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """Eight megabytes of numbered blocks come through whole, in either framing."""
    body = b"".join(b"%08d" % number for number in range(1024 * 1024))
    half = len(body) // 2
    origin.play(
        reply(
            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body,
            CHUNKED + chunked(body[:half], body[half:]),
        )
    )
    client = await connect()
    for _ in range(2):
        assert (await client.ask(get("solo.test"))).body == body
    assert [line.bytes for line in await proxy.log.await_lines(2, client.source)] == [len(body)] * 2


@pytest.mark.parametrize("size", [1, 7])
async def test_response_in_small_pieces(size: int, connect: Connect, origin: Origin) -> None:
    """However a backend cuts its answers into segments, they are the same answers."""
    origin.play(drip(CHUNKED + chunked(b"hello", b"world"), size))
    client = await connect()
    for _ in range(2):
        assert (await client.ask(get("solo.test"))).body == b"helloworld"
    assert client.end is End.OPEN
