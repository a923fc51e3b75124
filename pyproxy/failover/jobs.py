"""
The speaker's end of the runner: ask for a command, get its result.

Must not know why a command is run, nor start any itself: see ``runner``.
"""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyproxy.failover.settings import Command, Settings, VipExec, VirtualIp
from pyproxy.failover.wire import Wire, encode

VIP_ACTIONS = ("add", "remove", "check")
GRACE = 2.0  # seconds that a result may come after the command's deadline before it is given up

_MAX_DETAIL = 200


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended: ``code`` is None if it never ran, ``failure`` "" if it ended by itself."""

    code: int | None
    output: str
    failure: str = ""

    @property
    def is_ok(self) -> bool:
        """Whether it did what it should, by its own account."""
        return self.code == 0 and not self.failure

    @property
    def detail(self) -> str:
        r"""
        Say in one short line how it ended.

        >>> Result(1, "replica is\nstale\n").detail
        'exit status 1: replica is / stale'
        """
        if self.failure:
            end = self.failure
        elif self.code is not None and self.code < 0:
            end = f"ended by signal {-self.code}"
        else:
            end = f"exit status {self.code}"
        lines = [line.strip() for line in self.output.splitlines() if line.strip()]
        text = " / ".join(lines)
        text = "".join(char if char.isprintable() else "?" for char in text)[:_MAX_DETAIL]
        return f"{end}: {text}" if text else end


class Jobs:
    """
    Ask the runner; made inside a running event loop.

    ``on_lost`` is called once when the runner is gone, which nothing here can mend: it had privileges that this
    process hasn't any more.
    """

    def __init__(self, sock: socket.socket, on_lost: Callable[[], None]) -> None:
        self._on_lost = on_lost
        self._number = 0
        self._waiting: dict[int, asyncio.Future[Result]] = {}
        self._wire = Wire(sock, self._on_message, self._on_close)

    def __repr__(self) -> str:
        return f"<Jobs {len(self._waiting)} waiting>"

    async def run(
        self, argv: Sequence[str], timeout: float, environ: Mapping[str, str] | None = None, queue: str = ""
    ) -> Result:
        """
        Run a command and wait for its end; never raises for what the command does.

        In a ``queue`` it waits for those before it, each at most its own ``timeout`` seconds.
        """
        number = self._number + 1
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            if not self.post(argv, timeout, environ or {}, queue):
                return Result(None, "", "the runner is gone")
            async with asyncio.timeout(None if queue else timeout + GRACE):
                return await future
        except TimeoutError:
            return Result(None, "", f"no result after {timeout + GRACE:g} s")
        finally:
            self._waiting.pop(number, None)

    def post(self, argv: Sequence[str], timeout: float, environ: Mapping[str, str], queue: str) -> bool:
        """Ask for a command without waiting for its end; False if there is no runner to ask."""
        self._number += 1
        request = {"type": "run", "id": self._number, "queue": queue, "argv": list(argv), "timeout": timeout}
        return self._wire.send({**request, "environ": dict(environ)})

    async def settle(self, timeout: float) -> bool:
        """Wait until nothing is under way any more; False if that took longer."""
        waiting = list(self._waiting.values())
        if not waiting:
            return True
        _, pending = await asyncio.wait(waiting, timeout=timeout)
        return not pending

    def close(self) -> None:
        """Let the runner go; it ends when what is queued has run."""
        self._wire.close()
        self._give_up()

    def _on_message(self, message: dict[str, Any]) -> None:
        future = self._waiting.get(message["id"])
        if future is not None and not future.done():
            future.set_result(Result(message["code"], message["output"], message["failure"]))

    def _on_close(self, _: str) -> None:
        self._give_up()
        self._on_lost()

    def _give_up(self) -> None:
        for future in self._waiting.values():
            if not future.done():
                future.set_result(Result(None, "", "the runner is gone"))


def start_runner(lock_path: str, commands: Collection[Command]) -> "tuple[socket.socket, subprocess.Popen[bytes]]":
    """
    Start the process that runs commands, with the privileges that this one has now; returns the line to it and itself.

    It runs these commands and no others, whatever it is asked later. It may outlive its caller by the commands that
    are still queued.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-P", "-m", "pyproxy.failover.runner", str(theirs.fileno()), lock_path],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            env=dict(os.environ),
            process_group=0,
        )
    # Now, by the process that still has the privileges, and before anything from the network was read.
    ours.sendall(encode({"type": "allow", "commands": [list(command) for command in commands]}))
    return ours, process


def has_commands(settings: Settings) -> bool:
    """Whether anything is configured that has to be run."""
    return bool(commands_of(settings))


def commands_of(settings: Settings) -> set[Command]:
    """Give everything that may have to be run, word by word."""
    notify = settings.notify
    single = (settings.fence, notify.master, notify.backup, notify.fault)
    found = (
        {guard.run for guard in settings.guards}
        | {track.run for track in settings.track if track.run}
        | {command for command in single if command}
    )
    if settings.vip_backend == "exec" and settings.vip_exec is not None:
        found |= {vip_command(settings.vip_exec, action, settings.virtual_ips) for action in VIP_ACTIONS}
    return found


def vip_command(command: VipExec, action: str, vips: Sequence[VirtualIp]) -> Command:
    """Give the words with which the command that moves addresses is called."""
    return (*command.run, action, *map(str, vips))
