"""Pins which addresses of a name are used; what a real name server's answers become is for integration tests."""

from types import SimpleNamespace
from typing import Any

import pycares
import pytest

from pyproxy.config.runtime import Backend
from pyproxy.control import lookup as lookup_module
from pyproxy.control.answers import MAX_ADDRESSES
from pyproxy.control.lookup import Lookup, _usable


@pytest.fixture(autouse=True)
def routes(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Addresses that the machine has no route to."""
    missing: set[str] = set()
    monkeypatch.setattr(lookup_module, "_has_route", lambda host: host not in missing)
    return missing


def test_all_that_can_be_reached_are_used() -> None:
    """IPv4 and IPv6 are equals."""
    assert _usable(["10.0.0.1", "fd00::1"]) == ("10.0.0.1", "fd00::1")


def test_a_machine_without_ipv6(routes: set[str]) -> None:
    """Half of all requests would fail on an address that nothing can be sent to."""
    routes.add("fd00::1")
    assert _usable(["10.0.0.1", "fd00::1"]) == ("10.0.0.1",)


def test_a_machine_that_has_lost_its_network(routes: set[str]) -> None:
    """Without any route none is worse than the others, so all stay."""
    routes.update(("10.0.0.1", "fd00::1"))
    assert _usable(["10.0.0.1", "fd00::1"]) == ("10.0.0.1", "fd00::1")


def test_loopback_is_one_machine_once() -> None:
    """``localhost`` stands for both, and a program that listens on one of them would seem half dead."""
    assert _usable(["::1", "127.0.0.1"]) == ("127.0.0.1",)
    assert _usable(["::1"]) == ("::1",)


class _Server:
    """Answers as c-ares would: SRV records for a service, addresses for anything else."""

    def __init__(self, targets: list[str], addresses: int = 1) -> None:
        self.asked: list[str] = []
        self._targets = targets
        self._addresses = addresses

    async def query_dns(self, _name: str, _kind: str) -> Any:
        data = [pycares.SRVRecordData(1, 1, 80, target) for target in self._targets]
        return SimpleNamespace(answer=[SimpleNamespace(data=one, ttl=10) for one in data])

    async def getaddrinfo(self, name: str, **_hints: Any) -> Any:
        self.asked.append(name)
        hosts = [f"10.{index >> 16}.{index >> 8 & 255}.{index & 255}".encode() for index in range(self._addresses)]
        return SimpleNamespace(nodes=[SimpleNamespace(addr=(host, 0), ttl=10) for host in hosts], cnames=[])


def _lookup(kind: str) -> Any:
    return Lookup(Backend("a", "a.test", 80, 1, backup=False, max_conns=0, lookup=kind), ())


async def test_a_service_of_very_many_targets_is_few_questions() -> None:
    """One answer could make us ask thousands of them."""
    server = _Server([f"{number}.test" for number in range(1000)])
    found = await _lookup("srv")._find_services(server)
    assert len(server.asked) == len(set(server.asked)) == MAX_ADDRESSES
    assert found.left_out == 1000 - MAX_ADDRESSES


async def test_which_targets_are_asked_for_does_not_depend_on_their_order() -> None:
    """Name servers rotate their records; that must not change the pool."""
    targets = [f"{number}.test" for number in range(200)]
    servers = _Server(targets), _Server(targets[::-1])
    for server in servers:
        await _lookup("srv")._find_services(server)
    assert set(servers[0].asked) == set(servers[1].asked)


async def test_targets_that_are_gone_are_forgotten() -> None:
    """A server that names others each time must not make us remember all of them."""
    lookup = _lookup("srv")
    for number in range(10):
        await lookup._find_services(_Server([f"{number}.a.test", f"{number}.b.test"]))
    assert set(lookup._good) == {"9.a.test", "9.b.test"}


async def test_of_very_many_addresses_few_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes a socket to find out whether there is a route; which ones doesn't depend on the order."""
    looked_at: list[str] = []

    def has_route(host: str) -> bool:
        looked_at.append(host)
        return True

    monkeypatch.setattr(lookup_module, "_has_route", has_route)
    found = await _lookup("a")._find_addresses(_Server([], 5000))
    assert len(looked_at) == 4 * MAX_ADDRESSES
    assert len(found.answer) == MAX_ADDRESSES
    assert found.left_out > 0
