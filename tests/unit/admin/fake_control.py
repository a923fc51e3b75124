"""A program of two pools for the admin API to describe and to change. Knows no supervisor."""

from collections.abc import Mapping
from typing import Any

from pyproxy.admin.changes import Conflict, Guard, InForce, Origin, OverrideView
from pyproxy.admin.control import BackendView, ExplanationView, PoolView, Question, StatusView, Unavailable
from pyproxy.config.model_pool import Backend


def backend(name: str) -> BackendView:
    """A backend as the program describes it."""
    return {
        "name": name,
        "address": "10.0.0.1:80",
        "weight": 1,
        "backup": False,
        "max_conns": 0,
        "state": "ready",
        "steered": False,
        "health": "up",
        "ejected": False,
        "ejected_for": None,
        "slow_start": None,
        "available": True,
        "origin": "config",
        "active": 0,
        "total": 0,
        "errors": 0,
        "rate": 0.0,
        "latency_ms": {"p50": 1.0, "p95": 2.5, "p99": 4.0},
        "oldest_tunnel_s": None,
        "since": "2026-11-22T16:00:00.000Z",
        "last_check": {"at": "2026-11-22T16:00:00.000Z", "ok": True, "detail": "L7 200", "duration_ms": 0.4},
        "sticky_clients": {"5m": 0, "60m": 0},
    }


class FakeControl:
    """A program of two pools."""

    def __init__(self) -> None:
        self.ready = True
        self.broken = False
        self.questions: list[Question] = []
        self.present = [backend("a"), backend("[::1]:80")]

    def is_ready(self) -> bool:
        return self.ready

    def status(self) -> StatusView:
        if self.broken:
            raise RuntimeError("out of order")
        return {
            "version": "1",
            "pid": 1,
            "started": "",
            "uptime": 0.0,
            "workers": [],
            "config": {"file": "", "digest": "", "loaded_at": ""},
            "listeners": [],
        }

    def pools(self) -> list[PoolView]:
        return [
            {
                "name": "web",
                "policy": "round_robin",
                "available": 2,
                "backends": self.present,
            },
            {"name": "api:v2", "policy": "round_robin", "available": 0, "backends": []},
        ]

    def backend(self, pool: str, name: str) -> BackendView | None:
        found = self.present if pool == "web" else []
        return next((item for item in found if item["name"] == name), None)

    def metrics(self) -> str:
        return "pyproxy_up 1\n"

    async def explain(self, question: Question) -> ExplanationView:
        if not self.ready:
            raise Unavailable("no worker is ready")
        self.questions.append(question)
        return explanation()


class FakeChanges:
    """Changes the backends of a fake program's first pool; ``made`` are the changes, with who made them."""

    def __init__(self, control: FakeControl) -> None:
        self._control = control
        self.made: list[tuple[str, Any, Origin]] = []
        self.error: Exception | None = None

    async def patch(self, pool: str, name: str, values: Mapping[str, Any], origin: Origin, guard: Guard) -> None:
        self._check(guard)
        self.made.append((f"patch {pool}/{name}", dict(values), origin))
        found = self._control.backend(pool, name)
        assert found is not None
        for key, value in values.items():
            if value is not None:
                found[key] = value  # type: ignore[literal-required]

    async def add(self, pool: str, new: Backend, origin: Origin, guard: Guard) -> None:
        self._check(guard)
        if self._control.backend(pool, new.name):
            raise Conflict("there is one already")
        self.made.append((f"add {pool}/{new.name}", str(new.address), origin))
        self._control.present.append(backend(new.name))

    async def remove(self, pool: str, name: str, origin: Origin, guard: Guard, *, force: bool) -> None:
        self._check(guard)
        self.made.append((f"remove {pool}/{name}", force, origin))
        self._control.present = [item for item in self._control.present if item["name"] != name]

    def overrides(self) -> list[OverrideView]:
        return []

    def config(self) -> InForce:
        return {"config": {"workers": "auto"}, "sources": {"workers": "lb.yml:1"}}

    def _check(self, guard: Guard) -> None:
        if self.error is not None:
            raise self.error
        guard()


def explanation() -> ExplanationView:
    """The simplest explanation there is."""
    return {
        "listener": "http",
        "client": "127.0.0.1",
        "request": {"method": "GET", "target": "/", "host": "x"},
        "refused": {"status": 404, "reason": "No route matches"},
        "routes": [],
        "others": 3,
        "route": None,
        "redirect": None,
        "pool": None,
        "policy": None,
        "backends": [],
        "backend": None,
        "sticky": None,
        "queued": 0,
        "worker": 0,
        "notes": [],
    }
