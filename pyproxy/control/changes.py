"""
Changes at run time: checked, kept in the journal, and told to the workers, one after the other.

Must not know HTTP, nor how workers are told: ``publish`` does that, and returns the slots that didn't take it in time.
What a change makes of the configuration is decided in ``overrides``.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pyproxy.admin.changes import Conflict, Guard, Impossible, InForce, NotThere, Origin, OverrideView
from pyproxy.admin.control import Unavailable
from pyproxy.clock import wall
from pyproxy.config.compile import compile_backend
from pyproxy.config.model_pool import Backend as ConfiguredBackend
from pyproxy.config.runtime import Backend, Pool, RuntimeConfig
from pyproxy.control import overrides as decide
from pyproxy.control.events import Events
from pyproxy.control.happenings import tell_change, tell_over
from pyproxy.control.in_force import in_force
from pyproxy.control.journal import Journal
from pyproxy.control.members import Members
from pyproxy.control.overrides import Key, Note, Override
from pyproxy.control.settings import Settings
from pyproxy.control.shared_changes import SharedChanges
from pyproxy.control.times import rfc3339

Publish = Callable[[str], Awaitable[list[int]]]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reach:
    """
    What changes have to do with elsewhere in the program.

    ``publish`` is called with the name of a pool whose members have changed, ``count`` gives what is in flight on a
    backend of the configuration, over all workers and all its addresses. ``on_ready`` is called with one that is about
    to be ready because somebody says so or a time is up, whether or not it was.
    """

    publish: Publish
    count: Callable[[str, str], int]
    events: Events
    on_ready: Callable[[str, str], None] = lambda _pool, _backend: None


class LiveChanges:
    """
    Satisfies ``admin.changes.Changes``.

    ``shared`` is there when another machine is to know of every change, and its changes are to be made here.
    """

    def __init__(
        self,
        config: RuntimeConfig,
        settings: Settings,
        members: Members,
        journal: Journal,
        reach: Reach,
        shared: SharedChanges | None = None,
    ) -> None:
        self._configured = {pool.name: pool for pool in config.pools}
        self._settings = settings
        self._members = members
        self._journal = journal
        self._reach = reach
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
            tell_over(self._reach.events, item, "overruled")
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
            changed = decide.patch(configured, self._overrides, backend, values, note)
            ready = backend if values.get("state", "") in ("ready", None) else None
            await self._change(pool, changed, origin, ready=ready)
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
            await self._change(pool, decide.add(configured, self._overrides, added, self._note(origin)), origin)
        _log.info("%s/%s: added at %s by %s%s", pool, backend.name, added.address, origin.by, _reason(origin))

    async def remove(self, pool: str, backend: str, origin: Origin, guard: Guard, *, force: bool) -> None:
        async with self._turn:
            configured = self._find_pool(pool)
            self._find_backend(pool, backend)
            guard()
            changed = decide.remove(configured, self._overrides, backend, self._note(origin))
            async with contextlib.nullcontext() if force else self._held(pool, backend):
                await self._change(pool, changed, origin)
        _log.info("%s/%s: removed by %s%s", pool, backend, origin.by, _reason(origin))

    def overrides(self) -> list[OverrideView]:
        return [_view(item) for item in sorted(self._overrides.values(), key=lambda item: item.note.at)]

    def config(self) -> InForce:
        pools = {item.pool: self._pool(item.pool) for item in self._overrides.values() if item.pool in self._configured}
        return in_force(self._settings.shown, self._settings.origins, pools, self._overrides)

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
            stood = {name: self._pool(name) for name in self._configured}
            self._overrides = decide.expire(self._configured.values(), before, now)
            gone = [item for key, item in before.items() if key not in self._overrides]
            for item in gone:
                _log.info("%s: its time is up, %s is over", item.target, _text(item))
                tell_over(self._reach.events, item, "expired")
            if self._shared is not None:
                self._shared.expire(before, self._overrides)
            try:
                await self._write(self._overrides)
            except OSError as error:
                # The journal still has them, with their times: they won't come back from there.
                _log.warning("state_dir can't be written: %s", error.strerror)
            for item in gone:
                if item.setting == "state" and item.pool in self._configured:
                    self._reach.on_ready(item.pool, item.backend)
            for name in {item.pool for item in gone if item.pool in self._configured}:
                self._members.configure(self._pool(name))
                tell_change(self._reach.events, stood[name], self._pool(name), "expired")
                await self._reach.publish(name)

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
            known = {key for key in keys if key[0] in self._configured}
            for pool, backend, setting in known:
                if setting == "state" and _is_ready(changed.get((pool, backend, setting))):
                    self._reach.on_ready(pool, backend)
            for name in sorted({key[0] for key in known}):
                stood = decide.apply(self._configured[name], before)
                self._members.configure(self._pool(name))
                tell_change(self._reach.events, stood, self._pool(name), "by the peer")
                self._refuse_late(await self._reach.publish(name))

    async def _write(self, overrides: Mapping[Key, Override]) -> None:
        if self._shared is None:
            await self._journal.save(overrides.values())
        else:
            await self._journal.save(overrides.values(), self._shared.to_plain())

    @contextlib.asynccontextmanager
    async def _held(self, pool: str, backend: str) -> AsyncIterator[None]:
        """
        Send nothing new to a backend that is idle; if it isn't, all is as before and it is a ``Conflict``.

        Only the workers hear of that: everybody else sees it as it is, and its checks go on.
        """
        # Mostly that is known before anything is done: who waits for this backend would be refused meanwhile.
        self._refuse_busy(backend, self._reach.count(pool, backend))
        self._members.hold(pool, backend)
        try:
            self._refuse_late(await self._reach.publish(pool))
            self._refuse_busy(backend, self._reach.count(pool, backend))
            yield
        finally:
            self._members.hold(pool, None)
            if decide.find(self._pool(pool), backend) is not None:
                await self._reach.publish(pool)

    async def _change(
        self, pool: str, changed: dict[Key, Override], origin: Origin, *, ready: str | None = None
    ) -> None:
        before = self._pool(pool)
        await self._save(changed)
        if ready is not None:
            self._reach.on_ready(pool, ready)
        self._members.configure(self._pool(pool))
        tell_change(self._reach.events, before, self._pool(pool), origin.reason, origin.by)
        self._refuse_late(await self._reach.publish(pool))

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


def _is_ready(state: Override | None) -> bool:
    """Whether a backend is ready with this override of its state; None is as the file has it."""
    return state is None or state.value == "ready"


def _news(before: Mapping[Key, Override], after: Mapping[Key, Override], key: Key) -> tuple[str, str]:
    """Tell in a line of the log what became of one thing."""
    if key in after:
        return after[key].target, _text(after[key])
    return before[key].target, f"{_text(before[key])} is over, by the peer"


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value if value is not None else 'as configured'}" for key, value in values.items())


def _reason(origin: Origin) -> str:
    return f" ({origin.reason})" if origin.reason else ""
