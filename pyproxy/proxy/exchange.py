"""
One request and its response: what happens between a request head and a line in the access log.

Must not know asyncio, sockets or the clock: the legs and the data plane are handed in and do the I/O. Theory of
operation, with the states of ``outcome``:

``start`` finds the route, which may refuse or redirect, then pool and backend, and asks the plane for a connection:
``connected`` follows at once for one that was kept alive, later for a new one, or ``upstream_failed``. While no
backend can be had yet the exchange waits in the pool's line, which calls ``begin``. Events of the readers
come in through ``handle_body``/``handle_body_end`` (request) and ``handle_response`` (in ``answering``). Whatever
happens, ``_finish`` runs exactly once: counters, log line, and what becomes of the client's connection. Each attempt
likewise ends exactly once, in ``_end_attempt``, which gives the connection back or closes it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from pyproxy.errors import ExchangeError, GatewayStatus, MethodNotAllowed, Retry
from pyproxy.http1.fields import TURNS
from pyproxy.http1.head import RequestHead
from pyproxy.http1.writer import request_head
from pyproxy.proxy import answers, refusals, retry
from pyproxy.proxy.answering import Answering
from pyproxy.proxy.attempt import GATEWAY_ERRORS, Attempt
from pyproxy.proxy.forwarding import change_request, find_client, take_prefix_off
from pyproxy.proxy.outcome import (
    ANSWERED,
    ANSWERING,
    CONNECTING,
    QUEUED,
    REQUEST_BODY,
    REQUEST_DONE,
    UNASKED,
    WAITING,
)
from pyproxy.proxy.request_body import RequestBody

if TYPE_CHECKING:
    from pyproxy.balance.backend import Backend
    from pyproxy.proxy.downstream import Downstream
    from pyproxy.proxy.keepalive import Keepalive
    from pyproxy.proxy.plane import DataPlane
    from pyproxy.proxy.served import ServedPool, ServedRoute
    from pyproxy.proxy.upstream import Dial, Upstream


REFUSED_METHODS: Final = frozenset({b"CONNECT", b"TRACE"})


class Exchange(Answering):
    """See the module's docstring; everything public is called by the legs."""

    __slots__ = ("_body", "_dial", "key")

    def __init__(self, plane: "DataPlane", downstream: "Downstream", head: RequestHead | None, started: float) -> None:
        super().__init__(plane, downstream, head, started)
        self._dial: Dial | None = None
        self.key = b""  # what policy hash looks at
        self._body: RequestBody | None = None

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
        if head.host is None:
            head.host = self.downstream.own_host()
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
            if route.prefix is not None:
                problem = take_prefix_off(head, route.prefix)
                if problem is not None:
                    self.fail(problem)
                    return
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
        elif (backend := served.pick_spare(self)) is not None:
            self.begin(backend)
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
            plane.await_first(keepalive, attempt)
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
        if upstream.backend is not attempt.on:
            upstream.move(attempt.on)
        upstream.carry(self, head_only=head.method == b"HEAD")
        request = self._make_request(head, attempt.on)
        if self.request is REQUEST_DONE:
            self.expect_more(upstream)
        if self._body is None:
            if len(self.attempts) > 1:
                self._hurry(upstream)
            upstream.send(request)
        else:
            upstream.send_parts([request, *self._body.release()])
            self.downstream.release_body()

    def _hurry(self, upstream: "Upstream") -> None:
        """Give what is sent again no more than what is left of the time for all attempts."""
        served = self.served
        assert served is not None
        if any(attempt.counts for attempt in self.attempts[:-1]):
            upstream.deadline = min(upstream.deadline, self.plane.now + self._time_left(served))

    def name_limit(self, setting: str, seconds: float, now: float) -> bytes:
        """Name the limit that the present attempt has passed: its own, or that of all attempts if that came first."""
        served = self.served
        assert served is not None
        if now < self.attempts[-1].started + seconds:
            return refusals.over("retry.timeout", served.retry.timeout)
        return refusals.over(setting, seconds)

    def _make_request(self, head: RequestHead, backend: "Backend") -> bytes:
        route = self.route
        assert route is not None
        forwarded = self.downstream.sender.forwarded_lines(head.forwarded, head.host)
        if backend.is_own:
            forwarded += b"%b: %d\r\n" % (TURNS, head.turns + 1)
        rewrite = route.request_rewrite
        if rewrite is None:
            return request_head(head, forwarded, self.request_id)
        return change_request(head, rewrite, forwarded, self.request_id, self._variables(head))

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
            attempt.counts = any(not before.counts and not before.is_unreachable for before in self.attempts)
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
            attempts=sum(attempt.counts for attempt in self.attempts),
            elapsed=self.plane.now - self.attempts[0].started,
            is_free=is_free,
        )

    def _retry(self, served: "ServedPool") -> None:
        served.budget.retries += self.attempts[-1].counts
        self.plane.row[served.retries_column] += 1
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

    def _is_tried_again(self, served: "ServedPool", error: GatewayStatus) -> bool:
        """Take an answer that says no more than that there is none; False if the client has to do with it."""
        assert self.head is not None
        served.count_gateway_answer(self.attempts[-1], error, self.client, self.head.target)
        if not self._may_retry(served, error):
            self.why = error.why
            return False
        if self.bond is not None:
            self.bond.failed(self.attempts[-1], error)
        self._end_attempt()
        self._retry(served)
        return True
