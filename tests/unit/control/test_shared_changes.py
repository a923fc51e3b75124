"""Pins what the other machine is told of a change, and what becomes of its changes here, journal included."""

from typing import Any

import pytest

from pyproxy.admin.changes import Origin
from pyproxy.admin.control import Unavailable
from pyproxy.config.load import load_text
from pyproxy.config.runtime import from_plain
from pyproxy.control.changes import LiveChanges, Reach
from pyproxy.control.events import Events
from pyproxy.control.journal import Journal
from pyproxy.control.members import Members
from pyproxy.control.settings import make_settings
from pyproxy.control.shared_changes import SharedChanges
from tests.unit.control.test_changes import FILE, backend


class Machine:
    """One of the pair, with its workers' view; what it tells is in ``told``, and goes to the other if there is one."""

    def __init__(self, host: str, directory: Any = None) -> None:
        settings = make_settings(load_text(FILE, "lb.yml", {}), "lb.yml")
        config = from_plain(settings.plain)
        self.members = Members(config)
        self.told: list[list[dict[str, Any]]] = []
        self.shared = SharedChanges(host, self.told.append)
        self.journal = Journal(str(directory) if directory else None)
        self.published: list[str] = []
        self.readied: list[tuple[str, str]] = []
        reach = Reach(self.publish, lambda _p, _n: 0, Events(), lambda pool, name: self.readied.append((pool, name)))
        self.changes = LiveChanges(config, settings, self.members, self.journal, reach, self.shared)
        self.changes.load()

    async def publish(self, pool: str) -> list[int]:
        self.published.append(pool)
        return []

    def states(self, pool: str = "web") -> dict[str, str]:
        return {item.name: item.state for item in self.members.pool(pool).backends}

    async def set(self, state: str, name: str = "a", **more: Any) -> None:
        await self.changes.patch("web", name, {"state": state}, Origin("alice", **more), lambda: None)


async def test_a_drain_is_in_force_on_both_and_taken_back_on_both() -> None:
    """Whoever takes it back; nothing is echoed, and each pool that changes is published once."""
    one, two = Machine("lb1"), Machine("lb2")
    await one.set("drain", reason="disk")
    (told,) = one.told
    await two.changes.merge(told)
    await two.changes.merge(told)
    assert two.states() == {"a": "drain", "b": "ready"}
    assert (two.published, two.told) == (["web"], [])
    (view,) = two.changes.overrides()
    assert (view["by"], view["reason"]) == ("alice on lb1", "disk")
    await two.set("ready")
    await one.changes.merge(two.told[0])
    assert one.states() == {"a": "ready", "b": "ready"}
    assert one.changes.overrides() == two.changes.overrides() == []


async def test_an_added_backend_is_added_there(tmp_path: Any) -> None:
    """And removed there when it is removed here."""
    one, two = Machine("lb1"), Machine("lb2")
    await one.changes.add("web", backend("new"), Origin("alice"), lambda: None)
    await two.changes.merge(one.told[0])
    assert "new" in two.states()
    await two.changes.remove("web", "new", Origin("bob"), lambda: None, force=True)
    await one.changes.merge(two.told[0])
    assert "new" not in one.states()


async def test_what_the_other_said_survives_a_restart(tmp_path: Any) -> None:
    """With its version: a later word about the same thing still is the later one, and no earlier one counts."""
    one, two = Machine("lb1"), Machine("lb2", tmp_path)
    await one.set("drain")
    await one.set("maint")
    await two.changes.merge(one.told[1])
    again = Machine("lb2", tmp_path)
    assert again.states()["a"] == "maint"
    assert again.changes.overrides()[0]["by"] == "alice on lb1"
    await again.changes.merge(one.told[0])
    assert again.states()["a"] == "maint"
    assert again.shared.everything() == one.shared.everything()


async def test_a_journal_of_before_there_was_a_pair_still_counts(tmp_path: Any) -> None:
    """Its changes are told to the other machine."""
    alone = Machine("lb1", tmp_path)
    alone.changes._shared = None
    await alone.set("drain")
    assert b'"version": 1' in (tmp_path / "overrides.json").read_bytes()
    paired = Machine("lb1", tmp_path)
    assert paired.states()["a"] == "drain"
    two = Machine("lb2")
    await two.changes.merge(paired.shared.everything())
    assert two.states()["a"] == "drain"


async def test_what_could_not_be_kept_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was changed, here or there."""
    one = Machine("lb1")

    async def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(one.journal, "save", fail)
    with pytest.raises(Unavailable):
        await one.set("drain")
    assert (one.told, one.shared.everything()) == ([], [])


async def test_a_change_of_the_peers_that_cannot_be_kept_is_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is kept there, and comes again after a restart."""
    one, two = Machine("lb1"), Machine("lb2")
    await one.set("drain")

    async def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(two.journal, "save", fail)
    await two.changes.merge(one.told[0])
    assert two.states()["a"] == "drain"


async def test_what_this_version_cannot_read_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """The rest counts."""
    one, two = Machine("lb1"), Machine("lb2")
    await one.set("drain")
    await two.changes.merge([*one.told[0], {"from": "the future"}])
    assert two.states()["a"] == "drain"
    assert "1 changes that this version can't read" in caplog.text


async def test_a_weight_of_the_peers_ends_no_ejection() -> None:
    """Only who says that a backend is ready says that nothing is to be held against it."""
    one, two = Machine("lb1"), Machine("lb2")
    await one.changes.patch("web", "a", {"weight": 7}, Origin("alice"), lambda: None)
    await two.changes.merge(one.told[0])
    assert (two.members.pool("web").backends[0].weight, two.readied) == (7, [])
    await one.changes.patch("web", "a", {"weight": None}, Origin("alice"), lambda: None)
    await two.changes.merge(one.told[1])
    assert (two.members.pool("web").backends[0].weight, two.readied) == (1, [])
    await one.set("drain")
    await two.changes.merge(one.told[2])
    assert two.readied == []
    await one.set("ready")
    await two.changes.merge(one.told[3])
    assert two.readied == [("web", "a")]
