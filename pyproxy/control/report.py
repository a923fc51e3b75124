"""
The program as the admin API and Prometheus see it, put together from what the parts know.

Must not know HTTP, nor change anything: it only looks.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from pyproxy import __version__
from pyproxy.admin.control import (
    BackendView,
    CandidateView,
    ExplanationView,
    Health,
    LatencyView,
    ListenerView,
    PoolView,
    Question,
    State,
    StatusView,
    StickyView,
    WorkerView,
)
from pyproxy.clock import monotonic, wall
from pyproxy.config.runtime import Backend, Pool, RuntimeConfig
from pyproxy.control.backend_view import candidate, check_view, slow_start_of, weight_of, whole
from pyproxy.control.changes import LiveChanges
from pyproxy.control.ejections import Ejector
from pyproxy.control.explain import Explainer
from pyproxy.control.latencies import Latencies
from pyproxy.control.listeners import OpenListener
from pyproxy.control.members import Members
from pyproxy.control.pair import Pair
from pyproxy.control.rates import Rates
from pyproxy.control.scoreboard import Scoreboard
from pyproxy.control.seen import Seen
from pyproxy.control.times import rfc3339
from pyproxy.control.workers import Workers
from pyproxy.health.checks import CheckResult
from pyproxy.observe.histogram import BUCKETS
from pyproxy.observe.logging_setup import dropped_lines
from pyproxy.observe.metrics import Layout, render, render_ejections, render_overrides


def make_layout(config: RuntimeConfig, seats: int) -> Layout:
    """Lay out the scoreboard for a configuration, as every worker does for itself."""
    listeners = [listener.name for listener in config.listeners]
    return Layout(listeners, [pool.name for pool in config.pools], seats)


@dataclass(frozen=True, slots=True)
class Parts:
    """What the report looks at, and whom it asks."""

    config: RuntimeConfig
    file: str
    members: Members
    layout: Layout
    scoreboard: Scoreboard
    workers: Workers
    listeners: Sequence[OpenListener]
    is_stopping: Callable[[], bool]
    explainer: Explainer
    checks: Mapping[int, CheckResult]  # the latest, by seat
    changes: LiveChanges
    ejector: Ejector
    seen: Seen
    pair: Pair | None = None


class Report:
    """Satisfies ``admin.control.Control``."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._started = wall()
        self._begin = monotonic()
        self._rates = Rates()
        self._latencies = Latencies()

    def __repr__(self) -> str:
        return f"<Report on {self._parts.file}>"

    def sample(self) -> None:
        """Look at the totals; to be called once a second, so that rates can be told."""
        column, sums = self._parts.layout.backend_total, self._parts.scoreboard.sums
        seats = self._parts.members.all_seats()
        now = monotonic()
        self._rates.record(now, {label: sum(sums(map(column, seats[label]))) for label in seats})
        if self._latencies.is_due(now):
            totals = self._totals()
            self._latencies.record(now, {label: self._answers(seat, totals) for label, (seat, *_) in seats.items()})

    def is_ready(self) -> bool:
        pair = self._parts.pair
        is_fit = pair is None or pair.state != "fault"
        return is_fit and not self._parts.is_stopping() and self._parts.workers.ready > 0

    def status(self) -> StatusView:
        parts, started = self._parts, rfc3339(self._started)
        return {
            "version": __version__,
            "pid": os.getpid(),
            "started": started,
            "uptime": round(monotonic() - self._begin, 3),
            "workers": [self._worker(slot) for slot in range(len(parts.workers.slots))],
            "config": {"file": parts.file, "digest": parts.config.digest, "loaded_at": started},
            "listeners": self._listeners(),
        }

    def pools(self) -> list[PoolView]:
        totals = self._totals()
        return [self._pool(pool, totals) for pool in self._pools()]

    def backend(self, pool: str, name: str) -> BackendView | None:
        found = next((item for item in self._pools() if item.name == pool), None)
        if found is None:
            return None
        names = self._parts.members.configured_names()
        items = [item for item in found.backends if name in (item.name, names.get((pool, item.name)))]
        totals = self._totals()
        views = self._backends(replace(found, backends=tuple(items)), totals)
        view = next((view for view in views if view["name"] == name), None)
        if view is not None or not views:
            return view
        configured = next(item for item in self._parts.members.configured(pool).backends if item.name == name)
        return whole(configured, views, self._latency(pool, items, totals))

    def metrics(self) -> str:
        parts = self._parts
        lag = parts.layout.loop_lag_ns
        totals = self._totals()
        totals[parts.layout.lines_dropped] += dropped_lines()  # those of this process; the workers count theirs
        seats = parts.members.seats
        states = {
            (pool.name, backend.name): (backend.state, backend.health)
            for pool in self._pools()
            for backend in pool.backends
            if not backend.lookup
        }
        return (
            render(
                parts.layout,
                totals,
                digest=parts.config.digest,
                restarts=parts.workers.restarts,
                loop_lags={slot: parts.scoreboard.row(slot)[lag] / 1e9 for slot in range(parts.scoreboard.rows)},
                states=states,
                seats=seats,
            )
            + render_ejections({label: parts.ejector.totals.get(label, 0) for label in seats})
            + render_overrides(parts.changes.ages())
            + (parts.pair.metrics() if parts.pair is not None else "")
        )

    async def explain(self, question: Question) -> ExplanationView:
        answer = await self._parts.explainer.explain(question)
        if answer["pool"] is not None:
            # The workers don't know of names that have no address yet.
            pool = self._parts.members.pool(answer["pool"])
            self._tell_reasons(pool, answer["backends"])
            answer["backends"] += [candidate(pool, backend) for backend in pool.backends if backend.lookup]
        return answer

    def _tell_reasons(self, pool: Pool, rows: list[CandidateView]) -> None:
        """Say why a backend is down or out, or for how long it is ejected: the workers don't know."""
        members = {backend.name: backend for backend in pool.backends}
        for row in rows:
            backend = members.get(row["name"])
            if backend is None:
                continue
            result = self._last_check(backend)
            if row["reason"] == "down" and result is not None:
                row["reason"] = f"down: {result.detail}"
            elif row["reason"] == "ejected":
                row["reason"] = f"ejected for another {self._ejected_for(pool, backend) or 0:.3g} s"
            elif row["reason"] in ("drained", "maint") and backend.steered:
                row["reason"] += ", by the node"

    def _ejected_for(self, pool: Pool, backend: Backend) -> float | None:
        return round(self._parts.ejector.remaining(pool.name, backend.seat), 1) if backend.ejected else None

    def _last_check(self, backend: Backend) -> CheckResult | None:
        return None if backend.lookup else self._parts.checks.get(backend.seat)

    def _pools(self) -> list[Pool]:
        return [self._parts.members.pool(pool.name) for pool in self._parts.config.pools]

    def _answers(self, seat: int, totals: Sequence[int]) -> Sequence[int]:
        """Give how many answers of a backend fell into each bucket of time."""
        base = self._parts.layout.backend_response(seat)
        return totals[base : base + BUCKETS]

    def _latency(self, pool: str, members: Iterable[Backend], totals: Sequence[int]) -> LatencyView | None:
        """Describe how long some members took of late, together; a name without an address has answered nothing."""
        asked = [item for item in members if not item.lookup]
        return self._latencies.view([((pool, item.name), self._answers(item.seat, totals)) for item in asked])

    def _oldest_tunnel(self, seats: Iterable[int]) -> float | None:
        """Give the age in seconds of the oldest tunnel of a backend, which may be on an address that is leaving."""
        board, column = self._parts.scoreboard, self._parts.layout.backend_tunnel
        begins = [board.row(slot)[column(seat)] for seat in seats for slot in range(board.rows)]
        oldest = min(filter(None, begins), default=None)
        return None if oldest is None else round(max(monotonic() - oldest / 1000, 0.0), 1)

    def _totals(self) -> list[int]:
        """Sum up all rows; at the seat that a member has, what its name counts on those that are leaving is added."""
        totals, columns = self._parts.scoreboard.totals(), self._parts.layout.seat
        for seat, *leaving in self._parts.members.all_seats().values():
            for other in leaving:
                for target, source in zip(columns(seat), columns(other), strict=True):
                    totals[target] += totals[source]
        return totals

    def _worker(self, slot: int) -> WorkerView:
        layout = self._parts.layout
        worker, row = self._parts.workers.slots[slot], self._parts.scoreboard.row(slot)
        is_alive = worker is not None and worker.state != "dead"
        return {
            "slot": slot,
            "pid": worker.pid if worker is not None and is_alive else None,
            "state": worker.state.value if worker is not None else "dead",
            "loop_lag_ms": round(row[layout.loop_lag_ns] / 1e6, 3),
            "connections": sum(row[layout.connections(name)] for name in layout.listeners),
        }

    def _listeners(self) -> list[ListenerView]:
        layout, totals = self._parts.layout, self._parts.scoreboard.totals()
        return [
            {
                "name": listener.name,
                "address": listener.address,
                "connections": totals[layout.connections(listener.name)],
                "connections_total": totals[layout.connections_total(listener.name)],
            }
            for listener in self._parts.listeners
        ]

    def _pool(self, pool: Pool, totals: Sequence[int]) -> PoolView:
        backends = self._backends(pool, totals)
        return {
            "name": pool.name,
            "policy": pool.policy,
            "available": sum(backend["available"] for backend in backends),
            "backends": backends,
        }

    def _backends(self, pool: Pool, totals: Sequence[int]) -> list[BackendView]:
        members, added = self._parts.members, self._parts.changes.added(pool.name)
        names, seats = members.configured_names(), members.all_seats()
        return [
            self._backend(
                pool,
                item,
                totals,
                is_added=names.get((pool.name, item.name), item.name) in added,
                seats=seats.get((pool.name, item.name), ()),
            )
            for item in pool.backends
        ]

    def _backend(
        self, pool: Pool, backend: Backend, totals: Sequence[int], *, is_added: bool, seats: Iterable[int]
    ) -> BackendView:
        layout = self._parts.layout
        # A name without an address isn't a member yet: nothing is counted for it, and nothing is sent to it.
        is_member = not backend.lookup
        active = totals[layout.backend_active(backend.seat)] if is_member else 0
        return {
            "name": backend.name,
            "address": backend.address,
            "weight": weight_of(pool, backend),
            "backup": backend.backup,
            "max_conns": backend.max_conns,
            "state": cast(State, backend.state),
            "steered": backend.steered,
            "health": cast(Health, backend.health),
            "ejected": backend.ejected,
            "ejected_for": self._ejected_for(pool, backend),
            "slow_start": slow_start_of(pool, backend, monotonic()),
            "available": is_member and backend.state == "ready" and backend.health == "up" and not backend.ejected,
            "origin": "runtime" if is_added else "config",
            "active": active,
            "total": totals[layout.backend_total(backend.seat)] if is_member else 0,
            "errors": totals[layout.backend_errors(backend.seat)] if is_member else 0,
            "rate": round(self._rates.rate((pool.name, backend.name)), 1),
            "latency_ms": self._latency(pool.name, [backend], totals),
            "oldest_tunnel_s": self._oldest_tunnel(seats) if active else None,
            "since": rfc3339(self._parts.members.joined[pool.name].get(backend.name, self._started)),
            "last_check": check_view(self._last_check(backend)),
            "sticky_clients": self._sticky_clients(pool.name, backend.name),
        }

    def _sticky_clients(self, pool: str, backend: str) -> StickyView:
        now, count = monotonic(), self._parts.seen.count
        return {"5m": count(pool, backend, 300, now), "60m": count(pool, backend, 3600, now)}
