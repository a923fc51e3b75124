"""Pins how the latency of a backend is remembered and forgotten."""

from math import exp, isclose

from hypothesis import given, settings
from hypothesis import strategies as st

from pyproxy.balance.latency import FAILURE, FORGOTTEN, TAU, Latency

SECONDS = st.floats(0.0, 100.0)


def recorded(*samples: tuple[float, float]) -> Latency:
    """Record (seconds, now)."""
    latency = Latency()
    for seconds, now in samples:
        latency.record(seconds, now)
    return latency


def test_nothing_is_known_at_first() -> None:
    """Never measured is 0, whatever the time."""
    assert [Latency().at(now) for now in (0.0, 0.1, 5.0, 1e6)] == [0.0] * 4


def test_a_peak_counts_at_once() -> None:
    """A sample above the average replaces it."""
    assert recorded((0.001, 0.0), (0.001, 1.0), (0.2, 1.1)).at(1.1) == 0.2


def test_good_news_count_slowly() -> None:
    """After TAU of fast answers, however many they are, 1/e of a peak is left."""
    few = recorded((1.0, 0.0), (0.0, TAU)).at(TAU)
    many = recorded((1.0, 0.0), *((0.0, TAU * step / 1000) for step in range(1, 1001))).at(TAU)
    assert isclose(few, exp(-1))
    assert isclose(many, exp(-1))


def test_it_decays_without_samples_and_is_forgotten() -> None:
    """Who was slow is tried again: nothing lasts."""
    latency = recorded((0.5, 100.0))
    assert isclose(latency.at(100.0 + TAU), 0.5 * exp(-1))
    assert latency.at(100.0 + FORGOTTEN - 0.001) > 0.0
    assert latency.at(100.0 + FORGOTTEN) == 0.0


def test_asking_changes_nothing() -> None:
    """A look later doesn't change what a look now gives."""
    latency = recorded((0.5, 100.0))
    latency.at(150.0)
    assert latency.at(100.0) == 0.5


def test_a_quick_failure_is_slow() -> None:
    """A refusal within a millisecond isn't a fast answer; a failure after long is as slow as it was."""
    quick, slow = recorded((0.001, 0.0)), recorded((0.001, 0.0))
    quick.record_failure(0.0005, 1.0)
    slow.record_failure(30.0, 1.0)
    assert (quick.at(1.0), slow.at(1.0)) == (FAILURE, 30.0)


@given(samples=st.lists(st.tuples(SECONDS, st.floats(0.0, 100.0)), min_size=1), later=st.floats(0.0, 100.0))
@settings(deadline=None)
def test_it_stays_between_its_samples(samples: list[tuple[float, float]], later: float) -> None:
    """The average is never outside of what was measured, and later counts less; a clock that jumps is survived."""
    latency = Latency()
    now = 0.0
    for seconds, gap in samples:
        now += gap - 10.0
        latency.record(seconds, now)
        values = [seconds for seconds, _ in samples]
        assert min(values) - 1e-9 <= latency.at(now) <= max(values) + 1e-9
    assert 0.0 <= latency.at(now + later) <= latency.at(now)


def test_repr() -> None:
    """Logs say milliseconds."""
    assert repr(recorded((0.0125, 3.0))) == "<Latency 12.500 ms>"
