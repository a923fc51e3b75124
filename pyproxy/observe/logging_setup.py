"""
The operational log: one line on stderr for each thing that an operator should know.

Must not know the access log, which is another stream with another reader.

    2026-11-22T16:00:00.123Z info supervisor: listening on 0.0.0.0:80 (http)
"""

import logging
import sys
from datetime import UTC, datetime


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


def configure_logging(level: str, name: str) -> None:
    """
    Send all log records of this process at ``level`` (a word such as ``info``) and above to stderr.

    ``name`` says which process speaks: ``supervisor``, ``worker 0``. May be called again.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(name))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # A reader of stderr that went away must not become a traceback in the middle of the work.
    logging.raiseExceptions = False
