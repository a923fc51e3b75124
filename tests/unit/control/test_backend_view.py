"""Pins the parts of how a backend is shown; put together they are in test_report."""

from dataclasses import replace
from typing import Any

import pytest

from pyproxy.config.load import load_text
from pyproxy.config.runtime import Backend, Pool, from_plain
from pyproxy.control.backend_view import candidate, check_view, slow_start_of, weight_of, whole
from pyproxy.control.settings import make_settings
from pyproxy.health.checks import CheckResult

FILE = """
listeners: [{bind: "127.0.0.1:80"}]
pools: {web: {slow_start: 30s, backends: [{name: app, address: "app.internal:80", weight: 2}]}}
"""


@pytest.fixture
def pool() -> Pool:
    """A pool of one name, in units of a third."""
    return replace(from_plain(make_settings(load_text(FILE, "lb.yml", {}), "lb.yml").plain).pools[0], unit=3)


@pytest.mark.parametrize(("weight", "shown"), [(6, 2), (3, 1), (2, 0.667), (0, 0)])
def test_a_weight_is_the_files(pool: Pool, weight: int, shown: float) -> None:
    """Whole where it can be: a share of a name's weight may not be."""
    assert repr(weight_of(pool, replace(pool.backends[0], weight=weight))) == repr(shown)


def test_a_check_is_shown_in_milliseconds() -> None:
    """None before the first."""
    assert check_view(None) is None
    assert check_view(CheckResult(0.25, False, "L7 timeout", 1.00004)) == {
        "at": "1970-01-01T00:00:00.250Z",
        "ok": False,
        "detail": "L7 timeout",
        "duration_ms": 1000.0,
    }


@pytest.mark.parametrize(("rising", "left"), [(0.0, None), (100.0, 20.0), (80.0, None), (120.0, 30.0)])
def test_a_slow_start_is_shown_by_what_is_left(pool: Pool, rising: float, left: float | None) -> None:
    """In seconds; who has never risen, and who is through, has none."""
    assert slow_start_of(pool, replace(pool.backends[0], rising=rising), 110.0) == left


def test_a_name_without_an_address_can_not_be_picked(pool: Pool) -> None:
    """It says why."""
    shown = candidate(pool, replace(pool.backends[0], weight=6))
    assert (shown["weight"], shown["eligible"], shown["reason"]) == (2, False, "has no address yet")


def view(**changes: Any) -> Any:
    """One address as it is shown."""
    return {
        "name": "app[1]",
        "address": "10.0.0.1:80",
        "weight": 1,
        "backup": False,
        "max_conns": 0,
        "state": "ready",
        "steered": False,
        "health": "up",
        "ejected": False,
        "ejected_for": None,
        "slow_start": None,
        "available": True,
        "origin": "config",
        "active": 1,
        "total": 2,
        "errors": 3,
        "rate": 0.5,
        "latency_ms": None,
        "oldest_tunnel_s": None,
        "since": "2",
        "last_check": None,
        "sticky_clients": {"5m": 1, "60m": 2},
        **changes,
    }


def test_a_name_is_the_sum_of_its_addresses(pool: Pool) -> None:
    """With the oldest tunnel, the earliest change, and the longest slow start."""
    configured: Backend = pool.backends[0]
    other = view(oldest_tunnel_s=4.0, since="1", slow_start=3.0, state="drain", steered=True, ejected=True)
    assert whole(configured, [other, view()], None) == view(
        name="app",
        address="app.internal:80",
        weight=2,
        active=2,
        total=4,
        errors=6,
        rate=1.0,
        oldest_tunnel_s=4.0,
        since="1",
        slow_start=3.0,
        sticky_clients={"5m": 2, "60m": 4},
    )
