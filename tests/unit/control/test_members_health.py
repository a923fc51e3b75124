"""Pins what the members of a pool keep of their health as names come to stand for other addresses."""

from dataclasses import replace
from typing import Any

from pyproxy.config.load import load_text
from pyproxy.config.runtime import from_plain
from pyproxy.control.answers import share_equally
from pyproxy.control.members import Members
from pyproxy.control.settings import make_settings

PLAIN: dict[str, Any] = make_settings(
    load_text(
        """
        listeners: [{bind: "127.0.0.1:80"}]
        routes: [{pool: web}]
        pools:
          web:
            health: {}
            backends: [{name: fixed, address: "10.0.0.1:80"}, {name: app, address: "app.internal:80"}]
          other:
            backends: [{name: app, address: "app.internal:80"}]
        """,
        "lb.yml",
        {},
    ),
    "lb.yml",
).plain


def make() -> Members:
    """Make members whose clock counts its looks."""
    ticks = iter(range(1000))
    return Members(from_plain(PLAIN), clock=lambda: float(next(ticks)), monotonic=lambda: 500.0)


def health(members: Members, pool: str = "web") -> dict[str, str]:
    """How the workers are told that each stands."""
    return {backend["name"]: backend["health"] for backend in members.plain_pool(pool)["backends"]}


def test_an_address_begins_unchecked_where_there_are_checks() -> None:
    """Without checks everybody is up."""
    members = make()
    members.update("web", "app", share_equally(["10.1.0.1"], 80))
    members.update("other", "app", share_equally(["10.1.0.1"], 80))
    assert health(members) == {"fixed": "checking", "app": "checking"}
    assert health(members, "other") == {"app": "up"}
    assert {pool["name"]: pool["backends"][0]["health"] for pool in members.start_config(PLAIN)["pools"]} == {
        "web": "checking",
        "other": "up",
    }


def test_a_flip_is_a_new_version() -> None:
    """And shows since when; the same again is none, nor is one of a backend that has left."""
    members = make()
    version, seat = members.version, members.seats["web", "fixed"]
    since = members.joined["web"]["fixed"]
    assert members.set_health("web", seat, "up")
    assert (members.version, health(members)) == (version + 1, {"fixed": "up"})
    assert members.joined["web"]["fixed"] > since
    assert not members.set_health("web", seat, "up")
    assert not members.set_health("web", 77, "down")
    assert members.version == version + 1


def test_health_belongs_to_the_address() -> None:
    """It stays under another name, and another address begins unchecked."""
    members = make()
    members.set_health("web", members.seats["web", "fixed"], "up")
    members.update("web", "app", share_equally(["10.1.0.1"], 80))
    members.set_health("web", members.seats["web", "app"], "down")
    members.update("web", "app", share_equally(["10.1.0.1", "10.1.0.2"], 80))
    assert health(members) == {"fixed": "up", "app[10.1.0.1:80]": "down", "app[10.1.0.2:80]": "checking"}
    members.update("web", "app", share_equally(["10.1.0.2"], 80))
    members.update("web", "app", share_equally(["10.1.0.1"], 80))
    assert health(members) == {"fixed": "up", "app": "checking"}


def test_since_is_when_the_health_changed() -> None:
    """Also if that is because the name stands for another address, which nobody has checked yet."""
    members = make()
    members.update("web", "app", share_equally(["10.1.0.1"], 80))
    members.set_health("web", members.seats["web", "app"], "up")
    since = members.joined["web"]["app"]
    members.update("web", "app", share_equally(["10.1.0.2"], 80))
    assert health(members)["app"] == "checking"
    assert members.joined["web"]["app"] > since


def test_what_the_operator_changes_leaves_health_alone() -> None:
    """A new weight or state, and a backend more: who is down is down, and who is new is unchecked."""
    members = make()
    members.set_health("web", members.seats["web", "fixed"], "down")
    fixed, app = members.configured("web").backends
    changed = replace(fixed, weight=5, state="drain")
    members.configure(replace(members.configured("web"), backends=(changed, app, replace(fixed, name="new", port=81))))
    backends = members.plain_pool("web")["backends"]
    assert [(item["name"], item["state"], item["health"]) for item in backends] == [
        ("fixed", "drain", "down"),
        ("new", "ready", "checking"),
    ]


def test_an_ejection_is_a_new_version_and_belongs_to_the_address() -> None:
    """The same again is none; another address, or the same one when it is back, isn't passed over."""
    members = make()
    members.update("web", "app", share_equally(["10.1.0.1"], 80))
    seat, version, since = members.seats["web", "app"], members.version, members.joined["web"]["app"]
    assert members.set_ejected("web", seat, ejected=True)
    assert (members.version, ejected(members)) == (version + 1, {"app"})
    assert not members.set_ejected("web", seat, ejected=True)
    assert not members.set_ejected("web", 77, ejected=True)
    assert members.joined["web"]["app"] == since
    members.update("web", "app", share_equally(["10.1.0.1", "10.1.0.2"], 80))
    assert ejected(members) == {"app[10.1.0.1:80]"}
    members.update("web", "app", share_equally(["10.1.0.2"], 80))
    members.update("web", "app", share_equally(["10.1.0.1"], 80))
    assert ejected(members) == set()


def ejected(members: Members) -> set[str]:
    """Who is passed over."""
    return {backend["name"] for backend in members.plain_pool("web")["backends"] if backend["ejected"]}


def test_who_was_down_starts_slowly() -> None:
    """Not who is checked for the first time; it belongs to the address, and a worker that starts is told."""
    members = make()
    seat = members.seats["web", "fixed"]
    members.set_health("web", seat, "up")
    assert rising(members) == {"fixed": 0.0}
    members.set_health("web", seat, "down")
    assert rising(members) == {"fixed": 0.0}
    members.set_health("web", seat, "up")
    assert rising(members) == {"fixed": 500.0}
    (backend,) = members.start_config(PLAIN)["pools"][0]["backends"]
    assert backend["rising"] == 500.0
    present = members.configured("web")
    members.configure(replace(present, backends=(replace(present.backends[0], port=81), present.backends[1])))
    assert rising(members) == {"fixed": 0.0}


def test_who_is_ready_again_starts_slowly() -> None:
    """All addresses of the name, with the change that makes it ready."""
    members = make()
    members.update("web", "app", share_equally(["10.1.0.1", "10.1.0.2"], 80))
    version = members.version
    members.begin_rising("web", "app")
    assert members.version == version
    present = members.configured("web")
    members.configure(replace(present, backends=(present.backends[0], replace(present.backends[1], weight=3))))
    assert rising(members) == {"fixed": 0.0, "app[10.1.0.1:80]": 500.0, "app[10.1.0.2:80]": 500.0}


def rising(members: Members) -> dict[str, float]:
    """Since when each has been back."""
    return {backend["name"]: backend["rising"] for backend in members.plain_pool("web")["backends"]}


def states(members: Members) -> dict[str, tuple[str, bool]]:
    """The state of each, and whether it is its own word."""
    return {backend.name: (backend.state, backend.steered) for backend in members.pool("web").backends}


def test_the_stricter_word_holds() -> None:
    """The operator's or the backend's own, in whatever order they come; what both say is the operator's."""
    members = make()
    web = members.configured("web")
    seat = members.seats["web", "fixed"]
    for operator in ("ready", "drain", "maint"):
        changed = (replace(web.backends[0], state=operator), *web.backends[1:])
        members.configure(replace(web, backends=changed))
        found = []
        for word in ("ready", "drain", "maint"):
            members.set_word("web", seat, word)
            found.append(states(members)["fixed"])
        order = ["ready", "drain", "maint"]
        expected = [max(operator, word, key=order.index) for word in order]
        assert found == [(state, state != operator) for state in expected]
    assert members.plain_pool("web")["backends"][0]["state"] == "maint"


def test_a_word_is_a_new_version_and_goes_with_its_address() -> None:
    """The same again is none; who comes back has said nothing yet."""
    members = make()
    members.update("web", "app", share_equally(["10.1.0.1"], 80))
    seat, version = members.seats["web", "app"], members.version
    assert members.set_word("web", seat, "drain")
    assert members.version == version + 1
    assert not members.set_word("web", seat, "drain")
    assert states(members) == {"fixed": ("ready", False), "app": ("drain", True)}
    members.update("web", "app", share_equally(["10.1.0.2"], 80))
    assert not members.set_word("web", seat, "maint")
    members.update("web", "app", share_equally(["10.1.0.1"], 80))
    assert states(members)["app"] == ("ready", False)
