"""Pins which addresses of a name are used; what a real name server's answers become is for integration tests."""

import pytest

from pyproxy.control import lookup as lookup_module
from pyproxy.control.lookup import _usable


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
