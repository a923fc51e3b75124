"""
A named group of backends with one policy: which of them are eligible, and which one is next.

Must not know connections, queues or how often an exchange may try. Who is eligible is worked out when something
flips, never on a pick; whether an eligible backend has room under its ``max_conns`` is asked on a pick, and only in
a pool that has such limits.
"""

from collections.abc import Callable, Collection, Sequence
from random import Random
from typing import Any

from pyproxy.balance.backend import Backend
from pyproxy.balance.policies import POLICIES
from pyproxy.balance.policies.policy import Policy
from pyproxy.balance.slow_start import STEPS, limit_at, step_at
from pyproxy.config.runtime import seconds_left


def _divide(weight: int, unit: int) -> float:
    """Count in the file's unit, in whole numbers where that can be."""
    return weight / unit if weight % unit else weight // unit


def _active_here(backend: Backend) -> int:
    return backend.active


class Pool:
    """
    Pick backends.

    ``offset`` makes the workers begin at different places, ``unit`` is what a weight of 1 in the file counts.
    ``in_flight`` counts over all workers what is in flight on a backend. ``active`` is what this worker has in
    flight in the pool; whoever begins and ends attempts counts it. With ``tries_all`` health doesn't matter while
    nobody is up. ``is_checking`` says that nobody is eligible only because the first checks aren't done.

    ``spare`` are the backups that would be eligible if the primary backends weren't: a request that has met all of
    these in vain goes to them, or has waited in vain for room.

    With ``start_slowly`` a backend that is back gets its share in so many seconds; ``rise`` is to be called now and
    then while ``is_rising``. Meanwhile all weights and the unit are in twentieths of what they were.
    """

    __slots__ = (
        *("_in_flight", "_policy_name", "_tries_all", "active", "backends", "eligible", "is_checking", "is_limited"),
        *("name", "offset", "policy", "random", "spare", "unit", "_spare_pool"),
        *("_full_unit", "_slow_start", "is_rising"),
    )

    def __init__(
        self,
        name: str,
        policy: str,
        backends: Sequence[Backend],
        *,
        offset: int = 0,
        unit: int = 1,
        tries_all: bool = False,
        in_flight: Callable[[Backend], int] | None = None,
    ) -> None:
        self.name = name
        self.backends = tuple(backends)
        self.offset = offset
        self.unit = unit
        self.active = 0
        self.random: Random = Random(offset)  # noqa: S311 - nothing secret depends on it
        self.eligible: tuple[Backend, ...] = ()
        self.spare: tuple[Backend, ...] = ()
        self._spare_pool: Pool | None = None  # of these alone, made when it is needed
        self.is_limited = False
        self.is_checking = False
        self.policy: Policy | None = None
        self._policy_name = policy
        self._tries_all = tries_all
        self._in_flight = in_flight or _active_here
        self._full_unit = unit
        self._slow_start = 0.0
        self.is_rising = False
        self.rebuild()

    def __repr__(self) -> str:
        return f"<Pool {self.name} {len(self.eligible)}/{len(self.backends)} eligible>"

    def replace(self, backends: Sequence[Backend], unit: int, now: float = 0.0) -> None:
        """Change the members; those that stay are the same objects, with their full weights in the new unit."""
        self.backends = tuple(backends)
        self._full_unit = unit
        self._set_shares(now)
        self.rebuild()

    def start_slowly(self, seconds: float, now: float) -> None:
        """Let backends that are back have their share in so many seconds, those that came before as well."""
        self._slow_start = seconds
        if self._set_shares(now):
            self.rebuild()

    def rise(self, now: float) -> None:
        """Let those that are back have what is theirs by now."""
        if self.is_rising and self._set_shares(now):
            self.rebuild()

    def _set_shares(self, now: float) -> bool:
        """Work out weights and limits from the full ones; return whether that changed any."""
        steps = [step_at(backend.rising, self._slow_start, now) for backend in self.backends]
        self.is_rising = any(step < STEPS for step in steps)
        self.unit = self._full_unit * STEPS if self.is_rising else self._full_unit
        changed = False
        for backend, step in zip(self.backends, steps, strict=True):
            weight = backend.full_weight * step if self.is_rising else backend.full_weight
            max_conns = limit_at(backend.full_max_conns, step)
            changed = changed or (weight, max_conns) != (backend.weight, backend.max_conns)
            backend.weight, backend.max_conns = weight, max_conns
        return changed

    def rebuild(self) -> None:
        """
        Work out anew who is eligible: the primary backends, or the backup tier while there are none.

        Of either only those with a weight that the operator wants to have traffic, and that are up and not ejected.
        """
        wanted = [backend for backend in self.backends if backend.weight and backend.state == "ready"]
        candidates = [backend for backend in wanted if backend.health == "up" and not backend.ejected]
        if not candidates and self._tries_all:
            candidates = wanted
        self.is_checking = not candidates and any(backend.health == "checking" for backend in wanted)
        primary = tuple([backend for backend in candidates if not backend.backup])
        self.eligible = primary or tuple(candidates)
        self.spare = tuple([backend for backend in candidates if backend.backup]) if primary else ()
        self._spare_pool = None
        self.is_limited = any(backend.max_conns for backend in self.eligible)
        self.policy = POLICIES[self._policy_name](self) if self.eligible else None

    def pick(
        self,
        tried: Collection[Backend] = (),
        key: bytes = b"",
        now: float = 0.0,
        own: Backend | None = None,
        unreachable: Collection[Backend] = (),
    ) -> Backend | None:
        """
        Give the backend for the next attempt.

        One that is in ``tried`` comes only when every other, backups included, is at its limit or was tried too; one
        that is ``unreachable``, which are some of the tried ones, never. None means that there is nobody, or that all
        who are left are at their limits (``has_another``). ``own`` is the one that the client sticks to: it comes
        first, whatever its weight and tier, if it wasn't tried, can be used and has room; if it was, it comes again
        when nobody is eligible.
        """
        policy = self.policy
        if own is not None and own not in tried and self.can_serve(own):
            if policy is not None:
                policy.charge(own)
            return own
        if policy is None:
            return own if own is not None and own not in unreachable and self.can_serve(own) else None
        if tried:
            untried = self._pick_without(tried, key, now)
            return untried if untried is not None else self._pick_without(unreachable, key, now)
        return policy.pick(key, now, self._has_room if self.is_limited else None)

    def _pick_without(self, passed_over: Collection[Backend], key: bytes, now: float) -> Backend | None:
        """Pick from the primary backends, then from the backups, as if some weren't there."""
        policy = self.policy
        assert policy is not None
        backend = policy.pick(key, now, lambda backend: backend not in passed_over and self._has_room(backend))
        return backend if backend is not None else self.pick_spare(passed_over, key, now)

    def pick_spare(self, passed_over: Collection[Backend], key: bytes = b"", now: float = 0.0) -> Backend | None:
        """Pick from the backups that aren't eligible as long as a primary backend is."""
        return self._spares()._pick_without(passed_over, key, now) if self.spare else None

    def peek_spare(self, key: bytes = b"", now: float = 0.0) -> str | None:
        """Say which of them would be picked; nothing changes by asking."""
        return self._spares().explain(key, now)[0] if self.spare else None

    def _spares(self) -> "Pool":
        if self._spare_pool is None:
            self._spare_pool = Pool(
                self.name,
                self._policy_name,
                self.spare,
                offset=self.offset,
                unit=self.unit,
                tries_all=self._tries_all,
                in_flight=self._in_flight,
            )
        return self._spare_pool

    def has_another(self, unreachable: Collection[Backend] = (), own: Backend | None = None) -> bool:
        """Whether there is anybody for the next attempt, if only one at its limit, or the one that is stuck to."""
        if own is not None and own not in unreachable and self.can_serve(own):
            return True
        if not unreachable:
            return bool(self.eligible)
        return any(backend not in unreachable for backend in (*self.eligible, *self.spare))

    def keeps(self, backend: Backend) -> bool:
        """Whether the clients that stick to a backend go on doing so, even if it can't serve them right now."""
        if backend.state == "maint" or backend.ejected:
            return False
        return backend.health != "down" or backend in self.eligible

    def can_serve(self, own: Backend) -> bool:
        """Whether a backend can serve a client that sticks to it: not in maintenance, up, and below its limit."""
        if not self.keeps(own) or (own.health == "checking" and own not in self.eligible):
            return False
        return self._has_room(own)

    def explain(
        self, key: bytes = b"", now: float = 0.0, own: Backend | None = None
    ) -> tuple[str | None, list[dict[str, Any]]]:
        """
        Say who would be picked now, and how each backend stands; nothing changes by asking.

        ``own`` is the one that the client sticks to.

        A row has ``name``, ``address``, ``weight`` (the file's), ``active`` (over all workers), ``eligible``, ``score``
        (None if it isn't eligible), ``reason`` (None if it could be picked) and ``slow_start`` (seconds left, or None).
        """
        policy = self.policy
        scores: dict[Backend, float] = {}
        picked = None
        if policy is not None:
            scores = policy.scores(key, now)
            picked = policy.peek(key, now, self._has_room if self.is_limited else None)
        if own is not None and self.can_serve(own):
            picked = own
        rows = [
            {
                "name": backend.name,
                "address": backend.address.decode(),
                "weight": _divide(backend.full_weight, self._full_unit),
                "active": self._in_flight(backend),
                "eligible": backend in scores,
                "score": scores.get(backend),
                "reason": self._reason_against(backend, is_eligible=backend in scores),
                "slow_start": round(seconds_left(backend.rising, self._slow_start, now), 1) or None,
            }
            for backend in self.backends
        ]
        return picked.name if picked is not None else None, rows

    def reasons_against(self, most: int) -> list[tuple[str, str]]:
        """Give the names of the first backends, at most so many, each with why it isn't eligible."""
        return [
            (backend.name, self._reason_against(backend, is_eligible=False) or "eligible")
            for backend in self.backends[:most]
        ]

    def _has_room(self, backend: Backend) -> bool:
        return not backend.max_conns or self._in_flight(backend) < backend.max_conns

    def _reason_against(self, backend: Backend, *, is_eligible: bool) -> str | None:
        if backend.state != "ready":
            return "drained" if backend.state == "drain" else backend.state
        if not backend.weight:
            return "weight 0: sticky clients only"
        if not is_eligible and backend.health != "up":
            return backend.health
        if not is_eligible and backend.ejected:
            return "ejected"
        if not is_eligible:
            return "backup: a primary backend is available"
        if not self._has_room(backend):
            return f"at max_conns ({self._in_flight(backend)} of {backend.max_conns})"
        return None
