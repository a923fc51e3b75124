"""
What both machines of a pair know of each other's changes at run time, and which of two changes is the later one.

Must not know the link, the journal's file or the clock: it is given what is said and the time, and hands out values.

Theory of operation. For each thing that was ever overridden there is one ``Entry``: its value, or that it was taken
back, with a version. Of two entries for one thing the higher version counts, wherever it came from and however often,
so both machines come to the same entries in whatever order they hear of them (``merge`` is commutative, associative
and idempotent). A version is the time of the change in microseconds, or one more than the highest that was ever seen
where that is later: a clock that goes wrong never makes a later change lose against one that its operator knew of.

Which entries are in force here is decided apart from that (``force``), since the two files may differ. An entry for a
pool or a backend that isn't here is kept, and comes into force when it is. ``replaced`` is always this machine's own
configured value, so it doesn't travel. Where this machine's file was edited later than the entry, that is marked here
and here only: the file wins on the machine where it was changed.

An entry whose time is up is never in force again. Entries are kept for ``KEEP_SECONDS`` after they mean nothing any
more: the other machine may have been away for that long.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from pyproxy.config.runtime import Pool
from pyproxy.control import overrides as decide
from pyproxy.control.overrides import WHOLE, Key, Note, Override, Overrides, Value

KEEP_SECONDS: Final = 30 * 86400.0
MAX_ENTRIES: Final = 20_000

_MAX_WORD: Final = 64
_LAST_TIME: Final = 1 << 53
_KEYS: Final = {"target", "version", "host", "gone", "value", "by", "reason", "at", "expires", "pinned"}


class Version(NamedTuple):
    """When something was changed, in microseconds, and by which machine, which decides between equal times."""

    time: int
    machine: str


@dataclass(frozen=True, slots=True)
class Entry:
    """
    The last word on one thing; ``host`` is the machine on which it was said.

    ``is_gone`` says that it was taken back, when ``value`` and ``note`` mean nothing. ``is_overruled`` says that this
    machine's file was edited later.
    """

    key: Key
    version: Version
    host: str
    value: Value
    note: Note
    is_gone: bool = False
    is_overruled: bool = False

    def is_live(self, now: float) -> bool:
        """Whether it could be in force."""
        is_due = self.note.expires is not None and self.note.expires <= now
        return not (self.is_gone or self.is_overruled or is_due)


Entries = Mapping[Key, Entry]


@dataclass(frozen=True, slots=True)
class Replica:
    """Everything that this machine knows; a value, changed by making another one. ``machine`` is an id of its own."""

    machine: str
    host: str
    entries: Entries

    def __repr__(self) -> str:
        return f"<Replica {self.host} {len(self.entries)} entries>"


def stamp(mine: Replica, before: Overrides, after: Overrides, now: float) -> tuple[Replica, list[Entry]]:
    """
    Note what a change on this machine made of the overrides; return what is new as well, for the other machine.

    What was said of a backend that is added or removed now is taken back with it, also where it wasn't in force.
    """
    changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    whole = {key[:2] for key in changed if key[2] == WHOLE}
    changed |= {key for key, entry in mine.entries.items() if key[:2] in whole and not entry.is_gone} - after.keys()
    clock = max([int(now * 1e6), *(entry.version.time + 1 for entry in mine.entries.values())])
    version = Version(clock, mine.machine)
    fresh = []
    for key in sorted(changed):
        found = after.get(key)
        if found is not None:
            fresh.append(Entry(key, version, mine.host, found.value, found.note))
        elif key in before or key in mine.entries:
            fresh.append(Entry(key, version, mine.host, None, Note("", None, now), is_gone=True))
    return _with(mine, fresh, now), fresh


def merge(mine: Replica, theirs: Iterable[Entry], now: float) -> tuple[Replica, set[Key]]:
    """Take what the other machine says; return what of it was news."""
    newer: dict[Key, Entry] = {}
    for entry in theirs:
        known = newer.get(entry.key) or mine.entries.get(entry.key)
        if known is None or _rank(entry) > _rank(known):
            newer[entry.key] = entry
    return _with(mine, newer.values(), now), set(newer)


def force(pools: Collection[Pool], held: Overrides, mine: Replica, news: set[Key], now: float) -> dict[Key, Override]:
    """
    Work out the overrides in force, from those that were and all that is known.

    What isn't ``news`` stays as it was, unless its backend has gone or has come.
    """
    result = {key: item for key, item in held.items() if key not in news}
    live = {key: item for key, item in mine.entries.items() if key not in result and item.is_live(now)}
    configured = {pool.name: pool for pool in pools}
    for key, entry in live.items():
        if key[2] == WHOLE and key[0] in configured:
            _put(result, mine, entry, decide.plain_of(decide.find(configured[key[0]], key[1])))
    present = {pool.name: decide.base_backends(pool, result) for pool in pools}
    for key, entry in live.items():
        base = present.get(key[0], {}).get(key[1])
        if key[2] != WHOLE and base is not None:
            _put(result, mine, entry, getattr(base, key[2]))
    return {
        key: item
        for key, item in result.items()
        if key[2] == WHOLE or item.note.pinned or key[1] in present.get(key[0], {})
    }


def begin(mine: Replica, held: Overrides, overruled: Iterable[Override], now: float) -> Replica:
    """Give all that is in force an entry, and what the file has overruled its mark."""
    entries = dict(mine.entries)
    for key, item in held.items():
        if key not in entries:
            entries[key] = Entry(key, Version(int(item.note.at * 1e6), mine.machine), mine.host, item.value, item.note)
    for item in overruled:
        if item.key in entries:
            entries[item.key] = replace(entries[item.key], is_overruled=True)
    return _with(replace(mine, entries=entries), (), now)


def kept_only(pools: Collection[Pool], held: Overrides, mine: Replica, now: float) -> list[Entry]:
    """Give what is kept for the other machine and can't be in force here: no such backend, or the file won."""
    present = {(pool.name, name) for pool in pools for name in decide.base_backends(pool, held)}
    pool_names = {pool.name for pool in pools}
    found = []
    for key, entry in mine.entries.items():
        has_place = key[0] in pool_names if key[2] == WHOLE else key[:2] in present
        if not (has_place and not entry.is_overruled) and replace(entry, is_overruled=False).is_live(now):
            found.append(entry)
    return sorted(found, key=lambda entry: entry.key)


def to_plain(entry: Entry) -> dict[str, Any]:
    """Write an entry as it travels; the mark that is this machine's own stays behind."""
    note = entry.note
    return {
        "target": list(entry.key),
        "version": list(entry.version),
        "host": entry.host,
        "gone": entry.is_gone,
        "value": entry.value,
        "by": note.by,
        "reason": note.reason,
        "at": note.at,
        "expires": note.expires,
        "pinned": note.pinned,
    }


def from_plain(data: Any) -> Entry:
    """Read what ``to_plain`` wrote; anything else raises ``ValueError``."""
    if not isinstance(data, dict) or data.keys() != _KEYS:
        raise ValueError("an entry has other keys than it should")
    target, version = data["target"], data["version"]
    if not (_is_words(target, 3) and isinstance(version, list) and len(version) == 2 and _is_words(version[1:], 1)):
        raise ValueError("an entry has no proper target or version")
    if type(version[0]) is not int or not 0 <= version[0] < _LAST_TIME or not isinstance(data["gone"], bool):
        raise ValueError(f"the version of {target} can't be")
    if not _is_words([data["host"]], 1):
        raise ValueError(f"the host of {target} can't be")
    pool, backend, setting = target
    note = {name: data[name] for name in ("by", "reason", "at", "expires", "pinned")}
    value = data["value"]
    if data["gone"]:  # of a setting there is no value then, and any that fits will do for the check
        value, setting_of = None, WHOLE
    else:
        setting_of = setting
    parts = {"pool": pool, "backend": backend, "setting": setting_of, "value": value, "replaced": value}
    checked = decide.from_plain(parts | note)
    if setting != WHOLE and setting not in decide.SETTINGS:
        raise ValueError(f"there is no setting {setting!r}")
    return Entry((pool, backend, setting), Version(*version), data["host"], value, checked.note, data["gone"])


def read_entries(data: Any) -> tuple[list[Entry], int]:
    """Read a list of entries; return those that can be read, and how many can't."""
    if not isinstance(data, list):
        return [], 1
    found, bad = [], 0
    for item in data[:MAX_ENTRIES]:
        try:
            found.append(from_plain(item))
        except ValueError:
            bad += 1
    return found, bad + len(data[MAX_ENTRIES:])


def _with(mine: Replica, fresh: Iterable[Entry], now: float) -> Replica:
    entries = {**mine.entries, **{entry.key: entry for entry in fresh}}
    return replace(mine, entries=_tidy(entries, now))


def _tidy(entries: dict[Key, Entry], now: float) -> dict[Key, Entry]:
    """Forget what has meant nothing for long; of too many, those that mean nothing first, then the oldest."""
    oldest = (now - KEEP_SECONDS) * 1e6
    kept = {key: item for key, item in entries.items() if item.is_live(now) or _end_of(item) > oldest}
    if len(kept) <= MAX_ENTRIES:
        return kept
    ranked = sorted(kept.values(), key=lambda item: (item.is_live(now), item.version), reverse=True)
    return {item.key: item for item in ranked[:MAX_ENTRIES]}


def _end_of(entry: Entry) -> float:
    """Give when an entry came to mean nothing, in microseconds."""
    return max(entry.version.time, (entry.note.expires or 0.0) * 1e6)


def _rank(entry: Entry) -> tuple[Version, str]:
    """Order entries; two that differ with one version can only come of a machine id that isn't one."""
    return entry.version, repr((entry.is_gone, entry.value, entry.note))


def _put(result: dict[Key, Override], mine: Replica, entry: Entry, configured: Value) -> None:
    """Put an entry into force, unless that is how it is anyway."""
    if entry.value == configured and not entry.note.pinned:
        return
    note = entry.note
    if entry.version.machine != mine.machine:
        note = replace(note, by=f"{note.by} on {entry.host}")
    result[entry.key] = Override(*entry.key, entry.value, configured, note)


def _is_words(items: Any, count: int) -> bool:
    if not isinstance(items, list) or len(items) != count:
        return False
    return all(isinstance(item, str) and len(item) <= _MAX_WORD * 4 for item in items)
