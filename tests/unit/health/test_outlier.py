"""Pins who is ejected, for how long, and that enough others always stay."""

import doctest

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pyproxy.config.runtime import Outlier
from pyproxy.health import outlier as outlier_module
from pyproxy.health.outlier import Ejections

ALL = frozenset(range(5))


def make(min_available: int = 0, eject: float = 10.0, max_eject: float = 60.0) -> Ejections:
    """The ejections of a pool in which nothing has happened yet."""
    return Ejections(Outlier(5, eject, max_eject, min_available))


def test_doctests() -> None:
    """The examples hold."""
    assert doctest.testmod(outlier_module).failed == 0


@given(eject=st.floats(0.1, 1e5), factor=st.floats(1.0, 1e5), count=st.integers(1, 80))
def test_each_one_in_a_row_is_twice_as_long(eject: float, factor: float, count: int) -> None:
    """From ``eject`` up to ``max_eject``, whatever their ratio and however often."""
    ejections, now = make(0, eject, eject * factor), 0.0
    for number in range(count):
        seconds = ejections.eject(1, ALL, now)
        assert seconds == min(eject * 2.0 ** min(number, 60), eject * factor)
        now += seconds
        ejections.end(1, now)


def test_who_stays_out_of_trouble_begins_anew() -> None:
    """After ``max_eject`` without another one; shortly before that it is still the next one in a row."""
    for quiet, expected in ((59.9, 20.0), (60.0, 10.0)):
        ejections = make()
        ejections.eject(1, ALL, 0.0)
        ejections.end(1, 10.0)
        assert ejections.eject(1, ALL, 10.0 + quiet) == expected


def test_a_check_that_began_before_says_nothing() -> None:
    """One that began at the same time or later ends it, and what was in a row stays so."""
    ejections = make()
    assert ejections.end_by_check(1, began=1.0, now=2.0) is None
    ejections.eject(1, ALL, 5.0)
    assert ejections.end_by_check(1, began=4.9, now=6.0) is None
    assert 1 in ejections
    assert ejections.end_by_check(1, began=5.0, now=6.0) == 1.0
    assert 1 not in ejections
    assert ejections.eject(1, ALL, 7.0) == 20.0


def test_forgotten() -> None:
    """Another address on the same seat has no past."""
    ejections = make()
    ejections.eject(1, ALL, 0.0)
    assert ejections.known() == {1}
    ejections.forget(1)
    assert (1 in ejections, ejections.known(), ejections.next_end, ejections.remaining(1, 1.0)) == (
        False,
        set(),
        None,
        0,
    )
    assert ejections.eject(1, ALL, 1.0) == 10.0


def test_who_gets_nothing_anyway_can_be_spared() -> None:
    """A drained one doesn't count among those that have to stay."""
    ejections = make(min_available=1)
    assert ejections.eject(1, {2}, 0.0) == 10.0
    assert ejections.eject(2, {2}, 0.0) is None


def test_the_soonest_come_back_first() -> None:
    """When too few others are left."""
    ejections = make(min_available=1)
    for backend in (3, 1, 2):
        ejections.eject(backend, ALL, float(backend))
    assert ejections.wanted({0, 1, 2, 3}) == []
    assert ejections.wanted({1, 2, 3}) == [1]
    assert ejections.wanted({3}) == [3]
    assert ejections.wanted(set()) == []
    assert repr(ejections) == "<Ejections [1, 2, 3]>"


class Machine(RuleBasedStateMachine):
    """A pool whose backends fail, pass checks, come and go in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.least = 2
        self.ejections = make(self.least, 10.0, 60.0)
        self.able = set(ALL)
        self.now = 0.0
        self.began: dict[int, float] = {}

    def ejected(self) -> set[int]:
        """Who is passed over."""
        return {backend for backend in ALL if backend in self.ejections}

    @rule(backend=st.sampled_from(sorted(ALL)))
    def fail(self, backend: int) -> None:
        """A worker reports it."""
        before = self.ejected()
        seconds = self.ejections.eject(backend, self.able, self.now)
        assert self.ejected() == (before | {backend} if seconds is not None else before)
        if seconds is not None:
            assert 10.0 <= seconds <= 60.0
            assert abs(self.ejections.remaining(backend, self.now) - seconds) < 1e-6

    @rule(backend=st.sampled_from(sorted(ALL)))
    def come_or_go(self, backend: int) -> None:
        """A check or the operator changes how it stands."""
        self.able ^= {backend}
        for wanted in self.ejections.wanted(self.able):
            assert wanted in self.able
            self.ejections.end(wanted, self.now)

    @precondition(lambda self: self.ejections.next_end is not None)
    @rule()
    def wait(self) -> None:
        """Until the next one is over."""
        self.now = self.ejections.next_end or 0.0
        due = self.ejections.due(self.now)
        assert due
        for backend in due:
            self.ejections.end(backend, self.now)

    @rule(backend=st.sampled_from(sorted(ALL)), ago=st.floats(-100.0, 100.0))
    def passes(self, backend: int, ago: float) -> None:
        """A check passed."""
        self.ejections.end_by_check(backend, self.now - ago, self.now)

    @rule(seconds=st.floats(0.0, 9.0))
    def later(self, seconds: float) -> None:
        """Time passes, less than any ejection takes."""
        end = self.ejections.next_end
        self.now = min(self.now + seconds, end) if end is not None else self.now + seconds

    @invariant()
    def enough_are_available(self) -> None:
        """As many as there have to be, or all that could be."""
        assert len(self.able - self.ejected()) >= min(self.least, len(self.able))

    @invariant()
    def every_end_is_bounded(self) -> None:
        """Nobody is out for longer than ``max_eject`` from now."""
        assert all(self.ejections.remaining(backend, self.now) <= 60.001 for backend in ALL)


TestEjections = Machine.TestCase
