"""
The backend with the least in flight for its weight.

Must not know how long anything takes. Theory of operation. The round robin's turn is taken unless another backend
is strictly less busy, so idle backends share by weight exactly. Up to ``COMPARED`` backends all are compared; above
that the turn is compared with one random other, which is as good as two choices are and costs the same for any
number.
"""

from collections.abc import Sequence
from random import Random
from typing import Final

from pyproxy.balance.backend import Backend
from pyproxy.balance.policies.policy import IsOpen, Policy, mean_weight
from pyproxy.balance.policies.round_robin import RoundRobin
from pyproxy.balance.policies.weighted_draw import WeightedDraw

COMPARED: Final = 16


class LeastConn(Policy):
    """Pick from ``backends``; begin ``offset`` turns into the round robin's order."""

    __slots__ = ("_around", "_backends", "_draw", "_places", "_turns")

    def __init__(self, backends: Sequence[Backend], offset: int, random: Random) -> None:
        self._backends = tuple(backends)
        self._turns = RoundRobin(backends, offset)
        self._draw = WeightedDraw(backends, random) if len(backends) > COMPARED else None
        # Who comes after a backend is a slice: ties go to the next in the circle, not always to the same.
        self._around = self._backends * 2
        self._places = {backend: place for place, backend in enumerate(self._backends)}

    @property
    def turn(self) -> int:
        """Where the round robin is: a successor may go on there."""
        return self._turns.turn

    @property
    def backends(self) -> tuple[Backend, ...]:
        """Who is picked from."""
        return self._backends

    def place_among(self, weights: Sequence[int]) -> int:
        """Give the turn that is as far on in the round robin's order with other weights."""
        return self._turns.place_among(weights)

    def pick(self, key: bytes, now: float, is_open: IsOpen | None = None) -> Backend | None:
        first = self._turns.pick(key, now, is_open)
        if first is None or not first.active:
            return first
        return self._less_busy(first, is_open)

    def peek(self, key: bytes, now: float, is_open: IsOpen | None = None) -> Backend | None:
        first = self._turns.peek(key, now, is_open)
        if first is None or not first.active:
            return first
        if self._draw is None:
            return self._less_busy(first, is_open)
        random = self._draw.random
        state = random.getstate()
        backend = self._less_busy(first, is_open)
        random.setstate(state)
        return backend

    def charge(self, backend: Backend) -> None:
        self._turns.charge(backend)

    def scores(self, key: bytes, now: float) -> dict[Backend, float]:
        """Count what is in flight, at the average weight."""
        mean = mean_weight(self._backends)
        return {backend: backend.active * mean / backend.weight for backend in self._backends}

    def _less_busy(self, first: Backend, is_open: IsOpen | None) -> Backend:
        """Give the least busy of those that are compared, ``first`` on a tie."""
        place = self._places[first]
        if self._draw is None:
            others = self._around[place + 1 : place + len(self._backends)]
        else:
            others = (self._backends[self._draw.other(place)],)
        best = first
        for backend in others:
            is_less = backend.active * best.weight < best.active * backend.weight
            if is_less and (is_open is None or is_open(backend)):
                best = backend
        return best
