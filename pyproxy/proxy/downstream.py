"""
The client's leg: a connection on which requests come one after another and are answered in that order.

Must not know pools or backends. Theory of operation::

    PREFACE ─────────> a PROXY header must come first, where the listener wants one
      │
    HTTP ──────────── events of the reader go to the exchange; one exchange at a time
      │ 101              what belongs to the next request waits: as bytes in _input, or as events in _events
      ├──────────> TUNNEL    bytes go to the tunnel
      │ refused, or answered before the request was read
      ├──────────> LINGER    our side is closed; what the client still sends is read and thrown away, so that
      │                      no RST destroys the answer on its way (``lingering``)
      └──────────> CLOSING   the last bytes are being flushed

A FIN from the client means that it left: nobody waits for the answer any more (ADR 0011); only a tunnel has two
halves.
"""

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from pyproxy.clock import monotonic
from pyproxy.errors import (
    BadRequest,
    BodyTimeout,
    ClientTooSlow,
    ConnectionLimit,
    ExchangeError,
    RequestTimeout,
    ShuttingDown,
)
from pyproxy.http1.head import END, RequestHead
from pyproxy.http1.reader import Event
from pyproxy.http1.request import RequestReader
from pyproxy.proxy.client_leg import CLOSING, HTTP, LINGERING, PREFACE, TUNNEL, ClientLeg
from pyproxy.proxy.ends import sender_of
from pyproxy.proxy.exchange import Exchange
from pyproxy.proxy.flow import FOREVER, NOT_CONNECTED, PIPELINED, SPLICED, WRITE_FULL
from pyproxy.proxy.outcome import LINGER, NEXT, REQUEST_BODY, REQUEST_DONE, RESET, Fate
from pyproxy.proxy.refusals import over

if TYPE_CHECKING:
    from pyproxy.proxy.plane import DataPlane
    from pyproxy.proxy.served import ServedListener
    from pyproxy.proxy.tunnel import Tunnel

#: httptools parses whatever it is given, so many small requests are fed in slices: no more of them than fit into
#: a slice are ever parsed ahead.
SLICE_BYTES: Final = 8 * 1024
#: As nginx's lingering_timeout and lingering_time.
LINGER_SILENCE_SECONDS: Final = 5.0
LINGER_SECONDS: Final = 30.0
#: Who is one connection too many gets this long to read that, however it keeps sending.
REFUSED_SECONDS: Final = 1.0
#: While stopping, a first request may still come for this long, and a refused client may read its answer.
STOPPING_SECONDS: Final = 1.0


class Downstream(ClientLeg):
    """A client's connection."""

    __slots__ = (
        *("reader", "requests", "tunnel", "_is_counted", "_linger_until"),
        *("exchange", "_head_since", "_input", "_taken_bytes", "_events", "_pumping"),
    )

    def __init__(self, plane: "DataPlane", listener: "ServedListener") -> None:
        super().__init__(plane, listener)
        # per connection
        self.reader = RequestReader(plane.head_limits)
        self.requests = 0
        self.tunnel: Tunnel | None = None
        self._is_counted = True  # among the connections that are limited; one that only lingers isn't
        self._linger_until = 0.0
        # per request
        self.exchange: Exchange | None = None
        self._head_since = 0.0  # when the first bytes of an incomplete head came; 0 = there are none
        self._input: deque[bytes] | None = None  # not parsed yet
        self._taken_bytes = 0  # of the first of it
        self._events: list[Event] = []  # parsed, not handled yet
        self._pumping = False

    def __repr__(self) -> str:
        return (
            f"<Downstream {self.sender.address.decode()} {self.mode.name} {self.requests} requests {self.exchange!r}>"
        )

    # transport callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Learn who is there; wait for a first request."""
        self.take_transport(transport)
        plane = self.plane
        plane.now = monotonic()
        plane.watch(self)
        plane.row[self.listener.connections_column] += 1
        plane.row[self.listener.connections_total_column] += 1
        if self.listener.proxy_protocol:
            self.mode = PREFACE
        listener = self.listener
        self.identify(sender_of(transport, is_unix=listener.is_unix), listener.port)
        self.deadline = plane.now + plane.client.header_timeout
        if plane.is_over_connection_limit():
            # Not from here: what ends a transport has no effect inside connection_made. Until then nothing is read.
            self.mode = LINGERING
            self._uncount()
            self._linger_until = plane.now + REFUSED_SECONDS
            plane.loop.call_soon(self._refuse_connection)

    def data_received(self, data: bytes) -> None:
        """Take bytes; they are parsed, tunnelled, held back or thrown away."""
        plane = self.plane
        plane.now = monotonic()
        plane.row[plane.bytes_in_column] += len(data)
        try:
            if self.mode:
                data = self._take_in_other_mode(data)
                if not data:
                    return
            if self.exchange is None and self._input is None and len(data) <= SLICE_BYTES:
                events = self.reader.feed(data)
                is_head = bool(events) and type(events[0]) is RequestHead
                if is_head and len(events) == 1:
                    self._begin(events[0])
                elif is_head and len(events) == 3 and type(events[1]) is bytes and events[2] is END:
                    self._begin(events[0], events[1])
                else:
                    self._events += events
                    self._pump()
            elif self.exchange is not None and self.exchange.request is REQUEST_BODY and self._input is None:
                self._take_body(data)
            else:
                self._hold(data)
                self._pump()
        except Exception:
            self._crash()  # which logs it, and ends the exchange and the connection that it happened to

    def eof_received(self) -> bool:
        """Note that the client left; in a tunnel only one half of it ends."""
        if self.tunnel is not None:
            return self.tunnel.eof_from_client()
        self._handle_gone()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Clear up: the exchange ends, the gauge falls, the parser lets go of us."""
        self.plane.unwatch(self)
        if self._is_counted:
            self._uncount()
        else:
            self.plane.lingering.discard(self)
            self.plane.refused.discard(self)
        if self.tunnel is not None:
            if exc is not None:
                for data in self.read_unread():  # that it broke is no verdict on what was said before
                    self.tunnel.from_client(data)
            self.tunnel.client_lost(exc)
        else:
            self._handle_gone()
        self.close_own()
        self.mode = CLOSING
        self.transport = None
        self._input = None
        self._events.clear()
        self.reader.close()

    def _handle_gone(self) -> None:
        self.plane.now = monotonic()
        if self._head_since and self.exchange is None:
            started, self._head_since = self._head_since, 0.0
            self.exchange = Exchange(self.plane, self, None, started)
        exchange = self.exchange
        if exchange is not None:
            try:
                exchange.client_gone()
            except Exception:
                self.plane.crash(exchange)

    def pause_writing(self) -> None:
        """Stop the backend's sending: the client doesn't read."""
        self.write_paused = True
        if self.tunnel is not None:
            self.tunnel.upstream.pause_reading(WRITE_FULL)
            return
        self.await_drain(self.plane.now + self.plane.client.write_timeout)
        if self.exchange is not None and self.exchange.upstream is not None:
            self.exchange.upstream.stop_reading()

    def resume_writing(self) -> None:
        """Let the backend send again, or end the exchange that only waited for this."""
        self.plane.now = monotonic()
        self.write_paused = False
        exchange = self.exchange
        if self.tunnel is not None:
            self.tunnel.upstream.resume_reading(WRITE_FULL)
        elif exchange is not None:
            if exchange.upstream is not None:
                exchange.upstream.resume_reading(WRITE_FULL)
                exchange.expect_more(exchange.upstream)
            self.expect_body()
            exchange.answer_flushed()

    # reading requests

    def _hold(self, data: bytes) -> None:
        if self._input is None:
            self._input = deque()
        self._input.append(data)
        self.pause_reading(PIPELINED)

    def _take_body(self, data: bytes) -> None:
        """Feed a body whole where that is all that can come of it, else in slices."""
        if self.reader.in_plain_body or len(data) <= SLICE_BYTES:
            self._events += self.reader.feed(data)
        else:
            self._hold(data)
        self._pump()

    def _pump(self) -> None:
        """Handle what waits, as far as its turn has come; what ends in here begins the next round of it."""
        if self._pumping:
            return
        self._pumping = True
        try:
            while self.mode is HTTP and not self._is_busy():
                if self._events:
                    self._handle(self._events.pop(0))
                elif self._input:
                    self._events += self.reader.feed(self._next_slice(self._input))
                else:
                    self._await_input()
                    return
            if self.mode is HTTP and self._events:
                self.pause_reading(PIPELINED)
        finally:
            self._pumping = False

    def _await_input(self) -> None:
        """Read on; a head that has begun has its deadline from its first bytes."""
        self._input = None
        self.resume_reading(PIPELINED)
        if self.exchange is None and not self._head_since and self.reader.in_head:
            self._head_since = self.plane.now
            self.deadline = self._head_since + self.plane.client.header_timeout

    def _is_busy(self) -> bool:
        """Whether the next bytes belong to a request whose turn has not come."""
        return self.exchange is not None and self.exchange.request is REQUEST_DONE

    def _next_slice(self, waiting: deque[bytes]) -> bytes:
        data, start = waiting[0], self._taken_bytes
        rest = len(data) - start
        if rest > SLICE_BYTES and not self.reader.in_plain_body:
            self._taken_bytes += SLICE_BYTES
            return data[start : start + SLICE_BYTES]
        waiting.popleft()
        self._taken_bytes = 0
        return data[start:]  # which is no copy where nothing was taken

    def _take_input(self) -> list[bytes]:
        """Give what waits, all at once."""
        waiting = list(self._input or ())
        if self._taken_bytes:
            waiting[0] = waiting[0][self._taken_bytes :]
        self._input = None
        self._taken_bytes = 0
        return waiting

    def _handle(self, event: Event) -> None:
        exchange = self.exchange
        if type(event) is RequestHead:
            self._begin(event)
        elif exchange is None:
            if isinstance(event, ExchangeError):
                self._refuse(event)
        elif event is END:
            exchange.handle_body_end()
        elif type(event) is bytes:
            exchange.handle_body(event)
        else:
            exchange.break_off(event)

    def _begin(self, head: RequestHead, body: bytes | None = None) -> None:
        """Begin an exchange; ``body`` if that came in one piece with the head, which goes on in one piece."""
        self.requests += 1
        plane = self.plane
        started = self._head_since or plane.now
        self._head_since = 0.0
        self.deadline = FOREVER
        exchange = self.exchange = Exchange(plane, self, head, started)
        exchange.start(head, body)

    def _refuse(self, error: ExchangeError) -> None:
        """Answer something that never became a request."""
        if self.mode or self.exchange is not None:
            return
        started = self._head_since or self.plane.now
        self._head_since = 0.0
        self.exchange = Exchange(self.plane, self, error.head, started)
        self.exchange.fail(error)

    def _uncount(self) -> None:
        self._is_counted = False
        self.plane.row[self.listener.connections_column] -= 1

    def _refuse_connection(self) -> None:
        if self.transport is not None:
            self.mode = HTTP
            self._refuse(ConnectionLimit(note=over("limits.connections", self.plane.limits.connections, "")))

    def _take_in_other_mode(self, data: bytes) -> bytes:
        """Take bytes that aren't HTTP, and return what behind them is."""
        if self.tunnel is not None:
            self.tunnel.from_client(data)
        elif self.mode is LINGERING:
            self.deadline = min(self.plane.now + LINGER_SILENCE_SECONDS, self._linger_until)
        elif self.mode is PREFACE:
            try:
                return self.take_preface(data)
            except BadRequest as error:
                self.mode = HTTP
                self._refuse(error)
        return b""

    def _crash(self) -> None:
        """Log what went wrong; it costs this connection's exchange and the connection, nothing else."""
        self.plane.crash(self.exchange)
        if not self.mode:
            self.abort()

    # what the exchange asks for

    def may_keep(self) -> bool:
        """Whether the connection may carry another request."""
        return self.plane.keeps_clients and self.requests < self.plane.max_requests

    @property
    def has_input(self) -> bool:
        """Whether something that was read still waits for its turn."""
        return self._input is not None or bool(self._events)

    def hold_body(self) -> None:
        """Stop reading the body until the exchange has a connection."""
        self.stop_reading_body(NOT_CONNECTED)

    def release_body(self) -> None:
        """Read the body again after ``hold_body``."""
        self.resume_reading_body(NOT_CONNECTED)

    def stop_reading_body(self, reason: int) -> None:
        """Stop reading; it is not the client that is slow now."""
        self.pause_reading(reason)
        if not self.write_paused:
            self.deadline = FOREVER

    def resume_reading_body(self, reason: int) -> None:
        """Read the body again."""
        self.resume_reading(reason)
        if not self.write_paused:
            self.expect_body()

    def await_nothing(self) -> None:
        """Stop the client's clock: the request is complete."""
        if not self.write_paused:
            self.deadline = FOREVER

    def expect_body(self) -> None:
        """Let the client's time for the next piece of a body run, if that is what is awaited."""
        waits = self.exchange is not None and self.exchange.request is REQUEST_BODY and not self.paused_for
        self.deadline = self.plane.now + self.plane.client.body_timeout if waits else FOREVER

    def open_tunnel(self, tunnel: "Tunnel") -> None:
        """Pass bytes on from now on, first of all those that came too early."""
        self.tunnel = tunnel
        self.mode = TUNNEL
        for data in [self.reader.rest, *self._take_input()]:
            if data:
                tunnel.from_client(data)
        self.resume_reading(PIPELINED)

    def exchange_done(self, fate: Fate) -> None:
        """Let go of a finished exchange and go on as it decided."""
        self.exchange = None
        if fate is NEXT:
            self._expect_next()
        elif fate is LINGER:
            self._linger()
        elif fate is RESET:
            self.reset()
        else:
            self.close()

    def _expect_next(self) -> None:
        self.deadline = self.plane.now + self.plane.client.keepalive
        if self.reader.suspended:
            rest = self.reader.rest
            self.reader.resume()
            if rest:
                self._input = deque([rest, *self._take_input()])
                self.pause_reading(PIPELINED)
        if not self.plane.keeps_clients:
            self.close()
        elif self.paused_for or self.reader.in_head:
            self.resume_reading(NOT_CONNECTED | WRITE_FULL)
            self._pump()

    # ends

    def _linger(self) -> None:
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        self.mode = LINGERING
        self._input = None
        self._events.clear()
        plane = self.plane
        if self._is_counted:
            self._uncount()
            self._linger_until = plane.now + LINGER_SECONDS
            plane.lingering.add(self)
        else:
            plane.refused.add(self)
        self.deadline = min(plane.now + LINGER_SILENCE_SECONDS, self._linger_until)
        transport.write_eof()
        self.resume_reading(NOT_CONNECTED | PIPELINED | WRITE_FULL | SPLICED)

    def give_way(self) -> None:
        """Linger no longer; what was written and is still here has a moment to go out."""
        self.close()
        self.deadline = self.plane.now + REFUSED_SECONDS

    def drain(self) -> None:
        """Close if nothing is going on; while stopping, the next answer says ``Connection: close``."""
        if self.mode is HTTP and self.exchange is None and self.requests and not self._head_since:
            self.close()
        elif self.mode is LINGERING or (self.mode in {HTTP, PREFACE} and not self.requests):
            self.deadline = min(self.deadline, self.plane.now + STOPPING_SECONDS)

    def abandon(self) -> None:
        """End whatever is going on: the grace is over."""
        if self.tunnel is not None:
            self.tunnel.grace_ended()
        elif self.exchange is not None:
            self.exchange.break_off(ShuttingDown())
        if self.transport is not None:
            self.close()

    def on_deadline(self, now: float) -> None:
        """Find out which deadline it was, and act on it."""
        exchange, client = self.exchange, self.plane.client
        if self.tunnel is not None:
            self.tunnel.expired()
        elif self.write_paused and self.has_drained_some() and self.mode is not CLOSING:
            self.await_drain(now + self.plane.client.write_timeout)
        elif self.mode:
            self.abort()
        elif exchange is not None and self.write_paused:
            exchange.break_off(ClientTooSlow(note=over("client.write_timeout", client.write_timeout)))
            self.abort()
        elif exchange is not None:
            self.deadline = FOREVER
            exchange.break_off(BodyTimeout(note=over("client.body_timeout", client.body_timeout)))
        elif self._head_since:
            self._refuse(RequestTimeout(note=over("client.header_timeout", client.header_timeout)))
        else:
            self.close()
