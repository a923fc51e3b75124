"""Pins what all policies have in common: whom they may pick, whom they must, and what a pick may cost."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyproxy.balance.backend import Backend
from pyproxy.balance.policies import POLICIES
from pyproxy.balance.pool import Pool
from tests.unit.balance.backends import NAMES, World, backends, key_of, policy_of, pool_of, shares

every_policy = pytest.mark.parametrize("policy", NAMES)


def test_the_names_of_the_file() -> None:
    """Each name of the contract is there."""
    assert tuple(POLICIES) == NAMES


@st.composite
def pools(draw: st.DrawFn) -> tuple[list[int], list[int], set[int]]:
    """Make weights, what is in flight, and who is open."""
    weights = draw(st.lists(st.integers(1, 256), min_size=1, max_size=40))
    size = len(weights)
    active = draw(st.lists(st.integers(0, 5), min_size=size, max_size=size))
    return weights, active, draw(st.sets(st.integers(0, size - 1)))


def make(policy: str, weights: list[int], active: list[int]) -> Pool:
    """Make a pool with something in flight."""
    members = backends(weights)
    for member, number in zip(members, active, strict=True):
        member.active = number
    pool = pool_of(policy, members)
    pool.active = sum(active)
    return pool


@every_policy
@given(case=pools(), now=st.floats(0.0, 1e6))
@settings(deadline=None)
def test_an_open_one_if_there_is_one(policy: str, case: tuple[list[int], list[int], set[int]], now: float) -> None:
    """A pick is open; there is one exactly if one is open; and finding out takes a bounded number of looks."""
    weights, active, places = case
    pool = make(policy, weights, active)
    up = {pool.backends[place] for place in places}
    looks = 0

    def is_open(backend: Backend) -> bool:
        nonlocal looks
        looks += 1
        return backend in up

    for number in range(3):
        looks = 0
        pick = policy_of(pool).pick(key_of(number), now, is_open)
        assert (pick is None) == (not up)
        assert pick is None or pick in up
        assert looks <= 3 * len(weights) + 256
        assert policy_of(pool).pick(key_of(number), now) is not None


@every_policy
@given(case=pools())
@settings(deadline=None)
def test_a_peek_is_the_next_pick(policy: str, case: tuple[list[int], list[int], set[int]]) -> None:
    """With and without a condition a peek gives what the pick then gives, and a second one the same."""
    weights, active, places = case
    at_work = policy_of(make(policy, weights, active))
    up = {str(place) for place in places}
    for number in range(10):
        is_open = (lambda backend: backend.name in up) if number % 3 else None
        peeks = [at_work.peek(key_of(number), 0.0, is_open) for _ in range(2)]
        assert at_work.pick(key_of(number), 0.0, is_open) is peeks[0] is peeks[1]


@every_policy
def test_one_alone(policy: str) -> None:
    """A pool of one is no special case for anybody."""
    only = backends([7])
    pool = pool_of(policy, only)
    for _ in range(10):
        assert pool.pick() is only[0]
        only[0].active += 1
        pool.active += 1


# The chance that a fair policy strays so far is about one in 10^9; the draws are seeded, so it never changes.
@pytest.mark.parametrize("policy", ["random", "ewma"])
@pytest.mark.parametrize("weights", [[1, 1, 1], [3, 2, 1], [10, 1], [1] * 50, [256, 1, 100, 3]])
@pytest.mark.parametrize("down", [(), (0,), (1,)])
def test_idle_shares_of_random_draws(policy: str, weights: list[int], down: tuple[int, ...]) -> None:
    """Idle backends share by weight, six standard deviations at most away from it, whichever of them are down."""
    count = 20_000
    for limited in (False, True):
        members = backends(weights)
        if limited:
            members[-1].max_conns = 5
        else:
            for place in down:
                members[place].weight = 0
        pool = pool_of(policy, members)
        if limited:
            for place in down:
                members[place].max_conns = members[place].active = 1
        up = [member for place, member in enumerate(members) if place not in down]
        total = sum(member.weight for member in up)
        counts = shares(pool, count)
        for member in up:
            chance = member.weight / total
            assert abs(counts[member.name] - count * chance) <= 6 * (count * chance * (1 - chance)) ** 0.5 + 1
        assert sum(counts.values()) == count


@pytest.mark.parametrize("policy", ["round_robin", "least_conn"])
@given(weights=st.lists(st.integers(1, 256), min_size=1, max_size=40), down=st.sets(st.integers(0, 39)))
@settings(deadline=None, max_examples=50)
def test_idle_shares_in_order(policy: str, weights: list[int], down: set[int]) -> None:
    """Idle backends share by weight, less than one pick away from it at any moment, whichever of them are down."""
    members = backends(weights)
    for place in down & set(range(len(members))):
        members[place].weight = 0
    pool = pool_of(policy, members)
    total = sum(member.weight for member in members)
    counts = dict.fromkeys(members, 0)
    for turn in range(1, 300):
        pick = pool.pick()
        if pick is None:
            assert not total
            return
        counts[pick] += 1
        for member in members:
            assert abs(counts[member] * total - turn * member.weight) < total


@pytest.mark.parametrize("policy", ["round_robin", "least_conn"])
@given(
    weights=st.lists(st.integers(1, 256), min_size=1, max_size=8),
    closed=st.sets(st.integers(0, 7)),
    before=st.integers(0, 50),
)
@settings(deadline=None)
def test_shares_of_the_open(policy: str, weights: list[int], closed: set[int], before: int) -> None:
    """While some are closed the others share by weight, less than three picks away from it at any moment."""
    at_work = policy_of(pool_of(policy, backends(weights)))
    for _ in range(before):
        at_work.pick(b"", 0.0)
    up = [weight if place not in closed else 0 for place, weight in enumerate(weights)]
    if not any(up):
        return
    counts = [0] * len(weights)
    for turn in range(1, 300):
        pick = at_work.pick(b"", 0.0, lambda backend: int(backend.name) not in closed)
        assert pick is not None
        counts[int(pick.name)] += 1
        for weight, count in zip(up, counts, strict=True):
            assert abs(count * sum(up) - turn * weight) < 3 * sum(up)


# cost


def count_lines(action: Callable[[], object]) -> int:
    """Count the lines of Python that an action executes."""
    lines = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal lines
        lines += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    finally:
        sys.settrace(before)
    return lines


def lines_of_a_pick(policy: str, size: int, *, max_conns: int) -> float:
    """Give the average lines of a pick with something in flight everywhere, once all is worked out."""
    members = backends([1 + place % 3 for place in range(size)])
    for place, member in enumerate(members):
        member.active = 1 + place % 2
        member.max_conns = max_conns
    pool = pool_of(policy, members)
    pool.active = sum(member.active for member in members)
    for _ in range(3 * size):
        pool.pick()
    return count_lines(lambda: [pool.pick((), key_of(number)) for number in range(500)]) / 500


@every_policy
@pytest.mark.parametrize("max_conns", [0, 100])
def test_a_pick_costs_the_same_in_any_pool(policy: str, max_conns: int) -> None:
    """A pick from 1,000 backends executes no more lines than one from 20, within a fifth."""
    few = lines_of_a_pick(policy, 20, max_conns=max_conns)
    many = lines_of_a_pick(policy, 1000, max_conns=max_conns)
    assert 0 < many <= 1.2 * few
    assert many < 120


# one slow backend


@pytest.mark.parametrize("policy", ["least_conn", "random", "ewma"])
@pytest.mark.parametrize(("clients", "size"), [(64, 3), (8, 3), (64, 30)])
def test_a_slow_backend_gets_little(policy: str, clients: int, size: int) -> None:
    """One that takes 200 ms beside others of 1 ms gets under a tenth, and most clients don't notice it."""
    world = World(pool_of(policy, backends([1] * size)), clients, lambda on, _: 0.2 if on.name == "0" else 0.001)
    world.run(20_000)
    assert world.sent["0"] < 0.1 * sum(world.sent.values())
    assert sorted(world.took)[len(world.took) // 2] < 0.0011


def test_round_robin_does_not_look() -> None:
    """The simulation can tell: round robin sends the slow one its third."""
    world = World(pool_of("round_robin", backends([1] * 3)), 64, lambda on, _: 0.2 if on.name == "0" else 0.001)
    world.run(2000)
    assert world.sent["0"] > 0.3 * sum(world.sent.values())


@pytest.mark.parametrize("policy", ["least_conn", "random"])
def test_busy_shares_follow_the_weights(policy: str) -> None:
    """With more clients than backends can serve at once, what is in flight is by weight."""
    pool = pool_of(policy, backends([3, 2, 1]))
    World(pool, 600, lambda *_: 1.0)
    for member in pool.backends:
        assert abs(member.active - 100 * member.weight) <= 10
