"""
How an exchange ends: answers of our own, breaking off, and the one place where it is counted and logged.

Must not know asyncio, sockets or the clock, nor how a backend is found and asked: that is ``exchange``, its child.
"""

from typing import TYPE_CHECKING, cast

from pyproxy.errors import ClientGone, DownstreamError, ExchangeError, UpstreamError
from pyproxy.http1.head import RequestHead
from pyproxy.proxy import answers
from pyproxy.proxy.attempt import Attempt
from pyproxy.proxy.forwarding import make_variables
from pyproxy.proxy.outcome import (
    ANSWERED,
    ANSWERING,
    CLIENT_GONE,
    CLIENT_LEFT,
    CUT,
    LINGER,
    REQUEST_BODY,
    REQUEST_DONE,
    RESET,
    TUNNEL_ENDS,
    UNASKED,
    Fate,
    RequestSide,
    ResponseSide,
    fate_after_answer,
)
from pyproxy.routing.rewrite import Variables

if TYPE_CHECKING:
    from pyproxy.proxy.downstream import Downstream
    from pyproxy.proxy.exchange import Exchange
    from pyproxy.proxy.plane import DataPlane
    from pyproxy.proxy.served import ServedRoute


class Ending:
    """The half of an exchange that ends it; ``head`` is None if it was refused."""

    __slots__ = (
        *("plane", "downstream", "route"),
        *("head", "client", "listener", "pool", "request_id", "attempts", "status", "bytes_sent", "duration", "end"),
        "why",
        *("request", "response", "finished", "_started", "_unframed", "_keep", "_fate"),
    )

    def __init__(self, plane: "DataPlane", downstream: "Downstream", head: RequestHead | None, started: float) -> None:
        self.plane = plane
        self.downstream = downstream
        self.route: ServedRoute | None = None
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
        self.why = b""  # why the client got no whole answer of a backend, or got one that says as much
        # the two sides
        self.request: RequestSide = REQUEST_DONE if head is None or not head.has_body else REQUEST_BODY
        self.response: ResponseSide = UNASKED
        self.finished = False
        self._started = started
        self._unframed = False  # only the end of the connection ends the body
        self._keep = False
        self._fate: Fate = CUT

    def _variables(self, head: RequestHead) -> Variables:
        host = head.host or self.downstream.own_host()
        return make_variables(head, host, self.downstream.sender, self.client, self.request_id)

    def _end_attempt(self, *, keep: bool = False, failed: bool = False, flush: bool = False) -> None:
        """Let go of the connection and of the backend; a second call finds nothing left to do."""
        raise NotImplementedError

    def _answered(self, end: str, fate: Fate) -> None:
        """Finish now, or when the client has read: a client that doesn't read gets no further answers."""
        if self.downstream.write_paused:  # answer_flushed follows, or break_off, or client_gone
            self.response = ANSWERED
            self.end, self._fate = end, fate
        else:
            self._finish(end, fate)

    def answer_flushed(self) -> None:
        """Finish an exchange whose answer had to wait for the client to read; one that isn't answered goes on."""
        if self.response is ANSWERED and not self.finished:
            self._finish(self.end, self._fate)

    def fail(self, error: ExchangeError) -> None:
        """Answer with an error of ours; nothing of a final answer has been sent."""
        if self.finished:
            return
        self._end_attempt()
        self._give_reason(error)
        understood = self.head is not None and not isinstance(error, DownstreamError)
        plane = self.plane
        self._answer(answers.refuse(error, plane.error_pages, plane.date), error.end, understood=understood)

    def _answer(self, answer: answers.Answer, end: str, *, understood: bool) -> None:
        """Send an answer of ours. ``understood``: otherwise nobody knows where the next request would begin."""
        head, route = self.head, self.route
        kept = head is not None and bool(head.keep_alive) and self.downstream.may_keep()
        self._keep = understood and kept and self.request is REQUEST_DONE
        if head is not None and route is not None and route.response_rewrite is not None:
            answer.change(route.response_rewrite, self._variables(head))
        has_body = head is None or head.method != b"HEAD"
        self.status = answer.status
        self.bytes_sent = len(answer.content) if has_body else 0
        version = head.version if head is not None else 11
        self.downstream.send(answer.render(version=version, keep=self._keep, body=has_body))
        self._answered(end, fate_after_answer(self.request, keep=self._keep) if understood else LINGER)

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
        self.why = CLIENT_LEFT[end]
        self._end_attempt()
        self.status = self.status or ClientGone.status
        self._finish(end, CUT)

    def tunnel_ended(self, end: str) -> None:
        """Finish an exchange that had become a tunnel."""
        if not self.finished:
            self.why = TUNNEL_ENDS[end]
            self._end_attempt(flush=end in {"--", "CD"})
            self._finish(end, CUT)

    def _give_reason(self, error: ExchangeError) -> None:
        """Keep the reason for the access log; what the client or the backend did wrong is told in our own as well."""
        self.why = error.why
        if isinstance(error, UpstreamError) or (error.end == "PR" and isinstance(error, DownstreamError)):
            self.plane.tell_fault(cast("Exchange", self), error)

    def _cut(self, error: ExchangeError, end: str = "") -> None:
        self._give_reason(error)
        fate = RESET if self._unframed else LINGER if self.request is REQUEST_BODY else CUT
        self._finish(end or error.end, fate)

    def _finish(self, end: str, fate: Fate) -> None:
        """Count, log, and leave the client's connection to its fate: the one place where an exchange ends."""
        self.finished = True
        self.end = end
        self.duration = self.plane.now - self._started
        self.plane.record(cast("Exchange", self))
        self.downstream.exchange_done(fate)
