"""Pins what `pyproxy peer` says to people and to monitoring, and its exit codes."""

import json
from pathlib import Path
from typing import Any

import pytest

from pyproxy.cli.api import AdminApi, ApiError
from pyproxy.cli.main import main
from pyproxy.cli.peer import judge
from pyproxy.config.compile_failover import compile_failover
from pyproxy.config.load import load_text
from pyproxy.config.model import SpeakerConfig
from tests.unit.admin.fake_pair import pair_view

FILE = """
failover: {interface: eth0, virtual_ips: [192.168.0.10/32], vrid: 51}
"""


class Asked:
    """What was asked, and the answers by path."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {"/api/v1/peer": pair_view()}
        self.questions: list[tuple[str, str, Any]] = []
        self.patience = 0.0

    def ask(self, method: str, path: str, content: Any = None, *, patience: float = 0.0) -> Any:
        self.questions.append((method, path, content))
        self.patience = patience
        answer = self.answers[path]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """A directory with the file of a speaker alone, and no program to be asked."""
    (tmp_path / "lb.yml").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYPROXY_CONFIG", raising=False)
    asked = Asked()
    monkeypatch.setattr(AdminApi, "ask", asked.ask)
    return asked


def said(name: str, *, ok: bool | None = False, detail: str = "") -> dict[str, Any]:
    """What a guard, a track or a witness said 7 s ago."""
    return {"name": name, "ok": ok, "detail": detail, "at": "2026-11-22T16:00:00.000Z", "age": 7.1}


def link(**more: Any) -> dict[str, Any]:
    """How the link is."""
    return {"state": "dead", "heard_age": None, "speaking": False, "refused": {}, "fault": "", **more}


def view(**more: Any) -> Any:
    """A pair in some state."""
    return pair_view(**more)


def machine(**more: Any) -> dict[str, Any]:
    """The other machine in some state."""
    return {**pair_view()["peer"], **more}


def test_the_pair_for_people(asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    """Everything that an operator looks for first."""
    asked.answers["/api/v1/peer"] = view(drift=["client"], guards=[said("drbd", detail="stale")])
    assert main(["peer"]) == 0
    text = capsys.readouterr().out
    assert "backup since 2026-11-22T16:00:00.000Z: heard the master" in text
    assert "10.1.0.2 is master, sees 3 healthy backends" in text
    assert "up, heard 0.1 s ago, speaking" in text
    assert "drbd: FAILS stale" in text
    assert "init -> backup" in text


def test_adverts_that_were_dropped_are_shown_with_why(asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    """Under `split` that is what one looks for; another pair's adverts are not."""
    asked.answers["/api/v1/peer"] = view(dropped={"version": 7, "checksum": 1, "own": 99, "other_vrid": 3})
    assert main(["peer"]) == 0
    assert "dropped    1 adverts for checksum, 7 adverts for version\n" in capsys.readouterr().out
    asked.answers["/api/v1/peer"] = view(dropped={"own": 99})
    assert main(["peer"]) == 0
    assert "dropped" not in capsys.readouterr().out


def test_json_is_the_apis_answer(asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    """Before an action and behind it."""
    assert main(["peer", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == pair_view()
    asked.answers["/api/v1/peer/diff"] = {"drift": [], "diff": ""}
    for arguments in (["peer", "--json", "diff"], ["peer", "diff", "--json"]):
        assert main(arguments) == 0
        assert json.loads(capsys.readouterr().out) == {"drift": [], "diff": ""}


def test_a_handover_has_as_long_as_the_grace(asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    """It says how long it took and what was reset."""
    asked.answers["/api/v1/peer/handover"] = {"state": "backup", "duration": 1.25, "reset": 2}
    assert main(["peer", "handover", "--reason", "kernel"]) == 0
    assert asked.questions == [("POST", "/api/v1/peer/handover", {"reason": "kernel"})]
    assert asked.patience > 30.0
    assert "handed over in 1.25 s, 2 connections were reset: this machine is backup" in capsys.readouterr().out


def test_a_handover_that_is_refused_fails(asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    """With the reason."""
    asked.answers["/api/v1/peer/handover"] = ApiError("the other machine is fault", is_answer=True)
    assert main(["peer", "handover"]) == 1
    assert "the other machine is fault" in capsys.readouterr().err


def test_a_difference_is_exit_code_1(asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    """As diff has it."""
    asked.answers["/api/v1/peer/diff"] = {"drift": ["client"], "diff": "--- lb2: client\n"}
    assert main(["peer", "diff"]) == 1
    assert capsys.readouterr().out == "--- lb2: client\n"


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        ({}, 0, "backup, 10.1.0.2 is master"),
        ({"state": "master", "vip_present": True}, 0, "master"),
        ({"link": None, "peer": machine(link="down", state=None)}, 0, "last heard"),
        ({"state": "master"}, 2, "without its addresses"),
        ({"state": "fault", "reason": "no worker is ready"}, 2, "fault: no worker is ready"),
        ({"state": "init", "reason": ""}, 1, "begins"),
        ({"alarms": [{"name": "dual_master", "text": "both", "since": ""}]}, 2, "dual_master: both"),
        ({"alarms": [{"name": "split", "text": "no adverts", "since": ""}]}, 1, "split: no adverts"),
        ({"alarms": [{"name": "no_master", "text": "nobody", "since": ""}]}, 2, "no_master: nobody"),
        ({"alarms": [{"name": "stray_address", "text": "here", "since": ""}]}, 2, "stray_address: here"),
        ({"alarms": [{"name": "state_file", "text": "full", "since": ""}]}, 1, "state_file: full"),
        ({"guards": [said("drbd", detail="stale")]}, 1, "guard drbd fails: stale (7 s ago)"),
        ({"tracks": [said("web", detail="status 503")]}, 1, "track web fails: status 503 (7 s ago)"),
        ({"tracks": [said("web")], "state": "master", "vip_present": True}, 2, "track web fails: (7 s ago)"),
        ({"tracks": [said("web", ok=None)]}, 0, "backup"),
        ({"gateway": False}, 1, "the gateway doesn't answer"),
        ({"witness_states": [said("r:53", detail="refused")]}, 1, "witness r:53 fails: refused (7 s ago)"),
        ({"peer": machine(link="down")}, 1, "the link to the peer is down"),
        ({"peer": machine(link="down"), "link": link(fault="wrong key")}, 1, "the link to the peer is down: wrong key"),
        ({"state": "master", "vip_present": True, "peer": machine(state="init")}, 1, "there is no standby"),
        ({"peer": machine(state="fault", reason="x")}, 1, "the peer is in fault: x"),
        ({"peer": machine(state="backup", well=False)}, 1, "not fit"),
        ({"drift": ["client", "pools.web"]}, 1, "differ in client, pools.web"),
    ],
)
def test_the_worst_decides_the_code(change: dict[str, Any], code: int, text: str) -> None:
    """Nagios: 0 ok, 1 warning, 2 critical; what is wrong is named, worst first."""
    found, said = judge(view(**change))
    assert found == code
    assert text in said


def test_a_fault_is_named_once() -> None:
    """The state is the problem itself then."""
    assert judge(view(state="fault", reason="no worker is ready"))[1].count("fault") == 1


def test_a_check_is_one_line_with_a_code(asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    """Also when nobody answers, which is critical, or the answer is a refusal, which says nothing."""
    assert main(["peer", "--check"]) == 0
    assert capsys.readouterr().out.startswith("PYPROXY OK - backup, 10.1.0.2 is master")
    asked.answers["/api/v1/peer"] = ApiError("pyproxy is not running")
    assert main(["peer", "--check"]) == 2
    assert capsys.readouterr().out == "PYPROXY CRITICAL - pyproxy is not running\n"
    asked.answers["/api/v1/peer"] = ApiError("wrong token", is_answer=True)
    assert main(["peer", "--check"]) == 3


def test_a_simulation_runs_on_the_programs_facts(asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    """With the other machine's settings if it told them; several failures are several answers."""
    failover = load_text(FILE, "lb.yml", {}, SpeakerConfig).failover
    assert failover is not None
    peer = {"state": "backup", "priority": 90, "well": True}
    facts = {"link": "none", "sources": {"4": "192.168.0.1"}, "peer": peer, "ready_workers": 2}
    asked.answers["/api/v1/peer"] = view(state="master")
    asked.answers["/api/v1/peer/facts"] = {
        "settings": compile_failover(failover),
        "facts": facts,
        "peer_settings": None,
    }
    assert main(["peer", "simulate", "--fail", "local", "--fail", "workers"]) == 0
    assert "If this machine loses its power:" in capsys.readouterr().out
    assert main(["peer", "simulate", "--fail", "local", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["holder"] == "peer"


def test_an_unknown_failure_is_bad_usage(asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    """What there is is named."""
    assert main(["peer", "simulate", "--fail", "everything"]) == 2
    assert "unknown failure 'everything'" in capsys.readouterr().err


def test_a_backend_that_is_not_there_cannot_fail(asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    """A typing error must not be an all-clear."""
    asked.answers["/api/v1/pools/web/backends/10.0.0.1%3A80"] = ApiError("no backend '10.0.0.1:80' in pool 'web'")
    assert main(["peer", "simulate", "--fail", "backend:web/10.0.0.1:80"]) == 1
    assert capsys.readouterr().err == "pyproxy: no backend '10.0.0.1:80' in pool 'web'\n"


def test_facts_of_another_version_are_told(asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    """Not a traceback."""
    asked.answers["/api/v1/peer/facts"] = {"settings": {}, "facts": {}, "peer_settings": None}
    assert main(["peer", "simulate", "--fail", "local"]) == 1
    assert "can't be used" in capsys.readouterr().err
