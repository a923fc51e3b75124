"""Pins that an attempt's counters come in pairs, and what they count."""

from types import SimpleNamespace

import pytest

from pyproxy.balance.backend import Backend, Columns
from pyproxy.config.runtime import Backend as BackendConfig
from pyproxy.errors import ConnectionReset, DialFailed
from pyproxy.proxy.attempt import GATEWAY_ERRORS, Attempt

COLUMNS = 40


def an_attempt() -> tuple[Attempt, Backend, list[int]]:
    """Begin an attempt at 100 seconds."""
    backend = Backend(
        "web",
        BackendConfig("a", "10.0.0.1", 80, 1, False, 0),
        columns=Columns(active=0, total=1, errors=2, codes=3, response=8, tunnel=30),
    )
    row = [0] * COLUMNS
    attempt = Attempt(backend, 100.0)
    attempt.begin(row)  # type: ignore[arg-type]
    return attempt, backend, row


@pytest.mark.parametrize("status", [0, 101, 200, 304, 404, 500, 502, 503, 504, 599])
@pytest.mark.parametrize("failed", [True, False])
def test_counters(status: int, failed: bool) -> None:
    """Active goes up and down; an answer counts by its class; no answer and gateway errors are errors."""
    attempt, backend, row = an_attempt()
    assert backend.active == row[backend.columns.active] == 1
    if status:
        attempt.answered(row, status, 100.5)  # type: ignore[arg-type]
    attempt.end(row, 101.0, failed=failed)  # type: ignore[arg-type]
    assert backend.active == row[backend.columns.active] == 0
    assert row[backend.columns.total] == 1
    assert row[backend.columns.errors] == (failed or status in GATEWAY_ERRORS)
    codes = row[backend.columns.codes : backend.columns.codes + 5]
    assert codes == [int(status // 100 == 1 + index) for index in range(5)]
    assert attempt.duration == 1.0
    assert attempt.header_time == (0.5 if status else None)


def test_a_fresh_attempt() -> None:
    """Nothing is known of it but whom it is for."""
    attempt, backend, _ = an_attempt()
    seen = SimpleNamespace(on=attempt.on, backend=attempt.backend, status=attempt.status)
    assert (seen.on, seen.backend, seen.status) == (backend, b"a", 0)
    assert (attempt.connect_time, attempt.header_time) == (None, None)


def test_the_oldest_tunnel_is_known() -> None:
    """Whichever ends first, and whatever else goes on on the backend."""
    first, backend, row = an_attempt()
    others = [Attempt(backend, 100.0) for _ in range(3)]
    for attempt in others:
        attempt.begin(row)  # type: ignore[arg-type]
    found = []
    for attempt, now in zip((first, *others[:2]), (101.0, 102.0, 103.0), strict=True):
        attempt.tunnelled(row, now)  # type: ignore[arg-type]
    for attempt in (others[2], others[0], first, others[1]):
        found.append(row[30])
        attempt.end(row, 200.0, failed=False)  # type: ignore[arg-type]
    assert found == [101_000, 101_000, 101_000, 103_000]
    assert row[30] == backend.active == 0
    assert not backend.tunnels


def test_a_kept_connection_may_just_have_been_closed_as_idle() -> None:
    """Only a break says so, and only of a connection that wasn't made for this attempt."""
    attempt, _, _ = an_attempt()
    assert attempt.was_closed_as_idle(ConnectionReset())
    assert not attempt.was_closed_as_idle(DialFailed())
    attempt.connect_time = 0.1
    assert not attempt.was_closed_as_idle(ConnectionReset())


@pytest.mark.parametrize(
    ("status", "failed", "failures"),
    [(200, False, 0), (404, False, 0), (200, True, 4), (0, True, 4), (502, False, 4), (0, False, 4), (101, False, 4)],
)
def test_only_a_whole_answer_clears_the_failures(status: int, failed: bool, failures: int) -> None:
    """What failed since a tunnel began, a week ago perhaps, is not made good by its end."""
    attempt, backend, row = an_attempt()
    if status:
        attempt.answered(row, status, 100.5)  # type: ignore[arg-type]
    backend.failures = 4
    attempt.end(row, 101.0, failed=failed)  # type: ignore[arg-type]
    assert backend.failures == failures


@pytest.mark.parametrize(("status", "failures"), [(101, 0), (200, 4), (404, 4)])
def test_a_tunnel_that_begins_is_an_answer(status: int, failures: int) -> None:
    """It may last too long to wait for its end; any other answer may still be cut short."""
    attempt, backend, row = an_attempt()
    backend.failures = 4
    attempt.answered(row, status, 100.5)  # type: ignore[arg-type]
    assert backend.failures == failures
