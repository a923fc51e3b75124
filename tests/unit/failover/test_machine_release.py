"""When a master gives the addresses away though nobody takes them, and how two masters are noticed."""

from typing import Any

import pytest

from pyproxy.failover import commands as do
from pyproxy.failover import events as on
from tests.unit.failover.rig import Rig, alarms, kinds, sent
from tests.unit.failover.settings import vips

RELEASE = ["SendAdvert", "RemoveVips", "TellLink", "Notify"]
SKEW = 156 / 256  # of priority 100 at adverts of 1 s
DOWN = 3 + SKEW
BOTH = vips("10.9.0.100", "fe80::100")
QUIET = {"repeat": 5, "delay": 0.0, "refresh": 0.0}

# --- giving them away -------------------------------------------------------------------------------------------------
CONFIRMED = 1.5  # seconds after which a word of the peer about its gateway counts


def handing(**peer: Any) -> Rig:
    """A master whose peer is a fit backup, with a handover asked for."""
    rig = Rig()
    rig.become_master()
    rig.peer("backup", gateway=True, **peer)
    rig.facts.gateway = True
    return rig


def test_a_handover_drains_first_and_then_tells_the_link() -> None:
    """BeginHandover; when all is drained priority 0, release, and the word that it is released."""
    rig = handing()
    assert rig.give(on.HandoverRequested()) == [do.BeginHandover()]
    assert rig.give(on.HandoverRequested()) == [], "it is under way"
    assert set(sent(rig.wait(10.0))) == {100}, "it stays master as long as it drains"
    commands = rig.give(on.DrainDone())
    assert kinds(commands) == [*RELEASE, "EndHandover"]
    assert (sent(commands), rig.state, rig.machine.released) == ([0], "backup", True)
    rig.peer("master", priority=50)
    assert not rig.machine.released


def test_after_a_handover_it_does_not_preempt() -> None:
    """The operator wanted the other one, whatever the priorities; a new master's death ends that."""
    rig = Rig(preempt=True)
    rig.become_master()
    rig.peer("backup", priority=50)
    rig.give(on.HandoverRequested())
    rig.give(on.DrainDone())
    rig.peer("master", priority=50)
    for _ in range(60):
        rig.wait(1.0)
        rig.hear(50)
    assert rig.state == "backup"
    rig.know(link="dead")
    rig.wait(DOWN)
    assert rig.state == "master"


def test_if_nobody_takes_them_they_come_back() -> None:
    """A peer that dies in that very moment costs a down interval."""
    rig = handing()
    rig.give(on.HandoverRequested())
    rig.give(on.DrainDone())
    rig.wait(DOWN)
    assert rig.state == "master"


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"link": "none", "peer": None}, "no link"),
        ({"link": "dead"}, "down"),
    ],
)
def test_an_unfit_peer_gets_nothing(facts: dict[str, object], why: str) -> None:
    """Also when it became unfit while the drain was going on."""
    rig = handing()
    rig.give(on.HandoverRequested())
    rig.know(**facts)
    (refusal,) = rig.give(on.DrainDone())
    assert isinstance(refusal, do.RefuseHandover)
    assert why in refusal.reason
    assert (rig.state, rig.machine.is_draining) == ("master", False)
    assert isinstance(rig.give(on.HandoverRequested())[0], do.RefuseHandover)
    assert rig.give(on.DrainDone()) == []


def test_a_handover_that_others_end_is_over() -> None:
    """A better master came while it was draining: whoever waits for the handover hears of it."""
    rig = handing()
    rig.give(on.HandoverRequested())
    rig.peer("master", priority=200)
    assert kinds(rig.hear(200))[-1] == "EndHandover"
    assert not rig.machine.is_draining


def test_a_lost_gateway_that_the_peer_has_is_a_reason_to_go() -> None:
    """→ F while the peer reaches it, and back when it answers; without a fit peer it stays."""
    rig = handing()
    rig.know(gateway=False)
    rig.wait(CONFIRMED)
    commands = rig.peer("backup", gateway=True, gateway_age=0.01)
    assert (kinds(commands), rig.state) == (RELEASE, "fault")
    rig.peer("master", gateway=True)
    assert rig.state == "fault"
    rig.know(gateway=True)
    assert rig.state == "backup"
    for peer in ({"gateway": None}, {"gateway": False}, {"gateway": True, "well": False}):
        alone = Rig()
        alone.become_master()
        alone.peer("backup", **peer)
        alone.know(gateway=False)
        alone.wait(CONFIRMED)
        alone.peer("backup", **peer)
        assert alone.state == "master"


def test_what_the_peer_said_of_its_gateway_before_ours_was_lost_is_no_reason() -> None:
    """Both ports may be blocked in one moment, and each notices at its own time; somebody has to stay master."""
    rig = handing()
    rig.know(gateway=False)
    rig.wait(0.1)
    rig.peer("backup", gateway=True, gateway_age=1.3)
    rig.wait(CONFIRMED)
    rig.peer("backup", gateway=True, gateway_age=1.4 + CONFIRMED)
    rig.peer("backup", gateway=False)
    assert rig.state == "master"


def test_who_sees_the_gateway_come_back_first_gets_nothing_for_it() -> None:
    """Both are connected again in one moment, and the other machine's question happens to be the first."""
    rig = handing()
    rig.know(gateway=False)
    rig.peer("backup", gateway=False)
    rig.wait(60.0)
    rig.peer("backup", gateway=True, gateway_age=0.0)
    rig.wait(1.0)
    rig.peer("backup", gateway=True, gateway_age=0.0)
    rig.know(gateway=True)
    rig.wait(60.0)
    rig.peer("backup", gateway=True, gateway_age=0.0)
    assert rig.state == "master"


def test_without_backends_they_go_to_a_peer_that_has_some() -> None:
    """Only with release_when.no_backend, and never to one that sees no more than we do."""
    rig = Rig(release_when={"no_worker": 0.5, "no_backend": True}, preempt=True)
    rig.become_master()
    rig.peer("backup", priority=50, healthy_backends=0)
    assert rig.know(healthy_backends=0) == []
    commands = rig.peer("backup", priority=50, healthy_backends=2)
    assert (kinds(commands), rig.state) == (RELEASE, "backup")
    rig.peer("master", priority=50, healthy_backends=2)
    for _ in range(10):
        rig.wait(1.0)
        rig.hear(50)
    assert rig.state == "backup", "no preemption without backends"
    rig.know(healthy_backends=3)
    for _ in range(5):
        rig.wait(1.0)
        if rig.state == "backup":
            rig.hear(50)
    assert rig.state == "master"
    plain = handing(healthy_backends=2)
    plain.know(healthy_backends=0)
    assert plain.state == "master"


# --- two masters ------------------------------------------------------------------------------------------------------


def test_two_masters_are_an_alarm_and_are_counted() -> None:
    """From the second foreign advert on, back to the first; one alone is a farewell."""
    rig = Rig()
    rig.become_master()
    begin = rig.now
    assert alarms(rig.hear(50)) == []
    rig.wait(1.0)
    assert alarms(rig.hear(50)) == ["dual_master"]
    assert rig.machine.duals.seconds(rig.now) == pytest.approx(1.0)
    rig.wait(1.0)
    rig.hear(50)
    assert alarms(rig.wait(3.0)) == ["-dual_master"]
    assert rig.machine.duals.seconds(rig.now) == pytest.approx(2.0)
    assert rig.now == begin + 5.0


def test_of_two_masters_that_only_see_each_other_by_the_link_one_goes() -> None:
    """After a down interval: the one without the gateway, else the lower priority, else the lower address."""
    for ours, theirs, stays in ((100, 99, True), (100, 101, False)):
        rig = Rig(priority=ours)
        rig.become_master()
        rig.peer("master", priority=theirs)
        rig.wait(DOWN + 1.0)
        assert (rig.state == "master") is stays
        assert ("dual_master" in rig.machine.alarms) is stays
    rig = Rig()
    rig.become_master()
    rig.know(gateway=True)
    rig.peer("master", priority=200, gateway=False)
    rig.wait(60.0)
    assert rig.state == "master"
    assert alarms(rig.peer("backup")) == ["-dual_master"]


def test_a_peer_that_does_not_hear_us_is_an_alarm() -> None:
    """The link lives and our adverts don't arrive: a firewall, before it makes two masters."""
    rig = Rig()
    rig.become_master()
    rig.peer("backup", advert_age=0.4)
    rig.wait(10.0)
    assert rig.machine.alarms == {}
    rig.peer("backup", advert_age=9.0)
    assert alarms(rig.wait(rig.machine.down_interval() + 1.0)) == ["one_way"]
    assert alarms(rig.peer("backup", advert_age=0.1)) == ["-one_way"]


def test_a_peer_that_has_just_begun_to_listen_is_no_alarm() -> None:
    """The link comes up before the first advert that it can hear, however long we have been master."""
    rig = Rig()
    rig.become_master()
    rig.wait(60.0)
    before = len(rig.log)
    for age in (None, 9.0):
        rig.peer("backup", advert_age=age)
        rig.wait(rig.machine.down_interval() - 0.5)
        rig.peer("backup", advert_age=0.1)
        rig.wait(60.0)
    assert alarms(command for _, command in rig.log[before:]) == []


def test_a_peer_that_appears_is_told_where_the_addresses_are() -> None:
    """It may come back from being cut off, and its switch with it."""
    rig = Rig(garp=QUIET)
    rig.become_master()
    rig.wait(1.0)
    assert kinds(rig.peer("backup", advert_age=0.1)) == ["Announce"]
    rig.know(link="dead")
    rig.wait(1.0)
    assert kinds(rig.know(link="up")) == ["Announce"]


def test_a_supervisor_that_hangs_moves_the_address_to_a_fit_peer() -> None:
    """And not back before it is well again, whoever has the higher priority."""
    rig = Rig(preempt=True)
    rig.become_master()
    rig.know(supervisor_hangs=True)
    assert rig.state == "master", "nobody else could have it"
    assert sent(rig.peer("backup", gateway=True, priority=50))[-1:] == [0]
    assert (rig.state, rig.machine.reason) == ("backup", "the supervisor hangs")
    rig.peer("master", priority=50)
    for _ in range(8):
        rig.hear(50)
        rig.wait(1.0)
    assert rig.state == "backup"


def test_a_track_that_fails_here_only_moves_the_addresses() -> None:
    """A peer that is well has checked the same; failing on both, it moves nothing."""
    rig = Rig()
    rig.become_master()
    rig.peer("backup", well=False, gateway=True)
    rig.know(impaired="web fails: status 503")
    assert rig.state == "master"
    assert not rig.machine.told(rig.now).well
    assert sent(rig.peer("backup", gateway=True))[-1:] == [0]
    assert (rig.state, rig.machine.reason) == ("backup", "web fails: status 503")


def test_without_a_link_a_failing_track_gives_the_addresses_up_once() -> None:
    """If nobody else is better they come back, and stay for as long as it fails."""
    rig = Rig()
    rig.become_master()
    rig.know(impaired="web fails: status 503")
    assert rig.state == "backup"
    rig.wait(DOWN)
    assert rig.state == "master"
    rig.know()
    rig.wait(20.0)
    assert rig.state == "master"
    rig.know(impaired="")
    rig.know(impaired="web fails: status 503")
    assert rig.state == "backup"


def test_failing_tracks_lower_the_priority() -> None:
    """In the adverts, over the link, and for who preempts; it is never 0, which means that the master leaves."""
    rig = Rig(preempt=True, priority=150)
    rig.become_master()
    rig.know(lowered=60)
    assert sent(rig.wait(1.0)) == [90]
    assert rig.machine.told(rig.now).priority == 90
    rig.hear(100)
    assert rig.state == "backup"
    rig.hear(100)
    assert rig.machine.reason == "hears 10.9.0.2 with priority 100", "it doesn't preempt"
    rig.know(lowered=250)
    assert rig.machine.priority == 1
