"""Adverts out and in, by sockets that aren't there."""

import asyncio
from typing import Any, cast

import pytest

from pyproxy.errors import FailoverError
from pyproxy.failover import adverts as module
from pyproxy.failover.adverts import Adverts
from pyproxy.failover.dialect import Arrival, Dialect
from pyproxy.failover.interface import Interface
from pyproxy.failover.sockets import Place
from tests.unit.failover.settings import settings

GROUP = "224.0.0.18"


class FakeSocket:
    """A socket that takes down what it sends and gives what a test has put in."""

    made: list["FakeSocket"]
    fails = False

    def __init__(self, place: Place) -> None:
        if FakeSocket.fails:
            raise FailoverError("no VRRP here")
        self.place = place
        self.family = place.family
        self.send_error = "no route"
        self.sends = True
        self.sent: list[tuple[bytes, str]] = []
        self.waiting: list[Arrival] = []
        self.is_closed = False
        FakeSocket.made.append(self)

    def fileno(self) -> int:
        """Give a number."""
        return 1000 + len(FakeSocket.made)

    def send(self, payload: bytes, destination: str) -> bool:
        """Take it down."""
        self.sent.append((payload, destination))
        return self.sends

    def receive(self) -> list[Arrival]:
        """Give what waits."""
        found, self.waiting = self.waiting, []
        return found

    def close(self) -> None:
        """Take it down."""
        self.is_closed = True


class FakeInterface:
    """An interface with its addresses."""

    def __init__(self, **sources: str) -> None:
        self.name, self.index, self.is_up = "eth0", 3, True
        self.sources = {int(key[1:]): value for key, value in sources.items()}


class FakeLoop:
    """A loop that watches nothing."""

    def __init__(self) -> None:
        self.watched: set[int] = set()

    def add_reader(self, fd: int, callback: object) -> None:
        """Watch."""
        self.watched.add(fd)

    def remove_reader(self, fd: int) -> None:
        """Watch no more."""
        self.watched.discard(fd)


@pytest.fixture(autouse=True)
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put fakes in the place of sockets and of the loop."""
    FakeSocket.made, FakeSocket.fails = [], False
    monkeypatch.setattr(module, "VrrpSocket", FakeSocket)
    monkeypatch.setattr(asyncio, "get_running_loop", FakeLoop)


def make(interface: FakeInterface, **changes: Any) -> Adverts:
    """Make adverts on an interface."""
    found = Adverts(Dialect(settings(**changes)), cast(Interface, interface), lambda: None)
    found.refresh()
    return found


def arrival(other: str = "10.9.0.2", hops: int = 255, priority: int = 150) -> Arrival:
    """Make an advert of another machine as it comes in."""
    [data] = Dialect(settings()).write(4, priority, other, [GROUP], 0.0)
    return Arrival(data, 4, other, GROUP, hops)


def test_an_advert_goes_to_the_group_in_every_family() -> None:
    """IPv4 before IPv6."""
    both = [{"address": "10.9.0.100", "prefix": 32}, {"address": "fd09::100", "prefix": 128}]
    adverts = make(FakeInterface(_6="fe80::1", _4="10.9.0.1"), virtual_ips=both)
    adverts.send(100)
    assert adverts.is_ready
    assert {sock.family: [to for _, to in sock.sent] for sock in FakeSocket.made} == {4: [GROUP], 6: ["ff02::12"]}
    assert adverts.own == {"10.9.0.1", "fe80::1"}


def test_every_peer_gets_its_own() -> None:
    """With a checksum that covers where it goes."""
    adverts = make(FakeInterface(_4="10.9.0.1"), peers=["10.9.0.2", "10.9.0.3"])
    adverts.send(100)
    [sock] = FakeSocket.made
    assert [to for _, to in sock.sent] == ["10.9.0.2", "10.9.0.3"]
    assert sock.sent[0][0] != sock.sent[1][0]


def test_what_is_believed_comes_out_and_the_rest_is_counted() -> None:
    """In the order in which it came."""
    adverts = make(FakeInterface(_4="10.9.0.1"))
    FakeSocket.made[0].waiting = [arrival(priority=1), arrival(hops=254), arrival("10.9.0.1"), arrival(priority=2)]
    assert [(advert.priority, source) for advert, source in adverts.read()] == [(1, "10.9.0.2"), (2, "10.9.0.2")]
    assert adverts.rejected == {"ttl": 1, "own": 1}
    assert adverts.read() == []


def test_a_flood_is_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever source it pretends to have."""
    adverts = make(FakeInterface(_4="10.9.0.1"))
    for number in range(2, 50):
        FakeSocket.made[0].waiting.append(arrival(f"10.9.0.{number}", hops=1))
    adverts.read()
    assert len(caplog.records) == 1
    assert adverts.rejected["ttl"] == 48


def test_the_form_of_the_other_machine_is_taken_up() -> None:
    """An advert that was made before isn't sent any more."""
    adverts = make(FakeInterface(_4="10.9.0.1"))
    adverts.send(100)
    [data] = Dialect(settings(checksum="rfc9568")).write(4, 150, "10.9.0.2", [GROUP], 0.0)
    [sock] = FakeSocket.made
    sock.waiting = [Arrival(data, 4, "10.9.0.2", GROUP, 255)]
    adverts.read()
    adverts.send(100)
    adverts.send(100)
    assert sock.sent[0][0] != sock.sent[1][0]
    assert sock.sent[1] == sock.sent[2]


def test_sockets_follow_the_interface() -> None:
    """Another source is another socket; without one, or down, there is none."""
    interface = FakeInterface(_4="10.9.0.1")
    adverts = make(interface)
    adverts.refresh()
    assert len(FakeSocket.made) == 1, "nothing has changed"
    interface.sources = {4: "10.9.0.7"}
    adverts.refresh()
    assert [(sock.place.source, sock.is_closed) for sock in FakeSocket.made] == [
        ("10.9.0.1", True),
        ("10.9.0.7", False),
    ]
    interface.is_up = False
    adverts.refresh()
    assert FakeSocket.made[1].is_closed
    assert (adverts.is_ready, adverts.own) == (False, frozenset())
    adverts.send(0)


def test_a_socket_that_cannot_be_opened_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    """Until then the machine can't take part."""
    FakeSocket.fails = True
    adverts = make(FakeInterface(_4="10.9.0.1"))
    assert not adverts.is_ready
    assert "no VRRP here" in caplog.text
    FakeSocket.fails = False
    adverts.refresh()
    assert adverts.is_ready


def test_what_cannot_be_sent_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """Twenty lines a second would help nobody."""
    adverts = make(FakeInterface(_4="10.9.0.1"))
    FakeSocket.made[0].sends = False
    for _ in range(20):
        adverts.send(100)
    assert [record.getMessage() for record in caplog.records] == [f"can't send an advert to {GROUP}: no route"]


def test_other_settings_are_spoken_at_once() -> None:
    """And what was learned of the peer stays."""
    adverts = make(FakeInterface(_4="10.9.0.1"))
    [sock] = FakeSocket.made
    sock.waiting = [arrival(hops=1)]
    adverts.read()
    adverts.send(100)
    adverts.reconfigure(Dialect(settings(advert_interval=2.0)))
    adverts.send(100)
    assert sock.sent[0][0] != sock.sent[1][0]
    assert adverts.rejected == {"ttl": 1}


def test_closed_it_watches_nothing() -> None:
    """All sockets are closed."""
    adverts = make(FakeInterface(_4="10.9.0.1"))
    adverts.close()
    assert FakeSocket.made[0].is_closed
    assert not adverts.is_ready
