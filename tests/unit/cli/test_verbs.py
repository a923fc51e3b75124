"""Pins what the verbs ask, what they print, and when they fail."""

import doctest
import json
from pathlib import Path
from typing import Any

import pytest

from pyproxy.cli import status
from pyproxy.cli.api import AdminApi
from pyproxy.cli.main import main

FILE = """
listeners: [{bind: "127.0.0.1:8080"}]
pools: {web: {backends: [{address: "127.0.0.1:81"}]}}
"""
BACKEND: dict[str, Any] = {
    "name": "a",
    "address": "10.0.0.1:80",
    "weight": 1,
    "backup": False,
    "state": "drain",
    "health": "up",
    "origin": "config",
    "active": 3,
    "rate": 12.5,
    "errors": 2,
    "sticky_clients": {"5m": 0, "60m": 0},
}


class Asked:
    """What the verb has asked, and what it gets."""

    def __init__(self) -> None:
        self.questions: list[Any] = []
        self.patience = 0.0
        self.answer: Any = BACKEND

    def ask(self, method: str, path: str, content: Any = None, *, patience: float = 0.0) -> Any:
        self.questions.append((method, path, content))
        self.patience = patience
        return self.answer


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """A directory with a configuration, and no program to be asked."""
    (tmp_path / "lb.yml").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYPROXY_CONFIG", raising=False)
    asked = Asked()
    monkeypatch.setattr(AdminApi, "ask", asked.ask)
    return asked


def test_draining_and_waiting(asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    """The program may take as long as it was told; if something is in flight then, that is a failure."""
    assert main(["drain", "web/a", "--wait", "2m", "--reason", "x", "--expires", "30m"]) == 1
    content = {"state": "drain", "reason": "x", "expires": "30m"}
    assert asked.questions == [("PATCH", "/api/v1/pools/web/backends/a?wait=2m", content)]
    assert asked.patience == 120.0
    expected = "pyproxy: still 3 in flight after 2m\n"
    assert capsys.readouterr() == ("web/a: drain, weight 1, 3 in flight\n", expected)
    asked.answer = BACKEND | {"active": 0}
    assert main(["drain", "web/a", "--wait", "2m"]) == 0


def test_without_a_wait_it_does_not_matter(asked: Asked) -> None:
    """Whoever didn't ask isn't told."""
    assert main(["maint", "web/[::1]:80"]) == 0
    assert asked.questions == [("PATCH", "/api/v1/pools/web/backends/%5B%3A%3A1%5D%3A80", {"state": "maint"})]


@pytest.mark.parametrize(
    ("arguments", "question"),
    [
        (["weight", "web/a", "7"], ("PATCH", "/api/v1/pools/web/backends/a", {"weight": 7})),
        (
            ["add", "web", "a", "h:80", "--backup"],
            ("POST", "/api/v1/pools/web/backends", {"name": "a", "address": "h:80", "backup": True}),
        ),
        (
            ["add", "web", "a", "h:80", "--weight", "0"],
            ("POST", "/api/v1/pools/web/backends", {"name": "a", "address": "h:80", "backup": False, "weight": 0}),
        ),
        (["remove", "web/a"], ("DELETE", "/api/v1/pools/web/backends/a", None)),
        (["remove", "web/a", "--force"], ("DELETE", "/api/v1/pools/web/backends/a?force=true", None)),
    ],
)
def test_the_question(asked: Asked, arguments: list[str], question: Any) -> None:
    """What isn't said is left to the program."""
    assert main(arguments) == 0
    assert asked.questions == [question]


def test_json(asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    """Every verb prints what the API said, if that is asked for."""
    for arguments in (["ready", "web/a"], ["weight", "web/a", "1"], ["add", "web", "a", "h:1"]):
        assert main([*arguments, "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == BACKEND
    assert main(["remove", "web/a", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) is None
    asked.answer = []
    assert main(["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_status(asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    """A table for each pool; a check that was made says what it found."""
    check = {"ok": False, "detail": "L4 refused"}
    spare = BACKEND | {"name": "spare", "backup": True, "origin": "runtime", "state": "ready", "last_check": check}
    spare["steered"] = True
    kept = BACKEND | {"active": 0, "sticky_clients": {"5m": 0, "60m": 12}}
    asked.answer = [{"name": "web", "policy": "hash", "available": 1, "backends": [BACKEND, spare, kept]}]
    assert main(["status"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "web (hash, 1 of 3 available)"
    assert out[2].split() == [
        "a",
        "10.0.0.1:80",
        "drain",
        "up",
        "1",
        "3",
        "12.5/s",
        "2",
        "-",
        *["3", "in", "flight,", "sticky", "clients:", "0", "in", "5m,", "0", "in", "60m"],
    ]
    assert out[3].endswith("L4 refused  backup, added, by the node, sticky clients: 0 in 5m, 0 in 60m")
    assert out[4].endswith("  sticky clients: 0 in 5m, 12 in 60m")


def test_status_of_a_pool_without_sticky_clients(asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is said of them where nobody has come back."""
    asked.answer = [{"name": "web", "policy": "hash", "available": 1, "backends": [BACKEND]}]
    assert main(["status"]) == 0
    assert "sticky" not in capsys.readouterr().out
    assert asked.questions == [("GET", "/api/v1/pools", None)]


def test_what_still_goes_on_where_nothing_new_is_sent(asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    """And for how long already; of one that takes requests, or has none, it is no news."""
    tunnels = BACKEND | {"oldest_tunnel_s": 7505.2}
    idle, ready = tunnels | {"active": 0}, tunnels | {"state": "ready"}
    asked.answer = [{"name": "web", "policy": "hash", "available": 1, "backends": [tunnels, idle, ready]}]
    assert main(["status"]) == 0
    lines = capsys.readouterr().out.splitlines()[2:]
    assert lines[0].endswith("3 in flight, the oldest tunnel for 2h 5m")
    assert [line.split()[-1] for line in lines[1:]] == ["-", "-"]


def test_doctest() -> None:
    """The example in the documentation is true."""
    assert doctest.testmod(status).failed == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["drain"],
        ["drain", "web"],
        ["drain", "/a"],
        ["drain", "web/a/b"],
        ["drain", "web/a", "--wait", "soon"],
        ["drain", "web/a", "--expires", "-1"],
        ["weight", "web/a", "-1"],
        ["weight", "web/a", "1.5"],
        ["add", "web", "a"],
        ["status", "web"],
    ],
)
def test_bad_usage(asked: Asked, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    """What can't be meant is exit code 2, and the program isn't asked."""
    with pytest.raises(SystemExit) as leaving:
        main(arguments)
    assert leaving.value.code == 2
    assert asked.questions == []
    assert "usage: pyproxy" in capsys.readouterr().err
