"""
A process started ahead: everything loaded, it waits for its start message until the one that works has ended.

Must not know what is sent to it. It does nothing and holds nothing, so it may be killed at any time; one that ends by
itself is followed by another, after a pause that grows while they live shortly.
"""

import asyncio
import logging
from collections.abc import Callable

from pyproxy.control.child import Child
from pyproxy.control.workers import SHORT_LIFE
from pyproxy.pulse import HUNG, SILENT

DELAY = 1.0  # after which a spare is made: who has just taken over has better things to do with the processors
MAX_DELAY = 60.0
LOAD_SECONDS = 10.0  # that it may be silent while it loads

_log = logging.getLogger(__name__)


class Spare:
    """
    Keeps one process waiting from ``prepare`` until ``take`` or ``close``; its timers are ``loop``'s.

    ``make`` starts one and may raise ``OSError``; its end is to be told to ``handle_end``.
    """

    def __init__(self, make: Callable[[], Child], loop: asyncio.AbstractEventLoop) -> None:
        self.child: Child | None = None
        self._make = make
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._delay = DELAY
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<Spare {self.child!r}>"

    def prepare(self) -> None:
        """Have one soon, unless there is one."""
        if self.child is None and self._timer is None and not self._is_closed:
            self._timer = self._loop.call_later(self._delay, self._fill)

    def take(self) -> Child | None:
        """
        Give away the one that waits, None if there is none; no other is made before ``prepare``.

        One that has just ended or hangs, perhaps as the one that it was to follow, stays to be heard of.
        """
        self._cancel()
        child = self.child
        if child is None or child.has_ended:
            return None
        if child.silence >= SILENT:
            child.kill()
            return None
        self.child = None
        return child

    def check(self) -> None:
        """Have it show that it lives, and kill it if it hangs: it must not hang when it is needed."""
        child = self.child
        if child is not None and child.check() >= (HUNG if child.has_answered else LOAD_SECONDS):
            _log.error("the spare speaker (pid %d) hangs: it doesn't answer, killing it", child.pid)
            child.kill()

    def handle_end(self, ending: str) -> None:
        """Take note that the one that waits has ended, and make another after a while."""
        assert self.child is not None
        pid, lived = self.child.pid, self._loop.time() - self.child.started
        self.child = None
        if self._is_closed:
            return
        self._delay = min(2 * self._delay, MAX_DELAY) if lived < SHORT_LIFE else DELAY
        _log.warning("the spare speaker (pid %d) ended: %s; another one follows in %.3g s", pid, ending, self._delay)
        self.prepare()

    def close(self) -> None:
        """Make none any more, and end the one that there is."""
        self._is_closed = True
        self._cancel()
        if self.child is not None:
            self.child.kill()

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fill(self) -> None:
        self._timer = None
        try:
            self.child = self._make()
        except OSError as error:
            self._delay = min(2 * self._delay, MAX_DELAY)
            _log.warning("no spare speaker can be started: %s; the next attempt is in %.3g s", error, self._delay)
            self.prepare()
        else:
            _log.info("a spare speaker waits (pid %d)", self.child.pid)
