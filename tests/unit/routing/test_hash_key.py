"""Pins what policy hash looks at."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyproxy.http1.head import RequestHead
from pyproxy.routing.hash_key import make_hash_key
from tests.unit.routing.heads import make_head

CLIENT = b"192.0.2.1"
STAND_IN = b"\x00192.0.2.1"
HEAD = make_head(
    "X-User: ann",
    "X-Empty:",
    "X-Note: session=9",
    'Cookie: a=1; session="x=y"; empty=; session=second',
    "cookie: late=2;tight=3",
    "Set-Cookie: other=4",
    target="/a/../b?c",
)


@pytest.mark.parametrize(
    ("spec", "key"),
    [
        ("client_ip", CLIENT),
        ("uri", b"/b?c"),
        ("header:X-User", b"ann"),
        ("header:x-USER", b"ann"),
        ("header:Host", b"h"),
        ("header:X-Empty", STAND_IN),
        ("header:X-Absent", STAND_IN),
        ("cookie:session", b'"x=y"'),
        ("cookie:a", b"1"),
        ("cookie:late", b"2"),
        ("cookie:tight", b"3"),
        ("cookie:empty", STAND_IN),
        ("cookie:Session", STAND_IN),
        ("cookie:ession", STAND_IN),
        ("cookie:other", STAND_IN),
        ("cookie:x", STAND_IN),
    ],
)
def test_key(spec: str, key: bytes) -> None:
    """The client's address, the matched target, a header, a cookie; without a value it is the client's address."""
    assert make_hash_key(spec).of(HEAD, CLIENT) == key


@given(st.sampled_from(["header:X-User", "cookie:session"]), st.text(st.characters(min_codepoint=32), max_size=12))
def test_nobody_chooses_to_be_taken_for_a_client_without_a_value(spec: str, value: str) -> None:
    """What a client can send in a header or cookie is never the key of one that sends none."""
    head = RequestHead(b"/")
    data = value.encode("utf-8", "surrogatepass")
    head.lines = [b"X-User: %b\r\n" % data, b"Cookie: session=%b\r\n" % data]
    none = make_hash_key(spec).of(RequestHead(b"/"), data)
    assert none != make_hash_key(spec).of(head, b"192.0.2.1")
