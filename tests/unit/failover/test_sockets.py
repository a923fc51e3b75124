"""What the kernel says of a VRRP packet."""

import socket
import struct
from ipaddress import ip_address

import pytest

from pyproxy.failover.dialect import Arrival
from pyproxy.failover.sockets import Place, parse_ipv4, parse_ipv6

PAYLOAD = bytes.fromhex("31336401006475610a090064")
HEADER = bytes.fromhex("45c00020000100 00ff700000 0a090001 e0000012".replace(" ", ""))


def test_an_ipv4_packet_loses_its_header() -> None:
    """Which says where it came from, where it went, and how far."""
    assert parse_ipv4(HEADER + PAYLOAD) == Arrival(PAYLOAD, 4, "10.9.0.1", "224.0.0.18", 255)


def test_options_of_the_header_are_passed_over() -> None:
    """The header's own length counts, not twenty bytes."""
    header = bytes([0x46]) + HEADER[1:] + bytes.fromhex("94040000")
    arrival = parse_ipv4(header + PAYLOAD)
    assert arrival is not None
    assert arrival.data == PAYLOAD


@pytest.mark.parametrize(
    "packet",
    [b"", HEADER[:19], bytes([0x65]) + HEADER[1:], bytes([0x44]) + HEADER[1:], bytes([0x4F]) + HEADER[1:]],
)
def test_a_header_that_is_not_whole_is_nothing(packet: bytes) -> None:
    """Too short, of another version, with an impossible length."""
    assert parse_ipv4(packet) is None


def ancillary(*, hops: int | None = 255, destination: str | None = "ff02::12") -> list[tuple[int, int, bytes]]:
    """Make what comes beside an IPv6 packet."""
    found = []
    if hops is not None:
        found.append((socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT, struct.pack("@i", hops)))
    if destination is not None:
        data = ip_address(destination).packed + struct.pack("@i", 3)
        found.append((socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, data))
    return found


def test_an_ipv6_packet_comes_with_what_its_header_said() -> None:
    """The zone of the sender is our own affair."""
    expected = Arrival(PAYLOAD, 6, "fe80::1", "ff02::12", 255)
    assert parse_ipv6(PAYLOAD, ancillary(), "fe80::1%eth0") == expected


def test_an_unknown_hop_limit_is_unknown() -> None:
    """So that it isn't taken for the right one."""
    arrival = parse_ipv6(PAYLOAD, ancillary(hops=None), "fe80::1")
    assert arrival is not None
    assert arrival.hop_limit is None


def test_without_its_destination_a_packet_is_nothing() -> None:
    """Nobody could tell whether it was meant for us."""
    assert parse_ipv6(PAYLOAD, ancillary(destination=None), "fe80::1") is None
    assert parse_ipv6(PAYLOAD, [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, b"short")], "fe80::1") is None


@pytest.mark.parametrize(("source", "family"), [("10.9.0.1", 4), ("fe80::1", 6)])
def test_a_place_knows_its_family(source: str, family: int) -> None:
    """By its source."""
    assert Place("eth0", 3, source).family == family
