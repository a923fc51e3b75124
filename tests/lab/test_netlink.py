"""The kernel does what our netlink asks for, and says what happened."""

import time
from collections.abc import Iterator
from ipaddress import ip_address, ip_interface

import pytest

from pyproxy.errors import VipFailed
from pyproxy.failover.netlink import FOREVER, AddressState, Interface, LinkState
from pyproxy.failover.netlink_socket import Monitor, Netlink
from tests.lab.namespaces import configure, inside
from tests.lab.process import await_true
from tests.lab.topology import GATEWAY, Lab, Machine

pytestmark = pytest.mark.lab

V4 = ip_interface("10.9.0.100/32")
V6 = ip_interface("fd09::100/128")
NOWHERE = 999


@pytest.fixture
def machine(lab: Lab) -> Machine:
    """Give one of the two machines."""
    return lab.a


@pytest.fixture
def netlink(machine: Machine) -> Iterator[Netlink]:
    """Netlink of that machine: a socket belongs to where it was opened."""
    netlink = inside(machine.namespace, Netlink)
    yield netlink
    netlink.close()


@pytest.fixture
def monitor(machine: Machine) -> Iterator[Monitor]:
    """Hear of that machine."""
    monitor = inside(machine.namespace, Monitor)
    yield monitor
    monitor.close()


def index_of(netlink: Netlink, name: str = "eth0") -> int:
    """Give an interface's index."""
    link = netlink.link(name)
    assert link is not None
    return link.index


def found(netlink: Netlink, index: int) -> dict[str, AddressState]:
    """Give the addresses of an interface."""
    return {str(state.address): state for state in netlink.addresses(index)}


@pytest.mark.parametrize("wanted", [V4, V6], ids=str)
def test_an_address_comes_and_goes(netlink: Netlink, wanted: Interface) -> None:
    """It can be used at once, of either family, and its removal says whether it was there."""
    index = index_of(netlink)
    netlink.set_address(index, wanted, 2)
    state = found(netlink, index)[str(wanted)]
    assert state.is_usable
    assert 1 <= state.lifetime <= 2
    assert netlink.remove_address(index, wanted)
    assert str(wanted) not in found(netlink, index)
    assert not netlink.remove_address(index, wanted)


@pytest.mark.parametrize("address", [V4, V6], ids=str)
def test_the_kernel_ends_what_nobody_renews(netlink: Netlink, address: Interface) -> None:
    """A renewed lease goes on, one that isn't renewed ends by itself: that is the whole fence."""
    index = index_of(netlink)
    netlink.set_address(index, address, 1)
    renewed_until = time.monotonic() + 2.5
    while time.monotonic() < renewed_until:
        netlink.set_address(index, address, 1)
        assert str(address) in found(netlink, index)
        time.sleep(0.1)
    await_true(lambda: str(address) not in found(netlink, index), "the address stayed")
    assert time.monotonic() - renewed_until < 2


def test_without_a_lease_an_address_stays(netlink: Netlink) -> None:
    """``lease: off`` is for ever."""
    index = index_of(netlink)
    netlink.set_address(index, V4, None)
    assert found(netlink, index)[str(V4)].lifetime == FOREVER


def test_what_the_kernel_refuses_is_told_in_its_words(netlink: Netlink) -> None:
    """An operator learns what was wrong from the message alone."""
    with pytest.raises(VipFailed, match=r"can't add 10.9.0.100/32: .*[Dd]evice"):
        netlink.set_address(NOWHERE, V4, 2)


def test_an_interface_is_found_by_its_name(netlink: Netlink, machine: Machine) -> None:
    """With its MAC and whether it has a carrier; one that isn't there is None."""
    link = netlink.link("eth0")
    assert isinstance(link, LinkState)
    assert (link.name, link.is_up, link.mac.hex(":")) == ("eth0", True, machine.mac)
    assert netlink.link("nothere") is None


def test_the_gateway_is_that_of_the_interface(netlink: Netlink, machine: Machine) -> None:
    """The least metric wins, and another interface's gateway is none of ours."""
    index = index_of(netlink)
    assert netlink.gateway(index, 4) in (None, ip_address(GATEWAY))
    configure(f"-n {machine.namespace} route replace default via {GATEWAY} dev eth0 metric 50")
    configure(f"-n {machine.namespace} route add default via 10.9.0.2 dev eth0 metric 500")
    assert netlink.gateway(index, 4) == ip_address(GATEWAY)
    assert netlink.gateway(index, 6) is None
    assert netlink.gateway(index_of(netlink, "lo"), 4) is None
    assert netlink.gateway(NOWHERE, 4) is None


def test_changes_are_heard(netlink: Netlink, monitor: Monitor, machine: Machine) -> None:
    """An address that somebody removes, and an interface that goes down."""
    index = index_of(netlink)
    netlink.set_address(index, V4, 2)
    configure(f"-n {machine.namespace} addr del {V4} dev eth0")
    states = [event for event in monitor.read() or [] if isinstance(event, AddressState)]
    assert [(state.address, state.is_present) for state in states] == [(V4, True), (V4, False)]
    configure(f"-n {machine.namespace} link set eth0 down")
    links = [event for event in monitor.read() or [] if isinstance(event, LinkState) and event.index == index]
    assert not links[-1].is_up


def test_lost_events_are_noticed(netlink: Netlink, monitor: Monitor) -> None:
    """When more happens than the socket holds, the reader is told to look anew."""
    index = index_of(netlink)
    for _ in range(20_000):
        netlink.set_address(index, V4, 2)
        netlink.remove_address(index, V4)
    assert monitor.read() is None
    assert monitor.read() == []
