"""The statistics of the open loop: histogram, what was due when, when a run counts, and how long an answer is."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.open_loop import GRACE_SECONDS, LEAST_SHARE, NANO, NEVER, Histogram, Score, measure_answer
from bench.stage import RateNotHeld, StageError

BEGIN = 7 * NANO
MS = NANO // 1000
HEAD = b"HTTP/1.1 200 OK\r\nDate: Sun, 01 Nov 2026 00:00:00 GMT\r\nCONTENT-LENGTH: 13\r\n\r\n"


def answer(score: Score, due: int, now: int) -> None:
    """Count an answer."""
    score.times.record(now - due)


@given(st.integers(min_value=0, max_value=2**62))
def test_a_time_is_off_by_less_than_1_percent(nanoseconds: int) -> None:
    """From nanoseconds to more than a century."""
    times = Histogram()
    times.record(nanoseconds)
    assert times.percentile_ms(99) * 1e6 == pytest.approx(nanoseconds, rel=0.004)


@given(st.lists(st.integers(min_value=0, max_value=100 * NANO), min_size=1), st.integers(min_value=1, max_value=100))
def test_percentile_is_the_one_of_a_sorted_list(nanoseconds: list[int], percent: int) -> None:
    """It is the smallest time that this share of the times doesn't exceed."""
    times = Histogram()
    for one in nanoseconds:
        times.record(one)
    exact = sorted(nanoseconds)[math.ceil(len(nanoseconds) * percent / 100) - 1]
    assert times.percentile_ms(percent) * 1e6 == pytest.approx(exact, rel=0.004)
    assert times.count == len(nanoseconds)


def test_an_empty_histogram_has_no_percentiles() -> None:
    """There is no time that could be told."""
    assert math.isnan(Histogram().percentile_ms(50))


def test_a_time_before_it_began_is_none() -> None:
    """A connection may be found free after the instant at which the clock was read."""
    times = Histogram()
    times.record(-5)
    assert times.percentile_ms(50) == 0


@pytest.mark.parametrize(("rate", "seconds", "total"), [(1000, 2, 2000), (33.3, 3, 100), (0.1, 1, 1)])
def test_requests_are_due_at_fixed_instants(rate: float, seconds: float, total: int) -> None:
    """Request i at i / rate, however late those before it were sent, and no error adds up."""
    score = Score(rate, seconds, BEGIN)
    dues = [score.record_sent(BEGIN, BEGIN + 10 * NANO) for _ in range(total)]
    assert dues == [pytest.approx(BEGIN + index / rate * NANO, abs=1) for index in range(total)]
    assert score.next_due == NEVER


def test_a_stall_counts_for_all_that_was_due_in_it() -> None:
    """
    A server with one connection stalls once for half a second, and answers in no time otherwise.

    Of 1,000 requests only one took long from sending to answer. But half of them were due while nothing was
    answered, and these waited 250 ms on average.
    """
    score = Score(1000, 1, BEGIN)
    free_since = BEGIN
    for index in range(score.total):
        now = max(score.next_due, free_since)
        due = score.record_sent(free_since, now)
        free_since = now + (500 * MS if index == 100 else 0)
        answer(score, due, free_since)
    result = score.report(free_since)
    assert result["requests"] == 1000
    assert result["p99_ms"] == pytest.approx(490, rel=0.01)
    assert score.times.percentile_ms(75) == pytest.approx(250, rel=0.01)
    assert result["late_p99_ms"] == 0


@pytest.mark.parametrize(
    ("due_ms", "free_since_ms", "sent_ms", "late_ms"),
    [(0, 0, 0, 0), (0, 0, 3, 3), (0, 2, 3, 1), (0, 3, 3, 0)],
)
def test_lateness_is_the_generators_own(due_ms: int, free_since_ms: int, sent_ms: int, late_ms: int) -> None:
    """Time without a free connection is not."""
    score = Score(1, 1, BEGIN + due_ms * MS)
    score.record_sent(BEGIN + free_since_ms * MS, BEGIN + sent_ms * MS)
    assert score.lateness.percentile_ms(100) == pytest.approx(late_ms, rel=0.01)


@pytest.mark.parametrize(("late_ones", "is_good"), [(0, True), (20, True), (21, False), (1000, False)])
def test_a_rate_that_was_not_reached_is_no_result(late_ones: int, is_good: bool) -> None:
    """What is sent after the end counts in the times, but not as reached."""
    score = Score(1000, 1, BEGIN)
    for index in range(1000):
        is_late = index >= 1000 - late_ones
        due = score.record_sent(BEGIN, score.end + MS if is_late else score.next_due)
        answer(score, due, score.end + 2 * MS)
    assert LEAST_SHARE == 0.98
    if is_good:
        assert score.report(score.end + 2 * MS)["requests"] == 1000
    else:
        with pytest.raises(RateNotHeld, match=r"% of 1000 requests were sent by the end"):
            score.report(score.end + 2 * MS)


def test_what_is_unanswered_does_not_vanish() -> None:
    """A run isn't over before all that was due is answered; after some seconds more it fails."""
    score = Score(10, 1, BEGIN)
    for _ in range(8):
        answer(score, score.record_sent(BEGIN, score.next_due), score.next_due)
    score.record_sent(BEGIN, score.next_due)
    assert not score.is_over
    score.check_unanswered(score.end + int(GRACE_SECONDS * NANO))
    with pytest.raises(StageError, match="2 of 10 requests were unanswered"):
        score.check_unanswered(score.end + int(GRACE_SECONDS * NANO) + 1)


def test_the_length_is_known_when_the_head_is_whole() -> None:
    """At each split."""
    for length in range(len(HEAD)):
        assert measure_answer(HEAD[:length]) == (0, False)
    assert measure_answer(HEAD) == measure_answer(HEAD + b"hello") == (len(HEAD) + 13, False)


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: some\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"x" * 100_000,
    ],
)
def test_other_answers_are_failures(head: bytes) -> None:
    """There is no result then, only a reason."""
    with pytest.raises(StageError):
        measure_answer(head)
