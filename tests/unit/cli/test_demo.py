"""Pins what the demo runs and what it tells; tests/integration runs it."""

import pytest

from pyproxy.cli import demo
from pyproxy.config.compile import compile_config
from pyproxy.demo.nodes import Node

NODES = [Node("web1", "127.0.0.1:41", 11), Node("web2", "127.0.0.1:42", 12)]


def test_the_configuration_is_valid_and_has_the_nodes() -> None:
    """The demo's file passes the same checks as a user's."""
    config = demo.make_config(8080, 8081, NODES)
    plain = compile_config(config)
    assert [backend["port"] for backend in plain["pools"][0]["backends"]] == [41, 42]
    assert [(item["name"], item["host"], item["port"]) for item in plain["listeners"]] == [("demo", "127.0.0.1", 8080)]
    assert plain["pools"][0]["health"]["path"] == "/"
    assert config.admin is not None
    assert str(config.admin.bind) == "127.0.0.1:8081"


def test_the_environment_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo needs no configuration and takes none."""
    monkeypatch.setenv("PYPROXY_CONFIG", "/nowhere")
    assert demo.make_config(1, 2, NODES) == demo.make_config(1, 2, NODES)


def test_the_welcome_has_addresses_and_things_to_try() -> None:
    """Every address is printed, with three curl lines and a node to kill."""
    text = demo._welcome(8080, 8081, NODES)
    for expected in ("http://127.0.0.1:8080/", "http://127.0.0.1:41/", "http://127.0.0.1:42/", "Ctrl-C"):
        assert expected in text
    commands = [line.split("#")[0].split() for line in text.splitlines() if "#" in line]
    assert [command[0] for command in commands] == ["curl", "curl", "curl", "kill"]
    assert commands[-1] == ["kill", "11"]
