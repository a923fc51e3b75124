"""
One request and its response: what happens between a request head and a line in the access log.

Must not know asyncio, sockets or the clock: the legs and the data plane are handed in and do the I/O. Theory of
operation, with the states of ``outcome``:

``start`` finds route, pool and backend and asks the plane for a connection: ``connected`` follows at once for one
that was kept alive, later for a new one, or ``upstream_failed``. Events of the readers come in through
``handle_body``/``handle_body_end`` (request) and ``handle_response``. Whatever happens, ``_finish`` runs exactly
once: counters, log line, and what becomes of the client's connection. Each attempt likewise ends exactly once, in
``_end_attempt``, which gives the connection back or closes it.
"""

from bisect import bisect_left
from typing import TYPE_CHECKING

from pyproxy.balance.backend import Backend
from pyproxy.errors import (
    BadResponse,
    BodyTooLarge,
    ClientGone,
    DownstreamError,
    ExchangeError,
    GatewayStatus,
    MethodNotAllowed,
    NoBackend,
    NoRoute,
    ResponseTruncated,
)
from pyproxy.http1.head import END, Framing, RequestHead, ResponseHead
from pyproxy.http1.reader import Event
from pyproxy.http1.writer import chunk, error_response, interim_head, last_chunk, request_head, response_head
from pyproxy.observe.histogram import BOUNDS, WIDTH
from pyproxy.proxy import retry
from pyproxy.proxy.outcome import AFTER_ANSWER, CLIENT_GONE, Fate, RequestSide, ResponseSide, error_text

if TYPE_CHECKING:
    from pyproxy.proxy.downstream import Downstream
    from pyproxy.proxy.plane import DataPlane, ServedPool
    from pyproxy.proxy.upstream import Dial, Upstream


class Attempt:
    """One try on one backend, as the access log shows it."""

    __slots__ = ("backend", "connect_time", "duration", "header_time", "on", "started", "status")

    def __init__(self, on: Backend, started: float) -> None:
        self.on = on
        self.backend = on.name
        self.started = started
        self.status = 0
        self.connect_time: float | None = None
        self.header_time: float | None = None
        self.duration = 0.0


class Exchange:
    """See the module's docstring; everything public is called by the legs."""

    __slots__ = (
        "_body_consumed",
        "_chunking",
        "_dial",
        "_held",
        "_keep",
        "_request_bytes",
        "_response_begun",
        "_started",
        "_unframed",
        "attempts",
        "bytes_received",
        "bytes_sent",
        "client",
        "downstream",
        "duration",
        "end",
        "finished",
        "head",
        "listener",
        "plane",
        "pool",
        "request",
        "request_id",
        "response",
        "served",
        "status",
        "upstream",
    )

    def __init__(
        self, plane: "DataPlane", downstream: "Downstream", head: RequestHead | None, started: float
    ) -> None:
        self.plane = plane
        self.downstream = downstream
        self.upstream: Upstream | None = None
        self._dial: Dial | None = None
        # what the access log reads
        self.head = head
        self.client = downstream.client
        self.listener = downstream.listener.name
        self.pool = ""
        self.request_id = b"-"
        self.attempts: list[Attempt] = []
        self.status = 0
        self.bytes_sent = 0
        self.duration = 0.0
        self.end = "--"
        # the two sides
        self.request = RequestSide.DONE if head is None or not head.has_body else RequestSide.BODY
        self.response = ResponseSide.NONE
        self.finished = False
        # request
        self.served: ServedPool | None = None
        self.bytes_received = 0
        self._started = started
        self._request_bytes = b""
        self._held: list[bytes] = []  # body that came before there was a connection
        self._body_consumed = False
        # response
        self._response_begun = False  # the client has got bytes, if only of an interim answer
        self._chunking = False
        self._unframed = False  # only the end of the connection ends the body
        self._keep = False

    def __repr__(self) -> str:
        return f"<Exchange {self.head!r} {self.request.name}/{self.response.name} {len(self.attempts)} attempts>"

    # the request

    def start(self, head: RequestHead) -> None:
        """Find who serves the request and send it there, or refuse it."""
        plane = self.plane
        self.request_id = head.request_id or plane.make_request_id()
        if head.forwarded is not None:
            self.client = self.downstream.resolve_client(head.forwarded)
        if head.method == b"TRACE":
            self.fail(MethodNotAllowed())
            return
        served = plane.routes.match(head.host, head.target)
        if served is None:
            self.fail(NoRoute())
            return
        self.served = served
        self.pool = served.name
        body_limit = plane.limits.body
        if body_limit is not None and head.content_length is not None and head.content_length > body_limit:
            self.fail(BodyTooLarge())
            return
        served.budget.requests += 1
        if self.request is RequestSide.BODY:
            self.downstream.deadline = plane.clock() + plane.client.body_timeout
        self._attempt(served)

    def handle_body(self, data: bytes) -> None:
        """Send a piece of the request body on, or keep it until there is a connection."""
        if self.finished:
            return
        self.bytes_received += len(data)
        limit = self.plane.limits.body
        if limit is not None and self.bytes_received > limit:
            self.client_failed(BodyTooLarge())
            return
        downstream = self.downstream
        downstream.deadline = self.plane.clock() + self.plane.client.body_timeout
        upstream = self.upstream
        if upstream is None:
            self._held.append(data)
            downstream.hold_body()
        else:
            self._body_consumed = True
            upstream.send(self._framed(data))

    def handle_body_end(self) -> None:
        """Note that the request is complete; from now on the backend's time runs."""
        if self.finished:
            return
        self.request = RequestSide.DONE
        self.downstream.await_nothing()
        upstream = self.upstream
        if upstream is not None:
            if self.head is not None and self.head.chunked:
                upstream.send((last_chunk([]),))
            if not upstream.write_paused:
                self.expect_more(upstream)

    def _framed(self, data: bytes) -> tuple[bytes, ...]:
        return chunk(data) if self.head is not None and self.head.chunked else (data,)

    # attempts

    def _attempt(self, served: "ServedPool") -> None:
        """Begin the next attempt, or give up for want of a backend."""
        tried = [attempt.on for attempt in self.attempts] if self.attempts else ()
        backend = served.pool.pick(tried)
        if backend is None:
            self.fail(NoBackend())
            return
        plane = self.plane
        self.attempts.append(Attempt(backend, plane.clock()))
        backend.active += 1
        plane.row[backend.columns.active] += 1
        plane.row[backend.columns.total] += 1
        upstream = backend.keepalive.take()
        if upstream is not None:
            self._send(upstream)
        else:
            self.response = ResponseSide.CONNECTING
            self._dial = plane.dial(self, backend, served.timeouts.connect)

    def connected(self, upstream: "Upstream") -> None:
        """Take a connection that was made for this exchange."""
        self._dial = None
        attempt = self.attempts[-1]
        attempt.connect_time = self.plane.clock() - attempt.started
        self._send(upstream)

    def _send(self, upstream: "Upstream") -> None:
        head, served = self.head, self.served
        assert head is not None
        assert served is not None
        self.upstream = upstream
        self.response = ResponseSide.WAITING
        upstream.carry(self, head_only=head.method == b"HEAD")
        if not self._request_bytes:
            forwarded = self.downstream.forwarded_lines(head)
            address = self.attempts[-1].on.address
            self._request_bytes = request_head(head, address, forwarded, self.request_id)
        if self.request is RequestSide.DONE:
            attempt = self.attempts[-1]
            upstream.deadline = attempt.started + (attempt.connect_time or 0.0) + served.timeouts.response
        if not head.has_body:
            upstream.send((self._request_bytes,))
            return
        out: list[bytes] = [self._request_bytes]
        for data in self._held:
            out += self._framed(data)
        if self._held:
            self._held = []
            self._body_consumed = True
        if self.request is RequestSide.DONE and head.chunked:
            out.append(last_chunk([]))
        upstream.send(out)
        if self.request is RequestSide.BODY:
            self.downstream.release_body()

    def upstream_failed(self, error: ExchangeError) -> None:
        """End the attempt that failed; try another backend if that is allowed, else tell the client."""
        if self.finished:
            return
        served = self.served
        assert served is not None
        begun = self.response >= ResponseSide.BODY
        self._end_attempt(failed=True)
        if begun:
            self._cut(error if error.end in {"SD", "sD"} else ResponseTruncated())
        elif self._may_retry(served, error):
            self._retry(served)
        else:
            self.fail(error)

    def _may_retry(self, served: "ServedPool", error: ExchangeError) -> bool:
        head = self.head
        return (
            head is not None
            and not self.plane.draining
            and retry.decide(
                served.retry,
                served.budget,
                error,
                method=head.method,
                attempts=len(self.attempts),
                body_consumed=self._body_consumed,
                response_begun=self._response_begun,
            )
        )

    def _retry(self, served: "ServedPool") -> None:
        served.budget.retries += 1
        self.plane.row[served.retries_column] += 1
        if self.head is not None and self.head.host is None:
            self._request_bytes = b""  # it carries the backend's own address as Host
        self._attempt(served)

    def _end_attempt(self, *, keep: bool = False, failed: bool = False, flush: bool = False) -> None:
        """Let go of the connection and of the backend; a second call finds nothing left to do."""
        if self.response is ResponseSide.NONE or self.response is ResponseSide.DONE:
            return
        self.response = ResponseSide.DONE if self.response is ResponseSide.BODY else ResponseSide.NONE
        attempt = self.attempts[-1]
        backend = attempt.on
        attempt.duration = self.plane.clock() - attempt.started
        row, columns = self.plane.row, backend.columns
        backend.active -= 1
        row[columns.active] -= 1
        if failed or attempt.status in _GATEWAY_ERRORS:
            row[columns.errors] += 1
        if self._dial is not None:
            self._dial.cancel()
            self._dial = None
        upstream, self.upstream = self.upstream, None
        if upstream is not None:
            upstream.let_go(keep=keep, flush=flush)

    # the response

    def handle_response(self, events: list[Event]) -> None:
        """Take what one read of the backend's connection brought."""
        out: list[bytes] = []
        upstream = self.upstream
        for event in events:
            if self.upstream is not upstream or upstream is None:
                return  # the attempt is over; the rest is nobody's
            kind = type(event)
            if kind is bytes:
                self.bytes_sent += len(event)
                if self._chunking:
                    out += chunk(event)
                else:
                    out.append(event)
            elif kind is ResponseHead:
                self._handle_head(event, out)
            elif event is END:
                self._handle_end(out)
                return
            else:
                self._flush(out)
                self.upstream_failed(event)
                return
        self._flush(out)
        if upstream is not None and upstream is self.upstream and upstream.is_reading:
            self.expect_more(upstream)

    def expect_more(self, upstream: "Upstream") -> None:
        """Set the backend's deadline to what the state of both sides asks for."""
        if upstream.tunnel is not None or self.served is None:
            return
        if self.response is ResponseSide.BODY:
            upstream.deadline = self.plane.clock() + self.served.timeouts.idle
        elif self.request is RequestSide.DONE:
            upstream.deadline = self.plane.clock() + self.served.timeouts.response

    def _flush(self, out: list[bytes]) -> None:
        if out:
            self._response_begun = True
            self.downstream.send(out)

    def _handle_head(self, head: ResponseHead, out: list[bytes]) -> None:
        request, served = self.head, self.served
        assert request is not None
        assert served is not None
        if head.status < 200:
            self._handle_interim(request, head)
            return
        attempt = self.attempts[-1]
        attempt.status = head.status
        attempt.header_time = taken = self.plane.clock() - attempt.started
        row, columns = self.plane.row, attempt.on.columns
        row[columns.codes + head.status // 100 - 1] += 1
        row[columns.response + bisect_left(BOUNDS, taken)] += 1
        row[columns.response + WIDTH - 1] += int(taken * 1e9)
        if head.status in _GATEWAY_ERRORS and self._may_retry(served, GatewayStatus(head.status)):
            self._end_attempt()
            self._retry(served)
            return
        self.response = ResponseSide.BODY
        self.status = head.status
        delimited = head.framing in {Framing.CHUNKED, Framing.EOF}
        self._chunking = delimited and request.version == 11
        self._unframed = delimited and not self._chunking
        self._keep = (
            bool(request.keep_alive)
            and self.request is RequestSide.DONE
            and not self._unframed
            and self.downstream.may_keep
        )
        trailers = request.te_trailers and head.framing is Framing.CHUNKED
        out.append(response_head(head, version=request.version, keep=self._keep, trailers=trailers))

    def _handle_interim(self, request: RequestHead, head: ResponseHead) -> None:
        if head.status != 101:
            if request.version == 11:
                self._flush([interim_head(head)])
            return
        if request.upgrade is None or head.upgrade is None:
            self.upstream_failed(BadResponse("101 that nobody asked for"))
            return
        attempt = self.attempts[-1]
        attempt.status = self.status = head.status
        attempt.header_time = self.plane.clock() - attempt.started
        self.plane.row[attempt.on.columns.codes] += 1
        self.response = ResponseSide.BODY
        self._flush([interim_head(head)])
        self.plane.open_tunnel(self)

    def _handle_end(self, out: list[bytes]) -> None:
        upstream, request = self.upstream, self.head
        assert upstream is not None
        assert request is not None
        if self._chunking:
            out.append(last_chunk(upstream.reader.trailers if request.te_trailers else []))
        keep = upstream.reader.reusable and self.request is RequestSide.DONE
        self._end_attempt(keep=keep)
        self._flush(out)
        if not self.downstream.write_paused:  # else answer_flushed follows, or client_failed, or client_gone
            self._finish("--", AFTER_ANSWER[self.request][self._keep])

    @property
    def is_answered(self) -> bool:
        """Whether the answer was written, if not yet flushed."""
        return self.response is ResponseSide.DONE and not self.finished

    def answer_flushed(self) -> None:
        """Finish an exchange whose answer had to wait for the client to read."""
        if not self.finished:
            self._finish("--", AFTER_ANSWER[self.request][self._keep])

    # ends

    def fail(self, error: ExchangeError) -> None:
        """Answer with an error of ours; nothing of a final answer has been sent."""
        if self.finished:
            return
        self._end_attempt()
        head = self.head
        version = head.version if head is not None else 11
        framing_is_safe = head is not None and not isinstance(error, DownstreamError)
        framing_is_safe = framing_is_safe or isinstance(error, MethodNotAllowed)
        self._keep = (
            head is not None
            and framing_is_safe
            and bool(head.keep_alive)
            and self.request is RequestSide.DONE
            and self.downstream.may_keep
        )
        text = error_text(error)
        self.status = error.status
        has_body = head is None or head.method != b"HEAD"
        self.bytes_sent = len(text) + 1 if has_body else 0
        answer = error_response(
            error.status, text, date=self.plane.date, version=version, keep=self._keep, body=has_body
        )
        self.downstream.send([answer])
        fate = AFTER_ANSWER[self.request][self._keep]
        self._finish(error.end, fate if framing_is_safe else Fate.LINGER)

    def client_failed(self, error: ExchangeError) -> None:
        """End it because of what the client did or didn't do, with an answer if there is still room for one."""
        if self.finished:
            return
        if self.response >= ResponseSide.BODY:
            self._end_attempt()
            self._cut(error)
        else:
            self.fail(error)

    def client_gone(self) -> None:
        """End it without an answer: nobody is there to read it."""
        if self.finished:
            return
        end = CLIENT_GONE[self.request, self.response]
        self._end_attempt()
        self.status = self.status or ClientGone.status
        self._finish(end, Fate.CUT)

    def abandon(self, error: ExchangeError) -> None:
        """End it at once, whatever is going on: the program stops, or has made a mistake."""
        if self.finished:
            return
        if self.response >= ResponseSide.BODY:
            self._end_attempt()
            self._cut(error)
        else:
            self.fail(error)

    def tunnel_ended(self, end: str) -> None:
        """Finish an exchange that had become a tunnel."""
        if not self.finished:
            self._end_attempt(flush=end == "--")
            self._finish(end, Fate.CUT)

    def _cut(self, error: ExchangeError) -> None:
        self._finish(error.end, Fate.RESET if self._unframed else Fate.CUT)

    def _finish(self, end: str, fate: Fate) -> None:
        """Count, log, and leave the client's connection to its fate: the one place where an exchange ends."""
        self.finished = True
        plane, row = self.plane, self.plane.row
        self.end = end
        self.duration = duration = plane.clock() - self._started
        row[self.downstream.listener.codes[self.pool] + self.status // 100 - 1] += 1
        histogram = plane.duration_columns[self.pool]
        row[histogram + bisect_left(BOUNDS, duration)] += 1
        row[histogram + WIDTH - 1] += int(duration * 1e9)
        row[plane.end_columns[end]] += 1
        plane.log(self)
        self.downstream.exchange_done(fate)


_GATEWAY_ERRORS = frozenset({502, 503, 504})
