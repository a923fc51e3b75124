"""
Do by a thread what may block: write lines to stderr, write the state file.

Must not know what is written. The speaker's loop hands work over and goes on at once; when the thread can't keep up,
because a pipe isn't read or a disk hangs, work is dropped and counted.
"""

import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

MAX_WAITING = 1000

_STACK_BYTES = 256 * 1024  # memory is locked, so a stack of the usual 8 MiB would be real


class Background:
    """One thread that does what it is given, in order; errors of the system are swallowed."""

    def __init__(self, name: str) -> None:
        self.dropped = 0
        self._name = name
        self._queue: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        threading.stack_size(_STACK_BYTES)
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<Background {self._name} {self._queue.qsize()} waiting>"

    def do(self, work: Callable[[], object]) -> None:
        """Have something done soon, or never."""
        if self._queue.qsize() >= MAX_WAITING:
            self.dropped += 1
        else:
            self._queue.put(work)

    def close(self, timeout: float) -> None:
        """Let what waits be done, for at most so many seconds."""
        self._queue.put(None)
        self._thread.join(timeout)

    def _work(self) -> None:
        while (work := self._queue.get()) is not None:
            try:
                work()
            except OSError:  # nobody to tell: what failed is the telling
                self.dropped += 1


class LineHandler(logging.Handler):
    """
    Write records to stderr as the rest of the program does, without ever waiting for it.

        2026-11-22T16:00:00.123Z info vipd: 10.9.0.100/32: master, no advert for 3.61 s
    """

    def __init__(self, background: Background, fd: int = 2) -> None:
        super().__init__()
        self._background = background
        self._fd = fd

    def emit(self, record: logging.LogRecord) -> None:
        line = format_line(record).encode(errors="replace")
        self._background.do(lambda: os.write(self._fd, line))


def configure_logging(level: str = "INFO") -> Background:
    """Send the log of this process to stderr; returns what writes it, to be closed at the end."""
    background = Background("log")
    root = logging.getLogger()
    root.handlers[:] = [LineHandler(background)]
    root.setLevel(level)
    # A reader of stderr that went away must not become a traceback in the middle of the work.
    logging.raiseExceptions = False
    return background


def format_line(record: logging.LogRecord) -> str:
    """Write a record as one line; a traceback follows on lines of its own."""
    at = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    # What a message quotes may come from anywhere: a line break in it would forge a line.
    text = record.getMessage().replace("\r", "\\r").replace("\n", "\\n")
    line = f"{at}.{int(record.msecs):03d}Z {record.levelname.lower()} vipd: {text}\n"
    if record.exc_info:
        line += f"{logging.Formatter().formatException(record.exc_info)}\n"
    return line


def boottime() -> float:
    """Seconds since the machine started, those in which it was suspended included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
