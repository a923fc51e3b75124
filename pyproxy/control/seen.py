"""
Which sticky clients were seen lately on which backend, so that an operator knows when a drained one is empty of them.

Must not know who a client is, only a number that stands for its address: clients behind one address count once. Time
counts in slots of ``SLOT_SECONDS``, so that how many there were is a sum of a few numbers, not a look at each.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

SLOT_SECONDS: Final = 15
#: So many are remembered of one pool; beyond that, those that were seen longest ago are forgotten.
CLIENTS_MAX: Final = 100_000
LONGEST_SECONDS: Final = 3600


class Seen:
    """Clients by pool and backend, for an hour; the times are seconds of one clock that never goes back."""

    def __init__(self, most: int = CLIENTS_MAX) -> None:
        self._most = most
        self._pools: dict[str, _Pool] = {}

    def __repr__(self) -> str:
        return f"<Seen {sum(len(pool.slots) for pool in self._pools.values())} clients>"

    def note(self, pool: str, backend: str, clients: Iterable[int], now: float) -> None:
        """Take it that these clients came to a backend."""
        slot = int(now // SLOT_SECONDS)
        found = self._pools.setdefault(pool, _Pool())
        for client in clients:
            found.note(backend, client, slot)
        found.forget(slot - LONGEST_SECONDS // SLOT_SECONDS, self._most)

    def count(self, pool: str, backend: str, seconds: int, now: float) -> int:
        """Count a backend's clients of the last so many seconds, up to an hour, and up to ``SLOT_SECONDS`` more."""
        found = self._pools.get(pool)
        if found is None:
            return 0
        first = int(now // SLOT_SECONDS) - seconds // SLOT_SECONDS
        return sum([count for slot, count in found.counts.get(backend, {}).items() if slot >= first])


class _Pool:
    """The clients of one pool: ``slots`` in the order of when they were seen last, ``counts`` by backend and slot."""

    __slots__ = ("counts", "slots")

    def __init__(self) -> None:
        self.slots: OrderedDict[tuple[str, int], int] = OrderedDict()
        self.counts: dict[str, dict[int, int]] = {}

    def note(self, backend: str, client: int, slot: int) -> None:
        place = backend, client
        before = self.slots.get(place)
        if before == slot:
            return
        if before is not None:
            self._uncount(backend, before)
        self.slots[place] = slot
        self.slots.move_to_end(place)
        counts = self.counts.setdefault(backend, {})
        counts[slot] = counts.get(slot, 0) + 1

    def forget(self, oldest: int, most: int) -> None:
        """Forget who was seen before the oldest slot, and who is too many."""
        while self.slots:
            place, slot = next(iter(self.slots.items()))
            if slot >= oldest and len(self.slots) <= most:
                break
            del self.slots[place]
            self._uncount(place[0], slot)

    def _uncount(self, backend: str, slot: int) -> None:
        counts = self.counts[backend]
        counts[slot] -= 1
        if not counts[slot]:
            del counts[slot]
        if not counts:
            del self.counts[backend]
