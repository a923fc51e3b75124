"""Neighbours believe our announcements and answer our questions, and we hear their claims."""

import select
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import ip_address

import pytest

from pyproxy.failover.neighbour import Claim, announcement, probe
from pyproxy.failover.neighbour_socket import NeighbourSocket
from pyproxy.failover.netlink import Ip
from tests.lab.namespaces import configure, inside
from tests.lab.process import await_true
from tests.lab.topology import VIP, VIP6, Lab

pytestmark = pytest.mark.lab

OTHERS: dict[int, Ip] = {4: ip_address("10.9.0.2"), 6: ip_address("fe80::2")}
VIPS: dict[int, Ip] = {4: ip_address(VIP), 6: ip_address(VIP6)}
TAG = bytes.fromhex("81000007")  # VLAN 7
OLD_MAC = "02:00:00:00:00:77"


def socket_on(lab: Lab, stack: ExitStack, family: int, *, on_b: bool = False) -> NeighbourSocket:
    """Open a socket on a machine, which hears of the other machine's address and of the virtual one."""
    machine = lab.b if on_b else lab.a
    sock = inside(machine.namespace, lambda: NeighbourSocket("eth0", family, [*OTHERS.values(), *VIPS.values()]))
    stack.callback(sock.close)
    return sock


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Close what a test opens."""
    with ExitStack() as stack:
        yield stack


def await_claims(sock: NeighbourSocket) -> list[Claim]:
    """Wait for claims."""
    select.select([sock], [], [], 5)
    return sock.read()


def mac(text: str) -> bytes:
    """Read a MAC."""
    return bytes.fromhex(text.replace(":", ""))


@pytest.mark.parametrize("family", [4, 6])
def test_who_has_an_address_answers(lab: Lab, stack: ExitStack, family: int) -> None:
    """A question for it gets a claim by the one who has it, whether the question names its sender or not."""
    sock = socket_on(lab, stack, family)
    source = ip_address(lab.a.address if family == 4 else lab.a.address6)
    for sender in (source, None):
        assert sock.send(probe(mac(lab.a.mac), OTHERS[family], sender))
        assert await_claims(sock) == [Claim(OTHERS[family], mac(lab.b.mac))]


@pytest.mark.parametrize("family", [4, 6])
def test_nobody_answers_for_an_address_that_nobody_has(lab: Lab, stack: ExitStack, family: int) -> None:
    """Silence, also when others are asked for in between."""
    sock = socket_on(lab, stack, family)
    sock.send(probe(mac(lab.a.mac), VIPS[family]))
    sock.send(probe(mac(lab.a.mac), OTHERS[family]))
    assert {claim.address for claim in await_claims(sock)} == {OTHERS[family]}


@pytest.mark.parametrize("family", [4, 6])
def test_an_announcement_changes_what_a_neighbour_knows(lab: Lab, stack: ExitStack, family: int) -> None:
    """An entry with the old master's MAC has ours at once."""
    address = VIPS[family]
    namespace = lab.b.namespace
    configure(f"-n {namespace} neigh replace {address} lladdr {OLD_MAC} dev eth0 nud stale")
    sock = socket_on(lab, stack, family)
    sock.send(announcement(mac(lab.a.mac), address))
    await_true(lambda: lab.a.mac in lab.show("-n", namespace, "neigh", "show", str(address)), "it wasn't believed")


@pytest.mark.parametrize("family", [4, 6])
def test_an_announcement_of_another_machine_is_heard(lab: Lab, stack: ExitStack, family: int) -> None:
    """That is how a conflict shows; our own frames and other addresses don't come up."""
    hearer, speaker = socket_on(lab, stack, family), socket_on(lab, stack, family, on_b=True)
    hearer.send(announcement(mac(lab.a.mac), VIPS[family]))
    unwatched = ip_address("10.9.0.77" if family == 4 else "fd09::77")
    speaker.send(announcement(mac(lab.b.mac), unwatched))
    speaker.send(announcement(mac(lab.b.mac), VIPS[family]))
    assert await_claims(hearer) == [Claim(VIPS[family], mac(lab.b.mac))]


def test_a_vlan_above_the_interface_is_another_network(lab: Lab, stack: ExitStack) -> None:
    """What is said there about the same address is no claim here."""
    hearer, speaker = socket_on(lab, stack, 4), socket_on(lab, stack, 4, on_b=True)
    frame = announcement(mac(OLD_MAC), VIPS[4])
    speaker.send(frame[:12] + TAG + frame[12:])
    speaker.send(announcement(mac(lab.b.mac), VIPS[4]))
    assert await_claims(hearer) == [Claim(VIPS[4], mac(lab.b.mac))]
