"""
Checks of the service that the addresses are for, on the master and on the backup alike.

Must not know states, nor what follows: it says what is wrong, others whether the other machine is better off. A check
is a command, a TCP connection or an HTTP request; it fails when it has failed ``fall`` times in succession, and is well
again after ``rise`` successes. One that hasn't come to a verdict yet counts as well: a restart is no failure.
"""

import asyncio
import contextlib
import logging
import shlex
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pyproxy.clock import wall
from pyproxy.failover.jobs import Result
from pyproxy.failover.settings import Track

_MAX_NAME = 80
_MAX_LINE_BYTES = 1024  # of the first line of an answer
_GOOD = range(200, 400)

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class TrackState:
    """One check and what it said last; ``is_ok`` is None before its first verdict, ``at`` the wall clock's time."""

    track: Track
    is_ok: bool | None = None
    count: int = 0  # results in succession that speak against ``is_ok``
    detail: str = "hasn't run yet"
    at: float | None = None

    @property
    def name(self) -> str:
        """What is checked."""
        if self.track.run:
            return shlex.join(self.track.run)[:_MAX_NAME]
        return self.track.url or f"tcp {self.track.endpoint}"

    def record(self, failure: str) -> bool:
        """Take the result of one run, "" is success; whether that changed ``is_ok``."""
        is_success = not failure
        self.at, self.detail = wall(), failure or "ok"
        if is_success == self.is_ok:
            self.count = 0
            return False
        self.count += 1
        needed = self.track.fall if failure else self.track.rise if self.is_ok is False else 1
        if self.count < needed:
            return False
        self.is_ok, self.count = is_success, 0
        return True


class Tracks:
    """
    Run the checks; ``start`` and ``close`` inside a running event loop.

    ``run`` runs a command within a number of seconds; ``on_change`` is called when the verdict has changed.
    """

    def __init__(
        self,
        tracks: Sequence[Track],
        run: Callable[[Sequence[str], float], Awaitable[Result]],
        on_change: Callable[[], None],
    ) -> None:
        self.states = [TrackState(track) for track in tracks]
        self._run = run
        self._on_change = on_change
        self._tasks: list[asyncio.Task[None]] = []

    def __repr__(self) -> str:
        return f"<Tracks {len(self._failing())} of {len(self.states)} fail>"

    def failure(self) -> str:
        """Say which check fails that is to give the addresses away, and why; empty if none does."""
        failing = (state for state in self._failing() if state.track.on_fail == "release")
        return next((f"{state.name} fails: {state.detail}" for state in failing), "")

    def lowered(self) -> int:
        """By how much the priority is lower for the checks that fail."""
        return sum(state.track.by for state in self._failing() if state.track.on_fail == "lower")

    def to_plain(self) -> list[dict[str, Any]]:
        """Write them as JSON can hold them."""
        return [
            {
                "name": state.name,
                "ok": state.is_ok,
                "detail": state.detail,
                "at": state.at,
                "on_fail": state.track.on_fail,
            }
            for state in self.states
        ]

    def start(self) -> None:
        """Run each check now, and then at its interval."""
        self._tasks = [asyncio.ensure_future(self._watch(state)) for state in self.states]

    async def close(self) -> None:
        """Check nothing any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _failing(self) -> list[TrackState]:
        return [state for state in self.states if state.is_ok is False]

    async def _watch(self, state: TrackState) -> None:
        while True:
            if state.record(await self._check(state.track)):
                _log.log(
                    logging.INFO if state.is_ok else logging.WARNING,
                    "track %s %s: %s",
                    state.name,
                    "passes" if state.is_ok else f"fails ({state.track.on_fail})",
                    state.detail,
                )
                self._on_change()
            await asyncio.sleep(state.track.interval)

    async def _check(self, track: Track) -> str:
        """Check once; why it fails, empty if it doesn't."""
        if track.run:
            result = await self._run(track.run, track.timeout)
            return "" if result.is_ok else result.detail
        try:
            async with asyncio.timeout(track.timeout):
                return await _connect(track)
        except TimeoutError:
            return f"no answer within {track.timeout:g} s"
        except OSError as error:
            return error.strerror or str(error)


async def _connect(track: Track) -> str:
    """Connect, and ask if there is something to ask; ``OSError`` if that doesn't go."""
    assert track.endpoint is not None
    reader, writer = await asyncio.open_connection(track.endpoint.host, track.endpoint.port, limit=_MAX_LINE_BYTES)
    try:
        if not track.url:
            return ""
        fields = f"Host: {track.endpoint}\r\nConnection: close\r\nUser-Agent: pyproxy\r\n"
        writer.write(f"GET {track.path} HTTP/1.1\r\n{fields}\r\n".encode())
        try:
            line = (await reader.readuntil(b"\n")).decode("latin-1")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return "no HTTP answer"
        return judge(line)
    finally:
        # Reset rather than closed: whoever answers at length is not waited for.
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def judge(line: str) -> str:
    r"""
    Read the first line of an HTTP answer: why it is no good, empty if it is.

    >>> judge("HTTP/1.1 204 No Content\r\n"), judge("HTTP/1.1 503 Busy\r\n"), judge("SSH-2.0\r\n")
    ('', 'status 503', 'no HTTP answer')
    """
    words = line.split()
    if len(words) < 2 or not words[0].startswith("HTTP/1.") or not (words[1].isascii() and words[1].isdigit()):
        return "no HTTP answer"
    return "" if int(words[1]) in _GOOD else f"status {int(words[1])}"
