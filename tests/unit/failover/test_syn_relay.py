"""Pins which frames go on to the other machine, and that they are right when they arrive."""

import socket
import struct

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from pyproxy.failover.syn_relay import _PROGRAM, destination_of, with_checksum

V4 = Ether() / IP(src="192.0.2.9", dst="192.0.2.1") / TCP(sport=40000, dport=80, flags="S", options=[("MSS", 1460)])
V6 = Ether() / IPv6(src="2001:db8::9", dst="2001:db8::1") / TCP(sport=40000, dport=80, flags="S")


def is_let_through(frame: bytes) -> bool:
    """Run the filter as the kernel does; reading beyond the frame drops it."""
    accumulator = index = step = 0
    while True:
        code, if_true, if_false, value = _PROGRAM[step]
        step += 1
        try:
            match code:
                case 0x30:
                    accumulator = frame[value]
                case 0x28:
                    (accumulator,) = struct.unpack_from("!H", frame, value)
                case 0x50:
                    accumulator = frame[index + value]
                case 0xB1:
                    index = (frame[value] & 0x0F) * 4
                case 0x54:
                    accumulator &= value
                case 0x15:
                    step += if_true if accumulator == value else if_false
                case 0x45:
                    step += if_true if accumulator & value else if_false
                case 0x06:
                    return bool(value)
        except (IndexError, struct.error):
            return False


@pytest.mark.parametrize("packet", [V4, V6, Ether() / IP(options=[b"\1" * 4]) / TCP(flags="SEC")])
def test_the_first_packet_of_a_connection_is_caught(packet: Ether) -> None:
    """In both families, also with IP options, and when it asks for ECN."""
    assert is_let_through(bytes(packet))


@pytest.mark.parametrize(
    "packet",
    [
        Ether() / IP() / TCP(flags="SA"),
        Ether() / IP() / TCP(flags="A"),
        Ether() / IP() / TCP(flags="PA") / b"data",
        Ether() / IPv6() / TCP(flags="SA"),
        Ether() / IP(frag=3) / TCP(flags="S"),
        Ether() / IP(proto=17) / TCP(flags="S"),
        Ether(type=0x0806) / (b"\2" * 60),
        Ether(bytes(V4)[:30]),
    ],
)
def test_nothing_else_is(packet: Ether) -> None:
    """What belongs to a connection that stands is not for the other machine."""
    assert not is_let_through(bytes(packet))


@pytest.mark.parametrize("packet", [V4, V6])
@pytest.mark.parametrize("wrong", [0, 0x1234, 0xFFFF])
def test_the_checksum_is_computed_anew(packet: Ether, wrong: int) -> None:
    """A frame that was caught on a veth has none yet; what is padded stays padded."""
    right = bytes(packet)
    broken = packet.copy()
    broken[TCP].chksum = wrong
    assert with_checksum(bytes(broken)) == right
    assert with_checksum(bytes(broken) + b"\0\0\0") == right + b"\0\0\0"


def test_a_frame_that_is_cut_short_stays_as_it_is() -> None:
    """It is the receiver's to refuse."""
    for frame in (bytes(V4)[:-1], bytes(V6)[:60]):
        assert with_checksum(frame) == frame


def test_where_a_frame_goes() -> None:
    """Whatever is behind the address."""
    assert destination_of(bytes(V4)) == socket.inet_aton("192.0.2.1")
    assert destination_of(bytes(V6)) == socket.inet_pton(socket.AF_INET6, "2001:db8::1")
