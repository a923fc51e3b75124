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
    return "\n".join([title, *align([_HEAD, *map(_backend, pool["backends"])])])


def _backend(backend: View) -> Sequence[str]:
    marks = [
        word for word, is_so in (("backup", backend["backup"]), ("added", backend["origin"] == "runtime")) if is_so
    ]
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
        " ".join([*marks, *_sticky(backend)]),
    )


def _sticky(backend: View) -> Sequence[str]:
    """Say of a drained backend how many sticky clients it still has; nothing if there were none for an hour."""
    seen = backend["sticky_clients"]
    if backend["state"] != "drain" or not seen["60m"]:
        return ()
    return (f"sticky clients: {seen['5m']} in 5m, {seen['60m']} in 60m",)


def _check(check: View | None) -> str:
    return "-" if check is None else str(check["detail"] or ("ok" if check["ok"] else "failed"))
