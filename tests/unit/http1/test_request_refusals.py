"""Pins what requests are refused, by which error, and how much of them the access log still gets."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from pyproxy.errors import (
    BadRequest,
    ExchangeError,
    HeadTooLarge,
    LoopDetected,
    MethodUnsupported,
    TargetTooLong,
    TransferCodingUnsupported,
    VersionUnsupported,
)
from pyproxy.http1.limits import HeadLimits
from pyproxy.http1.request import RequestReader
from tests.unit.http1.feeding import LIMITS, every_cut, normal, only_head, read_requests, refusal, request

POST = "POST / HTTP/1.1"
CHUNKED = request("Transfer-Encoding: chunked", start=POST)

REFUSALS: list[tuple[str, bytes, type[ExchangeError]]] = [
    ("method in lower case", request(start="get / HTTP/1.1"), MethodUnsupported),
    ("method in mixed case", request(start="Trace / HTTP/1.1"), MethodUnsupported),
    ("method that is no token", request(start="G@T / HTTP/1.1"), BadRequest),
    ("method beyond ascii", request(start="G\xc9T / HTTP/1.1"), BadRequest),
    ("other method and two blanks", request(start="FOO  / HTTP/1.1"), BadRequest),
    ("other method and a bare LF", b"FOO / HTTP/1.1\nHost: a\r\n\r\n", BadRequest),
    ("other method without a version", b"FOO /\r\n\r\n", BadRequest),
    ("other method, other version", request(start="FOO / HTTP/2.0"), VersionUnsupported),
    ("other method, no Host", request(start="FOO / HTTP/1.1", host=""), BadRequest),
    ("other method, bad target", request(start="FOO x HTTP/1.1"), BadRequest),
    ("CONNECT beyond ascii", request(start="CONNECT \xe4:80 HTTP/1.1"), BadRequest),
    ("RTSP", request(start="GET / RTSP/1.0"), VersionUnsupported),
    ("RTSP by its method", request(start="DESCRIBE /x RTSP/1.0"), VersionUnsupported),
    ("ICE", request(start="SOURCE /x ICE/1.0"), VersionUnsupported),
    ("ICE with GET", request(start="GET /x ICE/1.0"), VersionUnsupported),
    ("TLS", b"\x16\x03\x01\x02\x00\x01\x00", BadRequest),
    ("no Host", request(host=""), BadRequest),
    ("two Hosts", request("Host: a"), BadRequest),
    ("Host with a path", request(host="Host: a/b"), BadRequest),
    ("Host with a user", request(host="Host: u@a"), BadRequest),
    ("Host with a blank", request(host="Host: a b"), BadRequest),
    ("Hosts in a list", request(host="Host: a,b"), BadRequest),
    ("Host beyond ascii", request(host="Host: \xe9"), BadRequest),
    ("Host without a name", request(host="Host: :80"), BadRequest),
    ("Host of dots", request(host="Host: .."), BadRequest),
    ("IPv6 Host without brackets", request(host="Host: ::1"), BadRequest),
    ("Host with two ports", request(host="Host: a:80:81"), BadRequest),
    ("Host with a port that is none", request(host="Host: a:b"), BadRequest),
    ("Host with an open bracket", request(host="Host: [::1"), BadRequest),
    ("bad Host in the old version", request(host="Host: a/b", start="GET / HTTP/1.0"), BadRequest),
    ("Host against the target", request(start="GET http://b/ HTTP/1.1"), BadRequest),
    ("other scheme", request(start="GET ftp://a/ HTTP/1.1"), BadRequest),
    ("no authority", request(start="GET http:/// HTTP/1.1"), BadRequest),
    ("user in the target", request(start="GET http://u@a/ HTTP/1.1"), BadRequest),
    ("fragment", request(start="GET /#x HTTP/1.1"), BadRequest),
    ("star with GET", request(start="GET * HTTP/1.1"), BadRequest),
    ("target without slash", request(start="GET x HTTP/1.1"), BadRequest),
    ("no target", request(start="GET  HTTP/1.1"), BadRequest),
    ("blank in the target", request(start="GET /a b HTTP/1.1"), BadRequest),
    ("control byte in the target", request(start="GET /\x01 HTTP/1.1"), BadRequest),
    ("bytes beyond ascii in place of a path", request(start="GET \xff HTTP/1.1"), BadRequest),
    ("backslash", request(start="GET /a\\b HTTP/1.1"), BadRequest),
    ("encoded backslash", request(start="GET /a%5cb HTTP/1.1"), BadRequest),
    ("encoded NUL", request(start="GET /a%00b HTTP/1.1"), BadRequest),
    ("encoded dot segment", request(start="GET /admin/%2e%2E/x HTTP/1.1"), BadRequest),
    ("encoded slash beside dots", request(start="GET /admin/..%2fx HTTP/1.1"), BadRequest),
    ("Host in percent-encoding", request(host="Host: %61"), BadRequest),
    ("Host with an empty label", request(host="Host: a..b"), BadRequest),
    ("Host with two closing dots", request(host="Host: a.."), BadRequest),
    ("Host with another port than the target", request(start="GET http://a:443/ HTTP/1.1"), BadRequest),
    ("Host with the other scheme's port", request(start="GET https://a:80/ HTTP/1.1"), BadRequest),
    ("HTTP/0.9", b"GET /\r\n\r\n", VersionUnsupported),
    ("HTTP/0.9 before what ends like a request line", b"GET /\nX: HTTP/1.1\r\nHost: a\r\n\r\n", VersionUnsupported),
    ("HTTP/0.9 by a target alone", b"GET /\r\nX: 1 HTTP/1.1\r\nHost: a\r\n\r\n", VersionUnsupported),
    ("HTTP/0.9 by name", request(start="GET / HTTP/0.9"), VersionUnsupported),
    ("HTTP/1.2", request(start="GET / HTTP/1.2"), VersionUnsupported),
    ("HTTP/2.0", request(start="GET / HTTP/2.0"), VersionUnsupported),
    ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", VersionUnsupported),
    ("length and coding", request("Content-Length: 5", "Transfer-Encoding: chunked", start=POST), BadRequest),
    ("coding and length", request("Transfer-Encoding: chunked", "Content-Length: 5", start=POST), BadRequest),
    ("two lengths", request("Content-Length: 5", "Content-Length: 5", start=POST), BadRequest),
    ("list of lengths", request("Content-Length: 5, 5", start=POST), BadRequest),
    ("signed length", request("Content-Length: +3", start=POST), BadRequest),
    ("negative length", request("Content-Length: -3", start=POST), BadRequest),
    ("hexadecimal length", request("Content-Length: 0x3", start=POST), BadRequest),
    ("empty length", request("Content-Length:", start=POST), BadRequest),
    ("length beyond 63 bits", request("Content-Length: 9223372036854775808", start=POST), BadRequest),
    ("length of thousands of digits", request(f"Content-Length: {'0' * 5000}5", start=POST), BadRequest),
    ("length beyond 64 bits", request("Content-Length: 99999999999999999999", start=POST), BadRequest),
    ("chunked in the old version", request("Transfer-Encoding: chunked", start="POST / HTTP/1.0"), BadRequest),
    ("chunked twice", request("Transfer-Encoding: chunked", "Transfer-Encoding: chunked", start=POST), BadRequest),
    ("chunked, chunked", request("Transfer-Encoding: chunked, chunked", start=POST), BadRequest),
    ("empty coding", request("Transfer-Encoding:", start=POST), BadRequest),
    ("gzip", request("Transfer-Encoding: gzip", start=POST), TransferCodingUnsupported),
    ("gzip, chunked", request("Transfer-Encoding: gzip, chunked", start=POST), TransferCodingUnsupported),
    ("identity", request("Transfer-Encoding: identity", start=POST), TransferCodingUnsupported),
    ("bare LF", b"GET / HTTP/1.1\nHost: a\n\n", BadRequest),
    ("bare LF in a field", b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", BadRequest),
    ("bare CR in a value", request("X: a\rb"), BadRequest),
    ("blank before the colon", request("X : y"), BadRequest),
    ("folded line", request("X: a", " b"), BadRequest),
    ("NUL in a value", request("X: a\0b"), BadRequest),
    ("control byte in a value", request("X: a\x01b"), BadRequest),
    ("no name", request(": y"), BadRequest),
    ("no colon", request("X"), BadRequest),
    ("byte beyond ascii in a name", request("X\xe9: y"), BadRequest),
    ("chunk size that is no number", CHUNKED + b"g\r\n", BadRequest),
    ("negative chunk size", CHUNKED + b"-1\r\n", BadRequest),
    ("chunk size beyond 64 bits", CHUNKED + b"1" + b"0" * 16 + b"\r\n", BadRequest),
    ("chunk longer than it says", CHUNKED + b"2\r\nabc\r\n", BadRequest),
    ("blank before a chunk's extension", CHUNKED + b"2 ;x\r\nab\r\n", BadRequest),
    ("bare LF behind a chunk's size", CHUNKED + b"2\nab\r\n", BadRequest),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "kind"), [row[1:] for row in REFUSALS], ids=[row[0] for row in REFUSALS])
def test_refusals(raw: bytes, kind: type[ExchangeError]) -> None:
    """Each is refused by the right error, once, however it is cut, and nothing behind it is looked at."""
    for segments in every_cut(raw):
        events, _ = read_requests([*segments, request()])
        kinds = [event for event in normal(events) if isinstance(event, type)]
        assert kinds == [kind], segments
        assert isinstance(events[-1], kind)


@pytest.mark.parametrize("raw", [request("X Y: z"), request("Host: b"), request("Transfer-Encoding: gzip")])
def test_the_log_gets_the_request_line(raw: bytes) -> None:
    """A request that is refused for its fields is logged with its method, target and version."""
    error = refusal(raw)
    assert (error.head.method, error.head.target, error.head.version) == (b"GET", b"/", 11)


def test_the_log_gets_a_line_that_only_we_can_read() -> None:
    """Not the one that the parser got in its place."""
    for raw in (request(start="get /\xe4 HTTP/1.0"), request("X Y: z", start="FOO /\xe4 HTTP/1.0")):
        error = refusal(raw)
        assert (error.head.received, error.head.version) == (b"/\xe4", 10)
        assert error.head.method in {b"get", b"FOO"}


def test_the_log_gets_what_is_known_of_the_client() -> None:
    """Fields read before the refusal are in the log, too."""
    error = refusal(request("User-Agent: u", "Accept: */*", "X Y: z"))
    assert (error.head.user_agent, error.head.host) == (b"u", b"a")


@pytest.mark.parametrize(
    "raw", [b"\x16\x03\x01", b"GET /\r\n\r\n", b"GET /a b HTTP/1.1\r\n", b"GET / HTTP/7.3\r\n", b"X\r\n"]
)
def test_a_malformed_request_line_is_not_logged(raw: bytes) -> None:
    """Of a request line that makes no sense the log has a dash."""
    assert refusal(raw).head is None


@pytest.mark.parametrize("tail", [b"hello", b"5\r\nhelloX\r\n"])
def test_an_error_in_a_body_has_no_head(tail: bytes) -> None:
    """The exchange has begun: its own head is what is logged."""
    events, _ = read_requests([CHUNKED, tail])
    assert events[-1].head is None


# limits: exactly at the bound passes, one over doesn't

SMALL = replace(LIMITS, request_line=64, headers=200, header_count=5)


def at_request_line(size: int) -> bytes:
    """A request line of ``size`` bytes without its CRLF."""
    return request(start="GET /" + "a" * (size - len("GET / HTTP/1.1")) + " HTTP/1.1")


def at_headers(size: int) -> bytes:
    """Fields of ``size`` bytes with their CRLFs."""
    return request("X: " + "a" * (size - len("Host: a\r\nX: \r\n")))


def at_handled_headers(size: int) -> bytes:
    """The same, but in a field that isn't kept as a line."""
    return request("Keep-Alive: " + "a" * (size - len("Host: a\r\nKeep-Alive: \r\n")))


def at_count(count: int) -> bytes:
    """``count`` fields, some of them kept, some not."""
    return request(*(f"{'X' if index % 2 else 'Upgrade'}: a" for index in range(count - 1)))


BOUNDS: list[tuple[Callable[[int], bytes], int, type[ExchangeError]]] = [
    (at_request_line, 64, TargetTooLong),
    (at_headers, 200, HeadTooLarge),
    (at_handled_headers, 200, HeadTooLarge),
    (at_count, 5, HeadTooLarge),
]


@pytest.mark.parametrize(("write", "bound", "kind"), BOUNDS)
def test_limits(write: Callable[[int], bytes], bound: int, kind: type[ExchangeError]) -> None:
    """A head exactly at the bound passes, one byte or field more doesn't, however it is cut."""
    for segments in every_cut(write(bound)):
        events, _ = read_requests(segments, SMALL)
        assert len(events) == 1
        assert not isinstance(events[0], ExchangeError)
    for segments in every_cut(write(bound + 1)):
        events, _ = read_requests(segments, SMALL)
        assert [type(event) for event in events] == [kind]


@pytest.mark.parametrize(("write", "bound", "kind"), BOUNDS)
def test_limits_hold_for_each_request(write: Callable[[int], bytes], bound: int, kind: type[ExchangeError]) -> None:
    """What earlier requests of a connection took is not counted."""
    reader = RequestReader(HeadLimits(SMALL))
    for _ in range(30):
        assert len(reader.feed(write(bound))) == 1
    assert [type(event) for event in reader.feed(write(bound + 1))] == [kind]


def test_a_target_without_end_is_refused_early() -> None:
    """Nobody can make us remember a target much longer than allowed."""
    reader = RequestReader(HeadLimits(SMALL))
    fed = 0
    events: list[object] = reader.feed(b"GET /")
    while not events:
        events = reader.feed(b"a" * 50)
        fed += 50
        assert fed <= 200
    assert isinstance(events[0], TargetTooLong)


@pytest.mark.parametrize("filler", [b"X: y\r\n", b"aaaaaa", b"      "])
def test_a_head_without_end_is_refused(filler: bytes) -> None:
    """Nor fields, a name, or blanks without end."""
    reader = RequestReader(HeadLimits(SMALL))
    events: list[object] = reader.feed(b"GET / HTTP/1.1\r\nHost: a\r\nA: ")
    fed = 0
    while not events:
        events = reader.feed(filler * 100)
        fed += len(filler) * 100
        assert fed < 64 * 1024
    assert isinstance(events[0], HeadTooLarge)
    assert reader.feed(b"\r\n\r\n") == []


def test_a_large_head_within_the_limits_passes() -> None:
    """The default limits allow what browsers with many cookies send."""
    head = only_head(request("Cookie: " + "c" * 30_000, start="GET /" + "q" * 8000 + " HTTP/1.1"))
    assert len(head.lines[0]) == 30_010


@pytest.mark.parametrize("value", ["8", "9", "999"])
def test_what_has_come_back_too_often_is_refused(value: str) -> None:
    """A listener of ours behind another one is fine, a loop isn't."""
    assert isinstance(refusal(request(f"X-Pyproxy-Turns: {value}")), LoopDetected)


@pytest.mark.parametrize(("value", "turns"), [("7", 7), ("0", 0), ("-1", 0), ("x", 0), ("9" * 500, 0), ("", 0)])
def test_the_count_of_turns_is_taken_out(value: str, turns: int) -> None:
    """What isn't our own count counts for nothing, and no backend is sent it."""
    head = only_head(request(f"x-pyproxy-turns: {value}"))
    assert head.turns == turns
    assert not any(b"turns" in line.lower() for line in head.lines)


def test_fields_are_counted_while_they_come() -> None:
    """Nobody can make us hold many more fields than allowed by never ending the head."""
    reader = RequestReader(HeadLimits(LIMITS))
    events = reader.feed(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"Forwarded:\r\n" * 101)
    assert [type(event) for event in events] == [HeadTooLarge]


def test_blank_lines_before_a_request_are_bounded() -> None:
    """Some clients send one behind a body; nobody needs thousands."""
    for cut in (1, 7, 4096):
        reader = RequestReader(HeadLimits(LIMITS))
        events: list[object] = []
        fed = 0
        while not events:
            events = reader.feed((b"\r\n" * cut)[:cut])
            fed += cut
            assert fed < 8 * 1024
        assert isinstance(events[0], BadRequest)


@pytest.mark.parametrize("beginning", [b"X" * 50, b"FOO /" + b"a" * 50, b"GET /\xe4" + b"a" * 50])
def test_an_unusual_request_line_without_end_is_refused_early(beginning: bytes) -> None:
    """The limit holds for lines that only we can read, too."""
    reader = RequestReader(HeadLimits(SMALL))
    events = reader.feed(beginning)
    for _ in range(20):
        events = events or reader.feed(b"a")
    assert [type(event) for event in events] == [TargetTooLong]
    whole = beginning + b"a" * 20 + b" HTTP/1.1\r\nHost: a\r\n\r\n"
    assert isinstance(refusal(whole, SMALL), TargetTooLong)


@pytest.mark.parametrize("name", ["Connection", "Proxy-Connection", "TE"])
def test_members_of_a_list_are_bounded(name: str) -> None:
    """Nor can a long list make work for nothing; empty members count (RFC 9110, section 5.6.1.2)."""
    members = [f"x{number}" for number in range(101)]
    for value in (",".join(members), "," * 100):
        assert isinstance(refusal(request(f"{name}: {value}")), BadRequest)
    only_head(request(f"{name}: {','.join(members[:100])}"))


def test_lists_in_many_lines_are_bounded() -> None:
    """However the members are spread."""
    lines = [f"Connection: a{number}, b{number}" for number in range(51)]
    assert isinstance(refusal(request(*lines)), BadRequest)
    only_head(request(*lines[:50]))
    assert isinstance(refusal(request("Connection: upgrade", *(f"Upgrade: {'x' * 200}" for _ in range(6)))), BadRequest)
