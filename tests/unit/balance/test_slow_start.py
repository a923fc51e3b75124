"""Pins how the share of a backend grows that is back, and what a pool makes of it."""

import doctest
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyproxy.balance import slow_start
from pyproxy.balance.backend import Backend
from pyproxy.balance.pool import Pool
from pyproxy.balance.slow_start import FIRST, STEPS, limit_at, step_at
from tests.unit.balance.backends import NAMES, backend, pool_of, shares

every_policy = pytest.mark.parametrize("policy", NAMES)

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


def pool(*members: Backend) -> Pool:
    """Make a pool that goes in turn."""
    return pool_of("round_robin", members)


def rises(of: Pool, now: float) -> bool:
    """Whether that made the policy anew."""
    before = of.policy
    of.rise(now)
    return of.policy is not before


@every_policy
def test_slow_start(policy: str) -> None:
    """One that is back gets a tenth of its share at first, then all of it, whatever the weights count in."""
    back, other = backend("back", 3), backend("other", 3)
    of = pool_of(policy, [back, other], unit=3)
    back.rising = 100.0
    of.start_slowly(18.0, 100.0)
    assert (of.is_rising, of.unit) == (True, 60)
    low = shares(of, 4000)["back"]
    assert 0.05 < low / 4000 < 0.14
    assert not rises(of, 100.5)
    assert rises(of, 109.0)
    middle = shares(of, 4000)["back"]
    assert 0.28 < middle / 4000 < 0.43
    assert rises(of, 118.0)
    assert (of.is_rising, of.unit, back.weight, other.weight) == (False, 3, 3, 3)
    assert 0.4 < shares(of, 4000)["back"] / 4000 < 0.6
    assert not rises(of, 119.0)


@pytest.mark.parametrize("policy", ["round_robin", "least_conn"])
def test_a_step_loses_no_turn(policy: str) -> None:
    """However seldom somebody asks between two steps, the light one has its turn, and not more than its share."""
    back = backend("back")
    of = pool_of(policy, [backend(str(number)) for number in range(9)] + [back])
    back.rising = 100.0
    of.start_slowly(18.0, 100.0)
    picks: Counter[str] = Counter()
    for second in range(18):
        of.rise(100.0 + second)
        picks.update([pick.name for _ in range(10) if (pick := of.pick()) is not None])
    # Its weight grows from 0.1 to 0.95 beside nine of 1: the sum of 10 * w / (9 + w) over the steps.
    expected = sum(10 * w / (9 + w) for w in ((2 + step) / 20 for step in range(18)))
    assert abs(picks["back"] - expected) < 3
    assert max(picks.values()) - min(picks[str(number)] for number in range(9)) <= 4


def test_limits_grow_too() -> None:
    """With the weight, and 1 at least; none stays none."""
    back, free = backend("back", max_conns=10), backend("free")
    back.rising = free.rising = 100.0
    of = pool(back, free)
    of.start_slowly(18.0, 100.0)
    assert (back.max_conns, free.max_conns) == (1, 0)
    of.rise(109.0)
    assert (back.max_conns, free.max_conns) == (6, 0)
    of.rise(200.0)
    assert back.max_conns == back.full_max_conns == 10


def test_slow_start_is_explained() -> None:
    """With the weight of the file, and the seconds that are left."""
    back, other = backend("back", 4), backend("other", 2)
    back.rising = 100.0
    of = pool_of("round_robin", [back, other], unit=2)
    of.start_slowly(18.0, 100.0)
    rows = of.explain(now=110.0)[1]
    assert [(row["weight"], row["slow_start"]) for row in rows] == [(2, 8.0), (1, None)]


def test_members_that_change_in_the_middle_of_it() -> None:
    """A new weight counts from the share that there is, and who joins has all of his."""
    back, other = backend("back"), backend("other")
    of = pool(back, other)
    back.rising = 100.0
    of.start_slowly(18.0, 100.0)
    back.full_weight = 5
    joins = backend("joins", 2)
    of.replace([back, other, joins], 1, 109.0)
    assert [item.weight for item in of.backends] == [5 * 11, 20, 40]


def test_without_slow_start_nothing_is_slow() -> None:
    """Though it is told when a backend came back."""
    back = backend("back")
    back.rising = 100.0
    of = pool(back)
    of.start_slowly(0.0, 100.0)
    assert (of.is_rising, of.unit, of.explain(now=100.0)[1][0]["slow_start"]) == (False, 1, None)
