"""Pins what becomes of a pool's members when other backends are configured while the program runs."""

from dataclasses import replace
from typing import Any

import pytest

from pyproxy.config.runtime import Pool
from pyproxy.control import members as members_module
from pyproxy.control.members import Members
from tests.unit.control.test_members import CONFIG, hosts, names, weights


def changed(name: str = "web", **changes: Any) -> Pool:
    """A pool of the file with other values for the backend ``app``."""
    pool = next(pool for pool in CONFIG.pools if pool.name == name)
    backends = [replace(item, **changes) if item.name == "app" else item for item in pool.backends]
    return replace(pool, backends=tuple(backends))


def test_all_addresses_of_a_name_go_by_what_it_says() -> None:
    """Those that it has, and those that it will have."""
    members = Members(CONFIG)
    members.update("web", "app", hosts(2))
    assert members.configure(changed(state="drain", weight=6))
    assert not members.configure(changed(state="drain", weight=6))
    assert weights(members)["app[10.1.0.1:80]"] == 3
    members.update("web", "app", hosts(3))
    assert [item.state for item in members.pool("web").backends] == ["ready", "drain", "drain", "drain", "ready"]
    assert members.configured_names()["web", "app[10.1.0.3:80]"] == "app"


def test_another_name_has_nothing_of_the_one_before() -> None:
    """Its addresses were those of the other host."""
    members = Members(CONFIG)
    members.update("web", "app", hosts(2))
    members.configure(changed(host="other.internal"))
    assert names(members) == ["fixed"]
    members.configure(replace(CONFIG.pools[0], backends=CONFIG.pools[0].backends[:1]))
    members.configure(CONFIG.pools[0])
    assert names(members) == ["fixed"]


def test_what_is_in_flight_on_a_name_is_that_of_all_its_addresses() -> None:
    """Those that are leaving too, as long as they have a seat."""
    members = Members(CONFIG)
    members.update("web", "app", hosts(2))
    seats = members.seats_of("web", "app")
    assert len(seats) == 2
    members.update("web", "app", hosts(1, first=5))
    assert set(members.seats_of("web", "app")) > set(seats)
    members.release(members.version, lambda _seat: True)
    assert len(members.seats_of("web", "app")) == 1


def test_since_is_when_the_state_changed() -> None:
    """A weight doesn't change it."""
    now = iter(range(1, 100))
    members = Members(CONFIG, clock=lambda: float(next(now)))
    members.update("web", "app", hosts(1))
    since = members.joined["web"]["app"]
    members.configure(changed(weight=9))
    assert members.joined["web"]["app"] == since
    members.configure(changed(weight=9, state="maint"))
    assert members.joined["web"]["app"] > since


def test_there_is_room_until_every_seat_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever adds a backend is told before he has one that gets nothing."""
    monkeypatch.setattr(members_module, "SPARE_SEATS", 0)
    members = Members(CONFIG)
    assert members.has_room()
    members.update("web", "app", hosts(3))
    assert not members.has_room()
