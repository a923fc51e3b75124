"""Whether the gateway answers, and how soon a loss is noticed."""

from asyncio import AbstractEventLoop
from ipaddress import ip_address
from typing import cast

from pyproxy.failover.gateway import FALL, GatewayWatch
from pyproxy.failover.netlink import Ip
from tests.fakes import FakeLoop

GATEWAY = ip_address("10.9.0.254")
OTHER = ip_address("10.9.0.253")
DOWN = 3.6


class World:
    """A gateway that answers or not, and what the watch did."""

    def __init__(self, down_interval: float = DOWN) -> None:
        self.loop = FakeLoop()
        self.gateway: Ip | None = GATEWAY
        self.answers = True
        self.asked: list[float] = []
        self.changes: list[bool | None] = []
        self.watch = GatewayWatch(self.find, self.ask, self.note, down_interval, cast(AbstractEventLoop, self.loop))

    def find(self) -> Ip | None:
        """Give the default route's gateway."""
        return self.gateway

    def ask(self, address: Ip) -> None:
        """Answer in the next turn if that is the gateway's address, or not at all."""
        self.asked.append(self.loop.now)
        if self.answers and address == self.gateway:
            self.loop.call_soon(self.watch.answered)

    def note(self) -> None:
        """Take down what is known now."""
        self.changes.append(self.watch.is_ok)


def test_an_answer_makes_it_known() -> None:
    """Told once, however often it answers."""
    world = World()
    world.watch.start()
    world.loop.advance(10)
    assert world.changes == [True]
    assert len(world.asked) > 5
    assert world.watch.answered_at == world.asked[-1]


def test_silence_is_a_loss_only_after_three_questions() -> None:
    """One lost frame is no outage; a loss is known within about a down interval."""
    world = World()
    world.watch.start()
    world.loop.advance(1.5)
    world.answers = False
    since = world.loop.now
    while world.watch.is_ok:
        world.loop.advance(0.01)
    assert world.loop.now - since <= DOWN + 1.1
    assert len([at for at in world.asked if at > since]) >= FALL


def test_a_gateway_that_never_answered_is_lost_too() -> None:
    """A port that doesn't forward yet looks just so."""
    world = World()
    world.answers = False
    world.watch.start()
    world.loop.advance(DOWN + 1)
    assert world.changes == [False]


def test_it_comes_back() -> None:
    """The first answer is enough."""
    world = World()
    world.answers = False
    world.watch.start()
    world.loop.advance(10)
    world.answers = True
    world.loop.advance(1.5)
    assert world.changes == [False, True]


def test_in_a_hurry_it_is_known_in_time() -> None:
    """What was true a moment ago counts no more, and the answer comes before the down timer ends."""
    world = World()
    world.watch.start()
    world.loop.advance(1.1)
    world.answers = False
    world.watch.hurry(0.2)
    world.loop.advance(0.2)
    assert world.watch.is_ok is False


def test_in_a_hurry_an_answer_changes_nothing() -> None:
    """The machine is connected, and the questions come at their usual pace again."""
    world = World()
    world.watch.start()
    world.loop.advance(1.1)
    world.watch.hurry(0.2)
    world.loop.advance(0.2)
    assert world.changes == [True]
    before = len(world.asked)
    world.loop.advance(1.0)
    assert len(world.asked) - before <= 1


def test_without_a_gateway_nothing_is_known() -> None:
    """Nobody is asked, and one that appears is found."""
    world = World()
    world.gateway = None
    world.watch.start()
    world.loop.advance(5)
    assert (world.asked, world.changes) == ([], [])
    world.gateway = GATEWAY
    world.loop.advance(2)
    assert world.changes == [True]


def test_another_gateway_is_looked_for_when_the_first_is_silent() -> None:
    """Routes change; what was known of the old one isn't true of the new one."""
    world = World()
    world.watch.start()
    world.loop.advance(1.1)
    world.answers = False
    world.loop.advance(2.5)
    world.gateway, world.answers = OTHER, True
    world.loop.advance(5)
    assert world.watch.address == OTHER
    assert world.changes[-1] is True


def test_short_intervals_make_no_flood() -> None:
    """At most twenty questions a second."""
    world = World(down_interval=0.036)
    world.watch.start()
    world.loop.advance(1.0)
    assert len(world.asked) <= 21


def test_stopped_it_is_silent() -> None:
    """Also when stopped twice."""
    world = World()
    world.watch.start()
    world.watch.stop()
    world.watch.stop()
    before = len(world.asked)
    world.loop.advance(5)
    assert len(world.asked) == before
