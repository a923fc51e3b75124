"""``pyproxy status``: the pools and backends as a table. Must not know how they are asked for."""

from collections.abc import Sequence
from typing import Any

from pyproxy.cli.table import align

View = dict[str, Any]  # the shapes are in admin.control

_HEAD = ("", "address", "state", "health", "weight", "active", "rate", "errors", "last check", "")


def describe_status(pools: Sequence[View]) -> str:
    """Write down every pool with its backends."""
    return "\n\n".join(map(_pool, pools))


def _pool(pool: View) -> str:
    title = f"{pool['name']} ({pool['policy']}, {pool['available']} of {len(pool['backends'])} available)"
    # One that nobody came back to is as good to know beside one that has some.
    is_sticky = any(backend["sticky_clients"]["60m"] for backend in pool["backends"])
    rows = [_backend(backend, is_sticky=is_sticky) for backend in pool["backends"]]
    return "\n".join([title, *align([_HEAD, *rows])])


def _backend(backend: View, *, is_sticky: bool) -> Sequence[str]:
    facts = (
        ("backup", backend["backup"]),
        ("added", backend["origin"] == "runtime"),
        ("by the node", backend.get("steered")),
        (f"ejected for {backend.get('ejected_for') or 0:.3g} s", backend.get("ejected")),
        (f"slow start, {backend.get('slow_start') or 0:.3g} s left", backend.get("slow_start")),
    )
    marks = [word for word, is_so in facts if is_so]
    return (
        f"  {backend['name']}",
        backend["address"],
        backend["state"],
        backend["health"],
        f"{backend['weight']:.4g}",
        str(backend["active"]),
        f"{backend['rate']:.4g}/s",
        str(backend["errors"]),
        _check(backend.get("last_check")),
        ", ".join([*marks, *_leftover(backend), *(_sticky(backend) if is_sticky else ())]),
    )


def _leftover(backend: View) -> list[str]:
    """Say what is still going on on a backend that is taken out."""
    if backend["state"] == "ready" or not backend["active"]:
        return []
    tunnel = backend.get("oldest_tunnel_s")
    age = f", the oldest tunnel for {show_age(tunnel)}" if tunnel is not None else ""
    return [f"{backend['active']} in flight{age}"]


def show_age(seconds: float) -> str:
    """
    Write an age with its two largest units.

    >>> show_age(7.4), show_age(75), show_age(7505), show_age(180000)
    ('7s', '1m 15s', '2h 5m', '2d 2h')
    """
    left = int(seconds)
    parts: list[str] = []
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, length)
        if count or (unit == "s" and not parts):
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])


def _sticky(backend: View) -> Sequence[str]:
    """Say how many sticky clients came back to a backend."""
    seen = backend["sticky_clients"]
    return (f"sticky clients: {seen['5m']} in 5m, {seen['60m']} in 60m",)


def _check(check: View | None) -> str:
    return "-" if check is None else str(check["detail"] or ("ok" if check["ok"] else "failed"))
