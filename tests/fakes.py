"""
Stand-ins for the loop, the network and time, so that the byte path runs in a test without a socket or a wait.

They behave as uvloop 0.23 does where it matters: ``connection_lost`` comes a turn later, a paused transport
sees neither FIN nor RST, writing after ``write_eof`` raises, a connect that is cancelled after
``connection_made`` closes its transport without a word.

Must not know what the bytes mean, nor how a plane is configured: that is tests/unit/proxy/planes.py.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterator
from heapq import heappop, heappush
from typing import Any, Final, cast

#: Turns of the loop in a row without anything coming from outside; more is a busy loop.
TURNS_MAX: Final = 20_000


class FakeHandle:
    """What ``call_soon`` and ``call_later`` give."""

    def __init__(self, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        self.callback = callback
        self.args = args
        self.is_cancelled = False

    def cancel(self) -> None:
        """Don't run."""
        self.is_cancelled = True

    def run(self) -> None:
        """Run unless cancelled."""
        if not self.is_cancelled:
            self.callback(*self.args)


class FakeFuture:
    """The little of a future that a connect needs."""

    def __init__(self, loop: "FakeLoop") -> None:
        self._loop = loop
        self.is_done = False
        self.error: Exception | None = None
        self.task: FakeTask | None = None

    def __await__(self) -> Generator["FakeFuture", None, None]:
        if not self.is_done:
            yield self
        if self.error is not None:
            raise self.error

    def finish(self, error: Exception | None = None) -> None:
        """Wake who waits, a turn later."""
        self.is_done = True
        self.error = error
        if self.task is not None:
            self._loop.call_soon(self.task.step)


class FakeTask:
    """A coroutine that is stepped by the fake loop; cancelling works as asyncio's does."""

    def __init__(self, loop: "FakeLoop", coroutine: Coroutine[Any, Any, None]) -> None:
        self._loop = loop
        self._coroutine = coroutine
        self._waits_for: FakeFuture | None = None
        self._is_cancelled = False
        self.is_done = False
        loop.call_soon(self.step)

    def step(self) -> None:
        """Go on to the next await."""
        if self.is_done:
            return
        self._waits_for = None
        try:
            if self._is_cancelled:
                future = self._coroutine.throw(asyncio.CancelledError())
            else:
                future = self._coroutine.send(None)
        except (StopIteration, asyncio.CancelledError):
            self.is_done = True
        else:
            self._waits_for = future
            future.task = self

    def cancel(self) -> None:
        """Throw CancelledError into the coroutine at its next step."""
        if self.is_done or self._is_cancelled:
            return
        self._is_cancelled = True
        if self._waits_for is not None and not self._waits_for.is_done:
            self._waits_for.task = None
            self._loop.call_soon(self.step)


class FakeDial:
    """A connect that waits for the test's word."""

    def __init__(self, loop: "FakeLoop", protocol: Any, host: str, port: int) -> None:
        self._loop = loop
        self.protocol = protocol
        self.address = (host, port)
        self.waiter = FakeFuture(loop)
        self.transport: FakeTransport | None = None

    def accept(self) -> "FakeTransport":
        """Let the connection be made."""
        assert self.transport is None
        self._loop.dials.remove(self)
        transport = self.transport = FakeTransport(self._loop, self.protocol, peer=self.address)
        self._loop.call_soon(self._made, transport)
        return transport

    def _made(self, transport: "FakeTransport") -> None:
        if not transport.is_dropped:
            transport.start()
            self.waiter.finish()

    def refuse(self, error: OSError | None = None) -> None:
        """Let it fail."""
        self._loop.dials.remove(self)
        self.waiter.finish(error or ConnectionRefusedError("refused"))


class FakeLoop:
    """An event loop whose time stands still between calls of ``advance``."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.write_buffer_limits: tuple[int, int] | None = None  # a test may make them small, whatever is asked for
        self.dials: list[FakeDial] = []
        self.transports: list[FakeTransport] = []
        self._ready: deque[FakeHandle] = deque()
        self._timers: list[tuple[float, int, FakeHandle]] = []
        self._count = 0

    # what the program calls

    def time(self) -> float:
        """Give the loop's time, which is everybody's time here."""
        return self.now

    def call_soon(self, callback: Callable[..., object], *args: Any) -> FakeHandle:
        """Run in the next turn."""
        handle = FakeHandle(callback, args)
        self._ready.append(handle)
        return handle

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> FakeHandle:
        """Run when ``advance`` has come that far."""
        handle = FakeHandle(callback, args)
        self._count += 1
        heappush(self._timers, (self.now + delay, self._count, handle))
        return handle

    def create_task(self, coroutine: Coroutine[Any, Any, None]) -> FakeTask:
        """Step a coroutine."""
        return FakeTask(self, coroutine)

    async def create_connection(self, factory: Callable[[], Any], host: str, port: int) -> tuple["FakeTransport", Any]:
        """Wait until a test accepts or refuses."""
        dial = FakeDial(self, factory(), host, port)
        self.dials.append(dial)
        try:
            await dial.waiter
        except BaseException:
            if dial in self.dials:
                self.dials.remove(dial)
            if dial.transport is not None:
                dial.transport.drop()
            raise
        assert dial.transport is not None
        return dial.transport, dial.protocol

    # what tests call

    @property
    def has_work(self) -> bool:
        """Whether ``run`` would do anything."""
        return bool(self._ready) or any(transport.can_move for transport in self.transports)

    def run(self) -> None:
        """Take turns until nothing moves any more."""
        for _ in range(TURNS_MAX):
            if not self.turn():
                return
        raise AssertionError("the loop never comes to rest")

    def turn(self) -> bool:
        """Run what is ready, then look at the sockets once; False when there was nothing to do."""
        ready, self._ready = self._ready, deque()
        for handle in ready:
            handle.run()
        moved = [transport.poll() for transport in tuple(self.transports)]
        self.transports = [transport for transport in self.transports if not transport.is_lost]
        return bool(ready) or any(moved) or bool(self._ready)

    def advance(self, seconds: float) -> None:
        """Let time pass, with every timer at its own moment."""
        target = self.now + seconds
        self.run()
        while self._timers and self._timers[0][0] <= target:
            due, _, handle = heappop(self._timers)
            self.now = max(self.now, due)
            handle.run()
            self.run()
        self.now = max(self.now, target)

    def stall(self, until: float) -> None:
        """Let time pass without running anything: what was due is late."""
        self.now = max(self.now, until)


class FakeSocket:
    """Remembers whether closing will send RST."""

    def __init__(self) -> None:
        self.options: list[tuple[int, int, bytes | int]] = []

    def setsockopt(self, level: int, name: int, value: bytes | int) -> None:
        """Note the option."""
        self.options.append((level, name, value))

    @property
    def resets_on_close(self) -> bool:
        """Whether SO_LINGER with zero seconds was set."""
        return any((level, name) == (socket.SOL_SOCKET, socket.SO_LINGER) for level, name, _ in self.options)


EOF: Final = None


class FakeTransport(asyncio.Transport):
    """
    One end of a TCP connection; the test is the other end.

    ``sent`` is what has left for the other end, ``inbox`` what is on its way to us, ``window`` how many bytes
    the other end will still take (None: any number).
    """

    def __init__(
        self,
        loop: FakeLoop,
        protocol: Any,
        *,
        peer: tuple[str, int] = ("192.0.2.1", 50_000),
        local: tuple[str, int] = ("192.0.2.9", 80),
    ) -> None:
        super().__init__({"peername": peer, "sockname": local, "socket": FakeSocket()})
        self._loop = loop
        self.protocol = protocol
        self.sent = bytearray()
        self.pieces: list[bytes] = []  # as they were written, for tests on copying
        self.inbox: deque[bytes | Exception | None] = deque()
        self.window: int | None = None
        self.peak_buffer_bytes = 0
        self.is_eof_sent = False
        self.is_lost = False
        self.is_dropped = False
        self._buffer = bytearray()
        self._high, self._low = loop.write_buffer_limits or (64 * 1024, 16 * 1024)
        self._is_reading = False
        self._is_writing_paused = False
        self._is_eof_asked = False
        self._is_closing = False
        self._is_ending = False  # connection_lost is on its way
        self._is_broken = False  # the other end has sent RST

    def __repr__(self) -> str:
        state = "lost" if self.is_lost else "closing" if self._is_closing else "open"
        return f"<FakeTransport {state} {len(self._buffer)} unsent {len(self.inbox)} unread>"

    def start(self) -> None:
        """Tell the protocol; only then does reading begin, whatever the protocol said."""
        self._loop.transports.append(self)
        self.protocol.connection_made(self)
        self._is_reading = not self._is_closing

    def drop(self) -> None:
        """Close the way uvloop does when a connect is cancelled: nobody hears of it."""
        self.is_dropped = self.is_lost = self._is_closing = self._is_ending = True
        self._is_reading = False

    # the other end

    def receive(self, *items: bytes | Exception | None) -> None:
        """Put bytes, EOF or an error on the way to the protocol."""
        self.inbox.extend(items)
        self._is_broken = self._is_broken or any(isinstance(item, Exception) for item in items)

    def open_window(self, count: int | None = None) -> None:
        """Take ``count`` bytes more, any number for None."""
        self.window = None if count is None or self.window is None else self.window + count

    @property
    def has_ended(self) -> bool:
        """Whether the other end has seen that nothing more will come."""
        return self.is_lost or self.is_eof_sent

    @property
    def was_reset(self) -> bool:
        """Whether the other end has seen an RST instead of a FIN."""
        return self.is_lost and cast(FakeSocket, self.get_extra_info("socket")).resets_on_close

    @property
    def has_read_eof(self) -> bool:
        """Whether the protocol knows that nothing more comes."""
        return bool(self.inbox) and self.inbox[0] is EOF and not self._is_reading

    @property
    def can_move(self) -> bool:
        """Whether ``poll`` would do anything."""
        can_write = bool(self._buffer) and not self._is_ending and (self._is_broken or self.window != 0)
        return can_write or (self._is_reading and not self._is_closing and bool(self.inbox))

    def poll(self) -> bool:
        """Move what can be moved: first out, then at most one thing in."""
        before = len(self._buffer)
        self._flush()
        moved = len(self._buffer) != before
        if self._is_reading and not self._is_closing and self.inbox:
            item = self.inbox.popleft()
            if isinstance(item, bytes):
                self.protocol.data_received(item)
            elif isinstance(item, Exception):
                self._force_close(item)
            else:
                self.inbox.appendleft(EOF)  # who reads again reads it again
                self._is_reading = False
                if not self.protocol.eof_received():
                    self.close()
            return True
        return moved

    def _flush(self) -> None:
        if not self._buffer or self._is_ending:
            return
        if self._is_broken:
            self._buffer.clear()
            self._force_close(BrokenPipeError("reset by the other end"))
            return
        count = len(self._buffer) if self.window is None else min(self.window, len(self._buffer))
        if not count:
            return
        self.sent += self._buffer[:count]
        del self._buffer[:count]
        if self.window is not None:
            self.window -= count
        if self._is_writing_paused and len(self._buffer) <= self._low:
            self._is_writing_paused = False
            self.protocol.resume_writing()
        if not self._buffer:
            if self._is_closing:
                self._end(None)
            elif self._is_eof_asked:
                self.is_eof_sent = True

    def _end(self, error: Exception | None) -> None:
        if not self._is_ending:
            self._is_ending = True
            self._loop.call_soon(self._lose, error)

    def _lose(self, error: Exception | None) -> None:
        if not self.is_lost:
            self.protocol.connection_lost(error)
            self.is_lost = True

    def _force_close(self, error: Exception | None) -> None:
        self._is_closing = True
        self._is_reading = False
        self._end(error)

    def read_unread(self) -> Iterator[bytes]:
        """Give what the other end sent before its RST, as the kernel does."""
        while self.inbox and isinstance(self.inbox[0], bytes):
            yield cast(bytes, self.inbox.popleft())

    # asyncio.Transport

    def _assert_alive(self) -> None:
        if self.is_lost:
            raise RuntimeError(f"unable to perform operation on {self!r}; the handler is closed")

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes; they leave when the loop looks at the sockets, or at once if they are many."""
        self._assert_alive()
        if self._is_eof_asked:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self._is_ending or not data:
            return
        if isinstance(data, bytes):
            self.pieces.append(data)
        self._buffer += data
        if len(self._buffer) > self._high and not self._is_writing_paused:
            self._flush()
            if len(self._buffer) > self._high and not self._is_ending:
                self._is_writing_paused = True
                self.protocol.pause_writing()
        self.peak_buffer_bytes = max(self.peak_buffer_bytes, len(self._buffer))

    def writelines(self, list_of_data: Any) -> None:
        """Write several pieces."""
        for data in list_of_data:
            self.write(data)

    def write_eof(self) -> None:
        """End our half when all is sent."""
        self._assert_alive()
        self._is_eof_asked = True
        if not self._buffer:
            self.is_eof_sent = True

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return len(self._buffer)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Take both bounds, unless the test has taken others."""
        assert high is not None
        assert low is not None
        if self._loop.write_buffer_limits is None:
            self._high, self._low = high, low

    def pause_reading(self) -> None:
        self._is_reading = False

    def resume_reading(self) -> None:
        if not self._is_closing:
            self._is_reading = True

    def is_reading(self) -> bool:
        return self._is_reading

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        """Send what is left, then end."""
        if not self._is_closing:
            self._is_closing = True
            self._is_reading = False
            if not self._buffer:
                self._end(None)

    def abort(self) -> None:
        """End without sending what is left."""
        self._force_close(None)
