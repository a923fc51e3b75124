"""
Draw backends at random by weight, at the same cost however many there are. Must not know what a draw is for.

Theory of operation. Vose's alias method: the total weight is cut into as many equal columns as there are backends,
so that a column belongs to its own backend up to a threshold and to one other, its alias, above it. One random
number gives column and height.
"""

from collections.abc import Sequence
from random import Random
from typing import Final

from pyproxy.balance.backend import Backend
from pyproxy.balance.policies.policy import IsOpen

#: So often a closed backend is drawn before the open ones are looked for one by one.
TRIES: Final = 8


class WeightedDraw:
    """Draw from ``backends``, all with a weight of at least 1; draws are indices."""

    __slots__ = ("_alias", "_random", "_threshold", "backends", "random")

    def __init__(self, backends: Sequence[Backend], random: Random) -> None:
        self.backends = tuple(backends)
        self.random = random
        self._random = random.random
        count = len(backends)
        height = sum([backend.weight for backend in backends])
        filled = [backend.weight * count for backend in backends]
        self._alias = list(range(count))
        self._threshold = [1.0] * count
        low = [index for index in range(count) if filled[index] < height]
        high = [index for index in range(count) if filled[index] > height]
        while low:  # integers: where one column lacks something, another has it over
            index, giver = low.pop(), high[-1]
            self._threshold[index] = filled[index] / height
            self._alias[index] = giver
            filled[giver] -= height - filled[index]
            if filled[giver] <= height:
                high.pop()
                if filled[giver] < height:
                    low.append(giver)

    def one(self) -> int:
        """Draw one, its chance being its share of the weights."""
        place = self._random() * len(self._alias)
        column = int(place)
        return column if place - column < self._threshold[column] else self._alias[column]

    def other(self, index: int) -> int:
        """Draw another one, the same only if there is none: by weight, or after a repetition by luck alone."""
        drawn = self.one()
        others = len(self._alias) - 1
        if drawn != index or not others:
            return drawn
        drawn = int(self._random() * others)
        return drawn if drawn < index else drawn + 1

    def one_open(self, is_open: IsOpen) -> int:
        """Draw an open one by weight, -1 if there is none."""
        for _ in range(TRIES):
            index = self.one()
            if is_open(self.backends[index]):
                return index
        found = [index for index, backend in enumerate(self.backends) if is_open(backend)]
        if not found:
            return -1
        return self.random.choices(found, [self.backends[index].weight for index in found])[0]

    def other_open(self, index: int, is_open: IsOpen) -> int:
        """Draw another open one, the same if none turns up."""
        for _ in range(TRIES):
            drawn = self.other(index)
            if is_open(self.backends[drawn]):
                return drawn
        return index
