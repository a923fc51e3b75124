"""Why a message was refused, in words: each kind of fault has its own, and no value of a field is ever told."""

import pytest

from pyproxy.config.runtime import Limits
from pyproxy.errors import ExchangeError
from pyproxy.http1.faults import explain_fault
from pyproxy.http1.limits import HeadLimits
from pyproxy.http1.request import RequestReader
from pyproxy.http1.response import ResponseReader

SECRET = b"opensesame"
NAME = "a field's name has a character that may not be there"

REQUESTS = {
    b"GET /r HTTP/1.1\r\nHost: x\r\nSome Header: opensesame\r\n\r\n": f"{NAME}: Some Header",
    b"GET /r HTTP/1.1\r\nHost: x\r\nCookie : opensesame\r\n\r\n": f"{NAME}: Cookie ",
    b"GET /r HTTP/1.1\r\nHost: x\r\nsession=opensesame\r\n\r\n": "a header line without a colon: session",
    b"GET /r HTTP/1.1\r\n: opensesame\r\n\r\n": "a header line without a name",
    b"GET /r HTTP/1.1\r\nHost: x\r\nA: b\r\nCookie: opensesame\x01\r\n\r\n": (
        "a control character in a field's value: Cookie"
    ),
    b"GET /r HTTP/1.1\r\nHost: x\r\nA: opensesame\x01\r\nB: \x01\r\n\r\n": "a control character in a field's value: A",
    b"GET /r HTTP/1.1\r\nHost: x\r\nCookie: a\r\n opensesame\r\n\r\n": (
        "a header line begins with a blank (an obsolete folded line)"
    ),
    b"GET /r HTTP/1.1\r\n Host: x\r\n\r\n": "the first header line begins with a blank",
    b"GET /r HTTP/1.1\nHost: x\r\n\r\n": "the request line doesn't end in CRLF: GET /r HTTP/1.1",
    b"GET /r HTTP/1.1\r\nHost: x\n\r\n": "a header line ends in LF without CR",
    b"GET /r HTTP/1.1\r\nHost: x\ry\r\n\r\n": "a CR inside a header line",
    b"POST /r HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n": "two Content-Length fields: 1, 2",
    b"POST /r HTTP/1.1\r\nContent-Length: +1\r\n\r\n": "Content-Length is no number: +1",
    b"POST /r HTTP/1.1\r\nContent-Length: opensesame\r\n\r\n": "Content-Length is no number",
    b"POST /r HTTP/1.1\r\nContent-Length: " + b"9" * 80 + b"\r\n\r\n": (
        "Content-Length is too large: " + "9" * 60 + "..."
    ),
    b"POST /r HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n": (
        "both Content-Length and Transfer-Encoding"
    ),
    b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n": "not HTTP: GET /a b HTTP/1.1",
    b"get / HTTP/1.1\r\nHost: x\r\n\r\n": "method get instead of GET",
    b"G@T / HTTP/1.1\r\nHost: x\r\n\r\n": "the method is unknown or malformed: G@T / HTTP/1.1",
    b"\x16\x03\x01\x02\x00\x01": "TLS where plain HTTP is spoken",
    b"GET /\x01 HTTP/1.1\r\n\r\n": "the target has a character that must be percent-encoded: GET /\x01 HTTP/1.1",
    b"GET /r HTTP/1.2\r\nHost: x\r\n\r\n": "the HTTP version is not supported: GET /r HTTP/1.2",
    b"POST /r HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n": (
        "the size of a chunk is no hexadecimal number"
    ),
    b"POST /r HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n": (
        "a chunk is longer than its size says"
    ),
}
RESPONSES = {
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc": "two Content-Length fields: 2, 3",
    b"HTTP/1.1 200 OK\r\nsh: cannot create log\r\nWarning without colon\r\n\r\n": (
        "a header line without a colon: Warning without colon"
    ),
    b"HTTP/1.1 200 OK\r\nPHP Warning: opensesame\r\n\r\n": f"{NAME}: PHP Warning",
    b"HTTP/1.1 20 OK\r\n\r\n": "the status has fewer than three digits: HTTP/1.1 20 OK",
    b"HTTP/1.1 999 Denied\r\n\r\n": "status 999",
    b"SSH-2.0-OpenSSH\r\n": "not HTTP: SSH-2.0-OpenSSH",
    b"\x15\x03\x01\x00\x02\x02\x0a": "TLS where plain HTTP is spoken",
    b"HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nok": "the status line ends in LF without CR",
}


def refusal(events: list[object]) -> ExchangeError:
    """Give the error that ends a list of events."""
    assert isinstance(events[-1], ExchangeError)
    return events[-1]


def read_request(*pieces: bytes) -> ExchangeError:
    """Give what a reader says of a request that it refuses."""
    reader = RequestReader(HeadLimits(Limits(8192, 32768, 100, None, 0)))
    return refusal([event for piece in pieces for event in reader.feed(piece)])


@pytest.mark.parametrize(("data", "why"), REQUESTS.items())
def test_a_request(data: bytes, why: str) -> None:
    """The reason names the fault; where the request line is to blame, it is quoted as far as it came."""
    error = read_request(data)
    assert error.why.decode() == why
    assert SECRET not in error.why
    assert "\r" not in str(error)


@pytest.mark.parametrize(("data", "why"), RESPONSES.items())
def test_a_response(data: bytes, why: str) -> None:
    """The reason says what the backend sent."""
    reader = ResponseReader()
    reader.begin(head_only=False)
    error = refusal(reader.feed(data))
    assert error.why.decode() == why
    assert SECRET not in error.why


@pytest.mark.parametrize("data", [data for data in REQUESTS if b"\r\n" in data])
def test_however_it_comes_no_secret_is_told(data: bytes) -> None:
    """In pieces of any size: the words are the same or plainer, and what is quoted is no value."""
    for size in (1, 7, 20):
        pieces = [data[start : start + size] for start in range(0, len(data), size)]
        error = read_request(*pieces)
        assert SECRET not in error.why
        assert len(error.why) <= 303


def test_a_second_request_is_not_blamed_on_the_first() -> None:
    """In one read with a good one, a bad request line is not quoted from the wrong message."""
    good = b"GET /good HTTP/1.1\r\nHost: x\r\n\r\n"
    error = read_request(good + b"G@T / HTTP/1.1\r\n\r\n")
    assert error.why == b"the method is unknown or malformed: G@T / HTTP/1.1"


def test_a_text_that_is_not_known_stays_as_it_is() -> None:
    """A newer parser may say something else."""
    assert explain_fault("Something new", b"", begins=False, is_request=True) == ("Something new", b"")
