"""Pins what is told to the speaker and to the other machine, and what is done at their word, without a process."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from pyproxy.admin.changes import Conflict, Origin
from pyproxy.admin.control import Unavailable
from pyproxy.control import pair as module
from pyproxy.control.pair import Facts, Hooks, Pair
from pyproxy.control.pair_settings import PairSettings
from pyproxy.control.shared_changes import SharedChanges
from pyproxy.control.worker import Program
from tests.unit.control import test_pair_view

SPEAKER = {
    **test_pair_view.SPEAKER,
    "guards": [],
    "track": [{"run": ["is-well", "secret"], "url": ""}],
    "notify": {"master": None, "backup": None, "fault": None},
    "fence": ["shoot", "secret"],
    "vip_exec": None,
}
SECTIONS = {"client": {"keepalive": "75s"}, "routes": []}


class FakeSpeaker:
    """Notes what it is told."""

    def __init__(self, _program: Any, start: dict[str, Any], *handlers: Any) -> None:
        self.start_message = start
        self.say, self.lose, self.give_up = handlers
        self.told: list[dict[str, Any]] = []
        self.facts: list[dict[str, Any]] = []
        self.is_ready = True
        self.restarts = 0
        self.stopped: list[str] = []

    def send(self, message: dict[str, Any]) -> bool:
        self.told.append(message)
        return self.is_ready

    def set_facts(self, facts: dict[str, Any]) -> None:
        self.facts.append(facts)

    async def stop(self, reason: str) -> None:
        self.stopped.append(reason)

    def out(self, kind: str) -> list[Any]:
        """The bodies that are for the other machine."""
        return [item["body"] for item in self.told if item.get("type") == "peer_out" and item["kind"] == kind]


class FakeEmptying:
    """Is empty when it is told."""

    def __init__(self) -> None:
        self.empty_now = asyncio.Event()
        self.was_reset = 1
        self.graces: list[float] = []
        self.ended = 0

    async def empty(self, grace: float) -> None:
        self.graces.append(grace)
        await self.empty_now.wait()

    def end(self) -> None:
        self.ended += 1


class Stage:
    """A pair whose parts are in memory."""

    def __init__(self) -> None:
        self.merged: list[Any] = []
        self.emptyings: list[FakeEmptying] = []
        settings = PairSettings(SPEAKER, b"k" * 16, ((1, b"\x01"),), SECTIONS, "lb1", Path("/nowhere"))
        make: Any = self.make_emptying
        hooks = Hooks(lambda _: None, self.merge, lambda: ["web/x"], make, 7.0)
        self.shared = SharedChanges("lb1", self.tell)
        self.pair = Pair(settings, Program(), hooks, self.shared)
        self.speaker: Any = self.pair._speaker

    async def merge(self, entries: Any) -> None:
        self.merged.append(entries)

    def tell(self, entries: list[dict[str, Any]]) -> None:
        self.pair.tell_changes(entries)

    def make_emptying(self) -> FakeEmptying:
        self.emptyings.append(FakeEmptying())
        return self.emptyings[-1]

    def state(self, state: str) -> None:
        self.speaker.say({"type": "status", "state": state})

    def hear(self, kind: str, body: Any) -> None:
        self.speaker.say({"type": "peer_in", "kind": kind, "body": body})


@pytest.fixture
async def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    """A pair that knows nothing yet."""
    monkeypatch.setattr(module, "Speaker", FakeSpeaker)
    return Stage()


async def settle() -> None:
    """Let what was begun go on as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_the_speaker_gets_settings_keys_and_facts(stage: Stage) -> None:
    """Keys as hex, and the digest of what is compared, which it tells the other machine."""
    start = stage.speaker.start_message
    assert start["keys"] == {"link": (b"k" * 16).hex(), "hmac": [[1, "01"]]}
    assert (start["settings"], start["runtime_dir"], start["log_level"]) == (SPEAKER, "/nowhere", "info")
    stage.pair.set_facts(Facts(2, 3, 4, is_stopping=True))
    assert stage.speaker.facts[-1] == {
        "type": "facts",
        "ready_workers": 2,
        "healthy_backends": 3,
        "backends": 4,
        "stopping": True,
        "config_digest": stage.pair.view()["config_digest"],
    }


async def test_each_new_connection_is_told_everything(stage: Stage) -> None:
    """What went before may be lost."""
    stage.speaker.say({"type": "peer_connected"})
    (config,) = stage.speaker.out("config")
    assert (config["host"], set(config["digests"])) == ("lb1", set(SECTIONS))
    assert stage.speaker.out("overrides") == [[]]


async def test_what_the_other_says_is_done(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """Changes are merged, what is unknown is passed over, whatever it is."""
    stage.hear("overrides", ["entry"])
    stage.hear("config", {"digests": {}, "settings": {"vrid": 51}})
    stage.hear("future", 1)
    await settle()
    assert stage.merged == [["entry"]]
    assert stage.pair.facts()["peer_settings"] == {"vrid": 51}
    assert stage.pair.view()["drift"] == sorted(SECTIONS)
    assert "unknown kind 'future'" in caplog.text


async def begin(stage: Stage) -> "asyncio.Task[Any]":
    """Ask for a hand-over, which the speaker lets begin."""
    stage.state("master")
    asking = asyncio.ensure_future(stage.pair.handover(Origin("alice", "kernel")))
    await settle()
    assert stage.speaker.told[-1] == {"type": "handover", "reason": "handed over by alice: kernel"}
    stage.speaker.say({"type": "handover_begin"})
    await settle()
    return asking


async def test_a_handover_empties_then_releases_then_fills_again(stage: Stage) -> None:
    """In that order; the speaker is told when nothing is in flight, and clients are let in when it has released."""
    asking = await begin(stage)
    (emptying,) = stage.emptyings
    assert (emptying.graces, stage.pair.view()["handover"]) == ([7.0], True)
    with pytest.raises(Conflict, match="already"):
        await stage.pair.handover(Origin("bob"))
    emptying.empty_now.set()
    await settle()
    assert stage.speaker.told[-1] == {"type": "handover_ready"}
    assert emptying.ended == 0
    stage.speaker.say({"type": "handover_done"})
    answer = await asking
    assert (answer["state"], answer["reset"], emptying.ended) == ("backup", 1, 1)
    assert stage.pair.view()["handover"] is False


@pytest.mark.parametrize("state", ["backup", "fault", "init"])
async def test_only_a_master_hands_over(stage: Stage, state: str) -> None:
    """Nobody's connections are touched for nothing."""
    stage.state(state)
    with pytest.raises(Conflict, match=f"this machine is {state}"):
        await stage.pair.handover(Origin("alice"))
    assert stage.emptyings == []


async def test_a_refusal_in_the_middle_lets_clients_in_again(stage: Stage) -> None:
    """The other machine fell ill: this one goes on as before."""
    asking = await begin(stage)
    stage.speaker.say({"type": "handover_refused", "reason": "the peer is in fault"})
    with pytest.raises(Conflict, match="in fault"):
        await asking
    assert stage.emptyings[0].ended == 1
    assert {"type": "handover_ready"} not in stage.speaker.told


async def test_the_speakers_end_ends_a_handover(stage: Stage) -> None:
    """A new one knows nothing of it."""
    asking = await begin(stage)
    stage.speaker.lose()
    with pytest.raises(Unavailable, match="ended"):
        await asking
    assert stage.emptyings[0].ended == 1


async def test_a_handover_goes_on_without_the_one_who_asked(stage: Stage) -> None:
    """His connection may break: half of a hand-over is worse than all of it."""
    asking = await begin(stage)
    asking.cancel()
    await settle()
    stage.emptyings[0].empty_now.set()
    await settle()
    stage.speaker.say({"type": "handover_done"})
    await settle()
    assert stage.emptyings[0].ended == 1
    assert stage.pair.view()["handover"] is False


async def test_leaving_hands_over_and_stops_the_speaker(stage: Stage) -> None:
    """With the grace of the program's end."""
    stage.state("master")
    leaving = asyncio.ensure_future(stage.pair.leave(3.0, "the program stops"))
    await settle()
    stage.speaker.say({"type": "handover_begin"})
    await settle()
    assert stage.emptyings[0].graces == [3.0]
    stage.emptyings[0].empty_now.set()
    await settle()
    stage.speaker.say({"type": "handover_done"})
    await leaving
    assert stage.speaker.stopped == ["the program stops"]


async def test_leaving_without_a_fit_peer_empties_all_the_same(stage: Stage) -> None:
    """Clients stay blocked until the addresses are gone: whoever takes over answers them."""
    stage.state("master")
    leaving = asyncio.ensure_future(stage.pair.leave(3.0, "the program stops"))
    await settle()
    stage.speaker.say({"type": "handover_refused", "reason": "no link"})
    await settle()
    (emptying,) = stage.emptyings
    assert 0 < emptying.graces[0] <= 3.0
    emptying.empty_now.set()
    await leaving
    assert (stage.speaker.stopped, emptying.ended) == (["the program stops"], 1)


async def test_a_backup_just_leaves(stage: Stage) -> None:
    """It has nothing to give."""
    stage.state("backup")
    await stage.pair.leave(3.0, "the program stops")
    assert (stage.emptyings, stage.speaker.stopped) == ([], ["the program stops"])


async def test_closing_ends_what_is_on_its_way(stage: Stage) -> None:
    """A second SIGTERM waits for nobody."""
    asking = await begin(stage)
    await stage.pair.close()
    assert stage.emptyings[0].ended == 1
    await asyncio.gather(asking, return_exceptions=True)


async def test_transitions_are_counted_as_they_are_told(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """And not logged: the speaker's own line says the same."""
    stage.speaker.say({"type": "event", "kind": "transition", "from": "backup", "to": "master", "reason": "x"})
    stage.speaker.say({"type": "event", "kind": "alarm", "name": "split", "on": True, "reason": "no adverts"})
    stage.speaker.say({"type": "strange"})
    assert 'pyproxy_peer_transitions_total{to="master",reason="x"} 1' in stage.pair.metrics()
    assert [record.getMessage() for record in caplog.records] == [
        "the speaker sent a message of unknown type 'strange'"
    ]


async def test_the_words_of_commands_are_told_to_nobody(stage: Stage) -> None:
    """Neither over the link nor by the API; the speaker alone needs them."""
    stage.speaker.say({"type": "peer_connected"})
    assert stage.speaker.out("config")
    assert "secret" not in str(stage.speaker.told) + str(stage.pair.facts())
    assert "secret" in str(stage.speaker.start_message)
