"""Pins how the share of a backend grows that is back."""

import doctest

from hypothesis import given
from hypothesis import strategies as st

from pyproxy.balance import slow_start
from pyproxy.balance.slow_start import FIRST, STEPS, limit_at, step_at

seconds = st.floats(0.01, 86_400.0)


def test_doctests() -> None:
    """The examples hold."""
    assert doctest.testmod(slow_start).failed == 0


@given(total=seconds, first=seconds, second=seconds)
def test_it_only_grows(total: float, first: float, second: float) -> None:
    """From a tenth to all of it, never back, and all of it when the time is over."""
    early, late = sorted([first, second])
    steps = [step_at(1000.0, total, 1000.0 + gone) for gone in (0.0, early, late)]
    assert steps[0] == FIRST
    assert steps == sorted(steps)
    assert step_at(1000.0, total, 1001.0 + total) == STEPS


def test_a_clock_that_is_behind() -> None:
    """A worker's time is that of its last look: the beginning may be ahead of it."""
    assert step_at(1000.0, 10.0, 999.9) == FIRST


@given(limit=st.integers(1, 1000), step=st.integers(FIRST, STEPS))
def test_a_limit_never_becomes_none(limit: int, step: int) -> None:
    """One request at least, and never more than the limit."""
    assert 1 <= limit_at(limit, step) <= limit
