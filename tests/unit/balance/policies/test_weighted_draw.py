"""Pins that draws have the chances of the weights, exactly, and find whoever is open."""

from fractions import Fraction
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from pyproxy.balance.backend import Backend
from pyproxy.balance.policies.weighted_draw import TRIES, WeightedDraw
from tests.unit.balance.backends import backends

WEIGHTS = st.lists(st.integers(1, 256), min_size=1, max_size=30)


class Grid(Random):
    """Gives the numbers it is told."""

    def __init__(self, numbers: list[float]) -> None:
        super().__init__(0)
        self._numbers = iter(numbers)

    def random(self) -> float:
        return next(self._numbers)


@given(weights=st.lists(st.integers(1, 60), min_size=1, max_size=10))
@settings(deadline=None)
def test_chances(weights: list[int]) -> None:
    """Over all heights and columns of the table every backend has its share."""
    total, size = sum(weights), len(weights)
    # A threshold is a multiple of 1/total, so the middles of so many steps meet every part of the table once.
    numbers = [(column + (step + 0.5) / total) / size for column in range(size) for step in range(total)]
    draw = WeightedDraw(backends(weights), Grid(numbers))
    counts = [0] * size
    for _ in numbers:
        counts[draw.one()] += 1
    assert [Fraction(count, len(numbers)) for count in counts] == [Fraction(weight, total) for weight in weights]


@given(weights=WEIGHTS, seed=st.integers(0, 1000))
@settings(deadline=None)
def test_the_other_is_another(weights: list[int], seed: int) -> None:
    """Two draws are distinct unless there is only one backend."""
    draw = WeightedDraw(backends(weights), Random(seed))
    for _ in range(20):
        index = draw.one()
        other = draw.other(index)
        assert 0 <= other < len(weights)
        assert (other == index) == (len(weights) == 1)


def test_after_a_repetition_any_other_may_come() -> None:
    """Beside an overwhelming weight the others have the same chance each."""
    draw = WeightedDraw(backends([10**9, 1, 1, 1]), Random(3))
    assert {draw.other(0) for _ in range(100)} == {1, 2, 3}
    numbers = [0.0, 0.0, 0.0, 0.34, 0.0, 0.99]
    draw = WeightedDraw(backends([1, 1, 1, 1]), Grid(numbers))
    assert [draw.other(0) for _ in range(3)] == [1, 2, 3]


@given(weights=WEIGHTS, places=st.sets(st.integers(0, 29)), seed=st.integers(0, 1000))
@settings(deadline=None)
def test_an_open_one_is_found(weights: list[int], places: set[int], seed: int) -> None:
    """However few are open, one of them is drawn, -1 without any; another one may be missed, a closed one never."""
    members = backends(weights)
    draw = WeightedDraw(members, Random(seed))
    up = {index for index in places if index < len(members)}
    asked = 0

    def is_open(backend: Backend) -> bool:
        nonlocal asked
        asked += 1
        return int(backend.name) in up

    index = draw.one_open(is_open)
    assert index in up or (index == -1 and not up)
    assert asked <= TRIES + len(weights)
    if up:
        asked = 0
        assert draw.other_open(index, is_open) in up
        assert asked <= TRIES


def test_few_open_ones_share_by_weight() -> None:
    """Looked for one by one they have the chances of their weights, too."""
    draw = WeightedDraw(backends([10**6, 1, 3]), Random(5))
    found = [draw.one_open(lambda backend: backend.name != "0") for _ in range(4000)]
    assert 850 < found.count(1) < 1150
