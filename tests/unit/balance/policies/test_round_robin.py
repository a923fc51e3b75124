"""Pins the order in which weighted backends are picked: fair at any moment, smooth, the same in each period."""

import itertools
from collections import Counter
from heapq import heappush
from math import gcd

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyproxy.balance.backend import Backend
from pyproxy.balance.policies import POLICIES, round_robin
from pyproxy.balance.policies.round_robin import RoundRobin
from pyproxy.config.runtime import Backend as BackendConfig

WEIGHTS = st.lists(st.integers(1, 256), min_size=1, max_size=8)


def backends(weights: list[int]) -> list[Backend]:
    """Make a backend for each weight, named by its index."""
    return [
        Backend("web", BackendConfig(str(index), "10.0.0.1", 80, weight, False, 0))
        for index, weight in enumerate(weights)
    ]


def order(weights: list[int], count: int, offset: int = 0) -> list[int]:
    """Give the indices of the first picks."""
    policy = RoundRobin(backends(weights), offset)
    return [int(policy.pick().name) for _ in range(count)]


def test_round_robin_is_a_policy() -> None:
    """The name in lb.yml leads here."""
    assert POLICIES["round_robin"] is RoundRobin


def test_three_two_one() -> None:
    """600 requests on weights 3, 2, 1: 300, 200, 100, and never more than two in a row to the same backend."""
    picks = order([3, 2, 1], 600)
    assert Counter(picks) == {0: 300, 1: 200, 2: 100}
    assert not any(picks[at] == picks[at + 1] == picks[at + 2] for at in range(598))


def test_equal_weights_take_turns() -> None:
    """With equal weights it is plain round robin in the order of the file, whatever the weight is."""
    for weight in (1, 7, 256):
        assert order([weight] * 4, 12) == [0, 1, 2, 3] * 3


@given(weights=WEIGHTS, offset=st.integers(0, 40), periods=st.integers(1, 3))
@settings(deadline=None)
def test_shares_are_within_one_at_any_moment(weights: list[int], offset: int, periods: int) -> None:
    """At any moment, from any start, each backend is less than one pick away from its share (two from an offset)."""
    total = sum(weights)
    period = total // gcd(*weights)
    counts = [0] * len(weights)
    for turn, index in enumerate(order(weights, min(periods * period, 2000), 0), 1):
        counts[index] += 1
        for weight, count in zip(weights, counts, strict=True):
            assert abs(count * total - turn * weight) < total
    before = Counter(order(weights, offset % period))
    after = Counter(order(weights, min(period, 500), offset))
    both = Counter(order(weights, offset % period + min(period, 500)))
    assert before + after == both, "an offset begins later in the same order"


@given(weights=WEIGHTS)
@settings(deadline=None)
def test_the_order_repeats(weights: list[int]) -> None:
    """A period has as many turns as the weights say, exactly shared, and then begins again."""
    period = sum(weights) // gcd(*weights)
    picks = order(weights, 2 * period)
    assert picks[:period] == picks[period:]
    shares = Counter(picks[:period])
    assert [shares[index] * gcd(*weights) for index in range(len(weights))] == weights


@given(weights=WEIGHTS, down=st.sets(st.integers(0, 7)))
@settings(deadline=None)
def test_any_subset_keeps_its_shares(weights: list[int], down: set[int]) -> None:
    """With some down the others share as if these had never been there: weights belong to backends, not to places."""
    up = [(index, weight) for index, weight in enumerate(weights) if index not in down]
    if up:
        chosen = [weight for _, weight in up]
        total = sum(chosen)
        shares = Counter(order(chosen, total))
        assert [shares[place] for place in range(len(up))] == chosen


def test_the_same_backend_comes_at_even_distances() -> None:
    """One of six turns is every sixth turn, not one in a burst of twelve."""
    turns = [turn for turn, index in enumerate(order([5, 1], 60)) if index == 1]
    assert {later - earlier for earlier, later in itertools.pairwise(turns)} == {6}


@pytest.mark.parametrize("offset", [0, 1, 5, 6, 7, 100])
def test_offset(offset: int) -> None:
    """Workers begin at different turns of the same order."""
    assert order([3, 2, 1], 6, offset) == (order([3, 2, 1], 6) * 2)[offset % 6 :][:6]


def test_a_thousand_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Making it costs no more than the backends; a pick is a handful of heap operations at most."""
    calls = 0

    def counting(heap: list[tuple[int, int]], item: tuple[int, int]) -> None:
        nonlocal calls
        calls += 1
        heappush(heap, item)

    monkeypatch.setattr(round_robin, "heappush", counting)
    policy = RoundRobin(backends([1 + index % 256 for index in range(1000)]))
    assert calls == 0
    for _ in range(5000):
        policy.pick()
    assert 0 < calls <= 2 * 5000


def test_the_second_period_works_nothing_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the second period on a pick is looked up."""
    policy = RoundRobin(backends([3, 2, 1]))
    first = [policy.pick() for _ in range(6)]
    monkeypatch.delattr(RoundRobin, "_work_out")
    assert [policy.pick() for _ in range(12)] == first * 2
