"""Pins what the less busy of two is."""

from random import Random

from pyproxy.balance.policies.random_choice import RandomChoice
from tests.unit.balance.backends import backends


def test_the_less_busy_for_its_weight() -> None:
    """Of two backends both are drawn, so the less busy one for its weight is always taken."""
    for weights, active, best in (([1, 1], [2, 1], "1"), ([4, 1], [3, 1], "0"), ([1, 4], [1, 3], "1")):
        members = backends(weights)
        for member, number in zip(members, active, strict=True):
            member.active = number
        policy = RandomChoice(members, Random(1))
        picks = [policy.pick(b"", 0.0) for _ in range(100)]
        assert {pick.name for pick in picks if pick is not None} == {best}


def test_scores() -> None:
    """What is in flight, at the average weight."""
    members = backends([3, 1])
    members[0].active = 6
    assert list(RandomChoice(members, Random(1)).scores(b"", 0.0).values()) == [4.0, 0.0]
