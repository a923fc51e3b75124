"""Pins that the configuration shown is the one in force, and that each value says where it comes from."""

from typing import Any

from pyproxy.config.load import load_text
from pyproxy.config.runtime import from_plain
from pyproxy.control import overrides as decide
from pyproxy.control.in_force import in_force
from pyproxy.control.overrides import Note
from pyproxy.control.settings import make_settings
from tests.unit.control.test_overrides import backend

FILE = """
listeners:
  - bind: 127.0.0.1:${PORT:-80}
pools:
  web:
    backends:
      - {name: a, address: "10.0.0.1:80", weight: 3}
      - name: b
        address: ${HOST}:80
    retry: {"on": [connect, 502]}
admin: {token: sesame}
"""
SETTINGS = make_settings(load_text(FILE, "/etc/pyproxy/lb.yml", {"HOST": "10.0.0.2"}), "lb.yml")
(WEB,) = from_plain(SETTINGS.plain).pools
NOTE = Note("me", None, 1.0)


def shown(overrides: decide.Overrides) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The backends of the only pool, and where things come from."""
    pools = {"web": decide.apply(WEB, overrides)} if overrides else {}
    found = in_force(SETTINGS.shown, SETTINGS.origins, pools, overrides)
    backends: list[dict[str, Any]] = found["config"]["pools"]["web"]["backends"]
    return backends, found["sources"]


def test_as_in_the_file() -> None:
    """Each value has its line, the environment is named, defaults aren't listed, and no secret is shown."""
    backends, sources = shown({})
    assert [item["weight"] for item in backends] == [3, 1]
    assert sources == {
        "listeners[0].bind": "lb.yml:3, environment PORT",
        "pools.web.backends[0].name": "lb.yml:7",
        "pools.web.backends[0].address": "lb.yml:7",
        "pools.web.backends[0].weight": "lb.yml:7",
        "pools.web.backends[1].name": "lb.yml:8",
        "pools.web.backends[1].address": "lb.yml:9, environment HOST",
        "pools.web.retry.on[0]": "lb.yml:10",
        "pools.web.retry.on[1]": "lb.yml:10",
        "admin.token": "lb.yml:11",
    }
    assert "sesame" not in repr(SETTINGS.shown)


def test_settings_are_those_in_force() -> None:
    """Also the state, which the file can't have."""
    backends, sources = shown(decide.patch(WEB, {}, "a", {"weight": 7, "state": "drain"}, NOTE))
    assert backends[0] == SETTINGS.shown["pools"]["web"]["backends"][0] | {"weight": 7, "state": "drain"}
    assert "state" not in backends[1]
    assert sources["pools.web.backends[0].weight"] == sources["pools.web.backends[0].state"] == "override"
    assert sources["pools.web.backends[0].name"] == "lb.yml:7"
    assert SETTINGS.shown["pools"]["web"]["backends"][0]["weight"] == 3


def test_who_came_and_who_went() -> None:
    """The numbers are those of the backends that are there, and their lines go with them."""
    overrides = decide.remove(WEB, {}, "a", NOTE)
    overrides = decide.add(WEB, overrides, backend("c", weight=2, host="10.0.0.9"), NOTE)
    overrides = decide.patch(WEB, overrides, "c", {"max_conns": 5}, NOTE)
    backends, sources = shown(overrides)
    assert [item["name"] for item in backends] == ["b", "c"]
    assert backends[1].keys() == backends[0].keys()
    assert (backends[1]["address"], backends[1]["weight"], backends[1]["max_conns"]) == ("10.0.0.9:80", 2, 5)
    assert {path: text for path, text in sources.items() if "backends" in path} == {
        "pools.web.backends[0].name": "lb.yml:8",
        "pools.web.backends[0].address": "lb.yml:9, environment HOST",
        "pools.web.backends[1]": "override",
        "pools.web.backends[1].max_conns": "override",
    }
