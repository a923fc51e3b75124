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
from pyproxy.http1.head import CHUNKED, END, UNTIL_EOF, RequestHead, ResponseHead
from pyproxy.http1.reader import Event
from pyproxy.http1.writer import chunk, error_response, interim_head, last_chunk, request_head, response_head
from pyproxy.observe.histogram import BOUNDS, WIDTH
from pyproxy.proxy import retry
from pyproxy.proxy.attempt import GATEWAY_ERRORS, Attempt
from pyproxy.proxy.outcome import (
    AFTER_ANSWER,
    ANSWERED,
    ANSWERING,
    CLIENT_GONE,
    CONNECTING,
    CUT,
    LINGER,
    REQUEST_BODY,
    REQUEST_DONE,
    RESET,
    UNASKED,
    WAITING,
    Fate,
    RequestSide,
    ResponseSide,
    error_text,
)

if TYPE_CHECKING:
    from pyproxy.proxy.downstream import Downstream
    from pyproxy.proxy.plane import DataPlane, ServedPool
    from pyproxy.proxy.upstream import Dial, Upstream


_REFUSED_METHODS = frozenset({b"CONNECT", b"TRACE"})


class Exchange:
    """See the module's docstring; everything public is called by the legs. ``head`` is None if it was refused."""

    __slots__ = (
        "_body_consumed",
        "_chunking",
        "_dial",
        "_fate",
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

    def __init__(self, plane: "DataPlane", downstream: "Downstream", head: RequestHead | None, started: float) -> None:
        self.plane = plane
        self.downstream = downstream
        self.upstream: Upstream | None = None
        self._dial: Dial | None = None
        # what the access log reads
        self.head = head
        self.client = downstream.sender.address
        self.listener = downstream.listener.name
        self.pool = ""
        self.request_id = b"-"
        self.attempts: list[Attempt] = []
        self.status = 0
        self.bytes_sent = 0
        self.duration = 0.0
        self.end = "--"
        # the two sides
        self.request: RequestSide = REQUEST_DONE if head is None or not head.has_body else REQUEST_BODY
        self.response: ResponseSide = UNASKED
        self.finished = False
        # request
        self.served: ServedPool | None = None
        self.bytes_received = 0
        self._started = started
        self._request_bytes = b""
        self._held: list[bytes] | None = None  # body that came before there was a connection
        self._body_consumed = False
        # response
        self._response_begun = False  # the client has got bytes, if only of an interim answer
        self._chunking = False
        self._unframed = False  # only the end of the connection ends the body
        self._keep = False
        self._fate: Fate = CUT

    def __repr__(self) -> str:
        return f"<Exchange {self.head!r} {self.request.name}/{self.response.name} {len(self.attempts)} attempts>"

    # the request

    def start(self, head: RequestHead) -> None:
        """Find who serves the request and send it there, or refuse it."""
        plane = self.plane
        self.request_id = head.request_id or plane.make_request_id()
        if head.forwarded is not None:
            self.client = self.downstream.sender.resolve_client(head.forwarded)
        served = plane.routes.match(head.host, head.target)
        if head.method in _REFUSED_METHODS:
            self.fail(MethodNotAllowed())
        elif served is None:
            self.fail(NoRoute())
        else:
            self.served = served
            self.pool = served.name
            served.budget.requests += 1
            if head.has_body and not self._admit_body(head.content_length or 0):
                return
            self._attempt(served)

    def _admit_body(self, size: int) -> bool:
        """Refuse what is over the limit; else the client's time for the body begins to run."""
        limit = self.plane.limits.body
        if limit is not None and size > limit:
            self.break_off(BodyTooLarge())
            return False
        self.downstream.deadline = self.plane.now + self.plane.client.body_timeout
        return True

    def handle_body(self, data: bytes) -> None:
        """Send a piece of the request body on, or keep it until there is a connection."""
        if self.finished:
            return
        self.bytes_received += len(data)
        if not self._admit_body(self.bytes_received):
            return
        upstream = self.upstream
        if upstream is not None:
            self._body_consumed = True
            upstream.send_parts(self._framed(data))
            if self.response is ANSWERING and not upstream.write_paused:
                self.expect_more(upstream)  # it answers early, and still takes what comes
        elif self.response is CONNECTING:
            self._held = [*(self._held or ()), data]
            self.downstream.hold_body()

    def handle_body_end(self) -> None:
        """Note that the request is complete; from now on the backend's time runs."""
        if self.finished:
            return
        self.request = REQUEST_DONE
        self.downstream.await_nothing()
        upstream = self.upstream
        if upstream is not None:
            if self.head is not None and self.head.chunked:
                upstream.send(last_chunk([]))
            if not upstream.write_paused:
                self.expect_more(upstream)

    def _framed(self, data: bytes) -> tuple[bytes, ...]:
        return chunk(data) if self.head is not None and self.head.chunked else (data,)

    # attempts

    def _attempt(self, served: "ServedPool") -> None:
        """Begin the next attempt, or give up for want of a backend."""
        attempts = self.attempts
        backend = served.pool.pick([attempt.on for attempt in attempts] if attempts else ())
        if backend is None:
            self.fail(NoBackend())
            return
        plane = self.plane
        attempt = Attempt(backend, plane.now)
        attempts.append(attempt)
        attempt.begin(plane.row)
        upstream = backend.keepalive.take()
        if upstream is not None:
            self._send(upstream, attempt)
        else:
            self.response = CONNECTING
            self._dial = plane.dial(self, backend, served.timeouts.connect)

    def connected(self, upstream: "Upstream") -> None:
        """Take a connection that was made for this exchange."""
        self._dial = None
        attempt = self.attempts[-1]
        attempt.connect_time = self.plane.now - attempt.started
        self._send(upstream, attempt)

    def _send(self, upstream: "Upstream", attempt: Attempt) -> None:
        head = self.head
        assert head is not None
        self.upstream = upstream
        self.response = WAITING
        upstream.carry(self, head_only=head.method == b"HEAD")
        if not self._request_bytes:
            forwarded = self.downstream.sender.forwarded_lines(head.forwarded, head.host)
            self._request_bytes = request_head(head, attempt.on.address, forwarded, self.request_id)
        if self.request is REQUEST_DONE:
            self.expect_more(upstream)
        if not head.has_body:
            upstream.send(self._request_bytes)
            return
        out: list[bytes] = [self._request_bytes]
        for data in self._held or ():
            out += self._framed(data)
            self._body_consumed = True
        self._held = None
        if self.request is REQUEST_DONE and head.chunked:
            out.append(last_chunk([]))
        upstream.send_parts(out)
        self.downstream.release_body()

    def upstream_failed(self, error: ExchangeError) -> None:
        """End the attempt that failed; try another backend if that is allowed, else tell the client."""
        if self.finished:
            return
        served = self.served
        assert served is not None
        begun = self.response >= ANSWERING
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
        response = self.response
        if response is UNASKED or response is ANSWERED:
            return
        self.response = ANSWERED if response is ANSWERING else UNASKED
        self.attempts[-1].end(self.plane.row, self.plane.now, failed=failed)
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
            kind = type(event)
            if kind is bytes:
                self.bytes_sent += len(event)
                if self._chunking:
                    out += chunk(event)
                else:
                    out.append(event)
            elif kind is ResponseHead:
                self._handle_head(event, out)
                if self.upstream is not upstream:
                    return  # the attempt is over; the rest is nobody's
            elif event is END:
                self._handle_end(out)
                return
            else:
                self._flush(out)
                self.upstream_failed(event)
                return
        self._flush(out)
        # Only a body has its deadline moved by what comes: a head must be complete in time, however it drips.
        if upstream is not None and self.response is ANSWERING:
            self.expect_more(upstream)

    def expect_more(self, upstream: "Upstream") -> None:
        """Set the backend's deadline to what the state of both sides asks for."""
        served = self.served
        if upstream.tunnel is None and not upstream.paused_for and served is not None:
            if self.response is ANSWERING:
                upstream.deadline = self.plane.now + served.timeouts.idle
            elif self.request is REQUEST_DONE:
                upstream.deadline = self.plane.now + served.timeouts.response

    def _flush(self, out: list[bytes]) -> None:
        if out:
            self._response_begun = True
            self.downstream.send_parts(out)

    def _handle_head(self, head: ResponseHead, out: list[bytes]) -> None:
        request, served, plane = self.head, self.served, self.plane
        assert request is not None
        assert served is not None
        status = head.status
        if status < 200:
            self._handle_interim(request, head)
            return
        self.attempts[-1].answered(plane.row, status, plane.now)
        if status in GATEWAY_ERRORS and self._may_retry(served, GatewayStatus(status)):
            self._end_attempt()
            self._retry(served)
            return
        self.response = ANSWERING
        self.status = status
        framing = head.framing
        if framing is CHUNKED or framing is UNTIL_EOF:
            self._chunking = request.version == 11
            self._unframed = not self._chunking
        self._keep = keep = (
            bool(request.keep_alive)
            and self.request is REQUEST_DONE
            and not self._unframed
            and self.downstream.may_keep()
        )
        trailers = request.te_trailers and framing is CHUNKED
        out.append(response_head(head, version=request.version, keep=keep, trailers=trailers))

    def _handle_interim(self, request: RequestHead, head: ResponseHead) -> None:
        if head.status != 101:
            if request.version == 11:
                self._flush([interim_head(head)])
            return
        if request.upgrade is None or head.upgrade is None:
            self.upstream_failed(BadResponse("101 that nobody asked for"))
            return
        self.attempts[-1].answered(self.plane.row, head.status, self.plane.now)
        self.status = head.status
        self.response = ANSWERING
        self._flush([interim_head(head)])
        self.plane.open_tunnel(self)

    def _handle_end(self, out: list[bytes]) -> None:
        upstream, request = self.upstream, self.head
        assert upstream is not None
        assert request is not None
        if self._chunking:
            out.append(last_chunk(upstream.reader.trailers if request.te_trailers else []))
        self._end_attempt(keep=upstream.reader.reusable and self.request is REQUEST_DONE)
        self._flush(out)
        self._answered("--", AFTER_ANSWER[self.request][self._keep])

    def _answered(self, end: str, fate: Fate) -> None:
        """Finish now, or when the client has read: a client that doesn't read gets no further answers."""
        if self.downstream.write_paused:  # answer_flushed follows, or break_off, or client_gone
            self.response = ANSWERED
            self.end, self._fate = end, fate
        else:
            self._finish(end, fate)

    @property
    def is_answered(self) -> bool:
        """Whether the answer was written, if not yet flushed."""
        return self.response is ANSWERED and not self.finished

    def answer_flushed(self) -> None:
        """Finish an exchange whose answer had to wait for the client to read."""
        if not self.finished:
            self._finish(self.end, self._fate)

    # ends

    def fail(self, error: ExchangeError) -> None:
        """Answer with an error of ours; nothing of a final answer has been sent."""
        if self.finished:
            return
        self._end_attempt()
        head = self.head
        # After a mistake of the client's nobody knows where its next request would begin.
        kept = head is not None and bool(head.keep_alive) and self.downstream.may_keep()
        understood = head is not None and not isinstance(error, DownstreamError)
        self._keep = understood and kept and self.request is REQUEST_DONE
        text = error_text(error)
        self.status = error.status
        has_body = head is None or head.method != b"HEAD"
        self.bytes_sent = len(text) + 1 if has_body else 0
        version = head.version if head is not None else 11
        answer = error_response(
            error.status, text, date=self.plane.date, version=version, keep=self._keep, body=has_body
        )
        self.downstream.send(answer)
        self._answered(error.end, AFTER_ANSWER[self.request][self._keep] if understood else LINGER)

    def break_off(self, error: ExchangeError) -> None:
        """End it before its time, with an answer if there is still room for one."""
        if self.finished:
            return
        if self.response >= ANSWERING:
            self._end_attempt()
            self._cut(error)
        else:
            self.fail(error)

    def client_gone(self) -> None:
        """End it without an answer: nobody is there to read it."""
        if self.finished:
            return
        end = CLIENT_GONE[self.request, self.response] if self.head is not None else "CR"
        self._end_attempt()
        self.status = self.status or ClientGone.status
        self._finish(end, CUT)

    def tunnel_ended(self, end: str) -> None:
        """Finish an exchange that had become a tunnel."""
        if not self.finished:
            self._end_attempt(flush=end == "--")
            self._finish(end, CUT)

    def _cut(self, error: ExchangeError) -> None:
        self._finish(error.end, RESET if self._unframed else CUT)

    def _finish(self, end: str, fate: Fate) -> None:
        """Count, log, and leave the client's connection to its fate: the one place where an exchange ends."""
        self.finished = True
        plane, downstream = self.plane, self.downstream
        row = plane.row
        self.end = end
        self.duration = duration = plane.now - self._started
        row[downstream.listener.codes[self.pool] + self.status // 100 - 1] += 1
        histogram = plane.duration_columns[self.pool]
        row[histogram + bisect_left(BOUNDS, duration)] += 1
        row[histogram + WIDTH - 1] += int(duration * 1e9)
        row[plane.end_columns[end]] += 1
        plane.log(self)
        downstream.exchange_done(fate)
