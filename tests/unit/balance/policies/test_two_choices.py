"""Pins how two draws become one pick."""

from random import Random

from pyproxy.balance.backend import Backend
from pyproxy.balance.policies.two_choices import TwoChoices
from tests.unit.balance.backends import backends


class Alphabetical(TwoChoices):
    """Finds the smaller name better."""

    __slots__ = ("seen",)

    def __init__(self, members: list[Backend]) -> None:
        super().__init__(members, Random(7))
        self.seen: list[tuple[str, str]] = []

    def _is_better(self, second: Backend, first: Backend, now: float) -> bool:
        self.seen.append((first.name, second.name))
        return second.name < first.name


def test_the_better_of_two() -> None:
    """Each pick compares two different ones and gives the better."""
    policy = Alphabetical(backends([1, 2, 3]))
    picks = [policy.pick(b"", 0.0) for _ in range(200)]
    assert [pick.name for pick in picks if pick is not None] == [min(pair) for pair in policy.seen]
    assert all(first != second for first, second in policy.seen)


def test_both_are_open() -> None:
    """What is compared is open, both of it."""
    policy = Alphabetical(backends([1] * 5))
    for _ in range(200):
        policy.pick(b"", 0.0, lambda backend: backend.name in "24")
    assert {name for pair in policy.seen for name in pair} == {"2", "4"}
    distinct = [pair for pair in policy.seen if pair[0] != pair[1]]
    assert len(distinct) > 150, "the second one is nearly always found"


def test_the_only_open_one() -> None:
    """With one open there is no choice."""
    policy = Alphabetical(backends([1] * 5))
    pick = policy.pick(b"", 0.0, lambda backend: backend.name == "3")
    assert pick is not None
    assert pick.name == "3"
    assert policy.pick(b"", 0.0, lambda _: False) is None
