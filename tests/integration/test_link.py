"""The link between two machines, as two of them on one: heard, lost, found again, and closed to strangers."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import pytest

from pyproxy.failover.link import Link
from pyproxy.failover.link_protocol import HANDSHAKE_BYTES, RANDOM_BYTES, Dialler
from pyproxy.failover.wire import Wire, encode
from tests.integration.ports import Ports

KEY = b"0123456789abcdef"
DEADLINE = 15.0


@dataclass(frozen=True)
class Endpoint:
    host: str
    port: int


@dataclass(frozen=True)
class LinkSettings:
    bind: Endpoint
    peer: Endpoint
    interval: float = 0.05
    dead_after: int = 4


class Side:
    """One machine's end, and all that it has heard."""

    def __init__(self, settings: LinkSettings, key: bytes = KEY, boot: str = "boot") -> None:
        self.states: list[dict[str, Any] | None] = []
        self.messages: list[tuple[str, Any]] = []
        self.connects = 0
        self._changed = asyncio.Event()
        self.link = Link(settings, key, boot, self.on_state, self.on_message, self.on_connect)

    def on_state(self, state: dict[str, Any] | None) -> None:
        self.states.append(state)
        self.wake()

    def on_message(self, kind: str, body: Any) -> None:
        self.messages.append((kind, body))
        self.wake()

    def on_connect(self) -> None:
        self.connects += 1
        self.wake()

    def wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def joined(self) -> None:
        """Wait until it hears the other and may speak."""
        await self.until(lambda: self.link.is_alive and self.link.is_speaking)

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until it holds, which it can only by something that is heard, or by the link's own timers."""
        async with asyncio.timeout(DEADLINE):
            while not condition():
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), 0.05)


class Stage:
    """Two machines on loopback."""

    def __init__(self, ports: Ports) -> None:
        one, two = Endpoint("127.0.0.1", ports.take()), Endpoint("127.0.0.1", ports.take())
        self.settings = LinkSettings(one, two), LinkSettings(two, one)
        self.sides: list[Side] = []

    async def add(self, number: int, boot: str, **more: Any) -> Side:
        """Start one of them; its state is its boot id."""
        side = Side(self.settings[number], boot=boot, **more)
        self.sides.append(side)
        side.link.announce({"boot": boot})
        await side.link.start()
        return side

    async def both(self) -> tuple[Side, Side]:
        """Start both, and wait until both hear each other and may speak."""
        a, b = await self.add(0, "a"), await self.add(1, "b")
        for side in (a, b):
            await side.joined()
        return a, b


@pytest.fixture
async def stage(ports: Ports) -> AsyncIterator[Stage]:
    """Nobody yet."""
    stage = Stage(ports)
    yield stage
    for side in stage.sides:
        await side.link.close()


async def test_each_hears_the_others_state_and_its_changes(stage: Stage) -> None:
    """At once on a change, and again and again without one."""
    a, b = await stage.both()
    await b.until(lambda: {"boot": "a"} in b.states)
    a.link.announce({"boot": "a", "state": "master"})
    await b.until(lambda: b.states[-1] == {"boot": "a", "state": "master"})
    count = len(b.states)
    await b.until(lambda: len(b.states) >= count + 3)
    await a.until(lambda: {"boot": "b"} in a.states)
    assert a.link.facts().boot == "b"
    assert (a.connects, b.connects) == (1, 1)


async def test_messages_arrive_in_order_and_whole(stage: Stage) -> None:
    """Large ones too, which take many reads and writes."""
    a, b = await stage.both()
    bodies = [{"n": n, "text": '"' * n} for n in (0, 1, 3_000_000, 2)]
    for body in bodies:
        assert a.link.send("overrides", body)
    await b.until(lambda: len(b.messages) == len(bodies))
    assert b.messages == [("overrides", body) for body in bodies]


async def test_a_machine_that_goes_is_dead_after_a_while_and_heard_again_when_it_is_back(stage: Stage) -> None:
    """Everything is to be sent to it anew then: ``on_connect`` says when."""
    a, b = await stage.both()
    await b.link.close()
    await a.until(lambda: a.states[-1] is None)
    assert a.states.count(None) == 1
    assert a.link.facts().state == "dead"
    assert not a.link.send("overrides", [])
    back = await stage.add(1, "b-again")
    await a.until(lambda: a.states[-1] == {"boot": "b-again"} and a.connects == 2)
    await back.until(lambda: {"boot": "a"} in back.states)
    assert a.link.facts().boot == "b-again"


async def test_a_silent_machine_is_dead_although_its_connections_stand(stage: Stage, ports: Ports) -> None:
    """One that hangs sends no FIN: only time tells. When it goes on it is heard again."""
    a, b = await stage.both()
    beat = b.link._beat
    assert beat is not None
    beat.cancel()
    await a.until(lambda: a.states[-1] is None)
    assert a.link.facts().state == "dead"
    b.link._heartbeat()
    await a.until(lambda: a.states[-1] == {"boot": "b"})


async def test_without_the_same_key_nothing_is_heard(stage: Stage) -> None:
    """Each refuses the other, counts it and goes on trying."""
    a, b = await stage.add(0, "a"), await stage.add(1, "b", key=b"another key 0123")
    await a.until(lambda: a.link.refused.get("wrong key", 0) >= 2)
    await b.until(lambda: b.link.refused.get("wrong key", 0) >= 2)
    assert (a.states, b.states, a.connects, b.connects) == ([], [], 0, 0)


class Stranger:
    """A connection to a link that says what it likes."""

    def __init__(self, sock: socket.socket) -> None:
        self.messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.wire = Wire(sock, self.messages.put_nowait, self.closed.set_result)

    @classmethod
    async def connect(cls, to: Endpoint, source: str = "127.0.0.1") -> "Stranger":
        sock = socket.socket()
        sock.setblocking(False)
        sock.bind((source, 0))
        await asyncio.get_running_loop().sock_connect(sock, (to.host, to.port))
        return cls(sock)

    async def end(self) -> str:
        """Wait until the other end closes."""
        async with asyncio.timeout(DEADLINE):
            return await self.closed


async def listening(side: Side) -> None:
    """Wait until the link can be connected to."""
    bind = side.link._settings.bind

    def can_connect() -> bool:
        with socket.socket() as sock:
            return sock.connect_ex((bind.host, bind.port)) == 0

    await side.until(can_connect)


async def test_a_frame_that_is_too_long_or_none_ends_a_strangers_connection(stage: Stage) -> None:
    """He can't make us keep much, nor stay for long without a word."""
    a = await stage.add(0, "a")
    await listening(a)
    for data in ((HANDSHAKE_BYTES + 1).to_bytes(4, "big"), b"\0\0\0\2[]", encode({"type": "sealed", "seq": 0})):
        stranger = await Stranger.connect(stage.settings[0].bind)
        assert (await stranger.messages.get())["type"] == "hello"
        assert stranger.wire._sock is not None
        stranger.wire._sock.send(data)
        await stranger.end()
    silent = await Stranger.connect(stage.settings[0].bind)
    await silent.end()
    # And he can't make up reasons: what he sends isn't in them.
    assert a.link.refused.keys() == {"no handshake", "not the join that was due", "no handshake in time"}
    assert a.states == []


async def test_who_comes_from_another_address_is_not_even_greeted(stage: Stage) -> None:
    """Nobody but the peer has anything to say there."""
    a = await stage.add(0, "a")
    await listening(a)
    stranger = await Stranger.connect(stage.settings[0].bind, "127.0.0.2")
    await stranger.end()
    assert a.link.refused["not the peer's address"] == 1
    assert stranger.messages.empty()


async def test_a_replayed_frame_ends_the_connection(stage: Stage) -> None:
    """And what it says is not heard a second time."""
    a = await stage.add(0, "a")
    await listening(a)
    stranger = await Stranger.connect(stage.settings[0].bind)
    dialler = Dialler(KEY, "b", b"n" * RANDOM_BYTES)
    for _ in range(2):
        answer = dialler.handle(await stranger.messages.get())
        if answer is not None:
            stranger.wire.send(answer)
    frame = dialler.seal("state", {"state": "backup"})
    stranger.wire.send(frame)
    stranger.wire.send(frame)
    await stranger.end()
    assert a.link.refused["a frame out of its order"] == 1
    assert a.states[0] == {"state": "backup"}
    assert a.states.count({"state": "backup"}) == 1


async def test_a_link_waits_for_its_address_to_be_free(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """Another program there is told once, and the link comes up when it is gone."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bind = stage.settings[0].bind
        other.bind((bind.host, bind.port))
        other.listen()
        a = await stage.add(0, "a")
        await a.until(lambda: "can't listen" in caplog.text)
    b = await stage.add(1, "b")
    await a.until(lambda: {"boot": "b"} in a.states)
    await b.until(lambda: {"boot": "a"} in b.states)
    assert caplog.text.count("can't listen") == 1


async def test_it_dials_from_the_address_that_it_listens_on(stage: Stage) -> None:
    """So the wire is used that was meant, whatever routes there are."""
    one, two = stage.settings
    other = replace(two, bind=replace(two.bind, host="127.0.0.2"))
    stage.settings = replace(one, peer=other.bind), other
    await stage.both()


def test_states_are_json() -> None:
    """What is announced must travel."""
    assert json.loads(encode({"boot": "a"})[4:]) == {"boot": "a"}
