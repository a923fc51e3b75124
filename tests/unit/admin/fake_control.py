"""A program of two pools for the admin API to describe. Knows no supervisor."""

from pyproxy.admin.control import BackendView, ExplanationView, PoolView, Question, StatusView, Unavailable


def backend(name: str) -> BackendView:
    """A backend as the program describes it."""
    return {
        "name": name,
        "address": "10.0.0.1:80",
        "weight": 1,
        "backup": False,
        "max_conns": 0,
        "state": "ready",
        "health": "up",
        "ejected": False,
        "available": True,
        "origin": "config",
        "active": 0,
        "total": 0,
        "errors": 0,
        "rate": 0.0,
        "since": "2026-11-22T16:00:00.000Z",
        "last_check": None,
    }


class FakeControl:
    """A program of two pools."""

    def __init__(self) -> None:
        self.ready = True
        self.broken = False
        self.questions: list[Question] = []

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
                "backends": [backend("a"), backend("[::1]:80")],
            },
            {"name": "api:v2", "policy": "round_robin", "available": 0, "backends": []},
        ]

    def metrics(self) -> str:
        return "pyproxy_up 1\n"

    async def explain(self, question: Question) -> ExplanationView:
        if not self.ready:
            raise Unavailable("no worker is ready")
        self.questions.append(question)
        return explanation()


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
        "queued": 0,
        "worker": 0,
        "notes": [],
    }
