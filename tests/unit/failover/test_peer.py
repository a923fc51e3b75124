"""The link as the speaker uses it."""

from typing import Any

import pytest

from pyproxy.failover import peer as module
from pyproxy.failover.machine import Machine
from pyproxy.failover.peer import PeerLink
from pyproxy.failover.report import Report
from pyproxy.failover.takeover import PeerFacts, peer_to_plain
from tests.unit.failover.settings import settings

LINK = {
    "bind": {"host": "10.1.0.1", "port": 9901},
    "peer": {"host": "10.1.0.2", "port": 9901},
    "key_file": "/etc/key",
    "interval": 0.25,
    "dead_after": 4,
}


class FakeLink:
    """A link that takes down what it is told."""

    made: list["FakeLink"]
    fault = "a cable is cut"

    def __init__(
        self, settings: object, key: bytes, boot: str, on_state: Any, on_message: Any, on_connect: Any
    ) -> None:
        self.on_state, self.on_message, self.on_connect = on_state, on_message, on_connect
        self.announced: list[dict[str, Any]] = []
        self.sent: list[tuple[str, Any]] = []
        self.is_closed = False
        FakeLink.made.append(self)

    async def start(self) -> None:
        """Nothing to do."""

    def announce(self, state: dict[str, Any]) -> None:
        """Take it down."""
        self.announced.append(state)

    def send(self, kind: str, body: Any) -> bool:
        """Take it down."""
        self.sent.append((kind, body))
        return True

    async def close(self) -> None:
        """Take it down."""
        self.is_closed = True


class World:
    """A machine with its link, and what came of it."""

    def __init__(self, **changes: Any) -> None:
        self.machine = Machine(settings(**changes))
        self.report = Report()
        self.told: list[dict[str, Any]] = []
        self.steps: list[str] = []
        self.peer = PeerLink(
            self.machine, self.report, self.told.append, self.before, lambda: self.steps.append("after")
        )

    def before(self) -> None:
        """Note what the facts still are."""
        self.steps.append(f"before: {self.machine.facts.link}")

    def after(self) -> None:
        """Note that it was told."""
        self.steps.append("after")

    @property
    def link(self) -> FakeLink:
        """The link that was made."""
        [link] = FakeLink.made
        return link


@pytest.fixture(autouse=True)
def no_link(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a fake in the place of the link."""
    FakeLink.made = []
    monkeypatch.setattr(module, "Link", FakeLink)


async def test_without_a_link_nothing_is_said() -> None:
    """And the facts know that there is none."""
    world = World()
    await world.peer.start(b"", "boot")
    world.peer.announce()
    world.peer.send("overrides", {})
    assert (FakeLink.made, world.machine.facts.link, world.peer.to_plain()) == ([], "none", None)
    await world.peer.close()


async def test_what_the_other_machine_says_becomes_facts() -> None:
    """After the packets that came before it."""
    world = World(link=LINK)
    await world.peer.start(b"key", "boot")
    assert world.machine.facts.link == "dead"
    said = PeerFacts("master", 150, True, sources=frozenset({"10.9.0.2"}))
    world.link.on_state({**peer_to_plain(said), "config_digest": "abc"})
    assert (world.machine.facts.link, world.machine.facts.peer) == ("up", said)
    assert world.report.peer_digest == "abc"
    assert world.steps == ["before: dead", "after"]
    world.link.on_state(None)
    assert (world.machine.facts.link, world.machine.facts.peer) == ("dead", said)
    await world.peer.close()
    assert world.link.is_closed


async def test_what_makes_no_sense_leaves_the_facts(caplog: pytest.LogCaptureFixture) -> None:
    """The link lives all the same."""
    world = World(link=LINK)
    await world.peer.start(b"key", "boot")
    world.link.on_state({"state": "confused"})
    assert (world.machine.facts.link, world.machine.facts.peer) == ("up", None)
    assert "can't be understood" in caplog.text
    await world.peer.close()


async def test_our_state_goes_out_with_the_digest() -> None:
    """At the start, and whenever it is asked for."""
    world = World(link=LINK)
    world.peer.config_digest = "abc"
    await world.peer.start(b"key", "boot")
    world.peer.announce()
    assert len(world.link.announced) == 2
    assert (world.link.announced[-1]["state"], world.link.announced[-1]["config_digest"]) == ("init", "abc")
    await world.peer.close()


async def test_a_program_that_stops_is_not_fit() -> None:
    """Nobody should hand it anything in its last seconds."""
    world = World(link=LINK)
    await world.peer.start(b"key", "boot")
    world.peer.is_stopping = True
    world.peer.announce()
    assert (world.link.announced[-1]["well"], world.link.announced[-1]["reason"]) == (False, "it is stopping")
    await world.peer.close()


async def test_messages_are_the_supervisors() -> None:
    """In both directions; a new connection lets it send everything."""
    world = World(link=LINK)
    await world.peer.start(b"key", "boot")
    world.link.on_connect()
    world.link.on_message("overrides", [1])
    world.peer.send("digests", {"a": "b"})
    assert world.told == [{"type": "peer_connected"}, {"type": "peer_in", "kind": "overrides", "body": [1]}]
    assert world.link.sent == [("digests", {"a": "b"})]
    await world.peer.close()
