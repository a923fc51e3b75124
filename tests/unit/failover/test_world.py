"""
Two to four real machines on an imagined network that loses, delays, repeats and splits.

**The bound.** Two machines that are both master hear of it with the first advert that crosses between them: when the
loser's arrives, the winner answers at once, and when the winner's arrives the loser goes. So on a network that is
whole they are two for at most the loser's or the winner's advert interval, whichever is shorter, and three times the
delay. The machines of one test have different intervals, so the bound is the longest of them.
"""

from collections.abc import Sequence
from math import inf
from random import Random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pyproxy.failover import events as on
from pyproxy.failover.takeover import Facts
from pyproxy.failover.world import World
from tests.unit.failover.settings import settings as make_settings
from tests.unit.failover.settings import vips


class Network:
    """Gives each advert its fate: by a dice while the storm lasts, then all arrive after ``delay``."""

    def __init__(self, seed: int, loss: float, delay: float) -> None:
        self.dice = Random(seed)
        self.loss, self.delay = loss, delay
        self.is_stormy = False
        self.side: dict[str, int] = {}

    def wire(self, source: str, target: str, _: float) -> Sequence[float]:
        if self.side.get(source, 0) != self.side.get(target, 0):
            return ()
        if not self.is_stormy:
            return (self.delay,)
        if self.dice.random() < self.loss:
            return ()
        copies = 2 if self.dice.random() < 0.2 else 1
        return tuple(self.dice.uniform(0.0, self.delay) for _ in range(copies))

    def cable(self, source: str, target: str, _: float) -> float | None:
        return self.delay / 2


def build(machines: Sequence[dict[str, Any]], network: Network, *, is_linked: bool = False) -> World:
    """Machines with these settings, on; with a link between the first two if wanted."""
    world = World(network.wire, network.cable, {"m0": "m1", "m1": "m0"} if is_linked else {})
    for number, changes in enumerate(machines):
        sources = {4: f"10.9.0.{number + 1}", 6: f"fe80::{16 - number}"}
        facts = Facts(sources=sources, link="up" if is_linked and number < 2 else "none")
        world.add(f"m{number}", make_settings(**changes), facts)
        world.start(f"m{number}")
    return world


def longest(world: World) -> float:
    """The longest advert interval of all."""
    return max(node.settings.advert_interval for node in world.nodes.values())


def settle(world: World) -> float:
    """How long it takes at most until there is exactly one: two rounds of silence at the longest interval."""
    return 2 * (max(node.settings.down_adverts for node in world.nodes.values()) + 1) * longest(world) + 0.5


MACHINE = st.fixed_dictionaries(
    {
        "priority": st.integers(1, 254),
        "advert_interval": st.sampled_from([0.05, 0.1, 0.5, 1.0]),
        "preempt": st.booleans(),
        "virtual_ips": st.just(vips("10.9.0.100")),
    }
)
ACT = st.one_of(
    st.tuples(st.just("restart"), st.integers(0, 3)),
    st.tuples(st.just("kill"), st.integers(0, 3)),
    st.tuples(st.just("stop"), st.integers(0, 3)),
    st.tuples(st.just("split"), st.integers(1, 14)),
    st.tuples(st.just("heal"), st.just(0)),
    st.tuples(st.just("unplug"), st.integers(0, 3)),
    st.tuples(st.just("plug"), st.integers(0, 3)),
)


def act(world: World, network: Network, what: str, number: int) -> None:
    """Do something to the network or to a machine."""
    name = f"m{number % len(world.nodes)}"
    node = world.nodes[name]
    if what == "restart":
        world.start(name)
    elif what == "kill":
        world.kill(name)
    elif what == "stop" and node.machine:
        world.handle(name, on.Stop())
    elif what == "split":
        network.side = {f"m{index}": number >> index & 1 for index in range(len(world.nodes))}
    elif what == "heal":
        network.side = {}
    elif what in ("plug", "unplug"):
        node.facts.own_link_up = what == "plug"
        world.reconsider(name)


def preempting(priority: int, interval: float) -> dict[str, Any]:
    """Make a machine that takes the addresses from a lower one."""
    return {"priority": priority, "advert_interval": interval, "preempt": True, "virtual_ips": vips("10.9.0.100")}


def heal(world: World, network: Network) -> None:
    """End the storm: everything is plugged in, on, and hears each other."""
    network.is_stormy, network.side = False, {}
    for name, node in world.nodes.items():
        node.facts.own_link_up = True
        if world.state(name) in ("off", "init"):
            world.start(name)
        else:
            world.reconsider(name)


def watch(world: World, seconds: float, step: float) -> float:
    """Let time pass; give the longest time in which there were two masters at every look."""
    since, worst = inf, 0.0
    for _ in range(int(seconds / step)):
        world.run(world.now + step)
        since = min(since, world.now) if len(world.masters()) > 1 else inf
        worst = max(worst, world.now - since)
    return worst


@settings(max_examples=150, deadline=None)
@given(
    st.lists(MACHINE, min_size=2, max_size=4),
    st.lists(st.tuples(st.floats(0.0, 6.0), ACT), max_size=12),
    st.integers(0, 2**32),
    st.sampled_from([0.0, 0.1, 0.5, 0.9]),
    st.sampled_from([0.0, 0.001, 0.02]),
    st.booleans(),
)
# The lower master's adverts come more seldom than the one that would preempt it is patient.
@example(
    [preempting(3, 0.05), {**preempting(1, 0.5), "preempt": False}, {**preempting(1, 0.05), "preempt": False}],
    [(2.0, ("restart", 0)), (6.0, ("stop", 0))],
    *(0, 0.0, 0.0, False),
)
def test_after_a_storm_there_is_one_master(
    machines: list[dict[str, Any]],
    acts: list[tuple[float, tuple[str, int]]],
    seed: int,
    loss: float,
    delay: float,
    is_linked: bool,
) -> None:
    """Loss, delay, duplicates, restarts, partitions: then one master, two for no longer than the bound."""
    network = Network(seed, loss, delay)
    machines = machines[:2] if is_linked else machines  # with a link the pair is known, and a third is a stranger
    world = build(machines, network, is_linked=is_linked)
    network.is_stormy = True
    for pause, (what, number) in acts:
        world.run(world.now + pause)
        act(world, network, what, number)
    heal(world, network)
    worst = watch(world, settle(world), 0.005)
    assert worst <= longest(world) + 3 * delay + 0.01
    assert len(world.masters()) == 1, world
    assert watch(world, 8 * longest(world), 0.05) == 0.0
    assert len(world.masters()) == 1, "it stays the one"
    (master,) = world.masters()
    assert set(world.holders()) >= {master}
    assert all(not node.machine.alarms for node in world.nodes.values() if node.machine), "and all is quiet"


@settings(max_examples=100, deadline=None)
@given(
    st.lists(MACHINE, min_size=2, max_size=4),
    st.lists(
        st.tuples(st.floats(0.0, 6.0), st.sampled_from(["restart", "kill", "stop"]), st.integers(0, 3)), max_size=8
    ),
    st.integers(0, 2**32),
)
def test_on_a_network_that_only_delays_there_are_never_two_for_long(
    machines: list[dict[str, Any]], acts: list[tuple[float, str, int]], seed: int
) -> None:
    """Whatever the machines themselves do: start, die, stop, at any moment."""
    network = Network(seed, 0.0, 0.02)
    network.is_stormy = True
    world = build(machines, network)
    worst = 0.0
    for pause, what, number in acts:
        worst = max(worst, watch(world, pause, 0.005))
        act(world, network, what, number)
    assert max(worst, watch(world, 5.0, 0.005)) <= longest(world) + 3 * 0.02 + 0.01


@settings(max_examples=50, deadline=None)
@given(st.lists(MACHINE.map(lambda machine: {**machine, "preempt": True}), min_size=2, max_size=4), st.integers(0, 99))
def test_with_preempt_the_highest_is_master(machines: list[dict[str, Any]], seed: int) -> None:
    """Of equals, the one that came first stays."""
    world = build(machines, Network(seed, 0.0, 0.001))
    world.run(settle(world))
    (master,) = world.masters()
    assert world.nodes[master].settings.priority == max(machine["priority"] for machine in machines)


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("families", [("10.9.0.100",), ("fe80::100",), ("10.9.0.100", "fe80::100")])
def test_a_healed_partition_of_equals_has_one_winner(count: int, families: tuple[str, ...]) -> None:
    """Equal priorities, and with both families addresses that order the machines the other way round."""
    network = Network(1, 0.0, 0.001)
    world = build([{"virtual_ips": vips(*families)} for _ in range(count)], network)
    network.side = {f"m{number}": number for number in range(count)}
    world.run(10.0)
    assert len(world.masters()) == count
    network.side = {}
    assert watch(world, 10.0, 0.001) <= 1.003
    assert world.masters() == ["m0" if families == ("fe80::100",) else f"m{count - 1}"]


def test_a_master_that_vanishes_is_replaced_after_its_down_interval() -> None:
    """Right after an advert, which is the longest way."""
    world = build([{"priority": 200}, {}], Network(1, 0.0, 0.0))
    world.run(10.0)
    assert world.masters() == ["m0"]
    last = max(at for at, name, _ in world.adverts if name == "m0")
    world.kill("m0", is_power_cut=True)
    world.run(20.0)
    assert world.steps[-1].name == "m1"
    assert world.steps[-1].at == pytest.approx(last + 3 + 156 / 256)


@pytest.mark.parametrize("priority", [1, 100, 254])
def test_the_addresses_of_a_hung_speaker_are_gone_before_the_peer_takes_them(priority: int) -> None:
    """At adverts of one second the lease leaves no moment with two holders."""
    world = build([{"priority": 255}, {"priority": priority}], Network(1, 0.0, 0.0))
    world.run(20.0)
    assert world.holders() == ["m0"]
    world.kill("m0")
    for _ in range(6000):
        world.run(world.now + 0.001)
        assert len(world.holders()) < 2
    assert world.holders() == ["m1"]


def test_a_respawned_speaker_adopts_and_nobody_notices() -> None:
    """The supervisor starts it again within milliseconds."""
    world = build([{"priority": 200}, {}], Network(1, 0.0, 0.001))
    world.run(10.0)
    steps = len(world.steps)
    world.kill("m0")
    world.run(world.now + 0.05)
    world.start("m0", adopt=True)
    world.run(30.0)
    assert world.masters() == ["m0"]
    assert [step.name for step in world.steps[steps:]] == ["m0"]


def test_a_handover_over_the_link_takes_the_time_of_a_message() -> None:
    """Released, told, taken: the peer waits for no timer."""
    world = build([{"priority": 200}, {"priority": 100}], Network(1, 0.0, 0.001), is_linked=True)
    world.run(10.0)
    world.handle("m0", on.HandoverRequested())
    world.handle("m0", on.DrainDone())
    released = world.now
    world.run(30.0)
    assert world.masters() == ["m1"]
    assert world.steps[-1].at - released < 0.002


def test_a_link_over_another_wire_keeps_the_addresses_where_they_are() -> None:
    """30 s without a path for adverts: nobody takes over; then the master really dies: takeover."""
    network = Network(1, 0.0, 0.001)
    world = build([{"priority": 200}, {}], network, is_linked=True)
    world.run(10.0)
    network.side = {"m1": 1}
    world.run(40.0)
    assert world.masters() == ["m0"]
    assert world.nodes["m1"].alarms == {"split"}
    world.kill("m0", is_power_cut=True)
    world.cut_link("m1", world.now + 1.0)
    world.run(42.0)
    assert world.masters() == ["m1"]
