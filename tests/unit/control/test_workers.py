"""Pins when a worker is started again, and when the program gives up; the processes are imagined."""

import asyncio
import doctest
from collections.abc import Callable
from typing import Any

import pytest

from pyproxy.control import workers as workers_module
from pyproxy.control.worker import Program, WorkerState
from pyproxy.control.workers import FIRST_TRIES, MAX_PAUSE, SHORT_LIFE, Workers, pause


class FakeWorker:
    """A worker without a process, ended by the test."""

    made: list["FakeWorker"]
    refuse = 0

    def __init__(
        self,
        slot: int,
        _program: Program,
        on_ready: Callable[["FakeWorker"], None],
        on_answer: Callable[["FakeWorker", dict[str, Any]], None],
        on_end: Callable[["FakeWorker"], None],
    ) -> None:
        if FakeWorker.refuse:
            FakeWorker.refuse -= 1
            raise OSError("no more processes")
        self.slot, self.pid, self.state = slot, 1000 + len(FakeWorker.made), WorkerState.STARTING
        self.started = asyncio.get_running_loop().time()
        self.failure, self.ending = "", "exit status 1"
        self.orders: list[str] = []
        self.is_silent = self.is_hung = False
        self.checks = 0
        self._on_ready, self._on_end = on_ready, on_end
        FakeWorker.made.append(self)

    def become_ready(self) -> None:
        self.state = WorkerState.READY
        self._on_ready(self)

    def end(self, *, lived: float = 0.0) -> None:
        self.started -= lived
        self.state = WorkerState.DEAD
        self._on_end(self)

    @property
    def is_serving(self) -> bool:
        return self.state is WorkerState.READY and not self.is_silent

    def check(self) -> None:
        self.checks += 1

    def drain(self, grace: float) -> None:
        self.state = WorkerState.DRAINING
        self.orders.append(f"drain {grace:g}")

    def kill(self) -> None:
        self.is_hung = False
        self.orders.append("kill")


class Watched:
    """Workers with everything that they report."""

    def __init__(self, count: int) -> None:
        self.retired: list[int] = []
        self.started: list[int] = []
        self.reasons: list[str] = []
        self.workers = Workers(
            count,
            Program(environ={}),
            on_start=lambda worker: self.started.append(worker.pid),
            on_answer=lambda _worker, _message: None,
            on_end=self.retired.append,
            on_hopeless=self._hopeless,
        )

    def _hopeless(self, reason: str) -> None:
        self.reasons.append(reason)
        self.workers.kill()


@pytest.fixture(autouse=True)
def made(monkeypatch: pytest.MonkeyPatch) -> list[FakeWorker]:
    """Every worker that was made, in order."""
    monkeypatch.setattr(workers_module, "Worker", FakeWorker)
    FakeWorker.made, FakeWorker.refuse = [], 0
    return FakeWorker.made


async def turn() -> None:
    """Let timers without a delay run."""
    for _ in range(3):
        await asyncio.sleep(0)


def test_doctest() -> None:
    """The examples in the documentation are true."""
    assert doctest.testmod(workers_module).failed == 0


def test_the_pause_grows_and_is_bounded() -> None:
    """The first new start comes at once, later ones wait longer, never more than the bound."""
    pauses = [pause(count) for count in range(100_000)]
    assert pauses[:2] == [0.0, 0.0]
    assert sorted(pauses) == pauses
    assert max(pauses) == MAX_PAUSE


async def test_a_ready_worker_that_dies_is_replaced_at_once(made: list[FakeWorker]) -> None:
    """Its row is retired before the next one is started in the same slot."""
    watched = Watched(2)
    watched.workers.start()
    made[0].become_ready()
    made[0].end(lived=SHORT_LIFE + 1)
    assert watched.retired == [0]
    assert len(made) == 2
    await turn()
    assert [worker.slot for worker in made] == [0, 1, 0]
    assert watched.started == [1000, 1001, 1002]
    assert watched.workers.restarts == 1
    watched.workers.kill()


async def test_short_lives_lead_to_pauses(made: list[FakeWorker], caplog: pytest.LogCaptureFixture) -> None:
    """A worker that dies again and again is started less and less often; one long life forgives."""
    watched = Watched(1)
    watched.workers.start()
    made[0].become_ready()
    made[0].end()
    await turn()
    made[1].end()
    await turn()
    assert len(made) == 2
    assert "worker 0 is started again in 0.25 s" in caplog.text
    watched.workers._start(0)
    made[2].end(lived=SHORT_LIFE + 1)
    await turn()
    assert len(made) == 4
    watched.workers.kill()


async def test_without_any_ready_worker_a_few_failures_are_enough(made: list[FakeWorker]) -> None:
    """A worker that can't work at all ends the program with its reason, and no other is started."""
    watched = Watched(2)
    watched.workers.start()
    for number in range(FIRST_TRIES):
        made[-1].failure = f"reason {number}"
        made[-1].end()
        if number + 1 < FIRST_TRIES:
            watched.workers._start(1)
    assert watched.reasons == [f"reason {FIRST_TRIES - 1}"]
    before = len(made)
    await turn()
    assert len(made) == before


async def test_once_ready_the_program_never_gives_up(made: list[FakeWorker]) -> None:
    """A program that has served goes on trying: another machine has nothing better to offer."""
    watched = Watched(1)
    watched.workers.start()
    made[0].become_ready()
    for _ in range(20):
        made[-1].end()
        watched.workers._start(0)
    assert watched.reasons == []
    watched.workers.kill()


async def test_what_cannot_be_started_counts_as_failed(made: list[FakeWorker]) -> None:
    """No process, no descriptor: tried again, and given up at the program's start."""
    watched = Watched(1)
    FakeWorker.refuse = FIRST_TRIES
    watched.workers.start()
    for _ in range(FIRST_TRIES - 1):
        watched.workers._start(0)
    assert watched.reasons == ["no more processes"]
    assert watched.workers.ended.is_set()


async def test_hopeless_in_the_first_slot_starts_no_second(made: list[FakeWorker]) -> None:
    """When the first slot gives up while the others are yet to be started, they are not."""
    watched = Watched(2)
    FakeWorker.refuse = 1
    watched.workers._short_lives[0] = FIRST_TRIES - 1
    watched.workers.start()
    assert watched.reasons
    assert made == []


async def test_drain_reaches_all_and_nobody_comes_after(made: list[FakeWorker]) -> None:
    """Every worker is told the grace; one that then ends is not replaced; the last one's end is the end."""
    watched = Watched(2)
    watched.workers.start()
    made[0].become_ready()
    watched.workers.drain(7.0)
    assert [worker.orders for worker in made] == [["drain 7"], ["drain 7"]]
    made[0].end()
    assert not watched.workers.ended.is_set()
    made[1].end()
    assert watched.workers.ended.is_set()
    await turn()
    assert len(made) == 2
    assert watched.retired == [0, 1]


async def test_stopping_forgets_a_planned_start(made: list[FakeWorker]) -> None:
    """A worker that waits for its next start when the program stops never comes."""
    watched = Watched(1)
    watched.workers.start()
    made[0].become_ready()
    made[0].end()
    watched.workers.drain(1.0)
    assert watched.workers.ended.is_set()
    await turn()
    assert len(made) == 1


async def test_ready_counts_the_ready(made: list[FakeWorker]) -> None:
    """Starting, draining and dead workers take no traffic."""
    watched = Watched(3)
    assert watched.workers.ready == 0
    watched.workers.start()
    made[0].become_ready()
    made[1].become_ready()
    assert watched.workers.ready == 2
    made[1].end()
    assert watched.workers.ready == 1
    watched.workers.drain(1.0)
    assert watched.workers.ready == 0


async def test_start_orders_that_fail_cost_the_worker(made: list[FakeWorker]) -> None:
    """Without descriptors to send, the fresh worker is killed and so comes round again."""

    def fail(_worker: object) -> None:
        raise OSError("too many open files")

    workers = Workers(
        1,
        Program(environ={}),
        on_start=fail,
        on_answer=lambda _w, _m: None,
        on_end=lambda _s: None,
        on_hopeless=lambda _r: None,
    )
    workers.start()
    assert made[0].orders == ["kill"]
    workers.kill()


async def test_workers_that_hang_are_replaced_one_at_a_time(made: list[FakeWorker]) -> None:
    """The second only when the first takes traffic again."""
    watched = Watched(2)
    watched.workers.start()
    for worker in made[:2]:
        worker.become_ready()
        worker.is_silent = worker.is_hung = True
    watched.workers._check_all()
    watched.workers._check_all()
    assert [worker.orders for worker in made] == [["kill"], []]
    made[0].end(lived=SHORT_LIFE)
    await turn()
    watched.workers._check_all()
    assert made[1].orders == []
    made[2].become_ready()
    watched.workers._check_all()
    assert made[1].orders == ["kill"]
    watched.workers.kill()


async def test_one_that_is_not_replaced_does_not_keep_the_others_hung(
    made: list[FakeWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has its time to end, and what takes its place to become ready, and no more."""
    monkeypatch.setattr(workers_module, "READY_TIMEOUT", 0.0)
    watched = Watched(2)
    watched.workers.start()
    for worker in made:
        worker.become_ready()
        worker.is_silent = worker.is_hung = True
    watched.workers._check_all()
    assert [worker.orders for worker in made] == [["kill"], []]
    watched.workers._check_all()
    assert [worker.orders for worker in made] == [["kill"], ["kill"]]
    watched.workers.kill()


async def test_a_silent_worker_does_not_count_as_ready(made: list[FakeWorker]) -> None:
    """And the one who counts them hears of it, and of its return."""
    watched = Watched(2)
    watched.workers.start()
    for worker in made:
        worker.become_ready()
    counts: list[int] = []
    watched.workers._on_ready = lambda: counts.append(watched.workers.ready)
    watched.workers._check_all()
    made[0].check = lambda: setattr(made[0], "is_silent", True)  # type: ignore[method-assign]
    watched.workers._check_all()
    made[0].check = lambda: None  # type: ignore[method-assign]
    made[0].is_silent = False  # its answer comes between two checks
    watched.workers._check_all()
    assert counts == [2, 1, 2]
    watched.workers.kill()
