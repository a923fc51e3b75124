"""Pins that one timer serves all deadlines, that none fires early, and that a stall is not taken for a timeout."""

import asyncio
import logging
from typing import cast

import pytest

from pyproxy.proxy.deadlines import SWEEP_SECONDS, Sweeper
from tests.fakes import FakeLoop


class Watched:
    """Something with a deadline."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.fired: list[float] = []
        self.error: Exception | None = None
        self.takes_along: Watched | None = None
        self.sweeper: Sweeper | None = None

    def on_deadline(self, now: float) -> None:
        """Note it."""
        self.fired.append(now)
        if self.error is not None:
            raise self.error
        if self.takes_along is not None and self.sweeper is not None:
            self.sweeper.unwatch(self.takes_along)
        self.deadline = float("inf")


class Sweep:
    """A sweeper on a fake loop."""

    def __init__(self) -> None:
        self.loop = FakeLoop()
        self.ticks: list[tuple[float, float]] = []
        self.sweeper = Sweeper(cast(asyncio.AbstractEventLoop, self.loop), self.loop.time, self.on_tick)

    def on_tick(self, now: float, lag: float) -> None:
        """Note it."""
        self.ticks.append((now, lag))

    def watch(self, seconds: float) -> Watched:
        """Watch something due in so many seconds."""
        watched = Watched(self.loop.now + seconds)
        self.sweeper.watch(watched)
        return watched


def test_never_early_and_little_late() -> None:
    """A deadline is noticed at the next sweep and looked at again a moment later."""
    sweep = Sweep()
    due = sweep.loop.now + 1.03
    watched = sweep.watch(1.03)
    sweep.loop.advance(1.0)
    assert watched.fired == []
    sweep.loop.advance(0.2)
    (fired,) = watched.fired
    assert due <= fired <= due + SWEEP_SECONDS + 0.01


def test_a_deadline_that_moves_between_the_looks_is_not_fired() -> None:
    """Fact 20: after a stall timers run before sockets; the bytes that came get their chance first."""
    sweep = Sweep()
    watched = sweep.watch(1.0)
    sweep.loop.stall(sweep.loop.now + 5.0)
    sweep.loop.call_later(0.0005, lambda: setattr(watched, "deadline", sweep.loop.now + 1.0))
    sweep.loop.advance(0.05)
    assert watched.fired == []
    sweep.loop.advance(1.2)
    assert len(watched.fired) == 1


def test_what_is_no_longer_watched_is_not_fired() -> None:
    """Something that ends between the looks is left in peace."""
    sweep = Sweep()
    watched = sweep.watch(0.05)
    sweep.loop.call_later(SWEEP_SECONDS + 0.0005, lambda: sweep.sweeper.unwatch(watched))
    sweep.loop.advance(1.0)
    assert watched.fired == []


def test_one_expiry_may_end_another() -> None:
    """What one deadline takes out of the set, another of the same sweep doesn't meet any more."""
    sweep = Sweep()
    legs = [sweep.watch(0.05), sweep.watch(0.05)]
    for leg, other in (legs, legs[::-1]):
        leg.takes_along = other
    for leg in legs:
        leg.sweeper = sweep.sweeper
    sweep.loop.advance(0.15)
    assert sum(len(leg.fired) for leg in legs) == 1


def test_each_fires_once() -> None:
    """A deadline that was acted on doesn't fire with the next sweep again."""
    sweep = Sweep()
    watched = [sweep.watch(0.3 * index) for index in range(5)]
    sweep.loop.advance(3.0)
    assert [len(each.fired) for each in watched] == [1] * 5


def test_an_exception_costs_only_its_own(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, the others fire, the failed one is looked at again instead of being lost."""
    sweep = Sweep()
    bad, good = sweep.watch(0.05), sweep.watch(0.05)
    bad.error = ValueError("ours")
    with caplog.at_level(logging.ERROR):
        sweep.loop.advance(0.3)
    assert len(good.fired) == 1
    assert len(bad.fired) == 1
    assert "ours" in caplog.text
    bad.error = None
    sweep.loop.advance(1.2)
    assert len(bad.fired) == 2


def test_periodic_work_gets_time_and_lag() -> None:
    """Ten ticks a second; how late a tick is says how long the loop stalled."""
    sweep = Sweep()
    sweep.loop.advance(1.01)
    assert len(sweep.ticks) == 10
    assert all(lag < 1e-6 for _, lag in sweep.ticks)
    sweep.loop.stall(sweep.loop.now + 2.0)
    sweep.loop.advance(0.001)
    assert sweep.ticks[-1][1] == pytest.approx(1.91, abs=0.01)


def test_failing_periodic_work_does_not_stop_the_sweeper(caplog: pytest.LogCaptureFixture) -> None:
    """All deadlines hang on it."""
    sweep = Sweep()
    sweep.ticks = cast(list[tuple[float, float]], None)  # append fails
    watched = sweep.watch(0.5)
    with caplog.at_level(logging.ERROR):
        sweep.loop.advance(1.0)
    assert "periodic work failed" in caplog.text
    assert len(watched.fired) == 1


def test_close_stops_it() -> None:
    """A closed sweeper looks no more."""
    sweep = Sweep()
    watched = sweep.watch(0.5)
    sweep.sweeper.close()
    sweep.loop.advance(2.0)
    assert watched.fired == []
    assert sweep.ticks == []
