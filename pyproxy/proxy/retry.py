"""Whether a failed attempt is followed by another. Pure: one decision from facts, and the budget against storms."""

from collections import deque
from typing import Final

from pyproxy.config.runtime import Retry as RetryConfig
from pyproxy.errors import ExchangeError, Retry

#: Methods that may be sent twice with the effect of once (RFC 9110, section 9.2.2).
IDEMPOTENT: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"PROPFIND", b"REPORT", b"SEARCH"})


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


def decide(config: RetryConfig, budget: RetryBudget, error: ExchangeError, *, method: bytes, attempts: int) -> bool:
    """
    Decide whether ``error`` is followed by another attempt; ``attempts`` counts those already made.

    The caller has seen to it that another is possible at all: no byte of the request's body is gone, and the
    client has got no byte of an answer.
    """
    if attempts >= config.attempts or error.cause not in config.on:
        return False
    if error.retry is Retry.NEVER or (error.retry is Retry.IF_REPEATABLE and method not in IDEMPOTENT):
        return False
    return budget.allows
