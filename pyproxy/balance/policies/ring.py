"""
A circle of 64-bit numbers on which every backend has points; a key belongs to the next point.

Must not know who is available. A backend's points come from its name alone: whoever leaves or joins moves only the
keys of its own points, and every worker, restart and machine makes the same ring. More weight is more points after
the ones that were there.
"""

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from hashlib import shake_128
from typing import Final

from xxhash import xxh3_64_intdigest

from pyproxy.balance.backend import Backend

POINTS_PER_WEIGHT: Final = 64
#: One MiB a worker. Above it every backend gets fewer points, by the same factor, which moves keys once.
MOST_POINTS: Final = 2**17


class Ring:
    """
    ``points`` in ascending order; the low bits, ``mask``, of each are the place of its backend in ``members``.

    A point needs no object and no second array for its backend so.
    """

    __slots__ = ("_made_of", "mask", "points")

    def __init__(self, members: Sequence[Backend], unit: int) -> None:
        self._made_of = _summary(members, unit)
        self.mask = (1 << len(members).bit_length()) - 1
        total = sum([member.weight for member in members])
        points_of, weight_of = POINTS_PER_WEIGHT, unit  # so many points for such a weight
        if total * points_of > MOST_POINTS * weight_of:
            points_of, weight_of = MOST_POINTS, total
        clear = ~self.mask
        points: list[int] = []
        for place, member in enumerate(members):
            count = max(1, member.weight * points_of // weight_of)
            made = array("Q", shake_128(member.name.encode()).digest(8 * count))
            points += [point & clear | place for point in made]
        points.sort()
        self.points = array("Q", points)

    def is_of(self, members: Sequence[Backend], unit: int) -> bool:
        """Whether a ring for these would be the same."""
        return self._made_of == _summary(members, unit)

    def find(self, key: bytes) -> int:
        """Give the index of the point that a key belongs to."""
        index = bisect_left(self.points, xxh3_64_intdigest(key))
        return index if index < len(self.points) else 0


def _summary(members: Sequence[Backend], unit: int) -> tuple[int, tuple[tuple[str, int], ...]]:
    return unit, tuple([(member.name, member.weight) for member in members])
