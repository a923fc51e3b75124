"""What the speaker tells of itself."""

import json

from pyproxy.failover.machine import Machine
from pyproxy.failover.report import MAX_TRANSITIONS, Report, no_master
from pyproxy.failover.takeover import Facts, PeerFacts
from tests.unit.failover.rig import Rig
from tests.unit.failover.settings import settings


def test_a_view_of_the_beginning_is_whole() -> None:
    """Every key is there, and all of it is JSON."""
    machine = Machine(settings())
    view = json.loads(json.dumps(Report().view(machine, 0.0, {})))
    assert view["state"] == "init"
    assert view["virtual_ips"] == ["10.9.0.100/32"]
    assert (view["peer"], view["last_advert"], view["transitions"], view["alarms"]) == (None, None, [], [])
    assert view["facts"]["link"] == "none"


def test_the_peer_is_what_adverts_and_link_say() -> None:
    """Its address from the ones, the rest from the other."""
    facts = Facts(link="up", peer=PeerFacts("master", 150, True, advert_age=0.5, sources=frozenset({"10.9.0.2"})))
    report = Report()
    report.hear("10.9.0.2")
    report.peer_digest = "abc"
    peer = json.loads(json.dumps(report.view(Machine(settings(), facts), 0.0, {})))["peer"]
    assert (peer["address"], peer["state"], peer["well"], peer["priority"]) == ("10.9.0.2", "master", True, 150)
    assert (peer["advert_age"], peer["config_digest"]) == (0.5, "abc")
    assert peer["heard"] == report.heard_at


def test_transitions_are_kept_within_reason() -> None:
    """The last ones."""
    report = Report()
    for number in range(MAX_TRANSITIONS + 10):
        told = report.change("backup", "master", str(number))
    assert (told["type"], told["kind"], told["to"]) == ("event", "transition", "master")
    assert len(report.transitions) == MAX_TRANSITIONS
    assert report.transitions[-1]["reason"] == str(MAX_TRANSITIONS + 9)


def test_an_alarm_has_a_beginning_and_an_end() -> None:
    """Since when is known as long as it lasts; an end that had no beginning is no error."""
    report = Report()
    began = report.alarm("split", "the link says otherwise")
    assert (began["on"], began["reason"]) == (True, "the link says otherwise")
    assert report.alarms == {"split": began["at"]}
    assert report.alarm("split", "")["on"] is False
    report.alarm("split", "")
    assert report.alarms == {}


def test_that_nobody_has_the_addresses_is_said_in_time() -> None:
    """A backup that hears nothing and doesn't take over says so; one that hears a master, or waits, doesn't."""
    rig = Rig()
    rig.become_backup()
    assert no_master(rig.machine, rig.now) == ""
    rig.facts.guards, rig.facts.guard_reason = "last_resort", "stale"
    rig.wait(4.0)
    assert no_master(rig.machine, rig.now) == ""
    rig.wait(6.0)
    assert "this machine doesn't take over: last resort (stale)" in no_master(rig.machine, rig.now)
    rig.peer("master")
    assert no_master(rig.machine, rig.now) == "", "that is another alarm"


def test_a_master_misses_no_master() -> None:
    """It is one."""
    rig = Rig()
    rig.become_master()
    rig.wait(60.0)
    assert no_master(rig.machine, rig.now) == ""
