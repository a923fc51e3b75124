"""
The speaker's process: ``python -m pyproxy.failover FD``, started by the supervisor, which holds the other end of FD.

Must not know what the speaker does. It ends when it is told to, and when the supervisor is gone: then nobody would
start another, and nobody knows whether a worker still answers. Either way the addresses are given away first.

The supervisor asks again and again whether this process lives (``pulse``); that it does is its own sign of life.
"""

import asyncio
import hashlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from pyproxy.clock import monotonic
from pyproxy.errors import FailoverError
from pyproxy.failover import privileges
from pyproxy.failover.background import Background, configure_logging
from pyproxy.failover.jobs import Jobs, commands_of, start_runner
from pyproxy.failover.saved import saved_from_plain
from pyproxy.failover.settings import Command, from_plain
from pyproxy.failover.speaker import Beginning, Speaker
from pyproxy.failover.wire import Wire
from pyproxy.pulse import EVERY, HUNG, Silence, look

MAX_UNSENT_BYTES = 256 * 1024  # to a supervisor that doesn't read; beyond it the status is left out
LOG_SECONDS = 1.0  # that the end waits for the log

_LOOPBACK = 1
_LOCK = "commands.lock"

_log = logging.getLogger(__name__)


class Program:
    """One process from its start message to its end; made inside a running event loop."""

    def __init__(self, sock: socket.socket, log: Background) -> None:
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._started: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        self._ended: asyncio.Future[str] = self._loop.create_future()
        self._speaker: Speaker | None = None
        self._facts: dict[str, Any] = {}  # the last ones, until there is a speaker
        self._silence: Silence | None = None  # the supervisor's, from its first question on
        self._asked_at = 0.0
        self._commands: set[Command] = set()  # that the runner runs
        self._runner: subprocess.Popen[bytes] | None = None  # kept, for it is our child
        self._wire = Wire(sock, self._on_message, lambda _: self._end("the supervisor is gone"))

    def __repr__(self) -> str:
        return f"<Program {self._speaker!r}>"

    async def run(self) -> int:
        """Live until told to end; the process's exit status."""
        # systemd's SIGTERM goes to all of the service: the supervisor says when the addresses are to be released, and
        # its end is ours too. A handler rather than SIG_IGN, which the runner's commands would inherit.
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, lambda: None)
        life = asyncio.ensure_future(self._live())
        either: list[asyncio.Future[Any]] = [life, self._ended]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not life.done():
            life.cancel()
        result = await asyncio.gather(life, return_exceptions=True)
        if self._speaker is not None:
            await self._speaker.stop(self._ended.result() if self._ended.done() else "an error")
        self._wire.close()
        error = result[0]
        if error is None or isinstance(error, asyncio.CancelledError):
            return 0
        _log.error("%s", error, exc_info=None if isinstance(error, FailoverError) else error)
        return 1

    async def _live(self) -> None:
        try:
            # For as long as it takes: a spare waits here, everything loaded, until the one before it ends.
            message = await self._started
            set_log_level(message)
            await self._start(read_start(message))
        except FailoverError as error:
            self._tell({"type": "failed", "error": str(error)})
            raise
        self._tell({"type": "ready"})
        await self._loop.create_future()

    async def _start(self, beginning: Beginning) -> None:
        settings = beginning.settings
        privileges.check(_LOOPBACK, moves_addresses=settings.vip_backend == "netlink")
        jobs = None
        self._commands = commands_of(settings)
        if self._commands:
            # Before the privileges are given up, which commands may need.
            sock, self._runner = start_runner(str(beginning.directory / _LOCK), self._commands)
            jobs = Jobs(sock, self._on_runner_lost)
        for lack in privileges.settle():
            _log.warning("the speaker is less precise under load: %s", lack)
        speaker = self._speaker = Speaker(beginning, jobs, self._tell)
        if self._facts:
            speaker.take_facts(self._facts)
        await speaker.start()

    def _on_message(self, message: dict[str, Any]) -> None:
        match message.get("type"):
            case "start" if not self._started.done():
                self._facts = message.get("facts") or {}
                self._started.set_result(message)
            case "ping":
                self._answer()
            case "facts" if self._speaker is None:
                self._facts = message
            case "stop":
                self._end(str(message.get("reason") or "stopped"))
            case "reconfigure" if self._speaker is not None:
                beginning = read_start({**message, "boot_id": "", "runtime_dir": ""})
                # Other commands take another runner, and that one the privileges that are given up.
                is_known = commands_of(beginning.settings) <= self._commands
                if not (is_known and self._speaker.reconfigure(beginning)):
                    self._tell({"type": "restart_needed"})
            case _ if self._speaker is not None:
                self._speaker.on_message(message)

    def _answer(self) -> None:
        """Say that we live, what we know of the program, and what a successor can go on from."""
        speaker = self._speaker
        known = {"facts": speaker.facts_version, "saved": speaker.saved()} if speaker is not None else {}
        self._wire.send({"type": "pong", **known})
        self._asked_at = monotonic()
        if self._silence is None:
            self._silence = Silence(self._asked_at)
            self._watch_supervisor(self._silence)

    def _watch_supervisor(self, silence: Silence) -> None:
        """
        Find out whether the supervisor hangs: then nobody replaces a worker that ends.

        Its workers go on, so they serve until the other machine does. Then it is killed, for whoever started it to
        start it again; we end with it.
        """
        if self._ended.done():
            return
        self._loop.call_later(EVERY, self._watch_supervisor, silence)
        now, supervisor = monotonic(), os.getppid()
        if now - self._asked_at < 2 * EVERY:
            silence.end(now)
        else:
            silence.watch(now, look(supervisor))
        hangs = silence.seconds >= HUNG
        if self._speaker is None:
            return
        self._speaker.note_supervisor(hangs=hangs)
        if hangs and not self._speaker.is_needed:
            _log.error("the supervisor (pid %d) hangs: it doesn't answer, killing it", supervisor)
            os.kill(supervisor, signal.SIGKILL)

    def _tell(self, message: dict[str, Any]) -> None:
        if message["type"] != "status" or self._wire.unsent_bytes < MAX_UNSENT_BYTES:
            self._wire.send(message)

    def _end(self, reason: str) -> None:
        if not self._ended.done():
            _log.info("ending: %s", reason)
            self._ended.set_result(reason)

    def _on_runner_lost(self) -> None:
        """Make room for a successor, which has the privileges to start another; it adopts our state."""
        _log.error("the runner of commands is gone, another process is to go on from here")
        self._log.close(LOG_SECONDS)
        os._exit(1)


def set_log_level(message: dict[str, Any]) -> None:
    """Log from now on as much as the start message says, which is what the file says."""
    logging.getLogger().setLevel(str(message.get("log_level") or "info").upper())


def read_start(message: dict[str, Any]) -> Beginning:
    """Read the start message, which the supervisor made: a mistake in it is a bug and raises whatever it does."""
    keys = message.get("keys") or {}
    content = json.dumps(message["settings"], sort_keys=True).encode()
    return Beginning(
        settings=from_plain(message["settings"]),
        digest=hashlib.sha256(content).hexdigest(),
        advert_keys=tuple((int(number), bytes.fromhex(key)) for number, key in keys.get("hmac") or ()),
        link_key=bytes.fromhex(keys.get("link") or ""),
        boot_id=message["boot_id"],
        directory=Path(message["runtime_dir"]),
        saved=saved_from_plain(message.get("saved")),
    )


async def _run(fd: int, log: Background) -> int:
    return await Program(socket.socket(fileno=fd), log).run()


def main() -> int:
    """Run the process; its exit status."""
    log = configure_logging()
    try:
        return asyncio.run(_run(int(sys.argv[1]), log))
    finally:
        log.close(LOG_SECONDS)


if __name__ == "__main__":
    raise SystemExit(main())
