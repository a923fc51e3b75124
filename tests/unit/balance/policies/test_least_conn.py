"""Pins whom the least busy policy compares, and who wins a tie."""

from collections import Counter
from random import Random

from pyproxy.balance.policies.least_conn import COMPARED, LeastConn
from tests.unit.balance.backends import backends


def policy_of(weights: list[int], active: list[int], offset: int = 0) -> LeastConn:
    """Make a policy over backends with something in flight."""
    members = backends(weights)
    for member, number in zip(members, active, strict=True):
        member.active = number
    return LeastConn(members, offset, Random(1))


def picks(policy: LeastConn, count: int) -> list[int]:
    """Pick so many times; nothing of it gets in flight."""
    chosen = [policy.pick(b"", 0.0) for _ in range(count)]
    return [int(pick.name) for pick in chosen if pick is not None]


def test_the_least_busy_for_its_weight() -> None:
    """Four in flight on a weight of 4 are less than three on a weight of 2."""
    assert picks(policy_of([4, 2, 1], [4, 3, 2]), 5) == [0] * 5


def test_a_tie_goes_by_turns() -> None:
    """Equally busy backends are served in the order of the round robin, with its shares."""
    assert Counter(picks(policy_of([3, 2, 1], [3, 2, 1]), 600)) == {0: 300, 1: 200, 2: 100}


def test_a_tie_of_others_goes_around() -> None:
    """If the turn is a busy one's, those less busy than it come alternately, not always the first of them."""
    assert picks(policy_of([1, 1, 1], [9, 0, 0]), 6) == [1, 1, 2, 1, 1, 2]
    assert picks(policy_of([1, 1, 1, 1], [0, 9, 0, 9]), 4) == [0, 2, 2, 0]


def test_turns_begin_at_the_offset() -> None:
    """Workers start at different places."""
    assert picks(policy_of([1, 1, 1], [0, 0, 0], 2), 3) == [2, 0, 1]
    assert policy_of([1, 1, 1], [0, 0, 0], 2).turn == 2


def test_many_backends_are_not_all_compared() -> None:
    """Above the limit the turn is compared with one random other: an idle one isn't always found, a busy one loses."""
    size = COMPARED + 1
    few = picks(policy_of([1] * (size - 1), [1] * (size - 2) + [0]), 50)
    assert set(few) == {size - 2}
    many = policy_of([1] * size, [1] * (size - 1) + [0])
    counts = Counter(picks(many, 1000 * size))
    assert 1500 < counts[size - 1] < 2500
    assert set(counts) == set(range(size))
    busy = policy_of([1] * size, [9] + [1] * (size - 1))
    assert 0 not in picks(busy, 1000)


def test_a_closed_one_is_not_compared() -> None:
    """Who is idle but closed isn't taken, neither of few nor of many."""
    for size in (3, COMPARED + 1):
        policy = policy_of([1] * size, [0] + [1] * (size - 1))
        for _ in range(100):
            pick = policy.pick(b"", 0.0, lambda backend: backend.name != "0")
            assert pick is not None
            assert pick.name != "0"


def test_scores() -> None:
    """What is in flight, at the average weight: the same in every unit."""
    assert list(policy_of([3, 1], [6, 1]).scores(b"", 0.0).values()) == [4.0, 2.0]
    assert list(policy_of([300, 100], [6, 1]).scores(b"", 0.0).values()) == [4.0, 2.0]
