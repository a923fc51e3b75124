"""The operator's commands that keep a machine out."""

import asyncio
from collections.abc import Sequence

import pytest

from pyproxy.failover import guards as guards_module
from pyproxy.failover.guards import Guards
from pyproxy.failover.jobs import Result
from pyproxy.failover.settings import Guard

FRESH = Guard(("is-fresh",), 2.0, 0.0, "refuse")
SPARE = Guard(("is-spare",), 2.0, 0.0, "last_resort")
OK = Result(0, "")
STALE = Result(1, "stale")


class World:
    """Commands that end when a test says so."""

    def __init__(self, *guards: Guard) -> None:
        self.running: dict[str, asyncio.Future[Result]] = {}
        self.runs = 0
        self.changes: list[str] = []
        self.guards = Guards(guards, self.run, self.note)

    async def run(self, argv: Sequence[str], timeout: float) -> Result:
        """Wait for the test."""
        assert timeout == 2.0
        self.runs += 1
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self.running[argv[0]] = future
        return await future

    def note(self) -> None:
        """Take down the verdict."""
        self.changes.append(self.guards.verdict()[0])

    async def end(self, name: str, result: Result) -> None:
        """Let a command end, and wait until it runs again or the guard has come to rest."""
        while name not in self.running or self.running[name].done():
            await asyncio.sleep(0)
        self.running[name].set_result(result)
        for _ in range(5):
            await asyncio.sleep(0)


async def test_without_guards_everything_is_fine() -> None:
    """Nothing is run."""
    world = World()
    world.guards.start()
    assert world.guards.verdict() == ("ok", "")
    await world.guards.close()


async def test_a_guard_that_has_not_run_refuses() -> None:
    """A replica that was never asked may be months old."""
    world = World(FRESH)
    assert world.guards.verdict() == ("refuse", "is-fresh: hasn't run yet")
    world.guards.start()
    await world.end("is-fresh", OK)
    assert world.guards.verdict() == ("ok", "")
    assert world.changes == ["ok"]
    await world.guards.close()


async def test_a_failing_guard_says_why() -> None:
    """The command's own words reach the operator."""
    world = World(FRESH)
    world.guards.start()
    await world.end("is-fresh", STALE)
    assert world.guards.verdict() == ("refuse", "is-fresh: exit status 1: stale")
    [plain] = world.guards.to_plain()
    assert plain["at"] > 0
    assert {**plain, "at": 0} == {
        "name": "is-fresh",
        "ok": False,
        "detail": "exit status 1: stale",
        "at": 0,
        "on_fail": "refuse",
    }
    await world.guards.close()


@pytest.mark.parametrize(
    ("fresh", "spare", "verdict"),
    [(OK, OK, "ok"), (OK, STALE, "last_resort"), (STALE, STALE, "refuse"), (STALE, OK, "refuse")],
)
async def test_the_worst_verdict_counts(fresh: Result, spare: Result, verdict: str) -> None:
    """Refusal before last resort, in whichever order they are."""
    world = World(SPARE, FRESH)
    world.guards.start()
    await world.end("is-fresh", fresh)
    await world.end("is-spare", spare)
    assert world.guards.verdict()[0] == verdict
    await world.guards.close()


async def test_an_unchanged_result_is_no_news() -> None:
    """Guards run for ever; only changes are told."""
    world = World(FRESH)
    world.guards.start()
    for _ in range(4):
        await world.end("is-fresh", STALE)
    assert world.changes == ["refuse"]
    await world.guards.close()


async def test_a_guard_that_fails_for_long_is_a_reason_to_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only when the other machine has asked its own since; that it fails no more is told, too."""
    now = 100.0
    monkeypatch.setattr(guards_module, "monotonic", lambda: now)
    world = World(FRESH)  # its interval is 0 s, its timeout 2 s
    world.guards.start()
    await world.end("is-fresh", STALE)
    now += 2.9
    await world.end("is-fresh", STALE)
    assert world.guards.lasting_failure() == ""
    now += 0.2
    await world.end("is-fresh", STALE)
    assert world.guards.lasting_failure() == "guard is-fresh fails: exit status 1: stale"
    await world.end("is-fresh", OK)
    assert world.guards.lasting_failure() == ""
    assert world.changes == ["refuse", "refuse", "ok"]
    await world.guards.close()


async def test_the_first_results_can_be_waited_for() -> None:
    """So that a start isn't a fault for the moment that a guard takes; a slow one isn't waited for."""
    world = World(FRESH, SPARE)
    world.guards.start()
    waiting = asyncio.ensure_future(world.guards.settle(30))
    await world.end("is-fresh", OK)
    assert not waiting.done()
    await world.end("is-spare", STALE)
    await waiting
    await world.guards.close()
    await World().guards.settle(30)
    await World(FRESH).guards.settle(0)
