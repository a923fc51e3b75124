"""
Send GETs at a fixed rate, and tell how long each took from the instant at which it was due.

A program of its own, which prints one line of JSON; ``load.open_loop`` runs it. Must not know what is measured.

A closed loop sends when the answer before has come: while the server stalls it asks less, and the times that clients
would have waited are left out of its percentiles ("coordinated omission"; wrk makes some up afterwards). Here request
i is due at i / rate, whatever happens, and its time ends with the last byte of its answer but begins when it was due.
So a stall counts for every request that was due in it, and so does time that this program loses itself.

    due ──> line, first in first out ──> any free connection, longest free first ──> answer ──> free again

- Requests that are due while all connections are busy wait in line. None is given up: after the last one is due,
  the run goes on until all are answered, and fails if that takes over some seconds.
- A server may close a connection between two requests. It is opened again; a request of which the server had sent
  nothing back goes to the line's head, and is still due when it was. On a connection that never answered anything
  that is no race but a failure, as is an answer that breaks off, is not 2xx, or isn't what its length says.
- A run that sent under 98 % of what was due by its end has not measured that rate, and fails.
- Lateness is this program's own: from the instant at which a request was due and a connection was known to be free
  until it was sent. What lies in a socket while the program has no core is in the times, and not in the lateness.

All is one thread with epoll and plain sockets. The wait for the next due instant is a select() on the epoll, because
epoll itself waits for whole milliseconds; spinning would take the core from the web nodes, which share it.

What it can do (AMD EPYC virtual machine, CPython 3.11, 64 connections, 15 headers, to an nginx that answers by itself
on the same core): 40,000 a second with 48 % of the core, 12 µs each, most of it sleeping and waking up, p99 of
lateness 0.01 ms; 100,000 a second with 57 %, 6 µs each, as there is hardly time to sleep, 0.03 ms.
"""

import argparse
import errno
import gc
import json
import math
import os
import select
import socket
import sys
import time
from collections import deque
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import stage

NANO = 1_000_000_000
CONNECT_SECONDS = 10.0
GRACE_SECONDS = 5.0  # for what is unanswered when the last request was due
WAIT_SECONDS = 0.5  # after which a wait for answers looks at the clock
LEAST_SHARE = 0.98  # of the requests, sent by the end
RECEIVE_BYTES = 64 * 1024
SUB_BITS = 7  # a bucket is at most 1/128 of its values wide
NEVER = 2**63 - 1

clock = time.monotonic_ns


class Histogram:
    """
    Counts of times in nanoseconds, in buckets whose width doubles with each octave of the time (log-linear).

    A percentile is the middle of a bucket that is at most 1/128 of its times wide: it is off by 0.4 % at most.

        >>> times = Histogram()
        >>> for milliseconds in range(1, 101):
        ...     times.record(milliseconds * 1_000_000)
        >>> round(times.percentile_ms(50)), round(times.percentile_ms(99)), times.count
        (50, 99, 100)
    """

    def __init__(self) -> None:
        self.count = 0
        self._buckets = [0] * ((64 - SUB_BITS) << SUB_BITS)

    def __repr__(self) -> str:
        return f"<Histogram of {self.count}>"

    def record(self, nanoseconds: int) -> None:
        """Count a time; one that isn't positive counts as none at all."""
        nanoseconds = max(nanoseconds, 0)
        shift = nanoseconds.bit_length() - (SUB_BITS + 1)
        shift = max(shift, 0)
        self._buckets[(shift << SUB_BITS) + (nanoseconds >> shift)] += 1
        self.count += 1

    def percentile_ms(self, percent: float) -> float:
        """Return the time in ms that this share of the times does not exceed, NaN if there are none."""
        rank = max(1, math.ceil(self.count * percent / 100))
        for index, count in enumerate(self._buckets):
            rank -= count
            if rank <= 0:
                return _middle(index) / 1e6
        return math.nan


def _middle(index: int) -> float:
    # The first two runs of 128 buckets are one value wide each.
    shift = max(0, (index >> SUB_BITS) - 1)
    return ((index - (shift << SUB_BITS)) << shift) + ((1 << shift) - 1) / 2


class Score:
    """
    What a run at a fixed rate has to be judged by; knows instants in nanoseconds, and no sockets.

    Its caller must tell of every request once that it was sent first, and once that it was answered.
    """

    def __init__(self, rate: float, seconds: float, begin: int) -> None:
        self.total = max(1, round(rate * seconds))
        self.begin, self.end = begin, begin + int(seconds * NANO)
        self.sent = self.sent_in_time = 0
        self.next_due = begin
        self.times, self.lateness = Histogram(), Histogram()
        self._interval = NANO / rate

    def __repr__(self) -> str:
        return f"<Score {self.total} due, {self.sent} sent, {self.times.count} answered>"

    @property
    def is_over(self) -> bool:
        """Whether every request was answered."""
        return self.times.count == self.total

    def record_sent(self, free_since: int, now: int) -> int:
        """Count the next request as sent now, on a connection known to be free since then; return when it was due."""
        due = self.next_due
        self.lateness.record(now - max(due, free_since))
        if now <= self.end:
            self.sent_in_time += 1
        self.sent += 1
        self.next_due = self.begin + int(self.sent * self._interval) if self.sent < self.total else NEVER
        return due

    def check_unanswered(self, now: int) -> None:
        """Fail if something is unanswered although the end was some seconds ago."""
        if now > self.end + GRACE_SECONDS * NANO:
            missing = self.total - self.times.count
            raise stage.StageError(
                f"{missing} of {self.total} requests were unanswered {GRACE_SECONDS:g} s after the end"
            )

    def report(self, now: int) -> dict[str, float]:
        """Return the result; fail if this wasn't the rate that was asked for."""
        share = self.sent_in_time / self.total
        late_p99_ms = self.lateness.percentile_ms(99)
        if share < LEAST_SHARE:
            raise stage.RateNotHeld(
                f"only {share:.1%} of {self.total} requests were sent by the end (lateness of the generator: "
                f"p99 {late_p99_ms:.3f} ms)"
            )
        return {
            "requests": self.times.count,
            "seconds": (now - self.begin) / NANO,
            "p50_ms": self.times.percentile_ms(50),
            "p99_ms": self.times.percentile_ms(99),
            "late_p99_ms": late_p99_ms,
        }


def measure_answer(data: bytes) -> tuple[int, bool]:
    r"""
    Return how long an answer is, head and body, and whether the connection ends with it; 0 while the head isn't whole.

    Raises StageError for anything but 2xx with a Content-Length.

        >>> measure_answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        (40, False)
        >>> measure_answer(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        (46, True)
        >>> measure_answer(b"HTTP/1.1 200 OK\r\nContent-Le")
        (0, False)
    """
    end = data.find(b"\r\n\r\n")
    if end < 0:
        if len(data) > RECEIVE_BYTES:
            raise stage.StageError("a head has no end")
        return 0, False
    head = data[: end + 2].lower()
    if not head.startswith(b"http/1.1 2"):
        raise stage.StageError(f"an answer is {head.splitlines()[0]!r}")
    begin = head.find(b"\r\ncontent-length:")
    if begin >= 0:
        value = head[begin + 17 : head.find(b"\r\n", begin + 17)].strip()
        if not value.isdigit():
            raise stage.StageError(f"an answer's length is {value!r}")
        length = int(value)
    elif head.startswith(b"http/1.1 204"):
        length = 0
    else:
        raise stage.StageError(f"an answer doesn't tell its length: {head!r}")
    return end + 4 + length, b"\r\nconnection: close\r\n" in head


class Connection:
    """A keep-alive connection with at most one request under way."""

    __slots__ = ("closes", "due", "free_since", "head", "is_open", "is_used", "received", "size", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.is_open = False
        self.is_used = False  # it has answered something
        self.free_since = 0
        # Of the request that is under way; due is 0 if there is none.
        self.due = 0
        self.received = 0
        self.size = 0  # of the answer, 0 while its head isn't whole
        self.head = b""  # what came of it until then
        self.closes = False

    def __repr__(self) -> str:
        state = ("busy" if self.due else "free") if self.is_open else "connecting"
        return f"<Connection {self.sock.fileno()} {state}>"


class Generator:
    """Send what is due, and read what comes."""

    def __init__(self, port: int, request: bytes, connections: int) -> None:
        self._address = (stage.HOST, port)
        self._request = request
        self._epoll = select.epoll()  # made before the connections: select() takes no descriptor above 1023
        self._by_fd: dict[int, Connection] = {}
        self._free: deque[Connection] = deque()
        self._again: deque[int] = deque()  # when those requests were due that must be sent once more
        self._score = Score(1, 1, NEVER)  # nothing is due yet
        for _ in range(connections):
            self._open()
        until = clock() + int(CONNECT_SECONDS * NANO)
        while len(self._free) < connections:
            self._read_events(self._epoll.poll(WAIT_SECONDS), clock())
            if clock() > until:
                raise stage.StageError(f"only {len(self._free)} of {connections} connections could be opened")

    def __repr__(self) -> str:
        return f"<Generator {len(self._by_fd)} connections, {len(self._free)} free, {self._score}>"

    def run(self, rate: float, seconds: float) -> dict[str, float]:
        """Send at this rate for some seconds; return the result when all is answered."""
        score = self._score = Score(rate, seconds, clock())
        while not score.is_over:
            self._send_due()
            events = self._await_events()
            now = clock()
            score.check_unanswered(now)
            self._read_events(events, now)
        return score.report(clock())

    def _await_events(self) -> list[tuple[int, int]]:
        """Wait for what comes, but if a connection is free not beyond the next due instant."""
        if not self._free:
            return self._epoll.poll(WAIT_SECONDS)
        events = self._epoll.poll(0)
        if not events:
            wait = min(WAIT_SECONDS, (self._score.next_due - clock()) / NANO)
            if wait > 0 and select.select([self._epoll], (), (), wait)[0]:
                events = self._epoll.poll(0)
        return events

    def _send_due(self) -> None:
        score, free = self._score, self._free
        while free:
            now = clock()
            if self._again:
                connection, due = free.popleft(), self._again.popleft()
            elif score.next_due <= now:
                connection = free.popleft()
                due = score.record_sent(connection.free_since, now)
            else:
                return
            connection.due = due
            try:
                sent = connection.sock.send(self._request)
            except OSError:
                self._handle_end(connection)
                continue
            if sent < len(self._request):
                raise stage.StageError("a request doesn't fit into a socket's buffer")

    def _read_events(self, events: list[tuple[int, int]], now: int) -> None:
        """Read from each connection that has something; what becomes free was free now, when the events were told."""
        for fd, mask in events:
            connection = self._by_fd.get(fd)  # None: closed since
            if connection is None:
                continue
            if connection.is_open:
                self._read(connection, now)
                if self._score.next_due <= clock():  # what is due meanwhile doesn't wait for the other events
                    self._send_due()
            elif mask & select.EPOLLOUT:
                self._handle_connected(connection, now)

    def _read(self, connection: Connection, now: int) -> None:
        try:
            data = connection.sock.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._handle_end(connection)
            return
        connection.received += len(data)
        if not connection.size:
            connection.head += data
            connection.size, connection.closes = measure_answer(connection.head)
        if connection.received >= connection.size > 0:
            self._handle_answer(connection, now)

    def _handle_answer(self, connection: Connection, now: int) -> None:
        if not connection.due or connection.received > connection.size:
            raise stage.StageError("more came than was asked for")
        self._score.times.record(clock() - connection.due)
        connection.due = connection.received = connection.size = 0
        connection.head = b""
        connection.is_used = True
        if connection.closes:
            self._reopen(connection)
        else:
            connection.free_since = now
            self._free.append(connection)

    def _handle_end(self, connection: Connection) -> None:
        """Open a connection anew that the server has closed; fail if an answer is lost by that."""
        if not connection.due:
            self._free.remove(connection)
        elif connection.received:
            raise stage.StageError(f"an answer broke off after {connection.received} bytes")
        elif not connection.is_used:
            raise stage.StageError("a new connection was closed without an answer")
        else:
            self._again.append(connection.due)
        self._reopen(connection)

    def _reopen(self, connection: Connection) -> None:
        del self._by_fd[connection.sock.fileno()]
        connection.sock.close()
        self._open()

    def _open(self) -> None:
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        error = sock.connect_ex(self._address)
        if error not in {0, errno.EINPROGRESS}:
            raise stage.StageError(f"no connection: {os.strerror(error)}")
        self._by_fd[sock.fileno()] = Connection(sock)
        self._epoll.register(sock, select.EPOLLOUT)

    def _handle_connected(self, connection: Connection, now: int) -> None:
        error = connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise stage.StageError(f"no connection: {os.strerror(error)}")
        self._epoll.modify(connection.sock, select.EPOLLIN)
        connection.is_open = True
        connection.free_since = now
        self._free.append(connection)


def main() -> int:
    """Send, and print the result."""
    parser = argparse.ArgumentParser(description="GETs at a fixed rate over keep-alive connections.")
    parser.add_argument("port", type=int)
    parser.add_argument("--rate", type=float, required=True, help="requests a second")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--header", action="append", default=[], metavar="'NAME: VALUE'")
    options = parser.parse_args()
    headers = [(name, value.strip()) for name, _, value in (header.partition(":") for header in options.header)]
    # Timers are 50 µs late otherwise.
    Path("/proc/self/timerslack_ns").write_text("1")
    gc.disable()
    generator = Generator(options.port, stage.request(options.port, headers), options.connections)
    print(json.dumps(generator.run(options.rate, options.seconds)))
    return 0


if __name__ == "__main__":
    stage.run(main)
