"""
The speaker's process: started, watched, and started again when it ends.

Must not know what it says, nor VRRP: messages are passed on.

What a speaker has to know of the program is one snapshot, the facts. A new process gets the last one within its start
message, and each later one is sent again and again until its number comes back: with each answer to the question
whether it lives a speaker says which one it has. With it comes what a successor can go on from, should this one die;
the file in which the speaker keeps the same may not be writable.

A speaker that doesn't answer although it had a processor hangs (``pulse``), and is killed; so is a spare.

A speaker that ends is followed at once by another, so that it can go on where the last one was before anybody notices:
by a spare that has been waiting for its start message (``spare``), since loading Python takes longer than a backup
waits. After two short lives in a row the pauses grow; one that had been ready for a while was killed from outside, or
has met something that the next one needn't meet. There is a spare only once a process has become ready, so what
fails at every start is found without one.
"""

import asyncio
import logging
import os
import sys
from collections.abc import Callable
from typing import Any

from pyproxy.control.child import Child
from pyproxy.control.spare import Spare
from pyproxy.control.worker import Program, worker_environ
from pyproxy.control.workers import FIRST_TRIES, SHORT_LIFE, pause
from pyproxy.pulse import EVERY, HUNG

STOP_SECONDS = 2.0  # that it has to release the addresses and exit
SETTLED = 2.0  # seconds after which a speaker that was ready isn't one that fails at each start

_log = logging.getLogger(__name__)

Message = dict[str, Any]


def speaker_program() -> Program:
    """Give how a speaker is started: as who started us, with all privileges, most of which it gives up itself."""
    return Program((sys.executable, "-P", "-m", "pyproxy.failover"), worker_environ(os.environ))


class Speaker:
    """
    See the module's docstring; made inside a running event loop.

    ``start_message`` is the first that each process gets, and makes one that waits a speaker. ``on_message`` gets what
    it says, but that it is ready or can't work; ``on_lost`` is told that one has ended, ``on_hopeless`` gets the reason
    when none ever became ready.
    """

    def __init__(
        self,
        program: Program,
        start_message: Message,
        on_message: Callable[[Message], None],
        on_lost: Callable[[], None],
        on_hopeless: Callable[[str], None],
    ) -> None:
        self.restarts = 0
        self.is_ready = False
        self._program = program
        self._start_message = start_message
        self._on_message = on_message
        self._on_lost = on_lost
        self._on_hopeless = on_hopeless
        self._facts: Message = {}
        self._version = 0  # of the facts
        self._saved: Message | None = None  # what a successor can go on from
        self._child: Child | None = None
        self._started = 0.0  # when it got its start message
        self._ready_at: float | None = None
        self._loop = asyncio.get_running_loop()
        self._spare = Spare(self._make, self._loop)
        self._failure = ""
        self._short_lives = 0
        self._has_been_ready = False
        self._stopping = False
        self._ended = asyncio.Event()  # no process is left
        self._ended.set()
        self._timer: asyncio.TimerHandle | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._check: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Speaker {self._child!r} {'ready' if self.is_ready else 'not ready'}>"

    @property
    def pid(self) -> int | None:
        """The process's id, None while there is none."""
        return self._child.pid if self._child is not None else None

    def start(self) -> None:
        """Start the one that waits, or a new process."""
        self._timer = None
        self._failure = ""
        try:
            self._child = self._spare.take() or self._make()
        except OSError as error:
            _log.error("the speaker can't be started: %s", error)
            self._failure = str(error)
            self._start_again(lived=0.0, reason=self._failure)
            return
        self._started, self._ready_at = self._loop.time(), None
        self._patience = self._loop.call_later(self._program.ready_timeout, self._handle_late)
        self._child.send({**self._start_message, "facts": self._facts, "saved": self._saved})
        if self._check is None:
            self._check_all()

    def _make(self) -> Child:
        child = Child(
            "speaker",
            self._program.spawn,
            lambda message: self._handle_message(child, message),
            lambda ending: self._handle_end(child, ending),
        )
        self._ended.clear()
        return child

    def send(self, message: Message) -> bool:
        """Send a message; False if there is no process that is ready for it."""
        if self._child is None or not self.is_ready:
            return False
        self._child.send(message)
        return True

    def set_facts(self, facts: Message) -> None:
        """Tell it what holds now; a process that is started later is told as well."""
        if facts | {"version": self._version} != self._facts:
            self._version += 1
            self._facts = {**facts, "version": self._version}
            self._send_facts()

    def _send_facts(self) -> None:
        if self._child is not None:
            self._child.send(self._facts)

    def _check_all(self) -> None:
        """Have the speaker and its spare show that they live, again and again."""
        self._check = self._loop.call_later(EVERY, self._check_all)
        self._spare.check()
        child = self._child
        if child is None or not self.is_ready:
            return
        if child.check() >= HUNG:
            self._failure = "it hung"
            _log.error("the speaker (pid %d) hangs: it doesn't answer, killing it", child.pid)
            child.kill()

    def _handle_pong(self, message: Message) -> None:
        self._saved = message.get("saved")
        if message.get("facts") != self._version:
            self._send_facts()

    async def stop(self, reason: str) -> None:
        """Let it release what it has, and come back when its process has ended."""
        self._stopping = True
        for timer in (self._timer, self._check):
            if timer is not None:
                timer.cancel()
        self._spare.close()
        if self._child is not None:
            self._child.send({"type": "stop", "reason": reason})
        try:
            await asyncio.wait_for(self._ended.wait(), STOP_SECONDS)
        except TimeoutError:
            if self._child is not None:
                _log.error("the speaker has not ended in time, killing it; the addresses leave with their lease")
                self._child.kill()
            await self._ended.wait()

    def _handle_message(self, child: Child, message: Message) -> None:
        if child is not self._child:
            return  # a spare has nothing to say but that it lives
        match message.get("type"):
            case "pong":
                self._handle_pong(message)
            case "ready":
                self.is_ready = True
                self._ready_at = self._loop.time()
                self._has_been_ready = True
                self._cancel_patience()
                _log.info("the speaker is ready (pid %d)", self.pid)
                if not self._stopping:
                    self._spare.prepare()
            case "failed":
                self._failure = str(message.get("error"))
                _log.error("the speaker can't work: %s", self._failure)
                child.kill()
            case _:
                self._on_message(message)

    def _handle_late(self) -> None:
        self._failure = f"not ready after {self._program.ready_timeout:g} s"
        _log.error("the speaker is %s, killing it", self._failure)
        if self._child is not None:
            self._child.kill()

    def _cancel_patience(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _handle_end(self, child: Child, ending: str) -> None:
        if child is self._spare.child:
            self._spare.handle_end(ending)
            self._note_end()
            return
        now = self._loop.time()
        pid, lived = child.pid, now - self._started
        if self._ready_at is not None and now - self._ready_at >= SETTLED:
            lived = SHORT_LIFE
        self._child = None
        self.is_ready = False
        self._cancel_patience()
        self._note_end()
        self._on_lost()
        if self._stopping:
            _log.info("the speaker (pid %d) ended: %s", pid, ending)
            return
        _log.error("the speaker (pid %d) ended: %s", pid, ending)
        self._start_again(lived, self._failure or ending)

    def _note_end(self) -> None:
        if self._child is None and self._spare.child is None:
            self._ended.set()

    def _start_again(self, lived: float, reason: str) -> None:
        self._short_lives = self._short_lives + 1 if lived < SHORT_LIFE else 0
        if not self._has_been_ready and self._short_lives >= FIRST_TRIES:
            self._on_hopeless(reason)
            return
        self.restarts += 1
        seconds = pause(self._short_lives)
        if seconds:
            _log.warning("the speaker is started again in %.2f s", seconds)
        self._timer = self._loop.call_later(seconds, self.start)
