"""
The backend's leg: a connection that carries one exchange at a time or is idle, and the dialling of new ones.

Must not know routes, policies or retries: what comes in goes to the exchange, which decides.
"""

import asyncio
import errno
import logging
import os
from typing import TYPE_CHECKING, Final

from pyproxy.balance.backend import Backend
from pyproxy.clock import monotonic
from pyproxy.errors import (
    BodyStalled,
    ConnectionReset,
    DescriptorLimit,
    DialFailed,
    DialTimeout,
    ExchangeError,
    Internal,
    NoLocalPort,
    ResponseTimeout,
    ResponseTruncated,
)
from pyproxy.http1.response import ResponseReader
from pyproxy.proxy.flow import FOREVER, SPLICED, WRITE_FULL, Leg
from pyproxy.proxy.keepalive import Keepalive, idle_seconds
from pyproxy.proxy.outcome import ANSWERING
from pyproxy.proxy.refusals import over

if TYPE_CHECKING:
    from pyproxy.proxy.exchange import Exchange
    from pyproxy.proxy.plane import DataPlane
    from pyproxy.proxy.tunnel import Tunnel

_log = logging.getLogger("worker")

#: Why something is ended that had not failed yet.
_IS_DOWN: Final = "Checks say that the backend is down"

#: Up to here one write of joined bytes beats a list of buffers.
JOIN_BYTES: Final = 16 * 1024


class Upstream(Leg):
    """A connection to one backend."""

    __slots__ = (
        *("backend", "exchange", "idle_timeout", "is_broken", "keepalive", "plane", "reader", "requests", "tunnel"),
    )

    def __init__(
        self, plane: "DataPlane", backend: Backend, keepalive: "Keepalive[Upstream]", idle_timeout: float
    ) -> None:
        super().__init__()
        self.plane = plane
        self.backend = backend
        self.keepalive = keepalive  # where it waits for its next exchange: its backend's, or one client's own
        self.reader = ResponseReader()
        self.requests = 0
        self.is_broken = False  # a write failed, or a splice saw a reset that reading won't report
        self.idle_timeout = idle_timeout  # between two reads or writes of a body
        self.exchange: Exchange | None = None
        self.tunnel: Tunnel | None = None

    @property
    def is_idle(self) -> bool:
        """Whether it waits for its next exchange."""
        return self.exchange is None and self.tunnel is None

    @property
    def is_heard(self) -> bool:
        """Whether what it sends is taken, by us or by a splice that doesn't wait for the client."""
        paused_for = self.paused_for
        if paused_for == SPLICED and self.exchange is not None:
            return not self.exchange.downstream.write_paused
        return not paused_for

    def __repr__(self) -> str:
        return f"<Upstream {self.backend.pool}/{self.backend.name} {self.requests} requests {self.exchange!r}>"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport; the exchange hears of it from whoever dialled."""
        self.take_transport(transport)

    # what the exchange asks for

    def carry(self, exchange: "Exchange", *, head_only: bool) -> None:
        """Belong to an exchange until ``let_go``."""
        self.exchange = exchange
        self.requests += 1
        self.deadline = FOREVER
        self.reader.begin(head_only=head_only)

    def move(self, backend: Backend) -> None:
        """Carry what another pool sends to the same address."""
        self.backend = backend
        self.idle_timeout = self.plane.pools[backend.pool].timeouts.idle

    def is_idle_since(self, since: float) -> bool:
        """Whether it was idle then already; one that the backend keeps for less than we do seems idle for longer."""
        return self.deadline - self.keepalive.idle <= since

    def send(self, data: bytes) -> None:
        """Write; the deadline of a body's writing runs only while the buffer is full."""
        transport = self.transport
        if transport is not None and not transport.is_closing():  # else its end is on the way to the exchange
            transport.write(data)

    def send_parts(self, parts: list[bytes]) -> None:
        """Write several pieces; large ones are not copied together."""
        size = 0
        for part in parts:
            size += len(part)
        if size <= JOIN_BYTES:
            self.send(b"".join(parts))
        elif self.is_open and self.transport is not None:
            self.transport.writelines(parts)

    def stop_reading(self) -> None:
        """Wait until the client has read; it is not the backend that is slow now."""
        self.pause_reading(WRITE_FULL)
        self.deadline = FOREVER

    def open_tunnel(self, tunnel: "Tunnel") -> None:
        """Pass bytes on from now on; the tunnel has its own deadline."""
        self.tunnel = tunnel
        self.deadline = FOREVER

    def let_go(self, *, keep: bool, flush: bool = False) -> None:
        """Belong to nobody any more: wait for the next exchange if that is possible, else close."""
        exchange, self.exchange = self.exchange, None
        plane, keepalive = self.plane, self.keepalive
        idle, hint = keepalive.idle, self.reader.hint
        if hint is not None:
            idle = idle_seconds(idle, hint[0]) if hint[1] else 0.0
        if (
            keep
            and not plane.draining
            and not self.write_paused
            and self.requests < keepalive.max_requests
            and not self.is_broken
            and idle > 0.0
            and not (
                keepalive.waiting
                and exchange is not None
                and keepalive.gives_way(exchange.attempts[-1].started, plane.now)
            )
            and keepalive.put(self)
        ):
            if self.paused_for:
                self.resume_reading(WRITE_FULL)
            self.deadline = plane.now + idle
        elif flush and self.transport is not None:
            self.transport.close()
            self.deadline = self.plane.now + self.idle_timeout
        else:
            self.close()

    def close(self) -> None:
        """Drop the connection with whatever was not sent."""
        self.deadline = FOREVER
        if self.transport is not None:
            self.transport.abort()

    def backend_down(self) -> None:
        """End what it carries: checks say that the backend is down."""
        tunnel, exchange = self.tunnel, self.exchange
        if tunnel is not None:
            tunnel.backend_lost(ConnectionResetError())
        elif exchange is not None:
            begun = exchange.response is ANSWERING
            self.plane.contain(
                exchange, exchange.upstream_failed, ResponseTruncated(_IS_DOWN) if begun else ConnectionReset(_IS_DOWN)
            )

    # transport callbacks

    def data_received(self, data: bytes) -> None:
        """Hand what came to the tunnel or exchange; bytes that nobody asked for end the connection."""
        self.plane.now = monotonic()
        if self.tunnel is not None:
            self.tunnel.from_backend(data)
            return
        exchange = self.exchange
        if exchange is None:
            self.keepalive.discard(self)
            self.close()
            return
        try:
            exchange.handle_response(self.reader.feed(data))
        except Exception:
            self.plane.crash(exchange)

    def eof_received(self) -> bool:
        """Let the transport close, unless a tunnel still goes the other way."""
        if self.tunnel is not None:
            return self.tunnel.eof_from_backend()
        self._handle_end(clean=not self.is_broken)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever relied on the connection; that it broke is no verdict on what was said before."""
        self.plane.unwatch(self)
        if exc is not None and not self.is_idle:
            self.is_broken = True
            if self.exchange is not None and self.exchange.reads_apart():
                self.transport = None  # the splice has a descriptor of its own, and finds the end by itself
                return
            self._take_last()
        if self.tunnel is not None:
            self.tunnel.backend_lost(exc)
        else:
            self._handle_end(clean=False)
        self.transport = None
        self.reader.close()

    def _take_last(self) -> None:
        """Take what came before the connection broke, as if it had been read in time."""
        for data in self.read_unread():
            if self.is_idle:
                return
            self.data_received(data)

    def _handle_end(self, *, clean: bool) -> None:
        self.plane.now = monotonic()
        exchange = self.exchange
        if exchange is None:
            self.keepalive.discard(self)
            return
        event = self.reader.end_of_stream(clean=clean)
        if event is not None:
            try:
                exchange.handle_response([event])
            except Exception:
                self.plane.crash(exchange)

    def pause_writing(self) -> None:
        """Stop the client's sending: the backend doesn't read."""
        self.write_paused = True
        if self.tunnel is not None:
            self.tunnel.downstream.pause_reading(WRITE_FULL)
        elif self.exchange is not None:
            self.await_drain(self.plane.now + self.idle_timeout)
            self.exchange.downstream.stop_reading_body(WRITE_FULL)

    def resume_writing(self) -> None:
        """Let the client send again."""
        self.plane.now = monotonic()
        self.write_paused = False
        if self.tunnel is not None:
            self.tunnel.downstream.resume_reading(WRITE_FULL)
        elif self.exchange is not None:
            self.deadline = FOREVER
            self.exchange.expect_more(self)
            self.exchange.downstream.resume_reading_body(WRITE_FULL)

    def on_deadline(self, now: float) -> None:
        """Give up an idle connection, or the attempt that waits in vain."""
        exchange = self.exchange
        if exchange is None:
            self.keepalive.discard(self)
            self.close()
            return
        if self.write_paused and self.has_drained_some():
            self.await_drain(now + self.idle_timeout)
            return
        self.deadline = FOREVER
        stalled = exchange.response is ANSWERING
        timeouts = self.plane.pools[self.backend.pool].timeouts
        if stalled:
            exchange.upstream_failed(BodyStalled(note=over("timeouts.idle", timeouts.idle)))
        else:
            note = exchange.name_limit("timeouts.response", timeouts.response, now)
            exchange.upstream_failed(ResponseTimeout(note=note))


def _dial_error(error: OSError) -> ExchangeError:
    """Say whose doing it is that there is no connection."""
    if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}:
        return DescriptorLimit(note=_name(error))
    if error.errno == errno.EADDRNOTAVAIL:
        return NoLocalPort()
    if isinstance(error, ConnectionRefusedError):
        return DialFailed()
    return DialFailed("The connection to the backend failed", _name(error))


def _name(error: OSError) -> bytes:
    """Name what the system says, in its words; a loop's own text may hold addresses."""
    return os.strerror(error.errno).encode() if error.errno else type(error).__name__.encode()


class Dial:
    """A connection being made for one exchange; it ends in ``connected``, ``upstream_failed`` or ``cancel``."""

    __slots__ = ("_exchange", "_keepalive", "_made", "_plane", "_task", "backend", "deadline")

    def __init__(
        self,
        plane: "DataPlane",
        exchange: "Exchange",
        backend: Backend,
        keepalive: "Keepalive[Upstream]",
        timeout: float,
    ) -> None:
        self._plane = plane
        self._exchange: Exchange | None = exchange
        self.backend = backend
        self._keepalive = keepalive
        self._made: Upstream | None = None
        self.deadline = plane.now + timeout
        plane.watch(self)
        self._task = plane.loop.create_task(self._run())

    def cancel(self) -> None:
        """Give up; nobody is told."""
        self._exchange = None
        self._plane.unwatch(self)
        self._task.cancel()
        if self._made is not None:
            self._made.close()

    def on_deadline(self, now: float) -> None:
        """Give up and tell the exchange."""
        timeouts, exchange = self._plane.pools[self.backend.pool].timeouts, self._exchange
        if exchange is not None:
            self._fail(DialTimeout(note=exchange.name_limit("timeouts.connect", timeouts.connect, now)))

    def backend_down(self) -> None:
        """Give up and tell the exchange: checks say that the backend is down."""
        self._fail(DialFailed(_IS_DOWN))

    def _fail(self, error: ExchangeError) -> None:
        exchange = self._exchange
        self.cancel()
        if exchange is not None:
            self._plane.contain(exchange, exchange.upstream_failed, error)

    def _make(self) -> Upstream:
        self._made = self._plane.make_upstream(self.backend, self._keepalive)
        return self._made

    async def _connect(self) -> Upstream:
        loop, backend = self._plane.loop, self.backend
        if backend.path:
            _, upstream = await loop.create_unix_connection(  # type: ignore[type-var]  # as below
                self._make, backend.path
            )
        else:
            _, upstream = await loop.create_connection(  # type: ignore[type-var]  # a protocol in all but name, see Leg
                self._make, backend.host, backend.port
            )
        return upstream

    async def _run(self) -> None:
        plane, backend = self._plane, self.backend
        result: Upstream | ExchangeError
        try:
            result = await self._connect()
        except OSError as error:
            result = _dial_error(error)
        except Exception:
            _log.exception("connecting to %r failed", backend)
            result = Internal()
        plane.now = monotonic()
        plane.unwatch(self)
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            if isinstance(result, Upstream):
                result.close()
            return
        try:
            if isinstance(result, Upstream):
                # Not in connection_made: uvloop closes what a cancelled dial has made without telling the protocol.
                plane.watch(result)
                exchange.connected(result)
            else:
                exchange.upstream_failed(result)
        except Exception:
            plane.crash(exchange)
