"""Pins when the program counts as empty, what becomes of new connections meanwhile, and how it ends in any case."""

import asyncio
import doctest
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pyproxy.control import handover, syn_block
from pyproxy.control.handover import Emptying


class FakeWorker:
    """A worker that notes what it is told."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.told: list[str] = []

    def send(self, message: dict[str, Any]) -> None:
        self.told.append(message["type"])


class Stage:
    """Two workers, and sockets that exist as a note of what is done to them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.workers = [FakeWorker(1), FakeWorker(2)]
        self.steps: list[str] = []
        self.in_flight: Callable[[], int] = lambda: 0
        self.queued: Iterator[int] = iter(())
        self.half_open: Iterator[int] = iter(())
        for name in ("block", "unblock"):
            monkeypatch.setattr(syn_block, name, lambda _, name=name: self.steps.append(name))
        monkeypatch.setattr(syn_block, "queued", lambda _: next(self.queued, 0))
        monkeypatch.setattr(syn_block, "half_open", lambda _: next(self.half_open, 0))
        self.emptying = Emptying(self.alive, [], self.count)

    def alive(self) -> Any:
        return self.workers

    def count(self) -> int:
        return self.in_flight()

    def all_yield(self) -> None:
        for worker in self.workers:
            self.emptying.handle_yielded(worker)  # type: ignore[arg-type]  # as far as it is looked at


@pytest.fixture
async def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Waits that take no time."""
    for name in ("BLOCK_SECONDS", "LOOK_SECONDS", "FIRST_PAUSE", "LAST_SECONDS", "RESET_SECONDS"):
        monkeypatch.setattr(handover, name, 0.0)
    monkeypatch.setattr(handover, "pauses", lambda: iter([0.0] * 1000))
    return Stage(monkeypatch)


def test_doctest() -> None:
    """The example in the documentation is true."""
    assert doctest.testmod(handover).failed == 0


async def test_nothing_is_blocked_before_those_that_were_there_are_gone(stage: Stage) -> None:
    """All workers have to say so."""
    waiting = asyncio.ensure_future(stage.emptying.empty(60.0))
    await asyncio.sleep(0)
    assert [worker.told for worker in stage.workers] == [["yield"], ["yield"]]
    stage.emptying.handle_yielded(stage.workers[0])  # type: ignore[arg-type]  # as far as it is looked at
    await asyncio.sleep(0)
    assert stage.steps == []
    stage.all_yield()
    await waiting
    assert stage.steps == ["block"]
    assert stage.emptying.was_reset == 0
    stage.emptying.end()
    assert stage.steps == ["block", "unblock"]
    assert [worker.told for worker in stage.workers] == [["yield", "keep"]] * 2


async def test_a_worker_that_ends_is_not_waited_for(stage: Stage) -> None:
    """It has nothing in flight any more."""
    waiting = asyncio.ensure_future(stage.emptying.empty(60.0))
    await asyncio.sleep(0)
    stage.emptying.handle_yielded(stage.workers[0])  # type: ignore[arg-type]  # as far as it is looked at
    del stage.workers[1]
    stage.emptying.handle_yielded(stage.workers[0])  # type: ignore[arg-type]  # as far as it is looked at
    await waiting
    assert stage.steps == ["block"]


async def test_who_is_in_flight_is_let_go_on_and_tried_again(stage: Stage) -> None:
    """New connections are blocked for a moment only, each time."""
    counts = iter([3, 0, 1])
    stage.in_flight = lambda: next(counts, 0)
    stage.all_yield()
    await stage.emptying.empty(60.0)
    assert stage.steps == ["block", "unblock", "block", "unblock", "block"]


async def test_what_nobody_has_accepted_yet_is_in_flight(stage: Stage) -> None:
    """The kernel has completed it, so its client may have sent a request."""
    stage.queued = iter([1])
    stage.all_yield()
    await stage.emptying.empty(60.0)
    assert stage.steps == ["block", "unblock", "block"]


async def test_what_is_left_at_the_end_of_the_grace_is_reset(stage: Stage) -> None:
    """With new connections blocked from then on, so that it stays empty; and it is told how many these were."""
    stage.in_flight = lambda: 2 if "reset" not in stage.workers[0].told else 0
    await stage.emptying.empty(0.0)
    assert stage.emptying.was_reset == 2
    assert stage.steps[-1] == "block"
    assert stage.workers[0].told == ["yield", "reset"]
