"""Pins which cookies are taken out of a head, and that nothing else of it changes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyproxy.routing.cookies import take_cookie

HOST = b"Host: a\r\n"


@pytest.mark.parametrize(
    ("line", "rest", "values"),
    [
        # where it stands
        (b"Cookie: SRV=x", None, [b"x"]),
        (b"Cookie: SRV=x; a=1", b"Cookie: a=1", [b"x"]),
        (b"Cookie: a=1; SRV=x; b=2", b"Cookie: a=1; b=2", [b"x"]),
        (b"Cookie: a=1; SRV=x", b"Cookie: a=1", [b"x"]),
        (b"Cookie: SRV=x; SRV=y; a=1; SRV=z", b"Cookie: a=1", [b"x", b"y", b"z"]),
        # how it is written
        (b"cookie: SRV=x;a=1", b"cookie: a=1", [b"x"]),
        (b"COOKIE: a=1;SRV=x;b=2", b"COOKIE: a=1;b=2", [b"x"]),
        (b"Cookie: a=1 ;  SRV = x ; b=2", b"Cookie: a=1 ; b=2", [b"x"]),
        (b'Cookie: SRV="x"; a="1"', b'Cookie: a="1"', [b"x"]),
        (b"Cookie: SRV=; a=1", b"Cookie: a=1", [b""]),
        (b"Cookie: SRV=x=y; a=1", b"Cookie: a=1", [b"x=y"]),
        (b"Cookie: SRV=x;", None, [b"x"]),
        (b"Cookie: ; SRV=x; ;", None, [b"x"]),
        # what is somebody else's
        (b"Cookie: a=SRV; b=1", b"Cookie: a=SRV; b=1", []),
        (b"Cookie: SRV", b"Cookie: SRV", []),
        (b"Cookie: srv=x; SRV2=y; XSRV=z", b"Cookie: srv=x; SRV2=y; XSRV=z", []),
        (b"Cookie:  a=1;;SRV2=y ", b"Cookie:  a=1;;SRV2=y ", []),
        (b"X-Cookie: SRV=x", b"X-Cookie: SRV=x", []),
        (b"Cookie2: SRV=x", b"Cookie2: SRV=x", []),
        (b"Set-Cookie: SRV=x", b"Set-Cookie: SRV=x", []),
    ],
)
def test_what_is_taken_and_what_is_left(line: bytes, rest: bytes | None, values: list[bytes]) -> None:
    """Every cookie of the name goes, wherever it is; a line without cookies goes too."""
    after = [] if rest is None else [rest + b"\r\n"]
    lines = [HOST, line + b"\r\n", HOST]
    assert list(take_cookie(lines, b"SRV")) == values
    assert lines == [HOST, *after, HOST]


def test_several_lines() -> None:
    """HTTP/2 gateways split cookies over several: all are looked at, in order."""
    lines = [b"Cookie: SRV=x\r\n", b"Cookie: a=1\r\n", b"Cookie: b=2; SRV=y\r\n"]
    assert take_cookie(lines, b"SRV") == [b"x", b"y"]
    assert lines == [b"Cookie: a=1\r\n", b"Cookie: b=2\r\n"]


OTHER = st.tuples(st.sampled_from([b"a", b"srv", b"SRV2", b"XSRV"]), st.from_regex(rb"[!-:<-~]{0,6}", fullmatch=True))
OURS = st.tuples(st.just(b"SRV"), st.from_regex(rb"[!#-:<-~]{0,6}", fullmatch=True))


@given(headers=st.lists(st.lists(st.one_of(OTHER, OURS), min_size=1, max_size=5), max_size=4))
def test_other_cookies_never_change(headers: list[list[tuple[bytes, bytes]]]) -> None:
    """Whatever comes in whatever order, the others arrive as they were and ours are gone, each with its value."""

    def line(pairs: list[tuple[bytes, bytes]]) -> bytes:
        return b"Cookie: " + b"; ".join(b"%b=%b" % pair for pair in pairs) + b"\r\n"

    others = [[pair for pair in pairs if pair[0] != b"SRV"] for pairs in headers]
    lines = [line(pairs) for pairs in headers]
    values = take_cookie(lines, b"SRV")
    assert lines == [line(pairs) for pairs in others if pairs]
    assert list(values) == [value for pairs in headers for name, value in pairs if name == b"SRV"]
