"""Pins how requests per second are told."""

import doctest

from pyproxy.control import rates as rates_module
from pyproxy.control.rates import SPAN, Rates


def test_doctest() -> None:
    """The example in the documentation is true."""
    assert doctest.testmod(rates_module).failed == 0


def test_nothing_to_compare_is_no_rate() -> None:
    """Right after the start, and with a clock that stands still, the rate is zero and no division fails."""
    rates = Rates()
    assert rates.rate("a") == 0.0
    rates.record(1.0, {"a": 5})
    assert rates.rate("a") == 0.0
    rates.record(1.0, {"a": 7})
    assert rates.rate("a") == 0.0


def test_before_the_span_is_over_the_rate_covers_what_there_is() -> None:
    """Two seconds after the start the rate is that of the two seconds, not a fifth of it."""
    rates = Rates()
    for second in range(3):
        rates.record(float(second), {"a": 10 * second})
    assert rates.rate("a") == 10.0


def test_what_is_older_than_the_span_is_forgotten() -> None:
    """A burst counts for the span and not longer."""
    rates = Rates()
    rates.record(0.0, {"a": 0})
    rates.record(1.0, {"a": 1000})
    for second in range(2, 2 + int(SPAN)):
        rates.record(float(second), {"a": 1000})
    assert rates.rate("a") == 0.0


def test_one_that_comes_later_is_told_by_its_own_samples() -> None:
    """A backend that joins, or is back with what it had counted before, has no burst that never was."""
    rates = Rates()
    rates.record(0.0, {"a": 0})
    rates.record(1.0, {"a": 0, "late": 5000})
    assert rates.rate("late") == 0.0
    rates.record(2.0, {"a": 0, "late": 5007})
    assert rates.rate("late") == 7.0


def test_one_that_began_anew_does_not_count_backwards() -> None:
    """A name whose counters were given away and that starts at zero again has a rate of zero, not below."""
    rates = Rates()
    rates.record(0.0, {"a": 900})
    rates.record(1.0, {"a": 3})
    assert rates.rate("a") == 0.0


def test_memory_is_bounded() -> None:
    """A year of samples keeps those of the last seconds only."""
    rates = Rates()
    for second in range(1000):
        rates.record(float(second), {"a": second})
    assert repr(rates) == "<Rates 11 samples>"
