"""Pins the words that nodes say of themselves."""

import doctest

import pytest

from pyproxy.control import overrides
from pyproxy.health import steer


def test_doctest() -> None:
    """The examples in the documentation are true."""
    assert doctest.testmod(steer).failed == 0


def test_the_words_are_those_of_the_operator() -> None:
    """In the same order, which is that of strictness."""
    assert steer.STATES == overrides.STATES


@pytest.mark.parametrize("text", ["up", "drain;", "re ady", "maint\x00", "dr\u00e4in", "x" * 10_000])
def test_nonsense(text: str) -> None:
    """Is nothing, rather than the nearest word."""
    assert steer.parse_word(text) is None
