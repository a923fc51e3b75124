"""Pins how a question finds a worker and its answer the way back; the workers are imagined."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from pyproxy.admin.control import ExplanationView, Question, Unavailable
from pyproxy.control.explain import Explainer
from pyproxy.control.worker import Program, WorkerState
from pyproxy.control.workers import Workers
from tests.unit.admin.fake_control import explanation

QUESTION: Question = {"method": "GET", "url": "http://x/", "headers": [], "sender": "127.0.0.1"}


class Asked:
    """A worker that remembers what it was asked."""

    def __init__(self, slot: int, state: WorkerState = WorkerState.READY) -> None:
        self.slot, self.state = slot, state
        self.messages: list[dict[str, Any]] = []

    def send(self, message: dict[str, Any]) -> None:
        self.messages.append(message)


def make_workers(*slots: Asked | None) -> Workers:
    """Workers that were started by nobody."""
    workers = Workers(
        len(slots),
        Program(environ={}),
        on_start=lambda _worker: None,
        on_answer=lambda _worker, _message: None,
        on_end=lambda _slot: None,
        on_hopeless=lambda _reason: None,
    )
    slot: Any
    for number, slot in enumerate(slots):
        workers.slots[number] = slot
    return workers


async def ask(explainer: Explainer, *workers: Asked) -> "asyncio.Task[ExplanationView]":
    """Put a question and wait until it is on its way."""
    before = sum(len(worker.messages) for worker in workers)
    task = asyncio.ensure_future(explainer.explain(QUESTION))
    async with asyncio.timeout(5):
        while sum(len(worker.messages) for worker in workers) == before:
            await asyncio.sleep(0)
    return task


async def test_the_first_ready_worker_is_asked() -> None:
    """Not one that still starts or already drains, and none twice."""
    starting, draining = Asked(0, WorkerState.STARTING), Asked(1, WorkerState.DRAINING)
    first, second = Asked(3), Asked(4)
    explainer = Explainer(make_workers(starting, draining, None, first, second))
    task = await ask(explainer, first)
    assert first.messages == [{"type": "explain", "id": 1, "request": QUESTION}]
    assert [worker.messages for worker in (starting, draining, second)] == [[], [], []]
    explainer.handle_answer({"type": "explained", "id": 1, "result": explanation()})
    assert await task == explanation()
    assert repr(explainer) == "<Explainer 0 pending>"


async def test_answers_find_their_questions() -> None:
    """Whatever their order."""
    worker = Asked(0)
    explainer = Explainer(make_workers(worker))
    tasks = [await ask(explainer, worker), await ask(explainer, worker)]
    for number in (2, 1):
        explainer.handle_answer({"id": number, "result": {**explanation(), "queued": number}})
    assert [(await task)["queued"] for task in tasks] == [1, 2]


async def test_without_a_ready_worker() -> None:
    """There is nobody to ask."""
    explainer = Explainer(make_workers(None, Asked(1, WorkerState.DEAD)))
    with pytest.raises(Unavailable, match="no worker is ready"):
        await explainer.explain(QUESTION)


def end(explainer: Explainer) -> None:
    """End the worker that was asked."""
    explainer.handle_end(0)


def answer(explainer: Explainer) -> None:
    """Answer the question."""
    explainer.handle_answer({"id": 1, "result": explanation()})


async def test_a_worker_that_ends_answers_nothing() -> None:
    """Who asked it hears so at once, who asked another one nothing."""
    first, second = Asked(0), Asked(1)
    explainer = Explainer(make_workers(first, second))
    lost = await ask(explainer, first)
    first.state = WorkerState.DRAINING
    waiting = await ask(explainer, second)
    end(explainer)
    with pytest.raises(Unavailable, match="worker 0 ended before it answered"):
        await lost
    assert not waiting.done()
    explainer.handle_answer({"id": 2, "result": explanation()})
    assert await waiting == explanation()


async def test_a_worker_that_hangs_is_not_waited_for() -> None:
    """The deadline passes; an answer after it is nobody's."""
    explainer = Explainer(make_workers(Asked(0)), deadline=0.0)
    with pytest.raises(Unavailable, match="worker 0 did not answer within 0 s"):
        await explainer.explain(QUESTION)
    answer(explainer)
    assert repr(explainer) == "<Explainer 0 pending>"


@pytest.mark.parametrize("steps", [(answer, end), (end, answer), (end, end), (answer, answer)])
async def test_one_of_two_ends_counts(steps: tuple[Callable[[Explainer], None], ...]) -> None:
    """Answer and end may come in one turn of the loop."""
    worker = Asked(0)
    explainer = Explainer(make_workers(worker))
    task = await ask(explainer, worker)
    for step in steps:
        step(explainer)
    if steps[0] is answer:
        assert await task == explanation()
    else:
        with pytest.raises(Unavailable):
            await task


async def test_who_leaves_is_forgotten() -> None:
    """A cancelled question leaves nothing behind."""
    worker = Asked(0)
    explainer = Explainer(make_workers(worker))
    task = await ask(explainer, worker)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert repr(explainer) == "<Explainer 0 pending>"
