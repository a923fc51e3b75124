"""
Which backends each pool has at the moment: those of the configuration, its names replaced by their addresses.

Must not know how a name is looked up nor how workers are told: it is given answers, and hands out plain data.

Theory of operation. A name with one address is one backend under its own name; with several it is one each,
named ``NAME[ADDRESS]``. The weight of the name is shared between them, and since weights are integers, all
weights of the pool are multiplied by a ``unit`` that makes the shares whole.

A member's name is a label only: an address may be ``app`` today and ``app[10.0.0.1:80]`` tomorrow, and ``app``
another address. What is in flight on an address is of that address alone, so it is addresses that have seats, blocks
of columns in the scoreboard. A seat belongs to a backend of the file at one address, and no two that live share one::

                 joins                            leaves
    (never used) ──────▶ taken ◀────────────────────────────▶ leaving
                           ▲      the same address is back      │ every worker has applied the version without it,
                           │                                    │ and nothing is in flight on it
                           │      the same address, or another  ▼
                           └────────────────────────────────── free

A worker whose last request on a leaving address ends late thus counts it where it belongs, never elsewhere.

Counters are shown by name, and none falls while its name lives. What a name counts is the sum over its seats: the
one that it has, and those that are leaving and were its own (``all_seats``). When one of these becomes free its
counts are folded into the one that the name has; if the name is gone by then, they rest until the seat is taken.
An address that stays takes its counts along to another name. One that comes back goes on where it was under the
name that it had, unless that name has lived on elsewhere since its seat was free; otherwise it begins at zero, so
that nothing is shown as new that was counted before.
"""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import Any

from pyproxy.clock import monotonic, wall
from pyproxy.config.runtime import Backend, Pool, RuntimeConfig, join_address
from pyproxy.control.answers import Address, Answer
from pyproxy.health.steer import stricter

#: Seats beyond those of the configuration, for the addresses that DNS brings.
SPARE_SEATS = 4096
#: The common denominator of shares stays below; 1 to 10 divide half of it. What needs more is rounded.
MAX_UNIT = 5040

Label = tuple[str, str]  # pool, name of a member
_Place = tuple[str, str, str]  # pool, name in the file, address

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Seat:
    number: int
    label: Label  # that its address has, or had when it left
    version: int = 0  # the first one without its address, once it has left
    health: str = "up"  # of its address, as are the next ones
    ejected: bool = False
    rising: float = 0.0
    word: str = "ready"  # the state that it asks for itself


class Members:
    """
    The members of all pools; ``version`` counts the changes.

    ``clear`` is called with a seat whose counters must begin anew, though something may be in flight there.
    ``fold`` is called with a seat that nobody counts on any more and the one that its counts go to.
    """

    def __init__(
        self,
        config: RuntimeConfig,
        clear: Callable[[int], None] = lambda _seat: None,
        fold: Callable[[int, int], None] = lambda _source, _target: None,
        clock: Callable[[], float] = wall,
        monotonic: Callable[[], float] = monotonic,
        is_own: Callable[[Backend], bool] = lambda _backend: False,
    ) -> None:
        self.version = 1
        # By pool and name: since when it has been there, as it is now, by the clock on the wall.
        self.joined: dict[str, dict[str, float]] = {}
        self.used = 0  # seats from this number on were never taken
        self.capacity = sum(len(pool.backends) for pool in config.pools) + SPARE_SEATS
        self._clear = clear
        self._fold = fold
        self._clock = clock
        self._monotonic = monotonic
        self._is_own = is_own
        self._taken: dict[_Place, _Seat] = {}
        self._leaving: dict[_Place, _Seat] = {}
        self._free: dict[_Place, _Seat] = {}  # the one that has been free for longest comes first
        self._answers: dict[Label, Answer] = {}  # by the name in the file
        self._pools = {pool.name: pool for pool in config.pools}
        self._resolved: dict[str, Pool] = {}
        self._held: dict[str, str] = {}  # by pool the name that gets nothing new, though it is shown as it was
        for name in self._pools:
            self._resolve(name)

    def __repr__(self) -> str:
        return f"<Members version {self.version} {len(self._taken)} of {self.capacity} seats>"

    @property
    def seats(self) -> dict[Label, int]:
        """The seat that each member has."""
        return {
            (pool.name, backend.name): backend.seat
            for pool in self._resolved.values()
            for backend in pool.backends
            if not backend.lookup
        }

    def all_seats(self) -> dict[Label, list[int]]:
        """Give the seats whose sum each member's counters are: the one that it has, then those that are leaving."""
        seats = {label: [seat] for label, seat in self.seats.items()}
        for seat in self._leaving.values():
            if seat.label in seats:
                seats[seat.label].append(seat.number)
        return seats

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
        if name in self._held:
            owners = self.configured_names()
            for backend in backends:
                if owners[name, backend["name"]] == self._held[name]:
                    backend["state"] = "maint"
        return {"name": name, "unit": pool.unit, "backends": backends}

    def start_config(self, plain: Mapping[str, Any]) -> dict[str, Any]:
        """Give the plain configuration with the present members in place of the configured backends."""
        return {**plain, "pools": [{**pool, **self.plain_pool(pool["name"])} for pool in plain["pools"]]}

    def update(self, pool: str, backend: str, answer: Answer) -> bool:
        """Take what a configured name stands for now; return whether that changes the pool."""
        self._answers[pool, backend] = answer
        return self._change(pool)

    def configure(self, pool: Pool) -> bool:
        """Take other configured backends for a pool; return whether that changes its members."""
        before = {backend.name: backend for backend in self._pools[pool.name].backends}
        for backend in pool.backends:
            if not _is_same_name(before.pop(backend.name, None), backend):
                self._answers.pop((pool.name, backend.name), None)
        for name in before:
            self._answers.pop((pool.name, name), None)
        self._pools[pool.name] = pool
        return self._change(pool.name)

    def hold(self, pool: str, backend: str | None) -> None:
        """
        Let workers send nothing new to a configured name until this is called with None.

        That is between us and them: everybody else sees the members as they are.
        """
        if backend is not None:
            self._held[pool] = backend
        elif pool in self._held:
            del self._held[pool]
        self.version += 1

    def member(self, pool: str, number: int) -> Backend | None:
        """Give the member on a seat."""
        return next((item for item in self._resolved[pool].backends if item.seat == number and not item.lookup), None)

    def configured(self, pool: str) -> Pool:
        """Give a pool as it is configured now, names and not their addresses."""
        return self._pools[pool]

    def configured_names(self) -> dict[Label, str]:
        """Give the configured name that each member belongs to."""
        return {seat.label: place[1] for place, seat in self._taken.items()}

    def seats_of(self, pool: str, backend: str) -> list[int]:
        """Give the seats of all addresses of a configured name, and of those that are leaving."""
        places = (*self._taken.items(), *self._leaving.items())
        return [seat.number for place, seat in places if place[:2] == (pool, backend)]

    def has_room(self) -> bool:
        """Whether there is a seat for one more backend."""
        return bool(self._free) or self.used < self.capacity

    def set_health(self, pool: str, number: int, health: str) -> bool:
        """Take what checks say of the address on a seat; return whether that changes the pool."""
        seat, old = self._taken_seat(pool, number), self.member(pool, number)
        if seat is None or old is None or old.health == health:
            return False
        seat.health = health
        if (old.health, health) == ("down", "up"):
            seat.rising = self._monotonic()
        self._alter(pool, old, seat)
        self.joined[pool][old.name] = self._clock()
        return True

    def set_ejected(self, pool: str, number: int, *, ejected: bool) -> bool:
        """Pass the address on a seat over, or do so no more; return whether that changes the pool."""
        seat, old = self._taken_seat(pool, number), self.member(pool, number)
        if seat is None or old is None or old.ejected == ejected:
            return False
        seat.ejected = ejected
        self._alter(pool, old, seat)
        return True

    def begin_rising(self, pool: str, backend: str) -> None:
        """Let the slow start of a configured name's addresses begin with the next change, which makes it ready."""
        for place, seat in self._taken.items():
            if place[:2] == (pool, backend):
                seat.rising = self._monotonic()

    def set_word(self, pool: str, number: int, word: str) -> bool:
        """Take the state that the backend on a seat asks for itself; return whether that changes the pool."""
        for place, seat in self._taken.items():
            if place[0] == pool and seat.number == number:
                if word == "ready" and seat.word != word:
                    seat.rising = self._monotonic()
                seat.word = word
        return self._change(pool)

    def release(self, applied: int, is_idle: Callable[[int], bool]) -> None:
        """
        Free the seats that nobody can count on any more.

        ``applied`` is the oldest version that any worker may still go by, ``is_idle`` says of a seat that no worker
        has anything in flight on it.
        """
        heirs = self.seats
        for place, seat in list(self._leaving.items()):
            if seat.version <= applied and is_idle(seat.number):
                self._free[place] = self._leaving.pop(place)
                if seat.label in heirs:
                    self._fold(seat.number, heirs[seat.label])

    def _taken_seat(self, pool: str, number: int) -> _Seat | None:
        seats = (seat for place, seat in self._taken.items() if place[0] == pool)
        return next((seat for seat in seats if seat.number == number), None)

    def _alter(self, pool: str, old: Backend, seat: _Seat) -> None:
        """Put what is kept with a seat into its member: a new version."""
        present, new = self._resolved[pool], _seated(old, seat)
        self.version += 1
        backends = tuple([new if backend is old else backend for backend in present.backends])
        self._resolved[pool] = replace(present, backends=backends)

    def _change(self, name: str) -> bool:
        before = self._resolved[name]
        self.version += 1
        self._resolve(name)
        if self._resolved[name] == before:
            self.version -= 1
            return False
        return True

    def _resolve(self, name: str) -> None:
        """Work out the members of a pool, and let come and go who isn't or is no longer among them."""
        configured = self._pools[name]
        parts = self._parts(configured)
        unit = min(math.lcm(*(weight.denominator for _, _, weight in parts)), MAX_UNIT)
        if any(backend.weight and not weight for _, backend, weight in parts):
            unit *= MAX_UNIT // unit  # a share of nothing becomes 1: that must be little beside the others
        self._leave(name, {place for place, backend, _ in parts if not backend.lookup})
        found = (
            self._sit(place, replace(backend, weight=_scale(weight, unit, backend.weight)))
            for place, backend, weight in parts
        )
        members = tuple(member for member in found if member is not None)
        before, now = self.joined.get(name, {}), self._clock()
        stood = {item.name: (item.state, item.health) for item in self._resolved[name].backends} if before else {}
        self.joined[name] = {
            member.name: before.get(member.name, now)
            if stood.get(member.name) == (member.state, member.health)
            else now
            for member in members
            if not member.lookup
        }
        self._resolved[name] = replace(configured, backends=members, unit=unit)

    def _parts(self, configured: Pool) -> list[tuple[_Place, Backend, Fraction]]:
        """Put its addresses in the place of each name that has any, with their exact weights."""
        parts: list[tuple[str, Backend, Fraction]] = []
        taken = {backend.name for backend in configured.backends}
        for backend in configured.backends:
            answer = self._answers.get((configured.name, backend.name), ())
            if not backend.lookup or not answer:
                parts.append((backend.name, backend, Fraction(backend.weight)))
            elif len(answer) == 1:
                parts.append((backend.name, *_member(backend, backend.name, answer[0])))
            else:
                for address in answer:
                    long_name = f"{backend.name}[{join_address(address.host, address.port)}]"
                    if long_name not in taken:  # by a backend that the configuration calls so
                        taken.add(long_name)
                        parts.append((backend.name, *_member(backend, long_name, address)))
        return [((configured.name, name, backend.address), backend, weight) for name, backend, weight in parts]

    def _leave(self, pool: str, staying: set[_Place]) -> None:
        for place in [place for place in self._taken if place[0] == pool and place not in staying]:
            seat = self._leaving[place] = self._taken.pop(place)
            seat.version = self.version

    def _sit(self, place: _Place, backend: Backend) -> Backend | None:
        """Give a member its seat; None if there is none left."""
        if backend.lookup:
            return backend
        label = place[0], backend.name
        seat = self._taken.get(place) or self._find_seat(place, label)
        if seat is None:
            _log.error("%s/%s gets no traffic: there are too many backends", *label)
            return None
        seat.label = label
        if place not in self._taken:
            seat.health = "up" if self._pools[place[0]].health is None else "checking"
            seat.ejected, seat.rising, seat.word = False, 0.0, "ready"
            self._taken[place] = seat
        return _seated(replace(backend, is_own=self._is_own(backend)), seat)

    def _find_seat(self, place: _Place, label: Label) -> _Seat | None:
        if place in self._leaving:
            seat = self._leaving.pop(place)
            goes_on = seat.label == label
        elif place in self._free:
            seat = self._free.pop(place)
            # What rests there isn't among the counts of a name that has lived on elsewhere.
            goes_on = seat.label == label and label[1] not in self.joined.get(label[0], {})
        elif self._free:
            seat = self._free.pop(next(iter(self._free)))
            goes_on = False
        elif self.used < self.capacity:
            self.used += 1
            return _Seat(self.used - 1, label)
        else:
            return None
        if not goes_on:
            self._clear(seat.number)
        return seat


def _seated(backend: Backend, seat: _Seat) -> Backend:
    """Give a member with what is known of its address."""
    state = stricter(backend.state, seat.word)
    return replace(
        backend,
        seat=seat.number,
        health=seat.health,
        ejected=seat.ejected,
        rising=seat.rising,
        state=state,
        steered=backend.steered or state != backend.state,
    )


def _is_same_name(before: Backend | None, backend: Backend) -> bool:
    """Whether a backend stands for the addresses that it stood for before."""
    return before is not None and (before.lookup, before.address) == (backend.lookup, backend.address)


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
