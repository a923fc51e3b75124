"""
Parts of how a backend is shown, and how a name of several addresses is: pure arithmetic on what others found out.

Must not know where the numbers come from, nor the clock.
"""

from collections.abc import Sequence
from typing import Final

from pyproxy.admin.control import BackendView, CandidateView, CheckView, Health, LatencyView
from pyproxy.config.runtime import Backend, Pool, seconds_left
from pyproxy.control.times import rfc3339
from pyproxy.health.checks import CheckResult
from pyproxy.observe.metrics import STATES

_BEST_FIRST: Final[tuple[Health, ...]] = ("up", "checking", "down")


def weight_of(pool: Pool, backend: Backend) -> float:
    """Give a member's weight as the file counts, or its share of that."""
    weight = backend.weight / pool.unit
    return int(weight) if weight.is_integer() else round(weight, 3)


def check_view(result: CheckResult | None) -> CheckView | None:
    """Describe the latest check."""
    if result is None:
        return None
    duration_ms = round(result.duration * 1000, 1)
    return {"at": rfc3339(result.at), "ok": result.ok, "detail": result.detail, "duration_ms": duration_ms}


def slow_start_of(pool: Pool, backend: Backend, now: float) -> float | None:
    """Give the seconds until a member has its full share, None if it has."""
    return round(seconds_left(backend.rising, pool.slow_start, now), 1) or None


def candidate(pool: Pool, backend: Backend) -> CandidateView:
    """Say of a name without an address why it can't be picked."""
    return {
        "name": backend.name,
        "address": backend.address,
        "weight": weight_of(pool, backend),
        "active": 0,
        "eligible": False,
        "score": None,
        "reason": "has no address yet",
        "slow_start": None,
        "picked": False,
    }


def whole(configured: Backend, addresses: Sequence[BackendView], latency: LatencyView | None) -> BackendView:
    """
    Describe a name that stands for several backends: as it is configured, with the sums over its addresses.

    It is as healthy as its best address; of the checks the latest that failed tells more than one that passed.
    """
    healths = {view["health"] for view in addresses}
    best = min(addresses, key=lambda view: STATES.index(view["state"]))
    ages = [view["oldest_tunnel_s"] for view in addresses if view["oldest_tunnel_s"] is not None]
    checks = [view["last_check"] for view in addresses if view["last_check"] is not None]
    return {
        **addresses[0],
        "name": configured.name,
        "address": configured.address,
        "weight": configured.weight,
        "backup": configured.backup,
        "state": best["state"],
        "steered": best["steered"],
        "health": next(health for health in _BEST_FIRST if health in healths),
        "ejected": all(view["ejected"] for view in addresses),
        "ejected_for": min((view["ejected_for"] or 0.0 for view in addresses), default=0.0) or None,
        "slow_start": max((view["slow_start"] or 0.0 for view in addresses), default=0.0) or None,
        "available": any(view["available"] for view in addresses),
        "active": sum(view["active"] for view in addresses),
        "total": sum(view["total"] for view in addresses),
        "errors": sum(view["errors"] for view in addresses),
        "rate": round(sum(view["rate"] for view in addresses), 1),
        "latency_ms": latency,
        "oldest_tunnel_s": max(ages) if ages else None,
        "since": min(view["since"] for view in addresses),
        "last_check": max(checks, key=lambda check: (not check["ok"], check["at"]), default=None),
        "sticky_clients": {
            "5m": sum(view["sticky_clients"]["5m"] for view in addresses),
            "60m": sum(view["sticky_clients"]["60m"] for view in addresses),
        },
    }
