"""Whether a failed attempt is followed by another. Pure: one decision from facts, and the budget against storms."""

from collections import deque
from typing import Final

from pyproxy.config.runtime import Retry as RetryConfig
from pyproxy.errors import ExchangeError, Retry

#: Methods that may be sent twice with the effect of once: those of RFC 9110, section 9.2.2, and what IANA's registry
#: of methods (RFC 9110, section 16.1) calls idempotent. TRACE and CONNECT are refused, and unknown ones are not here.
IDEMPOTENT: Final = frozenset(
    {
        *(b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"QUERY"),
        # WebDAV and its extensions
        *(b"ACL", b"BASELINE-CONTROL", b"BIND", b"CHECKIN", b"CHECKOUT", b"COPY", b"LABEL", b"LINK", b"MERGE"),
        *(b"MKACTIVITY", b"MKCALENDAR", b"MKCOL", b"MKREDIRECTREF", b"MKWORKSPACE", b"MOVE", b"ORDERPATCH"),
        *(b"PROPFIND", b"PROPPATCH", b"REBIND", b"REPORT", b"SEARCH", b"UNBIND", b"UNCHECKOUT", b"UNLINK"),
        *(b"UNLOCK", b"UPDATE", b"UPDATEREDIRECTREF", b"VERSION-CONTROL"),
    }
)


class RetryBudget:
    """
    Retries of the last ten seconds may be a share of the requests of the last ten seconds, or ``min``.

    ``requests`` is counted up by the byte path itself; ``advance`` is called about once a second.
    """

    SECONDS: Final = 10

    __slots__ = ("_config", "_past", "_sum_requests", "_sum_retries", "requests", "retries")

    def __init__(self, config: RetryConfig) -> None:
        self._config = config
        self.requests = 0  # of the present second
        self.retries = 0
        self._past: deque[tuple[int, int]] = deque()
        self._sum_requests = 0
        self._sum_retries = 0

    def advance(self) -> None:
        """Begin the next second."""
        self._past.append((self.requests, self.retries))
        self._sum_requests += self.requests
        self._sum_retries += self.retries
        self.requests = self.retries = 0
        if len(self._past) >= self.SECONDS:
            requests, retries = self._past.popleft()
            self._sum_requests -= requests
            self._sum_retries -= retries

    @property
    def allows(self) -> bool:
        """Whether one more retry fits."""
        allowed = max(self._config.min, (self._sum_requests + self.requests) * self._config.budget)
        return self._sum_retries + self.retries < allowed


def decide(
    config: RetryConfig,
    budget: RetryBudget,
    error: ExchangeError,
    *,
    method: bytes,
    attempts: int,
    elapsed: float,
    is_free: bool,
) -> bool:
    """
    Decide whether ``error`` is followed by another attempt.

    ``attempts`` counts those already made, ``elapsed`` is seconds since the first of all began. ``is_free`` says that
    the failed one is neither among the attempts nor to be paid from the budget: no byte was sent, or a connection
    that had been kept turned out to be closed.

    The caller has seen to it that another is possible at all: there is a backend for it, no byte of the request's
    body is gone, and the client has got no byte of an answer.
    """
    if error.cause not in config.on or elapsed >= config.timeout:
        return False
    if error.retry is Retry.NEVER or (error.retry is Retry.IF_REPEATABLE and method not in IDEMPOTENT):
        return False
    return is_free or (attempts < config.attempts and budget.allows)
