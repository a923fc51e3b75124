"""Pins when a speaker is started again, what a new one is told, and how it is stopped, without a process."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from pyproxy.control import spare
from pyproxy.control import speaker as module
from pyproxy.control.speaker import SETTLED, Speaker, speaker_program
from pyproxy.control.worker import Program
from pyproxy.control.workers import FIRST_TRIES
from pyproxy.pulse import HUNG


class FakeChild:
    """A process in memory, ended by the test."""

    made: list["FakeChild"]
    refuse = 0

    def __init__(
        self, _name: str, _spawn: Any, say: Callable[[dict[str, Any]], None], end: Callable[[str], None]
    ) -> None:
        if FakeChild.refuse:
            FakeChild.refuse -= 1
            raise OSError("no more processes")
        self.pid = 1000 + len(FakeChild.made)
        self.started = asyncio.get_running_loop().time()
        self.told: list[str] = []
        self.say = say
        self.end = end
        self.killed = self.has_ended = False
        self.has_answered, self.silence = True, 0.0
        self.messages: list[dict[str, Any]] = []
        FakeChild.made.append(self)

    def send(self, message: dict[str, Any]) -> None:
        self.told.append(message["type"])
        self.messages.append(message)

    def check(self) -> float:
        return self.silence

    def kill(self) -> None:
        self.killed = True
        asyncio.get_running_loop().call_soon(self.end, "signal SIGKILL")


class Stage:
    """A speaker, and what became of it."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.lost = 0
        self.hopeless: list[str] = []
        self.speaker = Speaker(Program(), {"type": "start"}, self.messages.append, self.lose, self.hopeless.append)

    def lose(self) -> None:
        self.lost += 1

    @property
    def child(self) -> FakeChild:
        return FakeChild.made[-1]

    def ready(self) -> None:
        self.child.say({"type": "ready"})


@pytest.fixture
async def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    """A speaker that has been started, in a world where nothing takes time."""
    FakeChild.made, FakeChild.refuse = [], 0
    monkeypatch.setattr(module, "Child", FakeChild)
    monkeypatch.setattr(module, "pause", lambda _: 0.0)
    stage = Stage()
    stage.speaker.set_facts({"type": "facts", "n": 1})
    stage.speaker.start()
    return stage


async def turn() -> None:
    """Let timers of no time run."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_process_is_told_everything_from_the_begin(stage: Stage) -> None:
    """Start message and facts; what is known already isn't told again, and nothing is sent to one that isn't ready."""
    assert stage.child.told == ["start"]
    assert stage.child.messages[0]["facts"]["n"] == 1
    assert not stage.speaker.send({"type": "handover"})
    stage.ready()
    stage.speaker.set_facts({"type": "facts", "n": 1})
    stage.speaker.set_facts({"type": "facts", "n": 2})
    assert stage.speaker.send({"type": "handover"})
    assert stage.child.told == ["start", "facts", "handover"]
    stage.child.say({"type": "status"})
    assert stage.messages == [{"type": "status"}]


async def test_one_that_ends_is_followed_at_once(stage: Stage) -> None:
    """By one that is told the same."""
    stage.ready()
    stage.child.end("signal SIGKILL")
    assert (stage.lost, stage.speaker.is_ready) == (1, False)
    await turn()
    assert len(FakeChild.made) == 2
    assert stage.child.messages[0]["facts"]["n"] == 1
    assert stage.speaker.restarts == 1


async def test_one_that_never_works_is_given_up(stage: Stage) -> None:
    """With what it said; after one was ever ready it is tried for ever."""
    for _ in range(FIRST_TRIES):
        stage.child.say({"type": "failed", "error": "CAP_NET_RAW is missing"})
        await turn()
    assert stage.hopeless == ["CAP_NET_RAW is missing"]
    assert len(FakeChild.made) == FIRST_TRIES
    assert all(child.killed for child in FakeChild.made)


async def test_one_that_was_ready_once_is_started_for_ever(stage: Stage) -> None:
    """It may be the machine that is ill, and get well."""
    stage.ready()
    for _ in range(3 * FIRST_TRIES):
        stage.child.end("exit status 1")
        await turn()
    assert stage.hopeless == []


async def test_a_process_that_can_not_be_made_is_tried_again(stage: Stage) -> None:
    """As one that ends."""
    stage.ready()
    FakeChild.refuse = 2
    stage.child.end("exit status 1")
    await turn()
    assert len(FakeChild.made) == 2


async def test_stopping_waits_for_the_end(stage: Stage) -> None:
    """And starts no other."""
    stage.ready()
    stopping = asyncio.ensure_future(stage.speaker.stop("the program stops"))
    await turn()
    assert stage.child.told[-1] == "stop"
    assert not stopping.done()
    stage.child.end("exit status 0")
    await stopping
    await turn()
    assert len(FakeChild.made) == 1


async def test_one_that_does_not_stop_is_killed(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's lease takes the addresses then."""
    monkeypatch.setattr(module, "STOP_SECONDS", 0.0)
    stage.ready()
    await stage.speaker.stop("the program stops")
    assert stage.child.killed


async def test_stopping_twice_is_once(stage: Stage) -> None:
    """The program's end comes by here whatever was before."""
    stage.ready()
    stage.child.end("exit status 1")
    await stage.speaker.stop("first")
    await stage.speaker.stop("second")
    await turn()
    assert len(FakeChild.made) == 1


@pytest.fixture
async def doubled(monkeypatch: pytest.MonkeyPatch, stage: Stage) -> Stage:
    """A speaker that is ready, with a spare beside it."""
    monkeypatch.setattr(spare, "DELAY", 0.0)
    stage = Stage()
    stage.speaker.set_facts({"type": "facts", "n": 1})
    stage.speaker.start()
    FakeChild.made = FakeChild.made[-1:]
    stage.ready()
    await turn()
    assert len(FakeChild.made) == 2
    return stage


async def test_a_spare_is_told_nothing_until_it_is_needed(doubled: Stage) -> None:
    """Then it is told everything at once; the next one is made when it is ready, and not before."""
    first, second = FakeChild.made
    doubled.speaker.set_facts({"type": "facts", "n": 2})
    assert second.told == []
    first.end("signal SIGKILL")
    await turn()
    assert second.told == ["start"]
    assert second.messages[0]["facts"]["n"] == 2
    assert doubled.speaker.pid == second.pid
    assert len(FakeChild.made) == 2
    doubled.ready()
    await turn()
    assert len(FakeChild.made) == 3
    assert (doubled.lost, doubled.speaker.restarts) == (1, 1)


async def test_a_spare_that_ends_is_replaced_and_nobody_hears_of_it(doubled: Stage) -> None:
    """The one that works goes on."""
    first, second = FakeChild.made
    second.end("signal SIGKILL")
    await turn()
    assert len(FakeChild.made) == 3
    assert doubled.speaker.is_ready
    assert (doubled.speaker.pid, doubled.lost, doubled.speaker.restarts) == (first.pid, 0, 0)


async def test_a_spare_that_dies_with_the_one_that_works_is_followed_by_a_fresh_one(doubled: Stage) -> None:
    """In either order."""
    first, second = FakeChild.made
    first.end("signal SIGKILL")
    await turn()
    second.end("signal SIGKILL")
    await turn()
    assert doubled.child.told == ["start"]
    assert len(FakeChild.made) == 3
    doubled.ready()
    await turn()
    third, fourth = FakeChild.made[2:]
    fourth.has_ended = True
    third.end("signal SIGKILL")
    await turn()
    fourth.end("signal SIGKILL")
    await turn()
    assert [child.told for child in FakeChild.made[3:]] == [[], ["start"], []]


async def test_a_spares_life_counts_from_its_start_message(doubled: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have waited for hours: if it then ends at once, that is a short life all the same."""
    lives: list[int] = []

    def note(short_lives: int) -> float:
        lives.append(short_lives)
        return 0.0

    monkeypatch.setattr(module, "pause", note)
    first, second = FakeChild.made
    second.started -= 3600.0
    first.end("signal SIGKILL")
    await turn()
    second.end("exit status 1")
    await turn()
    assert lives == [1, 2]


async def test_stopping_ends_the_spare_too(doubled: Stage) -> None:
    """It comes back when both are gone, and no other spare is made."""
    first, second = FakeChild.made
    stopping = asyncio.ensure_future(doubled.speaker.stop("the program stops"))
    await turn()
    assert second.killed
    assert first.told[-1] == "stop"
    assert not stopping.done()
    first.end("exit status 0")
    await stopping
    await turn()
    assert len(FakeChild.made) == 2


async def test_a_spare_that_can_not_be_made_is_tried_again(doubled: Stage) -> None:
    """Without one the speaker works as it does."""
    FakeChild.refuse = 3
    FakeChild.made[1].end("signal SIGKILL")
    await turn()
    await turn()
    assert FakeChild.refuse == 0
    assert len(FakeChild.made) == 3


def test_the_speakers_program_is_found_from_anywhere() -> None:
    """With this very package, and without modules of the directory where the operator stands."""
    assert list(speaker_program().command[1:]) == ["-P", "-m", "pyproxy.failover"]
    assert speaker_program().credentials is None


async def test_facts_are_said_again_until_their_number_comes_back(stage: Stage) -> None:
    """A message that nobody took is no reason to take a machine without a worker for a well one."""
    stage.ready()
    stage.speaker.set_facts({"type": "facts", "n": 2})
    lost = stage.child.messages[-1]
    for _ in range(2):
        stage.child.say({"type": "pong", "facts": lost["version"] - 1})
        assert stage.child.messages[-1] is lost
    assert stage.child.told == ["start", "facts", "facts", "facts"]
    stage.child.say({"type": "pong", "facts": lost["version"]})
    assert stage.child.told == ["start", "facts", "facts", "facts"]


async def test_one_that_hangs_is_replaced(doubled: Stage) -> None:
    """By the spare, which is told what the one before said last of its state."""
    first, second = FakeChild.made
    saved = {"state": "master"}
    first.say({"type": "pong", "facts": 1, "saved": saved})
    first.silence = HUNG - 0.1
    doubled.speaker._check_all()
    assert not first.killed
    first.silence = HUNG
    doubled.speaker._check_all()
    assert first.killed
    await turn()
    assert doubled.speaker.pid == second.pid
    assert second.messages[0]["saved"] == saved
    await doubled.speaker.stop("the test ends")


async def test_a_spare_that_hangs_as_well_is_passed_over(doubled: Stage) -> None:
    """The one that follows must be able to work."""
    first, second = FakeChild.made
    second.silence = HUNG
    first.end("signal SIGKILL")
    await turn()
    assert second.killed
    assert doubled.speaker.pid not in (first.pid, second.pid)


@pytest.mark.parametrize(("worked", "pauses"), [(SETTLED + 0.1, [0, 0, 0, 0]), (0.0, [1, 2, 3, 4])])
async def test_pauses_grow_only_for_one_that_fails_at_its_start(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, worked: float, pauses: list[int]
) -> None:
    """Who kills it every few seconds must not bring the pair to move the address."""
    seen: list[int] = []
    monkeypatch.setattr(module, "pause", lambda count: seen.append(count) or 0.0)  # type: ignore[func-returns-value]
    for _ in range(4):
        stage.ready()
        assert stage.speaker._ready_at is not None
        stage.speaker._ready_at -= worked
        stage.child.end("signal SIGKILL")
        await turn()
    assert seen == pauses
