"""The rows of the state table for master, and how it keeps the addresses."""

import pytest

from pyproxy.failover import commands as do
from pyproxy.failover import events as on
from tests.unit.failover.rig import PEER, PEER_V6, Rig, alarms, kinds, sent, states
from tests.unit.failover.settings import vips

RELEASE = ["SendAdvert", "RemoveVips", "TellLink", "Notify"]
SKEW = 156 / 256  # of priority 100 at adverts of 1 s
DOWN = 3 + SKEW
BOTH = vips("10.9.0.100", "fe80::100")
QUIET = {"repeat": 5, "delay": 0.0, "refresh": 0.0}

# --- adverts ----------------------------------------------------------------------------------------------------------


def test_a_master_adverts_at_its_own_interval() -> None:
    """M, A expires: advert, A anew, lease renewed; ticks that are a little late don't add up."""
    rig = Rig(garp=QUIET)
    rig.become_master()
    begin = rig.now
    for _ in range(100):
        rig.stall(rig.deadline() + 0.003)
        assert rig.tick() == [do.SendAdvert(100), do.RenewLease(rig.settings.virtual_ips, 2)]
    assert rig.now == pytest.approx(begin + 100.003)


def test_a_farewell_is_answered_by_an_advert() -> None:
    """M, advert with priority 0: advert, A anew."""
    rig = Rig()
    rig.become_master()
    rig.wait(0.5)
    assert sent(rig.hear(0)) == [100]
    assert rig.deadline() == 1.0


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(
    ("priority", "source"), [(101, PEER), (255, "10.9.0.0"), (100, "10.9.0.2"), (100, "10.10.0.0")]
)
def test_a_better_master_gets_the_addresses(version: int, priority: int, source: str) -> None:
    """M, advert > own, or equal and higher source: one advert of ours, release, D → B."""
    rig = Rig(version=version)
    rig.become_master()
    commands = rig.hear(priority, source=source)
    assert kinds(commands) == RELEASE
    assert (sent(commands), rig.state) == ([100], "backup")
    assert rig.deadline() == pytest.approx(DOWN)
    assert not rig.machine.released, "it was taken, not given"


def test_who_stepped_down_goes_by_the_new_masters_interval() -> None:
    """Its adverts come at its interval."""
    rig = Rig()
    rig.become_master()
    rig.hear(200, interval=10.0)
    assert rig.deadline() == pytest.approx(10 * DOWN)


@pytest.mark.parametrize(("priority", "source"), [(99, "10.9.0.9"), (1, PEER), (100, "10.9.0.0"), (100, "9.255.0.1")])
def test_a_worse_master_is_told_at_once(priority: int, source: str) -> None:
    """M, advert < own, or equal and lower source: advert at once, announcement, A runs on (RFC 9568, 6.4.3)."""
    rig = Rig()
    rig.become_master()
    rig.wait(0.5)
    commands = rig.hear(priority, source=source)
    assert commands[:2] == [do.SendAdvert(100), do.Announce(rig.settings.virtual_ips, 1)]
    assert rig.state == "master"
    assert rig.deadline() == pytest.approx(0.5)


def test_announcements_that_others_cause_are_rate_limited() -> None:
    """A hundred adverts a second are answered and announced four times: a flood gets no flood."""
    rig = Rig(garp=QUIET)
    rig.become_master()
    rig.wait(0.5)
    before = len(rig.log)
    for _ in range(99):
        rig.hear(50)
        rig.wait(0.01)
    commands = [command for _, command in rig.log[before:]]
    assert kinds(commands).count("Announce") == 4
    assert len(sent(commands)) == 4 + 1


def test_an_announcement_that_came_too_early_is_made_up_for() -> None:
    """A partition that heals right after a promotion: whoever was with the loser must hear of the winner too."""
    rig = Rig(garp=QUIET)
    rig.become_master()
    begin = rig.now
    rig.wait(0.1)
    assert kinds(rig.hear(50)).count("Announce") == 0
    rig.wait(5.0)
    said = [at - begin for at, command in rig.log if isinstance(command, do.Announce) and at > begin]
    assert said == [pytest.approx(0.25)]


def test_a_stopped_master_gives_the_addresses_away() -> None:
    """M, stop: priority 0, release → I; the link hears that it is released."""
    rig = Rig()
    rig.become_master()
    commands = rig.give(on.Stop("SIGTERM"))
    assert kinds(commands) == RELEASE
    assert (sent(commands), rig.state, rig.machine.next_deadline()) == ([0], "init", None)
    told = rig.machine.told(rig.now)
    assert (told.state, told.released, told.reason) == ("init", True, "SIGTERM")


def test_a_master_without_its_interface_is_at_fault() -> None:
    """M, interface down: priority 0 if possible, release → F."""
    rig = Rig()
    rig.become_master()
    commands = rig.know(own_link_up=False)
    assert kinds(commands) == RELEASE
    assert (sent(commands), rig.state, rig.machine.released) == ([0], "fault", True)


def test_a_master_without_workers_is_at_fault_after_no_worker() -> None:
    """M, no ready worker: a worker that is back in time changes nothing."""
    rig = Rig()
    rig.become_master()
    rig.know(ready_workers=0)
    rig.wait(0.4)
    rig.know(ready_workers=1)
    rig.wait(5.0)
    assert rig.state == "master"
    rig.know(ready_workers=0)
    assert states(rig.wait(0.499)) == []
    commands = rig.wait(0.001)
    assert kinds(commands)[-4:] == RELEASE
    assert (sent(commands)[-1], rig.state, rig.machine.reason) == (0, "fault", "no worker is ready")


def test_no_worker_0_is_at_once() -> None:
    """Who says 0 means it."""
    rig = Rig(release_when={"no_worker": 0.0, "no_backend": False})
    rig.become_master()
    assert states(rig.know(ready_workers=0)) == ["fault"]


# --- late -------------------------------------------------------------------------------------------------------------


def test_a_late_down_timer_proves_nothing() -> None:
    """B, 0.6 s of stall at 0.1 s adverts: the adverts that waited meanwhile are handled first, so no takeover."""
    rig = Rig(advert_interval=0.1)
    rig.become_backup(interval=0.1)
    for _ in range(20):
        rig.stall(0.6)
        for _ in range(6):
            rig.hear(150, interval=0.1)
        assert rig.tick() == []
        rig.wait(0.1)
        rig.hear(150, interval=0.1)
    assert rig.state == "backup"


def test_a_master_that_slept_says_everything_anew() -> None:
    """M, a timer later than 3 x advert + skew, no foreign advert: advert, addresses, full announcement."""
    rig = Rig(garp=QUIET)
    rig.become_master()
    rig.stall(1 + DOWN + 0.01)
    assert kinds(rig.tick())[:3] == ["SendAdvert", "AddVips", "Announce"]
    rig.stall(rig.deadline() + DOWN - 0.01)
    commands = rig.tick()
    assert kinds(commands)[:2] == ["SendAdvert", "RenewLease"]


@pytest.mark.parametrize(("heard", "farewells"), [(50, []), (100, [100]), (150, [100])])
def test_a_master_that_slept_leaves_it_to_the_new_one(heard: int, farewells: list[int]) -> None:
    """M, late, foreign advert seen: step down, silently where our advert would make the new one step down."""
    rig = Rig()
    rig.become_master()
    rig.stall(1 + DOWN + 0.01)
    commands = rig.hear(heard)
    assert (rig.state, sent(commands)) == ("backup", farewells)
    assert rig.tick() == []


def test_with_preempt_a_master_that_slept_keeps_the_addresses_from_a_lower_one() -> None:
    """It would take them back at once, so two moves are saved."""
    rig = Rig(preempt=True)
    rig.become_master()
    rig.stall(1 + DOWN + 0.01)
    assert sent(rig.hear(50)) == [100]
    assert rig.state == "master"
    assert kinds(rig.tick())[:3] == ["SendAdvert", "AddVips", "Announce"]


def test_a_suspended_machine_knows_though_its_clock_stood_still() -> None:
    """CLOCK_MONOTONIC doesn't count a suspension; the speaker tells it."""
    rig = Rig()
    rig.become_master()
    rig.give(on.Resumed(60.0))
    assert rig.hear(50) != []
    assert rig.state == "backup"
    alone = Rig()
    alone.become_master()
    alone.give(on.Resumed(60.0))
    assert kinds(alone.wait(0.0))[:3] == ["SendAdvert", "AddVips", "Announce"]
    backup = Rig()
    backup.become_backup()
    backup.wait(DOWN - 0.1)
    backup.give(on.Resumed(60.0))
    assert backup.deadline() == pytest.approx(DOWN)


# --- two families -----------------------------------------------------------------------------------------------------


def test_an_advert_of_either_family_keeps_a_backup() -> None:
    """They move together, so one path that works is enough."""
    rig = Rig(virtual_ips=BOTH)
    rig.start()
    for _ in range(10):
        rig.wait(1.0)
        rig.hear(150, source=PEER_V6)
    assert rig.state == "backup"


def test_ipv6_alone_elects_as_ipv4_does() -> None:
    """Tie by the source address of the family."""
    rig = Rig(virtual_ips=vips("fe80::100"))
    rig.become_master()
    rig.hear(100, source="fe80::")
    assert rig.state == "master"
    rig.hear(100, source="fe80::2")
    assert rig.state == "backup"


def test_a_tie_is_decided_by_the_first_family_where_the_other_is_heard_in_it() -> None:
    """IPv4 says that we win and IPv6 that we lose: without a rule both machines could step down."""
    rig = Rig(virtual_ips=BOTH)
    rig.facts.sources = {4: "10.9.0.9", 6: "fe80::1"}
    rig.become_master()
    for _ in range(5):
        rig.hear(100, source=PEER_V6)
        rig.hear(100, source=PEER)
        rig.wait(1.0)
    assert rig.state == "master"


def test_a_tie_is_decided_by_the_second_family_if_only_that_one_works() -> None:
    """After one and a half intervals without the other family."""
    rig = Rig(virtual_ips=BOTH)
    rig.become_master()
    rig.hear(100, source=PEER_V6)
    rig.wait(1.0)
    rig.hear(100, source=PEER_V6)
    assert rig.state == "master"
    rig.wait(1.0)
    rig.hear(100, source=PEER_V6)
    assert rig.state == "backup"


# --- the addresses ----------------------------------------------------------------------------------------------------


def test_announcements_come_in_two_bursts_and_then_singly() -> None:
    """Repeat at once, repeat after delay, one every refresh."""
    rig = Rig(garp={"repeat": 3, "delay": 2.0, "refresh": 10.0})
    rig.become_master()
    begin = rig.now
    rig.wait(30.0)
    said = [(at - begin, command.repeat) for at, command in rig.log if isinstance(command, do.Announce)]
    assert said == [(0.0, 3), (2.0, 3), (10.0, 1), (20.0, 1), (30.0, 1)]


def test_the_lease_is_renewed_with_adverts_and_not_between_them() -> None:
    """A peer counts from the last advert, so a lease that is renewed later would end later than it expects."""
    rig = Rig()
    rig.become_master()
    rig.wait(20.0)
    adverts = [at for at, command in rig.log if isinstance(command, do.SendAdvert)]
    renewals = [at for at, command in rig.log if isinstance(command, do.RenewLease | do.AddVips)]
    assert renewals == adverts


def test_a_lease_is_renewed_twice_a_second_at_least_and_not_a_hundred_times() -> None:
    """Fast adverts don't renew it each time, slow ones are helped out."""
    fast = Rig(advert_interval=0.01, garp=QUIET)
    fast.become_master()
    assert 3 <= kinds(fast.wait(1.0)).count("RenewLease") <= 4
    slow = Rig(advert_interval=10.0, lease=3.0, garp=QUIET)
    slow.become_master()
    assert kinds(slow.wait(9.5)) == ["RenewLease"] * 9


@pytest.mark.parametrize(
    ("changes", "peer_priority", "lifetime"),
    [
        ({}, None, 2),
        ({}, 150, 3),
        ({"advert_interval": 0.1}, None, 1),
        ({"lease": "off"}, None, None),
        ({"vip_backend": "none"}, None, None),
    ],
)
def test_the_lease_follows_from_adverts_and_the_peers_priority(
    changes: dict[str, object], peer_priority: int | None, lifetime: int | None
) -> None:
    """The addresses are gone before the peer takes over; only the kernel can promise that."""
    rig = Rig(**changes)
    if peer_priority:
        rig.peer("backup", priority=peer_priority) if rig.state != "init" else rig.know()
        rig.facts.link = "up"
    rig.start()
    if peer_priority:
        rig.peer("backup", priority=peer_priority)
    rig.wait(DOWN)
    assert rig.machine.lifetime() == lifetime
    added = [command for _, command in rig.log if isinstance(command, do.AddVips)]
    assert added[0].lifetime == lifetime


def test_a_conflict_is_answered_every_second_and_forgotten_after_ten() -> None:
    """Another machine answers for an address: an alarm, and announcements against it."""
    rig = Rig(garp=QUIET)
    rig.become_master()
    rig.wait(1.0)
    conflict = on.ConflictSeen("10.9.0.100", "02:00:00:00:00:09")
    assert alarms(rig.give(conflict)) == ["address_conflict"]
    before = len(rig.log)
    for _ in range(50):
        rig.wait(0.1)
        rig.give(conflict)
    assert kinds(command for _, command in rig.log[before:]).count("Announce") == 5
    assert alarms(rig.wait(10.0)) == ["-address_conflict"]


def test_new_addresses_are_taken_and_old_ones_left() -> None:
    """A reload changes what is different and says it."""
    rig = Rig(virtual_ips=vips("10.9.0.100", "10.9.0.101"))
    rig.become_master()
    new = Rig(virtual_ips=vips("10.9.0.101", "10.9.0.102"), priority=120).settings
    commands = rig.give(on.Reconfigured(new))
    assert kinds(commands) == ["RemoveVips", "SendAdvert", "AddVips", "Announce"]
    assert commands[0] == do.RemoveVips((rig.settings.virtual_ips[0],))
    assert commands[1:] == [do.SendAdvert(120), do.AddVips(new.virtual_ips, 2), do.Announce(new.virtual_ips, 5)]
    assert rig.state == "master"


# --- families ---------------------------------------------------------------------------------------------------------

FAMILIES = ("10.9.0.100", "fe80::100")


def test_a_family_that_is_lost_takes_its_addresses_along_and_no_others() -> None:
    """The other one goes on; what is left out is told, and comes back by itself."""
    rig = Rig(virtual_ips=vips(*FAMILIES))
    rig.become_master()
    commands = rig.know(sources={4: "10.9.0.1"})
    assert [vip.address for vip in next(c for c in commands if isinstance(c, do.RemoveVips)).vips] == ["fe80::100"]
    assert (rig.state, alarms(commands)) == ("master", ["family"])
    renewed = [c for c in rig.wait(3.0) if isinstance(c, do.RenewLease)]
    assert {vip.address for command in renewed for vip in command.vips} == {"10.9.0.100"}
    commands = rig.know(sources={4: "10.9.0.1", 6: "fe80::1"})
    added = next(c for c in commands if isinstance(c, do.AddVips))
    assert ([vip.address for vip in added.vips], alarms(commands)) == (list(FAMILIES), ["-family"])


def test_a_peer_with_both_families_is_better_than_one() -> None:
    """It gets them, as nobody else could serve the family that is lost here; we don't take them back for that long."""
    rig = Rig(virtual_ips=vips(*FAMILIES), preempt=True)
    rig.become_master()
    rig.peer("backup", priority=50, sources=frozenset({"10.9.0.2", "fe80::2"}))
    rig.know(sources={4: "10.9.0.1"})
    assert (rig.state, "no IPv6 address" in rig.machine.reason) == ("backup", True)
    rig.peer("master", priority=50, sources=frozenset({"10.9.0.2", "fe80::2"}))
    for _ in range(10):
        rig.wait(1.0)
        rig.hear(50)
    assert rig.state == "backup"
    one = Rig(virtual_ips=vips(*FAMILIES))
    one.become_master()
    one.peer("backup", sources=frozenset({"10.9.0.2"}))
    one.know(sources={4: "10.9.0.1"})
    assert one.state == "master", "the peer has no more"


# --- cut off ----------------------------------------------------------------------------------------------------------


def test_a_master_that_reaches_nobody_gives_way_to_any_other() -> None:
    """It took the addresses after split_hold, without a word of anybody; its priority comes back after a while."""
    rig = Rig(priority=200, split_hold=10.0)
    rig.start()
    rig.know(gateway=False)
    rig.wait(9.0)
    assert rig.state == "backup"
    assert set(sent(rig.wait(10.0))) == {1}
    assert (rig.state, rig.machine.told(rig.now).priority) == ("master", 1)
    rig.know(gateway=True)
    assert set(sent(rig.wait(2.5))) == {1}, "who was master meanwhile may not have been heard yet"
    rig.wait(2.0)
    assert set(sent(rig.wait(2.5))) == {200}
    rig.know(gateway=False)
    assert set(sent(rig.wait(2.5))) == {200}, "a master that loses its gateway was heard when it became one"
    other = Rig(priority=200, split_hold=10.0)
    other.start()
    other.know(gateway=False)
    other.wait(20.0)
    other.hear(50)
    assert other.state == "backup"
