"""Pins the order in which weighted backends are picked: fair at any moment, smooth, the same in each period."""

import itertools
from collections import Counter
from heapq import heappush
from math import gcd

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyproxy.balance.policies import round_robin
from pyproxy.balance.policies.round_robin import OWED, RECORDED, RoundRobin
from tests.unit.balance.backends import backends

WEIGHTS = st.lists(st.integers(1, 256), min_size=1, max_size=8)


def picks(policy: RoundRobin, count: int) -> list[int]:
    """Give the indices of the next picks."""
    chosen = [policy.pick() for _ in range(count)]
    return [int(backend.name) for backend in chosen if backend is not None]


def order(weights: list[int], count: int, offset: int = 0) -> list[int]:
    """Give the indices of the first picks."""
    policy = RoundRobin(backends(weights), offset)
    return picks(policy, count)


def test_three_two_one() -> None:
    """600 requests on weights 3, 2, 1: 300, 200, 100, and never more than two in a row to the same backend."""
    chosen = order([3, 2, 1], 600)
    assert Counter(chosen) == {0: 300, 1: 200, 2: 100}
    assert not any(chosen[at] == chosen[at + 1] == chosen[at + 2] for at in range(598))


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
    chosen = order(weights, 2 * period)
    assert chosen[:period] == chosen[period:]
    shares = Counter(chosen[:period])
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

    def counting(heap: list[int], item: int) -> None:
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
    policy.scores(b"", 0.0)
    assert len(policy._order) == 6
    monkeypatch.delattr(RoundRobin, "_work_out")
    assert [policy.pick() for _ in range(11)] == (first * 2)[:11]
    assert policy.pick(b"", 0.0, lambda backend: backend is first[0]) is first[0]


@given(weights=WEIGHTS, offset=st.integers(0, 6))
@settings(deadline=None)
def test_a_long_period_has_the_same_order(weights: list[int], offset: int) -> None:
    """A period that isn't written down whole is worked out piece by piece, and repeats like the others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(round_robin, "RECORDED", 7)
        long = RoundRobin(backends(weights), offset)
    start = offset % min(7, sum(weights) // gcd(*weights))
    assert picks(long, 300) == order(weights, start + 300)[start:]


def test_what_is_written_down_is_bounded() -> None:
    """Weights without a common divisor don't fill the memory."""
    policy = RoundRobin(backends([255, 256] * 200))
    for _ in range(2 * RECORDED + 10):
        policy.pick()
        assert len(policy._order) <= RECORDED


def test_turns_of_closed_backends_are_passed_over() -> None:
    """The order of the others stays; whoever opens again has missed its turns, and doesn't get them back."""
    policy = RoundRobin(backends([1, 1, 1]))
    chosen = [policy.pick(b"", 0.0, lambda backend: backend.name != "1") for _ in range(6)]
    assert [backend.name for backend in chosen if backend is not None] == ["0", "2"] * 3
    assert picks(policy, 6) == [0, 1, 2, 0, 1, 2]


def test_a_pick_of_nobody_takes_no_turn() -> None:
    """While all are closed nothing moves."""
    policy = RoundRobin(backends([3, 2, 1]))
    expected = order([3, 2, 1], 6)
    for index in expected:
        assert policy.pick(b"", 0.0, lambda _: False) is None
        assert policy.peek(b"", 0.0, lambda _: False) is None
        assert picks(policy, 1) == [index]


def test_light_ones_share_while_the_heavy_one_is_closed() -> None:
    """Where the next open turn is far away, nobody waits for it and nobody starves."""
    policy = RoundRobin(backends([10_000, 5, 3, 1]))
    counts = Counter[str]()
    for _ in range(900):
        told = policy.peek(b"", 0.0, lambda backend: backend.name != "0")
        pick = policy.pick(b"", 0.0, lambda backend: backend.name != "0")
        assert pick is not None
        assert pick is told
        counts[pick.name] += 1
    assert counts == {"1": 500, "2": 300, "3": 100}


def test_scores_are_turns_to_wait() -> None:
    """0 is who comes next; what the scores say is what the picks then do."""
    policy = RoundRobin(backends([3, 2, 1]), 2)
    scores = policy.scores(b"", 0.0)
    coming = picks(policy, 6)
    assert {int(backend.name): turns for backend, turns in scores.items()} == {
        index: float(coming.index(index)) for index in range(3)
    }


def test_scores_look_no_further_than_they_must() -> None:
    """Once each backend has had its turn the rest of the period doesn't matter."""
    policy = RoundRobin(backends([1000, 999]))
    policy.scores(b"", 0.0)
    assert len(policy._order) < 4


def test_scores_end_somewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn beyond what is written down is so far away at least, and asking works no whole period out."""
    monkeypatch.setattr(round_robin, "RECORDED", 7)
    policy = RoundRobin(backends([1000, 1]))
    policy.pick()
    scores = list(policy.scores(b"", 0.0).values())
    assert scores == [0.0, 7.0]
    assert len(policy._order) <= 14


def test_turn() -> None:
    """A successor can go on where this one is."""
    policy = RoundRobin(backends([3, 2, 1]), 4)
    assert policy.turn == 4
    policy.pick()
    assert policy.turn == 5
    policy.pick()
    assert policy.turn == 0


# requests of sticky clients, which take turns too


@given(
    weights=st.lists(st.integers(1, 20), min_size=2, max_size=6),
    bound=st.lists(st.one_of(st.none(), st.integers(0, 5)), max_size=300),
)
@settings(deadline=None)
def test_a_charge_is_never_lost_nor_counted_twice(weights: list[int], bound: list[int | None]) -> None:
    """What each has got, by turn or by sticky clients, is its share of the turns taken, give or take ``OWED``."""
    members = backends(weights)
    policy = RoundRobin(members)
    plain = RoundRobin(members)
    got: Counter[str] = Counter()
    for index in bound:
        before = policy._turn, policy.turn
        expected = policy.peek()
        if index is None:
            picked = policy.pick()
            assert picked is expected
            assert picked is not None
            got[picked.name] += 1
        else:
            policy.charge(members[index % len(members)])
            if (policy._turn, policy.turn) == before and sum(policy._weights) > 1:
                continue  # too much is owed: it isn't counted
            got[members[index % len(members)].name] += 1
    turns = Counter(str(index) for index in picks(plain, sum(got.values())))
    for member in members:
        assert got[member.name] - turns[member.name] == -policy._balance[member]
        assert abs(policy._balance[member]) <= OWED
    assert sum(policy._balance.values()) == 0
    assert set(policy._owed) == {member for member in members if policy._balance[member] > 0}


def test_who_has_had_too_much_is_out_for_a_while_only() -> None:
    """A thousand requests of sticky clients cost a backend ``OWED`` turns, not a thousand."""
    members = backends([1, 1, 1])
    policy = RoundRobin(members)
    for _ in range(1000):
        policy.charge(members[0])
    chosen = picks(policy, 6 * OWED)
    assert chosen[: 3 * OWED].count(0) <= 1
    assert abs(chosen[3 * OWED :].count(0) - OWED) <= 1


def test_nobody_is_owed_more_than_the_bound() -> None:
    """Also if two others take its turns."""
    members = backends([1, 1, 1])
    policy = RoundRobin(members)
    for number in range(1000):
        policy.charge(members[number % 2])
    assert policy._balance[members[2]] == OWED


def test_what_is_owed_goes_to_one_that_is_open() -> None:
    """A closed creditor waits; without an open one the debtor serves."""
    members = backends([1, 1, 1])
    policy = RoundRobin(members)
    policy.charge(members[2])
    policy.charge(members[2])
    assert policy.peek(is_open=lambda backend: backend is not members[0]) is members[1]
    assert policy.pick(is_open=lambda backend: backend is members[2]) is members[2]
    assert [policy.pick(), policy.pick()] == [members[0], members[1]]


def test_a_stranger_is_not_charged() -> None:
    """A drained backend, or one of the backup tier, takes nobody's turn."""
    policy = RoundRobin(backends([1, 1]))
    policy.charge(backends([1])[0])
    assert picks(policy, 2) == [0, 1]
