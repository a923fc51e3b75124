"""Pins the order in which a change is checked, kept and told, and what becomes of it when one of these fails."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from pyproxy.admin.change_body import NewBackend
from pyproxy.admin.changes import Conflict, NotThere, Origin
from pyproxy.admin.control import Unavailable
from pyproxy.config.load import load_text
from pyproxy.config.runtime import Pool, from_plain
from pyproxy.control import changes as changes_module
from pyproxy.control.changes import LiveChanges, Reach
from pyproxy.control.events import Events
from pyproxy.control.members import Members
from pyproxy.control.overrides import Override
from pyproxy.control.settings import make_settings

FILE = """
listeners: [{bind: "127.0.0.1:80"}]
routes: [{pool: web}]
pools:
  web: {backends: [{name: a, address: "10.0.0.1:80"}, {name: b, address: "10.0.0.2:80"}]}
  api: {backends: [{name: a, address: "10.0.0.1:80"}]}
admin: {token: sesame}
"""
ME = Origin("me")


class FakeJournal:
    """Keeps in memory what it is given."""

    def __init__(self) -> None:
        self.kept: list[Override] = []
        self.error: OSError | None = None

    def load(self) -> list[Override]:
        return self.kept

    async def save(self, overrides: Any) -> None:
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        self.kept = list(overrides)


class Stage:
    """Changes over members that exist in memory only; ``seen`` has the states that workers heard of."""

    def __init__(self, journal: Any = None) -> None:
        settings = make_settings(load_text(FILE, "lb.yml", {}), "lb.yml")
        config = from_plain(settings.plain)
        self.members = Members(config)
        self.journal: Any = journal or _new_journal()
        self.count: Callable[[], int] = lambda: 0
        self.late: list[int] = []
        self.seen: list[dict[str, str]] = []
        self.told: list[Pool] = []
        self.events = Events()
        self.on_ready: Callable[[str, str], None] = lambda _pool, _name: None
        reach = Reach(self.publish, lambda _pool, _name: self.count(), self.events, self._tell_ready)
        self.changes = LiveChanges(
            config,
            settings,
            self.members,
            self.journal,
            reach,
        )
        self.changes.load()

    def _tell_ready(self, pool: str, name: str) -> None:
        self.on_ready(pool, name)

    async def publish(self, pool: str) -> list[int]:
        self.seen.append(self.states(pool))
        self.told.append(self.members.pool(pool))
        await asyncio.sleep(0)
        return self.late

    def count_now(self, _pool: str, _backend: str) -> int:
        return self.count()

    def states(self, pool: str = "web") -> dict[str, str]:
        return {item["name"]: item["state"] for item in self.members.plain_pool(pool)["backends"]}

    async def patch(self, name: str = "a", origin: Origin = ME, **values: Any) -> None:
        await self.changes.patch("web", name, values, origin, _no_guard)


def _new_journal() -> Any:
    """Stand in for a ``Journal``."""
    return FakeJournal()


def _no_guard() -> None:
    """Let everything pass."""


def backend(name: str) -> NewBackend:
    """What comes in to be added."""
    return NewBackend.model_validate({"name": name, "address": "10.0.0.9:80"})


async def test_a_change_is_kept_and_told() -> None:
    """Of its pool only."""
    stage = Stage()
    await stage.patch(state="drain")
    assert stage.states() == {"a": "drain", "b": "ready"}
    assert stage.states("api") == {"a": "ready"}
    assert stage.seen == [{"a": "drain", "b": "ready"}]
    assert [item.target for item in stage.journal.kept] == ["web/a/state"]


async def test_what_cannot_be_kept_is_not_done() -> None:
    """Nobody hears of it."""
    stage = Stage()
    stage.journal.error = OSError(28, "No space left on device")
    with pytest.raises(Unavailable, match="No space left on device; nothing was changed"):
        await stage.patch(state="drain")
    assert stage.states()["a"] == "ready"
    assert stage.seen == []
    assert stage.changes.overrides() == []


async def test_a_guard_is_asked_in_turn() -> None:
    """Two that looked at the same moment can't both change: the second one sees what the first has done."""
    stage = Stage()

    def guard() -> None:
        if stage.states()["a"] != "ready":
            raise Conflict("changed meanwhile")

    both = [stage.changes.patch("web", "a", {"state": state}, ME, guard) for state in ("drain", "maint")]
    results = await asyncio.gather(*both, return_exceptions=True)
    assert results[0] is None
    assert isinstance(results[1], Conflict)
    assert stage.states()["a"] == "drain"


async def test_a_worker_that_is_late_is_named_and_the_change_stands() -> None:
    """It will hear of it first thing."""
    stage = Stage()
    stage.late = [1]
    with pytest.raises(Unavailable, match="worker 1"):
        await stage.patch(state="drain")
    assert stage.states()["a"] == "drain"


@pytest.mark.parametrize("trouble", ["busy", "busy meanwhile", "late"])
async def test_a_removal_that_fails_leaves_all_as_it_was(trouble: str) -> None:
    """
    Nothing new is let in, then it is looked at again, then all is as before.

    Only the workers hear of that, and of one that is busy anyway not even they.
    """
    stage = Stage()
    counts = iter([3] if trouble == "busy" else [0, 3 if trouble == "busy meanwhile" else 0])
    stage.count = lambda: next(counts)
    stage.late = [0] if trouble == "late" else []
    since = dict(stage.members.joined["web"])
    with pytest.raises(Unavailable if trouble == "late" else Conflict):
        await stage.changes.remove("web", "a", ME, _no_guard, force=False)
    assert [states["a"] for states in stage.seen] == ([] if trouble == "busy" else ["maint", "ready"])
    assert {item.state for pool in stage.told for item in pool.backends} <= {"ready"}
    assert stage.events.last == 0
    assert stage.members.joined["web"] == since
    assert stage.journal.kept == []


async def test_a_removal_that_fails_does_not_wake_who_is_in_maintenance() -> None:
    """Nobody begins to check it, not even for a moment."""
    stage = Stage()
    await stage.patch(state="maint")
    counts = iter([0, 1])
    stage.count = lambda: next(counts)
    with pytest.raises(Conflict):
        await stage.changes.remove("web", "a", ME, _no_guard, force=False)
    assert [states["a"] for states in stage.seen] == ["maint"] * 3


async def test_nothing_is_let_in_until_it_is_gone() -> None:
    """Whatever else is told while the journal is written: a request in that moment would be on a removed backend."""
    stage = Stage()
    save, meanwhile = stage.journal.save, []

    async def slow_save(overrides: Any) -> None:
        meanwhile.append(stage.states())
        await save(overrides)

    stage.journal.save = slow_save
    await stage.changes.remove("web", "a", ME, _no_guard, force=False)
    assert meanwhile == [{"a": "maint", "b": "ready"}]
    assert stage.seen == [{"a": "maint", "b": "ready"}, {"b": "ready"}]


async def test_a_removal_that_cannot_be_kept_lets_requests_in_again() -> None:
    """With a full disk it stays, and works."""
    stage = Stage()
    stage.journal.error = OSError(28, "No space left on device")
    with pytest.raises(Unavailable):
        await stage.changes.remove("web", "a", ME, _no_guard, force=False)
    assert stage.seen[-1] == {"a": "ready", "b": "ready"}


async def test_what_was_changed_is_told() -> None:
    """With who, and why; what stays as it is is no news."""
    stage = Stage()
    await stage.patch(state="drain", weight=1, origin=Origin("me", "kernel"))
    await stage.changes.add("web", backend("c"), ME, _no_guard)
    await stage.changes.remove("web", "b", ME, _no_guard, force=True)
    _, found = stage.events.since(0)
    rows = [[event[key] for key in ("kind", "backend", "from", "to", "reason", "by")] for _, event in found]
    assert rows == [
        ["state", "a", "ready", "drain", "kernel", "me"],
        ["added", "c", None, "10.0.0.9:80", None, "me"],
        ["removed", "b", "10.0.0.2:80", None, None, "me"],
    ]


async def test_by_force_it_is_gone_at_once() -> None:
    """Whatever is in flight."""
    stage = Stage()
    stage.count = lambda: 3
    await stage.changes.remove("web", "a", ME, _no_guard, force=True)
    assert stage.states() == {"b": "ready"}
    assert stage.seen == [{"b": "ready"}]


async def test_what_is_not_there_and_what_is_there_already() -> None:
    """Pools are the file's, names are unique, and there is an end to the seats."""
    stage = Stage()
    with pytest.raises(NotThere, match="no pool 'nope'"):
        await stage.changes.add("nope", backend("c"), ME, _no_guard)
    with pytest.raises(NotThere, match="no backend 'c' in pool 'web'"):
        await stage.patch("c", state="drain")
    with pytest.raises(Conflict, match="there is a backend 'a'"):
        await stage.changes.add("web", backend("a"), ME, _no_guard)
    stage.members.capacity = stage.members.used
    with pytest.raises(Conflict, match="too many"):
        await stage.changes.add("web", backend("c"), ME, _no_guard)


async def test_what_expires_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """When its time is up and not before, also if that can't be written down."""
    now = 1000.0
    monkeypatch.setattr(changes_module, "wall", lambda: now)
    stage = Stage()
    await stage.patch(origin=Origin("me", seconds=60.0), state="maint")
    now = 1059.9
    stage.changes.expire()
    await stage.changes.close()
    assert stage.states()["a"] == "maint"
    assert stage.changes.ages() == {"web/a/state": pytest.approx(59.9)}
    stage.journal.error = OSError(28, "No space left on device")
    now = 1060.0
    stage.changes.expire()
    await stage.changes.close()
    assert stage.states()["a"] == "ready"
    assert stage.changes.overrides() == []
    assert Stage(stage.journal).states()["a"] == "ready"


async def test_overrides_are_shown_as_people_write_them() -> None:
    """Addresses as in the file, times in RFC 3339, the oldest first; secrets are masked."""
    stage = Stage()
    await stage.changes.remove("web", "b", Origin("me", "broken"), _no_guard, force=True)
    await stage.changes.add("web", backend("c"), Origin("me", seconds=60.0, pinned=True), _no_guard)
    removed, added = stage.changes.overrides()
    assert (removed["target"], removed["value"], removed["reason"]) == ("web/b", None, "broken")
    assert removed["replaced"] == {"address": "10.0.0.2:80", "weight": 1, "backup": False, "max_conns": 0}
    assert (added["target"], added["replaced"], added["pinned"]) == ("web/c", None, True)
    assert added["value"]["address"] == "10.0.0.9:80"
    assert added["expires"] is not None
    assert added["expires"].endswith("Z")
    assert stage.changes.added("web") == {"c"}
    shown: Mapping[str, Any] = stage.changes.config()["config"]
    assert shown["admin"]["token"] == "**********"


async def test_a_restart_goes_on_where_it_was() -> None:
    """With what the journal has."""
    stage = Stage()
    await stage.patch(state="drain", weight=5)
    again = Stage(stage.journal)
    assert again.states()["a"] == "drain"
    assert again.changes.overrides() == stage.changes.overrides()


async def test_ready_is_told_before_it_is_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Said by somebody, as configured or by name, whether or not it was; or because the time of another is up."""
    now = 1000.0
    monkeypatch.setattr(changes_module, "wall", lambda: now)
    stage = Stage()
    told: list[tuple[str, str, str]] = []
    stage.on_ready = lambda pool, name: told.append((pool, name, stage.states(pool)[name]))
    await stage.patch(state="ready")
    await stage.patch(state="drain")
    await stage.patch(weight=3)
    await stage.patch(state="ready")
    await stage.patch(state="maint")
    await stage.patch(state=None)
    assert told == [("web", "a", state) for state in ("ready", "drain", "maint")]
    await stage.patch(origin=Origin("me", seconds=60.0), state="maint")
    await stage.patch(origin=Origin("me", seconds=60.0), weight=9)
    now = 1060.0
    stage.changes.expire()
    await stage.changes.close()
    assert told[3:] == [("web", "a", "maint")]
    stage.journal.error = OSError(28, "No space left on device")
    with pytest.raises(Unavailable):
        await stage.patch(state="ready")
    assert len(told) == 4


async def test_a_removal_that_fails_is_no_return() -> None:
    """The backend was away for a moment only: it doesn't start slowly."""
    stage = Stage()
    told: list[str] = []
    stage.on_ready = lambda _pool, name: told.append(name)
    counts = iter([0, 3])
    stage.count = lambda: next(counts)
    with pytest.raises(Conflict):
        await stage.changes.remove("web", "a", ME, _no_guard, force=False)
    assert told == []
