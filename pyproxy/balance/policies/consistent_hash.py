"""
The same backend for the same key, as long as it is available and not much busier than the others.

Must not know where keys come from. Theory of operation. The ring has points of all backends with a weight, backups
too, not only of those that are eligible now: a flip rebuilds nothing, and one that is out or closed is passed over on
the way around, so only its own keys go elsewhere. With bounded load (Mirrokni et al., "Consistent Hashing with Bounded
Loads", 2018) one that has more than ``LOAD_FACTOR`` times its share of what is in flight, and at least
``LOAD_FLOOR``, is passed over as well.

The way around is bounded by ``LOOKS`` points. If all of them belong to backends that are out, nearly all of the
weight is: then the key goes to the open backend that rendezvous hashing gives it, which moves as little.
"""

from math import log
from typing import TYPE_CHECKING, Final

from xxhash import xxh3_64_intdigest

from pyproxy.balance.backend import Backend
from pyproxy.balance.policies.policy import IsOpen, Policy
from pyproxy.balance.policies.ring import Ring

if TYPE_CHECKING:
    from pyproxy.balance.pool import Pool

LOAD_FACTOR: Final = 1.25
#: Nobody is busy with less in flight than this: one browser opens six connections at once, which belong together.
LOAD_FLOOR: Final = 8
LOOKS: Final = 256


class ConsistentHash(Policy):
    """Pick from what is eligible in ``pool``, going on with the ring of ``previous`` if it fits."""

    __slots__ = ("_backends", "_members", "_pool", "_weight", "ring")

    def __init__(self, pool: "Pool", previous: Policy | None = None) -> None:
        self._pool = pool
        self._backends = pool.eligible
        self._weight = sum([backend.weight for backend in pool.eligible])
        members = [backend for backend in pool.backends if backend.weight]
        ring = previous.ring if isinstance(previous, ConsistentHash) else None
        self.ring: Ring = ring if ring is not None and ring.is_of(members, pool.unit) else Ring(members, pool.unit)
        eligible = set(pool.eligible)
        self._members = [member if member in eligible else None for member in members]

    def pick(self, key: bytes, now: float, is_open: IsOpen | None = None) -> Backend | None:
        ring = self.ring
        points, mask, members = ring.points, ring.mask, self._members
        index = ring.find(key)
        busy: Backend | None = None
        for _ in range(LOOKS):
            backend = members[points[index] & mask]
            index += 1
            if index == len(points):
                index = 0
            if backend is None or backend is busy or (is_open is not None and not is_open(backend)):
                continue
            if not self._is_overloaded(backend):
                return backend
            if busy is None:
                busy = backend
        return busy or self._pick_by_rendezvous(key, is_open)

    def peek(self, key: bytes, now: float, is_open: IsOpen | None = None) -> Backend | None:
        return self.pick(key, now, is_open)

    def scores(self, key: bytes, now: float) -> dict[Backend, float]:
        """Give each backend's place on the key's way around, from 0; overloaded ones come after the others."""
        ring = self.ring
        start = ring.find(key)
        found: dict[Backend, None] = {}
        for index in range(len(ring.points)):
            backend = self._members[ring.points[(start + index) % len(ring.points)] & ring.mask]
            if backend is not None and backend not in found:
                found[backend] = None
                if len(found) == len(self._backends):
                    break
        order = sorted(found, key=self._is_overloaded)
        return {backend: float(place) for place, backend in enumerate(order)}

    def _is_overloaded(self, backend: Backend) -> bool:
        if backend.active < LOAD_FLOOR:
            return False
        # For an integer, less than the ceiling is less than the number itself.
        return backend.active * self._weight >= LOAD_FACTOR * (self._pool.active + 1) * backend.weight

    def _pick_by_rendezvous(self, key: bytes, is_open: IsOpen | None) -> Backend | None:
        best: Backend | None = None
        best_distance = 0.0
        for backend in self._backends:
            if is_open is None or is_open(backend):
                chance = (xxh3_64_intdigest(backend.name.encode() + b"\0" + key) + 1) / 2**64
                distance = -log(chance) / backend.weight
                if best is None or distance < best_distance:
                    best, best_distance = backend, distance
        return best
