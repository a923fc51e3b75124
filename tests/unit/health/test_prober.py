"""Pins who is checked when, and who hears of it; the checks themselves are scripted, and nobody waits."""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from random import Random

import pytest

from pyproxy.clock import monotonic
from pyproxy.config.runtime import Backend, Health, Pool
from pyproxy.health.checks import CheckResult, NotChecked, Target
from pyproxy.health.prober import Prober
from tests.unit.proxy.planes import make_backend, make_pool

HEALTH = Health("http", "/", None, ((200, 399),), None, 2.0, 1.0, 2, 3, None)


class World:
    """What the checks will say by port, and who sleeps for how long; ``tick`` wakes all sleepers."""

    def __init__(self) -> None:
        self.says: dict[int, bool | Exception] = {}
        self.words: dict[int, str | None] = {}
        self.asked: list[int] = []
        self.pauses: list[float] = []
        self.flips: list[tuple[str, int, str]] = []
        self.heard: list[tuple[str, int, str]] = []
        self._tick = asyncio.Event()
        self.prober = Prober(
            lambda *flip: self.flips.append(flip),
            lambda *word: self.heard.append(word),
            check=self._check,
            sleep=self._sleep,
            random=Random(1),
        )

    async def _check(self, target: Target) -> CheckResult:
        self.asked.append(target.port)
        said = self.says.get(target.port, True)
        if isinstance(said, Exception):
            raise said
        return CheckResult(1.0, said, "L7 200" if said else "L4 refused", 0.001, self.words.get(target.port))

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await self._tick.wait()

    async def tick(self) -> list[int]:
        """Let everybody be checked once more, and say who was."""
        self.asked.clear()
        self.pauses.clear()
        tick, self._tick = self._tick, asyncio.Event()
        tick.set()
        for _ in range(5):
            await asyncio.sleep(0)
        return sorted(self.asked)

    async def update(self, *backends: Backend, health: Health | None = HEALTH) -> list[int]:
        """Give the pool other members, and say who is checked at once."""
        self.asked.clear()
        self.pauses.clear()
        pool: Pool = make_pool("web", backends, health=health)
        self.prober.update(pool)
        for _ in range(5):
            await asyncio.sleep(0)
        return sorted(self.asked)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """A prober that doesn't know anybody yet."""
    world = World()
    yield world
    await world.prober.close()
    assert len(asyncio.all_tasks()) == 1


def member(seat: int, *, state: str = "ready", lookup: str = "") -> Backend:
    """Make the backend on a seat; its port is 8000 and the seat."""
    return make_backend(f"b{seat}", port=8000 + seat, seat=seat, state=state, lookup=lookup)


async def test_all_at_once_and_the_first_result_decides(world: World) -> None:
    """Whatever rise and fall are."""
    world.says[8002] = False
    assert await world.update(member(1), member(2)) == [8001, 8002]
    assert world.flips == [("web", 1, "up"), ("web", 2, "down")]
    assert world.prober.results[2].detail == "L4 refused"
    assert repr(world.prober) == "<Prober 2 backends>"


async def test_without_checks_nobody_is_asked(world: World) -> None:
    """The pool has no ``health``."""
    assert await world.update(member(1), health=None) == []


async def test_rise_and_fall(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """One line and one call for each flip."""
    caplog.set_level(logging.INFO)
    await world.update(member(1))
    for ok in (False, False, True, False, False, False, True, True):
        world.says[8001] = ok
        await world.tick()
    assert [health for _, _, health in world.flips] == ["up", "down", "up"]
    assert [record.getMessage() for record in caplog.records] == [
        "web/b1 (10.0.0.1:8001) is up: L7 200",
        "web/b1 (10.0.0.1:8001) is down: L4 refused",
        "web/b1 (10.0.0.1:8001) is up: L7 200",
    ]


async def test_what_a_node_says_of_itself(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """It holds until an answer says something else; no answer and nonsense change nothing, and are told once."""
    caplog.set_level(logging.INFO)
    await world.update(member(1))
    for word in ("drain", "drain", None, "draim", "draim", "drain", "MAINT", "", ""):
        world.words[8001] = word
        await world.tick()
    assert world.heard == [("web", 1, "drain"), ("web", 1, "maint"), ("web", 1, "ready")]
    title = "web/b1 (10.0.0.1:8001)"
    assert [record.getMessage() for record in caplog.records][1:] == [
        f"{title} asks for drain",
        f"{title} says X-LB-State: 'draim', which is none of ready, drain, maint",
        f"{title} asks for maint",
        f"{title} asks for ready",
    ]


async def test_one_that_asked_for_maintenance_is_checked_and_the_operators_is_not(world: World) -> None:
    """Else it could never say that it is over; whom nobody asks has said nothing."""
    world.words[8001] = "maint"
    await world.update(member(1))
    assert await world.update(replace(member(1, state="maint"), steered=True)) == []
    assert await world.tick() == [8001]
    await world.update(member(1, state="maint"))
    assert await world.tick() == []
    assert world.heard == [("web", 1, "maint"), ("web", 1, "ready")]


async def test_pauses(world: World) -> None:
    """The second check is spread over the interval, later ones keep to it by 10 %, four times as often in balance."""
    backends = [member(seat) for seat in range(40)]
    await world.update(*backends)
    assert min(world.pauses) < 0.5
    assert max(world.pauses) > 1.5
    await world.tick()
    assert min(world.pauses) > 1.79
    assert max(world.pauses) <= 2.2
    assert max(world.pauses) - min(world.pauses) > 0.2
    world.says = {8000 + seat: False for seat in range(40)}
    await world.tick()
    assert min(world.pauses) > 0.44
    assert max(world.pauses) <= 0.55
    await world.tick()
    await world.tick()
    assert min(world.pauses) > 1.79


async def test_members_come_and_go(world: World) -> None:
    """Those that stay keep what was counted, those that left aren't asked, a new address begins anew."""
    await world.update(member(1), member(2))
    world.says[8001] = False
    await world.tick()
    await world.tick()
    assert await world.update(member(1), member(3)) == [8003]
    assert set(world.prober.results) == {1, 3}
    assert await world.tick() == [8001, 8003]
    assert world.flips[-1] == ("web", 1, "down")
    moved = replace(member(1), port=9000)
    assert await world.update(moved, member(3)) == [9000]
    assert world.flips[-2:] == [("web", 1, "checking"), ("web", 1, "up")]


async def test_maint_stops_checks_and_drain_does_not(world: World) -> None:
    """Back from ``maint`` it is checked before it gets anything."""
    await world.update(member(1), member(2))
    await world.update(member(1, state="maint"), member(2, state="drain"))
    assert world.flips[-1] == ("web", 1, "checking")
    assert await world.tick() == [8002]
    world.says[8001] = False
    assert await world.update(member(1), member(2)) == [8001]
    assert world.flips[-1] == ("web", 1, "down")


async def test_a_name_without_an_address_is_not_asked(world: World) -> None:
    """It has no seat either."""
    assert await world.update(member(1, lookup="address")) == []


async def test_a_limit_of_our_own_says_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """It is said once, and the backend stays as it is."""
    await world.update(member(1))
    world.says[8001] = NotChecked("Too many open files")
    for _ in range(5):
        await world.tick()
    assert world.flips == [("web", 1, "up")]
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == [
        "can't check web/b1 (10.0.0.1:8001): Too many open files"
    ]


async def test_a_mistake_of_ours_does_not_end_the_checks(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and the next check comes."""
    await world.update(member(1))
    world.says[8001] = RuntimeError("oops")
    await world.tick()
    assert "went wrong" in caplog.text
    world.says[8001] = True
    assert await world.tick() == [8001]


async def test_every_check_that_passes_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the flip that it makes, with the time at which it began; one that fails is not."""
    times = iter([5.0, 6.0, 7.0])
    monkeypatch.setattr("pyproxy.health.prober.monotonic", lambda: next(times))
    told: list[tuple[str, int, float]] = []

    def on_pass(pool: str, seat: int, began: float) -> None:
        assert world.flips
        told.append((pool, seat, began))

    world.prober._on_pass = on_pass
    await world.update(member(1))
    world.says[8001] = False
    await world.tick()
    world.says[8001] = True
    await world.tick()
    assert told == [("web", 1, 5.0), ("web", 1, 7.0)]


async def test_others_are_asked_to_give_way_to_a_check_that_waits() -> None:
    """A part of its timeout without an answer is enough; one that is answered at once asks for nothing."""
    waits: list[str] = []
    told, never = asyncio.Event(), asyncio.Event()

    def note(address: str, began: float) -> None:
        assert began <= monotonic()
        waits.append(address)
        told.set()

    async def check(target: Target) -> CheckResult:
        if target.port == 8000:
            await never.wait()
        return CheckResult(1.0, True, "L7 200", 0.001)

    prober = Prober(lambda *_: None, lambda *_: None, on_wait=note, check=check)
    prober.update(make_pool("web", (member(0), member(1)), health=replace(HEALTH, timeout=0.0)))
    await asyncio.wait_for(told.wait(), 5)
    await prober.close()
    assert waits == ["10.0.0.1:8000"]
