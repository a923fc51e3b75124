"""
The operator's commands that tell whether this machine is fit to become master.

Must not know states or the takeover rule: it says how the guards are, others say what follows.

A guard that hasn't run yet is not content: a replica that was never asked may be months old. On the master they run as
well, and one that fails for so long that the other machine has asked its own again since is a reason to go to that one
if it is fit: what both guards look at, such as a replica that has lost the other, then fails on both.
"""

import asyncio
import contextlib
import logging
import shlex
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pyproxy.clock import monotonic, wall
from pyproxy.failover.jobs import Result
from pyproxy.failover.settings import Guard

Verdict = Literal["ok", "refuse", "last_resort"]

_MAX_NAME = 80
_NOT_YET = "hasn't run yet"
_TOLD_SECONDS = 1.0  # until the other machine's verdict is here

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class GuardState:
    """One guard and what it said last; ``at`` is the wall clock's time, None before the first run."""

    guard: Guard
    is_ok: bool = False
    detail: str = _NOT_YET
    at: float | None = None
    failing_since: float | None = None  # monotonic; None before the first run

    @property
    def is_lasting(self) -> bool:
        """Whether it has failed for so long that the other machine has asked its own since."""
        patience = self.guard.interval + self.guard.timeout + _TOLD_SECONDS
        return self.failing_since is not None and monotonic() - self.failing_since > patience

    @property
    def name(self) -> str:
        """Its command, shortened."""
        return shlex.join(self.guard.run)[:_MAX_NAME]


class Guards:
    """
    Run the guards; ``start`` and ``close`` inside a running event loop.

    ``run`` runs a command within a number of seconds; ``on_change`` is called when the verdict or a detail changed.
    """

    def __init__(
        self,
        guards: Sequence[Guard],
        run: Callable[[Sequence[str], float], Awaitable[Result]],
        on_change: Callable[[], None],
    ) -> None:
        self.states = [GuardState(guard) for guard in guards]
        self._run = run
        self._on_change = on_change
        self._tasks: list[asyncio.Task[None]] = []
        self._settled = asyncio.Event()
        self._failure = ""  # that lasts, as it was told last
        if not self.states:
            self._settled.set()

    def __repr__(self) -> str:
        return f"<Guards {self.verdict()[0]} of {len(self.states)}>"

    def verdict(self) -> tuple[Verdict, str]:
        """Give ``ok``, ``last_resort`` or ``refuse``, whichever is worst, and why."""
        failing = [state for state in self.states if not state.is_ok]
        verdicts: tuple[Verdict, ...] = ("refuse", "last_resort")
        for verdict in verdicts:
            for state in failing:
                if state.guard.on_fail == verdict:
                    return verdict, f"{state.name}: {state.detail}"
        return "ok", ""

    def lasting_failure(self) -> str:
        """Say which guard has failed for long, and why; empty if none has."""
        return next((f"guard {state.name} fails: {state.detail}" for state in self.states if state.is_lasting), "")

    def to_plain(self) -> list[dict[str, Any]]:
        """Write them as JSON can hold them."""
        return [
            {
                "name": state.name,
                "ok": state.is_ok,
                "detail": state.detail,
                "at": state.at,
                "on_fail": state.guard.on_fail,
            }
            for state in self.states
        ]

    def start(self) -> None:
        """Run each guard now, and then at its interval."""
        self._tasks = [asyncio.ensure_future(self._watch(state)) for state in self.states]

    async def settle(self, timeout: float) -> None:
        """Wait until every guard has run once, at most so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._settled.wait()

    async def close(self) -> None:
        """Stop running guards."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _watch(self, state: GuardState) -> None:
        while True:
            self._note(state, await self._run(state.guard.run, state.guard.timeout))
            await asyncio.sleep(state.guard.interval)

    def _note(self, state: GuardState, result: Result) -> None:
        before = state.is_ok, state.detail
        state.is_ok, state.detail, state.at = result.is_ok, result.detail, wall()
        if result.is_ok:
            state.failing_since = None
        elif state.failing_since is None:
            state.failing_since = monotonic()
        was_lasting, self._failure = self._failure, self.lasting_failure()
        if all(each.at is not None for each in self.states):
            self._settled.set()
        if (state.is_ok, state.detail) == before:
            if self._failure != was_lasting:
                self._on_change()
            return
        _log.log(
            logging.INFO if state.is_ok else logging.WARNING,
            "guard %s %s: %s",
            state.name,
            "is content" if state.is_ok else f"fails ({state.guard.on_fail})",
            state.detail,
        )
        self._on_change()
