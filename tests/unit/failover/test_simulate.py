"""What would happen if: who has the addresses, after how long, and why."""

import json
from dataclasses import replace
from typing import Any

import pytest

from pyproxy.failover.simulate import FAILURES, check_failure, simulate
from pyproxy.failover.takeover import Facts, PeerFacts
from tests.unit.failover.settings import settings

LINK = {
    "bind": {"host": "10.1.0.1", "port": 9901},
    "peer": {"host": "10.1.0.2", "port": 9901},
    "key_file": "/etc/key",
    "interval": 0.25,
    "dead_after": 4,
}
DOWN = 3 + 156 / 256


def facts(peer_state: str, **peer: Any) -> Facts:
    """All is well on both machines, and the link is up."""
    said = {"gateway": True, "healthy_backends": 3, "sources": frozenset({"10.9.0.2"}), **peer}
    return Facts(
        sources={4: "10.9.0.1"},
        gateway=True,
        ready_workers=2,
        healthy_backends=3,
        link="up",
        peer=PeerFacts(peer_state, 100, True, **said),
    )


def ask(fail: str, state: str = "master", known: Facts | None = None, **changes: Any) -> dict[str, Any]:
    """Simulate a failure on a pair with a link."""
    present = known or facts("backup" if state == "master" else "master")
    return simulate(settings(link=LINK, **changes), present, fail, state=state)


def test_a_master_without_power_is_replaced_after_the_longest_silence() -> None:
    """It fails right after an advert, so that the answer is what has to be reckoned with."""
    report = ask("local")
    assert (report["before"], report["holder"], report["changes"]) == ("local", "peer", True)
    assert report["after"] == pytest.approx(DOWN, abs=0.003)
    assert report["gap"] == pytest.approx(DOWN, abs=0.03)
    assert report["overlap"] == 0
    assert "no advert" in report["reason"]


def test_a_backup_takes_over_when_the_other_machine_fails() -> None:
    """The same from the other side."""
    report = ask("peer", "backup")
    assert (report["before"], report["holder"]) == ("peer", "local")
    assert report["steps"][-1]["to"] == "master"


@pytest.mark.parametrize(
    ("fail", "state"), [("peer", "master"), ("local", "backup"), ("link", "master"), ("gateway", "backup")]
)
def test_some_failures_move_nothing(fail: str, state: str) -> None:
    """The backup's death, the link's, a backup's lost gateway."""
    report = ask(fail, state)
    assert (report["changes"], report["gap"], report["holder"]) == (False, 0, report["before"])


def test_without_workers_the_addresses_move_by_the_link() -> None:
    """After no_worker and the time of a message."""
    report = ask("workers")
    assert (report["holder"], report["after"]) == ("peer", pytest.approx(0.5, abs=0.003))
    assert [step["to"] for step in report["steps"]] == ["fault", "master"]


def test_a_lost_gateway_moves_them_to_the_machine_that_has_one() -> None:
    """Unless the other one hasn't, either."""
    assert ask("gateway")["holder"] == "peer"
    assert ask("gateway", known=facts("backup", gateway=False))["holder"] == "local"


def test_the_last_backend_counts_with_no_backend_only() -> None:
    """It fails for both machines, so the other one would have to see more."""
    release = {"no_worker": 0.5, "no_backend": True}
    last = replace(facts("backup"), healthy_backends=1)
    assert ask("backend:web/a", known=last, release_when=release)["holder"] == "peer"
    assert ask("backend:web/a", known=replace(facts("backup"), healthy_backends=1))["holder"] == "local"
    assert ask("backend:web/a", release_when=release)["changes"] is False


def test_a_peer_that_is_not_fit_takes_nothing() -> None:
    """A refusing guard there: nobody has the addresses, and the answer says why."""
    known = facts("fault")
    assert known.peer is not None
    report = ask("local", known=replace(known, peer=replace(known.peer, well=False, reason="stale")))
    assert (report["holder"], report["changes"]) == ("nobody", True)
    assert report["reason"] == "guard refuses: stale"
    assert any("nobody has the addresses" in line for line in report["lines"])


def test_without_a_link_the_other_machine_is_imagined() -> None:
    """What is taken for granted is said."""
    report = simulate(settings(), Facts(), "local", state="master")
    assert report["holder"] == "peer"
    assert "no link says so" in " ".join(report["assumed"])
    report = simulate(settings(), Facts(), "link", state="master")
    assert report["holder"] == "local"
    assert "no link that could be cut" in " ".join(report["assumed"])


def test_the_peers_own_settings_are_used_if_they_are_known() -> None:
    """A lower priority waits longer."""
    peer = settings(link=LINK, priority=1)
    present = facts("backup")
    report = simulate(settings(link=LINK), present, "local", state="master", peer_settings=peer)
    assert report["after"] == pytest.approx(3 + 255 / 256, abs=0.003)
    assert report["assumed"] == []


@pytest.mark.parametrize("interval", [0.01, 0.1, 10.0])
def test_any_interval_is_looked_at_for_long_enough(interval: float) -> None:
    """Fast and slow adverts alike."""
    report = ask("local", advert_interval=interval)
    assert report["holder"] == "peer"
    assert report["after"] == pytest.approx(max(DOWN * interval, 0), abs=0.01) or report["after"] == pytest.approx(
        1.0, abs=0.01
    ), "below the link's dead time the link's word holds the addresses back"


@pytest.mark.parametrize("fail", [*FAILURES, "backend:web/web1"])
@pytest.mark.parametrize("state", ["master", "backup"])
def test_every_failure_has_an_answer_for_machines_and_people(fail: str, state: str) -> None:
    """The keys are the same, the lines say what and who, and it is JSON."""
    assert check_failure(fail) == ""
    report = ask(fail, state)
    assert json.loads(json.dumps(report)) == report
    assert report["lines"][0].startswith("If ")
    assert "has the addresses" in report["lines"][1] or "keeps the addresses" in report["lines"][1]


@pytest.mark.parametrize("fail", ["", "power", "backend:", "backend:web", "backend:/a", "backend:web/", "localx"])
def test_an_unknown_failure_is_named(fail: str) -> None:
    """The error says what there is."""
    assert "local, peer, link" in check_failure(fail)
    with pytest.raises(ValueError, match="unknown failure"):
        ask(fail)


def test_the_present_is_not_touched() -> None:
    """Only copies fail."""
    present = facts("backup")
    before = replace(present)
    simulate(settings(link=LINK), present, "workers", state="master")
    assert present == before
