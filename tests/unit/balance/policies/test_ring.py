"""Pins the ring: points by weight, from names alone, bounded in number."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from pyproxy.balance.policies.ring import MOST_POINTS, POINTS_PER_WEIGHT, Ring
from tests.unit.balance.backends import backend, backends


def owners(ring: Ring) -> Counter[int]:
    """Count the points of each member."""
    return Counter([point & ring.mask for point in ring.points])


@given(weights=st.lists(st.integers(1, 20), min_size=1, max_size=20), unit=st.sampled_from([1, 2, 3, 60, 5040]))
@settings(deadline=None)
def test_points_by_weight(weights: list[int], unit: int) -> None:
    """A weight of 1 in the file is 64 points, a fraction of it as many less, and nobody is without."""
    ring = Ring(backends(weights), unit)
    expected = {place: max(1, weight * POINTS_PER_WEIGHT // unit) for place, weight in enumerate(weights)}
    assert owners(ring) == expected
    assert list(ring.points) == sorted(ring.points)


def test_the_number_of_points_is_bounded() -> None:
    """The heaviest pools share a fixed number of points by weight."""
    ring = Ring(backends([256] * 100 + [1] * 100), 1)
    assert MOST_POINTS * 0.99 < len(ring.points) <= MOST_POINTS
    assert min(owners(ring).values()) >= 1
    tiny = Ring(backends([10**7] + [1] * 9), 1)
    assert len(owners(tiny)) == 10
    assert len(tiny.points) <= MOST_POINTS + 9


def test_a_ring_is_the_same_everywhere() -> None:
    """Keys belong to the same backends in every worker, after a restart and on another machine: pinned by value."""
    names = ["web1", "web2", "app[10.0.0.1:80]"]
    members = [backend(name, 1) for name in names]
    ring = Ring(members, 1)
    found = [names[ring.points[ring.find(b"10.0.0.%d" % number)] & ring.mask] for number in range(6)]
    assert found == [names[place] for place in (2, 2, 0, 0, 0, 1)]


def test_the_order_of_the_file_does_not_matter() -> None:
    """A line that moves in the file moves no key."""
    forth = [backend(str(number), 1 + number % 3) for number in range(10)]
    back = forth[::-1]
    one, other = Ring(forth, 1), Ring(back, 1)
    for number in range(1000):
        key = str(number).encode()
        assert forth[one.points[one.find(key)] & one.mask] is back[other.points[other.find(key)] & other.mask]


def test_the_end_leads_to_the_beginning() -> None:
    """A key beyond the last point belongs to the first one."""
    ring = Ring(backends([1]), 1)
    keys = [str(number).encode() for number in range(5000)]
    beyond = [key for key in keys if xxh3_64_intdigest(key) > ring.points[-1]]
    assert {ring.find(key) for key in beyond} == {0}
    assert {ring.find(key) for key in keys} == set(range(len(ring.points)))


def test_is_of() -> None:
    """It is for the same names and weights, not for the same objects."""
    ring = Ring(backends([1, 2]), 1)
    assert ring.is_of(backends([1, 2]), 1)
    assert not ring.is_of(backends([1, 3]), 1)
    assert not ring.is_of(backends([1, 2]), 2)
    assert not ring.is_of([backend("x", 1), backend("1", 2)], 1)
