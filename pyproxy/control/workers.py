"""
The worker processes: started, watched, told what to do, and started again when they end.

Must not know configuration or metrics: the start message is made elsewhere and passed on as it is.

A slot's life::

                exec            ready                  drain
    (nothing) ───────▶ starting ───────▶ ready ─────────────────▶ draining
                         │  ▲              │                          │
       not ready in time │  │ respawn      │ ended                    │ ended
                         ▼  │              ▼                          ▼
                        dead ◀───────── dead                    dead, for good

A worker that ends is started again: at once, or after a growing pause if it had lived shortly. Its row of the
scoreboard is retired first. Until any worker has ever become ready, a few failures are enough to give up.

A worker that hangs is killed, and so started again: one at a time, the next when the one before takes traffic again or
had its time to, for what makes them hang may be over when the first has been replaced.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from pyproxy.control.worker import READY_TIMEOUT, Program, Worker, WorkerState
from pyproxy.pulse import EVERY

SHORT_LIFE = 10.0  # a worker that ends sooner than this after its start counts as failing
FIRST_PAUSE = 0.25
MAX_PAUSE = 5.0
FIRST_TRIES = 3  # of one slot, before any worker was ever ready

_log = logging.getLogger(__name__)


def pause(short_lives: int) -> float:
    """
    Seconds to wait before the next start, after so many short lives in a row.

    >>> [pause(n) for n in range(8)]
    [0.0, 0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 5.0]
    """
    if short_lives < 2:
        return 0.0
    # The shift is bounded too: a week of failures must not become a number of a hundred thousand bits.
    return min(FIRST_PAUSE * (1 << min(short_lives - 2, 10)), MAX_PAUSE)


class Workers:
    """
    All slots of the program.

    ``on_start`` sends a fresh worker its start message, ``on_answer`` gets what one says when it was asked or told
    something, ``on_end`` is told the slot of one that ended, before the next is started there, ``on_hopeless`` gets
    the reason when no worker can be brought up at all. ``on_ready`` is told when another number of them takes traffic.
    """

    def __init__(
        self,
        count: int,
        program: Program,
        *,
        on_start: Callable[[Worker], None],
        on_answer: Callable[[Worker, dict[str, Any]], None],
        on_end: Callable[[int], None],
        on_hopeless: Callable[[str], None],
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        self.slots: list[Worker | None] = [None] * count
        self.restarts = 0
        self.ended = asyncio.Event()  # set when the program stops and no worker is left
        self._program = program
        self._on_start = on_start
        self._on_answer = on_answer
        self._on_end = on_end
        self._on_hopeless = on_hopeless
        self._on_ready = on_ready
        self._short_lives = [0] * count
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._check: asyncio.TimerHandle | None = None
        self._serving = 0  # how many took traffic when they were last counted
        self._replaced: tuple[int, float] | None = None  # slot of the last one that hung, until when it is awaited
        self._has_been_ready = False
        self._stopping = False

    def __repr__(self) -> str:
        return f"<Workers {self.slots}>"

    @property
    def ready(self) -> int:
        """How many workers take traffic."""
        return sum(worker.is_serving for worker in self.alive())

    def alive(self) -> list[Worker]:
        """The workers whose process lives."""
        return [worker for worker in self.slots if worker and worker.state is not WorkerState.DEAD]

    def start(self) -> None:
        """Start a worker in every slot."""
        for slot in range(len(self.slots)):
            self._start(slot)
        self._check_all()

    def drain(self, grace: float) -> None:
        """Stop for good: every worker drains, none is started any more; ``ended`` tells the end."""
        self._stop()
        for worker in self.alive():
            worker.drain(grace)

    def kill(self) -> None:
        """Stop for good and at once; ``ended`` tells the end."""
        self._stop()
        for worker in self.alive():
            worker.kill()

    def _stop(self) -> None:
        self._stopping = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        if self._check is not None:
            self._check.cancel()
        if not self.alive():
            self.ended.set()

    def _check_all(self) -> None:
        """Have each worker show that it lives, again and again until the end."""
        if self._stopping:
            return
        loop = asyncio.get_running_loop()
        self._check = loop.call_later(EVERY, self._check_all)
        for worker in self.alive():
            worker.check()
        before, self._serving = self._serving, self.ready  # whoever was silent may have answered between two checks
        if self._serving != before:
            self._on_ready()
        self._replace_hung(loop.time())

    def _replace_hung(self, now: float) -> None:
        if self._replaced is not None:
            slot, until = self._replaced
            successor = self.slots[slot]
            if now < until and not (successor is not None and successor.is_serving):
                return
            self._replaced = None
        hung = next((worker for worker in self.alive() if worker.is_hung), None)
        if hung is not None:
            hung.failure = "it hung"
            _log.error("worker %d (pid %d) hangs: it doesn't answer, killing it", hung.slot, hung.pid)
            self._replaced = hung.slot, now + READY_TIMEOUT
            hung.kill()

    def _start(self, slot: int) -> None:
        self._timers.pop(slot, None)
        if self._stopping:
            return  # one slot was hopeless while the others were still to be started
        try:
            worker = Worker(slot, self._program, self._handle_ready, self._on_answer, self._handle_end)
        except OSError as error:
            _log.error("worker %d can't be started: %s", slot, error)
            self._start_again(slot, lived=0.0, reason=str(error))
            return
        self.slots[slot] = worker
        try:
            self._on_start(worker)
        except (OSError, ValueError) as error:
            _log.error("worker %d can't be told to start: %s", slot, error)
            worker.kill()

    def _handle_ready(self, worker: Worker) -> None:
        self._has_been_ready = True
        self._on_ready()

    def _handle_end(self, worker: Worker) -> None:
        self._on_end(worker.slot)
        if self._stopping:
            _log.info("worker %d (pid %d) ended: %s", worker.slot, worker.pid, worker.ending)
            if not self.alive():
                self.ended.set()
            return
        _log.error("worker %d (pid %d) ended: %s", worker.slot, worker.pid, worker.ending)
        lived = asyncio.get_running_loop().time() - worker.started
        self._start_again(worker.slot, lived, worker.failure or worker.ending)

    def _start_again(self, slot: int, lived: float, reason: str) -> None:
        self._short_lives[slot] = self._short_lives[slot] + 1 if lived < SHORT_LIFE else 0
        if not self._has_been_ready and self._short_lives[slot] >= FIRST_TRIES:
            self._on_hopeless(reason)
            return
        self.restarts += 1
        seconds = pause(self._short_lives[slot])
        if seconds:
            _log.warning("worker %d is started again in %.2f s", slot, seconds)
        self._timers[slot] = asyncio.get_running_loop().call_later(seconds, self._start, slot)
