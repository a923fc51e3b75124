"""Pins how requests with an upgrade are read: what is offered, and where the bytes behind them begin."""

import pytest

from pyproxy.errors import BadRequest
from pyproxy.http1.head import END, RequestHead
from pyproxy.http1.limits import HeadLimits
from pyproxy.http1.request import RequestReader
from tests.unit.http1.feeding import LIMITS, every_cut, normal, only_head, read_requests, refusal, request

PLAIN = request()
UPGRADE = request("Connection: upgrade", "Upgrade: websocket")


def test_an_upgrade_suspends_the_reader() -> None:
    """What follows an offer to upgrade belongs to nobody until the answer is known."""
    reader = RequestReader(HeadLimits(LIMITS))
    (head,) = reader.feed(UPGRADE + b"GET /2")
    assert head.upgrade == b"websocket"
    assert reader.suspended
    assert reader.rest == b"GET /2"


def test_a_refused_upgrade_resumes_behind_its_head() -> None:
    """After another answer than 101 what was kept is read as requests."""
    reader = RequestReader(HeadLimits(LIMITS))
    reader.feed(UPGRADE + PLAIN[:10])
    rest = reader.rest
    reader.resume()
    assert not reader.suspended
    assert reader.rest == b""
    events = reader.feed(rest) + reader.feed(PLAIN[10:] + PLAIN)
    assert [type(event) for event in events] == [RequestHead, RequestHead]


@pytest.mark.parametrize(
    ("lines", "offered"),
    [
        (["Connection: upgrade", "Upgrade: websocket"], b"websocket"),
        (["Connection: upgrade", "Upgrade: h2c"], None),
        (["Connection: upgrade", "Upgrade: h2c, WebSocket"], b"websocket"),
        (["Connection: upgrade", "Upgrade: a", "Upgrade: b/1"], b"a, b/1"),
        (["Upgrade: websocket"], None),
        (["Connection: upgrade"], None),
        (["Connection: upgrade", "Upgrade: websocket", "Content-Length: 0"], b"websocket"),
        (["Connection: upgrade", "Upgrade: H2C/1, TLS/1.0"], b"tls/1.0"),
        (["Connection: upgrade", "Upgrade: h2c\xa0"], None),
        (["Connection: upgrade", "Upgrade: \xa0h2c, \x85websocket, a b, a/b/c, a/, \tfoo\t"], b"foo"),
        (["Connection: upgrade\xa0", "Upgrade: websocket"], None),
        (["Connection: \xa0upgrade", "Connection: upgrade", "Upgrade: websocket"], b"websocket"),
    ],
)
def test_what_is_offered_to_the_backend(lines: list[str], offered: bytes | None) -> None:
    """An upgrade needs both fields, and is a token; h2c is never offered, and its settings don't travel on."""
    head = only_head(request(*lines, "HTTP2-Settings: AAM"))
    assert head.upgrade == offered
    assert head.lines == []


def test_the_old_version_cannot_upgrade() -> None:
    """HTTP/1.0 knows no 101: the field is ignored, and the next request is read."""
    raw = request("Connection: upgrade, keep-alive", "Upgrade: websocket", start="GET / HTTP/1.0")
    first, second = read_requests([raw + PLAIN])[0]
    assert first.upgrade is None
    assert isinstance(second, RequestHead)


LOOKS_LIKE_MORE = b"GET /smuggled HTTP/1.1\r\n\r\n0\r\n\r\n"
UPGRADE_BODIES = {
    "length": request(f"Content-Length: {len(LOOKS_LIKE_MORE)}", body=LOOKS_LIKE_MORE),
    "chunked": request("Transfer-Encoding: chunked", body=b"%x;a=b\r\n%b\r\n" % (len(LOOKS_LIKE_MORE), LOOKS_LIKE_MORE))
    + b"0\r\n\r\n",
    "trailers": request("Transfer-Encoding: chunked", body=b"%x\r\n%b\r\n" % (len(LOOKS_LIKE_MORE), LOOKS_LIKE_MORE))
    + b"0\r\nA: b\r\nC: d\r\n\r\n",
}


def upgrading(raw: bytes, protocol: bytes) -> bytes:
    """Add an upgrade to a request."""
    line = (
        b"POST / HTTP/1.1\r\nConnection: upgrade, http2-settings\r\nUpgrade: %b\r\nHTTP2-Settings: AAM\r\n" % protocol
    )
    return raw.replace(b"GET / HTTP/1.1\r\n", line, 1)


@pytest.mark.parametrize("raw", UPGRADE_BODIES.values(), ids=UPGRADE_BODIES.keys())
@pytest.mark.parametrize("protocol", [b"h2c", b"H2C"])
def test_what_offers_only_h2c_is_a_request_with_a_body(raw: bytes, protocol: bytes) -> None:
    """The parser skips a body behind Upgrade (fact 2): it is read all the same, and so is the next request."""
    for segments in every_cut(upgrading(raw, protocol) + PLAIN):
        events, kept = read_requests(segments)
        head, *body, end, following = events
        assert (head.upgrade, b"".join(body), end, following.method, kept) == (None, LOOKS_LIKE_MORE, END, b"GET", b"")


@pytest.mark.parametrize("raw", UPGRADE_BODIES.values(), ids=UPGRADE_BODIES.keys())
def test_behind_the_body_of_an_upgrade_nothing_is_parsed(raw: bytes) -> None:
    """It may belong to a tunnel, or be the next request: it is kept until the answer tells."""
    for segments in every_cut(upgrading(raw, b"tcp") + PLAIN):
        events, kept = read_requests(segments)
        head, *body, end = events
        assert (head.upgrade, b"".join(body), end, kept) == (b"tcp", LOOKS_LIKE_MORE, END, PLAIN)


@pytest.mark.parametrize("name", ["Connection", "Content-Length", "Transfer-Encoding", "Upgrade", "Proxy-Connection"])
@pytest.mark.parametrize("value", ["close", "5", "chunked", "gzip", "", "\r\nA: b"])
def test_framing_in_the_trailers_of_an_upgrade_loses_nothing(name: str, value: str) -> None:
    """What follows the body is the tunnel's, whatever the trailers say; no other request is read."""
    raw = upgrading(request("Transfer-Encoding: chunked"), b"tcp") + b"2\r\nhi\r\n0\r\n"
    raw += f"{name}: {value}\r\n\r\n".encode() + PLAIN
    for segments in every_cut(raw):
        events, kept = read_requests(segments)
        head, body, end = normal(events)
        assert (body, end, kept, head["keep_alive"]) == (b"hi", END, PLAIN, False), segments


@pytest.mark.parametrize("protocol", [b"h2c", b"tcp"])
@pytest.mark.parametrize("framing", ["Content-Length: 2", "Transfer-Encoding: chunked"])
def test_reading_goes_on_behind_a_declined_upgrade(framing: str, protocol: bytes) -> None:
    """As soon as the caller resumes; a body that went another way counts as read."""
    reader = RequestReader(HeadLimits(LIMITS))
    events = reader.feed(upgrading(request(framing), protocol))
    if framing.startswith("Content"):
        assert reader.remaining == 2
        reader.pass_by()
    else:
        events += reader.feed(b"0\r\n\r\n")
    assert reader.suspended == (protocol == b"tcp")
    reader.resume()
    (following,) = reader.feed(PLAIN)
    assert following.method == b"GET"


@pytest.mark.parametrize("protocol", [b"h2c", b"tcp"])
@pytest.mark.parametrize("body", [b"x\r\n", b"5\r\nhelloX", b"5\nhello\n", b"0\r\nConnection: close\n\n"])
def test_a_bad_body_of_an_upgrade_is_refused(body: bytes, protocol: bytes) -> None:
    """As any other, and what was good of it was reported before."""
    assert isinstance(refusal(upgrading(request("Transfer-Encoding: chunked"), protocol) + body), BadRequest)
