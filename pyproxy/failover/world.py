"""
Machines on an imagined network, with an imagined kernel and clock: what ``simulate`` and the tests run.

Must not know what is tried out on it. The machines are the real ones; what is imagined is how their commands are
carried out: adverts and the link's word arrive after the delays that ``wire`` and ``cable`` give, addresses stay in
the kernel as long as their lease, a probe finds who has them, a fence succeeds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from itertools import count
from math import inf

from pyproxy.failover import commands as do
from pyproxy.failover import events as on
from pyproxy.failover.events import Event, State
from pyproxy.failover.machine import Machine
from pyproxy.failover.packet import Advert
from pyproxy.failover.settings import Settings
from pyproxy.failover.takeover import Facts, PeerFacts

BEAT = 0.25  # seconds between two words over the link where no interval is configured

#: From, to and when; after which delays an advert arrives, once for each: none is a loss, two are a duplicate.
Wire = Callable[[str, str, float], Sequence[float]]
#: From, to and when; after which delay the link's word arrives, None if the link is dead.
Cable = Callable[[str, str, float], float | None]


@dataclass(frozen=True, slots=True)
class Step:
    """A change of state of one machine."""

    at: float
    name: str
    before: State
    state: State
    reason: str


@dataclass(slots=True)
class Node:
    """One machine and what it has; ``machine`` is None while the machine is off or its speaker is dead."""

    name: str
    settings: Settings
    facts: Facts
    machine: Machine | None = None
    life: int = 0  # counts starts, so that what was on the way to a former life is dropped
    has_vips_until: float = 0.0
    ticks_at: float = inf
    told: PeerFacts | None = None
    alarms: set[str] = field(default_factory=set)  # every one that was ever on


class World:
    """
    Runs machines against each other; ``link_to`` maps a name to that at the other end of its link.

    A node's ``facts`` may be changed at any time; ``reconsider`` tells its machine.
    """

    def __init__(self, wire: Wire, cable: Cable, link_to: dict[str, str]) -> None:
        self.now = 0.0
        self.nodes: dict[str, Node] = {}
        self.steps: list[Step] = []
        self.adverts: list[tuple[float, str, int]] = []  # when, from whom, with which priority
        self._wire, self._cable, self._link_to = wire, cable, link_to
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def __repr__(self) -> str:
        return f"<World {self.now:.3f} {', '.join(f'{name} {self.state(name)}' for name in self.nodes)}>"

    def add(self, name: str, settings: Settings, facts: Facts) -> Node:
        """Put up a machine that is off."""
        self.nodes[name] = Node(name, settings, facts)
        return self.nodes[name]

    def start(self, name: str, *, adopt: bool = False) -> None:
        """Start the speaker of a machine, also one that runs: the former is gone without a word."""
        node = self.nodes[name]
        node.life += 1
        node.machine = Machine(node.settings, node.facts)
        self.handle(name, on.Start(adopt))

    def kill(self, name: str, *, is_power_cut: bool = False) -> None:
        """End a speaker without a word; its addresses stay for their lease unless the power is cut, too."""
        node = self.nodes[name]
        node.life += 1
        node.machine, node.ticks_at = None, inf
        if is_power_cut:
            node.has_vips_until = 0.0

    def state(self, name: str) -> str:
        """Give the state of a machine, ``off`` if it is."""
        machine = self.nodes[name].machine
        return machine.state.value if machine else "off"

    def masters(self) -> list[str]:
        """Name the machines that are master."""
        return [name for name in self.nodes if self.state(name) == "master"]

    def holders(self) -> list[str]:
        """Name the machines that have the addresses."""
        return [node.name for node in self.nodes.values() if node.has_vips_until > self.now]

    def reconsider(self, name: str) -> None:
        """Tell a machine that its facts have changed."""
        if self.nodes[name].machine:
            self.handle(name, on.FactsChanged())

    def cut_link(self, name: str, when: float) -> None:
        """Let a machine find at a time to come that its link is dead."""

        def cut() -> None:
            self.nodes[name].facts.link = "dead"
            self.reconsider(name)

        self.at(when, cut)

    def handle(self, name: str, event: Event) -> None:
        """Hand an event to a machine that is on and carry out what it wants."""
        node = self.nodes[name]
        assert node.machine is not None
        for command in node.machine.handle(event, self.now):
            self._carry_out(node, command)
        self._tell(node)
        self._plan_tick(node)

    def run(self, until: float) -> None:
        """Let time pass up to a moment, the moment included."""
        while self._queue and self._queue[0][0] <= until:
            at, _, action = heappop(self._queue)
            self.now = max(self.now, at)
            action()
        self.now = max(self.now, until)

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Do something at a time to come."""
        heappush(self._queue, (when, next(self._order), action))

    def _plan_tick(self, node: Node) -> None:
        deadline = node.machine.next_deadline() if node.machine else None
        if deadline is None:
            node.ticks_at = inf
        elif deadline != node.ticks_at:
            node.ticks_at = deadline
            self.at(deadline, lambda: self._tick(node, deadline))

    def _tick(self, node: Node, deadline: float) -> None:
        if node.machine and node.ticks_at == deadline:
            node.ticks_at = inf
            self.handle(node.name, on.Tick())

    def _send(self, node: Node, event: Event, delay: float, life: int) -> None:
        def arrive() -> None:
            if node.machine and node.life == life:
                self.handle(node.name, event)

        self.at(self.now + delay, arrive)

    def _carry_out(self, node: Node, command: do.Command) -> None:
        match command:
            case do.SendAdvert(priority):
                self._send_advert(node, priority)
            case do.AddVips(_, lifetime) | do.RenewLease(_, lifetime):
                node.has_vips_until = inf if lifetime is None else self.now + lifetime
            case do.RemoveVips():
                node.has_vips_until = 0.0
            case do.ProbeVips():
                others = [name for name in self.holders() if name != node.name]
                self._send(node, on.ProbeDone(others[0] if others else None), 0.0, node.life)
            case do.Fence():
                self._send(node, on.FenceDone(True), 0.0, node.life)
            case do.Notify(state, before, reason):
                self.steps.append(Step(self.now, node.name, before, state, reason))
            case do.Alarm(name, True, _):
                node.alarms.add(name)

    def _send_advert(self, node: Node, priority: int) -> None:
        settings = node.settings
        self.adverts.append((self.now, node.name, priority))
        for other in self.nodes.values():
            if other is node or not other.machine:
                continue
            for delay in self._wire(node.name, other.name, self.now):
                for family in [family for family in settings.families if family in node.facts.sources]:
                    advert = Advert(
                        family,
                        settings.version,
                        settings.vrid,
                        priority,
                        settings.advert_interval,
                        settings.addresses(family),
                    )
                    heard = on.AdvertHeard(advert, node.facts.sources[family])
                    self._send(other, heard, delay, other.life)

    def _tell(self, node: Node) -> None:
        """Let the link bring what has changed to its other end."""
        other = self.nodes.get(self._link_to.get(node.name, ""))
        if node.machine is None or other is None:
            return
        told = node.machine.told(self.now)
        is_news = node.told is None or replace(told, advert_age=None) != replace(node.told, advert_age=None)
        delay = self._cable(node.name, other.name, self.now)
        if not is_news or delay is None:
            return
        node.told = told
        life = node.life

        def arrive() -> None:
            if other.facts.link == "up":
                other.facts.peer = told
                self.reconsider(other.name)

        def repeat() -> None:
            if node.told is told and node.life == life:
                node.told = None
                self._tell(node)

        self.at(self.now + delay, arrive)
        link = node.settings.link
        self.at(self.now + (link.interval if link else BEAT), repeat)
