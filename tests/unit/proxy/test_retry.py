"""Pins when a failed attempt is followed by another: one decision as a table, and the budget against storms."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyproxy.config.runtime import Retry
from pyproxy.errors import (
    BadResponse,
    BodyStalled,
    ConnectionReset,
    DescriptorLimit,
    DialFailed,
    DialTimeout,
    ExchangeError,
    GatewayStatus,
    HeadTruncated,
    Internal,
    NoBackend,
    ResponseTimeout,
    ResponseTruncated,
)
from pyproxy.proxy.retry import IDEMPOTENT, RetryBudget, decide

EVERY = frozenset({"connect", "reset", "timeout", "502", "503", "504"})
DEFAULT = frozenset({"connect", "reset"})


def config(**changes: Any) -> Retry:
    """Configure retries."""
    return Retry(**{"attempts": 3, "on": EVERY, "budget": 0.2, "min": 3, **changes})


def decided(error: ExchangeError, on: frozenset[str] = EVERY, **facts: Any) -> bool:
    """Decide, by default for the first attempt of a GET of which nothing is gone."""
    facts = {"method": b"GET", "attempts": 1, "elapsed": 0.0, "is_free": False, **facts}
    settings = config(on=on)
    return decide(settings, RetryBudget(settings), error, **facts)


# error, word of retry.on, may be retried for GET, for POST
TABLE: list[tuple[ExchangeError, str, bool, bool]] = [
    (DialFailed(), "connect", True, True),
    (DialTimeout(), "connect", True, True),
    (ConnectionReset(), "reset", True, False),
    (ResponseTimeout(), "timeout", True, False),
    (GatewayStatus(502), "502", True, False),
    (GatewayStatus(503), "503", True, False),
    (GatewayStatus(504), "504", True, False),
    (HeadTruncated(), "", False, False),
    (BadResponse(), "", False, False),
    (ResponseTruncated(), "", False, False),
    (BodyStalled(), "", False, False),
    (DescriptorLimit(), "connect", True, True),
    (NoBackend(), "", False, False),
    (Internal(), "", False, False),
]


@pytest.mark.parametrize(("error", "word", "for_get", "for_post"), TABLE, ids=[type(row[0]).__name__ for row in TABLE])
def test_decide(error: ExchangeError, word: str, for_get: bool, for_post: bool) -> None:
    """What nothing was sent for always, what may be sent twice only if its method says so, the rest never."""
    assert decided(error) is for_get
    assert decided(error, method=b"POST") is for_post
    assert decided(error, on=EVERY - {word}) is False
    assert decided(error, on=frozenset({word})) is for_get
    assert decided(error, on=frozenset()) is False
    assert decided(error, attempts=2) is for_get
    assert decided(error, attempts=3) is False


REPEATED = {b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"PROPFIND", b"REPORT", b"SEARCH", b"QUERY", b"MKCALENDAR"}
NOT_REPEATED = {b"POST", b"PATCH", b"LOCK", b"CONNECT", b"TRACE", b"BAN", b"LIST", b"RPC_IN_DATA", b"get", b"GETX", b""}


@pytest.mark.parametrize("method", sorted(REPEATED | NOT_REPEATED))
def test_idempotent_methods(method: bytes) -> None:
    """RFC 9110, section 9.2.2, and the registry; whatever else a method may be, it isn't sent twice."""
    assert decided(ConnectionReset(), method=method) is (method in REPEATED)
    assert (method in IDEMPOTENT) is (method in REPEATED)
    assert decided(ConnectionReset(), method=method, is_free=True) is (method in REPEATED)
    assert decided(DialFailed(), method=method, is_free=True)


def test_what_was_never_sent_needs_no_budget() -> None:
    """Neither attempts nor the budget count; the time for all of them does."""
    settings = config(min=0, budget=0.0, attempts=1, timeout=5.0)
    facts: dict[str, Any] = {"method": b"POST", "attempts": 1, "is_free": True}
    budget = RetryBudget(settings)
    assert decide(settings, budget, DialFailed(), elapsed=4.9, **facts)
    assert not decide(settings, budget, DialFailed(), elapsed=5.0, **facts)
    assert not decide(settings, budget, DialFailed(), elapsed=0.0, **{**facts, "is_free": False})


def test_by_default_an_answer_is_an_answer() -> None:
    """Without being told so, neither a slow nor a failing backend is asked again."""
    assert not decided(ResponseTimeout(), on=DEFAULT)
    assert not decided(GatewayStatus(503), on=DEFAULT)
    assert decided(DialFailed(), on=DEFAULT)


def test_budget_has_the_last_word() -> None:
    """When the budget is used up, nothing is retried."""
    settings = config(min=1)
    budget = RetryBudget(settings)
    facts: dict[str, Any] = {"method": b"GET", "attempts": 1, "elapsed": 0.0, "is_free": False}
    assert decide(settings, budget, DialFailed(), **facts)
    budget.retries += 1
    assert not decide(settings, budget, DialFailed(), **facts)


@given(
    seconds=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=40),
    share=st.sampled_from([0.0, 0.2, 0.5, 1.0]),
    least=st.integers(0, 5),
)
def test_budget_is_a_share_of_the_last_ten_seconds(seconds: list[tuple[int, int]], share: float, least: int) -> None:
    """At any moment: retries of the last ten seconds stay under the share of their requests, or under the minimum."""
    budget = RetryBudget(config(budget=share, min=least))
    history: list[tuple[int, int]] = []
    for requests, wanted in seconds:
        budget.requests += requests
        retries = 0
        window = history[-9:]
        for _ in range(wanted):
            if budget.allows:
                budget.retries += 1
                retries += 1
        past = sum(count for _, count in window)
        allowed = max(least, (sum(count for count, _ in window) + requests) * share)
        assert past + retries < allowed + 1 or not retries
        assert retries == wanted or past + retries >= allowed, "refused although there was room"
        history.append((requests, retries))
        budget.advance()


def test_budget_forgets() -> None:
    """Ten seconds later a storm is forgotten, and so are the requests that would have paid for it."""
    budget = RetryBudget(config(min=2))
    budget.requests, budget.retries = 100, 20
    assert not budget.allows
    for _ in range(9):
        budget.advance()
        assert not budget.allows
    budget.advance()
    assert budget.allows
    budget.retries = 2
    assert not budget.allows
