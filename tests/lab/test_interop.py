"""
Our speaker and keepalived as one pair, each in both roles: what VRRP promises holds, and neither refuses the other.

Whether, not when: how long things take is for `make lab-measure`.
"""

import time
from collections.abc import Callable
from time import monotonic

import pytest

from tests.lab.keepalived import Keepalived
from tests.lab.pair import KINDS, MULTICAST, Node, Pair
from tests.lab.process import await_true, hold
from tests.lab.speaker import Speaker
from tests.lab.takeover import elect, heal, observe
from tests.lab.topology import Lab, Machine

pytestmark = pytest.mark.lab

Player = Callable[..., Node]
ROLES = [
    pytest.param(Speaker, Keepalived, id="ours-first"),
    pytest.param(Keepalived, Speaker, id="keepalived-first"),
]
every_role = pytest.mark.parametrize(("first", "second"), ROLES)
every_kind = pytest.mark.parametrize("kind", KINDS)


@every_kind
@every_role
def test_election_and_priority_zero(lab: Lab, kind: str, first: Player, second: Player) -> None:
    """The first one is master, the second one its backup; one that stops hands over at once, by priority 0."""
    pair = KINDS[kind]
    watch, capture = lab.watch(pair.address), lab.capture()
    master, backup = elect(lambda: first(lab.a, pair, 150), lambda: second(lab.b, pair, 100), watch)
    await_true(lambda: lab.holders(pair.address) == ["a"], "nobody has the address")
    hold(lambda: lab.holders(pair.address) == ["a"], pair.down_time(100), "it moved")
    assert not capture.adverts("b")
    master.stop()
    backup.await_state("master")
    await_true(lambda: capture.adverts("b"), "the new master is silent")
    taken, zero = capture.adverts("b")[0], capture.adverts("a")[-1]
    assert zero.priority == 0
    assert taken.at - zero.at < pair.down_time(100) - pair.interval
    await_true(lambda: lab.holders(pair.address) == ["b"], "nobody has the address")
    watch.await_answer("b", taken.at)
    assert not master.complaints + backup.complaints


@every_kind
@every_role
def test_a_master_that_vanishes(lab: Lab, kind: str, first: Player, second: Player) -> None:
    """After kill -9 on a machine that nobody reaches the backup takes over, not early, and keeps the address."""
    pair = KINDS[kind]
    watch, capture = lab.watch(pair.address), lab.capture()
    master, backup = elect(lambda: first(lab.a, pair, 150), lambda: second(lab.b, pair, 100), watch)
    blocked = time.monotonic()  # what the master sends from now on may not arrive
    lab.block(lab.a)
    master.kill()
    backup.await_state("master")
    await_true(lambda: capture.adverts("b"), "the new master is silent")
    taken = capture.adverts("b")[0].at
    last = [advert.at for advert in capture.adverts("a") if advert.at < blocked][-1]
    assert taken - last > pair.down_time(100) - 0.02
    watch.await_answer("b", taken)
    assert not backup.complaints
    if pair.version == 2:
        return  # what follows is the same, in whole seconds
    # What it left behind must not stand in the way when it comes back.
    configure_away(lab.a, pair)
    lab.block(lab.a, blocked=False)
    returned = first(lab.a, pair, 150)
    returned.await_state("backup")
    hold(lambda: lab.holders(pair.address) == ["b"], pair.down_time(150), "it went back without preempt")
    assert not returned.complaints + backup.complaints


@every_role
def test_preempt(lab: Lab, first: Player, second: Player) -> None:
    """With preempt a higher priority that comes later takes the address, and the lower one gives it away."""
    pair = Pair(preempt=True)
    watch = lab.watch()
    low = first(lab.a, pair, 100)
    low.await_state("master")
    high = second(lab.b, pair, 150)
    high.await_state("master")
    low.await_state("backup")
    await_true(lambda: lab.holders(pair.address) == ["b"], "two masters")
    watch.await_answer("b")
    assert not low.complaints + high.complaints


@every_kind
@every_role
def test_a_tie_after_a_partition(lab: Lab, kind: str, first: Player, second: Player) -> None:
    """
    Machines of the same priority that can't hear each other are both master; when they can, the higher address wins.

    The client was with the loser, whose machine still answers ARP's cache: it comes to the winner soon.
    """
    pair = KINDS[kind]
    watch = lab.watch(pair.address)
    a, b = elect(lambda: first(lab.a, pair, 100), lambda: second(lab.b, pair, 100), watch)
    lab.part()
    b.await_state("master")
    await_true(lambda: lab.holders(pair.address) == ["a", "b"], "one master")
    lab.part(parted=False)
    a.await_state("backup")
    healed = monotonic()
    await_true(lambda: lab.holders(pair.address) == ["b"], "two masters")
    hold(lambda: lab.holders(pair.address) == ["b"], pair.down_time(100), "it flaps")
    watch.await_answer("b", healed)
    assert (a.state, b.state) == ("backup", "master")
    assert not a.complaints + b.complaints


@pytest.mark.parametrize(
    ("loser", "winner"),
    [pytest.param(Speaker, Keepalived, id="keepalived-wins"), pytest.param(Speaker, Speaker, id="ours")],
)
def test_a_healed_partition_is_served_at_once(lab: Lab, loser: Player, winner: Player) -> None:
    """
    A loser that gives way sends one more advert, so that the winner learns of it and announces the address again.

    Between two keepaliveds the client hangs here for half a minute.
    """
    seen = observe(lab, MULTICAST, 0.01)
    a, b = elect(lambda: loser(lab.a, MULTICAST, 100), lambda: winner(lab.b, MULTICAST, 150), seen[0])
    assert heal(lab, MULTICAST, a, b, seen).answered < 3
    assert not a.complaints + b.complaints


def configure_away(machine: Machine, pair: Pair) -> None:
    """Remove what a killed master left: the address of a machine that was switched off is gone."""
    for address in pair.virtual_ips:
        if machine.has_vip(address.partition("/")[0]):
            machine.lab.show("-n", machine.namespace, "addr", "del", address, "dev", "eth0")
