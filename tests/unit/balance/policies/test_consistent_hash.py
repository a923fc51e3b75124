"""Pins that keys stay where they are, and when they don't."""

from collections import Counter

import pytest

from pyproxy.balance.backend import Backend
from pyproxy.balance.policies.consistent_hash import LOAD_FACTOR, LOAD_FLOOR, LOOKS, ConsistentHash
from pyproxy.balance.policies.policy import IsOpen
from pyproxy.balance.policies.ring import Ring
from pyproxy.balance.pool import Pool
from tests.unit.balance.backends import backend, backends, key_of, policy_of, pool_of

KEYS = [key_of(number) for number in range(10_000)]


def mapping(pool: Pool, is_open: IsOpen | None = None) -> dict[bytes, str]:
    """Say which backend each key belongs to."""
    policy = policy_of(pool)
    picks = {key: policy.pick(key, 0.0, is_open) for key in KEYS}
    return {key: pick.name for key, pick in picks.items() if pick is not None}


def ring_of(pool: Pool) -> Ring:
    """Give the ring in use."""
    assert isinstance(pool.policy, ConsistentHash)
    return pool.policy.ring


def moved(before: dict[bytes, str], after: dict[bytes, str]) -> set[tuple[str, str]]:
    """Say from where to where keys moved."""
    return {(before[key], after[key]) for key in KEYS if before[key] != after[key]}


@pytest.mark.parametrize("unit", [1, 3])
def test_one_that_leaves_moves_its_own_keys(unit: int) -> None:
    """Of 10,000 keys over 10 backends only those of the one that left go elsewhere, to more than one other."""
    members = backends([unit] * 10)
    pool = pool_of("hash", members, unit=unit)
    before = mapping(pool)
    pool.replace(members[:4] + members[5:], unit)
    moves = moved(before, mapping(pool))
    assert {source for source, _ in moves} == {"4"}
    assert len({target for _, target in moves}) > 5
    assert Counter(before.values())["4"] > 500


def test_one_that_joins_takes_keys_only() -> None:
    """A new backend moves keys to itself, about its share, and none between the others."""
    members = backends([1] * 10)
    pool = pool_of("hash", members)
    before = mapping(pool)
    pool.replace([backend("new"), *members], 1)
    after = mapping(pool)
    assert {target for _, target in moved(before, after)} == {"new"}
    assert 500 < Counter(after.values())["new"] < 1500


def test_a_change_of_weight_moves_one_way() -> None:
    """More weight takes keys from the others, less gives them back, and the others change nothing among them."""
    members = backends([1] * 10)
    pool = pool_of("hash", members)
    before = mapping(pool)
    members[3].weight = 2
    pool.rebuild()
    heavier = mapping(pool)
    assert {target for _, target in moved(before, heavier)} == {"3"}
    members[3].weight = 1
    pool.rebuild()
    assert mapping(pool) == before
    members[3].weight = 0
    pool.rebuild()
    assert {source for source, _ in moved(before, mapping(pool))} == {"3"}


def test_a_flip_rebuilds_nothing() -> None:
    """One that isn't eligible for a while moves its own keys only, on the same ring, and gets them back."""
    pool = pool_of("hash", backends([1] * 10))
    before, ring = mapping(pool), ring_of(pool)
    pool.eligible = pool.backends[:4] + pool.backends[5:]
    pool.policy = ConsistentHash(pool, pool.policy)
    assert ring_of(pool) is ring
    during = mapping(pool)
    assert {source for source, _ in moved(before, during)} == {"4"}
    pool.rebuild()
    assert ring_of(pool) is ring
    assert mapping(pool) == before


def test_a_closed_one_moves_its_own_keys() -> None:
    """The same for one that is at its limit."""
    pool = pool_of("hash", backends([1] * 10))
    before = mapping(pool)
    assert {source for source, _ in moved(before, mapping(pool, lambda on: on.name != "4"))} == {"4"}


def test_a_key_goes_to_the_next_open_one_on_the_ring() -> None:
    """Also around its end."""
    members = backends([1] * 10)
    pool = pool_of("hash", members)
    ring = ring_of(pool)
    owners = [members[point & ring.mask] for point in ring.points]
    up = [owner for owner in members if owner is not owners[-1]]
    expected = {}
    for key in KEYS:
        start = ring.find(key)
        expected[key] = next(owner.name for owner in owners[start:] + owners[:start] if owner in up)
    assert mapping(pool, up.__contains__) == expected


def test_backups_take_the_keys_and_give_them_back() -> None:
    """Backups get the keys while there is no primary, and primaries get the same ones back, on the same ring."""
    members = [backend("a"), backend("b"), backend("x", backup=True), backend("y", backup=True)]
    pool = pool_of("hash", members)
    before, ring = mapping(pool), ring_of(pool)
    assert set(before.values()) == {"a", "b"}
    pool.eligible = tuple(members[2:])
    pool.policy = ConsistentHash(pool, pool.policy)
    assert set(mapping(pool).values()) == {"x", "y"}
    pool.rebuild()
    assert mapping(pool) == before
    assert ring_of(pool) is ring


@pytest.mark.parametrize("weights", [[1] * 10, [1, 2, 3, 4], [10, 1]])
def test_keys_are_shared_by_weight(weights: list[int]) -> None:
    """Each backend has its share of the keys, within the chance of its points."""
    counts = Counter(mapping(pool_of("hash", backends(weights))).values())
    for place, weight in enumerate(weights):
        share = len(KEYS) * weight / sum(weights)
        assert 0.6 * share < counts[str(place)] < 1.4 * share


def test_load_is_bounded() -> None:
    """Of one key's requests a backend has no more in flight than 1.25 times its share, rounded up."""
    pool = pool_of("hash", backends([1, 1, 2]))
    owner = pool.pick((), b"hot")
    assert owner is not None
    for number in range(1, 402):
        pick = pool.pick((), b"hot")
        assert pick is not None
        pick.active += 1
        pool.active += 1
        limits = [max(LOAD_FLOOR, -(-number * weight * 5 // 16)) for weight in (1, 1, 2)]
        assert all(member.active <= limit for member, limit in zip(pool.backends, limits, strict=True))
    assert owner.active == {1: 126, 2: 251}[owner.weight], "401 · 1.25 / 4 for each weight, and no less"
    assert LOAD_FACTOR == 1.25


def test_a_browsers_connections_stay_together() -> None:
    """In an idle pool a handful of requests at once is no reason to leave the backend that the key belongs to."""
    pool = pool_of("hash", backends([1] * 5))
    picks = set()
    for _ in range(6):
        pick = pool.pick((), b"client")
        assert pick is not None
        picks.add(pick.name)
        pick.active += 1
        pool.active += 1
    assert len(picks) == 1


def test_if_all_are_too_busy_the_first_serves() -> None:
    """What is in flight may be more than the pool knows; then the key stays where it belongs."""
    pool = pool_of("hash", backends([1] * 5))
    before = mapping(pool)
    for member in pool.backends:
        member.active = 100
    assert mapping(pool) == before


def test_nearly_all_closed() -> None:
    """If the way around shows nobody, open backends still share by weight, without moving more than they must."""
    pool = pool_of("hash", backends([256] * 20 + [1, 1, 2]))
    up = {"20", "21", "22"}
    before = mapping(pool, lambda on: on.name in up)
    counts = Counter(before.values())
    assert set(counts) == up
    assert all(0.85 < counts[name] / (2500 * weight) < 1.15 for name, weight in (("20", 1), ("21", 1), ("22", 2)))
    after = mapping(pool, lambda on: on.name in up - {"20"})
    assert {source for source, _ in moved(before, after)} == {"20"}


def test_the_way_around_is_bounded() -> None:
    """With nobody open the looks are as many as points and backends at most."""
    pool = pool_of("hash", backends([256] * 300))
    looks = 0

    def is_open(_: Backend) -> bool:
        nonlocal looks
        looks += 1
        return False

    assert policy_of(pool).pick(b"key", 0.0, is_open) is None
    assert looks <= LOOKS + 300


def test_scores() -> None:
    """The places on the key's way around; who is too busy comes last, as in a pick."""
    pool = pool_of("hash", backends([1] * 5))
    policy = policy_of(pool)
    scores = policy.scores(b"key", 0.0)
    assert sorted(scores.values()) == [0.0, 1.0, 2.0, 3.0, 4.0]
    first, second = sorted(scores, key=scores.__getitem__)[:2]
    assert policy.pick(b"key", 0.0) is first
    first.active = pool.active = LOAD_FLOOR
    later = policy.scores(b"key", 0.0)
    assert (later[second], later[first]) == (0.0, 4.0)
    assert policy.pick(b"key", 0.0) is second
