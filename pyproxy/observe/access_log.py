r"""
One line per finished exchange, and a writer that no reader, terminal or disk can stall.

The formatters are pure functions of a finished exchange and the wall clock. This module knows nothing of
sockets, exchanges' states or configuration: it is handed records and a descriptor.

What came from a client is written as printable ASCII only: ``"``, ``\`` and every byte outside space to
``~`` become ``\xHH``, as nginx does it, in both formats. A reader of either log therefore sees the same
text, a terminal that shows it obeys no control sequence, and ``json`` is valid whatever was sent.
"""

import os
import select
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from queue import SimpleQueue
from threading import Thread
from time import gmtime, localtime, strftime
from typing import Protocol

from pyproxy.clock import monotonic

UNSAFE = bytes(byte for byte in range(256) if not 0x20 <= byte <= 0x7E or byte in b'"\\')
_ESCAPED = [b"\\x%02X" % byte if byte in UNSAFE else bytes((byte,)) for byte in range(256)]
_PROTOCOLS = {10: b"HTTP/1.0", 11: b"HTTP/1.1"}

_HAND_OVER_BYTES = 64 * 1024
_ATOMIC_BYTES = select.PIPE_BUF  # what a pipe that polls writable takes whole, without blocking
_BLOCKED_POLL = 0.05  # seconds between two looks at whether a blocked writer was told to end


class AttemptRecord(Protocol):
    """One try on one backend; ``status`` 0 is no answer, ``connect_time`` None a connection used again."""

    @property
    def backend(self) -> str: ...
    @property
    def status(self) -> int: ...
    @property
    def connect_time(self) -> float | None: ...
    @property
    def header_time(self) -> float | None: ...
    @property
    def duration(self) -> float: ...


class HeadRecord(Protocol):
    """The request's head as received; ``version`` is 10 or 11, a header that wasn't sent is None."""

    @property
    def method(self) -> bytes: ...
    @property
    def target(self) -> bytes: ...
    @property
    def version(self) -> int: ...
    @property
    def host(self) -> bytes | None: ...
    @property
    def referer(self) -> bytes | None: ...
    @property
    def user_agent(self) -> bytes | None: ...


class Record(Protocol):
    """A finished exchange; ``head`` is None after a malformed request line, ``pool`` "" without a route."""

    @property
    def client(self) -> bytes: ...
    @property
    def head(self) -> HeadRecord | None: ...
    @property
    def status(self) -> int: ...
    @property
    def bytes_sent(self) -> int: ...
    @property
    def duration(self) -> float: ...
    @property
    def attempts(self) -> Sequence[AttemptRecord]: ...
    @property
    def end(self) -> str: ...
    @property
    def request_id(self) -> bytes: ...
    @property
    def listener(self) -> str: ...
    @property
    def pool(self) -> str: ...


def combined(record: Record, wall: float) -> bytes:
    """Format nginx's ``combined`` line with our tail; ``wall`` is seconds since the epoch."""
    attempts = record.attempts
    head = record.head
    if len(attempts) != 1 or head is None or not attempts[0].status:
        return _combined_general(record, wall)
    attempt = attempts[0]
    line = b'%b - - [%b] "%b %b %b" %d %d "%b" "%b" rt=%.3f ua=%b us=%d ut=%.3f tries=1 end=%b id=%b\n' % (
        record.client,
        _local_time(int(wall)),
        head.method,
        head.target,
        _PROTOCOLS[head.version],
        record.status,
        record.bytes_sent,
        head.referer or b"-",
        head.user_agent or b"-",
        record.duration,
        attempt.backend.encode(),
        attempt.status,
        attempt.duration,
        record.end.encode(),
        record.request_id,
    )
    # One look at the whole line instead of one at each field (0.27 µs against 0.5): the format itself brings
    # six quotes and the newline, so one unsafe byte more than these seven came from the client.
    if len(line) - len(line.translate(None, UNSAFE)) == 7:
        return line
    return _combined_general(record, wall)


def _combined_general(record: Record, wall: float) -> bytes:
    """Format any record: no head, any number of attempts, bytes that must be escaped."""
    head = record.head
    request, referer, user_agent = b"-", b"-", b"-"
    if head is not None:
        request = b"%b %b %b" % (_escape(head.method), _escape(head.target), _PROTOCOLS[head.version])
        referer = _escape(head.referer or b"-")
        user_agent = _escape(head.user_agent or b"-")
    return b'%b - - [%b] "%b" %d %d "%b" "%b" rt=%.3f ua=%b us=%b ut=%b tries=%d end=%b id=%b\n' % (
        record.client,
        _local_time(int(wall)),
        request,
        record.status,
        record.bytes_sent,
        referer,
        user_agent,
        record.duration,
        b",".join([attempt.backend.encode() for attempt in record.attempts]) or b"-",
        b",".join([b"%d" % attempt.status if attempt.status else b"-" for attempt in record.attempts]) or b"-",
        b",".join([b"%.3f" % attempt.duration for attempt in record.attempts]) or b"-",
        len(record.attempts),
        record.end.encode(),
        _escape(record.request_id),
    )


def json_line(record: Record, wall: float) -> bytes:
    """
    Format one JSON object; ``backend`` and ``upstream_*`` are arrays with one element per attempt.

    Written by hand because the values can only be escaped text and numbers: that costs a third of what
    building a dict and encoding it does. A null in ``upstream_status`` is an attempt without an answer, in
    ``upstream_connect_time`` one on a connection used again or never made.
    """
    head = record.head
    attempts = record.attempts
    if head is None:
        request = b'"method":"-","target":"-","protocol":"-"'
        referer = user_agent = host = b"null"
    else:
        request = b'"method":%b,"target":%b,"protocol":"%b"' % (
            _quote(head.method),
            _quote(head.target),
            _PROTOCOLS[head.version],
        )
        referer, user_agent, host = _quote(head.referer), _quote(head.user_agent), _quote(head.host)
    return (
        b'{"time":"%b.%03dZ","client":"%b",%b,"status":%d,"bytes":%d,"duration":%.3f,"listener":"%b","pool":%b,'
        b'"backend":[%b],"attempts":%d,"upstream_status":[%b],"upstream_connect_time":[%b],'
        b'"upstream_header_time":[%b],"end":"%b","request_id":%b,"referer":%b,"user_agent":%b,"host":%b}\n'
    ) % (
        _utc_time(int(wall)),
        int(wall % 1 * 1000),
        record.client,
        request,
        record.status,
        record.bytes_sent,
        record.duration,
        record.listener.encode(),
        b'"%b"' % record.pool.encode() if record.pool else b"null",
        b",".join([b'"%b"' % attempt.backend.encode() for attempt in attempts]),
        len(attempts),
        b",".join([b"%d" % attempt.status if attempt.status else b"null" for attempt in attempts]),
        b",".join([_seconds(attempt.connect_time) for attempt in attempts]),
        b",".join([_seconds(attempt.header_time) for attempt in attempts]),
        record.end.encode(),
        _quote(record.request_id),
        referer,
        user_agent,
        host,
    )


FORMATS: dict[str, Callable[[Record, float], bytes]] = {"combined": combined, "json": json_line}


@lru_cache(maxsize=2)
def _local_time(second: int) -> bytes:
    return strftime("%d/%b/%Y:%H:%M:%S %z", localtime(second)).encode()


@lru_cache(maxsize=2)
def _utc_time(second: int) -> bytes:
    return strftime("%Y-%m-%dT%H:%M:%S", gmtime(second)).encode()


def _escape(value: bytes) -> bytes:
    if len(value.translate(None, UNSAFE)) == len(value):
        return value
    return b"".join([_ESCAPED[byte] for byte in value])


def _quote(value: bytes | None) -> bytes:
    """Make a JSON string; after our own escaping only the backslashes that it made need JSON's."""
    return b"null" if value is None else b'"%b"' % _escape(value).replace(b"\\", b"\\\\")


def _seconds(value: float | None) -> bytes:
    return b"null" if value is None else b"%.3f" % value


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
