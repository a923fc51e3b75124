"""
One worker process: how it is started, and its life until it is reaped.

Must not know configuration or metrics, nor what happens after its end: the start message is made elsewhere.
"""

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from pyproxy.control.child import Child
from pyproxy.control.startup import Credentials
from pyproxy.pulse import HUNG, SILENT

READY_TIMEOUT = 10.0  # from exec to the ready message

_PACKAGE_ROOT = Path(__file__).resolve().parents[2]

_log = logging.getLogger(__name__)


class WorkerState(StrEnum):
    """What a slot's process is doing."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Program:
    """How a worker program is started; the number of its channel's descriptor becomes the last argument."""

    # -P: the directory that the operator happens to be in must not lend a worker its modules.
    command: Sequence[str] = (sys.executable, "-P", "-m", "pyproxy.worker")
    environ: Mapping[str, str] = field(default_factory=lambda: worker_environ(os.environ), repr=False)
    credentials: Credentials | None = None
    ready_timeout: float = READY_TIMEOUT

    def spawn(self, fd: int) -> "subprocess.Popen[bytes]":
        """Start the process. It leads its own process group, so a terminal's Ctrl-C is ours alone."""
        user = self.credentials
        return subprocess.Popen(  # noqa: S603 - the command is our own
            [*self.command, str(fd)],
            stdin=subprocess.DEVNULL,
            pass_fds=[fd],
            env=dict(self.environ),
            process_group=0,
            user=user.uid if user else None,
            group=user.gid if user else None,
            extra_groups=list(user.groups) if user else None,
        )


def worker_environ(environ: Mapping[str, str], without: Collection[str] = ()) -> dict[str, str]:
    """
    Make a worker's environment: ours, allocator settings, and a way to find this very package.

    ``without`` are variables that it must not see: what the file takes from them may be a secret.

    TLS reads allocate 256 KiB at a time: below these thresholds glibc would map and unmap it for each
    (35 to 57 µs of CPU a request instead of 15 to 19).
    """
    result = {name: value for name, value in environ.items() if name not in without}
    result.setdefault("MALLOC_MMAP_THRESHOLD_", str(64 * 1024 * 1024))
    result.setdefault("MALLOC_TRIM_THRESHOLD_", str(128 * 1024 * 1024))
    result.setdefault("MALLOC_ARENA_MAX", "2")
    if _PACKAGE_ROOT.name not in ("site-packages", "dist-packages"):
        # Run from a source tree: with -P a worker wouldn't look there by itself.
        result["PYTHONPATH"] = os.pathsep.join(filter(None, [str(_PACKAGE_ROOT), result.get("PYTHONPATH")]))
    return result


class Worker:
    """
    One worker process from exec until it is reaped; made inside a running event loop.

    ``on_ready`` and ``on_end`` are called once each at most, ``on_end`` last and always. In between ``on_answer``
    gets what it says when it was asked or told something.
    """

    def __init__(
        self,
        slot: int,
        program: Program,
        on_ready: Callable[["Worker"], None],
        on_answer: Callable[["Worker", dict[str, Any]], None],
        on_end: Callable[["Worker"], None],
    ) -> None:
        self.slot = slot
        self.state = WorkerState.STARTING
        self.failure = ""  # what the worker said about why it can't work
        self.ending = ""
        self._on_ready = on_ready
        self._on_answer = on_answer
        self._on_end = on_end
        self._child = Child(f"worker {slot}", program.spawn, self._on_message, self._handle_end)
        self.started = self._child.started
        self.pid = self._child.pid
        timeout = program.ready_timeout
        self._timer = asyncio.get_running_loop().call_later(timeout, self._on_late, timeout)

    def __repr__(self) -> str:
        return f"<Worker {self.slot} pid {self.pid} {self.state}>"

    def send(self, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
        """Send a message; ``fds`` stay the caller's."""
        self._child.send(message, fds)

    def drain(self, grace: float) -> None:
        """Tell the worker to stop accepting, finish within ``grace`` seconds and exit."""
        if self.state is not WorkerState.DEAD:
            self.state = WorkerState.DRAINING
            self._timer.cancel()
            self.send({"type": "drain", "grace": grace})

    def kill(self) -> None:
        """End the process at once."""
        self._child.kill()

    @property
    def is_serving(self) -> bool:
        """Whether it takes traffic, as far as can be told."""
        return self.state is WorkerState.READY and self._child.silence < SILENT

    @property
    def is_hung(self) -> bool:
        """
        Whether it has been silent for so long that it has to be killed.

        One that was killed may be there for a while, waiting for a disk: no others that hang may wait for its end.
        """
        return self.state is WorkerState.READY and not self._child.is_killed and self._child.silence >= HUNG

    def check(self) -> None:
        """Ask one that takes traffic for a sign of life."""
        if self.state is WorkerState.READY:
            self._child.check()

    def _on_message(self, message: dict[str, Any]) -> None:
        match message.get("type"):
            case "ready" if self.state is WorkerState.STARTING:
                self._timer.cancel()
                self.state = WorkerState.READY
                _log.info("worker %d is ready (pid %d)", self.slot, self.pid)
                self._on_ready(self)
            case "ready":
                pass  # it was told to drain before it had said so
            case "pong":
                pass
            case "failed":
                self.failure = str(message.get("error"))
                _log.error("worker %d (pid %d) can't work: %s", self.slot, self.pid, self.failure)
                self.kill()
            case _:
                self._on_answer(self, message)

    def _on_late(self, seconds: float) -> None:
        self.failure = f"not ready after {seconds:g} s"
        _log.error("worker %d (pid %d) is %s, killing it", self.slot, self.pid, self.failure)
        self.kill()

    def _handle_end(self, ending: str) -> None:
        self._timer.cancel()
        self.state = WorkerState.DEAD
        self.ending = ending
        self._on_end(self)
