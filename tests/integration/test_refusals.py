"""What the program refuses: bytes sent, bytes answered, the log line, the connection."""

import re
from dataclasses import dataclass
from http import HTTPStatus

import pytest

from tests.integration.client import chunked, get, post, unique_source
from tests.integration.conftest import Connect
from tests.integration.origin import Origin
from tests.integration.shared import BODY_LIMIT, HEADER_BYTES, HEADER_COUNT, REQUEST_LINE, SharedProgram
from tests.integration.wire import Message

H = b"Host: solo.test\r\n"


@dataclass(frozen=True)
class Refusal:
    """Bytes that nobody may see behind the program, and what is said to their sender."""

    name: str
    raw: bytes
    status: int = 400

    def __str__(self) -> str:
        return self.name


MALFORMED = [
    Refusal("method-with-bad-byte", b"G@T / HTTP/1.1\r\n" + H + b"\r\n"),
    Refusal("method-empty", b" / HTTP/1.1\r\n" + H + b"\r\n"),
    Refusal("binary", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
    Refusal("target-with-space", b"GET /a b HTTP/1.1\r\n" + H + b"\r\n"),
    Refusal("target-with-nul", b"GET /a\x00b HTTP/1.1\r\n" + H + b"\r\n"),
    Refusal("target-with-control", b"GET /a\x01b HTTP/1.1\r\n" + H + b"\r\n"),
    Refusal("target-with-del", b"GET /a\x7fb HTTP/1.1\r\n" + H + b"\r\n"),
    Refusal("target-with-tab", b"GET /a\tb HTTP/1.1\r\n" + H + b"\r\n"),
    Refusal("target-with-fragment", b"GET /a#b HTTP/1.1\r\n" + H + b"\r\n"),
    Refusal("target-missing", b"GET HTTP/1.1\r\n" + H + b"\r\n"),
    Refusal("target-without-slash", b"GET index.html HTTP/1.1\r\n" + H + b"\r\n"),
    Refusal("target-star-with-get", b"GET * HTTP/1.1\r\n" + H + b"\r\n"),
    Refusal("target-of-other-scheme", b"GET ftp://solo.test/ HTTP/1.1\r\n" + H + b"\r\n"),
    Refusal("target-with-userinfo", b"GET http://me@solo.test/ HTTP/1.1\r\nHost: me@solo.test\r\n\r\n"),
    Refusal("absolute-form-against-host", b"GET http://pair.test/ HTTP/1.1\r\n" + H + b"\r\n"),
    Refusal("bare-lf-after-request-line", b"GET / HTTP/1.1\n" + H + b"\r\n"),
    Refusal("bare-lf-after-header", b"GET / HTTP/1.1\r\nHost: solo.test\nX: 1\r\n\r\n"),
    Refusal("bare-lf-at-the-end", b"GET / HTTP/1.1\r\nHost: solo.test\r\n\n"),
    Refusal("bare-cr-in-value", b"GET / HTTP/1.1\r\n" + H + b"X: a\rb\r\n\r\n"),
    Refusal("obs-fold", b"GET / HTTP/1.1\r\n" + H + b"X: a\r\n b\r\n\r\n"),
    Refusal("obs-fold-first", b"GET / HTTP/1.1\r\n X: a\r\n" + H + b"\r\n"),
    Refusal("space-before-colon", b"GET / HTTP/1.1\r\n" + H + b"X : 1\r\n\r\n"),
    Refusal("tab-before-colon", b"GET / HTTP/1.1\r\n" + H + b"X\t: 1\r\n\r\n"),
    Refusal("header-without-colon", b"GET / HTTP/1.1\r\n" + H + b"X\r\n\r\n"),
    Refusal("header-without-name", b"GET / HTTP/1.1\r\n" + H + b": 1\r\n\r\n"),
    Refusal("header-name-with-bad-byte", b"GET / HTTP/1.1\r\n" + H + b"X(1): 1\r\n\r\n"),
    Refusal("header-name-with-high-byte", b"GET / HTTP/1.1\r\n" + H + b"X\xe9: 1\r\n\r\n"),
    Refusal("nul-in-value", b"GET / HTTP/1.1\r\n" + H + b"X: a\x00b\r\n\r\n"),
    Refusal("control-in-value", b"GET / HTTP/1.1\r\n" + H + b"X: a\x01b\r\n\r\n"),
    Refusal("length-and-chunked", post("solo.test", b"0\r\n\r\n", "Transfer-Encoding: chunked")),
    Refusal(
        "chunked-and-length",
        b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    ),
    Refusal("length-twice", post("solo.test", b"hello", "Content-Length: 5")),
    Refusal("length-twice-different", post("solo.test", b"hello", "Content-Length: 6")),
    Refusal("length-list", b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 5, 5\r\n\r\nhello"),
    Refusal("length-with-plus", b"POST / HTTP/1.1\r\n" + H + b"Content-Length: +5\r\n\r\nhello"),
    Refusal("length-negative", b"POST / HTTP/1.1\r\n" + H + b"Content-Length: -5\r\n\r\nhello"),
    Refusal("length-hex", b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 0x5\r\n\r\nhello"),
    Refusal("length-empty", b"POST / HTTP/1.1\r\n" + H + b"Content-Length: \r\n\r\nhello"),
    Refusal("length-with-space-inside", b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 5 5\r\n\r\nhello"),
    Refusal("length-beyond-64-bits", b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 99999999999999999999\r\n\r\nh"),
    Refusal(
        "chunked-in-1.0",
        b"POST / HTTP/1.0\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    Refusal("chunked-twice-in-one", get("solo.test", "/", "Transfer-Encoding: chunked, chunked", method="POST")),
    Refusal(
        "chunked-twice",
        get("solo.test", "/", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked", method="POST"),
    ),
    Refusal("coding-empty", get("solo.test", "/", "Transfer-Encoding:", method="POST")),
    Refusal("host-missing", b"GET / HTTP/1.1\r\n\r\n"),
    Refusal("host-twice", b"GET / HTTP/1.1\r\n" + H + H + b"\r\n"),
    Refusal("host-twice-different", b"GET / HTTP/1.1\r\n" + H + b"Host: pair.test\r\n\r\n"),
    Refusal("host-with-space", b"GET / HTTP/1.1\r\nHost: solo test\r\n\r\n"),
    Refusal("host-with-slash", b"GET / HTTP/1.1\r\nHost: solo.test/x\r\n\r\n"),
    Refusal("host-with-userinfo", b"GET / HTTP/1.1\r\nHost: me@solo.test\r\n\r\n"),
    Refusal("host-list", b"GET / HTTP/1.1\r\nHost: solo.test, pair.test\r\n\r\n"),
    Refusal("version-garbled", b"GET / HTTP/1,1\r\n" + H + b"\r\n"),
    Refusal("version-lower-case", b"GET / http/1.1\r\n" + H + b"\r\n"),
]

OTHERS = [
    Refusal("target-too-long", get("solo.test", "/" + "x" * REQUEST_LINE), 414),
    Refusal("target-far-too-long", get("solo.test", "/" + "x" * 100_000), 414),
    Refusal("header-too-large", get("solo.test", "/", "X: " + "x" * HEADER_BYTES), 431),
    Refusal("header-far-too-large", get("solo.test", "/", "X: " + "x" * 1_000_000), 431),
    Refusal("headers-too-large", get("solo.test", "/", *[f"X-{n}: {'x' * 300}" for n in range(30)]), 431),
    Refusal("headers-too-many", get("solo.test", "/", *[f"X-{n}: 1" for n in range(HEADER_COUNT)]), 431),
    Refusal("body-too-large", post("solo.test", b"x" * (BODY_LIMIT + 1)), 413),
    Refusal("length-too-large", get("solo.test", "/", f"Content-Length: {BODY_LIMIT + 1}", method="POST"), 413),
    Refusal(
        "coding-gzip-chunked",
        get("solo.test", "/", "Transfer-Encoding: gzip, chunked", method="POST") + chunked(b"hello"),
        501,
    ),
    Refusal("coding-identity", get("solo.test", "/", "Transfer-Encoding: identity", method="POST"), 501),
    Refusal("version-2.0", b"GET / HTTP/2.0\r\n" + H + b"\r\n", 505),
    Refusal("version-0.9", b"GET / HTTP/0.9\r\n" + H + b"\r\n", 505),
    Refusal("version-1.2", b"GET / HTTP/1.2\r\n" + H + b"\r\n", 505),
    Refusal("version-3.0", b"GET / HTTP/3.0\r\n" + H + b"\r\n", 505),
    Refusal("http2-preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", 505),
]


def check_refusal(answer: Message, status: int, *, stays_open: bool = False) -> None:
    """Check the bytes of an answer that is the program's own."""
    line = b"HTTP/1.1 %d %b\r\n" % (status, HTTPStatus(status).phrase.encode())
    assert answer.raw.startswith(line), answer.raw
    assert answer.get("content-type") == b"text/plain; charset=utf-8", answer.raw
    assert answer.get("content-length") == b"%d" % len(answer.body)
    assert re.fullmatch(rb"[\x20-\x7e]{3,120}\n?", answer.body), answer.body
    assert answer.get("connection") == (None if stays_open else b"close")
    assert answer.get("server") is None
    assert b"pyproxy" not in answer.raw.lower()


@pytest.mark.parametrize("refusal", MALFORMED + OTHERS, ids=str)
async def test_refused_closed_and_logged(
    refusal: Refusal, proxy: SharedProgram, connect: Connect, origin: Origin
) -> None:
    """What can't be read for certain is answered, ends the connection and reaches no backend."""
    client = await connect()
    await client.send(refusal.raw)
    check_refusal(await client.read_response(), refusal.status)
    await client.expect_eof()
    (line,) = await proxy.log.await_lines(1, client.source)
    assert (line.status, line.end, line.tries, line.ua) == (refusal.status, "PR", 0, ["-"])
    assert origin.received == b""


@pytest.mark.parametrize("refusal", [MALFORMED[0], MALFORMED[16], MALFORMED[30]], ids=str)
async def test_refused_byte_by_byte(refusal: Refusal, proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """How the bytes are cut into segments changes nothing."""
    client = await connect()
    try:
        await client.drip(refusal.raw)
    except ConnectionError:
        pass  # refused before the last byte was sent
    check_refusal(await client.read_response(), 400)
    (line,) = await proxy.log.await_lines(1, client.source)
    assert (line.status, line.end) == (400, "PR")
    assert origin.received == b""


@pytest.mark.parametrize(
    ("raw", "logged"),
    [
        (b"G@T / HTTP/1.1\r\n" + H + b"\r\n", "-"),
        (b"\x16\x03\x01\r\n\r\n", "-"),
        (get("solo.test", "/why?", method="TRACE"), "TRACE /why? HTTP/1.1"),
        (post("solo.test", b"x" * (BODY_LIMIT + 1), target="/big"), "POST /big HTTP/1.1"),
        (get("nowhere.test", "/lost"), "GET /lost HTTP/1.1"),
        (get("nowhere.test", '/"\\'), "GET /\\x22\\x5C HTTP/1.1"),
    ],
    ids=["bad-method", "binary", "405", "413", "404", "404-escaped"],
)
async def test_request_line_in_the_log(raw: bytes, logged: str, proxy: SharedProgram, connect: Connect) -> None:
    """A malformed request line is logged as "-", any other as it came, quotes and backslashes escaped."""
    client = await connect()
    await client.send(raw)
    await client.read_response()
    (line,) = await proxy.log.await_lines(1, client.source)
    assert line.request == logged


async def test_version_0_9_without_a_version(proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """HTTP/0.9's one-line request is refused, whatever the reason given, and no backend hears of it."""
    client = await connect()
    await client.send(b"GET /\r\n\r\n")
    answer = await client.read_response()
    assert answer.status in {400, 505}
    await client.expect_eof()
    assert (await proxy.log.await_line(client.source)).end == "PR"
    assert origin.received == b""


async def test_chunked_body_over_the_limit(proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """A chunked body is counted as it comes; over the limit it is 413, the backend's attempt is cut short."""
    client = await connect()
    head = get("solo.test", "/", "Transfer-Encoding: chunked", method="POST")
    await client.send(head + chunked(b"x" * (BODY_LIMIT + 1)))
    check_refusal(await client.read_response(), 413)
    (line,) = await proxy.log.await_lines(1, client.source)
    assert (line.status, line.end) == (413, "PR")
    assert b"\r\n0\r\n\r\n" not in origin.received[-20:], "the backend was told that the body is whole"


async def test_body_at_the_limit_passes(connect: Connect, origin: Origin) -> None:
    """The limit itself is allowed, in either framing."""
    client = await connect()
    assert (await client.ask(post("solo.test", b"x" * BODY_LIMIT))).status == 200
    head = get("solo.test", "/", "Transfer-Encoding: chunked", method="POST")
    assert (await client.ask(head + chunked(b"x" * BODY_LIMIT))).status == 200
    assert [len(request.body) for request in origin.requests] == [BODY_LIMIT, BODY_LIMIT]


async def test_limits_themselves_pass(connect: Connect, origin: Origin) -> None:
    """A request line, header and count exactly at their limits are served."""
    client = await connect()
    target = "/" + "x" * (REQUEST_LINE - len("GET / HTTP/1.1"))
    assert (await client.ask(get("solo.test", target))).status == 200
    fill = HEADER_BYTES - len("Host: solo.test\r\n") - len("X: \r\n")
    assert (await client.ask(get("solo.test", "/", "X: " + "x" * fill))).status == 200
    assert (await client.ask(get("solo.test", "/", *[f"X-{n}: 1" for n in range(HEADER_COUNT - 1)]))).status == 200
    assert len(origin.requests) == 3


async def test_bad_chunks_cut_the_attempt_short(proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """A body whose chunks turn bad is refused; the backend never sees it end."""
    client = await connect()
    await client.send(get("solo.test", "/", "Transfer-Encoding: chunked", method="POST") + b"5\r\nhello\r\nxyz\r\n")
    check_refusal(await client.read_response(), 400)
    (line,) = await proxy.log.await_lines(1, client.source)
    assert (line.status, line.end) == (400, "PR")
    assert not origin.received.endswith(b"0\r\n\r\n")


async def test_trace(proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """405 for TRACE, which would show what the client sent to whoever runs a script in it; the connection goes on."""
    client = await connect()
    check_refusal(await client.ask(get("solo.test", method="TRACE")), 405, stays_open=True)
    assert (await client.ask(get("solo.test", "/next"))).body == b"/next"
    line, _ = await proxy.log.await_lines(2, client.source)
    assert (line.status, line.end, line.tries) == (405, "PR", 0)
    assert len(origin.requests) == 1


async def test_connect(proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """405 for CONNECT; the connection ends or goes on, as the answer says: both are safe, since nothing was opened."""
    client = await connect()
    answer = await client.ask(b"CONNECT solo.test:443 HTTP/1.1\r\nHost: solo.test:443\r\n\r\n")
    stays_open = answer.get("connection") is None
    check_refusal(answer, 405, stays_open=stays_open)
    if stays_open:
        assert (await client.ask(get("solo.test", "/next"))).body == b"/next"
    else:
        await client.expect_eof()
    line = await proxy.log.await_line(client.source)
    assert (line.request, line.status, line.end) == ("CONNECT solo.test:443 HTTP/1.1", 405, "PR")
    assert [request.target for request in origin.requests] == ([b"/next"] if stays_open else [])


async def test_hasty_handshake_behind_connect(proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """A client that starts TLS without waiting for the answer gets 405, and no backend hears of its handshake."""
    client = await connect()
    await client.send(b"CONNECT solo.test:443 HTTP/1.1\r\nHost: solo.test:443\r\n\r\n\x16\x03\x01\x02\x00\x01")
    assert (await client.read_response()).status == 405
    await client.read_rest()
    assert {line.status for line in proxy.log.lines(client.source)} <= {400, 405}
    assert origin.received == b""


async def test_not_found(proxy: SharedProgram, connect: Connect) -> None:
    """Nothing fits: 404, and the connection goes on."""
    client = await connect()
    check_refusal(await client.ask(get("nowhere.test")), 404, stays_open=True)
    check_refusal(await client.ask(get("paths.test", "/onlyx")), 404, stays_open=True)
    first, second = await proxy.log.await_lines(2, client.source)
    assert (first.status, first.end, first.ua, first.tries) == (404, "PR", ["-"], 0)
    assert (second.status, second.end) == (404, "PR")


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        *((path, path) for path in ("/only/", "/only", "/only/x", "/%6fnly/x", "/only/x?y=/../z", "/only//x%2Fy")),
        ("/x/../only/", "/only/"),
        ("//only/./x", "/only/x"),
        ("/only/caf\xe9?\xe9", "/only/caf%E9?%E9"),
        ("http://paths.test/only/x", "/only/x"),
    ],
)
async def test_path_is_matched_decoded_and_forwarded_in_one_form(
    path: str, asked: str, connect: Connect, origin: Origin
) -> None:
    """The backend gets what the client wrote, but for what could be read in another way than the routes did."""
    assert (await (await connect()).ask(get("paths.test", path))).status == 200
    assert origin.requests[0].target == asked.encode()


@pytest.mark.parametrize("path", ["/only/%2e%2e/other", "/only/..%2fother", "/only/x%5cy", "/only\\x", "/only/%00"])
async def test_path_that_could_mean_another_is_refused(path: str, connect: Connect, origin: Origin) -> None:
    """Whatever a backend would make of it."""
    assert (await (await connect()).ask(get("paths.test", path))).status == 400
    assert origin.received == b""


@pytest.mark.parametrize("method", ["LIST", "RPC_IN_DATA", "VERSION-CONTROL", "DESCRIBE", "A!b"])
async def test_any_method_passes(method: str, connect: Connect, origin: Origin) -> None:
    """Methods are tokens: the backend decides what it makes of one."""
    answer = await (await connect()).ask(get("paths.test", "/only/").replace(b"GET", method.encode(), 1))
    assert answer.status == 200
    assert origin.requests[0].raw.startswith(method.encode() + b" /only/ HTTP/1.1\r\n")


@pytest.mark.parametrize("path", ["/only/../other", "/", "/onlyx"])
async def test_path_that_leaves_the_prefix_is_not_found(path: str, connect: Connect, origin: Origin) -> None:
    """Dot segments don't carry a request into a route that isn't its own."""
    assert (await (await connect()).ask(get("paths.test", path))).status == 404
    assert origin.received == b""


@pytest.mark.parametrize("host", ["SOLO.test", "solo.test:8080", "Solo.Test:80"])
async def test_host_is_matched_without_case_and_port(host: str, connect: Connect, origin: Origin) -> None:
    """The route ignores case and port; the backend gets the Host as it came."""
    assert (await (await connect()).ask(get(host))).status == 200
    assert origin.requests[0].get("host") == host.encode()


async def test_connection_refused(proxy: SharedProgram, connect: Connect) -> None:
    """Nobody takes the connection: 502 SC, each backend was asked once, and the client's connection goes on."""
    client = await connect()
    check_refusal(await client.ask(get("dead.test")), 502, stays_open=True)
    check_refusal(await client.ask(get("dead.test")), 502, stays_open=True)
    line, _ = await proxy.log.await_lines(2, client.source)
    assert (line.status, line.end, line.tries) == (502, "SC", 1)
    assert (line.ua, line.us) == (["closed"], ["-"])


async def test_nothing_available(proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """A pool whose only backend has weight 0 has nothing to offer: 503 SC, no attempt."""
    client = await connect()
    check_refusal(await client.ask(get("empty.test")), 503, stays_open=True)
    (line,) = await proxy.log.await_lines(1, client.source)
    assert (line.status, line.end, line.tries, line.ua, line.us) == (503, "SC", 0, ["-"], ["-"])
    assert origin.connections == []


async def test_connect_timeout(proxy: SharedProgram, connect: Connect) -> None:
    """A backend that never takes the connection: 504 sC."""
    client = await connect()
    check_refusal(await client.ask(get("hole.test")), 504, stays_open=True)
    (line,) = await proxy.log.await_lines(1, client.source)
    assert (line.status, line.end, line.tries, line.ua, line.us) == (504, "sC", 1, ["hole"], ["-"])
    assert line.rt >= 0.3


@pytest.mark.parametrize("host", ["dead.test", "empty.test", "nowhere.test"])
async def test_refusal_of_a_small_upload_keeps_the_connection(host: str, connect: Connect, origin: Origin) -> None:
    """A body that came with its request is read away: the next request on the connection is served."""
    client = await connect()
    assert (await client.ask(post(host, b"GET / HTTP/1.1\r\n\r\n"))).status in {404, 502, 503}
    if client.received.find(b"Connection: close") < 0:
        assert (await client.ask(get("solo.test", "/next"))).body == b"/next"
        assert origin.requests[0].target == b"/next"
    else:
        await client.expect_eof()


async def test_answer_is_read_although_the_client_still_sends(proxy: SharedProgram, connect: Connect) -> None:
    """
    After a refusal the program lingers.

    A client in the middle of a large upload still reads the answer.
    """
    client = await connect()
    await client.send(get("solo.test", "/", f"Content-Length: {BODY_LIMIT * 3}", method="POST"))
    for _ in range(3):
        await client.send(b"x" * BODY_LIMIT)
    check_refusal(await client.read_response(), 413)
    await client.expect_eof()
    (line,) = await proxy.log.await_lines(1, client.source)
    assert (line.status, line.end) == (413, "PR")


async def test_lingering_ends_with_the_client(proxy: SharedProgram, connect: Connect) -> None:
    """A client that closes after the refusal is let go of at once."""
    client = await connect()
    await client.send(b"G@T / HTTP/1.1\r\n\r\n")
    await client.read_response()
    await client.expect_eof()
    client.close()
    await proxy.settled()


async def test_nothing_behind_a_refused_request_is_served(
    proxy: SharedProgram, connect: Connect, origin: Origin
) -> None:
    """What follows a request that can't be framed is not a request."""
    client = await connect()
    smuggled = get("solo.test", "/smuggled")
    await client.send(post("solo.test", smuggled, "Transfer-Encoding: chunked") + smuggled)
    check_refusal(await client.read_response(), 400)
    await client.expect_eof()
    await proxy.log.await_lines(1, client.source)
    assert origin.received == b""


async def test_requests_before_a_refused_one_are_answered(
    proxy: SharedProgram, connect: Connect, origin: Origin
) -> None:
    """In a pipeline the answers come in order, and the refusal is the last."""
    client = await connect()
    await client.send(get("solo.test", "/1") + get("solo.test", "/2") + b"G@T / HTTP/1.1\r\n\r\n" + get("solo.test"))
    answers = await client.responses(3)
    assert [answer.status for answer in answers] == [200, 200, 400]
    assert [answer.body for answer in answers[:2]] == [b"/1", b"/2"]
    await client.expect_eof()
    assert [line.end for line in await proxy.log.await_lines(3, client.source)] == ["--", "--", "PR"]
    assert len(origin.requests) == 2


async def test_ipv6_client_is_refused_and_logged(proxy: SharedProgram, connect: Connect) -> None:
    """The IPv6 listener refuses in the same way and logs the client's address in text form."""
    client = await connect(proxy.port6, host="::1")
    marker = f"/six-{unique_source()}"
    check_refusal(await client.ask(get("nowhere.test", marker)), 404, stays_open=True)
    line = await proxy.log.await_line("::1", lambda line: marker in line.request)
    assert (line.status, line.end) == (404, "PR")


async def test_leading_empty_lines_are_ignored(connect: Connect, origin: Origin) -> None:
    """One CRLF before a request line is skipped, as RFC 9112 asks."""
    client = await connect()
    assert (await client.ask(b"\r\n" + get("solo.test", "/1"))).body == b"/1"
    assert origin.requests[0].target == b"/1"
