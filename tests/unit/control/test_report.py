"""Pins how the program is described: shapes, sums, and what counts as ready."""

import doctest
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain, repeat
from types import SimpleNamespace
from typing import Any

import pytest

from pyproxy import __version__
from pyproxy.config.load import load_text
from pyproxy.config.runtime import from_plain
from pyproxy.control import report as report_module
from pyproxy.control.answers import share_equally
from pyproxy.control.changes import LiveChanges, Reach
from pyproxy.control.ejections import Ejector
from pyproxy.control.events import Events
from pyproxy.control.explain import Explainer
from pyproxy.control.journal import Journal
from pyproxy.control.listeners import OpenListener
from pyproxy.control.members import Members
from pyproxy.control.report import Parts, Report, make_layout
from pyproxy.control.scoreboard import Scoreboard
from pyproxy.control.seen import Seen
from pyproxy.control.settings import make_settings
from pyproxy.control.worker import Program, WorkerState
from pyproxy.control.workers import Workers
from pyproxy.health.checks import CheckResult
from pyproxy.observe.histogram import BUCKETS


class Seat:
    """What the report reads of a worker."""

    def __init__(self, pid: int, state: WorkerState) -> None:
        self.pid, self.state = pid, state

    @property
    def is_serving(self) -> bool:
        return self.state is WorkerState.READY


class World:
    """A program of two worker slots that exists only in memory."""

    def __init__(self) -> None:
        content: dict[str, Any] = {
            "workers": 2,
            "listeners": [{"name": "http", "bind": "127.0.0.1:0"}, {"name": "six", "bind": "[::1]:0"}],
            "routes": [{"pool": "web"}],
            "pools": {
                "web": {
                    "backends": [
                        {"name": "web1", "address": "10.0.0.1:80", "weight": 3},
                        {"name": "web2", "address": "[fd00::2]:80", "backup": True},
                    ]
                },
                "api": {"backends": [{"address": "10.0.0.3:80"}], "health": {}},
                "app": {"backends": [{"name": "app", "address": "app.internal:80", "weight": 2}]},
            },
        }
        settings = make_settings(load_text(json.dumps(content), "lb.yml", {}), "/etc/lb.yml")
        config = from_plain(settings.plain)
        self.members = Members(config, clock=lambda: 0.25)
        self.layout = make_layout(config, self.members.capacity)
        self.board = Scoreboard(2, self.layout.size, self.layout.gauges)
        self.slots: list[Any] = [Seat(11, WorkerState.READY), None]
        self.workers = Workers(
            2,
            Program(environ={}),
            on_start=lambda _worker: None,
            on_answer=lambda _worker, _message: None,
            on_end=lambda _slot: None,
            on_hopeless=lambda _reason: None,
        )
        self.workers.slots = self.slots
        self.is_stopping = False
        self.seen = Seen()
        self.checks: dict[int, CheckResult] = {}
        self.ejector = Ejector(config, self.members, lambda _pool: None, Events())
        self.changes = LiveChanges(
            config, settings, self.members, Journal(None), Reach(self.publish, lambda _pool, _name: 0, Events())
        )
        listeners = [OpenListener("http", "127.0.0.1:8080", ()), OpenListener("six", "[::1]:8081", ())]
        parts = Parts(
            config,
            "/etc/lb.yml",
            self.members,
            self.layout,
            self.board,
            self.workers,
            listeners,
            lambda: self.is_stopping,
            Explainer(self.workers),
            self.checks,
            self.changes,
            self.ejector,
            self.seen,
        )
        self.report = Report(parts)

    async def publish(self, _pool: str) -> list[int]:
        """All workers take every change at once."""
        return []

    def seat(self, pool: str, backend: str) -> int:
        """Where a backend's counters are."""
        return self.members.seats[pool, backend]


@pytest.fixture
def world() -> Iterator[World]:
    """A program with one ready worker and an empty slot."""
    world = World()
    yield world
    world.board.close()


def test_doctest() -> None:
    """The example in the documentation is true."""
    assert doctest.testmod(report_module).failed == 0


def test_ready_means_a_ready_worker_and_no_stop(world: World) -> None:
    """A load balancer in front stops sending when we stop, or when nobody could serve."""
    assert world.report.is_ready()
    world.is_stopping = True
    assert not world.report.is_ready()
    world.is_stopping = False
    world.slots[0].state = WorkerState.STARTING
    assert not world.report.is_ready()


@pytest.mark.parametrize(("state", "is_ready"), [("init", True), ("backup", True), ("master", True), ("fault", False)])
def test_a_machine_in_fault_is_not_ready(world: World, state: str, is_ready: bool) -> None:
    """A backup is: it serves whoever comes, and may have the addresses in a moment. Its metrics are there."""
    pair: Any = SimpleNamespace(state=state, metrics=lambda: "pyproxy_peer_drift 0\n")
    report = Report(replace(world.report._parts, pair=pair))
    assert report.is_ready() is is_ready
    assert report.metrics().endswith("\npyproxy_peer_drift 0\n")


def test_status_has_the_shape_of_the_contract(world: World) -> None:
    """Every field that scripts rely on is there, with real values."""
    world.board.row(0)[world.layout.connections("http")] = 2
    world.board.row(0)[world.layout.connections("six")] = 3
    world.board.row(0)[world.layout.loop_lag_ns] = 1_500_000
    world.board.row(1)[world.layout.connections_total("six")] = 9
    status = world.report.status()
    assert set(status) == {"version", "pid", "started", "uptime", "workers", "config", "listeners"}
    assert status["version"] == __version__
    assert status["workers"] == [
        {"slot": 0, "pid": 11, "state": "ready", "loop_lag_ms": 1.5, "connections": 5},
        {"slot": 1, "pid": None, "state": "dead", "loop_lag_ms": 0.0, "connections": 0},
    ]
    assert status["config"]["file"] == "/etc/lb.yml"
    assert len(status["config"]["digest"]) == 12
    assert status["config"]["loaded_at"].endswith("Z")
    assert status["listeners"] == [
        {"name": "http", "address": "127.0.0.1:8080", "connections": 2, "connections_total": 0},
        {"name": "six", "address": "[::1]:8081", "connections": 3, "connections_total": 9},
    ]


def test_a_dead_worker_has_no_pid(world: World) -> None:
    """The number may belong to somebody else by now."""
    world.slots[0].state = WorkerState.DEAD
    assert world.report.status()["workers"][0]["pid"] is None
    assert world.report.status()["workers"][0]["state"] == "dead"


def test_pools_have_the_shape_of_the_contract(world: World) -> None:
    """Configured values, sums over all workers, and the facts that are fixed until somebody changes them."""
    for slot in (0, 1):
        row = world.board.row(slot)
        row[world.layout.backend_active(world.seat("web", "web1"))] = 2
        row[world.layout.backend_total(world.seat("web", "web1"))] = 10
        row[world.layout.backend_errors(world.seat("web", "web1"))] = 1
    web, api, _ = world.report.pools()
    assert (web["name"], web["policy"], web["available"]) == ("web", "round_robin", 2)
    assert [backend["name"] for backend in api["backends"]] == ["10.0.0.3:80"]
    first = dict(web["backends"][0])
    assert first == {
        "since": "1970-01-01T00:00:00.250Z",
        "name": "web1",
        "address": "10.0.0.1:80",
        "weight": 3,
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
        "active": 4,
        "total": 20,
        "errors": 2,
        "rate": 0.0,
        "latency_ms": None,
        "oldest_tunnel_s": None,
        "last_check": None,
        "sticky_clients": {"5m": 0, "60m": 0},
    }
    assert web["backends"][1]["address"] == "[fd00::2]:80"
    assert web["backends"][1]["backup"] is True


def test_a_name_without_an_address_is_shown_but_not_available(world: World) -> None:
    """An operator sees that the name is configured and gets nothing, and the metrics have no backend of that name."""
    *_, app = world.report.pools()
    (backend,) = app["backends"]
    assert (backend["name"], backend["address"], backend["weight"]) == ("app", "app.internal:80", 2)
    assert (backend["available"], backend["total"], app["available"]) == (False, 0, 0)
    assert 'backend="app"' not in world.report.metrics()


def test_the_addresses_of_a_name_are_shown_with_their_share(world: World) -> None:
    """Each is a backend with its own address and counters; the weight is the configured one, shared."""
    world.members.update("app", "app", share_equally(["10.1.0.1", "10.1.0.2", "10.1.0.3", "10.1.0.4"], 80))
    world.board.row(0)[world.layout.backend_total(world.seat("app", "app[10.1.0.2:80]"))] = 5
    *_, app = world.report.pools()
    assert app["available"] == 4
    assert [backend["address"] for backend in app["backends"]] == [f"10.1.0.{n}:80" for n in (1, 2, 3, 4)]
    assert [backend["weight"] for backend in app["backends"]] == [0.5] * 4
    assert [backend["total"] for backend in app["backends"]] == [0, 5, 0, 0]
    assert '\npyproxy_backend_up{pool="app",backend="app[10.1.0.2:80]"} 1\n' in world.report.metrics()
    world.members.update("app", "app", share_equally(["10.1.0.1", "10.1.0.2"], 80))
    *_, app = world.report.pools()
    assert [repr(backend["weight"]) for backend in app["backends"]] == ["1", "1"]


def test_one_backend_is_found_by_its_name_or_its_addresses(world: World) -> None:
    """A name that stands for several addresses is described as it is configured, with the sums of what they count."""
    world.members.update("app", "app", share_equally(["10.1.0.1", "10.1.0.2"], 80))
    for number, address in enumerate(("10.1.0.1", "10.1.0.2")):
        world.board.row(number)[world.layout.backend_active(world.seat("app", f"app[{address}:80]"))] = 3
    whole, one = world.report.backend("app", "app"), world.report.backend("app", "app[10.1.0.2:80]")
    assert whole is not None
    assert one is not None
    assert (whole["name"], whole["address"], whole["weight"], whole["active"]) == ("app", "app.internal:80", 2, 6)
    assert (one["name"], one["address"], one["weight"], one["active"]) == ("app[10.1.0.2:80]", "10.1.0.2:80", 1, 3)
    assert world.report.backend("app", "web1") is None
    assert world.report.backend("nope", "app") is None


def test_a_name_shows_what_it_counted_on_addresses_that_leave(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing falls when its address changes: totals, gauges, metrics and the rate are those of all its seats."""
    monkeypatch.setattr(report_module, "monotonic", chain([100.0], repeat(101.0)).__next__)
    layout, board = world.layout, world.board
    world.members.update("app", "app", share_equally(["10.1.0.1"], 80))
    old = world.seat("app", "app")
    board.row(0)[layout.backend_total(old)] = 5
    board.row(0)[layout.backend_active(old)] = 1
    board.row(0)[layout.backend_codes(old) + 1] = 4
    world.report.sample()
    world.members.update("app", "app", share_equally(["10.1.0.2"], 80))
    new = world.seat("app", "app")
    assert new != old
    board.used = layout.columns_for(world.members.used)
    board.row(1)[layout.backend_total(new)] = 3
    board.row(1)[layout.backend_active(new)] = 1
    board.row(1)[layout.backend_codes(new) + 1] = 2
    world.report.sample()
    *_, app = world.report.pools()
    (backend,) = app["backends"]
    assert (backend["address"], backend["total"], backend["active"]) == ("10.1.0.2:80", 8, 2)
    assert backend["rate"] == 3.0
    text = world.report.metrics()
    assert '\npyproxy_backend_requests_total{pool="app",backend="app",code="2xx"} 6\n' in text
    assert '\npyproxy_backend_active{pool="app",backend="app"} 2\n' in text


def test_how_long_backends_took_of_late(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each what it answered in the last minute, a name what all of its addresses did; nothing is None."""
    now = 100.0
    monkeypatch.setattr(report_module, "monotonic", lambda: now)
    world.members.update("app", "app", share_equally(["10.1.0.1", "10.1.0.2"], 80))
    world.board.used = world.layout.columns_for(world.members.used)
    columns = [world.layout.backend_response(world.seat("app", f"app[10.1.0.{number}:80]")) for number in (1, 2)]
    world.board.row(0)[columns[0] + BUCKETS - 1] = 1000  # long ago
    world.report.sample()
    world.board.row(0)[columns[0] + 3] += 2
    world.board.row(1)[columns[1] + 4] += 2
    shown = [world.report.backend("app", name) for name in ("app[10.1.0.1:80]", "app[10.1.0.2:80]", "app")]
    assert [view and view["latency_ms"] and view["latency_ms"]["p50"] for view in shown] == [3.162, 7.071, 5.0]
    web = world.report.backend("web", "web1")
    assert web is not None
    assert web["latency_ms"] is None
    for _ in range(8):
        now += 10.0
        world.report.sample()
    app = world.report.backend("app", "app")
    assert app is not None
    assert app["latency_ms"] is None


def test_how_old_the_oldest_tunnel_is(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all workers, and of an address that is leaving as well."""
    monkeypatch.setattr(report_module, "monotonic", lambda: 100.0)
    layout, board = world.layout, world.board
    world.members.update("app", "app", share_equally(["10.1.0.1"], 80))
    old = world.seat("app", "app")
    world.members.update("app", "app", share_equally(["10.1.0.2"], 80))
    board.used = layout.columns_for(world.members.used)
    board.row(0)[layout.backend_active(old)] = 1
    board.row(0)[layout.backend_tunnel(old)] = 60_000
    for slot, begin in ((0, 90_000), (1, 40_000)):
        board.row(slot)[layout.backend_active(world.seat("web", "web1"))] = 1
        board.row(slot)[layout.backend_tunnel(world.seat("web", "web1"))] = begin
    shown = [world.report.backend(*label) for label in (("web", "web1"), ("web", "web2"), ("app", "app"))]
    assert [view and view["oldest_tunnel_s"] for view in shown] == [60.0, None, 40.0]
    board.retire(1)
    web = world.report.backend("web", "web1")
    assert web is not None
    assert web["oldest_tunnel_s"] == 10.0


def test_the_rate_is_that_of_the_right_backend(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples a second apart give each backend its own requests per second."""
    clock: Callable[[], float] = chain([100.0], repeat(101.0)).__next__
    monkeypatch.setattr(report_module, "monotonic", clock)
    world.report.sample()
    world.board.row(1)[world.layout.backend_total(world.seat("api", "10.0.0.3:80"))] += 7
    world.report.sample()
    web, api, _ = world.report.pools()
    assert [backend["rate"] for backend in (*web["backends"], *api["backends"])] == [0.0, 0.0, 7.0]


def test_metrics_tell_what_only_the_supervisor_knows(world: World) -> None:
    """Restarts, the digest, each worker's lag and the state of each backend are in the text."""
    world.workers.restarts = 3
    world.board.row(1)[world.layout.loop_lag_ns] = 2_000_000
    text = world.report.metrics()
    assert "\npyproxy_worker_restarts_total 3\n" in text
    assert '\npyproxy_loop_lag_seconds{worker="1"} 0.002\n' in text
    assert f'digest="{world.report.status()["config"]["digest"]}"' in text
    assert '\npyproxy_backend_state{pool="web",backend="web2",state="ready"} 1\n' in text
    assert '\npyproxy_backend_up{pool="web",backend="web2"} 1\n' in text
    assert '\npyproxy_backend_up{pool="api",backend="10.0.0.3:80"} 0\n' in text


def test_what_the_checks_say_is_shown(world: World) -> None:
    """Health and the latest result; a backend that isn't up isn't available."""
    seat = world.seat("api", "10.0.0.3:80")
    _, api, _ = world.report.pools()
    assert (api["backends"][0]["health"], api["available"]) == ("checking", 0)
    world.members.set_health("api", seat, "down")
    world.checks[seat] = CheckResult(1.0, False, "L4 refused", 0.00123)
    backend = world.report.pools()[1]["backends"][0]
    assert (backend["health"], backend["available"]) == ("down", False)
    at = "1970-01-01T00:00:01.000Z"
    assert backend["last_check"] == {"at": at, "ok": False, "detail": "L4 refused", "duration_ms": 1.2}
    world.members.set_health("api", seat, "up")
    assert world.report.pools()[1]["available"] == 1
    assert '\npyproxy_backend_up{pool="api",backend="10.0.0.3:80"} 1\n' in world.report.metrics()


def test_a_name_is_as_healthy_as_its_best_address(world: World) -> None:
    """Of the checks it shows the latest one that failed, if any did: that is what somebody has to look at."""
    world.members.update("app", "app", share_equally(["10.1.0.1", "10.1.0.2", "10.1.0.3"], 80))
    seats = [world.seat("app", f"app[10.1.0.{number}:80]") for number in (1, 2, 3)]

    def shown(*stand: str) -> tuple[str, bool, str | None]:
        for seat, health in zip(seats, stand, strict=True):
            world.members.set_health("app", seat, health)
        view = world.report.backend("app", "app")
        assert view is not None
        check = view["last_check"]
        return view["health"], view["available"], check and check["detail"]

    assert shown("checking", "checking", "checking") == ("checking", False, None)
    world.checks[seats[0]] = CheckResult(2.0, False, "L4 refused", 0.1)
    assert shown("down", "checking", "checking") == ("checking", False, "L4 refused")
    world.checks[seats[1]] = CheckResult(3.0, False, "L7 timeout", 0.1)
    assert shown("down", "down", "down") == ("down", False, "L7 timeout")
    world.checks[seats[2]] = CheckResult(4.0, True, "L7 200", 0.1)
    assert shown("down", "down", "up") == ("up", True, "L7 timeout")


async def test_explain_tells_why_a_backend_is_down(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker knows only that it is."""
    world.checks[world.seat("api", "10.0.0.3:80")] = CheckResult(1.0, False, "L7 timeout", 1.0)

    async def answer(_self: Explainer, _question: Any) -> dict[str, Any]:
        return {"pool": "api", "backends": [{"name": "10.0.0.3:80", "reason": "down"}]}

    monkeypatch.setattr(Explainer, "explain", answer)
    explained = await world.report.explain({"method": "GET", "url": "/", "headers": [], "sender": "127.0.0.1"})
    assert explained["backends"][0]["reason"] == "down: L7 timeout"


async def test_what_a_node_asks_for_itself_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the API and by explain; a name is as ready as its readiest address."""
    world.members.update("app", "app", share_equally(["10.1.0.1", "10.1.0.2"], 80))
    world.members.set_word("app", world.seat("app", "app[10.1.0.1:80]"), "drain")

    async def answer(_self: Explainer, _question: Any) -> dict[str, Any]:
        reasons = {"app[10.1.0.1:80]": "drained", "app[10.1.0.2:80]": None}
        return {"pool": "app", "backends": [{"name": name, "reason": reason} for name, reason in reasons.items()]}

    monkeypatch.setattr(Explainer, "explain", answer)
    explained = await world.report.explain({"method": "GET", "url": "/", "headers": [], "sender": "127.0.0.1"})
    assert [row["reason"] for row in explained["backends"]] == ["drained, by the node", None]

    def shown(name: str) -> tuple[str, bool, bool]:
        view = world.report.backend("app", name)
        assert view is not None
        return view["state"], view["steered"], view["available"]

    assert shown("app[10.1.0.1:80]") == ("drain", True, False)
    assert shown("app") == ("ready", False, True)
    world.members.set_word("app", world.seat("app", "app[10.1.0.2:80]"), "maint")
    assert shown("app") == ("drain", True, False)


@pytest.mark.parametrize("is_resolved", [False, True])
async def test_explain_shows_names_without_an_address(
    world: World, monkeypatch: pytest.MonkeyPatch, is_resolved: bool
) -> None:
    """A worker hears of a name only when it has an address; until then the answer would be an empty pool."""
    if is_resolved:
        world.members.update("app", "app", share_equally(["10.0.0.9"], 80))

    async def answer(_self: Explainer, _question: Any) -> dict[str, Any]:
        return {"pool": "app", "backends": []}

    monkeypatch.setattr(Explainer, "explain", answer)
    explained = await world.report.explain({"method": "GET", "url": "/", "headers": [], "sender": "127.0.0.1"})
    rows = [(row["name"], row["address"], row["weight"], row["reason"]) for row in explained["backends"]]
    assert rows == ([] if is_resolved else [("app", "app.internal:80", 2, "has no address yet")])


async def test_ejections_and_slow_start_are_shown(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the pool, for the name of several addresses, in the metrics, and with the time that is left in ``explain``."""
    monkeypatch.setattr(report_module, "monotonic", lambda: 101.0)
    world.members.update("app", "app", share_equally(["10.1.0.1", "10.1.0.2"], 80))
    first, second = world.seat("app", "app[10.1.0.1:80]"), world.seat("app", "app[10.1.0.2:80]")

    def shown(name: str) -> tuple[bool, float | None, bool]:
        view = world.report.backend("app", name)
        assert view is not None
        return view["ejected"], view["ejected_for"], view["available"]

    world.members.set_ejected("app", first, ejected=True)
    monkeypatch.setattr(world.ejector, "remaining", lambda _pool, seat: 7.04 if seat == first else 3.0)
    world.ejector.totals["app", "app[10.1.0.1:80]"] = 4
    assert shown("app[10.1.0.1:80]") == (True, 7.0, False)
    assert shown("app[10.1.0.2:80]") == (False, None, True)
    assert shown("app") == (False, None, True)
    assert [pool["available"] for pool in world.report.pools()] == [2, 0, 1]
    world.members.set_ejected("app", second, ejected=True)
    assert shown("app") == (True, 3.0, False)
    text = world.report.metrics()
    assert '\npyproxy_backend_ejections_total{pool="app",backend="app[10.1.0.1:80]"} 4\n' in text
    assert '\npyproxy_backend_ejections_total{pool="web",backend="web1"} 0\n' in text

    async def answer(_self: Explainer, _question: Any) -> dict[str, Any]:
        return {"pool": "app", "backends": [{"name": "app[10.1.0.1:80]", "reason": "ejected"}]}

    monkeypatch.setattr(Explainer, "explain", answer)
    explained = await world.report.explain({"method": "GET", "url": "/", "headers": [], "sender": "127.0.0.1"})
    assert explained["backends"][0]["reason"] == "ejected for another 7 s"


def test_slow_start_is_shown(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """In seconds that are left; for a name, those of the address that needs longest."""
    world.members.update("app", "app", share_equally(["10.1.0.1", "10.1.0.2"], 80))
    monkeypatch.setattr(world.members, "_monotonic", lambda: 100.0)
    monkeypatch.setattr(report_module, "monotonic", lambda: 101.0)
    for health in ("down", "up"):
        world.members.set_health("app", world.seat("app", "app[10.1.0.2:80]"), health)

    def shown() -> list[float | None]:
        views = [world.report.backend("app", name) for name in ("app", "app[10.1.0.1:80]", "app[10.1.0.2:80]")]
        return [view["slow_start"] for view in views if view is not None]

    assert shown() == [None, None, None]
    world.members.configure(replace(world.members.configured("app"), slow_start=30.0))
    assert shown() == [29.0, None, 29.0]


def test_sticky_clients_are_those_seen_lately(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """By backend; a name has the sum of its addresses."""
    monkeypatch.setattr(report_module, "monotonic", lambda: 1000.0)
    world.members.update("app", "app", share_equally(["10.1.0.1", "10.1.0.2"], 80))
    world.seen.note("web", "web1", [1, 2], 0.0)
    world.seen.note("web", "web1", [3], 900.0)
    world.seen.note("app", "app[10.1.0.1:80]", [1], 900.0)
    world.seen.note("app", "app[10.1.0.2:80]", [2], 900.0)
    web, *_ = world.report.pools()
    assert web["backends"][0]["sticky_clients"] == {"5m": 1, "60m": 3}
    whole = world.report.backend("app", "app")
    assert whole is not None
    assert whole["sticky_clients"] == {"5m": 2, "60m": 2}
