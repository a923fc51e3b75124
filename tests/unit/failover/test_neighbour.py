"""Frames by which neighbours learn where an address is."""

import struct
from ipaddress import ip_address

import pytest

from pyproxy.failover.neighbour import Claim, announcement, checksum, parse, probe

MAC = bytes.fromhex("02000a090001")
VIP4 = ip_address("10.9.0.100")
VIP6 = ip_address("fd00:9::100")
LINK_LOCAL = ip_address("fe80::a09:1")

GRATUITOUS = "ffffffffffff02000a0900010806000108000604000102000a0900010a0900640000000000000a090064"
ADVERTISEMENT = (
    "33330000000102000a09000186dd"  # to all nodes
    "6000000000203aff" "fd000009000000000000000000000100" "ff020000000000000000000000000001"
    "88004e82" "20000000" "fd000009000000000000000000000100"  # override alone
    "0201" "02000a090001"  # target's MAC
)  # fmt: skip


def test_an_ipv4_address_is_announced_as_a_request_for_itself() -> None:
    """Sender and target are the address, to everybody (RFC 5227, 3): what keepalived's peers are used to."""
    assert announcement(MAC, VIP4).hex() == GRATUITOUS


def test_an_ipv6_address_is_announced_by_an_advertisement_with_override_only() -> None:
    """To all nodes, hop limit 255, not as a router, with our MAC as an option (RFC 4861, 7.2.6)."""
    assert announcement(MAC, VIP6).hex() == ADVERTISEMENT


def test_a_probe_without_a_sender_teaches_nobody_anything() -> None:
    """Before an address is ours nobody may learn our MAC for it (RFC 5227, 2.1.1)."""
    frame = probe(MAC, VIP4)
    assert frame[28:32] == bytes(4)
    assert frame[38:42] == VIP4.packed
    assert parse(frame) is None


def test_a_probe_for_ipv6_goes_to_the_group_of_the_target() -> None:
    """Its solicited-node group, from nobody and without an option, as duplicate detection asks."""
    frame = probe(MAC, VIP6)
    assert frame[:6].hex() == "3333ff000100"
    assert frame[22:38] == bytes(16)
    assert frame[38:54] == ip_address("ff02::1:ff00:100").packed
    assert len(frame) == 14 + 40 + 24


def test_a_question_with_a_sender_says_where_the_answer_goes() -> None:
    """So the gateway answers to us alone, and without asking back for our MAC."""
    assert probe(MAC, VIP4, ip_address("10.9.0.1"))[28:32] == ip_address("10.9.0.1").packed
    assert probe(MAC, VIP6, LINK_LOCAL)[-8:] == b"\x01\x01" + MAC


@pytest.mark.parametrize("frame", [announcement(MAC, VIP6), probe(MAC, VIP6), probe(MAC, VIP6, LINK_LOCAL)])
def test_the_checksum_covers_the_pseudo_header(frame: bytes) -> None:
    """Summed up with both addresses, length and protocol it comes to nothing."""
    message = frame[54:]
    pseudo = frame[22:54] + struct.pack("!II", len(message), 58)
    assert checksum(pseudo + message) == 0


@pytest.mark.parametrize("operation", [1, 2])
def test_whoever_sends_arp_claims_his_address(operation: int) -> None:
    """Request or reply: both tell the sender's address and MAC."""
    frame = bytearray(announcement(MAC, VIP4))
    frame[21] = operation
    assert parse(bytes(frame)) == Claim(VIP4, MAC)


def test_an_advertisement_claims_its_target() -> None:
    """With the MAC of the option."""
    assert parse(announcement(MAC, VIP6)) == Claim(VIP6, MAC)


def test_an_advertisement_without_the_option_is_the_senders() -> None:
    """Answers to a question may leave it out; then the frame says whose it is."""
    frame = announcement(MAC, VIP6)[:-8]
    body = frame[54:56] + b"\0\0" + frame[58:]
    pseudo = frame[22:54] + struct.pack("!II", len(body), 58)
    body = body[:2] + struct.pack("!H", checksum(pseudo + body)) + body[4:]
    frame = frame[:18] + struct.pack("!H", len(body)) + frame[20:54] + body
    assert parse(frame) == Claim(VIP6, MAC)


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        pytest.param(21, 254, id="a router was in between"),
        pytest.param(20, 17, id="not ICMP"),
        pytest.param(54, 135, id="a question"),
        pytest.param(57, 0, id="a wrong checksum"),
    ],
)
def test_what_no_neighbour_can_have_sent_claims_nothing(offset: int, value: int) -> None:
    """Hop limit, protocol, type and checksum are looked at before the target is believed."""
    frame = bytearray(announcement(MAC, VIP6))
    frame[offset] = value
    assert parse(bytes(frame)) is None


@pytest.mark.parametrize("whole", [announcement(MAC, VIP4), announcement(MAC, VIP6), probe(MAC, VIP6)])
def test_a_frame_cut_short_is_no_error(whole: bytes) -> None:
    """Whatever the length, it is a claim or nothing."""
    for length in range(len(whole)):
        assert parse(whole[:length]) is None


def test_an_option_of_no_length_ends_the_options() -> None:
    """It would be read for ever."""
    frame = announcement(MAC, VIP6)[:-8] + bytes((2, 0)) + MAC
    body = frame[54:56] + b"\0\0" + frame[58:]
    pseudo = frame[22:54] + struct.pack("!II", len(body), 58)
    frame = frame[:56] + struct.pack("!H", checksum(pseudo + body)) + frame[58:]
    assert parse(frame[:6] + bytes(5) + b"\x07" + frame[12:]) == Claim(VIP6, bytes(5) + b"\x07")
