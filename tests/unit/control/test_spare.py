"""Pins when a spare is made, given away and made again, without a process."""

import asyncio
from typing import cast

import pytest

from pyproxy.control.child import Child
from pyproxy.control.spare import DELAY, LOAD_SECONDS, MAX_DELAY, Spare
from pyproxy.control.workers import SHORT_LIFE
from pyproxy.pulse import HUNG
from tests.fakes import FakeLoop


class FakeChild:
    """A process in memory."""

    def __init__(self, loop: FakeLoop, pid: int) -> None:
        self.pid = pid
        self.started = loop.time()
        self.killed = self.has_ended = self.has_answered = False
        self.silence = 0.0

    def check(self) -> float:
        """Give how long it has been silent."""
        return self.silence

    def kill(self) -> None:
        """Take it down."""
        self.killed = True


class Stage:
    """A place for a spare, and those that were made for it."""

    def __init__(self) -> None:
        self.loop = FakeLoop()
        self.made: list[FakeChild] = []
        self.refuse = False
        self.spare = Spare(self.make, cast(asyncio.AbstractEventLoop, self.loop))

    def make(self) -> Child:
        """Start one."""
        if self.refuse:
            raise OSError("no more processes")
        self.made.append(FakeChild(self.loop, 1000 + len(self.made)))
        return cast(Child, self.made[-1])


@pytest.fixture
def stage() -> Stage:
    """A place without a spare."""
    return Stage()


def test_it_is_made_a_moment_after_it_is_wanted(stage: Stage) -> None:
    """Once, however often it is asked for."""
    stage.spare.prepare()
    stage.spare.prepare()
    stage.loop.advance(DELAY - 0.01)
    assert stage.made == []
    stage.loop.advance(0.02)
    stage.spare.prepare()
    stage.loop.advance(DELAY)
    assert len(stage.made) == 1
    assert stage.spare.take() is cast(Child, stage.made[0])
    assert stage.spare.take() is None


def test_one_that_has_just_ended_is_not_given_away(stage: Stage) -> None:
    """Nobody has said so yet, and when it is said another one is made."""
    stage.spare.prepare()
    stage.loop.advance(DELAY)
    stage.made[0].has_ended = True
    assert stage.spare.take() is None
    stage.spare.handle_end("signal SIGKILL")
    stage.loop.advance(2 * DELAY)
    assert stage.spare.take() is cast(Child, stage.made[1])


def test_who_takes_it_too_early_gets_none_and_none_is_made(stage: Stage) -> None:
    """The processors are needed for the one that is started instead."""
    stage.spare.prepare()
    assert stage.spare.take() is None
    stage.loop.advance(10 * DELAY)
    assert stage.made == []


def test_those_that_live_shortly_follow_each_other_more_and_more_slowly(stage: Stage) -> None:
    """Up to a minute, and at the first pace again after one that lived."""
    pauses = []
    stage.spare.prepare()
    for _ in range(9):
        before, count = stage.loop.time(), len(stage.made)
        while len(stage.made) == count:
            stage.loop.advance(0.25)
        pauses.append(stage.loop.time() - before)
        stage.spare.handle_end("signal SIGKILL")
    assert pauses == [DELAY * 2**n for n in range(6)] + [MAX_DELAY] * 3
    stage.loop.advance(MAX_DELAY + SHORT_LIFE + 1)
    count = len(stage.made)
    stage.spare.handle_end("signal SIGKILL")
    stage.loop.advance(DELAY)
    assert len(stage.made) == count + 1


def test_one_that_can_not_be_made_is_tried_again(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """And it is told."""
    stage.refuse = True
    stage.spare.prepare()
    stage.loop.advance(DELAY)
    assert "no more processes" in caplog.text
    stage.refuse = False
    stage.loop.advance(2 * DELAY)
    assert len(stage.made) == 1


def test_after_the_end_there_is_none(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """The one that waits is killed, which is nothing to warn of."""
    stage.spare.prepare()
    stage.loop.advance(DELAY)
    stage.spare.close()
    assert stage.made[0].killed
    stage.spare.handle_end("signal SIGKILL")
    stage.spare.prepare()
    stage.loop.advance(MAX_DELAY)
    assert len(stage.made) == 1
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_one_that_hangs_is_killed_before_it_is_needed(stage: Stage) -> None:
    """One that still loads has more time."""
    stage.spare.prepare()
    stage.loop.advance(DELAY)
    child = stage.made[0]
    child.silence = HUNG
    stage.spare.check()
    assert not child.killed
    child.has_answered = True
    stage.spare.check()
    assert child.killed


def test_one_that_never_loads_is_killed(stage: Stage) -> None:
    """Then another one may."""
    stage.spare.prepare()
    stage.loop.advance(DELAY)
    stage.made[0].silence = LOAD_SECONDS
    stage.spare.check()
    assert stage.made[0].killed
