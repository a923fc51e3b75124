"""The rows of the state table for init, backup and fault."""

import pytest

from pyproxy.failover import commands as do
from pyproxy.failover import events as on
from tests.unit.failover.rig import Rig, in_state, kinds, sent, states
from tests.unit.failover.settings import vips

CLAIM = ["SendAdvert", "AddVips", "Announce", "TellLink", "Notify"]
RELEASE = ["SendAdvert", "RemoveVips", "TellLink", "Notify"]
SKEW = 156 / 256  # of priority 100 at adverts of 1 s
DOWN = 3 + SKEW

# --- init -------------------------------------------------------------------------------------------------------------


def test_the_owner_is_master_at_once() -> None:
    """I, start, priority 255: advert, addresses, announcement, A."""
    rig = Rig(priority=255)
    commands = rig.start()
    assert kinds(commands) == CLAIM
    assert (sent(commands), rig.state, rig.deadline()) == ([255], "master", 1.0)


@pytest.mark.parametrize(
    ("changes", "down"),
    [
        ({}, DOWN),
        ({"priority": 254}, 3 + 2 / 256),
        ({"priority": 1, "advert_interval": 0.1}, 0.3 + 25.5 / 256),
        ({"down_adverts": 45}, 45 + SKEW),
        ({"version": 2, "advert_interval": 5.0}, 15 + SKEW),
        ({"virtual_ips": vips("fe80::100")}, DOWN),
    ],
)
def test_others_listen_for_a_down_interval_first(changes: dict[str, object], down: float) -> None:
    """I, start: D = down_adverts x interval + skew; the skew of version 2 doesn't know the interval."""
    rig = Rig(**changes)
    commands = rig.start()
    assert (rig.state, sent(commands)) == ("backup", [])
    assert rig.deadline() == pytest.approx(down)


def test_leftovers_of_a_former_life_are_removed_at_the_start() -> None:
    """A speaker that doesn't adopt must not leave addresses behind that it doesn't serve."""
    assert kinds(Rig().start())[0] == "RemoveVips"


def test_a_startup_delay_comes_before_the_listening() -> None:
    """Nothing is claimed before the delay and one down interval; the owner only waits for the delay."""
    rig = Rig(startup_delay=10.0)
    rig.start()
    assert (rig.state, rig.deadline()) == ("init", 10.0)
    rig.wait(10.0)
    assert rig.state == "backup"
    assert rig.deadline() == pytest.approx(DOWN)
    owner = Rig(priority=255, startup_delay=10.0)
    owner.start()
    assert owner.state == "init"
    owner.wait(10.0)
    assert owner.state == "master"


def test_a_master_heard_during_the_startup_delay_is_known_afterwards() -> None:
    """Its interval counts for the first down timer already."""
    rig = Rig(startup_delay=10.0)
    rig.start()
    rig.wait(9.5)
    rig.hear(100, interval=2.0)
    rig.wait(0.5)
    assert rig.deadline() == pytest.approx(2 * DOWN)


def test_a_respawned_speaker_goes_on_as_master() -> None:
    """Adopting: one advert, the addresses with a new lease, one announcement, and nothing was given away."""
    rig = Rig(startup_delay=60.0)
    commands = rig.start(adopt=True)
    assert kinds(commands) == CLAIM
    assert commands[2] == do.Announce(rig.settings.virtual_ips, 1)
    assert rig.deadline() == 1.0


def test_a_guard_that_has_not_run_yet_keeps_no_respawned_speaker_from_going_on() -> None:
    """Guards bind a backup; the one before was master, and nobody had asked its guards either."""
    rig = Rig()
    rig.facts.guards, rig.facts.guard_reason = "refuse", "drbd: hasn't run yet"
    assert kinds(rig.start(adopt=True)) == CLAIM
    assert rig.state == "master"


def test_what_is_at_fault_is_not_adopted() -> None:
    """The addresses are given away instead, so that the peer takes them."""
    rig = Rig()
    rig.facts.own_link_up = False
    commands = rig.start(adopt=True)
    assert kinds(commands) == RELEASE
    assert (sent(commands), rig.state) == ([0], "fault")


# --- backup -----------------------------------------------------------------------------------------------------------


def test_silence_makes_a_master() -> None:
    """B, D expires, rule says take: advert first, then addresses, then their announcement."""
    rig = Rig()
    rig.start()
    assert rig.wait(DOWN - 0.001) == []
    commands = rig.wait(0.001)
    assert kinds(commands) == CLAIM
    assert commands[:3] == [
        do.SendAdvert(100),
        do.AddVips(rig.settings.virtual_ips, 2),
        do.Announce(rig.settings.virtual_ips, 5),
    ]
    assert states(commands) == ["master"]
    assert rig.deadline() == 1.0


def test_priority_0_shortens_the_wait_to_the_skew() -> None:
    """B, advert with priority 0: D = skew, of the master's interval."""
    rig = Rig()
    rig.become_backup(interval=0.5)
    rig.hear(0, interval=0.5)
    assert rig.deadline() == pytest.approx(SKEW / 2)
    assert sent(rig.wait(SKEW / 2)) == [100]


def test_repeated_farewells_do_not_put_it_off() -> None:
    """Whoever floods with priority 0 can't keep a backup from taking over."""
    rig = Rig()
    rig.become_backup()
    for _ in range(10):
        rig.hear(0)
        rig.wait(0.1)
    assert rig.state == "master"


def test_only_the_master_says_farewell() -> None:
    """A third machine that stops, or a forger elsewhere, doesn't shorten the wait for the master."""
    rig = Rig()
    rig.become_backup()
    rig.hear(0, source="10.9.0.77")
    assert rig.deadline() == pytest.approx(DOWN)


@pytest.mark.parametrize(("own", "heard"), [(100, 100), (100, 101), (100, 255), (100, 1)])
def test_a_master_is_respected(own: int, heard: int) -> None:
    """B, advert ≥ own priority, or preempt off: D anew, at the master's interval for interval and skew."""
    rig = Rig(priority=own)
    rig.start()
    rig.wait(DOWN - 0.01)
    assert rig.hear(heard, interval=0.5) == []
    assert rig.deadline() == pytest.approx(DOWN / 2)
    rig.hear(heard, interval=2.0)
    assert rig.deadline() == pytest.approx(DOWN * 2)


def test_version_2_does_not_adopt_an_interval() -> None:
    """There, both have the same one (the dialect drops others)."""
    rig = Rig(version=2, advert_interval=1.0)
    rig.start()
    rig.hear(200, interval=3.0)
    assert rig.deadline() == pytest.approx(DOWN)


def test_a_lower_master_is_passed_over_with_preempt() -> None:
    """B, advert < own, preempt on: ignored, D runs on."""
    rig = Rig(preempt=True)
    rig.start()
    for _ in range(3):
        rig.wait(1.0)
        rig.hear(99)
    assert rig.deadline() == pytest.approx(SKEW)
    assert states(rig.wait(SKEW)) == ["master"]
    assert "preempts" in rig.machine.reason


def test_an_equal_one_is_not_preempted() -> None:
    """Preemption needs a higher priority."""
    rig = Rig(preempt=True)
    rig.start()
    for _ in range(10):
        rig.wait(1.0)
        rig.hear(100)
    assert states(command for _, command in rig.log) == ["backup"]


def test_a_preempt_delay_runs_from_the_first_lower_advert() -> None:
    """Until it is over a lower master is respected; if it dies meanwhile, it is replaced as any other."""
    rig = Rig(preempt=True, preempt_delay=20.0)
    rig.start()
    for _ in range(20):
        rig.wait(1.0)
        rig.hear(99)
        assert rig.deadline() == pytest.approx(DOWN)
    for _ in range(5):
        rig.wait(1.0)
        if rig.state == "backup":
            rig.hear(99)
    assert rig.state == "master"
    other = Rig(preempt=True, preempt_delay=3600.0)
    other.become_backup(priority=99)
    other.wait(DOWN)
    assert other.state == "master"
    assert "no advert" in other.machine.reason


@pytest.mark.parametrize("state", ["init", "backup", "master", "fault"])
def test_an_invalid_packet_touches_no_timer(state: str) -> None:
    """Any state, invalid packet: keepalived 2.2.7 as master can be silenced by these."""
    rig = in_state(state)
    before = repr(rig.machine)
    assert rig.give(on.PacketDropped("checksum")) == []
    assert repr(rig.machine) == before


def test_a_backup_that_is_stopped_waits_for_nothing() -> None:
    """B, stop: D is cancelled, → I."""
    rig = Rig()
    rig.become_backup()
    commands = rig.give(on.Stop())
    assert (rig.state, sent(commands), rig.machine.next_deadline()) == ("init", [], None)


def test_a_backup_whose_interface_goes_down_is_at_fault() -> None:
    """B, interface down: D is cancelled, → F."""
    rig = Rig()
    rig.become_backup()
    assert states(rig.know(own_link_up=False)) == ["fault"]
    assert rig.machine.next_deadline() is None
    assert rig.machine.reason == "interface eth0 is down"


# --- fault ------------------------------------------------------------------------------------------------------------


def test_after_a_fault_it_starts_again() -> None:
    """F, cause gone: as start, and unicast peers are told our own address."""
    rig = Rig(link_up_delay=30.0)
    rig.become_master()
    rig.know(ready_workers=0)
    rig.wait(1.0)
    commands = rig.know(ready_workers=2)
    assert (rig.state, kinds(commands)) == ("backup", ["TellLink", "Notify", "AnnounceSelf"])
    assert rig.deadline() == pytest.approx(DOWN)


def test_after_the_interface_came_up_link_up_delay_comes_first() -> None:
    """F, cause gone: switches forward nothing for a while; a new fault starts the wait again."""
    rig = Rig(link_up_delay=30.0)
    rig.become_master()
    rig.know(own_link_up=False)
    rig.wait(100.0)
    rig.know(own_link_up=True)
    assert (rig.state, rig.deadline()) == ("fault", 30.0)
    rig.wait(29.0)
    rig.know(own_link_up=False)
    rig.wait(29.0)
    rig.know(own_link_up=True)
    rig.wait(29.999)
    assert rig.state == "fault"
    rig.wait(0.001)
    assert rig.state == "backup"


def test_the_owner_is_master_again_after_a_fault() -> None:
    """As start."""
    rig = Rig(priority=255)
    rig.start()
    rig.know(own_link_up=False)
    assert kinds(rig.know(own_link_up=True)) == CLAIM


def test_a_refusing_guard_keeps_a_backup_out_and_a_master_in() -> None:
    """Guards say who may be promoted; who is master has been."""
    rig = Rig()
    rig.become_backup()
    assert states(rig.know(guards="refuse", guard_reason="stale")) == ["fault"]
    assert rig.machine.reason == "guard refuses: stale"
    master = Rig()
    master.become_master()
    assert states(master.know(guards="refuse")) == []


def test_a_fault_says_which_cause_is_left() -> None:
    """One cause goes, another one stays."""
    rig = Rig()
    rig.start()
    rig.know(own_link_up=False, guards="refuse")
    rig.know(own_link_up=True)
    assert (rig.state, rig.machine.reason) == ("fault", "guard refuses")


def test_addresses_that_cannot_be_had_are_a_fault_for_a_while() -> None:
    """The peer gets its chance; after ten seconds it is tried again."""
    rig = Rig()
    rig.become_master()
    commands = rig.give(on.VipsFailed("no such device"))
    assert kinds(commands) == RELEASE
    assert (rig.state, rig.machine.reason) == ("fault", "addresses: no such device")
    rig.know(gateway=True)
    rig.wait(9.9)
    assert rig.state == "fault"
    rig.wait(0.1)
    assert rig.state == "backup"


# --- settings ---------------------------------------------------------------------------------------------------------


def test_new_settings_begin_with_listening() -> None:
    """A backup's priority and interval count from now on."""
    rig = Rig()
    rig.start()
    rig.wait(3.0)
    rig.give(on.Reconfigured(Rig(priority=200).settings))
    assert rig.deadline() == pytest.approx(3 + 56 / 256)
    assert rig.machine.told(rig.now).priority == 200


@pytest.mark.parametrize("state", ["init", "backup", "fault"])
def test_a_handover_is_the_masters_to_begin(state: str) -> None:
    """The operator hears why it doesn't happen."""
    (refusal,) = in_state(state).give(on.HandoverRequested())
    assert refusal == do.RefuseHandover(f"this machine isn't master but {state}")
