"""Pins how requests are read: what passes, in which pieces, and what reaches the next request."""

from typing import Any

import pytest

from pyproxy.errors import BadRequest
from pyproxy.http1.head import END, RequestHead
from pyproxy.http1.limits import HeadLimits
from pyproxy.http1.reader import OVERHEAD_MAX_BYTES
from pyproxy.http1.request import RequestReader
from pyproxy.http1.target import _GOOD_HOSTS
from tests.unit.http1.feeding import LIMITS, every_cut, normal, only_head, read_requests, request

LENGTH_5 = request("Content-Length: 5", start="POST /p HTTP/1.1")
CHUNKED = request("Transfer-Encoding: chunked", start="POST /p HTTP/1.1")
PLAIN = request()
UPGRADE = request("Connection: upgrade", "Upgrade: websocket")

FIXTURES = {
    "simple": PLAIN,
    "old version": b"GET / HTTP/1.0\r\n\r\n",
    "blank lines before": b"\r\n\r\n" + PLAIN,
    "fields of every kind": request(
        "Accept: */*",
        "X-Forwarded-For: 1.2.3.4",
        "TE: trailers",
        "Connection: TE, X-Drop",
        "X-Drop: 1",
        "X_Under: 1",
        "X-Request-Id: abc",
        "Empty:",
        "Expect: 100-continue",
        "User-Agent: u",
        "Referer: r",
    ),
    "blanks around values": request("X:  v  ", "Content-Length:  5 ", "Connection: close ", body=b"hello"),
    "bytes beyond ascii in a value": request(b"X: \xc3\xa9\xff"),
    "length": LENGTH_5 + b"hello",
    "length zero": request("Content-Length: 0", start="POST / HTTP/1.1") + PLAIN,
    "length, then another": LENGTH_5 + b"hello" + PLAIN,
    "chunked": CHUNKED + b"5\r\nhello\r\n3\r\nyou\r\n0\r\n\r\n",
    "chunked with extensions and trailers": CHUNKED + b'5;a=b;c="d"\r\nhello\r\n0;e\r\nX: y\r\nHost: b\r\n\r\n',
    "chunked and empty": CHUNKED + b"0\r\n\r\n" + PLAIN,
    "chunked, then another": CHUNKED + b"A\r\n0123456789\r\n0\r\n\r\n" + LENGTH_5 + b"hello" + PLAIN,
    "pipelined": PLAIN + request(start="HEAD /2 HTTP/1.1") + request(start="DELETE /3 HTTP/1.1") + PLAIN,
    "upgrade and what follows it": UPGRADE + b"\x81\x05hello",
    "h2c and another": request("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAM") + PLAIN,
    "absolute form": request(start="GET http://a/x?y HTTP/1.1"),
    "options of everything": request(start="OPTIONS * HTTP/1.1"),
    "kept by the old version": b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + PLAIN,
    "refused in the second": PLAIN + request("Host: b") + PLAIN,
    "refused in a chunk": CHUNKED + b"5\r\nhello\r\nzz\r\n",
    "refused chunk end": CHUNKED + b"5\r\nhelloX\r\n0\r\n\r\n",
    "another method": request(start="FOO / HTTP/1.1") + PLAIN,
    "methods that the parser stumbles over": b"".join(
        request(start=f"{method} /a?b HTTP/1.{minor}")
        for method, minor in (("LISTX", 1), ("GETX", 1), ("DESCRIBE", 1), ("A-B_c!", 1), ("PRIX", 1), ("BAN", 0))
    ),
    "another method with a body": request("Content-Length: 5", start="CCM_POST /p HTTP/1.1") + b"hello" + PLAIN,
    "another method in chunks": request("Transfer-Encoding: chunked", start="X / HTTP/1.1")
    + b"1\r\na\r\n0\r\n\r\n"
    + PLAIN,
    "another method behind blank lines": b"\r\n"
    + request(start="X / HTTP/1.1")
    + b"\r\n\r\n"
    + request(start="Y / HTTP/1.1"),
    "another method behind a body": LENGTH_5 + b"hello" + request(start="X / HTTP/1.1") + LENGTH_5 + b"O / X" + PLAIN,
    "bytes beyond ascii in the target": request(start="GET /caf\xe9?s=\xff HTTP/1.1")
    + request(start="X /\xe4 HTTP/1.1")
    + PLAIN,
    "extra blanks in the request line": request(start="GET  /  HTTP/1.1") + request(start="GET /  HTTP/1.0"),
    "dot segments": request(start="GET /a/../b/./c?d=/../ HTTP/1.1"),
    "absolute form without a path": request(start="OPTIONS http://a HTTP/1.1")
    + request(start="GET http://a?b HTTP/1.1"),
    "tabs behind chunked": request("Transfer-Encoding: chunked\t \t", start="POST /p HTTP/1.1")
    + b"5\r\nhello\r\n0\r\n\r\n",
    "tabs behind chunked, then a body": LENGTH_5
    + b"hello"
    + request("Transfer-Encoding: chunked\t", start="POST /p HTTP/1.1")
    + b"5;a\r\nhello\r\n0\r\nX: y\r\n\r\n",
    "framing in trailers": CHUNKED + b"5\r\nhello\r\n0\r\nContent-Length: 3\r\n\r\n" + PLAIN,
    "connection in trailers": CHUNKED + b"5\r\nhello\r\n0\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n" + PLAIN,
    "RTSP": request(start="GET / RTSP/1.0"),
    "RTSP, pipelined": PLAIN + request(start="GET / RTSP/1.0"),
    "refused request line": PLAIN + b"FOO /a b HTTP/1.1\r\n\r\n",
    "refused field": request("X Y: z"),
}


@pytest.mark.parametrize("raw", FIXTURES.values(), ids=FIXTURES.keys())
def test_every_cut_gives_the_same(raw: bytes) -> None:
    """However the network cuts the bytes, the same heads, bodies, ends and errors come out."""
    events, kept = read_requests([raw])
    expected = normal(events)
    assert expected
    for segments in every_cut(raw):
        events, rest = read_requests(segments)
        assert (normal(events), rest) == (expected, kept), segments


def test_a_head_in_full() -> None:
    """Each field ends up in its place; lines are as they came, with their own spelling, without hop-by-hop ones."""
    head = only_head(FIXTURES["fields of every kind"])
    assert (head.method, head.target, head.version) == (b"GET", b"/", 11)
    assert head.lines == [b"Accept: */*\r\n", b"Empty: \r\n", b"User-Agent: u\r\n", b"Referer: r\r\n"]
    assert (head.host, head.request_id, head.expect) == (b"a", b"abc", b"100-continue")
    assert (head.user_agent, head.referer) == (b"u", b"r")
    assert head.forwarded == [(b"x-forwarded-for", b"1.2.3.4")]
    assert head.te_trailers
    assert head.keep_alive
    assert not head.has_body


@pytest.mark.parametrize(
    ("raw", "keep"),
    [
        (request(), True),
        (request("Connection: close"), False),
        (request("Connection: Keep-Alive, CLOSE"), False),
        (request("Connection: close", "Connection: keep-alive"), False),
        (request("Connection: closed"), True),
        (request("Connection: close "), False),
        (b"GET / HTTP/1.0\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", True),
    ],
)
def test_keep_alive(raw: bytes, keep: bool) -> None:
    """HTTP/1.1 stays open unless told otherwise, HTTP/1.0 closes unless told otherwise; close beats keep-alive."""
    assert only_head(raw).keep_alive is keep


@pytest.mark.parametrize("word", ["close", "keep-alive"])
@pytest.mark.parametrize("name", ["Connection", "Proxy-Connection"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_connection_that_is_kept_reads_the_next_request(name: str, word: str, version: str) -> None:
    """We and the parser agree on what keeps a connection: else the next request would vanish without an answer."""
    reader = RequestReader(HeadLimits(LIMITS))
    (head,) = reader.feed(request(f"{name}: {word}", start=f"GET / HTTP/{version}"))
    following = reader.feed(PLAIN)
    if head.keep_alive:
        assert [type(event) for event in following] == [RequestHead]


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("abc", b"abc"), ("A.b_c-9", b"A.b_c-9"), ("x" * 128, b"x" * 128), ("x" * 129, None), ("a b", None),
        ("", None), ("a,b", None), ("abc ", b"abc"), ("abc\t", b"abc"),
    ],
)  # fmt: skip
def test_request_id(value: str, kept: bytes | None) -> None:
    """An id is kept if it matches the contract's pattern; blanks around a value are no part of it."""
    assert only_head(request(f"X-Request-Id: {value}")).request_id == kept


@pytest.mark.parametrize("name", ["X_Forwarded_For", "x_a", "Content_Length", "Transfer_Encoding", "_"])
def test_names_with_an_underscore_are_dropped(name: str) -> None:
    """PHP could not tell them from ours; they have no meaning for us either."""
    head = only_head(request(f"{name}: 5", "X-Stays: 1"))
    assert head.lines == [b"X-Stays: 1\r\n"]
    assert not head.has_body
    assert head.forwarded is None


def test_hop_by_hop_fields_are_dropped() -> None:
    """What concerns only this connection goes no further (RFC 9110, section 7.6.1)."""
    names = ("Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization", "Trailer", "TE", "Upgrade")
    assert only_head(request(*(f"{name}: keep-alive" for name in names))).lines == []


def test_nominated_fields_are_dropped() -> None:
    """Connection names what goes with it, in any spelling and wherever it stands; Host and framing stay."""
    head = only_head(
        request(
            "X-A: 1", "Connection: x-a, X-B", "X-B: 2", "X-C: 3", "Connection: X-Forwarded-For, X-Request-Id, Host",
            "X-Forwarded-For: 1", "X-Real-IP: 2", "X-Request-Id: abc",
        )
    )  # fmt: skip
    assert head.lines == [b"X-C: 3\r\n"]
    assert head.forwarded == [(b"x-real-ip", b"2")]
    assert head.request_id is None
    assert head.host == b"a"
    events, _ = read_requests([request("Connection: Content-Length", "Content-Length: 2", body=b"hi")])
    assert normal(events)[1:] == [b"hi", END]


def test_a_plain_body_is_not_copied() -> None:
    """From the second feed on, a body of known length passes as the very objects that were fed."""
    reader = RequestReader(HeadLimits(LIMITS))
    reader.feed(request("Content-Length: 4000", start="POST / HTTP/1.1"))
    assert reader.in_plain_body
    pieces = [bytes([65 + index]) * 1000 for index in range(4)]
    events = [event for piece in pieces for event in reader.feed(piece)]
    assert all(event is piece for event, piece in zip(events, pieces, strict=False))
    assert events[4:] == [END]
    assert not reader.in_plain_body


def test_what_follows_a_plain_body_in_the_same_segment() -> None:
    """The rest of the segment is the next request, read by a parser that knows nothing of the body."""
    reader = RequestReader(HeadLimits(LIMITS))
    reader.feed(LENGTH_5)
    events = reader.feed(b"hello" + PLAIN + LENGTH_5 + b"world" + PLAIN)
    kinds = [type(event).__name__ for event in events]
    assert kinds == ["bytes", "End", "RequestHead", "RequestHead", "bytes", "End", "RequestHead"]
    assert [event for event in events if isinstance(event, bytes)] == [b"hello", b"world"]


def test_chunks_of_one_feed_are_one_event() -> None:
    """Many small chunks cost one event, not one each."""
    reader = RequestReader(HeadLimits(LIMITS))
    reader.feed(CHUNKED)
    assert reader.feed(b"1\r\na\r\n" * 50) == [b"a" * 50]


def test_trailers_are_dropped() -> None:
    """Trailers of a request change neither its head nor the next one's."""
    raw = CHUNKED + b"1\r\na\r\n0\r\nX-Evil: 1\r\nX-Forwarded-For: 1\r\nHost: b\r\n\r\n" + PLAIN
    first, body, end, second = normal(read_requests([raw])[0])
    assert (body, end) == (b"a", END)
    assert first["lines"] == second["lines"] == []
    assert first["forwarded"] is None
    assert first["host"] == b"a"


@pytest.mark.parametrize("name", ["Connection", "Content-Length", "Transfer-Encoding", "Upgrade", "Proxy-Connection"])
@pytest.mark.parametrize("value", ["close", "5", "chunked", "gzip", ""])
def test_trailers_that_frame_something_end_the_connection_and_nothing_else(name: str, value: str) -> None:
    """The parser takes them for fields of a head: the request is answered, and nothing behind it is believed."""
    raw = CHUNKED + b"1\r\na\r\n0\r\n" + f"{name}: {value}\r\n\r\n".encode() + PLAIN
    for segments in every_cut(raw):
        events, _ = read_requests(segments)
        head, body, end = normal(events)
        assert (body, end) == (b"a", END)
        assert not head["keep_alive"], segments


@pytest.mark.parametrize("is_extension", [True, False])
def test_chunk_overhead_is_bounded(is_extension: bool) -> None:
    """Extensions and trailers can't go on for ever: the parser itself would let them."""
    reader = RequestReader(HeadLimits(LIMITS))
    reader.feed(CHUNKED + (b"5;a=" if is_extension else b"0\r\nX: "))
    fed = 0
    events: list[Any] = []
    while not events and fed < 2 * OVERHEAD_MAX_BYTES:
        events = reader.feed(b"x" * 4096)
        fed += 4096
    assert [type(event) for event in events] == [BadRequest]
    assert OVERHEAD_MAX_BYTES - 8192 < fed <= OVERHEAD_MAX_BYTES + 8192


def test_large_chunks_are_no_overhead() -> None:
    """A chunk beyond the bound for overhead is body, however few feeds bring it."""
    size = 4 * OVERHEAD_MAX_BYTES
    for cut in (size + 100, OVERHEAD_MAX_BYTES + 1, 1000):
        raw = b"%x\r\n" % size + b"x" * size + b"\r\n0\r\n\r\n"
        reader = RequestReader(HeadLimits(LIMITS))
        events = reader.feed(CHUNKED)
        for at in range(0, len(raw), cut):
            events += reader.feed(raw[at : at + cut])
        assert normal(events)[1:] == [b"x" * size, END]


def test_many_small_chunks_with_extensions_are_bounded_only_without_body() -> None:
    """Overhead counts in a row: a slow body with extensions is legal, however long it takes."""
    reader = RequestReader(HeadLimits(LIMITS))
    reader.feed(CHUNKED)
    for _ in range(20):
        assert reader.feed(b"1;" + b"a" * 10_000 + b"\r\nx\r\n") == [b"x"]


def test_trailers_that_the_parser_cannot_read_are_bounded() -> None:
    """As all others are."""
    reader = RequestReader(HeadLimits(LIMITS))
    reader.feed(CHUNKED + b"0\r\nContent-Length: 1")
    fed = 0
    events: list[Any] = []
    while not events and fed < 2 * OVERHEAD_MAX_BYTES:
        events = reader.feed(b"1" * 4096)
        fed += 4096
    assert [type(event) for event in events] == [BadRequest]
    assert reader.feed(b"\r\n\r\n" + PLAIN) == []


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_nothing_is_read_behind_close(version: str) -> None:
    """What is pipelined behind a request that ends the connection is silently left alone."""
    raw = request("Connection: close", start=f"GET / HTTP/{version}")
    assert len(read_requests([raw + PLAIN])[0]) == 1


def test_absolute_form() -> None:
    """The authority must be the Host, and stands in for one that is missing; a backend is asked in origin-form."""
    head = only_head(request(start="GET HTTP://A/x HTTP/1.1"))
    assert (head.received, head.target, head.host) == (b"HTTP://A/x", b"/x", b"a")
    assert only_head(b"GET http://b:81/x HTTP/1.0\r\n\r\n").host == b"b:81"
    assert only_head(request(start="GET https://a?q=http://c/ HTTP/1.1")).host == b"a"


@pytest.mark.parametrize("start", ["CONNECT a:80 HTTP/1.1", "TRACE / HTTP/1.1"])
def test_methods_that_are_not_ours_are_read_as_any_other(start: str) -> None:
    """The exchange refuses them; what follows them is read as a request, not as somebody's tunnel."""
    for segments in every_cut(request(start=start) + PLAIN):
        first, second = read_requests(segments)[0]
        assert first.method == start.partition(" ")[0].encode()
        assert first.keep_alive
        assert second.target == b"/"


def test_close_lets_go_of_the_parser() -> None:
    """A closed reader gives no more events, whatever state it was in, and needs no garbage collector."""
    for raw in (b"", b"GET", LENGTH_5, CHUNKED, UPGRADE):
        reader = RequestReader(HeadLimits(LIMITS))
        reader.feed(raw)
        reader.close()
        assert reader.feed(PLAIN) == []
        assert not reader.in_plain_body


@pytest.mark.parametrize(
    "host", ["a", "A.b-c_d.", "1.2.3.4:80", "[::1]", "[2001:db8::1]:8080", "a:", "a.b:1", "x!$&'()*+;=~"]
)
def test_hosts_that_pass(host: str) -> None:
    """Twice: the second time nobody looks at the bytes."""
    for _ in range(2):
        assert only_head(request(host=f"Host: {host}")).host == host.encode()


def test_invented_hosts_are_not_remembered_for_ever() -> None:
    """Neither many nor long ones."""
    for number in range(2000):
        assert only_head(request(host=f"Host: h{number}")).host == b"h%d" % number
    assert only_head(request(host="Host: " + 300 * "x")).host == 300 * b"x"
    assert len(_GOOD_HOSTS) <= 1024
    assert max(map(len, _GOOD_HOSTS)) <= 255


@pytest.mark.parametrize(
    ("target", "host", "kept"),
    [
        ("http://a:80/", "A", "A"),
        ("http://a/", "a:80", "a:80"),
        ("https://a/", "a:443", "a:443"),
        ("http://a:/", "a", "a"),
    ],
)
def test_a_default_port_makes_no_other_host(target: str, host: str, kept: str) -> None:
    """The port that a scheme has anyway may be said or not; Host travels on as it came."""
    head = only_head(request(start=f"GET {target} HTTP/1.1", host=f"Host: {host}"))
    assert (head.target, head.host) == (b"/", kept.encode())
