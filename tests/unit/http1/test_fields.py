"""Pins the table of fields: spellings are learnt, but not without end; the meaning doesn't depend on them."""

import doctest
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

from pyproxy.http1 import chunks, fields, head, reader, request, request_line, response, target, tracking, writer
from pyproxy.http1.fields import (
    REQUEST_FIELDS,
    RESPONSE_FIELDS,
    SPELLING_LENGTH_MAX,
    SPELLINGS_MAX,
    tokens,
    without_nominated,
)
from tests.unit.http1.feeding import only_head, read_response
from tests.unit.http1.feeding import request as write_request
from tests.unit.http1.feeding import response as write_response


@pytest.fixture(autouse=True)
def tables_as_before() -> Iterator[None]:
    """Leave no spellings behind."""
    requests, responses = dict(REQUEST_FIELDS), dict(RESPONSE_FIELDS)
    yield
    REQUEST_FIELDS.clear()
    REQUEST_FIELDS.update(requests)
    RESPONSE_FIELDS.clear()
    RESPONSE_FIELDS.update(responses)


@pytest.mark.parametrize(
    "module", [chunks, fields, head, reader, request, request_line, response, target, tracking, writer]
)
def test_doctests(module: ModuleType) -> None:
    """The examples in the documentation are true."""
    assert doctest.testmod(module).failed == 0


def test_spellings_are_remembered() -> None:
    """A spelling is classified once."""
    assert b"x-nEw-FieLd" not in REQUEST_FIELDS
    only_head(write_request("x-nEw-FieLd: 1", "hOsT-iNfo: 2"))
    assert REQUEST_FIELDS[b"x-nEw-FieLd"] is None


def test_request_spellings_are_bounded() -> None:
    """A client that invents names doesn't make the table grow for ever; the names still pass."""
    for index in range(SPELLINGS_MAX + 100):
        name = b"X-Invented-%d" % index
        assert only_head(write_request(name + b": 1")).lines == [name + b": 1\r\n"]
    assert len(REQUEST_FIELDS) <= SPELLINGS_MAX


def test_response_spellings_are_bounded() -> None:
    """Nor does a backend."""
    for index in range(SPELLINGS_MAX + 100):
        events, _ = read_response([write_response(f"X-Invented-{index}: 1")])
        assert events[0].lines == [b"X-Invented-%d: 1\r\n" % index]
    assert len(RESPONSE_FIELDS) <= SPELLINGS_MAX


def test_long_spellings_are_not_remembered() -> None:
    """Nor do long names take memory."""
    name = "X" * (SPELLING_LENGTH_MAX + 1)
    only_head(write_request(f"{name}: 1"))
    assert name.encode() not in REQUEST_FIELDS


def test_a_full_table_changes_nothing() -> None:
    """With the table full of strangers, fields in new spellings still mean what they mean."""
    for index in range(SPELLINGS_MAX):
        REQUEST_FIELDS[b"x-%d" % index] = None
    seen = only_head(write_request("cOnNeCtIoN: close", "tE: trailers", "x_UnDeR: 1", host="hOsT: b"))
    assert (seen.keep_alive, seen.te_trailers, seen.host, seen.lines) == (False, True, b"b", [])


@pytest.mark.parametrize(
    ("name", "passes"),
    [
        ("X-Forwarded-Prefix", False), ("x-forwarded-CLIENT-cert", False), ("X-Forwarded-", False),
        ("X.Forwarded.For", False), ("X-Forwarded.Proto", False), ("X~Real~IP", False), ("Content.Length", False),
        ("X-Forwarded", True), ("X-Forward-For", True), ("X.Custom", True), ("X-Real-IPs", True),
    ],
)  # fmt: skip
def test_names_that_speak_of_the_client(name: str, passes: bool) -> None:
    """Every X-Forwarded-* is set apart, and what PHP or CGI would take for one of our fields is dropped."""
    for _ in range(2):  # learnt, and known
        seen = only_head(write_request(f"{name}: 1"))
        assert seen.lines == ([f"{name}: 1\r\n".encode()] if passes else [])
        is_forwarded = name.lower().startswith("x-forwarded-") and "." not in name
        assert seen.forwarded == ([(name.lower().encode(), b"1")] if is_forwarded else None)


@pytest.mark.parametrize("spell", [str.lower, str.upper, str.title, str.swapcase])
def test_spelling_does_not_matter(spell: Callable[[str], str]) -> None:
    """Field names mean the same in every spelling."""
    names = ("Connection", "Upgrade", "Keep-Alive", "X-Request-Id", "X-Forwarded-For", "Content-Length")
    values = ("x", "h2c", "5", "abc", "1.2.3.4", "0")
    for _ in range(2):  # learnt, and known
        seen = only_head(write_request(*(f"{spell(name)}: {value}" for name, value in zip(names, values, strict=True))))
        assert (seen.lines, seen.request_id, seen.content_length) == ([], b"abc", 0)
        assert seen.forwarded == [(b"x-forwarded-for", b"1.2.3.4")]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"", []),
        (b",, ,", []),
        (b"a", [b"a"]),
        (b" A ,b\t,", [b"a", b"b"]),
        (b"a b", []),
        (b"close\xa0", []),
        (b"\xa0a, b", [b"b"]),
        (b"a\x85,\x0bb,c\x0c,d", [b"d"]),
        (b"a;q=1, b/1, c", [b"c"]),
        (b"a" * 9000, [b"a" * 9000]),
    ],
)
def test_tokens(value: bytes, expected: list[bytes]) -> None:
    """Lists may have blanks and empty members; tokens are compared in lower case, and only tokens."""
    assert tokens(value) == expected


def test_without_nominated() -> None:
    """Only whole names count, in any spelling."""
    lines = [b"X-A: 1\r\n", b"x-ab: x-a: 2\r\n", b"X-a: 3\r\n"]
    assert without_nominated(lines, {b"x-a"}) == [b"x-ab: x-a: 2\r\n"]
