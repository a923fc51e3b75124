"""Pins what a head says under a name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyproxy.http1.head import RequestHead
from pyproxy.routing.fields import field_values
from tests.unit.routing.heads import make_head

HEAD = make_head(
    "X-Canary: 1",
    "Accept: a",
    "X-Empty:",
    "accept: b, c",
    "X-Forwarded-Proto: https",
    "TE: trailers",
    "X-Canary-Two: 2",
    "x_under: 3",
    "Blanks:  a b \t",
    "User-Agent: X-Agent: 4",
)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"x-canary", b"1"),
        (b"accept", b"a, b, c"),
        (b"x-empty", b""),
        (b"x-forwarded-proto", b"https"),
        (b"te", b"trailers"),
        (b"host", b"h"),
        (b"blanks", b"a b"),
        (b"user-agent", b"X-Agent: 4"),
        (b"x-agent", None),
        (b"canary", None),
        (b"x-canar", None),
        (b"x-absent", None),
    ],
)
def test_value(name: bytes, value: bytes | None) -> None:
    """In any spelling, whole names only, several fields as one list, also what the reader keeps for us."""
    assert field_values(HEAD, [name]).get(name) == value


def test_a_name_with_an_underscore_is_never_found() -> None:
    """It is dropped on the way to the backend, so it must not choose one."""
    assert (b"x_under", b"3") in HEAD.handled
    assert field_values(HEAD, [b"x_under"]) == {}


def test_several_names() -> None:
    """What is there is in the answer, what is absent isn't."""
    assert field_values(HEAD, [b"x-canary-two", b"x-absent", b"te"]) == {b"x-canary-two": b"2", b"te": b"trailers"}
    assert field_values(RequestHead(b"/"), [b"te"]) == {}


NAMES = st.sampled_from(["a", "A", "ab", "b", "aB"])
VALUES = st.sampled_from(["", "1", "a:", "b: 2"])


@given(st.lists(st.tuples(NAMES, VALUES), max_size=6))
def test_the_search_agrees_with_looking_at_each_line(fields: list[tuple[str, str]]) -> None:
    """Searching all lines at once finds what going through them does."""
    head = RequestHead(b"/")
    head.lines = [f"{name}: {value}\r\n".encode() for name, value in fields]
    expected: dict[bytes, bytes] = {}
    for name, value in fields:
        key = name.lower().encode()
        expected[key] = expected[key] + b", " + value.encode() if key in expected else value.encode()
    assert field_values(head, [b"a", b"ab", b"b"]) == expected
