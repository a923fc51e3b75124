"""
What survives a speaker that dies: whether it was master, read by the one that follows.

It is in one small file, and the supervisor has it as well, for a file system may be full or broken; what is fresher of
the two counts.

Must not know the machine. The file is in a directory that only we may write, on a file system that a restart of the
machine empties; times are of CLOCK_BOOTTIME, so that neither a restart nor a set clock makes an old file look fresh.
"""

import asyncio
import contextlib
import json
import logging
import os
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pyproxy.failover.background import Background, boottime

NAME = "state"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Saved:
    """The state at a moment: ``at`` is when it was written, ``since`` when it began, both by CLOCK_BOOTTIME."""

    state: str
    since: float
    at: float
    pid: int
    digest: str  # of the settings


def write(directory: Path, saved: Saved) -> None:
    """Write the file; whoever reads it sees the old one or the new one, whole."""
    temporary = directory / f"{NAME}.{saved.pid}"
    temporary.write_text(json.dumps(asdict(saved)))
    temporary.replace(directory / NAME)


def read(directory: Path) -> Saved | None:
    """Read the file; None if there is none that can be read."""
    try:
        return saved_from_plain(json.loads((directory / NAME).read_text()))
    except (OSError, ValueError):
        return None


def saved_from_plain(data: Any) -> Saved | None:
    """Make it of what ``asdict`` made; None if it isn't that."""
    try:
        return Saved(
            state=str(data["state"]),
            since=float(data["since"]),
            at=float(data["at"]),
            pid=int(data["pid"]),
            digest=str(data["digest"]),
        )
    except (ValueError, KeyError, TypeError):
        return None


def remove(directory: Path) -> None:
    """Remove the file: there is nothing to adopt."""
    with contextlib.suppress(OSError):
        (directory / NAME).unlink()


def refusal(saved: Saved | None, digest: str, now: float, freshness: float) -> str:
    """
    Say why the state of the one before can't be adopted, "" if it can.

    >>> refusal(Saved("master", 1.0, 9.0, 7, "abc"), "abc", 10.0, 3.6)
    ''
    """
    if saved is None:
        return "there is no saved state"
    if saved.state != "master":
        return f"it was {saved.state}"
    if saved.digest != digest:
        return "its settings were other ones"
    age = now - saved.at
    if not 0 <= age <= freshness:
        return f"its state is {age:.3g} s old, at most {freshness:.3g} s would do"
    return ""


class Keeper:
    """
    Keep the file as fresh as a successor needs it to be; timers need a running event loop.

    Writing is a thread's work, since the directory may be on a disk. ``problem`` is why the last attempt failed, empty
    if it didn't. ``handed`` is what the supervisor knows of the one before.
    """

    def __init__(self, directory: Path, digest: str, freshness: float, handed: Saved | None = None) -> None:
        self.problem = ""
        self._handed = handed
        self.digest = digest
        self._directory = directory
        self.freshness = freshness  # seconds for which the file counts
        self._background = Background("state")
        self._state = ""
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Keeper {self._directory} {self._state or 'nothing yet'}>"

    def refusal(self, within: float) -> str:
        """Say why the state of the one before can't be adopted, "" if it can: it is at most so many seconds old."""
        found = [saved for saved in (read(self._directory), self._handed) if saved is not None]
        return refusal(max(found, key=lambda saved: saved.at, default=None), self.digest, boottime(), within)

    def now(self) -> Saved | None:
        """Give what a successor could go on from; None before there is anything."""
        return Saved(self._state, self._since, boottime(), os.getpid(), self.digest) if self._state else None

    def enter(self, state: str) -> None:
        """Note a new state; that of a master is written again and again."""
        self._state, self._since = state, boottime()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._write()

    def close(self, timeout: float) -> None:
        """Leave nothing to adopt: we end of our own will."""
        if self._timer is not None:
            self._timer.cancel()
        self._background.do(partial(remove, self._directory))
        self._background.close(timeout)

    def _write(self) -> None:
        value = self.now()
        if value is not None:
            self._background.do(partial(self._try, value))
        if self._state == "master":
            every = min(1.0, self.freshness / 3)
            self._timer = asyncio.get_running_loop().call_later(every, self._write)

    def _try(self, value: Saved) -> None:
        """Write, in the thread; that it fails is told once for each reason."""
        problem = ""
        try:
            write(self._directory, value)
        except OSError as error:
            problem = f"can't write {self._directory / NAME}: {error.strerror or error}"
        if problem != self.problem:
            self.problem = problem
            _log.log(logging.WARNING if problem else logging.INFO, "%s", problem or "the state file is written again")
