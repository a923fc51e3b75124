"""
Changes at run time: checked, kept in the journal, and told to the workers, one after the other.

Must not know HTTP, nor how workers are told: ``publish`` does that, and returns the slots that didn't take it in time.
What a change makes of the configuration is decided in ``overrides``.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from pyproxy.admin.changes import Conflict, Guard, Impossible, NotThere, Origin, OverrideView
from pyproxy.admin.control import Unavailable
from pyproxy.clock import wall
from pyproxy.config.compile import compile_backend
from pyproxy.config.model_pool import Backend as ConfiguredBackend
from pyproxy.config.runtime import Backend, Pool, RuntimeConfig
from pyproxy.control import overrides as decide
from pyproxy.control.journal import Journal
from pyproxy.control.members import Members
from pyproxy.control.overrides import Key, Note, Override
from pyproxy.control.shared_changes import SharedChanges
from pyproxy.control.times import rfc3339

Publish = Callable[[str], Awaitable[list[int]]]

_log = logging.getLogger(__name__)


class LiveChanges:
    """
    Satisfies ``admin.changes.Changes``.

    ``publish`` is called with the name of a pool whose members have changed, ``count`` gives what is in flight on a
    backend of the configuration, over all workers and all its addresses. ``shared`` is there when another machine
    is to know of every change, and its changes are to be made here.
    """

    def __init__(
        self,
        config: RuntimeConfig,
        shown: Mapping[str, Any],
        members: Members,
        journal: Journal,
        publish: Publish,
        count: Callable[[str, str], int],
        shared: SharedChanges | None = None,
    ) -> None:
        self._configured = {pool.name: pool for pool in config.pools}
        self._shown = shown
        self._members = members
        self._journal = journal
        self._publish = publish
        self._count = count
        self._shared = shared
        self._overrides: dict[Key, Override] = {}
        self._turn = asyncio.Lock()
        self._expiring: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<LiveChanges {len(self._overrides)} overrides>"

    def load(self) -> list[Pool]:
        """Take what the journal has, before there are workers; return the pools as they are now."""
        pools = list(self._configured.values())
        found = self._journal.load()
        held, overruled = decide.reconcile(pools, found)
        for item in overruled:
            _log.warning("%s is as the configuration has it: %s is overruled", item.target, _text(item))
        self._overrides = decide.expire(pools, held, wall())
        if self._shared is not None:
            self._overrides = self._shared.load(self._journal.replica, pools, self._overrides, overruled)
        for name in self._configured:
            self._members.configure(self._pool(name))
        if self._overrides:
            _log.info("%d changes at run time are in force again", len(self._overrides))
        return [self._pool(name) for name in self._configured]

    async def patch(self, pool: str, backend: str, values: Mapping[str, Any], origin: Origin, guard: Guard) -> None:
        async with self._turn:
            configured = self._find_pool(pool)
            self._find_backend(pool, backend)
            guard()
            note = self._note(origin)
            await self._change(pool, decide.patch(configured, self._overrides, backend, values, note))
        _log.info("%s/%s: %s by %s%s", pool, backend, _settings(values), origin.by, _reason(origin))

    async def add(self, pool: str, backend: ConfiguredBackend, origin: Origin, guard: Guard) -> None:
        async with self._turn:
            configured = self._find_pool(pool)
            if decide.find(self._pool(pool), backend.name) or (pool, backend.name) in self._members.configured_names():
                raise Conflict(f"there is a backend {backend.name!r} in pool {pool!r} already")
            if not self._members.has_room():
                raise Conflict("there are too many backends")
            guard()
            added = Backend(**compile_backend(backend))
            await self._change(pool, decide.add(configured, self._overrides, added, self._note(origin)))
        _log.info("%s/%s: added at %s by %s%s", pool, backend.name, added.address, origin.by, _reason(origin))

    async def remove(self, pool: str, backend: str, origin: Origin, guard: Guard, *, force: bool) -> None:
        async with self._turn:
            configured = self._find_pool(pool)
            self._find_backend(pool, backend)
            guard()
            if not force:
                await self._hold(pool, backend)
            await self._change(pool, decide.remove(configured, self._overrides, backend, self._note(origin)))
        _log.info("%s/%s: removed by %s%s", pool, backend, origin.by, _reason(origin))

    def overrides(self) -> list[OverrideView]:
        return [_view(item) for item in sorted(self._overrides.values(), key=lambda item: item.note.at)]

    def config(self) -> dict[str, Any]:
        return dict(self._shown)

    def kept(self) -> list[str]:
        """Name the other machine's changes that have no place here."""
        if self._shared is None:
            return []
        return self._shared.kept_only(list(self._configured.values()), self._overrides)

    def ages(self) -> dict[str, float]:
        """Give the age of each override in seconds, by its target."""
        now = wall()
        return {item.target: max(now - item.note.at, 0.0) for item in self._overrides.values()}

    def added(self, pool: str) -> set[str]:
        """Name the backends of a pool that were added or replaced at run time."""
        found = (item for item in self._overrides.values() if item.pool == pool and item.setting == decide.WHOLE)
        return {item.backend for item in found if item.value is not None}

    def expire(self) -> None:
        """Take back what has had its time; to be called once a second."""
        now = wall()
        is_due = any(item.note.expires is not None and item.note.expires <= now for item in self._overrides.values())
        if is_due and self._expiring is None:
            self._expiring = asyncio.create_task(self._expire())

    async def close(self) -> None:
        """Let a change that is on its way come to its end."""
        if self._expiring is not None:
            await self._expiring
        async with self._turn:
            pass

    async def _expire(self) -> None:
        try:
            await self._take_back(wall())
        finally:
            self._expiring = None

    async def _take_back(self, now: float) -> None:
        async with self._turn:
            before = self._overrides
            self._overrides = decide.expire(self._configured.values(), before, now)
            gone = [item for key, item in before.items() if key not in self._overrides]
            for item in gone:
                _log.info("%s: its time is up, %s is over", item.target, _text(item))
            if self._shared is not None:
                self._shared.expire(before, self._overrides)
            try:
                await self._write(self._overrides)
            except OSError as error:
                # The journal still has them, with their times: they won't come back from there.
                _log.warning("state_dir can't be written: %s", error.strerror)
            for name in {item.pool for item in gone if item.pool in self._configured}:
                self._members.configure(self._pool(name))
                await self._publish(name)

    async def merge(self, entries: Any) -> None:
        """Make the changes of the other machine that are news here; what can't be kept is in force nevertheless."""
        shared = self._shared
        if shared is None:
            return
        async with self._turn:
            before = self._overrides
            changed = shared.merge(entries, self._configured.values(), before)
            if changed is None:
                return
            self._overrides = changed
            try:
                await self._write(changed)
            except OSError as error:
                _log.warning("state_dir can't be written: %s; the peer has this change as well", error.strerror)
            keys = {key for key in before.keys() | changed.keys() if before.get(key) != changed.get(key)}
            for key in sorted(keys):
                _log.info("%s: %s", *_news(before, changed, key))
            for name in sorted({key[0] for key in keys if key[0] in self._configured}):
                self._members.configure(self._pool(name))
                self._refuse_late(await self._publish(name))

    async def _write(self, overrides: Mapping[Key, Override]) -> None:
        if self._shared is None:
            await self._journal.save(overrides.values())
        else:
            await self._journal.save(overrides.values(), self._shared.to_plain())

    async def _hold(self, pool: str, backend: str) -> None:
        """Send nothing new to a backend; if something is in flight on it, all is as before and it is a ``Conflict``."""
        # Mostly that is known before anything is done: who waits for this backend would be refused meanwhile.
        self._refuse_busy(backend, self._count(pool, backend))
        present, since = self._pool(pool), dict(self._members.joined[pool])
        # Not ``maint``: that would end its checks, and a node that stays would have to pass one before it is back.
        held = [
            replace(item, state="drain") if item.name == backend and item.state == "ready" else item
            for item in present.backends
        ]
        self._members.configure(replace(present, backends=tuple(held)))
        late = await self._publish(pool)
        count = self._count(pool, backend)
        if late or count:
            self._members.configure(present)
            self._members.joined[pool].update(since)
            await self._publish(pool)
            self._refuse_late(late)
            self._refuse_busy(backend, count)

    async def _change(self, pool: str, changed: dict[Key, Override]) -> None:
        await self._save(changed)
        self._members.configure(self._pool(pool))
        self._refuse_late(await self._publish(pool))

    async def _save(self, changed: dict[Key, Override]) -> None:
        """Keep what is in force from now on; if that can't be kept nothing is changed."""
        known = self._shared.stamp(self._overrides, changed) if self._shared is not None else None
        try:
            await self._write(changed)
        except OSError as error:
            if known is not None:
                known.undo()
            raise Unavailable(
                f"the change can't be kept in state_dir: {error.strerror}; nothing was changed"
            ) from error
        self._overrides = changed
        if known is not None:
            known.tell()

    def _refuse_busy(self, backend: str, count: int) -> None:
        if count:
            raise Conflict(f"{count} in flight on {backend!r}; wait until there is nothing, or use force")

    def _refuse_late(self, slots: list[int]) -> None:
        if slots:
            late = ", ".join(map(str, slots))
            raise Unavailable(f"not taken in time by worker {late}, which hears of it before anything else")

    def _pool(self, name: str) -> Pool:
        return decide.apply(self._configured[name], self._overrides)

    def _find_pool(self, pool: str) -> Pool:
        if pool not in self._configured:
            raise NotThere(f"no pool {pool!r}")
        return self._configured[pool]

    def _find_backend(self, pool: str, name: str) -> None:
        if decide.find(self._pool(pool), name) is not None:
            return
        owner = self._members.configured_names().get((pool, name))
        if owner is not None:
            raise Impossible(f"{name!r} is one of the addresses of {owner!r}, which come and go: change {owner!r}")
        raise NotThere(f"no backend {name!r} in pool {pool!r}")

    def _note(self, origin: Origin) -> Note:
        now = wall()
        expires = now + origin.seconds if origin.seconds is not None else None
        return Note(origin.by, origin.reason, now, expires, origin.pinned)


def _view(item: Override) -> OverrideView:
    return {
        "target": item.target,
        "value": _shown(item, item.value),
        "replaced": _shown(item, item.replaced),
        "by": item.note.by,
        "reason": item.note.reason,
        "at": rfc3339(item.note.at),
        "expires": rfc3339(item.note.expires) if item.note.expires is not None else None,
        "pinned": item.note.pinned,
    }


def _shown(item: Override, value: Any) -> Any:
    """Show a whole backend as the file has it."""
    if not isinstance(value, dict):
        return value
    backend = decide.backend_of(item.backend, value)
    return {
        "address": backend.address,
        "weight": backend.weight,
        "backup": backend.backup,
        "max_conns": backend.max_conns,
    }


def _text(item: Override) -> str:
    """Tell an override in a line of the log."""
    what = f"{item.setting} {item.value}" if item.setting else "added" if item.value is not None else "removed"
    return f"{what} by {item.note.by}" + (f" ({item.note.reason})" if item.note.reason else "")


def _news(before: Mapping[Key, Override], after: Mapping[Key, Override], key: Key) -> tuple[str, str]:
    """Tell in a line of the log what became of one thing."""
    if key in after:
        return after[key].target, _text(after[key])
    return before[key].target, f"{_text(before[key])} is over, by the peer"


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value if value is not None else 'as configured'}" for key, value in values.items())


def _reason(origin: Origin) -> str:
    return f" ({origin.reason})" if origin.reason else ""
