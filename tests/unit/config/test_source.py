"""Nodes to values: YAML 1.2 core scalars, the environment, duplicate keys, tags."""

import math
from typing import Any

import pytest

from pyproxy.config.source import BROKEN, Source, read_source, show_path
from pyproxy.config.tree import UnreadableError, parse_tree


def read(text: str, environ: dict[str, str] | None = None) -> Source:
    """Read a text that is YAML."""
    root = parse_tree(text)
    assert root is not None
    return read_source(root, environ or {})


def problems(source: Source) -> list[tuple[int, int, str, str]]:
    """What was found, as tuples."""
    return [(item.line, item.column, item.path, item.text) for item in source.problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("False", False),
        ("TRUE", True),
        ("on", "on"),
        ("off", "off"),
        ("yes", "yes"),
        ("No", "No"),
        ("y", "y"),
        ("null", None),
        ("~", None),
        ("", None),
        ("Null", None),
        ("nUll", "nUll"),
        ("12", 12),
        ("-12", -12),
        ("+12", 12),
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        ("0b11", "0b11"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("190:20:30", "190:20:30"),
        ("1.5", 1.5),
        ("1.", 1.0),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("-.inf", -math.inf),
        (".Inf", math.inf),
        ("2024-01-01", "2024-01-01"),
        ("=", "="),
        ("'12'", "12"),
        ('"true"', "true"),
        ("!!str 12", "12"),
        ("! 12", "12"),
        ("!!int '12'", 12),
        ("!!float 12", 12),
        ("!!bool true", True),
        ("|\n  text\n", "text\n"),
    ],
)
def test_scalars_of_the_core_schema(text: str, value: Any) -> None:
    """YAML 1.2 core, nothing of 1.1: no sexagesimals, no yes and no, octal only as 0o."""
    source = read(f"a: {text}")
    assert source.data == {"a": value}
    assert type(source.data["a"]) is type(value)
    assert source.problems == []


def test_nan_is_a_number() -> None:
    """The one value that isn't equal to itself."""
    assert math.isnan(read("a: .nan").data["a"])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("!foo x", "tag !foo is not allowed here"),
        ('"a\\0b"', "character U+0000 is not allowed"),
        ("!!binary aGk=", "tag !!binary is not allowed here"),
        ("!!timestamp 2024-01-01", "tag !!timestamp is not allowed here"),
        ("!!python/object:os.system x", "tag !!python/object:os.system is not allowed here"),
        ("!!set {a, b}", "tag !!set is not allowed here"),
        ("!!map [a]", "tag !!map is not allowed here"),
        ("!!int abc", "is not of type int, as its tag says"),
        ("12345678901234567890", "is too long for a number; quote it if it is a text"),
    ],
)
def test_values_that_cannot_be_read(text: str, problem: str) -> None:
    """The place is the value's, and the value is marked so that nothing more is said about it."""
    source = read(f"x: 1\na:\n  - {text}")
    assert problems(source) == [(3, 5, "a[0]", problem)]
    assert source.data["a"] == [BROKEN]
    assert source.is_broken(("a", 0, "deeper"))
    assert not source.is_broken(("a",))


@pytest.mark.parametrize(
    ("text", "environ", "value"),
    [
        ("${A}", {"A": "web"}, "web"),
        ("${A}", {"A": "3"}, 3),
        ("${A}", {"A": "true"}, True),
        ("${A}", {"A": "null"}, None),
        ("${A}", {"A": ""}, ""),
        ('"${A}"', {"A": "3"}, "3"),
        ("'${A}'", {"A": "3"}, "3"),
        ("1${A}.0", {"A": "0"}, 10.0),
        ("${A}:${B}", {"A": "10.0.0.1", "B": "80"}, "10.0.0.1:80"),
        ("${A:-fallback}", {}, "fallback"),
        ("${A:-fallback}", {"A": ""}, "fallback"),
        ("${A:-fallback}", {"A": "set"}, "set"),
        ("${A:-}", {}, ""),
        ("${A:-5s}", {}, "5s"),
        ("${A:-http://x:80/}", {}, "http://x:80/"),
        ("${A}", {"A": "${B}", "B": "no"}, "${B}"),
        ("$host $$ $A {A}", {"A": "no"}, "$host $$ $A {A}"),
    ],
)
def test_environment(text: str, environ: dict[str, str], value: Any) -> None:
    """Substituted once, before a plain scalar gets its type; an empty value stays a text."""
    source = read(f"a: {text}", environ)
    assert source.problems == []
    assert source.data == {"a": value}


@pytest.mark.parametrize("value", ["x\nb: 2", "{b: 2}", "[1]", "*a", "&a 1", "!!int 1", "# gone", "<<", "- x"])
def test_environment_brings_no_structure(value: str) -> None:
    """Whatever a variable holds, it is one text in one place."""
    source = read("a: ${A}\n${K}: 1\n", {"A": value, "K": "k"})
    assert source.data == {"a": value, "k": 1}
    assert source.problems == []


@pytest.mark.parametrize(
    ("text", "environ", "problem"),
    [
        ("${A}", {}, "environment variable A is not set"),
        ('"x ${A} y"', {}, "environment variable A is not set"),
        ("${host}", {}, "environment variable host is not set; the variable of a request is $host"),
        ("${}", {}, "after ${ there must be NAME} or NAME:-default}"),
        ("${A-b}", {"A": "x"}, "after ${ there must be NAME} or NAME:-default}"),
        ("${1A}", {}, "after ${ there must be NAME} or NAME:-default}"),
        ("${A", {"A": "x"}, "after ${ there must be NAME} or NAME:-default}"),
        ("${A}", {"A": "\udcff"}, "environment variable A is not valid UTF-8"),
        ("${A}${A}", {"A": "x" * 3_000_000}, "too much text comes from the environment"),
    ],
)
def test_environment_problems(text: str, environ: dict[str, str], problem: str) -> None:
    """A missing variable is a problem at the value that uses it."""
    assert problems(read(f"b: 1\na: {text}", environ)) == [(2, 4, "a", problem)]


def test_the_environment_is_never_repeated() -> None:
    """A secret from the environment doesn't show in a problem."""
    found = problems(read("a: !!int ${A}", {"A": "hunter2"}))
    assert len(found) == 1
    assert "hunter2" not in str(found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2\n'a': 3", (3, 1, "a", "duplicate key; the first is on line 1")),
        ("b: {x: 1, x: 2}", (1, 11, "b.x", "duplicate key; the first is on line 1")),
        ("1: a\n'1': b", (2, 1, "1", "duplicate key; the first is on line 1")),
        ("a: &a {x: 1}\nb:\n  <<: *a", (3, 3, "b", "unknown key <<; merge keys are not supported, write")),
        ("b: 1\n? [x]\n: 1", (2, 3, "", "a key must be a text")),
        ("!foo a: 1", (1, 1, "", "tag !foo is not allowed here")),
        ("b:\n  ${A}: 1", (2, 3, "b", "environment variable A is not set")),
    ],
)
def test_keys(text: str, expected: tuple[int, int, str, str]) -> None:
    """Problems of a key stand where the key stands."""
    found = problems(read(text))
    assert len(found) == 1
    assert found[0][:3] == expected[:3]
    assert found[0][3].startswith(expected[3])


def test_keys_are_texts() -> None:
    """A status code or ``on`` as a key is what is written there."""
    assert read("503: a\non: b\nnull: c\n0x10: d").data == {"503": "a", "on": "b", "null": "c", "0x10": "d"}


def test_places_of_values_keys_and_what_is_missing() -> None:
    """A path that isn't in the file stands where the mapping is that lacks it."""
    source = read("a:\n  b: 1\n")
    source.report(("a", "b"), "value")
    source.report(("a", "b"), "key", at_key=True)
    source.report(("a", "missing"), "lacks")
    source.report(("a", "b", "c", 0), "deep")
    assert problems(source) == [
        (2, 6, "a.b", "value"),
        (2, 3, "a.b", "key"),
        (2, 3, "a.missing", "lacks"),
        (2, 6, "a.b.c[0]", "deep"),
    ]


def test_aliases_are_bounded() -> None:
    """A file of a few hundred bytes can't ask for a billion values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    with pytest.raises(UnreadableError, match="more than 500000 values"):
        read("\n".join(lines))


def test_aliases_cannot_nest_deeper_than_a_file() -> None:
    """Each alias is shallow, together they are too deep."""
    lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 40)]
    with pytest.raises(UnreadableError, match="nested more than 32"):
        read("\n".join(lines))


def test_a_path_is_one_line() -> None:
    """A key of any characters can't break a problem in two."""
    assert show_path(("pools", "a\nb", 0, "x")) == "pools.'a\\nb'[0].x"
    assert len(show_path(("k" * 10_000,))) < 100
