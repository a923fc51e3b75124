"""Pins how workers hear of a pool's members, and when a seat goes to another; its life is for integration tests."""

import asyncio
import math
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from pyproxy.clock import monotonic
from pyproxy.config.load import load_text
from pyproxy.config.runtime import Pool, from_plain
from pyproxy.control.answers import Answer, share_equally
from pyproxy.control.scoreboard import Scoreboard
from pyproxy.control.settings import make_settings
from pyproxy.control.supervisor import Supervisor
from pyproxy.health.checks import CheckResult

FILE = """
workers: 2
listeners: [{bind: "127.0.0.1:80"}]
routes: [{pool: web}]
pools:
  web: {backends: [{name: app, address: "app.internal:80"}]}
  api: {backends: [{name: app, address: "app.internal:80"}]}
"""


def hosts(*numbers: int) -> Answer:
    """An answer of these addresses."""
    return share_equally([f"10.1.0.{number}" for number in numbers], 80)


class FakeWorker:
    """A worker's process that notes what it is sent."""

    def __init__(self, slot: int) -> None:
        self.slot = self.pid = slot
        self.ending = "killed by SIGKILL"
        self.sent: list[dict[str, Any]] = []

    def send(self, message: dict[str, Any], _fds: Sequence[int] = ()) -> None:
        """Note a message."""
        self.sent.append(message)


def make_supervisor() -> Any:
    """A supervisor that has not begun to run; untyped, since its parts are replaced by fakes."""
    return Supervisor(make_settings(load_text(FILE, "lb.yml", {}), "lb.yml"))


class Stage:
    """A supervisor over two workers that exist in memory only."""

    def __init__(self) -> None:
        self.supervisor = make_supervisor()
        self.layout = self.supervisor._layout
        self.board = Scoreboard(2, self.layout.size, self.layout.gauges)
        self.workers = [FakeWorker(0), FakeWorker(1)]
        self.supervisor._scoreboard = self.board
        self.supervisor._listeners = []
        self.supervisor._log_fd = None
        self.supervisor._explainer = SimpleNamespace(handle_end=lambda _slot: None)
        self.supervisor._workers = SimpleNamespace(alive=lambda: self.workers, slots=self.workers)
        for worker in self.workers:
            self.supervisor._handle_start(worker)

    def answer(self, pool: str, *numbers: int) -> None:
        """A name is answered."""
        self.supervisor._handle_addresses(pool, "app", hosts(*numbers))

    def apply(self, worker: FakeWorker, version: int) -> None:
        """A worker says what it goes by."""
        self.supervisor._handle_answer(worker, {"type": "applied", "version": version})

    def seat(self, pool: str, backend: str) -> int:
        """Where a backend's counters are."""
        seats: dict[tuple[str, str], int] = self.supervisor._members.seats
        return seats[pool, backend]


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """A supervisor that has started two workers without any address."""
    stage = Stage()
    yield stage
    stage.board.close()


async def test_workers_do_not_see_what_the_file_takes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The admin token comes from there, and is none of theirs."""
    monkeypatch.setenv("ADMIN_TOKEN", "sesame" * 8)
    monkeypatch.setenv("SOMETHING_ELSE", "1")
    file = FILE + "admin: {bind: '127.0.0.1:1', token: '${ADMIN_TOKEN}'}\n"
    supervisor: Any = Supervisor(make_settings(load_text(file, "lb.yml", os.environ), "lb.yml"))
    assert "ADMIN_TOKEN" not in supervisor._program.environ
    assert supervisor._program.environ["SOMETHING_ELSE"] == "1"


async def test_changes_at_once_are_one_message(stage: Stage) -> None:
    """All pools that changed in a turn of the loop come together, whole, with the version that they make."""
    stage.answer("web", 1)
    stage.answer("api", 1, 2)
    stage.answer("web", 1, 2, 3)
    await asyncio.sleep(0)
    for worker in stage.workers:
        (message,) = worker.sent[1:]
        assert (message["type"], message["version"]) == ("pools", 4)
        assert {pool["name"]: len(pool["backends"]) for pool in message["pools"]} == {"web": 3, "api": 2}
    stage.answer("web", 3, 2, 1)
    await asyncio.sleep(0)
    assert len(stage.workers[0].sent) == 2


async def test_who_is_checked_follows_every_change(stage: Stage) -> None:
    """DNS's and the operator's; what that makes of the health is told in the same message, and waited for."""
    supervisor, told = stage.supervisor, list[Pool]()

    def update(pool: Pool) -> None:
        told.append(pool)
        supervisor._handle_flip("web", stage.seat("web", "app"), "checking")

    supervisor._prober = SimpleNamespace(update=update, results={})
    supervisor._resolver = SimpleNamespace(follow=lambda _pool: None)
    stage.answer("web", 1)
    assert [backend.name for backend in told.pop().backends] == ["app"]
    await asyncio.sleep(0)
    (app,) = supervisor._members.configured("web").backends
    supervisor._members.configure(
        replace(supervisor._members.configured("web"), backends=(replace(app, state="maint"),))
    )
    publishing = asyncio.create_task(supervisor._publish("web"))
    await asyncio.sleep(0)
    assert [backend.state for backend in told.pop().backends] == ["maint"]
    await asyncio.sleep(0)
    for worker in stage.workers:
        assert len(worker.sent) == 3
        (backend,) = worker.sent[-1]["pools"][0]["backends"]
        assert (backend["state"], backend["health"]) == ("maint", "checking")
        assert not publishing.done()
        stage.apply(worker, worker.sent[-1]["version"])
    assert await publishing == []


async def test_a_late_worker_starts_with_what_holds_now(stage: Stage) -> None:
    """Its start message has the members, their version, and as many seats as the others' rows have."""
    stage.answer("web", 1, 2)
    late = FakeWorker(1)
    stage.supervisor._handle_start(late)
    (message,) = late.sent
    assert message["version"] == 2
    assert message["seats"] == stage.layout.seats == stage.workers[0].sent[0]["seats"]
    config = from_plain(message["config"])
    assert [backend.name for backend in config.pools[0].backends] == ["app[10.1.0.1:80]", "app[10.1.0.2:80]"]
    assert config.pools[1].backends == ()


async def test_the_totals_cover_every_seat_in_use(stage: Stage) -> None:
    """A backend that DNS brought is counted as soon as it is there."""
    stage.answer("web", 1)
    column = stage.layout.backend_total(stage.seat("web", "app"))
    stage.board.row(1)[column] = 5
    assert stage.board.totals()[column] == 5


async def test_a_seat_goes_to_another_when_all_have_let_go_of_it(stage: Stage) -> None:
    """Each worker has applied the change or is gone, and nothing is in flight; the next one begins at zero."""
    release, slow = stage.supervisor._release_seats, stage.workers[1]
    stage.answer("web", 1)
    seat = stage.seat("web", "app")
    active, total = stage.layout.backend_active(seat), stage.layout.backend_total(seat)
    stage.board.row(1)[active], stage.board.row(1)[total] = 1, 9
    stage.answer("web", 2, 3)
    for worker in stage.workers:
        stage.apply(worker, 3)
    release()  # something is in flight
    stage.answer("api", 1)
    assert stage.seat("api", "app") != seat
    stage.answer("web", 1)  # it is back where it was
    assert stage.seat("web", "app") == seat
    stage.answer("web", 2, 3)
    stage.board.row(1)[active] = 0
    stage.apply(stage.workers[0], 6)
    release()  # one doesn't know yet
    stage.answer("api", 2, 3)
    assert seat not in stage.supervisor._members.seats.values()
    stage.supervisor._handle_end(slow.slot)
    release()
    assert stage.board.totals()[total] == 9
    stage.answer("api", 4, 5, 6)
    assert seat in stage.supervisor._members.seats.values()
    assert stage.board.totals()[total] == 0


async def test_what_a_name_counted_stays_when_its_address_changes(stage: Stage) -> None:
    """When the seat of the old address is free, its totals are the new one's."""
    stage.answer("web", 1)
    old = stage.layout.backend_total(stage.seat("web", "app"))
    stage.board.row(0)[old] = 5
    stage.answer("web", 2)
    new = stage.layout.backend_total(stage.seat("web", "app"))
    stage.board.row(1)[new] = 2
    stage.supervisor._release_seats()
    assert stage.board.sums([old, new]) == [5, 2]
    for worker in stage.workers:
        stage.apply(worker, 3)
    stage.supervisor._release_seats()
    assert stage.board.sums([old, new]) == [0, 7]


async def test_an_answer_of_unknown_type_is_logged(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """It is a bug of ours that must show, and stop nothing."""
    stage.supervisor._handle_answer(stage.workers[0], {"type": "what"})
    assert "unknown type 'what'" in caplog.text


async def test_a_report_of_failures_reaches_all_workers(stage: Stage) -> None:
    """At once; a passed check that began later ends it, and what the operator changes is followed."""
    supervisor = stage.supervisor
    stage.answer("web", 1, 2)
    await asyncio.sleep(0)
    seat = stage.seat("web", "app[10.1.0.1:80]")

    def ejected() -> list[list[bool]]:
        return [[backend["ejected"] for backend in worker.sent[-1]["pools"][0]["backends"]] for worker in stage.workers]

    message = {"type": "failing", "pool": "web", "seat": seat, "failures": 5, "last": "x"}
    supervisor._handle_answer(stage.workers[0], message)
    await asyncio.sleep(0)
    assert ejected() == [[True, False]] * 2
    late = FakeWorker(1)
    supervisor._handle_start(late)
    (web, _) = late.sent[0]["config"]["pools"]
    assert [backend["ejected"] for backend in web["backends"]] == [True, False]
    supervisor._prober._on_pass("web", seat, math.inf)
    await asyncio.sleep(0)
    assert ejected() == [[False, False]] * 2
    supervisor._handle_answer(stage.workers[0], message)
    stage.answer("web", 1)
    assert not supervisor._members.plain_pool("web")["backends"][0]["ejected"], "the last one stays"
    assert supervisor._ejector._timer is not None
    supervisor._workers = SimpleNamespace(kill=lambda: None, ended=asyncio.Event())
    supervisor._workers.ended.set()
    await supervisor._end()
    assert supervisor._ejector._timer.cancelled()


async def test_a_node_that_takes_itself_out_lets_an_ejected_one_back(stage: Stage) -> None:
    """Who is left counts, whoever takes others out: nobody would be for as long as the ejection lasts."""
    supervisor = stage.supervisor
    stage.answer("web", 1, 2)
    seat, other = (stage.seat("web", f"app[10.1.0.{number}:80]") for number in (1, 2))
    supervisor._ejector.handle_report({"pool": "web", "seat": seat, "failures": 5, "last": "x"})
    assert supervisor._members.member("web", seat).ejected
    supervisor._handle_word("web", other, "drain")
    assert not supervisor._members.member("web", seat).ejected
    await asyncio.sleep(0)
    supervisor._ejector.close()


async def test_who_is_said_to_be_ready_starts_slowly(stage: Stage) -> None:
    """If it wasn't; for one that was, an ejection ends and nothing else."""
    supervisor = stage.supervisor
    stage.answer("web", 1, 2)
    seat = stage.seat("web", "app[10.1.0.1:80]")

    def rising() -> list[bool]:
        return [bool(backend["rising"]) for backend in supervisor._members.plain_pool("web")["backends"]]

    supervisor._ejector.handle_report({"pool": "web", "seat": seat, "failures": 5, "last": "x"})
    supervisor._handle_ready("web", "app")
    present = supervisor._members.configured("web")
    drained = replace(present, backends=(replace(present.backends[0], state="drain"),))
    supervisor._members.configure(drained)
    assert rising() == [False, False]
    assert not any(backend["ejected"] for backend in supervisor._members.plain_pool("web")["backends"])
    supervisor._handle_ready("web", "app")
    supervisor._handle_ready("web", "nobody")
    supervisor._members.configure(present)
    assert rising() == [True, True]
    await asyncio.sleep(0)
    supervisor._ejector.close()


async def test_what_happens_is_told(stage: Stage) -> None:
    """Addresses that come and go, flips with what the check found, and workers that end."""
    supervisor = stage.supervisor
    stage.answer("web", 1)
    supervisor._prober.results[stage.seat("web", "app")] = CheckResult(0.0, False, "L4 refused", 0.1)
    supervisor._handle_flip("web", stage.seat("web", "app"), "down")
    supervisor._handle_flip("web", stage.seat("web", "app"), "down")
    stage.answer("web", 2)
    supervisor._handle_end(1)
    _, found = supervisor._events.since(0)
    rows = [[event[key] for key in ("kind", "backend", "from", "to", "reason")] for _, event in found]
    assert rows == [
        ["worker", None, None, "started", "worker 0, pid 0"],
        ["worker", None, None, "started", "worker 1, pid 1"],
        ["added", "app", None, "10.1.0.1:80", "DNS"],
        ["health", "app", "up", "down", "L4 refused"],
        ["removed", "app", "10.1.0.1:80", None, "DNS"],
        ["added", "app", None, "10.1.0.2:80", "DNS"],
        ["worker", None, None, "ended", "worker 1, pid 1: killed by SIGKILL"],
    ]


async def test_sticky_clients_of_all_workers_are_counted_together(stage: Stage) -> None:
    """A client that came to both is one."""
    for worker, clients in zip(stage.workers, ([1, 2], [2, 3]), strict=True):
        stage.supervisor._handle_answer(worker, {"type": "seen", "pools": {"web": {"app": clients}}})
    assert stage.supervisor._seen.count("web", "app", 300, monotonic()) == 3
