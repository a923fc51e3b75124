"""
One timer for all deadlines: a request only stores floats, and a sweeper looks at them ten times a second.

Must not know what a deadline is for. A deadline may therefore be noticed 0.1 s late, never early.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol

SWEEP_SECONDS: Final = 0.1
#: libuv runs due timers before it looks at sockets, so after a stall a deadline can seem to have passed although
#: the bytes are there. Expired ones are therefore looked at twice, with a turn of the loop in between.
_SECOND_LOOK_SECONDS: Final = 0.001

_log = logging.getLogger("worker")


class Watched(Protocol):
    """Something with a deadline."""

    deadline: float

    def on_deadline(self, now: float) -> None:
        """Act on the deadline."""


class Sweeper:
    """Hold everything that has a deadline, and call ``on_tick(now, lag)`` with every sweep."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        on_tick: Callable[[float, float], None],
    ) -> None:
        self.watched: dict[Watched, None] = {}  # in order of arrival: who came first expires first
        self._loop = loop
        self._clock = clock
        self._on_tick = on_tick
        self._due = clock() + SWEEP_SECONDS
        self._timer = loop.call_later(SWEEP_SECONDS, self._sweep)

    def watch(self, watched: Watched) -> None:
        """Look at this deadline from now on."""
        self.watched[watched] = None

    def unwatch(self, watched: Watched) -> None:
        """Forget it, if it is known at all."""
        self.watched.pop(watched, None)

    def close(self) -> None:
        """Stop sweeping."""
        self._timer.cancel()

    def _sweep(self) -> None:
        now = self._clock()
        lag = max(0.0, now - self._due)
        self._due = now + SWEEP_SECONDS
        self._timer = self._loop.call_later(SWEEP_SECONDS, self._sweep)
        expired = [watched for watched in self.watched if watched.deadline <= now]
        if expired:
            self._loop.call_later(_SECOND_LOOK_SECONDS, self._fire, expired)
        try:
            self._on_tick(now, lag)
        except Exception:
            _log.exception("periodic work failed")  # the sweeper must go on: all deadlines hang on it

    def _fire(self, expired: list[Watched]) -> None:
        now = self._clock()
        for watched in expired:
            if watched in self.watched and watched.deadline <= now:
                try:
                    watched.on_deadline(now)
                except Exception:
                    _log.exception("deadline of %r failed", watched)
                    watched.deadline = now + 1.0  # it is looked at again instead of being lost
