"""
Draw two backends by weight and take the better one; what is better, a subclass says.

Must not know the other backends: two draws suffice to keep the longest line short (Mitzenmacher, "The Power of Two
Choices", 2001), and unlike a look at all they don't send every worker to the same idle backend.
"""

from collections.abc import Sequence
from random import Random

from pyproxy.balance.backend import Backend
from pyproxy.balance.policies.policy import IsOpen, Policy, mean_weight
from pyproxy.balance.policies.weighted_draw import WeightedDraw


class TwoChoices(Policy):
    """Pick from ``backends``; the first draw counts unless the second is better, so ties share by weight."""

    __slots__ = ("_backends", "_draw", "_mean_weight")

    def __init__(self, backends: Sequence[Backend], random: Random) -> None:
        self._backends = tuple(backends)
        self._mean_weight = mean_weight(backends)
        self._draw = WeightedDraw(backends, random)

    def pick(self, key: bytes, now: float, is_open: IsOpen | None = None) -> Backend | None:
        draw = self._draw
        if is_open is None:
            index = draw.one()
            other = draw.other(index)
        else:
            index = draw.one_open(is_open)
            if index < 0:
                return None
            other = draw.other_open(index, is_open)
        first = self._backends[index]
        second = self._backends[other]
        return second if self._is_better(second, first, now) else first

    def peek(self, key: bytes, now: float, is_open: IsOpen | None = None) -> Backend | None:
        random = self._draw.random
        state = random.getstate()
        backend = self.pick(key, now, is_open)
        random.setstate(state)
        return backend

    def _is_better(self, second: Backend, first: Backend, now: float) -> bool:
        raise NotImplementedError
