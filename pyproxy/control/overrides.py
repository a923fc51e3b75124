"""
What an operator changed while the program ran, and what that makes of the configured backends.

Must not know the admin API, the journal's file or the clock: it is given changes and times, and hands out pools.

An override is one value that another one replaced: the state, the weight or the ``max_conns`` of a backend, or the
backend itself, which was added or removed. It ends when it is taken back, when its time is up, or when the
configuration says something else than what it replaced: whoever edits the file later means what he writes. A pinned
override stays nevertheless.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from pyproxy.config.runtime import Backend, Pool

STATES = ("ready", "drain", "maint")
SETTINGS = ("state", "weight", "max_conns")
WHOLE = ""  # in the place of a setting: the backend itself

#: Of a setting its value; of a whole backend its plain data, or None for one that isn't there.
Value = str | int | dict[str, Any] | None
Key = tuple[str, str, str]  # pool, backend, setting

_PLAIN = ("host", "port", "path", "lookup", "weight", "backup", "max_conns")
_BOUNDS = {"weight": 256, "max_conns": 1_000_000}
_LAST_TIME = 253_402_300_800  # the end of the year 9999


@dataclass(frozen=True, slots=True)
class Note:
    """Who changes something, why, when and until when (seconds since the epoch)."""

    by: str
    reason: str | None
    at: float
    expires: float | None = None
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class Override:
    """One value that is in force instead of the configured one, ``replaced``; ``setting`` may be ``WHOLE``."""

    pool: str
    backend: str
    setting: str
    value: Value
    replaced: Value
    note: Note

    @property
    def key(self) -> Key:
        """What is overridden; there is one override of it at most."""
        return self.pool, self.backend, self.setting

    @property
    def target(self) -> str:
        """The same as one text, such as ``web/web1/weight``, or ``web/web1`` for the backend itself."""
        return "/".join(filter(None, self.key))


Overrides = Mapping[Key, Override]


def find(pool: Pool, name: str) -> Backend | None:
    """Give the backend of that name."""
    return next((backend for backend in pool.backends if backend.name == name), None)


def apply(pool: Pool, overrides: Overrides) -> Pool:
    """Give a configured pool with its overrides."""
    backends = _present(pool, overrides)
    return replace(pool, backends=tuple([_set(pool.name, backend, overrides) for backend in backends]))


def patch(pool: Pool, overrides: Overrides, name: str, values: Mapping[str, Any], note: Note) -> dict[Key, Override]:
    """
    Change settings of a backend that ``apply`` gives; None is the configured value again.

    What equals the configured value needs no override, unless it is pinned.
    """
    base = next(backend for backend in _present(pool, overrides) if backend.name == name)
    result = dict(overrides)
    for setting, value in values.items():
        before = getattr(base, setting)
        result.pop((pool.name, name, setting), None)
        if value is not None and (value != before or note.pinned):
            _put(result, Override(pool.name, name, setting, value, before, note))
    return result


def add(pool: Pool, overrides: Overrides, backend: Backend, note: Note) -> dict[Key, Override]:
    """Add a backend that ``apply`` doesn't give; one that was removed is there again if it is as configured."""
    result = _without(overrides, pool.name, backend.name)
    configured = find(pool, backend.name)
    value, replaced = plain_of(backend), plain_of(configured)
    if value != replaced or note.pinned:
        _put(result, Override(pool.name, backend.name, WHOLE, value, replaced, note))
    return result


def remove(pool: Pool, overrides: Overrides, name: str, note: Note) -> dict[Key, Override]:
    """Remove a backend that ``apply`` gives, with all that was overridden of it."""
    result = _without(overrides, pool.name, name)
    configured = find(pool, name)
    if configured is not None:
        _put(result, Override(pool.name, name, WHOLE, None, plain_of(configured), note))
    return result


def expire(pools: Iterable[Pool], overrides: Overrides, now: float) -> dict[Key, Override]:
    """Leave out those whose time is up, and what was overridden of a backend that goes with them."""
    valid = {key: item for key, item in overrides.items() if item.note.expires is None or item.note.expires > now}
    return _reduced(pools, valid) if len(valid) < len(overrides) else valid


def reconcile(pools: Collection[Pool], overrides: Iterable[Override]) -> tuple[dict[Key, Override], list[Override]]:
    """Compare overrides with a configuration; return those that hold and those that it has overruled."""
    by_key = {item.key: item for item in overrides}
    configured = {(pool.name, backend.name): plain_of(backend) for pool in pools for backend in pool.backends}
    names = {pool.name for pool in pools}
    held = {
        key: item
        for key, item in by_key.items()
        if item.setting == WHOLE
        and (item.note.pinned or (item.pool in names and item.replaced == configured.get(key[:2])))
    }
    present = {(pool.name, backend.name): backend for pool in pools for backend in _present(pool, held)}
    for key, item in by_key.items():
        if item.setting != WHOLE:
            base = present.get(key[:2])
            if item.note.pinned or (base is not None and getattr(base, item.setting) == item.replaced):
                held[key] = item
    return held, [item for key, item in by_key.items() if key not in held]


def to_plain(override: Override) -> dict[str, Any]:
    """Write an override as JSON can hold it."""
    data = {field.name: getattr(override, field.name) for field in fields(Override) if field.name != "note"}
    return data | {field.name: getattr(override.note, field.name) for field in fields(Note)}


def from_plain(data: Any) -> Override:
    """Read what ``to_plain`` wrote; anything else raises ``ValueError``."""
    wanted = {field.name for field in (*fields(Override), *fields(Note))} - {"note"}
    if not isinstance(data, dict) or data.keys() != wanted:
        raise ValueError("an override has other keys than it should")
    note = Note(*[data[field.name] for field in fields(Note)])
    override = Override(**{key: data[key] for key in data.keys() - {field.name for field in fields(Note)}}, note=note)
    if not (_is_note(note) and all(isinstance(part, str) for part in override.key) and _has_values(override)):
        raise ValueError(f"the override of {override.key} has values that can't be")
    return override


def backend_of(name: str, value: Mapping[str, Any]) -> Backend:
    """Make the backend that a value of ``WHOLE`` stands for."""
    return Backend(name=name, **value)


def base_backends(pool: Pool, overrides: Overrides) -> dict[str, Backend]:
    """Give the backends by name, added ones in and removed ones out, without the settings that are overridden."""
    return {backend.name: backend for backend in _present(pool, overrides)}


def _present(pool: Pool, overrides: Overrides) -> list[Backend]:
    """Give the backends, the removed ones left out, replaced and added ones put in, with their own settings."""
    result = []
    added = {key[1]: item.value for key, item in overrides.items() if key[0] == pool.name and key[2] == WHOLE}
    for backend in pool.backends:
        value = added.pop(backend.name, plain_of(backend))
        if value == plain_of(backend):
            result.append(backend)
        elif isinstance(value, dict):
            result.append(backend_of(backend.name, value))
    return result + [backend_of(name, value) for name, value in added.items() if isinstance(value, dict)]


def _set(pool: str, backend: Backend, overrides: Overrides) -> Backend:
    """Give a backend with the settings that are overridden."""
    values: dict[str, Any] = {}
    for setting in SETTINGS:
        found = overrides.get((pool, backend.name, setting))
        if found is not None:
            values[setting] = found.value
    return replace(backend, **values) if values else backend


def _put(overrides: dict[Key, Override], override: Override) -> None:
    overrides[override.key] = override


def _without(overrides: Overrides, pool: str, name: str) -> dict[Key, Override]:
    return {key: item for key, item in overrides.items() if key[:2] != (pool, name)}


def _reduced(pools: Iterable[Pool], overrides: dict[Key, Override]) -> dict[Key, Override]:
    """Leave out the settings of backends that aren't there, pinned ones excepted."""
    names = {(pool.name, backend.name) for pool in pools for backend in _present(pool, overrides)}
    return {
        key: item for key, item in overrides.items() if item.setting == WHOLE or item.note.pinned or key[:2] in names
    }


def plain_of(backend: Backend | None) -> dict[str, Any] | None:
    """Write a backend as the value of a whole one; None if there is none."""
    return None if backend is None else {name: getattr(backend, name) for name in _PLAIN}


def _is_note(note: Note) -> bool:
    is_by = isinstance(note.by, str) and isinstance(note.reason, str | None)
    return is_by and _is_time(note.at) and (note.expires is None or _is_time(note.expires)) and _is_bool(note.pinned)


def _has_values(override: Override) -> bool:
    if override.setting == WHOLE:
        return _is_whole(override.value) and _is_whole(override.replaced)
    return all(_fits(override.setting, value) for value in (override.value, override.replaced))


def _fits(setting: str, value: Any) -> bool:
    if setting == "state":
        return value in STATES
    return setting in _BOUNDS and _is_number(value) and 0 <= value <= _BOUNDS[setting]


def _is_whole(value: Any) -> bool:
    if value is None:
        return True
    if not isinstance(value, dict) or value.keys() != set(_PLAIN):
        return False
    texts = all(isinstance(value[key], str) for key in ("host", "path", "lookup"))
    numbers = all(_fits(key, value[key]) for key in _BOUNDS) and _is_number(value["port"])
    return texts and numbers and _is_bool(value["backup"])


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_time(value: Any) -> bool:
    return (_is_number(value) or isinstance(value, float)) and 0 <= value < _LAST_TIME


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)
