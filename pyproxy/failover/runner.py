"""
Run commands for the speaker, in a process of its own: guards, notifications, whatever moves an address in a cloud.

Must not know why a command is run. Started as ``python -m pyproxy.failover.runner FD LOCK``.

Why a process: starting a program means waiting until it is loaded, from a disk that may hang just when failover is
needed; the speaker must never wait. And the speaker gives up the privileges that a command may need, to mount a file
system for example; the runner keeps them.

    speaker → {"type": "allow", "commands": [[…], …]}     first of all, while it still has the privileges itself
    speaker → {"type": "run", "id": 7, "queue": "notify", "argv": […], "timeout": 30.0, "environ": {…}}
    runner  → {"type": "ended", "id": 7, "code": 0, "output": "…", "failure": ""}

What isn't among the commands of the first message is not run, and nothing but ``PYPROXY_…`` is put into the
environment: whoever gets hold of the speaker, which reads what anybody on the network sends, doesn't get hold of this.

Commands of one queue run strictly one after another, those without a queue (``""``) at once. A command has its own
session; at its deadline the whole process group is killed. When the speaker is gone, what is queued still runs, since
it tells the world of a release, and everything else is killed. The runner of the next speaker waits with its queues
until then: a lock says so.
"""

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any

from pyproxy.failover.wire import Wire

ENVIRON = "PYPROXY_"  # what names of variables begin with
MAX_OUTPUT_BYTES = 4096  # of a command, that are kept

_LOCK_RETRY = 0.05
_READ_BYTES = 64 * 1024


class Job:
    """
    One command from its start until it is reaped; made inside a running event loop.

    ``on_end`` gets the exit code (None if it never ran), the output and what went wrong ("" for nothing), once.
    """

    def __init__(self, request: dict[str, Any], on_end: Callable[["Job", int | None, str, str], None]) -> None:
        self.number: int = request["id"]
        self.queue: str = request["queue"]
        self._timeout: float = request["timeout"]
        self._argv: list[str] = request["argv"]
        self._environ: dict[str, str] = request["environ"]
        self._on_end = on_end
        self._output = bytearray()
        self._failure = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._pidfd = -1
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Job {self.number} {self._argv[0]}>"

    def start(self) -> None:
        """Start the command; it may have ended when this returns, if it can't be started."""
        loop = asyncio.get_running_loop()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - a list of words, no shell; they are the operator's own
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self._environ},
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            self._on_end(self, None, "", f"can't be started: {getattr(error, 'strerror', None) or error}")
            return
        self._pidfd = os.pidfd_open(self._process.pid)
        loop.add_reader(self._pidfd, self._on_exit)
        os.set_blocking(self._pipe, False)
        loop.add_reader(self._pipe, self._read)
        self._timer = loop.call_later(self._timeout, self.kill, f"killed after {self._timeout:g} s")

    @property
    def _pipe(self) -> int:
        assert self._process is not None
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def kill(self, reason: str) -> None:
        """End the command and all that it started."""
        self._failure = reason
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _read(self) -> bool:
        """Take output, and keep its beginning; whether more may come."""
        try:
            data = os.read(self._pipe, _READ_BYTES)
        except BlockingIOError:
            return False
        self._output += data[: MAX_OUTPUT_BYTES - len(self._output)]
        if not data:
            asyncio.get_running_loop().remove_reader(self._pipe)
        return bool(data)

    def _on_exit(self) -> None:
        """Report as soon as the command itself is gone: what it left in the background may hold the pipe open."""
        process, loop = self._process, asyncio.get_running_loop()
        assert process is not None
        assert process.stdout is not None
        code = process.wait()
        while self._read():
            pass
        for fd in (self._pidfd, self._pipe):
            loop.remove_reader(fd)
        os.close(self._pidfd)
        process.stdout.close()
        if self._timer is not None:
            self._timer.cancel()
        self._on_end(self, code, self._output.decode(errors="replace"), self._failure)


class Runner:
    """All commands of one speaker; ``done`` is set when the speaker is gone and nothing runs any more."""

    def __init__(self, sock: socket.socket, lock: int) -> None:
        self.done = asyncio.Event()
        self._lock = lock
        self._has_lock = False
        self._is_orphan = False
        self._allowed: frozenset[tuple[str, ...]] | None = None  # until it is told
        self._running: set[Job] = set()
        self._waiting: defaultdict[str, deque[Job]] = defaultdict(deque)
        self._wire = Wire(sock, self._on_message, self._on_close)

    def __repr__(self) -> str:
        return f"<Runner {len(self._running)} running>"

    def _on_message(self, message: dict[str, Any]) -> None:
        if self._allowed is None:
            self._allowed = frozenset(tuple(command) for command in message["commands"])
            return
        job = Job(message, self._on_end)
        if not self._is_allowed(message):
            self._on_end(job, None, "", "isn't among the configured commands")
            return
        if job.queue:
            self._waiting[job.queue].append(job)
            self._next(job.queue)
        else:
            self._start(job)

    def _is_allowed(self, message: dict[str, Any]) -> bool:
        is_known = self._allowed is not None and tuple(message["argv"]) in self._allowed
        return is_known and all(name.startswith(ENVIRON) for name in message["environ"])

    def _start(self, job: Job) -> None:
        self._running.add(job)
        job.start()

    def _next(self, queue: str) -> None:
        """Start the next command of a queue, if none of it runs and no earlier runner still works off its own."""
        if not self._waiting[queue] or any(job.queue == queue for job in self._running):
            return
        if not self._take_lock():
            asyncio.get_running_loop().call_later(_LOCK_RETRY, self._next, queue)
            return
        self._start(self._waiting[queue].popleft())

    def _take_lock(self) -> bool:
        if not self._has_lock:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            self._has_lock = True
        return True

    def _on_end(self, job: Job, code: int | None, output: str, failure: str) -> None:
        self._running.discard(job)
        answer = {"type": "ended", "id": job.number, "code": code, "output": output, "failure": failure}
        self._wire.send(answer)
        if job.queue:
            self._next(job.queue)
        self._finish()

    def _on_close(self, _: str) -> None:
        self._is_orphan = True
        for job in [job for job in self._running if not job.queue]:
            job.kill("the speaker is gone")
        self._finish()

    def _finish(self) -> None:
        if self._is_orphan and not self._running and not any(self._waiting.values()):
            self.done.set()


async def _run(fd: int, lock_path: str) -> None:
    lock = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    await Runner(socket.socket(fileno=fd), lock).done.wait()


def main() -> int:
    """Serve until the speaker is gone."""
    # It ends with the speaker and after the last command, not by a signal to the whole service. A handler rather
    # than SIG_IGN, which the commands would inherit.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    asyncio.run(_run(int(sys.argv[1]), sys.argv[2]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
