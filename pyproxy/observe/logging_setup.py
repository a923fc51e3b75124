"""
The operational log: one line on stderr for each thing that an operator should know.

Must not know the access log, which is another stream with another reader.

    2026-11-22T16:00:00.123Z info supervisor: listening on 0.0.0.0:80 (http)

Nobody ever waits for whoever reads stderr: a thread writes, and lines are dropped and counted when it can't keep up.
"""

import logging
import os
import sys
import threading
from datetime import UTC, datetime
from typing import Any

from pyproxy.observe.access_log import LineWriter

MAX_PENDING_BYTES = 256 * 1024
CLOSE_SECONDS = 1.0  # that what is left may take to be written at the end

_log = logging.getLogger(__name__)


class LineFormatter(logging.Formatter):
    """Time (UTC, milliseconds), level, name of the process and text in one line; a traceback follows."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        # What a message quotes may come from anywhere: a line break in it would forge a line.
        text = record.getMessage().replace("\r", "\\r").replace("\n", "\\n")
        line = f"{time}.{int(record.msecs):03d}Z {record.levelname.lower()} {self._name}: {text}"
        if record.exc_info:
            line = f"{line}\n{self.formatException(record.exc_info)}"
        return line


class LineHandler(logging.Handler):
    """Hands each record as a line to a writer with a thread of its own; ``logging`` closes it at the end."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._writer = LineWriter(fd, MAX_PENDING_BYTES)
        self._is_closed = False

    @property
    def dropped(self) -> int:
        """Lines dropped so far."""
        return self._writer.dropped

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record; never waits. Records come from any thread, one at a time: the handler's lock sees to it."""
        if self._is_closed:
            return
        try:
            line = self.format(record)
        except Exception as error:  # whoever has something to say must not fail by it
            line = f"a line of the log can't be written: {record.msg!r}: {error!r}"
        self._writer.write(f"{line}\n".encode(errors="backslashreplace"))
        self._writer.flush()

    def close(self) -> None:
        """Let what waits be written, for at most ``CLOSE_SECONDS``. May be called again."""
        if not self._is_closed:
            self._is_closed = True
            self._writer.close(CLOSE_SECONDS)
        super().close()


def configure_logging(level: str, name: str) -> None:
    """
    Send all log records of this process at ``level`` (a word such as ``info``) and above to stderr.

    ``name`` says which process speaks: ``supervisor``, ``worker 0``. May be called again.
    """
    handler = LineHandler(_stderr())
    handler.setFormatter(LineFormatter(name))
    root = logging.getLogger()
    before, root.handlers[:] = root.handlers[:], [handler]
    for old in before:
        if isinstance(old, LineHandler):
            old.close()
    root.setLevel(level.upper())
    # A reader of stderr that went away must not become a traceback in the middle of the work.
    logging.raiseExceptions = False


def dropped_lines() -> int:
    """Lines of this process's own log that were dropped so far."""
    return sum(handler.dropped for handler in logging.getLogger().handlers if isinstance(handler, LineHandler))


def log_stray_output() -> None:
    """Send to the log what Python itself would write to stderr, and wait for: errors that nobody catches, warnings."""
    logging.captureWarnings(capture=True)
    sys.unraisablehook = _log_unraisable
    threading.excepthook = _log_thread_error


def _stderr() -> int:
    """Give a descriptor of our own for stderr; one that was closed before we began may be anything by now."""
    return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC) if sys.__stderr__ is None else os.dup(2)


def _log_unraisable(error: Any) -> None:
    _log.error("%s: %r", error.err_msg or "an error that can't be raised", error.object, exc_info=error.exc_value)


def _log_thread_error(error: Any) -> None:
    _log.error("an error ended a thread", exc_info=error.exc_value)
