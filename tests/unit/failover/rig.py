"""One machine under test, with a clock in the test's hand."""

from collections.abc import Iterable
from typing import Any

from pyproxy.failover import commands as do
from pyproxy.failover import events as on
from pyproxy.failover.commands import Command
from pyproxy.failover.events import Event
from pyproxy.failover.machine import Machine
from pyproxy.failover.packet import Advert
from pyproxy.failover.takeover import Facts, PeerFacts
from tests.unit.failover.settings import settings

PEER = "10.9.0.2"
PEER_V6 = "fe80::2"


class Rig:
    """A machine at 10.9.0.1 and fe80::1, its commands, and what has happened to it so far."""

    def __init__(self, **changes: Any) -> None:
        self.facts = Facts(sources={4: "10.9.0.1", 6: "fe80::1"})
        self.settings = settings(**changes)
        self.machine = Machine(self.settings, self.facts)
        self.now = 1000.0
        self.log: list[tuple[float, Command]] = []

    @property
    def state(self) -> str:
        return self.machine.state.value

    def give(self, event: Event) -> list[Command]:
        """Hand over an event now."""
        commands = self.machine.handle(event, self.now)
        self.log += [(self.now, command) for command in commands]
        return commands

    def start(self, *, adopt: bool = False) -> list[Command]:
        return self.give(on.Start(adopt))

    def hear(
        self,
        priority: int,
        *,
        interval: float = 1.0,
        source: str = PEER,
        addresses: Iterable[str] | None = None,
        version: int | None = None,
    ) -> list[Command]:
        """Let an advert come in; the family is the source's."""
        family = 6 if ":" in source else 4
        said = self.settings.addresses(family) if addresses is None else tuple(addresses)
        advert = Advert(family, version or self.settings.version, self.settings.vrid, priority, interval, said)
        return self.give(on.AdvertHeard(advert, source))

    def know(self, **facts: Any) -> list[Command]:
        """Change facts and tell the machine."""
        for name, value in facts.items():
            setattr(self.facts, name, value)
        return self.give(on.FactsChanged())

    def peer(self, state: str, *, well: bool = True, priority: int = 100, **more: Any) -> list[Command]:
        """Let the peer say something over a link that is up."""
        said = {"advert_age": 0.1, **more}
        return self.know(link="up", peer=PeerFacts(state, priority, well, **said))

    def wait(self, seconds: float) -> list[Command]:
        """Let time pass with every tick at its deadline; give what came of it."""
        until, before = self.now + seconds, len(self.log)
        while (deadline := self.machine.next_deadline()) is not None and deadline <= until:
            assert deadline >= self.now, "a timer is armed in the past"
            self.now = deadline
            self.give(on.Tick())
        self.now = until
        return [command for _, command in self.log[before:]]

    def stall(self, seconds: float) -> None:
        """Let time pass without a tick, as a process that doesn't run does."""
        self.now += seconds

    def tick(self) -> list[Command]:
        return self.give(on.Tick())

    def become_master(self) -> list[Command]:
        """Start, hear nothing, take over."""
        self.start()
        commands = self.wait(self.machine.down_interval())
        assert self.state == "master"
        return commands

    def become_backup(self, priority: int = 150, interval: float = 1.0) -> None:
        """Start and hear a master for longer than a down interval."""
        self.start()
        for _ in range(int(self.machine.down_interval() / interval) + 2):
            self.wait(interval)
            self.hear(priority, interval=interval)
        assert self.state == "backup"

    def deadline(self) -> float:
        """Seconds until the next tick."""
        at = self.machine.next_deadline()
        assert at is not None
        return at - self.now


def sent(commands: Iterable[Command]) -> list[int]:
    """Priorities of the adverts that are sent."""
    return [command.priority for command in commands if isinstance(command, do.SendAdvert)]


def kinds(commands: Iterable[Command]) -> list[str]:
    """Names of the commands in their order."""
    return [type(command).__name__ for command in commands]


def states(commands: Iterable[Command]) -> list[str]:
    """States that are told."""
    return [command.state.value for command in commands if isinstance(command, do.Notify)]


def alarms(commands: Iterable[Command]) -> list[str]:
    """Alarms that begin, and with a minus those that end."""
    return [("" if command.on else "-") + command.name for command in commands if isinstance(command, do.Alarm)]


def in_state(state: str) -> Rig:
    """A machine that came to a state as machines do."""
    rig = Rig()
    if state == "backup":
        rig.become_backup()
    elif state == "master":
        rig.become_master()
    elif state == "fault":
        rig.start()
        rig.know(own_link_up=False)
    assert rig.state == state
    return rig
