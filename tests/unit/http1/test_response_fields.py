"""Pins what the fields of an answer mean: which are refused, and what is noticed by the way."""

import pytest

from pyproxy.errors import BadResponse
from tests.unit.http1.feeding import read_response, response


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (("Transfer-Encoding: chunked",) * 2, "transfer coding other than one chunked"),
        (("Transfer-Encoding: chunked, chunked",), "transfer coding other than one chunked"),
        (("Transfer-Encoding: chunked\t",), "transfer coding other than one chunked"),
        (("Transfer-Encoding: gzip",), "transfer coding other than one chunked"),
        (("Content-Length: 9223372036854775808",), "Content-Length is too large"),
        (("Content-Length: 18446744073709551615",), "Content-Length is too large"),
        (("Content-Length: 99999999999999999999999",), "Content-Length is too large"),
        (("Content-Length: " + 5000 * "0" + "2",), "Content-Length is too large"),
        (("X: a\x01b",), "a control character in a field's value"),
        (("X: a\x7fb",), "a control character in a field's value"),
        (("X: a\x00b",), "a control character in a field's value"),
        (("X: a\rb",), "a CR inside a header line"),
        (("X: a\nY: b",), "a header line ends in LF without CR"),
    ],
)
def test_a_bad_field_is_named(lines: tuple[str, ...], reason: str) -> None:
    """No client gets an answer that two readers may take for two different ones; the reason says what was wrong."""
    for head_only in (False, True):
        events, _ = read_response([response(*lines, body=b"0\r\n\r\n")], head_only=head_only)
        assert isinstance(events[-1], BadResponse)
        assert str(events[-1]) == reason


def test_the_largest_length() -> None:
    """What fits into 63 bits is a length."""
    events, _ = read_response([response("Content-Length: 9223372036854775807")])
    assert events[0].content_length == 2**63 - 1


@pytest.mark.parametrize(
    ("lines", "has_date"),
    [
        (("Date: x",), True),
        (("dAtE: x",), True),
        (("X-Date: x",), False),
        (("Date: x", "Connection: date"), False),
        ((), False),
    ],
)
def test_a_date_is_noticed(lines: tuple[str, ...], has_date: bool) -> None:
    """In whatever spelling, also the first time that it is seen; one that doesn't travel on is none."""
    for _ in range(2):
        events, _ = read_response([response("Content-Length: 0", *lines)])
        assert events[0].has_date is has_date
        assert len(events[0].lines) == len([line for line in lines if "onnection" not in line]) - (
            "Connection: date" in lines
        )


@pytest.mark.parametrize(
    ("line", "asks"),
    [
        ("WWW-Authenticate: NTLM", True),
        ("WWW-Authenticate: ntlm TlRMTVNTUAAC", True),
        ("www-authenticate: Negotiate", True),
        ('WWW-Authenticate: Basic realm="x", NTLM', True),
        ('WWW-Authenticate: Negotiate, Basic realm="x"', True),
        ("Proxy-Authenticate: Negotiate YII=", True),
        ('WWW-Authenticate: Basic realm="NTLM, NTLM"', False),
        ("WWW-Authenticate: Digest ntlm=1, qop=negotiate", False),
        ("WWW-Authenticate: NTLMv3, Basic", False),
        ('WWW-Authenticate: Basic realm="never closed, NTLM', False),
        ("X-Authenticate: NTLM", False),
    ],
)
def test_a_login_that_holds_for_the_connection(line: str, asks: bool) -> None:
    """Is told by the scheme of any challenge, however it is spelt and listed, and by nothing within quotes."""
    events, _ = read_response([response(line, "Content-Length: 0", start="HTTP/1.1 401 No")])
    assert events[0].asks_login is asks
