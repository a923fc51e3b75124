"""Bodies that lie about where they end: each is refused or cut before anybody could take its rest for a message."""

import pytest

from tests.integration.client import chunked, get
from tests.integration.conftest import Connect
from tests.integration.origin import Origin, OriginConnection, hang, serve
from tests.integration.shared import SharedProgram
from tests.integration.test_refusals import check_refusal
from tests.integration.wire import Truncated

BAD_CHUNKS = {
    "size-with-prefix": b"0x5\r\nhello\r\n0\r\n\r\n",
    "size-with-plus": b"+5\r\nhello\r\n0\r\n\r\n",
    "size-negative": b"-5\r\nhello\r\n0\r\n\r\n",
    "size-empty": b"\r\nhello\r\n0\r\n\r\n",
    "size-with-space-before": b" 5\r\nhello\r\n0\r\n\r\n",
    "size-overflow": b"FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n",
    "size-not-hex": b"5g\r\nhello\r\n0\r\n\r\n",
    "size-with-underscore": b"1_0\r\nhello world 1234\r\n0\r\n\r\n",
    "bare-lf-after-size": b"5\nhello\r\n0\r\n\r\n",
    "bare-lf-after-data": b"5\r\nhello\n0\r\n\r\n",
    "bare-lf-in-extension": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    "bare-cr-after-size": b"5\rhello\r\n0\r\n\r\n",
    "nothing-after-data": b"5\r\nhello0\r\n\r\n",
    "more-than-size": b"5\r\nhello world\r\n0\r\n\r\n",
    "nul-in-extension": b"5;a=\x00\r\nhello\r\n0\r\n\r\n",
    "space-before-colon-in-trailer": b"5\r\nhello\r\n0\r\nX : y\r\n\r\n",
    "bare-lf-in-trailer": b"5\r\nhello\r\n0\r\nX: y\n\r\n",
    "endless-extension": b"5;a=" + b"x" * 400_000 + b"\r\nhello\r\n0\r\n\r\n",
    "endless-trailer": b"5\r\nhello\r\n0\r\nX: " + b"y" * 400_000 + b"\r\n\r\n",
    "endless-trailers": b"5\r\nhello\r\n0\r\n" + b"X: y\r\n" * 80_000 + b"\r\n",
}

BAD = pytest.mark.parametrize("body", BAD_CHUNKS.values(), ids=BAD_CHUNKS)


@BAD
async def test_bad_chunks_of_a_request(body: bytes, proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """A request's bad chunk is 400 and the end of the connection; the backend doesn't see a whole body."""
    origin.play(hang)
    client = await connect()
    head = get("once.test", "/", "Transfer-Encoding: chunked", method="POST")
    await client.send(head + body + get("once.test", "/smuggled"))
    check_refusal(await client.read_response(), 400)
    await client.expect_eof()
    (line,) = await proxy.log.await_lines(1, client.source)
    assert (line.status, line.end) == (400, "PR")
    assert b"/smuggled" not in origin.received
    assert not origin.received.endswith(b"0\r\n\r\n")


@BAD
async def test_bad_chunks_of_a_response(body: bytes, proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """A response's bad chunk cuts the answer visibly, or is 502 when the head hasn't gone out; its connection ends."""

    async def script(connection: OriginConnection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await connection.send(body + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL")
        await connection.read_rest()

    origin.play(script, serve())
    client = await connect()
    await client.send(get("once.test"))
    with pytest.raises(Truncated):
        await client.read_response()
    assert b"EVIL" not in client.received
    (line,) = await proxy.log.await_lines(1, client.source)
    assert (line.status, line.end) == (200, "SD")
    await origin.connections[0].ended()
    assert (await (await connect()).ask(get("once.test", "/next"))).body == b"/next"


GOOD_CHUNKS = {
    "upper-case": b"A\r\n0123456789\r\n0\r\n\r\n",
    "leading-zeros": b"00000a\r\n0123456789\r\n000\r\n\r\n",
    "extension": b'a;x=y;z="q;r"\r\n0123456789\r\n0;last\r\n\r\n',
    "single-bytes": chunked(*[b"%d" % digit for digit in range(10)]),
}


@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "byte-by-byte"])
@pytest.mark.parametrize("body", GOOD_CHUNKS.values(), ids=GOOD_CHUNKS)
async def test_good_chunks(body: bytes, bytewise: bool, connect: Connect, origin: Origin) -> None:
    """Odd but lawful chunks arrive as what they mean."""
    client = await connect()
    raw = get("solo.test", "/1", "Transfer-Encoding: Chunked", method="POST") + body
    await (client.drip(raw) if bytewise else client.send(raw))
    assert (await client.read_response()).body == b"/1"
    assert (await client.ask(get("solo.test", "/2"))).body == b"/2"
    assert origin.requests[0].body == b"0123456789"


CODINGS = {
    "unknown": "xchunked",
    "vertical-tab": "\x0bchunked",
    "parameter": "chunked;q=1",
    "list-with-identity": "identity, chunked",
    "chunked-not-last": "chunked, gzip",
    "comma": ",chunked",
    "quoted": '"chunked"',
    "space-inside": "chun ked",
}


@pytest.mark.parametrize("coding", CODINGS.values(), ids=CODINGS)
async def test_codings_that_only_look_like_chunked(
    coding: str, proxy: SharedProgram, connect: Connect, origin: Origin
) -> None:
    """A Transfer-Encoding that two readers could read differently is refused, and nothing behind it is read."""
    client = await connect()
    head = get("solo.test", "/", f"Transfer-Encoding: {coding}", method="POST")
    await client.send(head + chunked(b"hello") + get("solo.test", "/smuggled"))
    answer = await client.read_response()
    assert answer.status in {400, 501}
    check_refusal(answer, answer.status)
    await client.expect_eof()
    (line,) = await proxy.log.await_lines(1, client.source)
    assert (line.status, line.end) == (answer.status, "PR")
    assert origin.received == b""


async def test_obsolete_length_forms(connect: Connect, origin: Origin) -> None:
    """Leading zeros and blanks around a length are lawful; the backend is told the plain number."""
    client = await connect()
    raw = b"POST / HTTP/1.1\r\nHost: solo.test\r\nContent-Length:   0005 \r\n\r\nhello"
    assert (await client.ask(raw)).status == 200
    assert (origin.requests[0].get("content-length"), origin.requests[0].body) == (b"5", b"hello")
