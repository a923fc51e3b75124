"""
The configuration in force: the file with all defaults, and what was changed at run time put in its place.

Must not know how a file is read or how changes are kept: it is given both, and writes plain data for people.
"""

from collections.abc import Mapping
from typing import Any

from pyproxy.admin.changes import InForce
from pyproxy.config.runtime import Backend, Pool
from pyproxy.config.source import Path, show_path
from pyproxy.control.overrides import SETTINGS, WHOLE, Overrides

_OVERRIDE = "override"


def in_force(
    shown: Mapping[str, Any], origins: Mapping[Path, str], pools: Mapping[str, Pool], overrides: Overrides
) -> InForce:
    """
    Put the overrides into a configuration, and say of each value that is no default where it comes from.

    ``pools`` are those that have overrides, with these applied. Backends that are there no more take the places of
    their values along; the others' places are those that they have now.
    """
    config = dict(shown)
    found = {path: text for path, text in origins.items() if not (_is_of_backend(path) and path[1] in pools)}
    for name, pool in pools.items():
        before = shown["pools"][name]
        rows = {row["name"]: (index, row) for index, row in enumerate(before["backends"])}
        places = _by_backend(origins, name)
        backends = []
        for number, backend in enumerate(pool.backends):
            path: Path = ("pools", name, "backends", number)
            index, row = rows.get(backend.name, (-1, {}))
            if (name, backend.name, WHOLE) in overrides:
                row = _row(backend)
                found[path] = _OVERRIDE
            else:
                found |= {(*path, *rest): text for rest, text in places.get(index, ())}
            settings = [setting for setting in SETTINGS if (name, backend.name, setting) in overrides]
            found |= {(*path, setting): _OVERRIDE for setting in settings}
            backends.append({**row, **{setting: getattr(backend, setting) for setting in settings}})
        config["pools"] = {**config["pools"], name: {**before, "backends": backends}}
    return {"config": config, "sources": {show_path(path): text for path, text in found.items()}}


def _is_of_backend(path: Path) -> bool:
    return len(path) > 3 and path[0] == "pools" and path[2] == "backends"


def _by_backend(origins: Mapping[Path, str], pool: str) -> dict[Any, list[tuple[Path, str]]]:
    """Give the places of a pool's backends, by their number in the file, with the rest of their paths."""
    result: dict[Any, list[tuple[Path, str]]] = {}
    for path, text in origins.items():
        if _is_of_backend(path) and path[1] == pool:
            result.setdefault(path[3], []).append((path[4:], text))
    return result


def _row(backend: Backend) -> dict[str, Any]:
    """Write a backend as the file would have it."""
    return {
        "address": backend.address,
        "srv": backend.lookup == "srv",
        "name": backend.name,
        "weight": backend.weight,
        "backup": backend.backup,
        "max_conns": backend.max_conns,
    }
