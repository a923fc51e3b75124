"""The kernel's messages about addresses, interfaces and routes."""

import errno
import struct
import sys
from ipaddress import ip_address, ip_interface

import pytest

from pyproxy.failover import netlink
from pyproxy.failover.netlink import AddressState, Answer, DefaultRoute, LinkState, Message

pytestmark = pytest.mark.skipif(sys.byteorder != "little", reason="the bytes here are of a little-endian machine")

ADD_IPV4 = (
    "3c000000 1400 0505 07000000 00000000"  # NEWADDR, request|ack|replace|create, number 7
    "02 20 00 00 03000000"  # inet, /32, interface 3
    "0800 0200 0a090064  0800 0100 0a090064"  # local, address
    "1400 0600 02000000 02000000 00000000 00000000"  # preferred and valid for 2 s
    "0800 0800 00000000"
)
ADD_IPV6 = (
    "54000000 1400 0505 07000000 00000000"
    "0a 80 02 00 03000000"  # inet6, /128, no duplicate detection
    "1400 0200 fd000009000000000000000000000100  1400 0100 fd000009000000000000000000000100"
    "1400 0600 00000000 02000000 00000000 00000000"  # deprecated from the start
    "0800 0800 02000000"
)
REMOVE_IPV4 = "28000000 1500 0500 07000000 00000000 02 20 00 00 03000000 0800 0200 0a090064 0800 0100 0a090064"


def message(kind: int, body: str, flags: int = 0) -> Message:
    """Make a message whose body is written in hex."""
    return Message(kind, flags, 1, bytes.fromhex(body))


def test_an_ipv4_address_comes_with_its_lifetime() -> None:
    """Preferred as long as it is valid, and made or renewed by the same request."""
    assert netlink.set_address(7, 3, ip_interface("10.9.0.100/32"), 2) == _fixed(ADD_IPV4)


def test_an_ipv6_address_is_at_once_usable_and_never_a_source() -> None:
    """No duplicate detection, which takes over a second, and a preferred lifetime of 0."""
    assert netlink.set_address(7, 3, ip_interface("fd00:9::100/128"), 2) == _fixed(ADD_IPV6)


def test_an_address_is_removed_by_itself_and_its_length() -> None:
    """With a local address, so that another one of the same network stays."""
    assert netlink.remove_address(7, 3, ip_interface("10.9.0.100/32")) == bytes.fromhex(REMOVE_IPV4)


def _fixed(text: str) -> bytes:
    """Give the bytes with the length that they have: the tables above are for the eye."""
    data = bytes.fromhex(text)
    return struct.pack("=I", len(data)) + data[4:]


def test_a_name_is_looked_up_with_its_final_zero() -> None:
    """The attribute's length counts it and its padding doesn't."""
    request = netlink.get_link(1, "eth0")
    assert request[32:] == bytes.fromhex("0900 0300") + b"eth0\0\0\0\0"


def test_messages_come_out_of_a_datagram_one_by_one() -> None:
    """Each begins at a multiple of four bytes, whatever the one before it counts."""
    first = struct.pack("=IHHII", 17, 3, 0, 1, 0) + b"x\0\0\0"
    second = struct.pack("=IHHII", 16, 3, 2, 2, 0)
    assert list(netlink.messages(first + second)) == [Message(3, 0, 1, b"x"), Message(3, 2, 2, b"")]


@pytest.mark.parametrize("length", [0, 15, 4000])
def test_a_message_with_an_impossible_length_ends_the_datagram(length: int) -> None:
    """It would be read for ever, or from beyond the end."""
    assert list(netlink.messages(struct.pack("=IHHII", length, 3, 0, 1, 0))) == []


def test_an_acknowledgement_is_an_error_of_zero() -> None:
    """And the end of a dump is one as well."""
    assert netlink.parse_answer(message(2, "00000000" + "00" * 16)) == Answer(0)
    assert netlink.parse_answer(message(3, "00000000")) == Answer(0)
    assert netlink.parse_answer(message(3, "")) == Answer(0)
    assert netlink.parse_answer(message(20, "00000000")) is None


def test_an_error_carries_the_kernels_own_words() -> None:
    """They stand after the request's header if the request isn't repeated, else after the whole request."""
    code = struct.pack("=i", -errno.EINVAL).hex()
    header = struct.pack("=IHHII", 24, 20, 0, 1, 0).hex()
    text = struct.pack("=HH", 10, 1).hex() + b"wrong\0".hex() + "0000"
    assert netlink.parse_answer(message(2, code + header + text, 0x300)) == Answer(errno.EINVAL, "wrong")
    assert netlink.parse_answer(message(2, code + header + "00" * 8 + text, 0x200)) == Answer(errno.EINVAL, "wrong")
    assert netlink.parse_answer(message(2, code + header + text)) == Answer(errno.EINVAL)


def test_a_missing_capability_is_named() -> None:
    """An operator can't do much with "not permitted"."""
    assert "CAP_NET_ADMIN" in Answer(errno.EPERM).explain()
    assert Answer(errno.EINVAL, "wrong").explain() == "Invalid argument: wrong"


def test_an_event_tells_address_and_lifetime() -> None:
    """The long flags count where the short ones have no room, and a lifetime that isn't told is for ever."""
    body = "02 20 80 00 03000000 0800 0100 0a090064 0800 0200 0a090064 1400 0600 02000000 02000000 00000000 00000000"
    expected = AddressState(3, ip_interface("10.9.0.100/32"), is_present=True, is_usable=True, lifetime=2)
    assert netlink.parse_event(message(20, body)) == expected
    gone = netlink.parse_event(message(21, "0a 80 00 00 03000000 1400 0100 fd000009000000000000000000000100"))
    assert gone == AddressState(
        3, ip_interface("fd00:9::100/128"), is_present=False, is_usable=True, lifetime=netlink.FOREVER
    )


@pytest.mark.parametrize("flags", ["40000000", "08000000"])
def test_an_address_under_suspicion_is_not_usable(flags: str) -> None:
    """Neither tentative nor found to be somebody else's: adverts can't be sent from it."""
    body = "0a 40 00 00 03000000 1400 0100 fe800000000000000000000000000001 0800 0800" + flags
    state = netlink.parse_event(message(20, body))
    assert isinstance(state, AddressState)
    assert not state.is_usable


@pytest.mark.parametrize(
    ("kind", "flags", "is_up"), [(16, "41000000", True), (16, "01000000", False), (16, "40000000", False)]
)
def test_a_link_is_up_when_switched_on_and_with_a_carrier(kind: int, flags: str, is_up: bool) -> None:
    """Either alone isn't enough."""
    body = f"00 00 0100 03000000 {flags} 00000000 0900 0300 6574683000 000000 0a00 0100 020000000001 0000"
    state = netlink.parse_event(message(kind, body))
    assert state == LinkState(3, "eth0", True, is_up, bytes.fromhex("020000000001"), 1)


def test_a_link_that_went_is_down() -> None:
    """Whatever its last flags were."""
    state = netlink.parse_event(message(17, "00 00 0100 03000000 41000000 00000000 0900 0300 6574683000 000000"))
    assert isinstance(state, LinkState)
    assert (state.is_present, state.is_up) == (False, False)


def test_the_default_route_names_the_gateway() -> None:
    """Of the main table, with its metric."""
    body = "02 00 00 00 fe 03 00 01 00000000 0800 0500 0a090001 0800 0400 03000000 0800 0600 64000000"
    assert netlink.parse_default_routes(message(24, body)) == [DefaultRoute(3, ip_address("10.9.0.1"), 100)]


def test_a_default_route_over_several_gateways_names_them_all() -> None:
    """Each with its interface."""
    hops = "1000 00 00 03000000 0800 0500 0a090001" + "1000 00 00 04000000 0800 0500 0a080001"
    body = "02 00 00 00 fe 03 00 01 00000000 2400 0900" + hops
    gateways = [(route.index, str(route.gateway)) for route in netlink.parse_default_routes(message(24, body))]
    assert gateways == [(3, "10.9.0.1"), (4, "10.8.0.1")]


def test_a_gateway_may_be_of_the_other_family() -> None:
    """IPv4 over an IPv6 next hop."""
    via = "1600 1200 0a00 fe800000000000000000000000000001 0000"
    body = "02 00 00 00 fe 03 00 01 00000000 0800 0400 03000000" + via
    assert netlink.parse_default_routes(message(24, body)) == [DefaultRoute(3, ip_address("fe80::1"), 0)]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("02 18 00 00 fe 03 00 01 00000000 0800 0500 0a090001 0800 0400 03000000", id="a network"),
        pytest.param("02 00 00 00 ff 03 00 01 00000000 0800 0500 0a090001 0800 0400 03000000", id="another table"),
        pytest.param("02 00 00 00 fe 03 00 07 00000000 0800 0400 03000000", id="unreachable"),
        pytest.param("02 00 00 00 fe 03 00 01 00000000 0800 0400 03000000", id="no gateway"),
        pytest.param("02 00", id="cut short"),
    ],
)
def test_other_routes_name_no_gateway(body: str) -> None:
    """Only a way to everywhere, through somebody."""
    assert netlink.parse_default_routes(message(24, body)) == []


def test_what_is_cut_short_is_nothing() -> None:
    """The kernel doesn't do that, but a length is never believed."""
    assert netlink.parse_event(message(20, "0220")) is None
    assert netlink.parse_event(message(16, "0000")) is None
    assert netlink.parse_event(message(20, "02 20 80 00 03000000 0700 0100 0a0900")) is None
    assert netlink.parse_event(message(99, "")) is None
