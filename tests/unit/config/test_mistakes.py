"""Pins that an error in the syntax is told where it has to be mended, in words that say how."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyproxy.config.tree import UnreadableError, parse_tree

WEB = """listeners:
  - bind: 127.0.0.1:8080
pools:
  web:
    policy: random
    backends:
      - address: 10.0.0.1:80
        weight: 3
"""


def problem(text: str) -> str:
    """Give the first problem as ``line:column: text``."""
    with pytest.raises(UnreadableError) as caught:
        parse_tree(text)
    found = caught.value.problems[0]
    return f"{found.line}:{found.column}: {found.text}"


@pytest.mark.parametrize(
    ("before", "after", "place", "words"),
    [
        ("        weight", "       weight", "8:8", "line 7 begins in column 9"),
        ("        weight", "         weight", "8:10", "further right than line 7 (column 9), whose key has its value"),
        ("    policy", "     policy", "5:6", "line 6 begins in column 5"),
        ("    backends", "     backends", "6:6", "further right than line 5"),
        ("    backends", "   backends", "6:4", "line 5 begins in column 5"),
        ("policy: random", "policy:random", "5:11", "a space behind the colon"),
        ("  web:", "  web", "4:3", "a key needs a colon"),
        ("pools:", "pools", "3:1", "a key needs a colon"),
        ("policy: random", "policy: a: b", "5:14", "a second colon in one line"),
        ("policy: random", 'policy: "random', "5:13", "the quote that begins here is never closed"),
        ("policy: random", "policy: [random", "5:13", "the [ that begins here is not closed before line 6"),
        ("policy: random", "policy: *.x", "5:13", "* can't begin a value; quote the value"),
        ("policy: random", "policy: *", "5:13", "* can't begin a value; quote the value"),
        ("policy: random", "policy: [a:]", "5:15", "a colon can't stand here; quote the value"),
        ("policy: random", "policy: @x", "5:13", "@ can't stand here; quote the value"),
        ("    policy", "\tpolicy", "5:1", "a tab can't indent; use spaces"),
        ("    policy", "  \xa0 policy", "5:3", "there is a U+00A0 here, which looks like a space"),
        ("policy: random", "policy:\xa0random", "5:12", "there is a U+00A0 here, which looks like a space"),
        ("policy: random", "policy: \u201ca: b\u201d", "5:13", "\u201c is a typographic quote"),
    ],
)
def test_a_mistake_is_told_where_it_is(before: str, after: str, place: str, words: str) -> None:
    """Not where libyaml could no longer go on, which is often a line behind it."""
    assert WEB.count(before) == 1
    found = problem(WEB.replace(before, after))
    assert found.startswith(f"{place}: ")
    assert words in found


def test_what_is_missing_at_the_end_is_told_where_it_began() -> None:
    """Whether or not the last line has an end."""
    for end in ("", "\n"):
        assert problem("pools: {web: 1" + end) == "1:8: the { that begins here is not closed before line 2"


def test_all_lines_with_odd_blanks_are_told_at_once() -> None:
    """Whoever copied one line from a web page copied them all."""
    with pytest.raises(UnreadableError) as caught:
        parse_tree("a:\n\xa0 b: 1\n\u202f c: 2\n# \xa0 a comment may have any\n")
    assert [item.line for item in caught.value.problems] == [2, 3]


def test_a_file_of_nginx_or_haproxy_is_recognised() -> None:
    """Nothing of it is right, so the first error alone would lead nowhere."""
    nginx = "http {\n  server { listen 80; }\n}\n"
    assert "docs/migration.md#the-words" in problem(f"a: b\n{nginx}: c: d")


@given(st.integers(0, len(WEB)), st.integers(0, 12), st.text(" \t\n:-{}[]*&'\"\xa0\u201ca#,@%|>", max_size=6))
def test_whatever_is_broken_there_is_one_clean_problem(begin: int, length: int, put: str) -> None:
    """A place inside the file or right behind it, and no other error."""
    text = WEB[:begin] + put + WEB[begin + length :]
    try:
        parse_tree(text)
    except UnreadableError as error:
        for found in error.problems:
            assert 1 <= found.line <= text.count("\n") + 2
            assert found.column >= 1
            assert found.text
