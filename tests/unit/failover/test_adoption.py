"""When a new process goes on as master: at once, after listening, or not at all."""

from pathlib import Path

import pytest

from pyproxy.failover import adoption, saved
from pyproxy.failover.background import boottime
from pyproxy.failover.saved import Keeper, Saved

FRESHNESS, LEASE, INTERVAL = 3.6, 20.0, 1.0


class Scene:
    """A saved state of some age, and what is heard before and after listening."""

    def __init__(self, directory: Path, age: float, *obstacles: str, state: str = "master") -> None:
        self.keeper = Keeper(directory, "abc", FRESHNESS)
        saved.write(directory, Saved(state, 0.0, boottime() - age, 7, "abc"))
        self.obstacles = obstacles
        self.slept: list[float] = []

    def obstacle(self) -> str:
        """Say what is in the way now."""
        return self.obstacles[len(self.slept)] if self.obstacles else ""

    async def sleep(self, seconds: float) -> None:
        """Take it down."""
        self.slept.append(seconds)

    async def ask(self, lease: float | None = LEASE) -> str:
        """Ask whether it may."""
        try:
            return await adoption.refusal(self.keeper, lease, INTERVAL, self.obstacle, self.sleep)
        finally:
            self.keeper.close(1.0)


async def test_a_fresh_state_is_adopted_at_once(tmp_path: Path) -> None:
    """Nobody can have taken over, so nothing has to be waited for; but what is heard already counts."""
    scene = Scene(tmp_path, 0.1)
    assert (await scene.ask(), scene.slept) == ("", [])
    assert await Scene(tmp_path, 0.1, "another master is heard").ask() == "another master is heard"


async def test_an_older_one_is_adopted_after_listening_for_an_interval(tmp_path: Path) -> None:
    """The addresses are there, so the lease lives, and nobody else says that it is master."""
    scene = Scene(tmp_path, 5.0)
    assert await scene.ask() == ""
    assert scene.slept == pytest.approx([1.1 * INTERVAL])


async def test_a_master_that_is_heard_meanwhile_is_left_alone(tmp_path: Path) -> None:
    """The peer took over while nobody was here; so it is when the lease ends meanwhile."""
    scene = Scene(tmp_path, 5.0, "", "another master is heard")
    assert (await scene.ask(), len(scene.slept)) == ("another master is heard", 1)


async def test_what_is_in_the_way_already_is_not_waited_for(tmp_path: Path) -> None:
    """The answer says both reasons."""
    scene = Scene(tmp_path, 5.0, "the addresses are gone")
    assert (await scene.ask()).startswith("the addresses are gone, and its state is 5")
    assert scene.slept == []


@pytest.mark.parametrize(
    ("age", "lease", "state"),
    [
        pytest.param(21.0, LEASE, "master", id="older than any lease"),
        pytest.param(5.0, None, "master", id="addresses that stay for ever prove nothing"),
        pytest.param(5.0, 1.0, "master", id="older than this lease"),
        pytest.param(0.1, LEASE, "backup", id="it wasn't master"),
    ],
)
async def test_nothing_else_is_adopted(tmp_path: Path, age: float, lease: float | None, state: str) -> None:
    """And nobody listens for it."""
    scene = Scene(tmp_path, age, state=state)
    assert await scene.ask(lease)
    assert scene.slept == []
