"""An advert that doesn't come in time is noticed once."""

from asyncio import AbstractEventLoop
from typing import cast

from pyproxy.failover.overdue import PATIENCE, OverdueWatch
from tests.fakes import FakeLoop


class World:
    """A watch, and what it said when."""

    def __init__(self) -> None:
        self.loop = FakeLoop()
        self.late: list[tuple[float, float]] = []
        self.waiting: list[float] = []  # intervals of adverts that nobody has read yet
        self.watch = OverdueWatch(cast(AbstractEventLoop, self.loop), self.look, self.note)

    def look(self) -> None:
        """Read what waits."""
        while self.waiting:
            self.watch.hear(self.waiting.pop())

    def note(self, heard: float) -> None:
        """Take down when it was said, and when the last advert was heard."""
        self.late.append((self.loop.now, heard))


def test_adverts_in_time_are_not_overdue() -> None:
    """However many come."""
    world = World()
    for _ in range(100):
        world.watch.hear(0.1)
        world.loop.advance(0.12)
    assert world.late == []


def test_a_silence_is_told_once_and_early() -> None:
    """After one and a half of the master's intervals, by the interval that it told last."""
    world = World()
    world.watch.hear(1.0)
    world.loop.advance(0.05)
    heard = world.loop.now
    world.watch.hear(0.1)
    world.loop.advance(10)
    [(at, last)] = world.late
    assert last == heard
    assert heard + PATIENCE * 0.1 <= at <= heard + PATIENCE * 1.0


def test_after_a_silence_the_next_one_is_told_too() -> None:
    """The first advert that comes again begins anew."""
    world = World()
    for _ in range(3):
        world.watch.hear(0.1)
        world.loop.advance(1)
    assert len(world.late) == 3


def test_an_advert_that_waits_to_be_read_is_no_silence() -> None:
    """After a stall the timer is late, and what came meanwhile is read first."""
    world = World()
    world.watch.hear(0.1)
    world.waiting.append(0.1)
    world.loop.advance(0.16)
    assert world.late == []
    world.loop.advance(1)
    assert len(world.late) == 1


def test_closed_it_says_nothing() -> None:
    """Also when adverts still come."""
    world = World()
    world.watch.hear(0.1)
    world.watch.close()
    world.watch.hear(0.1)
    world.loop.advance(1)
    assert world.late == []
