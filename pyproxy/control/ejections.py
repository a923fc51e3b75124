"""
Who is passed over because live traffic failed on him: workers report, this decides, and ends it in time.

Must not know how workers are told: it changes the members and says which pool has changed. When to eject and for how
long is decided in ``health.outlier``; this gives it the facts, the time and a timer.

A worker counts failures in a row for itself and reports when there are enough, again every second while they go on.
With answers of 502 to 504 it says to which clients and for which paths they came, two of each at most: several workers'
reports are evidence together.
Reports of several workers about one backend are one ejection: those that come while it lasts say nothing new. A seat
in a report is that of the address it was counted for, since no seat is given away before every worker knows.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from pyproxy.clock import monotonic
from pyproxy.config.runtime import Backend, RuntimeConfig
from pyproxy.control.events import Events
from pyproxy.control.happenings import tell_ejection, tell_return
from pyproxy.control.members import Label, Members
from pyproxy.health.outlier import Ejections

_SPARED_EVERY = 60.0  # seconds between two lines about a backend that fails but can't be spared

_log = logging.getLogger(__name__)


class Ejector:
    """
    The ejections of all pools; ``on_change`` is called with the name of a pool whose members have changed by one.

    ``totals`` counts them by pool and backend.
    """

    def __init__(
        self,
        config: RuntimeConfig,
        members: Members,
        on_change: Callable[[str], None],
        events: Events,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.totals: dict[Label, int] = {}
        self._members = members
        self._on_change = on_change
        self._events = events
        self._clock = clock
        self._pools = {pool.name: Ejections(pool.outlier) for pool in config.pools if pool.outlier is not None}
        self._spared: dict[tuple[str, int], float] = {}  # when it was said of them last
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Ejector {self._pools}>"

    def remaining(self, pool: str, seat: int) -> float:
        """Give the seconds until a backend comes back; 0 if it isn't passed over."""
        return self._pools[pool].remaining(seat, self._clock()) if pool in self._pools else 0.0

    def close(self) -> None:
        """End nothing any more."""
        if self._timer is not None:
            self._timer.cancel()

    def handle_report(self, message: dict[str, Any]) -> None:
        """Take a worker's report of failures."""
        pool, seat = message["pool"], message["seat"]
        ejections = self._pools.get(pool)
        if ejections is None or seat in ejections:
            return
        member = self._members.member(pool, seat)
        if member is None or member.state == "maint" or member.health != "up":
            return  # it has left or is out anyway; the report was on its way
        failures = f"{message['failures']} failures in a row, the last: {message['last']}"
        answers, able, now = message.get("answers"), self._able(pool), self._clock()
        why = "too few others are available"
        if answers is None or not ejections.needs_answers(message["failures"], answers["count"]):
            seconds = ejections.eject(seat, able, now)
        elif ejections.has_evidence(seat, answers["clients"], answers["paths"], now):
            size = sum(not item.lookup for item in self._members.pool(pool).backends)
            if not ejections.may_eject_for_answers(size):
                why = "as many as answers may eject are passed over"
            seconds = ejections.eject_for_answers(seat, able, size, now)
        else:
            return  # a single client or path may have brought them about
        if seconds is None:
            self._spare(pool, member, f"{why}: {failures}")
            return
        label = pool, member.name
        self.totals[label] = self.totals.get(label, 0) + 1
        _log.warning("%s/%s is passed over for %.3g s: %s", *label, seconds, failures)
        tell_ejection(self._events, label, seconds, failures)
        self._members.set_ejected(pool, seat, ejected=True)
        self._on_change(pool)
        self._set_timer()

    def handle_pass(self, pool: str, seat: int, began: float) -> None:
        """Take it that a check passed which began then (monotonic seconds)."""
        if pool in self._pools:
            self._ended(pool, seat, self._pools[pool].end_by_check(seat, began, self._clock()), "a check passed")

    def handle_ready(self, pool: str, backend: str) -> None:
        """Take it that the operator is about to say that a configured backend is ready: nothing is held against it."""
        if pool not in self._pools:
            return
        for seat in self._members.seats_of(pool, backend):
            self._end(pool, seat, "the operator says that it is ready")
            self._pools[pool].forget(seat)

    def follow(self, pool: str) -> None:
        """Take it that the members of a pool have changed, or how they stand."""
        ejections = self._pools.get(pool)
        if ejections is None:
            return
        present = {item.seat: item for item in self._members.pool(pool).backends if not item.lookup}
        for seat in ejections.known() - present.keys():
            ejections.forget(seat)  # the address has left
        for seat, member in present.items():
            if member.ejected and member.health == "down":
                self._end(pool, seat, "checks say that it is down")
        for seat in ejections.wanted(self._able(pool)):
            self._end(pool, seat, "too few others are available")
        labels = {(pool, member.name) for member in present.values()}
        for label in [label for label in self.totals if label[0] == pool and label not in labels]:
            del self.totals[label]  # like its other counters

    def _able(self, pool: str) -> set[int]:
        """Give the seats of those that are available but for ejections."""
        return {item.seat for item in self._members.pool(pool).backends if _is_able(item)}

    def _end(self, pool: str, seat: int, why: str) -> None:
        self._ended(pool, seat, self._pools[pool].end(seat, self._clock()), why)

    def _ended(self, pool: str, seat: int, seconds: float | None, why: str) -> None:
        member = self._members.member(pool, seat)
        if seconds is None or member is None:
            return
        _log.info("%s/%s is no longer passed over, after %.3g s: %s", pool, member.name, seconds, why)
        tell_return(self._events, (pool, member.name), why)
        self._members.set_ejected(pool, seat, ejected=False)
        self._on_change(pool)

    def _spare(self, pool: str, member: Backend, why: str) -> None:
        now, key = self._clock(), (pool, member.seat)
        if now - self._spared.get(key, now - _SPARED_EVERY) >= _SPARED_EVERY:
            self._spared[key] = now
            _log.warning("%s/%s can't be spared: %s", pool, member.name, why)

    def _set_timer(self) -> None:
        self.close()
        ends = [end for ejections in self._pools.values() if (end := ejections.next_end) is not None]
        if ends:
            delay = max(min(ends) - self._clock(), 0.0)
            self._timer = asyncio.get_running_loop().call_later(delay, self._handle_timer)

    def _handle_timer(self) -> None:
        now = self._clock()
        for pool, ejections in self._pools.items():
            for seat in ejections.due(now):
                self._end(pool, seat, "its time is up")
        self._set_timer()


def _is_able(backend: Backend) -> bool:
    return not backend.lookup and backend.weight > 0 and backend.state == "ready" and backend.health == "up"
