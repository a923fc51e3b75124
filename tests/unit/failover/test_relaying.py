"""Pins when SYNs are caught, where they go, and when that ends, over a relay in memory."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from pyproxy.failover import relaying as module
from pyproxy.failover.relaying import Relaying

MAC = b"\2\0\0\0\0\1"


class FakeRelay:
    """Notes where it is pointed to; readable by nobody."""

    made: list["FakeRelay"]
    error: OSError | None = None

    def __init__(self, interface: str, mac: bytes, addresses: Any) -> None:
        if FakeRelay.error is not None:
            raise FakeRelay.error
        self.interface, self.mac, self.addresses = interface, mac, addresses
        self.target: bytes | None = None
        self.sent = 0
        self.closed = False
        FakeRelay.made.append(self)

    def fileno(self) -> int:
        return 99

    def read(self) -> None:
        pass

    def point_to(self, mac: bytes) -> None:
        self.target = mac
        self.sent = 3

    def close(self) -> None:
        self.closed = True


class Stage:
    """Relaying on an interface that has neighbours."""

    def __init__(self) -> None:
        self.interface = SimpleNamespace(name="eth0", mac=MAC, has_neighbours=True)
        parts: Any = (self.interface, ["192.0.2.1"])
        self.relaying = Relaying(*parts)

    @property
    def relay(self) -> FakeRelay:
        return FakeRelay.made[-1]


@pytest.fixture
async def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Nothing is caught yet; the loop watches no descriptor."""
    FakeRelay.made, FakeRelay.error = [], None
    monkeypatch.setattr(module, "SynRelay", FakeRelay)
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "add_reader", lambda *_: None)
    monkeypatch.setattr(loop, "remove_reader", lambda *_: None)
    return Stage()


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process's end waits for nobody here."""
    monkeypatch.setattr(module, "LAST_SECONDS", 0.0)


async def test_what_is_caught_goes_to_the_next_one_who_claims(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """Not to one who did so before the addresses were given away: that is a conflict, not a successor."""
    caplog.set_level("INFO")
    stage.relaying.hold()
    assert (stage.relay.interface, stage.relay.mac, stage.relay.addresses) == ("eth0", MAC, ("192.0.2.1",))
    stage.relaying.claim(b"early!")
    assert stage.relay.target is None
    stage.relaying.release()
    stage.relaying.claim(b"target")
    assert stage.relay.target == b"target"
    stage.relaying.drop()
    assert stage.relay.closed
    assert "3 connections that began meanwhile were passed on" in caplog.text


async def test_each_attempt_begins_anew(stage: Stage) -> None:
    """What was caught before has been served here since, or was repeated."""
    stage.relaying.hold()
    first = stage.relay
    stage.relaying.hold()
    assert first.closed
    assert not stage.relay.closed
    stage.relaying.drop()


async def test_nothing_is_caught_for_ever(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A supervisor that dies says nothing more; and after a while everybody knows where the addresses are."""
    monkeypatch.setattr(module, "HOLD_SECONDS", 0.0)
    monkeypatch.setattr(module, "RELAY_SECONDS", 0.0)
    stage.relaying.hold()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert stage.relay.closed
    monkeypatch.setattr(module, "HOLD_SECONDS", 60.0)
    stage.relaying.hold()
    stage.relaying.release()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert stage.relay.closed


async def test_where_it_can_not_be_done_the_hand_over_goes_on(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """An interface without neighbours, or a system that refuses: senders repeat their packets."""
    stage.interface.has_neighbours = False
    stage.relaying.hold()
    assert FakeRelay.made == []
    stage.interface.has_neighbours = True
    FakeRelay.error = PermissionError(1, "not permitted")
    stage.relaying.hold()
    assert "can't be passed on" in caplog.text
    stage.relaying.release()
    stage.relaying.claim(b"target")
    await stage.relaying.close()


async def test_the_end_of_the_process_waits_for_a_claim(stage: Stage) -> None:
    """For a moment, and only if something was given away."""
    stage.relaying.hold()
    await stage.relaying.close()
    assert stage.relay.closed
    stage.relaying.hold()
    stage.relaying.release()
    stage.relaying.claim(b"target")
    await stage.relaying.close()
    assert (stage.relay.target, stage.relay.closed) == (b"target", True)
