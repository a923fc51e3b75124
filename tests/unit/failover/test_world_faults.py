"""
Two real machines on an imagined network whose gateways, witnesses, families, links and neighbours fail in any order.

**The bounds.** A fault that lasts is answered within ``split_hold`` (for who reaches nobody, and for a split), the
link's dead time and three rounds of silence. From then on somebody who can serve has the addresses. Two have them only
while neither adverts nor the link pass between the machines; a lease that a dead speaker leaves behind counts till it
ends. A stranger's adverts may decide where there is no link, so there they stop before the bound begins.
"""

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pyproxy.failover import events as on
from pyproxy.failover.packet import Advert
from pyproxy.failover.takeover import Facts
from pyproxy.failover.world import World
from tests.unit.failover.settings import settings as make_settings
from tests.unit.failover.settings import vips

SPLIT_HOLD = 4.0
STRANGER = "10.9.0.77"
NAMES = ("m0", "m1")
SOURCES = ({4: "10.9.0.1", 6: "fe80::1"}, {4: "10.9.0.2", 6: "fe80::2"})
DELAY = 0.002

ACT = st.one_of(
    st.tuples(
        st.sampled_from(
            ["outside", "gateway", "witnesses", "workers", "supervisor", "ipv6", "unplug", "hang", "power"]
        ),
        st.integers(0, 1),
    ),
    st.tuples(
        st.sampled_from(["outside", "gateway", "witnesses", "workers", "supervisor", "ipv6", "plug", "run"]),
        st.integers(2, 3),
    ),
    st.tuples(st.sampled_from(["handover", "facts_lost"]), st.integers(0, 1)),
    st.tuples(st.sampled_from(["part", "join", "cut", "mend"]), st.just(0)),
    st.tuples(st.just("stranger"), st.sampled_from([0, 1, 99, 100, 255])),
    st.tuples(st.just("forged"), st.sampled_from([0, 255])),
)


@dataclass
class Pair:
    """The two machines, and what is broken."""

    world: World
    is_linked: bool
    is_parted: bool = False
    is_cut: bool = False
    floods: list[tuple[str, int]] = field(default_factory=list)

    @property
    def can_serve(self) -> set[str]:
        """The machines that are on, plugged in, and have a worker."""
        nodes = self.world.nodes.values()
        return {n.name for n in nodes if n.machine and n.facts.own_link_up and n.facts.ready_workers != 0}

    @property
    def is_apart(self) -> bool:
        """Whether no word passes between them."""
        plugged = all(node.facts.own_link_up for node in self.world.nodes.values())
        return (self.is_parted or not plugged) and (self.is_cut or not self.is_linked)

    def pass_time(self, seconds: float, step: float = 0.02) -> float:
        """Let time pass with its floods; the longest time in which two held the addresses, though not apart."""
        two, longest = 0.0, 0.0
        for number in range(round(seconds / step)):
            self.world.run(self.world.now + step)
            if number % 3 == 0:
                self.flood()
            two = two + step if len(self.world.holders()) > 1 and not self.is_apart else 0.0
            longest = max(longest, two)
        return longest

    def flood(self) -> None:
        """Let each machine that is plugged in hear what strangers say."""
        for source, priority in self.floods:
            for number, name in enumerate(NAMES):
                node = self.world.nodes[name]
                if node.machine and node.facts.own_link_up:
                    peers = SOURCES[1 - number][4] if source == "peer" else source
                    advert = Advert(4, 3, 51, priority, 1.0, ("10.9.0.100",))
                    self.world.handle(name, on.AdvertHeard(advert, peers))


def build(priorities: tuple[int, int], interval: float, *, is_linked: bool, preempt: bool) -> Pair:
    """Two machines that are on, and have elected a master."""
    pair: Pair

    def wire(*_: object) -> tuple[float, ...]:
        plugged = all(node.facts.own_link_up for node in pair.world.nodes.values())
        return (DELAY,) if plugged and not pair.is_parted else ()

    def cable(*_: object) -> float | None:
        return None if pair.is_cut else DELAY / 2

    world = World(wire, cable, {"m0": "m1", "m1": "m0"} if is_linked else {})
    pair = Pair(world, is_linked)
    for name, sources, priority in zip(NAMES, SOURCES, priorities, strict=True):
        made = make_settings(
            priority=priority,
            advert_interval=interval,
            preempt=preempt,
            split_hold=SPLIT_HOLD,
            virtual_ips=vips("10.9.0.100", "fe80::100"),
            witnesses=[{"host": "10.9.0.254", "port": 1}],
        )
        link: Any = "up" if is_linked else "none"
        facts = Facts(sources=dict(sources), gateway=True, witnesses=True, ready_workers=1, link=link)
        world.add(name, made, facts)
        world.start(name)
    pair.pass_time(5 * interval)
    return pair


def act(pair: Pair, what: str, number: int) -> None:
    """Break something (0, 1) or mend it (2, 3) at one machine, or between them."""
    name = NAMES[number % 2]
    if what in ("part", "join"):
        pair.is_parted = what == "part"
    elif what in ("cut", "mend"):
        pair.is_cut = what == "cut"
        if pair.is_cut:
            lose_link(pair, *NAMES)
        else:
            mend_link(pair)
    elif what in ("stranger", "forged"):
        pair.floods.append((STRANGER if what == "stranger" else "peer", number))
    elif what in ("hang", "power", "run", "facts_lost", "handover"):
        act_on_speaker(pair, what, name)
    else:
        act_on_facts(pair.world.nodes[name].facts, what, number, is_well=number >= 2)
    pair.world.reconsider(name)


def act_on_facts(facts: Facts, what: str, number: int, *, is_well: bool) -> None:
    """Break or mend what a machine finds around it."""
    if what in ("gateway", "outside"):
        facts.gateway = is_well
    if what in ("witnesses", "outside"):
        facts.witnesses = is_well
    if what == "workers":
        facts.ready_workers = 1 if is_well else 0
    if what == "supervisor":
        facts.supervisor_hangs = not is_well
    if what == "ipv6":
        facts.sources = dict(SOURCES[number % 2]) if is_well else {4: SOURCES[number % 2][4]}
    if what in ("plug", "unplug"):
        facts.own_link_up = what == "plug"


def act_on_speaker(pair: Pair, what: str, name: str) -> None:
    """End a speaker, begin another one, or ask it to go."""
    world = pair.world
    node = world.nodes[name]
    if what == "facts_lost":
        world.start(name)  # it follows one that died
    elif what in ("hang", "power") and node.machine:
        world.kill(name, is_power_cut=what == "power")
        lose_link(pair, *(other for other in NAMES if other != name))
    elif what == "run" and not node.machine:
        world.start(name)
        mend_link(pair)
    elif what == "handover" and world.state(name) == "master":
        world.handle(name, on.HandoverRequested("the operator wants it"))
        world.handle(name, on.DrainDone())


def lose_link(pair: Pair, *names: str) -> None:
    """Let machines find at once that their link is dead."""
    for name in names:
        if pair.is_linked:
            pair.world.nodes[name].facts.link = "dead"
            pair.world.reconsider(name)


def mend_link(pair: Pair) -> None:
    """Let the link live where both machines are on and its cable is whole."""
    nodes = pair.world.nodes.values()
    if pair.is_linked and not pair.is_cut and all(node.machine for node in nodes):
        for node in nodes:
            node.facts.link, node.told = "up", None
        for node in nodes:
            pair.world.reconsider(node.name)


def bound(interval: float) -> float:
    """Seconds after which a lasting fault has been answered."""
    return SPLIT_HOLD + 3 * 4 * interval + 2.0


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.sampled_from([50, 100, 150]), st.sampled_from([50, 100, 150])),
    st.sampled_from([0.1, 1.0]),
    st.booleans(),
    st.booleans(),
    st.lists(st.tuples(st.sampled_from([0.0, 0.3, 2.0, 6.0]), ACT), max_size=8),
)
@example((100, 100), 1.0, True, False, [(0.0, ("outside", 0)), (0.0, ("outside", 1)), (6.0, ("power", 1))])
@example((100, 100), 1.0, True, False, [(0.0, ("outside", 0)), (0.0, ("outside", 1)), (6.0, ("handover", 1))])
@example((100, 100), 1.0, True, False, [(0.0, ("forged", 255)), (2.0, ("stranger", 0)), (2.0, ("power", 1))])
@example((100, 100), 0.1, False, False, [(0.0, ("outside", 0)), (0.0, ("outside", 1)), (6.0, ("hang", 1))])
@example((100, 100), 1.0, True, False, [(0.0, ("supervisor", 0)), (0.0, ("supervisor", 1)), (6.0, ("power", 1))])
@example((100, 100), 0.1, False, True, [(0.0, ("supervisor", 0)), (2.0, ("power", 1))])
def test_whatever_fails_somebody_has_the_addresses(
    priorities: tuple[int, int],
    interval: float,
    is_linked: bool,
    preempt: bool,
    acts: list[tuple[float, tuple[str, int]]],
) -> None:
    """As long as one can serve, one has them; and never two for longer than a lease and an interval."""
    pair = build(priorities, interval, is_linked=is_linked, preempt=preempt)
    for pause, (what, number) in acts:
        pair.pass_time(pause)
        act(pair, what, number)
    if not pair.is_linked or pair.is_cut or "dead" in {node.facts.link for node in pair.world.nodes.values()}:
        pair.floods.clear()
    pair.pass_time(bound(interval))
    if pair.can_serve:
        assert set(pair.world.holders()) & pair.can_serve, pair.world
    assert pair.pass_time(2 * bound(interval)) <= 1.0 + interval, pair.world
    if pair.can_serve:
        assert set(pair.world.holders()) & pair.can_serve, pair.world
    assert pair.is_apart or len(pair.world.masters()) <= 1, pair.world


@pytest.mark.parametrize("holder", [0, 1])
def test_a_supervisor_that_hangs_costs_the_address_if_the_other_is_fit(holder: int) -> None:
    """And it doesn't come back when the other one hangs as well: that would change nothing."""
    pair = build((150, 100) if holder == 0 else (100, 150), 1.0, is_linked=True, preempt=False)
    if pair.world.holders() != [NAMES[holder]]:
        act(pair, "handover", 1 - holder)
        pair.pass_time(1.0)
    act(pair, "supervisor", holder)
    pair.pass_time(1.0)
    assert pair.world.holders() == [NAMES[1 - holder]]
    act(pair, "supervisor", 1 - holder)
    pair.pass_time(bound(1.0))
    assert pair.world.holders() == [NAMES[1 - holder]]
