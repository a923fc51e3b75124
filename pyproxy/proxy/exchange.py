"""
One request and its response: what happens between a request head and a line in the access log.

Must not know asyncio, sockets or the clock: the legs and the data plane are handed in and do the I/O. Theory of
operation, with the states of ``outcome``:

``start`` finds the route, which may refuse or redirect, then pool and backend, and asks the plane for a connection:
``connected`` follows at once for one that was kept alive, later for a new one, or ``upstream_failed``. While no
backend can be had yet the exchange waits in the pool's line, which calls ``begin``. Events of the readers
come in through ``handle_body``/``handle_body_end`` (request) and ``handle_response``. Whatever happens, ``_finish``
runs exactly once: counters, log line, and what becomes of the client's connection. Each attempt likewise ends
exactly once, in ``_end_attempt``, which gives the connection back or closes it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from pyproxy.errors import (
    BadResponse,
    ExchangeError,
    GatewayStatus,
    MethodNotAllowed,
    Retry,
)
from pyproxy.http1.fields import agrees
from pyproxy.http1.head import CHUNKED, END, UNTIL_EOF, RequestHead, ResponseHead
from pyproxy.http1.reader import Event
from pyproxy.http1.writer import chunk, interim_head, last_chunk, request_head, response_head
from pyproxy.proxy import answers, refusals, retry
from pyproxy.proxy.attempt import GATEWAY_ERRORS, Attempt
from pyproxy.proxy.ending import Ending
from pyproxy.proxy.forwarding import change_request, find_client, host_for
from pyproxy.proxy.outcome import (
    ANSWERED,
    ANSWERING,
    CONNECTING,
    QUEUED,
    REQUEST_BODY,
    REQUEST_DONE,
    UNASKED,
    WAITING,
    fate_after_answer,
)
from pyproxy.proxy.request_body import RequestBody

if TYPE_CHECKING:
    from pyproxy.balance.backend import Backend
    from pyproxy.proxy.downstream import Downstream
    from pyproxy.proxy.keepalive import Keepalive
    from pyproxy.proxy.plane import DataPlane
    from pyproxy.proxy.served import ServedPool, ServedRoute
    from pyproxy.proxy.splice import Splice
    from pyproxy.proxy.sticky import Bond
    from pyproxy.proxy.upstream import Dial, Upstream


REFUSED_METHODS: Final = frozenset({b"CONNECT", b"TRACE"})


class Exchange(Ending):
    """See the module's docstring; everything public is called by the legs."""

    __slots__ = (
        *("upstream", "_dial", "served", "key", "bond", "_request_bytes", "_body"),
        *("_response_begun", "_chunking", "_splice"),
    )

    def __init__(self, plane: "DataPlane", downstream: "Downstream", head: RequestHead | None, started: float) -> None:
        super().__init__(plane, downstream, head, started)
        self.upstream: Upstream | None = None
        self._dial: Dial | None = None
        # request
        self.served: ServedPool | None = None
        self.key = b""  # what policy hash looks at
        self.bond: Bond | None = None  # in a pool with sticky sessions
        self._request_bytes = b""
        self._body: RequestBody | None = None
        # response
        self._response_begun = False  # the client has got bytes, if only of an interim answer
        self._chunking = False
        self._splice: Splice | None = None  # a body, of either side, that passes inside the kernel

    def __repr__(self) -> str:
        return f"<Exchange {self.head!r} {self.request.name}/{self.response.name} {len(self.attempts)} attempts>"

    # the request

    def start(self, head: RequestHead, body: bytes | None = None) -> None:
        """Find who serves the request and send it there, or refuse it; ``body`` is the whole one, if it is there."""
        plane = self.plane
        if body is not None:
            self.request = REQUEST_DONE
        self.request_id = head.request_id or plane.make_request_id()
        if head.forwarded is not None:
            self.client = find_client(head, self.downstream.sender)
        route = plane.routes.match(head.host, head.target, head.method, self.listener, head)
        if head.method in REFUSED_METHODS:
            self.fail(MethodNotAllowed(note=head.method))
        elif route is None:
            self.fail(refusals.no_route(head))
        else:
            self._take(route, head, body)

    def _take(self, route: "ServedRoute", head: RequestHead, body: bytes | None) -> None:
        """Do what the route says."""
        self.route = route
        served = route.pool
        if served is not None:
            self.pool = served.name
        if route.allow is not None and self.client.decode() not in route.allow:
            self.fail(refusals.forbidden(self.client, route.index))
        elif served is None:
            assert route.redirect is not None
            self.why = b"redirected by routes[%d]" % route.index
            location = route.redirect.render_location(self._variables(head))
            self._answer(answers.redirect(route.redirect_status, location, self.plane.date), "PR", understood=True)
        else:
            self.served = served
            served.budget.requests += 1
            if served.hash_key is not None:
                self.key = served.hash_key.of(head, self.client)
            if served.sticky is not None:
                self.bond = served.sticky.bind(head)
            if head.has_body:
                self._body = RequestBody(head, route.body_limit, body)
                if not self._admit(self._body):
                    return
            self._attempt(served)

    def _admit(self, body: RequestBody) -> bool:
        """Refuse what is over the limit; else the client's time for the body runs from now on."""
        if body.is_too_large:
            self.break_off(body.refuse())
            return False
        if self.request is REQUEST_BODY:
            self.downstream.deadline = self.plane.now + self.plane.client.body_timeout
        return True

    def handle_body(self, data: bytes) -> None:
        """Send a piece of the request body on, or keep it until there is a connection."""
        body = self._body
        if self.finished or body is None:
            return
        body.count(data)
        if not self._admit(body):
            return
        upstream = self.upstream
        if upstream is not None:
            if self._is_large(self.downstream.reader.remaining) and not self.downstream.has_input:
                body.is_consumed = True
                self._splice = self.plane.splice_body(self, upstream, data)
                if self._splice is not None:
                    self._splice.start()
                    return
            upstream.send_parts(body.frame(data))
            if self.response is ANSWERING and not upstream.write_paused:
                self.expect_more(upstream)  # it answers early, and still takes what comes
        elif self.response is CONNECTING or self.response is QUEUED:
            body.hold(data)
            self.downstream.hold_body()

    def handle_body_end(self) -> None:
        """Note that the request is complete; from now on the backend's time runs."""
        if self.finished:
            return
        self.request = REQUEST_DONE
        self.downstream.await_nothing()
        end = self._body.end() if self._body is not None else []
        upstream = self.upstream
        if upstream is None:
            self.downstream.release_body()  # there is no more of it: whoever leaves now is to be noticed
        else:
            if end:
                upstream.send_parts(end)
            if not upstream.write_paused:
                self.expect_more(upstream)

    # attempts

    def _attempt(self, served: "ServedPool") -> None:
        """Begin the next attempt, wait for room, or give up for want of a backend."""
        backend = served.pick(self)
        if backend is not None:
            self.begin(backend)
        elif not served.has_another(self) and not served.pool.is_checking:
            self.fail(refusals.no_backend(served.pool))
        elif served.line.join(self):
            self.response = QUEUED
            self.downstream.await_nothing()
        else:
            self.fail(served.line.refuse())

    def tried(self) -> Sequence["Backend"]:
        """Give the backends of the attempts so far."""
        return [attempt.on for attempt in self.attempts] if self.attempts else ()

    def unreachable(self) -> Sequence["Backend"]:
        """Give the backends to which no connection could be made."""
        return [attempt.on for attempt in self.attempts if attempt.is_unreachable] if self.attempts else ()

    def own(self) -> "Backend | None":
        """Give the backend that the client sticks to, first of all the one that its login on a connection is for."""
        if self.downstream.own is not None and self.served is not None:
            pinned = self.downstream.pinned_to(self.served)
            if pinned is not None:
                return pinned
        return self.bond.own() if self.bond is not None else None

    def begin(self, backend: "Backend") -> None:
        """Begin an attempt on the backend that was picked."""
        plane, served = self.plane, self.served
        assert served is not None
        self.response = CONNECTING
        attempt = Attempt(backend, plane.now)
        self.attempts.append(attempt)
        attempt.begin(plane.row)
        served.pool.active += 1
        keepalive: Keepalive[Upstream] = backend.keepalive
        if served.send_proxy is not None or self.downstream.own is not None:
            keepalive = self.downstream.find_keepalive(backend, served)
        upstream = keepalive.take()
        if upstream is not None and (self._body is not None or self.head is None or self.head.method != b"GET"):
            upstream = self._find_open(upstream, keepalive)
        if upstream is not None:
            self._send(upstream, attempt)
        else:
            self._dial = plane.dial(self, backend, keepalive, min(served.timeouts.connect, self._time_left(served)))

    def _find_open(self, upstream: "Upstream | None", keepalive: "Keepalive[Upstream]") -> "Upstream | None":
        """
        Pass over kept connections whose end is in the kernel already, but hasn't been told yet.

        Only for what may not be sent again: it costs 1 µs.
        """
        while upstream is not None and (upstream.deadline <= self.plane.now or upstream.has_news()):
            upstream.close()
            upstream = keepalive.take()
        return upstream

    def _time_left(self, served: "ServedPool") -> float:
        """Give the seconds that are left for all attempts together."""
        return self.attempts[0].started + served.retry.timeout - self.plane.now

    def connected(self, upstream: "Upstream") -> None:
        """Take a connection that was made for this exchange."""
        self._dial = None
        attempt = self.attempts[-1]
        attempt.connect_time = self.plane.now - attempt.started
        served = self.served
        if served is not None and served.send_proxy is not None:
            upstream.send(self.downstream.proxy_header(served.send_proxy))
        self._send(upstream, attempt)

    def _send(self, upstream: "Upstream", attempt: Attempt) -> None:
        head = self.head
        assert head is not None
        self.upstream = upstream
        self.response = WAITING
        upstream.carry(self, head_only=head.method == b"HEAD")
        if not self._request_bytes:
            self._request_bytes = self._make_request(head, attempt.on)
        if self.request is REQUEST_DONE:
            self.expect_more(upstream)
        if self._body is None:
            if len(self.attempts) > 1:
                self._hurry(upstream)
            upstream.send(self._request_bytes)
        else:
            upstream.send_parts([self._request_bytes, *self._body.release()])
            self.downstream.release_body()

    def _hurry(self, upstream: "Upstream") -> None:
        """Give what is sent again no more than what is left of the time for all attempts."""
        served = self.served
        assert served is not None
        if any([attempt.counts for attempt in self.attempts[:-1]]):
            upstream.deadline = min(upstream.deadline, self.plane.now + self._time_left(served))

    def _make_request(self, head: RequestHead, backend: "Backend") -> bytes:
        route = self.route
        assert route is not None
        forwarded, host = self.downstream.sender.forwarded_lines(head.forwarded, head.host), host_for(head, backend)
        if route.is_plain:
            return request_head(head, host, forwarded, self.request_id)
        return change_request(head, route, host, forwarded, self.request_id, self._variables(head))

    def upstream_failed(self, error: ExchangeError) -> None:
        """End a failed attempt; try another backend if there is one and that is allowed, else tell the client."""
        if self.finished:
            return
        served, attempt = self.served, self.attempts[-1]
        assert served is not None
        begun = self.response >= ANSWERING
        self._count_failure(served, error)
        if self.bond is not None:
            self.bond.failed(attempt, error)
        if error.retry is Retry.ALWAYS:
            attempt.is_unreachable, attempt.counts = True, False
        elif attempt.was_closed_as_idle(error):
            # What is kept is closed at any time; but only once for nothing, in case it is this request that does it.
            attempt.counts = any([not before.counts and not before.is_unreachable for before in self.attempts])
        self._end_attempt(failed=True)
        if begun:
            self._cut(error, error.end if error.end in {"SD", "sD"} else "SD")
        elif self._may_retry(served, error):
            self._retry(served)
        else:
            self.fail(error)

    def _count_failure(self, served: "ServedPool", error: ExchangeError) -> None:
        """Hold an error against the backend, unless it was to be expected or is held against it already."""
        attempt = self.attempts[-1]
        if attempt.status >= 400 and self.request is REQUEST_BODY:
            return  # it refuses the upload, and need not wait for its end
        if attempt.status not in GATEWAY_ERRORS and not attempt.was_closed_as_idle(error):
            served.count_failure(attempt, error)

    def _may_retry(self, served: "ServedPool", error: ExchangeError) -> bool:
        head, body = self.head, self._body
        if head is None or self._response_begun or (body is not None and body.is_consumed):
            return False
        is_free = not self.attempts[-1].counts
        if (self.plane.draining and not is_free) or not served.has_another(self):
            return False
        return retry.decide(
            served.retry,
            served.budget,
            error,
            method=head.method,
            attempts=sum([attempt.counts for attempt in self.attempts]),
            elapsed=self.plane.now - self.attempts[0].started,
            is_free=is_free,
        )

    def _retry(self, served: "ServedPool") -> None:
        served.budget.retries += self.attempts[-1].counts
        self.plane.row[served.retries_column] += 1
        if self.head is not None and self.head.host is None:
            self._request_bytes = b""  # it carries the backend's own address as Host
        self._attempt(served)

    def _end_attempt(self, *, keep: bool = False, failed: bool = False, flush: bool = False) -> None:
        """Let go of the connection and of the backend; a second call finds nothing left to do."""
        response = self.response
        if response is UNASKED or response is ANSWERED:
            return
        if self._splice is not None:
            self._splice.stop()
            self._splice = None
        served = self.served
        assert served is not None
        self.response = ANSWERED if response is ANSWERING else UNASKED
        if response is QUEUED:
            served.line.leave(self)
            return
        served.pool.active -= 1
        self.attempts[-1].end(self.plane.row, self.plane.now, failed=failed)
        if self._dial is not None:
            self._dial.cancel()
            self._dial = None
        upstream, self.upstream = self.upstream, None
        if upstream is not None:
            upstream.let_go(keep=keep, flush=flush)
        if served.pool.is_limited:
            served.line.wake()

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
        if upstream is not None and self._is_large(upstream.reader.remaining):
            self._splice = self.plane.splice_answer(self, upstream, out)
            if self._splice is not None:
                self._response_begun = True
                self._splice.start()
                return
        self._flush(out)
        # Only a body has its deadline moved by what comes: a head must be complete in time, however it drips.
        if upstream is not None and self.response is ANSWERING:
            self.expect_more(upstream)

    def _is_large(self, remaining: int) -> bool:
        """Whether the rest of a body is worth a splice; one way at a time."""
        return remaining >= self.plane.splice_bytes and self._splice is None

    def expect_more(self, upstream: "Upstream") -> None:
        """Set the backend's deadline to what the state of both sides asks for."""
        served = self.served
        if upstream.tunnel is None and upstream.is_heard and served is not None:
            if self.response is ANSWERING:
                upstream.deadline = self.plane.now + served.timeouts.idle
            elif self.request is REQUEST_DONE:
                upstream.deadline = self.plane.now + served.timeouts.response

    def reads_apart(self) -> bool:
        """Whether the answer's body passes inside the kernel, and the backend's transport doesn't read."""
        return self._splice is not None and self._splice.reads(self.upstream)

    def splice_ended(self) -> None:
        """Take it that a body has passed: the other one may pass in the same way now."""
        self._splice = None

    def _flush(self, out: list[bytes]) -> None:
        if out:
            self._response_begun = True
            self.downstream.send_parts(out)

    def _handle_head(self, head: ResponseHead, out: list[bytes]) -> None:
        request, served, plane, upstream = self.head, self.served, self.plane, self.upstream
        assert request is not None
        assert served is not None
        assert upstream is not None
        status = head.status
        if status < 200:
            self._handle_interim(request, head)
            return
        self.attempts[-1].answered(plane.row, status, plane.now)
        if status in GATEWAY_ERRORS and self._is_tried_again(served, GatewayStatus(status)):
            return
        self.response = ANSWERING
        self.status = status
        if head.asks_login or request.logs_in:
            self._keep_to(upstream, served)
        if not head.has_date:
            head.lines.append(b"Date: %b\r\n" % plane.date)
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
        self._change(request, head)
        trailers = request.te_trailers and framing is CHUNKED
        out.append(response_head(head, version=request.version, keep=keep, trailers=trailers))

    def _keep_to(self, upstream: "Upstream", served: "ServedPool") -> None:
        """Let nobody else have a connection that a login may hold for, or held for."""
        upstream.keepalive = self.downstream.pin(upstream.backend, served)

    def _is_tried_again(self, served: "ServedPool", error: GatewayStatus) -> bool:
        """Take an answer that says no more than that there is none; False if the client has to do with it."""
        served.count_failure(self.attempts[-1], error)
        if not self._may_retry(served, error):
            self.why = error.why
            return False
        if self.bond is not None:
            self.bond.failed(self.attempts[-1], error)
        self._end_attempt()
        self._retry(served)
        return True

    def _change(self, request: RequestHead, head: ResponseHead) -> None:
        """Change the headers of a final answer, 101 included, as the route says, and give the client its cookie."""
        route = self.route
        if route is not None and route.response_rewrite is not None:
            head.lines = route.response_rewrite.apply(head.lines, self._variables(request))
        bond = self.bond
        if bond is not None:
            value = bond.answered(self.attempts[-1].on, self.client)
            if value is not None:
                is_https = self.downstream.sender.scheme(request.forwarded) == b"https"
                head.lines.append(bond.cookie_line(value, is_https=is_https))

    def _handle_interim(self, request: RequestHead, head: ResponseHead) -> None:
        if head.status != 101:
            if request.version == 11:
                self._flush([interim_head(head)])
            return
        if not agrees(head.upgrade, request.upgrade):
            self.upstream_failed(BadResponse("101 to a protocol that was not offered"))
            return
        if self.request is REQUEST_BODY:
            self.upstream_failed(BadResponse("101 before the request's body was sent"))
            return
        self.attempts[-1].answered(self.plane.row, head.status, self.plane.now)
        self.status = head.status
        self.response = ANSWERING
        self._change(request, head)
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
        self._answered("--", fate_after_answer(self.request, keep=self._keep))
