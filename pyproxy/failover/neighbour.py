"""
Frames by which neighbours learn where an address is: ARP for IPv4 (RFC 826, 5227), ND for IPv6 (RFC 4861).

Must not know sockets or time: frames are built, and read into who claims which address.

After a takeover the switch must learn a new port and every neighbour a new MAC, so the address is announced to all
though nobody asked: for IPv4 as a request for its own address, which every stack takes as news, for IPv6 as a
neighbour advertisement. A probe asks who has an address; one for an address that we may not use yet has no sender.
"""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from pyproxy.failover.netlink import Ip

ETH_P_ARP, ETH_P_IPV6 = 0x0806, 0x86DD

_BROADCAST = b"\xff" * 6
_NO_MAC = bytes(6)
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_ARP_ETHERNET_IPV4 = (1, 0x0800, 6, 4)
_ARP_REQUEST, _ARP_REPLY = 1, 2
_ETHERNET = struct.Struct("!6s6sH")
_IPV6 = struct.Struct("!IHBB16s16s")
_ND = struct.Struct("!BBHI16s")  # type, code, checksum, flags, target
_ICMPV6 = 58
_SOLICIT, _ADVERTISE = 135, 136
_OVERRIDE = 0x20000000  # of the flags; neither router nor solicited
_OPTION_SOURCE_MAC, _OPTION_TARGET_MAC = 1, 2
_ALL_NODES = IPv6Address("ff02::1")
_UNSPECIFIED = IPv6Address("::")
_HOP_LIMIT = 255  # what a router has touched isn't believed (RFC 4861, 7.1)


@dataclass(frozen=True, slots=True)
class Claim:
    """Somebody says that an address is his."""

    address: Ip
    mac: bytes


def announcement(mac: bytes, address: Ip) -> bytes:
    """Tell everybody that ``address`` is at ``mac``: gratuitous ARP, or an unsolicited neighbour advertisement."""
    if isinstance(address, IPv4Address):
        return _arp(mac, address.packed, address)
    nd = _ND.pack(_ADVERTISE, 0, 0, _OVERRIDE, address.packed) + _mac_option(_OPTION_TARGET_MAC, mac)
    return _icmpv6(mac, address, _ALL_NODES, nd)


def probe(mac: bytes, address: Ip, source: Ip | None = None) -> bytes:
    """
    Ask who has ``address``.

    Without a ``source`` nobody learns anything from the question (RFC 5227, 2.1.1; RFC 4862, 5.4.2). With one the
    answer comes to us alone.
    """
    if isinstance(address, IPv4Address):
        return _arp(mac, source.packed if source is not None else bytes(4), address)
    nd = _ND.pack(_SOLICIT, 0, 0, 0, address.packed)
    if source is not None:
        nd += _mac_option(_OPTION_SOURCE_MAC, mac)
    group = IPv6Address(b"\xff\x02" + bytes(9) + b"\x01\xff" + address.packed[13:])
    return _icmpv6(mac, source if isinstance(source, IPv6Address) else _UNSPECIFIED, group, nd)


def parse(frame: bytes) -> Claim | None:
    """Read who claims which address out of an Ethernet frame; None if it claims nothing or is broken."""
    if len(frame) < _ETHERNET.size:
        return None
    _, source, kind = _ETHERNET.unpack_from(frame)
    payload = frame[_ETHERNET.size :]
    if kind == ETH_P_ARP:
        return _parse_arp(payload)
    return _parse_advertisement(source, payload) if kind == ETH_P_IPV6 else None


def show_mac(mac: bytes) -> str:
    """
    Write a MAC as people do.

    >>> show_mac(bytes(6))
    '00:00:00:00:00:00'
    """
    return mac.hex(":")


def _arp(mac: bytes, sender: bytes, target: IPv4Address) -> bytes:
    body = _ARP.pack(*_ARP_ETHERNET_IPV4, _ARP_REQUEST, mac, sender, _NO_MAC, target.packed)
    return _ETHERNET.pack(_BROADCAST, mac, ETH_P_ARP) + body


def _mac_option(kind: int, mac: bytes) -> bytes:
    return bytes((kind, 1)) + mac  # 1: in units of eight bytes


def _icmpv6(mac: bytes, source: IPv6Address, group: IPv6Address, message: bytes) -> bytes:
    pseudo = source.packed + group.packed + struct.pack("!II", len(message), _ICMPV6)
    message = message[:2] + struct.pack("!H", checksum(pseudo + message)) + message[4:]
    header = _IPV6.pack(6 << 28, len(message), _ICMPV6, _HOP_LIMIT, source.packed, group.packed)
    return _ETHERNET.pack(b"\x33\x33" + group.packed[12:], mac, ETH_P_IPV6) + header + message


def checksum(data: bytes) -> int:
    """
    Sum up as RFC 1071 does.

    >>> checksum(bytes.fromhex("0001f203f4f5f6f7"))
    8717
    """
    total = sum(struct.unpack(f"!{len(data) // 2}H", data[: len(data) & ~1]))
    if len(data) % 2:
        total += data[-1] << 8
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return int(~total & 0xFFFF)


def _parse_arp(payload: bytes) -> Claim | None:
    if len(payload) < _ARP.size:
        return None
    *form, operation, mac, sender, _, _ = _ARP.unpack_from(payload)
    if tuple(form) != _ARP_ETHERNET_IPV4 or operation not in (_ARP_REQUEST, _ARP_REPLY) or sender == bytes(4):
        return None
    return Claim(IPv4Address(sender), mac)


def _parse_advertisement(source: bytes, payload: bytes) -> Claim | None:
    if len(payload) < _IPV6.size + _ND.size:
        return None
    _, length, protocol, hops, sender, group = _IPV6.unpack_from(payload)
    message = payload[_IPV6.size : _IPV6.size + length]
    if protocol != _ICMPV6 or hops != _HOP_LIMIT or len(message) < _ND.size:
        return None
    kind, code, _, _, target = _ND.unpack_from(message)
    pseudo = sender + group + struct.pack("!II", len(message), _ICMPV6)
    if (kind, code) != (_ADVERTISE, 0) or checksum(pseudo + message) != 0:
        return None
    return Claim(IPv6Address(target), _target_mac(message[_ND.size :]) or source)


def _target_mac(options: bytes) -> bytes | None:
    while len(options) >= 8:
        kind, length = options[0], options[1] * 8
        if length == 0 or length > len(options):
            return None
        if kind == _OPTION_TARGET_MAC and length == 8:
            return options[2:8]
        options = options[length:]
    return None
