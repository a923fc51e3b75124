"""
A writer of log lines that no reader, terminal or disk can stall.

Must not know what a line says; it is handed lines and a descriptor.
"""

import os
import select
import stat
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread

from pyproxy.clock import monotonic

_HAND_OVER_BYTES = 64 * 1024
_ATOMIC_BYTES = select.PIPE_BUF  # what a pipe that polls writable takes whole, without blocking
_BLOCKED_POLL = 0.05  # seconds between two looks at whether a blocked writer was told to end


class LineWriter:
    """
    Append lines to a descriptor from a thread of its own, and drop lines rather than wait.

    ``write``, ``flush``, ``reopen`` and ``close`` belong to one thread, the worker's. Each of the counters
    behind ``dropped`` and the pending bytes has one writing thread only, so no lock is needed. The writer
    owns its descriptor and closes it. It never sets O_NONBLOCK: that flag would be shared with every other
    process that has the same terminal or pipe open.

    Several workers may share a pipe: it is written in pieces of whole lines which the kernel keeps together.
    Another worker may fill that pipe between the poll and the write; then only this thread waits.
    """

    def __init__(self, fd: int, max_pending_bytes: int = 4 * 1024 * 1024) -> None:
        self._lines: list[bytes] = []
        self._size = 0
        self._max_pending_bytes = max_pending_bytes
        self._handed_bytes = 0  # written by the caller's thread
        self._refused_lines = 0  # written by the caller's thread
        self._settled_bytes = 0  # written by the writer's thread
        self._lost_lines = 0  # written by the writer's thread
        self._queue: SimpleQueue[bytes | int | None] = SimpleQueue()  # a batch, a new descriptor, or the end
        self._deadline = float("inf")
        self._fd = fd
        self._is_torn = False  # the descriptor's last line lacks its end
        self._writer = Thread(target=self._run, name="access-log", daemon=True)
        self._writer.start()

    def __repr__(self) -> str:
        pending = self._size + self._handed_bytes - self._settled_bytes
        return f"<LineWriter fd {self._fd} {pending} bytes pending {self.dropped} lines dropped>"

    @property
    def dropped(self) -> int:
        """Lines dropped so far: too much was pending, or the descriptor refused them."""
        return self._refused_lines + self._lost_lines

    def write(self, line: bytes) -> None:
        """Take one line, newline included; it is written at the next flush or when 64 KiB are waiting."""
        self._lines.append(line)
        self._size += len(line)
        if self._size >= _HAND_OVER_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand what waits to the thread, or drop it if the thread is too far behind; return at once."""
        if not self._lines:
            return
        if self._handed_bytes - self._settled_bytes + self._size > self._max_pending_bytes:
            self._refused_lines += len(self._lines)
        else:
            self._handed_bytes += self._size
            self._queue.put(b"".join(self._lines))
        self._lines.clear()
        self._size = 0

    def reopen(self, fd: int) -> None:
        """Write later lines to ``fd``; the descriptor of now is closed after what waits has gone there."""
        self.flush()
        self._queue.put(fd)

    def close(self, timeout: float) -> None:
        """Write what waits for at most ``timeout`` seconds, drop the rest, end the thread."""
        self.flush()
        self._deadline = monotonic() + timeout
        self._queue.put(None)
        self._writer.join(timeout + 2 * _BLOCKED_POLL)

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            if isinstance(item, int):
                os.close(self._fd)
                self._fd = item
                self._is_torn = False
                continue
            written = self._write_batch(item)
            self._lost_lines += item.count(b"\n", written)
            self._settled_bytes += len(item)
        os.close(self._fd)

    def _write_batch(self, batch: bytes) -> int:
        """Write as much as possible of a batch and return how many of its bytes are gone."""
        done = 0
        with suppress(OSError):  # no space, no reader, no such device any more: the rest of the batch is lost
            is_file = stat.S_ISREG(os.fstat(self._fd).st_mode)
            if self._is_torn and self._await_writable():
                self._is_torn = os.write(self._fd, b"\n") == 0
            while done < len(batch) and (is_file or self._await_writable()):
                end = len(batch) if is_file else _cut(batch, done)
                done += os.write(self._fd, memoryview(batch)[done:end])
        self._is_torn = self._is_torn or (done > 0 and not batch.endswith(b"\n", 0, done))
        return done

    def _await_writable(self) -> bool:
        """Wait until a write would not block; False when the writer must end first."""
        poller = select.poll()
        poller.register(self._fd, select.POLLOUT)
        while monotonic() < self._deadline:
            if poller.poll(_BLOCKED_POLL * 1000):
                return True
        return False


def _cut(batch: bytes, start: int) -> int:
    """Where the next piece for a pipe ends: after whole lines, or inside one that is longer than a piece."""
    limit = start + _ATOMIC_BYTES
    if limit >= len(batch):
        return len(batch)
    return batch.rfind(b"\n", start, limit) + 1 or limit
