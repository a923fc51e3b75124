"""Pins the window of latencies: what is old goes, what is new counts, and memory stays bounded."""

import pytest

from pyproxy.control.latencies import EVERY, SPAN, Latencies
from pyproxy.observe.histogram import BUCKETS


def counts(**buckets: int) -> list[int]:
    """A histogram with so many in some of its buckets, such as ``b3``."""
    return [buckets.get(f"b{number}", 0) for number in range(BUCKETS)]


def test_a_snapshot_is_due_now_and_then() -> None:
    """The first at once."""
    latencies = Latencies()
    assert latencies.is_due(5.0)
    latencies.record(5.0, {})
    assert not latencies.is_due(5.0 + EVERY - 0.1)
    assert latencies.is_due(5.0 + EVERY)


def test_only_the_last_minute_counts() -> None:
    """What came before the oldest snapshot is not seen, and there are no more snapshots than it takes."""
    latencies = Latencies()
    for step in range(1000):
        latencies.record(step * EVERY, {"a": counts(b10=step)})
    view = latencies.view([("a", counts(b10=1000, b3=1))])
    assert view is not None
    assert view["p50"] > 200  # 7 of bucket 10, one of bucket 3
    assert len(latencies._snapshots) == SPAN / EVERY + 1
    latencies = Latencies()
    latencies.record(0.0, {"a": counts(b10=1000)})
    assert latencies.view([("a", counts(b10=1000, b3=2))]) == {"p50": 3.162, "p95": 4.776, "p99": 4.954}


def test_nothing_new_is_none() -> None:
    """Nor is there anything to say of one that nobody has looked at before."""
    latencies = Latencies()
    assert latencies.view([("a", counts(b1=5))]) is None
    latencies.record(0.0, {"a": counts(b1=5)})
    assert latencies.view([("a", counts(b1=5))]) is None
    assert latencies.view([("b", counts(b1=5))]) is None
    assert latencies.view([]) is None


def test_one_that_began_anew_counts_nothing_backwards() -> None:
    """Its buckets are below those of the snapshot."""
    latencies = Latencies()
    latencies.record(0.0, {"a": counts(b1=500, b3=1)})
    assert latencies.view([("a", counts(b1=2, b3=3))]) == latencies.view([("a", counts(b1=500, b3=3))])


def test_several_are_told_together() -> None:
    """As if they were one."""
    latencies = Latencies()
    latencies.record(0.0, {"a": counts(), "b": counts()})
    view = latencies.view([("a", counts(b3=1)), ("b", counts(b4=1))])
    assert view is not None
    assert view["p50"] == pytest.approx(5.0)
