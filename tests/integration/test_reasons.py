"""Why an exchange went wrong, as an operator finds it in the access log."""

import pytest

from tests.integration.client import get, post
from tests.integration.conftest import Connect
from tests.integration.origin import Origin, reply, serve
from tests.integration.shared import BODY_LIMIT, SharedProgram

SENT = {
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc": "two Content-Length fields: 2, 3",
    b'HTTP/1.1 200 OK\r\nno "colon\\\x1b[2J\r\n\r\n': r"a header line without a colon: no \x22colon\x5C\x1B[2J",
    b"HTTP/1.1 999 Denied\r\nContent-Length: 2\r\n\r\nok": "status 999",
    b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n": (
        "the backend closed the connection in the middle of its response"
    ),
}


@pytest.mark.parametrize(("raw", "why"), SENT.items(), ids=range(len(SENT)))
async def test_what_a_backend_did_is_in_the_log(
    raw: bytes, why: str, proxy: SharedProgram, connect: Connect, origin: Origin
) -> None:
    """Each cause in its own words, with a piece of what was sent, where nothing can harm a terminal."""
    origin.play(reply(raw, then="close"))
    client = await connect()
    await client.send(get("once.test"))
    await client.read_rest()
    (line,) = await proxy.log.await_lines(1, client.source)
    assert line.why == why


async def test_a_good_line_has_no_reason(proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """Who reads only nginx's fields and our tail sees the line as it always was."""
    origin.play(serve())
    client = await connect()
    await client.ask(get("once.test"))
    (line,) = await proxy.log.await_lines(1, client.source)
    assert (line.why, line.end) == ("", "--")
    assert "why=" not in line.text


async def test_a_malformed_request_line_is_in_the_reason(proxy: SharedProgram, connect: Connect) -> None:
    """The request's own field stays ``-``; the client is told no more than what is wrong."""
    client = await connect()
    await client.send(b"GET /a b HTTP/1.1\r\nHost: solo.test\r\n\r\n")
    answer = await client.read_rest()
    (line,) = await proxy.log.await_lines(1, client.source)
    assert (line.request, line.why) == ("-", "not HTTP: GET /a b HTTP/1.1")
    assert b"/a b" not in answer


async def test_a_limit_is_named(proxy: SharedProgram, connect: Connect) -> None:
    """The log has the numbers, which are none of the client's business."""
    client = await connect()
    answer = await client.ask(post("solo.test", b"x" * (BODY_LIMIT + 1)))
    (line,) = await proxy.log.await_lines(1, client.source)
    assert line.why == f"the request body is too large: {BODY_LIMIT + 1} bytes, the limit is {BODY_LIMIT}"
    assert str(BODY_LIMIT).encode() not in answer.body
