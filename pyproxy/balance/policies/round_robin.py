"""
Smooth weighted round robin.

Theory of operation. With total weight W, the k-th pick of a backend of weight w belongs into the window of
turns from floor(k·W/w) to ceil((k+1)·W/w). Serving, among the windows that have opened, the one that closes
first meets every window (earliest deadline first on one processor; Baruah et al., "Proportionate Progress",
1996), so at any moment each backend is less than one pick away from its share. Integers only: no drift, ever.

After W turns (with the weights divided by their greatest common divisor) the order repeats. It is worked out
turn by turn with two heaps and written down; from the second period on a pick is one list access.
"""

from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from math import gcd

from pyproxy.balance.backend import Backend


class RoundRobin:
    """Pick from ``backends``, all with a weight of at least 1; begin ``offset`` turns into the order."""

    __slots__ = ("_backends", "_next", "_open", "_order", "_period", "_picks", "_waiting", "_weights")

    def __init__(self, backends: Sequence[Backend], offset: int = 0) -> None:
        self._backends = tuple(backends)
        divisor = gcd(*(backend.weight for backend in backends))
        self._weights = [backend.weight // divisor for backend in backends]
        self._period = sum(self._weights)
        self._picks = [0] * len(backends)
        self._open = [(self._closes(index), index) for index in range(len(backends))]
        self._waiting: list[tuple[int, int]] = []  # (the turn at which the window opens, index)
        heapify(self._open)
        self._order: list[Backend] = []
        self._next = 0
        for _ in range(offset % self._period):
            self.pick()

    def pick(self) -> Backend:
        """Give the backend whose turn it is."""
        turn = self._next
        backend = self._order[turn] if turn < len(self._order) else self._work_out(turn)
        self._next = turn + 1 if turn + 1 < self._period else 0
        return backend

    def _closes(self, index: int) -> int:
        return -(-(self._picks[index] + 1) * self._period // self._weights[index])

    def _work_out(self, turn: int) -> Backend:
        while self._waiting and self._waiting[0][0] <= turn:
            index = heappop(self._waiting)[1]
            heappush(self._open, (self._closes(index), index))
        index = heappop(self._open)[1]
        self._picks[index] += 1
        heappush(self._waiting, (self._picks[index] * self._period // self._weights[index], index))
        self._order.append(self._backends[index])
        return self._backends[index]
