"""
How a backend's answer passes to the client: heads, bodies and the end of it, interim answers and tunnels.

Must not know asyncio, sockets or the clock, nor how a backend is found and asked: that is ``exchange``, its child.
"""

from typing import TYPE_CHECKING, cast

from pyproxy.errors import BadResponse, ExchangeError, GatewayStatus
from pyproxy.http1.fields import agrees
from pyproxy.http1.head import CHUNKED, END, UNTIL_EOF, RequestHead, ResponseHead
from pyproxy.http1.reader import Event
from pyproxy.http1.writer import chunk, interim_head, last_chunk, response_head
from pyproxy.proxy.attempt import GATEWAY_ERRORS
from pyproxy.proxy.ending import Ending
from pyproxy.proxy.outcome import ANSWERING, REQUEST_BODY, REQUEST_DONE, fate_after_answer

if TYPE_CHECKING:
    from pyproxy.proxy.downstream import Downstream
    from pyproxy.proxy.exchange import Exchange
    from pyproxy.proxy.plane import DataPlane
    from pyproxy.proxy.served import ServedPool
    from pyproxy.proxy.splice import Splice
    from pyproxy.proxy.sticky import Bond
    from pyproxy.proxy.upstream import Upstream


class Answering(Ending):
    """The part of an exchange that hears the backend."""

    __slots__ = ("_chunking", "_response_begun", "_splice", "bond", "served", "upstream")

    def __init__(self, plane: "DataPlane", downstream: "Downstream", head: RequestHead | None, started: float) -> None:
        super().__init__(plane, downstream, head, started)
        self.upstream: Upstream | None = None
        self.served: ServedPool | None = None
        self.bond: Bond | None = None  # in a pool with sticky sessions
        self._response_begun = False  # the client has got bytes, if only of an interim answer
        self._chunking = False
        self._splice: Splice | None = None  # a body, of either side, that passes inside the kernel

    def upstream_failed(self, error: ExchangeError) -> None:
        """End a failed attempt; try another backend if there is one and that is allowed, else tell the client."""
        raise NotImplementedError

    def _is_tried_again(self, served: "ServedPool", error: GatewayStatus) -> bool:
        """Take an answer that says no more than that there is none; False if the client has to do with it."""
        raise NotImplementedError

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
            self._splice = self.plane.splice_answer(cast("Exchange", self), upstream, out)
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
        if head.asks_login or request.logs_in:  # nobody else is to have the connection that it holds for
            upstream.keepalive = self.downstream.pin(self.attempts[-1].on, served)
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
        self.plane.open_tunnel(cast("Exchange", self))

    def _handle_end(self, out: list[bytes]) -> None:
        upstream, request = self.upstream, self.head
        assert upstream is not None
        assert request is not None
        if self._chunking:
            out.append(last_chunk(upstream.reader.trailers if request.te_trailers else []))
        self._end_attempt(keep=upstream.reader.reusable and self.request is REQUEST_DONE)
        self._flush(out)
        self._answered("--", fate_after_answer(self.request, keep=self._keep))
