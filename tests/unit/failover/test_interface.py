"""From which address VRRP is spoken."""

from ipaddress import ip_interface

import pytest

from pyproxy.failover.interface import choose_source
from pyproxy.failover.netlink import FOREVER, AddressState
from tests.unit.failover.settings import settings, vips

V6 = vips("fd09::100")


def addresses(*texts: str, lifetime: int = FOREVER, usable: bool = True) -> list[AddressState]:
    """Make addresses of an interface."""
    return [AddressState(3, ip_interface(text), True, usable, lifetime) for text in texts]


def test_a_virtual_address_is_no_source() -> None:
    """It leaves with the role; what was there first comes first."""
    found = addresses("10.9.0.100/32", "10.9.0.1/24", "10.9.0.9/24")
    assert choose_source(4, found, settings()) == "10.9.0.1"


def test_without_an_own_address_there_is_no_source() -> None:
    """Nor with one of the other family."""
    assert choose_source(4, addresses("10.9.0.100/32", "fe80::1/64"), settings()) is None


def test_a_link_local_ipv4_address_serves_if_there_is_no_other() -> None:
    """It is nobody's first choice."""
    assert choose_source(4, addresses("169.254.1.1/16", "10.9.0.1/24"), settings()) == "10.9.0.1"
    assert choose_source(4, addresses("169.254.1.1/16"), settings()) == "169.254.1.1"


def test_ipv6_is_spoken_from_a_link_local_address() -> None:
    """And from no other (RFC 9568, 5.1.2.1)."""
    chosen = settings(virtual_ips=V6)
    assert choose_source(6, addresses("fd09::1/64", "fe80::1/64"), chosen) == "fe80::1"
    assert choose_source(6, addresses("fd09::1/64"), chosen) is None


def test_an_address_under_suspicion_has_to_wait() -> None:
    """One can't send from it before duplicate detection is over."""
    assert choose_source(6, addresses("fe80::1/64", usable=False), settings(virtual_ips=V6)) is None


@pytest.mark.parametrize(
    ("peer", "source"), [("10.9.0.2", "10.9.0.1"), ("10.8.0.2", "10.8.0.1"), ("192.0.2.1", "10.9.0.1")]
)
def test_peers_are_spoken_to_from_their_network(peer: str, source: str) -> None:
    """If there is an address of it; a peer behind a router gets the first one."""
    found = addresses("10.9.0.1/24", "10.8.0.1/24")
    assert choose_source(4, found, settings(peers=[peer])) == source


def test_an_ipv6_peer_may_have_a_global_address() -> None:
    """Then so have we."""
    found = addresses("fe80::1/64", "fd09::1/64")
    assert choose_source(6, found, settings(virtual_ips=V6, peers=["fd09::2"])) == "fd09::1"
    assert choose_source(6, found, settings(virtual_ips=V6, peers=["fe80::2"])) == "fe80::1"


def test_the_owner_may_have_no_other_address() -> None:
    """Priority 255: the address is its own for ever, not one that we once added with a lease."""
    chosen = settings(priority=255)
    assert choose_source(4, addresses("10.9.0.100/24"), chosen) == "10.9.0.100"
    assert choose_source(4, addresses("10.9.0.100/24", lifetime=2), chosen) is None
    assert choose_source(4, addresses("10.9.0.100/24"), settings()) is None
