"""
Smooth weighted round robin.

Theory of operation. With total weight W, the k-th pick of a backend of weight w belongs into the window of
turns from floor(k·W/w) to ceil((k+1)·W/w). Serving, among the windows that have opened, the one that closes
first meets every window (earliest deadline first on one processor; Baruah et al., "Proportionate Progress",
1996), so at any moment each backend is less than one pick away from its share. Integers only: no drift, ever.

After W turns (with the weights divided by their greatest common divisor) the order repeats. It is worked out
turn by turn with two heaps and written down; from the second period on a pick is one list access. Of a longer
period than ``RECORDED`` turns only a piece is written down at a time, and none is looked up twice.

With ``is_open`` the turns of closed backends are passed over. If as many turns as there are backends are all
theirs, waiting for the next turn of an open one could take a whole period: then the open ones share by credits, as
in nginx, and the order stays where it is.

A request whose client sticks to a backend takes a turn as well (``charge``). Was it the turn of another backend, that
one is owed a turn, and gets the next one of the debtor that comes up in a pick. What one is owed or owes is bounded by
``OWED``: beyond that nothing is charged. So one that has many sticky clients gets no others, but when these have left,
it is out for ``OWED`` periods at most.
"""

from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from math import gcd
from typing import Final

from pyproxy.balance.backend import Backend
from pyproxy.balance.policies.policy import IsOpen, Policy

RECORDED: Final = 65_536
OWED: Final = 16


class RoundRobin(Policy):
    """Pick from ``backends``, all with a weight of at least 1; begin ``offset`` turns into the order."""

    __slots__ = (
        *("backends", "_balance", "_bits", "_chunk", "_credits", "_next", "_open", "_order", "_owed", "_period"),
        *("_picks", "_turn", "_waiting", "_weights"),
    )

    def __init__(self, backends: Sequence[Backend], offset: int = 0) -> None:
        self.backends = tuple(backends)
        divisor = gcd(*[backend.weight for backend in backends])
        self._weights = [backend.weight // divisor for backend in backends]
        self._period = sum(self._weights)
        self._chunk = min(self._period, RECORDED)
        # the turns that are worked out
        self._turn = 0  # the next one
        self._picks = [0] * len(backends)
        # Heaps of ints, each a turn and below it the index: 0.3 µs less than tuples for a turn among 1,000.
        self._bits = len(backends).bit_length()
        self._open = [self._closes(index) << self._bits | index for index in range(len(backends))]
        self._waiting: list[int] = []  # by the turn at which the window opens
        heapify(self._open)
        # the turns that are taken
        self._order: list[Backend] = []
        self._next = offset % self._chunk
        self._credits = [0] * len(backends)
        # turns that sticky clients took: positive is owed to the backend; the sum is 0
        self._balance = dict.fromkeys(self.backends, 0)
        self._owed: dict[Backend, None] = {}  # those with a positive one, who has been waiting for longest comes first

    @property
    def turn(self) -> int:
        """Where in the order the next pick is: a successor may go on there."""
        return self._next

    def place_among(self, weights: Sequence[int]) -> int:
        """Give the turn of an order with other weights that is as far on in it as the next pick is in this one."""
        period = min(sum(weights) // gcd(*weights), RECORDED)
        return self._next * period // self._chunk

    def pick(self, key: bytes = b"", now: float = 0.0, is_open: IsOpen | None = None) -> Backend | None:
        """Give the backend whose turn it is, or whom that one owes a turn."""
        if self._owed:
            return self._pick_owed(is_open)
        if is_open is not None:
            return self._pick_open(is_open)
        turn = self._next
        order = self._order
        backend = order[turn] if turn < len(order) else self._work_out(turn)
        turn += 1
        if turn < self._chunk:
            self._next = turn
        else:
            self._go_to(turn)
        return backend

    def peek(self, key: bytes = b"", now: float = 0.0, is_open: IsOpen | None = None) -> Backend | None:
        backend = self._peek_turn(is_open)
        return self._creditor(backend, is_open) if backend is not None else None

    def _peek_turn(self, is_open: IsOpen | None) -> Backend | None:
        if is_open is None:
            return self._look(0)
        ahead = self._find(is_open)
        if ahead >= 0:
            return self._look(ahead)
        credit = self._credits[:]
        backend = self._pick_by_credit(is_open)
        self._credits = credit
        return backend

    def charge(self, backend: Backend) -> None:
        """Let a backend take the turn that is next, whosever it is."""
        owner = self._look(0)
        if owner is not backend:
            balance = self._balance.get(backend)
            if balance is None or balance <= -OWED or self._balance[owner] >= OWED:
                return  # not one of ours, or too much is owed already
            self._shift(owner, backend)
        self._go_to(self._next + 1)

    def scores(self, key: bytes, now: float) -> dict[Backend, float]:
        """Count the turns until each backend's next pick; one that is far away is at least ``RECORDED`` off."""
        found: dict[Backend, float] = {}
        for ahead in range(self._chunk):
            found.setdefault(self._look(ahead), float(ahead))
            if len(found) == len(self.backends):
                break
        return {backend: found.get(backend, float(self._chunk)) for backend in self.backends}

    def _pick_owed(self, is_open: IsOpen | None) -> Backend | None:
        """Pick while turns are owed."""
        if is_open is not None:
            backend = self._pick_open(is_open)
            if backend is None:
                return None
        else:
            backend = self._look(0)
            self._go_to(self._next + 1)
        creditor = self._creditor(backend, is_open)
        if creditor is not backend:
            self._shift(backend, creditor)
        return creditor

    def _creditor(self, backend: Backend, is_open: IsOpen | None) -> Backend:
        """Give who gets the turn of a backend: one that is owed a turn and open, if this one owes any, else itself."""
        if self._balance[backend] < 0:
            for creditor in self._owed:
                if is_open is None or is_open(creditor):
                    return creditor
        return backend

    def _shift(self, giver: Backend, taker: Backend) -> None:
        """Note that one backend's turn was taken by another."""
        balance, owed = self._balance, self._owed
        for backend, change in ((giver, 1), (taker, -1)):
            now = balance[backend] = balance[backend] + change
            if now > 0:
                owed[backend] = None
            else:
                owed.pop(backend, None)

    def _pick_open(self, is_open: IsOpen) -> Backend | None:
        ahead = self._find(is_open)
        if ahead < 0:
            return self._pick_by_credit(is_open)
        backend = self._look(ahead)
        self._go_to(self._next + ahead + 1)
        return backend

    def _find(self, is_open: IsOpen) -> int:
        """Count the turns until that of an open backend, -1 if it isn't among the next ones."""
        for ahead in range(len(self.backends)):
            if is_open(self._look(ahead)):
                return ahead
        return -1

    def _pick_by_credit(self, is_open: IsOpen) -> Backend | None:
        """Give each open backend its weight as credit; the richest is picked and pays what all have got."""
        credit = self._credits
        richest = -1
        given = 0
        for index, backend in enumerate(self.backends):
            if is_open(backend):
                weight = self._weights[index]
                given += weight
                credit[index] += weight
                if richest < 0 or credit[index] > credit[richest]:
                    richest = index
        if richest < 0:
            return None
        credit[richest] -= given
        return self.backends[richest]

    # the order

    def _look(self, ahead: int) -> Backend:
        turn = self._next + ahead
        if self._chunk == self._period:
            turn %= self._period
        return self._order[turn] if turn < len(self._order) else self._work_out(turn)

    def _go_to(self, turn: int) -> None:
        if turn >= self._chunk:
            turn -= self._chunk
            if self._chunk < self._period:
                del self._order[: self._chunk]
        self._next = turn

    def _work_out(self, turn: int) -> Backend:
        order = self._order
        while len(order) <= turn:
            order.append(self._next_in_order())
        return order[turn]

    def _next_in_order(self) -> Backend:
        bits = self._bits
        places = (1 << bits) - 1
        self._turn += 1
        while self._waiting and self._waiting[0] < self._turn << bits:
            index = heappop(self._waiting) & places
            heappush(self._open, self._closes(index) << bits | index)
        index = heappop(self._open) & places
        self._picks[index] += 1
        heappush(self._waiting, self._picks[index] * self._period // self._weights[index] << bits | index)
        return self.backends[index]

    def _closes(self, index: int) -> int:
        return -(-(self._picks[index] + 1) * self._period // self._weights[index])
