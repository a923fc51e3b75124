"""Pins what -t says of the machine, in the words that a start would use."""

import json
from pathlib import Path
from typing import Any

import pytest

from pyproxy.config.compile import compile_config
from pyproxy.config.load import load_text
from pyproxy.config.runtime import RuntimeConfig, from_plain
from pyproxy.control.check import check_machine
from pyproxy.control.startup import StartError


def config(**changes: Any) -> RuntimeConfig:
    """Configure one pool."""
    content = {
        "listeners": [{"bind": "127.0.0.1:8080"}],
        "pools": {"web": {"backends": [{"address": "10.0.0.1:80"}]}},
        **changes,
    }
    return from_plain(compile_config(load_text(json.dumps(content), "lb.yml", {})))


def unix(path: str, **more: str) -> dict[str, Any]:
    """Configure one unix listener."""
    return {"listeners": [{"name": "local", "bind": f"unix:{path}", **more}]}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"user": "no-such-user"}, "user: there is no user 'no-such-user' on this machine"),
        (unix("/no-such/x.sock"), "can't listen on unix:/no-such/x.sock: there is no directory /no-such"),
        (unix("/tmp/x.sock", owner="nix"), "can't listen on unix:/tmp/x.sock: there is no user 'nix' on this machine"),
        (
            {"access_log": {"to": "/no-such/log"}},
            "access_log.to: can't open /no-such/log: there is no directory /no-such",
        ),
        ({"access_log": {"to": "/tmp"}}, "access_log.to: can't open /tmp: it is a directory"),
    ],
)
def test_what_is_missing(changes: dict[str, Any], text: str) -> None:
    """Before the start, and not at three in the morning."""
    with pytest.raises(StartError) as caught:
        check_machine(config(**changes))
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("path", "problem"), [("/no-such/state", "there is no directory /no-such"), ("/dev/null", "it is no directory")]
)
def test_where_nothing_can_be_kept(path: str, problem: str) -> None:
    """The directory itself is made at the start, but not the one around it."""
    check_machine(config(), "/tmp/pyproxy-state-of-a-test")
    with pytest.raises(StartError, match=f"state_dir: can't use {path}: {problem}"):
        check_machine(config(), path)


def test_nothing_is_made(tmp_path: Path) -> None:
    """Neither the log nor the socket."""
    check_machine(config(**unix(f"{tmp_path}/x.sock"), access_log={"to": f"{tmp_path}/log"}))
    assert list(tmp_path.iterdir()) == []
