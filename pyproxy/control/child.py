"""
A child process with a line to it: from exec until it is reaped.

Must not know what the two say to each other, nor what follows from the child's end. But for one exchange: a ``ping`` is
answered with a ``pong`` by the loop that does the child's work, so a child that is alive and does nothing is found out.
"""

import asyncio
import contextlib
import logging
import os
import select
import signal
import socket
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

from pyproxy.channel import Channel
from pyproxy.clock import monotonic
from pyproxy.pulse import Silence, look

# How long a process may outlive its end of the channel: a normal exit closes the one just before the other.
_CHANNEL_GRACE = 2.0

_log = logging.getLogger(__name__)


def describe_exit(returncode: int) -> str:
    """
    Say how a process ended.

    >>> describe_exit(3), describe_exit(-9)
    ('exit status 3', 'signal SIGKILL')
    """
    if returncode >= 0:
        return f"exit status {returncode}"
    try:
        return f"signal {signal.Signals(-returncode).name}"
    except ValueError:
        return f"signal {-returncode}"


class Child:
    """
    See the module's docstring; made inside a running event loop.

    ``spawn`` starts the process with the descriptor that is its end of the line. ``on_end`` is called once, last and
    always, with how it ended. ``name`` is for the log.
    """

    def __init__(
        self,
        name: str,
        spawn: Callable[[int], "subprocess.Popen[bytes]"],
        on_message: Callable[[dict[str, Any]], None],
        on_end: Callable[[str], None],
    ) -> None:
        self.is_alive = True
        self._name = name
        self._on_message = on_message
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self.started = self._loop.time()
        self.has_answered = False
        self._silence = Silence(monotonic())
        self._owes_answer = self.is_killed = False
        with contextlib.ExitStack() as undo:
            ours, theirs = socket.socketpair()
            undo.callback(ours.close)
            with theirs:
                self._process = spawn(theirs.fileno())
            # A process that can't be watched must not be left behind.
            undo.callback(self._process.wait)
            undo.callback(self._process.kill)
            self.pid = self._process.pid
            self._pidfd = os.pidfd_open(self.pid)
            undo.pop_all()
        self._loop.add_reader(self._pidfd, self._on_pidfd)
        self._channel = Channel(ours, self._on_frame, self._on_channel_close)

    def __repr__(self) -> str:
        return f"<Child {self._name} pid {self.pid} {'alive' if self.is_alive else 'dead'}>"

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended, though ``on_end`` may still have to be called."""
        if not self.is_alive:
            return True
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(0))

    def send(self, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
        """Send a message; ``fds`` stay the caller's."""
        self._channel.send(message, fds)

    @property
    def silence(self) -> float:
        """Seconds for which it owes an answer, as far as they count (``pulse``)."""
        return self._silence.seconds

    def check(self) -> float:
        """Ask for a sign of life, or look at what one does that owes it; give the seconds of its silence."""
        if self.is_killed:
            return 0.0
        if self._owes_answer:
            return self._silence.watch(monotonic(), look(self.pid))
        self._owes_answer = True
        self._silence.end(monotonic())
        self.send({"type": "ping"})
        return 0.0

    def kill(self) -> None:
        """End the process at once."""
        self.is_killed = True
        if self.is_alive:
            self._process.kill()

    def _on_frame(self, message: dict[str, Any], fds: list[int]) -> None:
        for fd in fds:
            os.close(fd)  # no child has a reason to send any
        if message.get("type") == "pong":
            self.has_answered = True
            self._owes_answer = False
            self._silence.end(monotonic())
        self._on_message(message)

    def _on_channel_close(self) -> None:
        self._timer = self._loop.call_later(_CHANNEL_GRACE, self._on_deaf)

    def _on_deaf(self) -> None:
        _log.error("%s (pid %d) closed its channel but lives, killing it", self._name, self.pid)
        self.kill()

    def _on_pidfd(self) -> None:
        returncode = self._process.poll()
        if returncode is None:
            return
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        if self._timer is not None:
            self._timer.cancel()
        self._channel.close()
        self.is_alive = False
        self._on_end(describe_exit(returncode))
