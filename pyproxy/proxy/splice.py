"""
Large bodies inside the kernel: from one socket through a pipe into the other, without becoming Python objects.

Must not know HTTP: the exchange decides when a body goes this way, the two children say what its events mean.
Theory of operation. Only a body of known length between two TCP sockets goes this way, from a moment on when the
sink's transport has nothing left to send. Both sockets are duplicated, since the loop has one watcher a descriptor::

    source ──splice──> [pipe] ──splice──> sink        the source's transport is paused (SPLICED); the sink's reads on,
           on readable        at once, or on writable   so that its other half and its end are noticed

The pipe is empty whenever the source is read. A splice is over once everything has passed, when the exchange stops
it because the attempt is over, or when a socket is broken, which is left to that socket's transport to report.
"""

import fcntl
import os
from typing import TYPE_CHECKING, Final

from pyproxy.clock import monotonic
from pyproxy.errors import ResponseTruncated
from pyproxy.http1.head import END
from pyproxy.proxy.flow import FOREVER, SPLICED, Leg
from pyproxy.proxy.outcome import ANSWERING

if TYPE_CHECKING:
    from pyproxy.proxy.exchange import Exchange
    from pyproxy.proxy.upstream import Upstream

#: What is left of a body must be this much. CPU against copying: nothing gained at 1 MiB, 25 % at 2, 35 % at 4 and 16,
#: 63 % at 100 MiB (5.4 ms for 14.7). A smaller pipe (256 KiB) costs 10 to 30 % more.
SPLICE_BYTES: Final = 1024 * 1024
PIPE_BYTES: Final = 1024 * 1024
#: Splices of one worker at a time, because the memory of pipes is the system's.
SPLICES_MAX: Final = 32
_FLAGS: Final = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK


class Pipe:
    """A pipe with room for one move; ``held`` bytes are in it."""

    __slots__ = ("held", "reader", "writer")

    def __init__(self) -> None:
        self.held = 0
        self.reader, self.writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        except OSError:  # the user has too many of them
            self.close()
            raise

    def close(self) -> None:
        """Give both ends back."""
        os.close(self.reader)
        os.close(self.writer)


class Pipes:
    """The pipes of a worker: as many as there were splices at a time."""

    __slots__ = ("_idle", "_in_use")

    def __init__(self) -> None:
        self._idle: list[Pipe] = []
        self._in_use = 0

    def take(self) -> Pipe | None:
        """Lend an empty pipe, None if there are enough; without descriptors or memory for one OSError."""
        if self._in_use == SPLICES_MAX:
            return None
        pipe = self._idle.pop() if self._idle else Pipe()
        self._in_use += 1
        return pipe

    def give_back(self, pipe: Pipe) -> None:
        """Take a pipe back; what somebody left in it goes with it."""
        self._in_use -= 1
        if pipe.held:
            pipe.close()
        else:
            self._idle.append(pipe)


class Splice:
    """Move ``left`` bytes, behind the ``first`` ones that were read already; see the module's docstring."""

    __slots__ = ("_first", "_is_blocked", "_left", "_pipe", "_sink", "_source", "exchange")

    def __init__(self, exchange: "Exchange", pipe: Pipe, source: int, sink: int, first: bytes, left: int) -> None:
        self.exchange = exchange
        self._pipe: Pipe | None = pipe
        self._source = source
        self._sink = sink
        self._first = first
        self._left = left
        self._is_blocked = False  # waits for the sink
        self.source_leg().pause_reading(SPLICED)
        exchange.plane.loop.add_reader(source, self._on_ready)
        self.is_progressing()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._left} bytes to come, {'blocked' if self._is_blocked else 'flowing'}>"

    def reads(self, leg: Leg | None) -> bool:
        """Whether what comes from a leg is read here, and not by its transport."""
        return self._pipe is not None and self.source_leg() is leg

    # what the children say

    def source_leg(self) -> Leg:
        """Give the leg that the bytes come from."""
        raise NotImplementedError

    def count(self, size: int) -> None:
        """Note that the sink has taken bytes from the source."""
        raise NotImplementedError

    def is_progressing(self) -> None:
        """Set the deadlines: the source has the word."""
        raise NotImplementedError

    def is_waiting(self) -> None:
        """Set the deadlines: the sink must take something."""
        raise NotImplementedError

    def is_through(self) -> None:
        """Go on behind the body."""
        raise NotImplementedError

    def source_broke(self) -> None:
        """Let the source's transport tell that it ended too early."""
        raise NotImplementedError

    def sink_broke(self) -> None:
        """Let the sink's transport tell that it is broken."""
        raise NotImplementedError

    # moving

    def stop(self) -> None:
        """Let go of everything but the paused source; a second call finds nothing left to do."""
        pipe, self._pipe = self._pipe, None
        if pipe is None:
            return
        plane = self.exchange.plane
        if self._is_blocked:
            plane.loop.remove_writer(self._sink)
        else:
            plane.loop.remove_reader(self._source)
        os.close(self._source)
        os.close(self._sink)
        plane.pipes.give_back(pipe)

    def start(self) -> None:
        """Send the first bytes."""
        self._on_ready()

    def _on_ready(self) -> None:
        plane = self.exchange.plane
        plane.now = monotonic()
        try:
            self._move()
        except Exception:
            plane.crash(self.exchange)

    def _move(self) -> None:
        """Take the next step: the sink first, since the pipe must be empty before the source is read."""
        pipe = self._pipe
        if pipe is None:
            return
        if not self._first and not pipe.held:
            taken = self._fill(pipe)
            if taken < 0:
                return
            if not taken:
                self.stop()
                self.source_broke()
                return
        try:
            self._empty(pipe)
        except BlockingIOError:
            self._wait()
            return
        except OSError:
            self.stop()
            self.sink_broke()
            return
        self._go_on()

    def _fill(self, pipe: Pipe) -> int:
        """Move from the source into the pipe; -1 if there was nothing, 0 if there never will be."""
        try:
            taken = os.splice(self._source, pipe.writer, min(self._left, PIPE_BYTES), flags=_FLAGS)
        except BlockingIOError:
            return -1
        except OSError:
            return 0
        self._left -= taken
        pipe.held += taken
        return taken

    def _empty(self, pipe: Pipe) -> None:
        while self._first:
            self._first = self._first[os.write(self._sink, self._first) :]
        while pipe.held:
            size = os.splice(pipe.reader, self._sink, pipe.held, flags=_FLAGS)
            pipe.held -= size
            self.count(size)

    def _wait(self) -> None:
        """Look at the sink instead of the source."""
        if not self._is_blocked:
            self._is_blocked = True
            loop = self.exchange.plane.loop
            loop.remove_reader(self._source)
            loop.add_writer(self._sink, self._on_ready)
        self.is_waiting()

    def _go_on(self) -> None:
        if not self._left:
            self.stop()
            self.is_through()
            return
        if self._is_blocked:
            self._is_blocked = False
            loop = self.exchange.plane.loop
            loop.remove_writer(self._sink)
            loop.add_reader(self._source, self._on_ready)
        self.is_progressing()


class AnswerSplice(Splice):
    """A body on its way from the backend to the client."""

    __slots__ = ("_idle_timeout", "_upstream")

    def __init__(
        self, exchange: "Exchange", pipe: Pipe, source: int, sink: int, upstream: "Upstream", first: bytes
    ) -> None:
        self._upstream = upstream
        self._idle_timeout = upstream.idle_timeout
        super().__init__(exchange, pipe, source, sink, first, upstream.reader.remaining)

    def source_leg(self) -> Leg:
        return self._upstream

    def count(self, size: int) -> None:
        exchange = self.exchange
        exchange.bytes_sent += size
        exchange.plane.row[exchange.plane.bytes_out_column] += size

    def is_progressing(self) -> None:
        downstream = self.exchange.downstream
        if downstream.write_paused:
            downstream.write_paused = False
            downstream.expect_body()
        self._upstream.deadline = self.exchange.plane.now + self._idle_timeout

    def is_waiting(self) -> None:
        downstream = self.exchange.downstream
        downstream.write_paused = True
        downstream.await_drain(self.exchange.plane.now + self.exchange.plane.client.write_timeout)
        self._upstream.deadline = FOREVER

    def is_through(self) -> None:
        exchange, upstream = self.exchange, self._upstream
        exchange.downstream.write_paused = False
        upstream.reader.pass_by()
        if upstream.unread_bytes:
            upstream.reader.reusable = False  # nobody asked for them: the next answer must not begin with them
        upstream.resume_reading(SPLICED)
        exchange.splice_ended()
        exchange.handle_response([END])

    def source_broke(self) -> None:
        if self._upstream.transport is not None:
            self._upstream.close()
        else:  # its end was left to us
            self.exchange.handle_response([ResponseTruncated()])

    def sink_broke(self) -> None:
        self.exchange.downstream.abort()


class BodySplice(Splice):
    """A body on its way from the client to the backend."""

    __slots__ = ("_upstream",)

    def __init__(
        self, exchange: "Exchange", pipe: Pipe, source: int, sink: int, upstream: "Upstream", first: bytes
    ) -> None:
        self._upstream = upstream
        super().__init__(exchange, pipe, source, sink, first, exchange.downstream.reader.remaining)

    def source_leg(self) -> Leg:
        return self.exchange.downstream

    def count(self, size: int) -> None:
        self.exchange.plane.row[self.exchange.plane.bytes_in_column] += size

    def is_progressing(self) -> None:
        exchange, upstream = self.exchange, self._upstream
        upstream.write_paused = False
        upstream.deadline = FOREVER
        downstream = exchange.downstream
        if not downstream.write_paused:
            downstream.deadline = exchange.plane.now + exchange.plane.client.body_timeout
        if exchange.response is ANSWERING:
            exchange.expect_more(upstream)  # it answers early, and still takes what comes

    def is_waiting(self) -> None:
        exchange, upstream = self.exchange, self._upstream
        upstream.write_paused = True
        upstream.await_drain(exchange.plane.now + upstream.idle_timeout)
        exchange.downstream.await_nothing()

    def is_through(self) -> None:
        self._upstream.write_paused = False
        downstream = self.exchange.downstream
        downstream.reader.pass_by()
        self.exchange.splice_ended()
        self.exchange.handle_body_end()
        downstream.resume_reading(SPLICED)

    def source_broke(self) -> None:
        self.exchange.downstream.abort()

    def sink_broke(self) -> None:
        # It may have answered before it went; whatever it is, reading tells, but no longer whether by a reset: that we
        # have just been told. Nobody sends it any more of the body.
        self._upstream.is_broken = True
        self._upstream.write_paused = False
        self._upstream.deadline = self.exchange.plane.now + self._upstream.idle_timeout
        self.exchange.downstream.await_nothing()
