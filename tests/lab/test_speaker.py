"""
What our speaker bears and what it guards against, at 0.1 s adverts: frozen, starved, shouted at, killed.

Whether, not when: how long things take is for `make lab-measure`.
"""

import os
import time
from time import monotonic

import pytest

from tests.lab.keepalived import Keepalived
from tests.lab.noise import malformed_adverts
from tests.lab.pair import MULTICAST, Node
from tests.lab.process import await_true, hold
from tests.lab.speaker import Speaker
from tests.lab.takeover import elect
from tests.lab.topology import Lab

pytestmark = pytest.mark.lab

#: The shortest that the kernel knows, and what settings of less than a second get.
LEASE = 1.0


def pair_of(lab: Lab, other: type[Keepalived] | type[Speaker] = Speaker) -> tuple[Speaker, Node]:
    """Start our speaker as master on ``a`` and another one as its backup on ``b``."""
    master, backup = elect(lambda: Speaker(lab.a, MULTICAST, 150), lambda: other(lab.b, MULTICAST, 100), lab.watch())
    assert isinstance(master, Speaker)
    return master, backup


def test_a_hung_speaker_loses_the_address(lab: Lab) -> None:
    """Nobody renews the lease, so the kernel takes the address away; the thawed speaker finds that it is backup."""
    master, backup = pair_of(lab, Keepalived)
    master.freeze()
    frozen = monotonic()
    backup.await_state("master")
    await_true(lambda: not lab.a.has_vip(), "the address stayed")
    assert monotonic() - frozen < LEASE + 1.5
    master.thaw()
    master.await_state("backup")
    hold(lambda: lab.holders() == ["b"], 1.0, "the thawed one took it back")
    assert backup.transitions[-1] == "master"
    assert not backup.complaints


def test_a_killed_machine_loses_the_address(lab: Lab) -> None:
    """Speaker and supervisor killed together leave nobody behind who could remove the address: the lease does."""
    master, backup = pair_of(lab)
    master.kill()
    killed = monotonic()
    backup.await_state("master")
    await_true(lambda: not lab.a.has_vip(), "the address stayed")
    assert monotonic() - killed < LEASE + 1.5


def test_the_supervisors_death_releases_the_address(lab: Lab) -> None:
    """A speaker whose supervisor is gone says priority 0, gives the address away and ends."""
    master, backup = pair_of(lab)
    capture = lab.capture()
    master.hang_up()
    master.process.wait()
    assert not lab.a.has_vip()
    backup.await_state("master")
    assert capture.adverts("a")[-1].priority == 0


@pytest.mark.parametrize("times", [3, pytest.param(20, marks=pytest.mark.measure)])
def test_a_stalled_backup_takes_nothing(lab: Lab, times: int) -> None:
    """A backup that slept for twice its down time reads what came meanwhile before it believes its timer."""
    master = Keepalived(lab.a, MULTICAST, 100)
    master.await_state("master")
    backup = Speaker(lab.b, MULTICAST, 150)
    backup.await_state("backup")
    capture = lab.capture()
    for _ in range(times):
        backup.freeze()
        time.sleep(0.6)
        backup.thaw()
        hold(lambda: lab.holders() == ["a"], 0.45, "it took the address")
    assert backup.state == "backup"
    assert not capture.adverts("b")
    assert master.transitions.count("master") == 1


@pytest.mark.parametrize("role", ["master", "backup"])
def test_malformed_adverts_change_nothing(lab: Lab, role: str) -> None:
    """A hundred a second on our VRID: a master keeps its interval, a backup its state, and both their counters."""
    master, backup = pair_of(lab)
    ours, other = (master, lab.b) if role == "master" else (backup, lab.a)
    assert isinstance(ours, Speaker)
    capture = lab.capture()
    with malformed_adverts(lab, other.address) as sent:
        await_true(lambda: sent() > 200, "the noise is not heard")
    adverts = capture.adverts("a")
    span = adverts[-1].at - adverts[0].at
    assert span / (len(adverts) - 1) == pytest.approx(MULTICAST.interval, rel=0.2), adverts
    assert [advert for advert in adverts if advert.priority != 150] == []
    assert not capture.adverts("b")
    assert (master.state, backup.state) == ("master", "backup")
    assert lab.holders() == ["a"]


@pytest.mark.parametrize("seconds", [4, pytest.param(60, marks=pytest.mark.measure)])
def test_a_starved_machine_stays_what_it_is(lab: Lab, seconds: int) -> None:
    """Hogs on every core are no reason for a takeover, nor for a gap in the adverts that would cause one."""
    master, backup = pair_of(lab)
    capture = lab.capture()
    for _ in range(os.cpu_count() or 1):
        lab.a.start("hog", ["sh", "-c", "while :; do :; done"])
    hold(lambda: lab.holders() == ["a"], seconds, "it moved")
    assert (master.state, backup.state) == ("master", "backup")
    assert not capture.adverts("b")


def test_an_address_that_somebody_removed_comes_back(lab: Lab) -> None:
    """A master watches its address: what an admin or a network manager removed is there again, and announced."""
    master, backup = pair_of(lab)
    capture = lab.capture()
    removed = monotonic()
    lab.show("-n", lab.a.namespace, "addr", "del", "10.9.0.100/32", "dev", "eth0")
    await_true(lab.a.has_vip, "it is gone")
    await_true(lambda: capture.announcements("10.9.0.100", removed), "it was not announced")
    assert (master.state, backup.state) == ("master", "backup")


def test_a_machine_without_carrier_takes_nothing(lab: Lab) -> None:
    """An unplugged backup is in fault, not master; plugged in again it is a backup that disturbs nobody."""
    master, backup = pair_of(lab)
    lab.unplug(lab.b)
    backup.await_state("fault")
    hold(lambda: lab.holders() == ["a"], 0.6, "it took the address")
    lab.plug(lab.b)
    backup.await_state("backup")
    assert master.state == "master"
    assert master.transitions.count("master") == 1


def test_an_isolated_backup_takes_nothing(lab: Lab) -> None:
    """A backup that reaches neither the master nor the gateway knows that it is the one that is cut off."""
    master, backup = pair_of(lab)
    lab.block(lab.b)
    hold(lambda: lab.holders() == ["a"], 1.5, "it took the address")
    assert backup.state == "backup"
    lab.block(lab.b, blocked=False)
    hold(lambda: lab.holders() == ["a"], 0.5, "it took the address")
    assert master.state == "master"
