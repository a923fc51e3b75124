"""
Which backends each pool has at the moment: those of the configuration, its names replaced by their addresses.

Must not know how a name is looked up nor how workers are told: it is given answers, and hands out plain data.

Theory of operation. A name with one address is one backend under its own name; with several it is one each,
named ``NAME[ADDRESS]``. The weight of the name is shared between them, and since weights are integers, all
weights of the pool are multiplied by a ``unit`` that makes the shares whole.

Each backend has a seat, a block of columns in the scoreboard, and no two that live have the same::

                 joins                      leaves
    (never used) ──────▶ taken ◀──────────────────────▶ leaving
                           ▲     the same name is back     │ every worker has applied the version without it,
        the same name: as  │                               │ and nothing is in flight on it
        it was; another: cleared                           ▼
                           └───────────────────────────── free

A worker whose last request on a leaving backend ends late thus counts it where it belongs, never elsewhere.
"""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from fractions import Fraction
from typing import Any

from pyproxy.clock import wall
from pyproxy.config.runtime import Backend, Pool, RuntimeConfig, join_address
from pyproxy.control.answers import Address, Answer

#: Seats beyond those of the configuration, for the addresses that DNS brings.
SPARE_SEATS = 4096
#: The common denominator of shares stays below; 1 to 10 divide half of it. What needs more is rounded.
MAX_UNIT = 5040

Key = tuple[str, str]  # pool, backend

_log = logging.getLogger(__name__)


class Members:
    """
    The members of all pools; ``version`` counts the changes.

    ``clear`` is called with a seat before it is given to another backend: its counters must be zeroed.
    """

    def __init__(
        self,
        config: RuntimeConfig,
        clear: Callable[[int], None] = lambda _seat: None,
        clock: Callable[[], float] = wall,
    ) -> None:
        self.version = 1
        self.seats: dict[Key, int] = {}
        self.joined: dict[Key, float] = {}  # when, by the clock on the wall
        self.used = 0  # seats from this number on were never taken
        self.capacity = sum(len(pool.backends) for pool in config.pools) + SPARE_SEATS
        self._clear = clear
        self._clock = clock
        self._leaving: dict[Key, tuple[int, int]] = {}  # seat, version without the backend
        self._free: dict[Key, int] = {}  # the one that has been free for longest comes first
        self._answers: dict[Key, Answer] = {}
        self._pools = {pool.name: pool for pool in config.pools}
        self._resolved: dict[str, Pool] = {}
        for name in self._pools:
            self._resolve(name)

    def __repr__(self) -> str:
        return f"<Members version {self.version} {len(self.seats)} of {self.capacity} seats>"

    def pool(self, name: str) -> Pool:
        """
        Give a pool with its present members and their ``unit``.

        A name that has no address yet is among them as the configuration has it, with ``lookup``: it has no seat.
        """
        return self._resolved[name]

    def plain_pool(self, name: str) -> dict[str, Any]:
        """Write a pool's present members as plain data for the workers, names without an address left out."""
        pool = self._resolved[name]
        backends = [asdict(backend) for backend in pool.backends if not backend.lookup]
        return {"name": name, "unit": pool.unit, "backends": backends}

    def start_config(self, plain: Mapping[str, Any]) -> dict[str, Any]:
        """Give the plain configuration with the present members in place of the configured backends."""
        return {**plain, "pools": [{**pool, **self.plain_pool(pool["name"])} for pool in plain["pools"]]}

    def update(self, pool: str, backend: str, answer: Answer) -> bool:
        """Take what a configured name stands for now; return whether that changes the pool."""
        self._answers[pool, backend] = answer
        before = self._resolved[pool]
        self.version += 1
        self._resolve(pool)
        if self._resolved[pool] == before:
            self.version -= 1
            return False
        return True

    def release(self, applied: int, is_idle: Callable[[int], bool]) -> None:
        """
        Free the seats that nobody can count on any more.

        ``applied`` is the oldest version that any worker may still go by, ``is_idle`` says of a seat that no worker
        has anything in flight on it.
        """
        for key, (seat, version) in list(self._leaving.items()):
            if version <= applied and is_idle(seat):
                del self._leaving[key]
                self._free[key] = seat

    def _resolve(self, name: str) -> None:
        """Work out the members of a pool, and let come and go who isn't or is no longer among them."""
        configured = self._pools[name]
        parts: list[tuple[Backend, Fraction]] = []
        taken = {backend.name for backend in configured.backends}
        for backend in configured.backends:
            answer = self._answers.get((name, backend.name), ())
            if not backend.lookup or not answer:
                parts.append((backend, Fraction(backend.weight)))
            elif len(answer) == 1:
                parts.append(_member(backend, backend.name, answer[0]))
            else:
                for address in answer:
                    long_name = f"{backend.name}[{join_address(address.host, address.port)}]"
                    if long_name not in taken:  # by a backend that the configuration calls so
                        taken.add(long_name)
                        parts.append(_member(backend, long_name, address))
        unit = min(math.lcm(*(weight.denominator for _, weight in parts)), MAX_UNIT)
        self._leave(name, {backend.name for backend, _ in parts if not backend.lookup})
        members = (
            self._seat(name, replace(backend, weight=_scale(weight, unit, backend.weight))) for backend, weight in parts
        )
        self._resolved[name] = replace(
            configured, backends=tuple(member for member in members if member is not None), unit=unit
        )

    def _leave(self, pool: str, staying: set[str]) -> None:
        for key in [key for key in self.seats if key[0] == pool and key[1] not in staying]:
            self._leaving[key] = (self.seats.pop(key), self.version)
            del self.joined[key]

    def _seat(self, pool: str, backend: Backend) -> Backend | None:
        """Give a member its seat; None if there is none left."""
        key = pool, backend.name
        if backend.lookup:
            return backend
        if key not in self.seats:
            seat = self._find_seat(key)
            if seat is None:
                _log.error("%s/%s gets no traffic: there are too many backends", *key)
                return None
            self.seats[key] = seat
            self.joined[key] = self._clock()
        return replace(backend, seat=self.seats[key])

    def _find_seat(self, key: Key) -> int | None:
        if key in self._leaving:
            return self._leaving.pop(key)[0]
        if key in self._free:
            return self._free.pop(key)
        if self._free:
            seat = self._free.pop(next(iter(self._free)))
            self._clear(seat)
            return seat
        if self.used == self.capacity:
            return None
        self.used += 1
        return self.used - 1


def _member(backend: Backend, name: str, address: Address) -> tuple[Backend, Fraction]:
    """Make a backend of one address of a name, with the exact weight that is its share."""
    member = replace(
        backend,
        name=name,
        host=address.host,
        port=address.port,
        lookup="",
        backup=backend.backup or address.backup,
    )
    return member, backend.weight * address.share


def _scale(weight: Fraction, unit: int, configured: int) -> int:
    """Write a weight in units; a share of nothing is still a little, unless the name's weight is 0 too."""
    return max(1, round(weight * unit)) if configured else 0
