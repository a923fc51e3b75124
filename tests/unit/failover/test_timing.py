"""The arithmetic of times."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyproxy.failover.timing import down_interval, lease, skew


@pytest.mark.parametrize(
    ("version", "priority", "interval", "expected"),
    [
        (3, 256, 1.0, 0.0),
        (3, 0, 1.0, 1.0),
        (3, 100, 40.0, 24.375),
        (2, 100, 40.0, 0.609375),
        (3, 254, 0.01, 0.000078125),
    ],
)
def test_the_skew_of_both_versions(version: int, priority: int, interval: float, expected: float) -> None:
    """Version 3 counts in the master's interval, version 2 in seconds."""
    assert skew(version, priority, interval) == expected


def test_the_down_interval_counts_adverts() -> None:
    """Of three adverts or of as many as are configured."""
    assert down_interval(3, 100, 0.1, 3) == pytest.approx(0.3609375)
    assert down_interval(3, 254, 1.0, 45) == pytest.approx(45.0078125)


@pytest.mark.parametrize(
    ("interval", "priority", "seconds"),
    [
        (1.0, None, 2),
        (1.0, 254, 2),
        (1.0, 255, 2),
        (1.0, 151, 3),
        (1.0, 150, 3),
        (1.0, 167, 2),
        (1.0, 1, 3),
        (0.5, None, 1),
        (0.1, None, 1),
        (0.01, 1, 1),
        (10.0, None, 29),
    ],
)
def test_the_longest_lease_that_ends_in_time(interval: float, priority: int | None, seconds: int) -> None:
    """2 s at adverts of 1 s, 3 s when the peer is known to wait longer, never less than the kernel's 1 s."""
    assert lease("auto", 3, interval, priority) == seconds


@given(
    st.integers(1, 4000).map(lambda value: value / 100),
    st.one_of(st.none(), st.integers(1, 255)),
    st.integers(1, 50),
    st.sampled_from([2, 3]),
)
def test_a_lease_ends_before_the_peer_takes_over(
    interval: float, priority: int | None, adverts: int, version: int
) -> None:
    """With the kernel's 0.35 s, for whatever a peer that is known or unknown waits; or it is the least there is."""
    seconds = lease("auto", version, interval, priority, adverts)
    assert seconds is not None
    earliest = down_interval(version, priority or 254, interval, adverts)
    assert seconds + 0.35 <= earliest + 1e-9 + (2 / 256 * interval if priority == 255 else 0) or seconds == 1
    assert seconds + 1.35 > earliest - 1e-9 or seconds == 1


@pytest.mark.parametrize(("setting", "expected"), [("off", None), (2.0, 2), (7.9, 7), (1.0, 1)])
def test_a_lease_can_be_set(setting: str | float, expected: int | None) -> None:
    """In whole seconds, as the kernel counts."""
    assert lease(setting, 3, 1.0) == expected
