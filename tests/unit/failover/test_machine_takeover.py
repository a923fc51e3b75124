"""How a backup comes to take the addresses, or stays although the master is silent: the rule at work."""

from typing import Any

import pytest

from pyproxy.failover import commands as do
from pyproxy.failover import events as on
from tests.unit.failover.rig import Rig, alarms, kinds

CLAIM = ["SendAdvert", "AddVips", "Announce", "TellLink", "Notify"]
RELEASE = ["SendAdvert", "RemoveVips", "TellLink", "Notify"]
SKEW = 156 / 256  # of priority 100 at adverts of 1 s
DOWN = 3 + SKEW

# --- the rule ---------------------------------------------------------------------------------------------------------


def silent(**changes: Any) -> Rig:
    """A backup that heard a master once, with a link that says that it is master and well."""
    rig = Rig(**changes)
    rig.become_backup()
    rig.peer("master", priority=150)
    return rig


def test_the_links_word_outweighs_missing_adverts() -> None:
    """The addresses stay where they are, an alarm begins; 30 s of spanning tree make no second master."""
    rig = silent()
    assert alarms(rig.wait(DOWN)) == ["split"]
    rig.wait(30.0)
    assert (rig.state, list(rig.machine.alarms)) == ("backup", ["split"])
    assert "link says" in rig.machine.reason
    assert alarms(rig.hear(150)) == ["-split"]
    assert rig.machine.reason == "hears 10.9.0.2 with priority 150"


def test_when_the_link_dies_too_the_addresses_are_taken_at_once() -> None:
    """The master really died: no further timer is waited for."""
    rig = silent()
    rig.wait(30.0)
    commands = rig.know(link="dead")
    assert [kind for kind in kinds(commands) if kind != "Alarm"] == CLAIM
    assert alarms(commands) == ["-split"]


def test_after_split_hold_the_gateway_decides() -> None:
    """Only who reaches the gateway that the other one doesn't takes over against the link's word."""
    rig = silent(split_hold=10.0)
    rig.know(gateway=True)
    rig.wait(DOWN + 20.0)
    assert rig.state == "backup"
    rig.peer("master", gateway=False)
    assert rig.state == "master"
    early = silent(split_hold=10.0)
    early.know(gateway=True)
    early.peer("master", gateway=False)
    early.wait(DOWN + 9.7)
    assert early.state == "backup"
    early.wait(0.5)
    assert early.state == "master"


@pytest.mark.parametrize(
    "word", [{"state": "init", "released": True}, {"state": "fault"}, {"state": "backup", "released": True}]
)
def test_what_the_link_offers_is_taken_at_once(word: dict[str, Any]) -> None:
    """No timer is waited for: a planned move takes milliseconds."""
    rig = silent()
    rig.hear(150)
    commands = rig.peer(**word)
    assert kinds(commands) == CLAIM


def test_why_the_master_left_is_told_when_the_link_says_it() -> None:
    """Its farewell may be faster than the link."""
    rig = Rig()
    rig.become_backup()
    rig.hear(0)
    rig.wait(SKEW + 0.01)
    assert (rig.state, rig.machine.reason) == ("master", "the master left")
    rig.peer("backup", released=True, reason="new kernel")
    assert rig.machine.reason == "the peer released the addresses: new kernel"
    rig.peer("backup")
    assert rig.machine.reason == "the peer released the addresses: new kernel"


def test_nothing_is_taken_before_a_down_interval_of_listening() -> None:
    """At the start a third machine may be master, whatever the link says of the second one."""
    rig = Rig()
    rig.start()
    rig.peer("fault")
    rig.wait(DOWN - 0.01)
    assert rig.state == "backup"
    rig.wait(0.01)
    assert rig.state == "master"


def test_a_peer_that_was_heard_may_offer_before_that() -> None:
    """Who has heard its adverts knows that it was the master, and a hand-over needn't wait for the skew."""
    rig = Rig()
    rig.start()
    rig.wait(0.1)
    rig.hear(150)
    assert kinds(rig.peer("backup", released=True, sources=frozenset({"10.9.0.2"}))) == CLAIM


def test_adverts_from_before_a_suspension_prove_nothing() -> None:
    """Whoever was heard then may have had three successors since."""
    rig = Rig()
    rig.become_backup()
    rig.give(on.Resumed(3600.0))
    rig.wait(0.1)
    rig.peer("backup", released=True, sources=frozenset({"10.9.0.2"}))
    assert rig.state == "backup"
    rig.hear(150)
    assert rig.state == "backup"


@pytest.mark.parametrize("source", ["10.9.0.2", "10.9.0.3"])
def test_an_offer_is_taken_whoever_else_is_heard(source: str) -> None:
    """The master that was heard is the peer, or a stranger who may not keep both machines away."""
    rig = Rig()
    rig.become_backup()
    rig.peer("fault", sources=frozenset({source}))
    assert rig.state == "master"


def test_an_isolated_backup_stays_and_listens_anew_when_it_is_connected() -> None:
    """Its own port may have been what was blocked, so the master gets a whole down interval."""
    rig = Rig()
    rig.become_backup()
    rig.know(gateway=False)
    assert alarms(rig.wait(DOWN)) == ["isolated"]
    rig.wait(30.0)
    assert rig.state == "backup"
    commands = rig.know(gateway=True)
    assert (alarms(commands), rig.state) == (["-gateway", "-isolated"], "backup")
    assert rig.deadline() == pytest.approx(DOWN)
    rig.wait(DOWN)
    assert rig.state == "master"


def test_a_farewell_counts_when_the_link_confirms_it() -> None:
    """Priority 0 comes over the wire before the link says that the master is gone."""
    rig = silent()
    rig.hear(0)
    rig.peer("init")
    rig.wait(SKEW)
    assert rig.state == "master"


def test_a_forged_farewell_is_an_alarm_and_no_order() -> None:
    """It comes from the master's address, and the link says that the master is well; a real one dies later."""
    rig = silent()
    rig.hear(0)
    commands = rig.wait(SKEW)
    assert (alarms(commands), rig.state) == (["stranger"], "backup")
    assert "with priority 0" in rig.machine.alarms["stranger"]
    rig.hear(150)
    assert "-stranger" in alarms(rig.wait(3.5))


def test_a_last_resort_waits_for_silence_on_every_path() -> None:
    """Stale data is better than none, but only when nothing else is left."""
    rig = Rig(split_hold=20.0)
    rig.become_backup()
    rig.peer("master", priority=150)
    rig.know(guards="last_resort", guard_reason="stale")
    rig.wait(60.0)
    assert rig.state == "backup"
    rig.know(link="dead")
    rig.wait(19.7)
    assert rig.state == "backup"
    rig.wait(0.6)
    assert rig.state == "master"
    assert rig.machine.reason.startswith("last resort (stale)")


def test_a_preempting_backup_does_not_take_from_one_that_sees_more() -> None:
    """A higher priority is no use without backends."""
    rig = Rig(preempt=True)
    rig.start()
    rig.peer("master", priority=99, healthy_backends=3)
    rig.know(healthy_backends=1)
    for _ in range(10):
        rig.wait(1.0)
        rig.hear(99)
    assert (rig.state, rig.machine.reason) == ("backup", "the master sees more healthy backends than we do")
    assert rig.machine.told(rig.now).advert_age == 0.0, "the master would raise one_way"
    rig.know(healthy_backends=3)
    for _ in range(5):
        rig.wait(1.0)
        if rig.state == "backup":
            rig.hear(99)
    assert rig.state == "master"


def test_preemption_after_a_split_begins_with_listening() -> None:
    """The first lower advert after a split ends the alarm and starts a whole down interval."""
    rig = silent(preempt=True)
    rig.wait(10.0)
    rig.peer("master", priority=50)
    assert alarms(rig.hear(50)) == ["-split"]
    assert rig.deadline() == pytest.approx(DOWN)


# --- fencing ----------------------------------------------------------------------------------------------------------


def fencing(**changes: Any) -> Rig:
    """A backup with a fence whose link has died, at the moment when it would take over."""
    rig = Rig(fence=["/bin/off"], **changes)
    rig.become_backup()
    rig.know(link="dead")
    rig.wait(DOWN)
    assert rig.state == "backup"
    return rig


def test_who_doesnt_answer_needs_no_fence() -> None:
    """The probe finds nobody, so the addresses are taken."""
    rig = fencing()
    assert rig.log[-1][1] == do.ProbeVips(rig.settings.virtual_ips)
    assert kinds(rig.give(on.ProbeDone(None))) == CLAIM


def test_who_still_answers_is_fenced_first() -> None:
    """Nothing is claimed before the command has succeeded."""
    rig = fencing()
    assert rig.give(on.ProbeDone("02:00:00:00:00:02")) == [do.Fence(("/bin/off",), "02:00:00:00:00:02", 30.0)]
    commands = rig.give(on.FenceDone(True))
    assert kinds(commands) == CLAIM
    assert "fenced" in rig.machine.reason


def test_a_fence_that_fails_is_tried_again_after_a_down_interval() -> None:
    """The alarm stays until a master is heard or the addresses are ours."""
    rig = fencing()
    rig.give(on.ProbeDone("02:00:00:00:00:02"))
    assert alarms(rig.give(on.FenceDone(False, "exit code 1"))) == ["fence"]
    assert (rig.state, rig.machine.reason) == ("backup", "fencing failed: exit code 1")
    assert kinds(rig.wait(DOWN)) == ["ProbeVips"]
    assert alarms(rig.hear(150)) == ["-fence"]
    assert rig.give(on.ProbeDone(None)) == [], "the answer comes too late to matter"


def test_an_answer_that_never_comes_is_a_failure() -> None:
    """Nothing waits for ever."""
    rig = fencing()
    rig.wait(1.0)
    assert "fence" in rig.machine.alarms
    rig.wait(DOWN)
    rig.give(on.ProbeDone("02:00:00:00:00:02"))
    rig.wait(35.0)
    assert "fence" in rig.machine.alarms


def test_without_the_kernels_addresses_there_is_nobody_to_probe() -> None:
    """In a cloud the fence comes at once."""
    rig = fencing(vip_backend="none")
    assert isinstance(rig.log[-1][1], do.Fence)


def test_a_living_link_or_a_farewell_needs_no_fence() -> None:
    """It is for an old master of which nothing is known."""
    rig = Rig(fence=["/bin/off"])
    rig.become_backup()
    rig.hear(0)
    assert kinds(rig.wait(SKEW)) == CLAIM
    dead = Rig(fence=["/bin/off"])
    dead.become_backup()
    dead.know(link="dead")
    dead.hear(0)
    assert kinds(dead.wait(SKEW)) == CLAIM
    linked = Rig(fence=["/bin/off"])
    linked.become_backup()
    assert kinds(linked.peer("fault")) == CLAIM


@pytest.mark.parametrize("changes", [{"advert_interval": 0.1}, {"priority": 255}])
def test_a_machine_that_starts_waits_for_its_worker(changes: dict[str, Any]) -> None:
    """It would take an address that it can't serve; as soon as there is one it takes it."""
    rig = Rig(**changes)
    rig.facts.ready_workers = 0
    rig.start()
    rig.wait(0.45)
    assert rig.state != "master"
    rig.know(ready_workers=1)
    rig.wait(0.3)
    assert rig.state == "master"
