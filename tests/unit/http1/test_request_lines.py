"""Pins how request lines are read that the parser stumbles over, wherever they begin."""

import pytest

from pyproxy.http1.head import END
from pyproxy.http1.limits import HeadLimits
from pyproxy.http1.request import RequestReader
from tests.unit.http1.feeding import LIMITS, every_cut, normal, only_head, read_requests, refusal, request

PLAIN = request()
CHUNKED = request("Transfer-Encoding: chunked", start="POST /p HTTP/1.1")


def test_another_method_is_read_with_all_that_belongs_to_it() -> None:
    """Methods are tokens, also those that the parser doesn't know; the request is read like any other."""
    raw = request("Content-Length: 2", "X: 1", start="RPC_IN_DATA /a/%41?b HTTP/1.1", body=b"hi")
    head, body, end, following = normal(read_requests([raw + PLAIN])[0])
    assert (head["method"], head["target"], head["version"]) == (b"RPC_IN_DATA", b"/a/%41?b", 11)
    assert (head["lines"], head["content_length"], head["keep_alive"]) == ([b"X: 1\r\n"], 2, True)
    assert (body, end) == (b"hi", END)
    assert following["method"] == b"GET"


def test_bytes_beyond_ascii_travel_percent_encoded() -> None:
    """What no target may have as it is: the log gets it as it came, a backend as it should have been."""
    head = only_head(request(start="GET /caf\xc3\xa9?s=\xe4 HTTP/1.1"))
    assert head.received == b"/caf\xc3\xa9?s=\xe4"
    assert head.target == b"/caf%C3%A9?s=%E4"


@pytest.mark.parametrize("framing", ["chunked", "chunked\t"])
@pytest.mark.parametrize("trailers", ["", "X: y\r\n"])
@pytest.mark.parametrize("blanks", ["", "\r\n"])
@pytest.mark.parametrize(
    "start",
    ["FOO /a HTTP/1.1", "FOO /a HTTP/1.0", "GET / RTSP/1.0", "G@T / HTTP/1.1", "GET / HTTP/1.0", "PRI /a HTTP/1.1"],
)
def test_behind_a_chunked_body_a_request_is_read_as_the_first_one(
    framing: str, trailers: str, blanks: str, start: str
) -> None:
    """Though the parser doesn't say where it begins, if both come in the same segment."""
    chunked = request(f"Transfer-Encoding: {framing}", start="POST /p HTTP/1.1") + b"4\r\n\r\n\r\n\r\n0\r\n"
    raw = blanks.encode() + request(start=start)
    first = normal(read_requests([raw])[0])
    for segments in every_cut(chunked + trailers.encode() + b"\r\n" + raw):
        _, body, end, *following = normal(read_requests(segments)[0])
        assert (body, end, following) == (b"\r\n\r\n", END, first), segments


@pytest.mark.parametrize(
    "start", ["PRI * HTTP/1.1", "PRI / HTTP/1.1", "PRI * HTTP/2.0", "PRI  / HTTP/1.1", "PRI / HTTP/1"]
)
def test_the_method_of_a_preface_is_read_as_any_other(start: str) -> None:
    """The parser would wait for the rest of a preface: each gets what another method would have got, and at once."""
    for raw in (f"{start}\r\n\r\n".encode(), request(start=start), f"{start}\r\n\r\nSM\r\n\r\n".encode()):
        other = raw.replace(b"PRI", b"FOO", 1)
        (expected, *_) = normal(read_requests([other])[0])
        for segments in every_cut(raw):
            (found, *_) = normal(read_requests(segments)[0])
            assert (found if isinstance(found, type) else {**found, "method": b"FOO"}) == expected, segments


@pytest.mark.parametrize("lines", [(), ("Host: b",)])
def test_a_refused_head_keeps_its_method(lines: tuple[str, ...]) -> None:
    """The log tells what the client wrote, not what the parser got in its place."""
    error = refusal(request(*lines, start="FOO / HTTP/1.1", host="Host: a" if lines else ""))
    assert error.head is not None
    assert error.head.method == b"FOO"


def test_a_method_in_pieces_behind_a_body_in_pieces() -> None:
    """What came of a method with the end of a chunked body is never left out of it."""
    reader = RequestReader(HeadLimits(LIMITS))
    reader.feed(CHUNKED + b"1\r\na\r\n")
    reader.feed(b"0\r\n\r\nGE")
    (head,) = reader.feed(b"TX / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert head.method == b"GETX"


def test_many_unusual_requests_in_one_segment() -> None:
    """They are read one after the other, not one within the other."""
    raw = request(start="X /\xe4 HTTP/1.1") * 1500
    events, _ = read_requests([raw])
    assert [event.method for event in events] == [b"X"] * 1500
