"""
The part of one machine in what the pair knows of changes at run time: what it tells the other, and what it takes.

Must not know how the other machine is reached: ``tell`` sends a list of entries there, or loses it, which the next
full list makes good. What a change makes of what is known is decided in ``replication``.
"""

import logging
import secrets
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any

from pyproxy.clock import wall
from pyproxy.config.runtime import Pool
from pyproxy.control import replication as decide
from pyproxy.control.overrides import Key, Override, Overrides
from pyproxy.control.replication import Replica

_log = logging.getLogger(__name__)

Tell = Callable[[list[dict[str, Any]]], None]


@dataclass(frozen=True, slots=True)
class Stamped:
    """A change of this machine's that is noted: to be told when it is kept, undone if it can't be."""

    undo: Callable[[], None]
    tell: Callable[[], None]


class SharedChanges:
    """What is known, and the other machine that is told; ``host`` is shown there as the place of this one's changes."""

    def __init__(self, host: str, tell: Tell) -> None:
        self._known = Replica(secrets.token_hex(8), host[:64] or "?", {})
        self._tell = tell

    def __repr__(self) -> str:
        return f"<SharedChanges {self._known!r}>"

    def load(
        self, plain: Any, pools: Collection[Pool], held: Overrides, overruled: Iterable[Override]
    ) -> dict[Key, Override]:
        """Take what the journal had, and return what of all that is in force."""
        now = wall()
        self._known = decide.begin(self._read(plain), held, overruled, now)
        return decide.force(pools, held, self._known, set(), now)

    def to_plain(self) -> dict[str, Any]:
        """Write what is known as the journal keeps it."""
        entries = [
            {**decide.to_plain(entry), "overruled": entry.is_overruled} for entry in self._known.entries.values()
        ]
        return {"machine": self._known.machine, "entries": entries}

    def everything(self) -> list[dict[str, Any]]:
        """Write all that is known as the other machine takes it."""
        return [decide.to_plain(entry) for entry in self._known.entries.values()]

    def stamp(self, before: Overrides, after: Overrides) -> Stamped:
        """Note a change of this machine's."""
        known = self._known
        self._known, fresh = decide.stamp(known, before, after, wall())

        def undo() -> None:
            self._known = known

        return Stamped(undo, lambda: self._tell([decide.to_plain(entry) for entry in fresh]) if fresh else None)

    def expire(self, before: Overrides, after: Overrides) -> None:
        """Note what went with a backend whose time was up; what has had its own time needs no word."""
        now = wall()
        due = {key for key, item in before.items() if item.note.expires is not None and item.note.expires <= now}
        self.stamp({key: item for key, item in before.items() if key not in due}, after).tell()

    def merge(self, entries: Any, pools: Collection[Pool], held: Overrides) -> dict[Key, Override] | None:
        """Take what the other machine says; return the overrides in force then, None if nothing of it is news."""
        now = wall()
        found, bad = decide.read_entries(entries)
        if bad:
            _log.warning("the peer sent %d changes that this version can't read: they are left out", bad)
        self._known, news = decide.merge(self._known, found, now)
        return decide.force(pools, held, self._known, news, now) if news else None

    def kept_only(self, pools: Collection[Pool], held: Overrides) -> list[str]:
        """Name what is kept for the other machine's sake and isn't in force here."""
        found = decide.kept_only(pools, held, self._known, wall())
        return ["/".join(filter(None, entry.key)) for entry in found]

    def _read(self, plain: Any) -> Replica:
        known = self._known
        if not isinstance(plain, dict) or not isinstance(plain.get("machine"), str):
            return known
        entries = {}
        for item in plain.get("entries", []):
            if isinstance(item, dict) and isinstance(is_overruled := item.pop("overruled", False), bool):
                found, _ = decide.read_entries([item])
                entries.update({entry.key: replace(entry, is_overruled=is_overruled) for entry in found})
        return replace(known, machine=plain["machine"][:64], entries=entries)
