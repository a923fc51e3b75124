"""
The kernel's messages about addresses, interfaces and routes: rtnetlink(7) as bytes, in both directions.

Must not know sockets, nor why an address is wanted: requests are built, answers and events read, all of it pure.

A datagram holds one or several messages, each a header of 16 bytes, a fixed body that depends on its type, and
attributes: length, type, value, padded to four bytes. Numbers are in the machine's own byte order, addresses as
on the wire. What isn't understood is skipped: newer kernels add attributes.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address, ip_interface

Ip = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface

FOREVER = 0xFFFFFFFF  # the lifetime of an address that never ends

# Multicast groups of what a monitor hears.
GROUP_LINK = 0x1
GROUP_IPV4_ADDRESS = 0x10
GROUP_IPV6_ADDRESS = 0x100

ETHERNET = 1  # ARPHRD_ETHER, the one kind of interface on which neighbours are found by ARP and ND as built here

_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK = 16, 17, 18
_RTM_NEWADDR, _RTM_DELADDR, _RTM_GETADDR = 20, 21, 22
_RTM_NEWROUTE, _RTM_GETROUTE = 24, 26

_REQUEST, _ACK, _REPLACE, _CREATE, _DUMP = 0x1, 0x4, 0x100, 0x400, 0x300
_ACK_CAPPED, _ACK_ATTRIBUTES = 0x100, 0x200  # in an answer: the request isn't repeated; attributes follow

_IFA_ADDRESS, _IFA_LOCAL, _IFA_CACHEINFO, _IFA_FLAGS = 1, 2, 6, 8
_IFA_F_NODAD, _IFA_F_DADFAILED, _IFA_F_DEPRECATED, _IFA_F_TENTATIVE = 0x02, 0x08, 0x20, 0x40
_IFLA_ADDRESS, _IFLA_IFNAME = 1, 3
_RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_MULTIPATH, _RTA_TABLE, _RTA_VIA = 4, 5, 6, 9, 15, 18
_RT_TABLE_MAIN, _RTN_UNICAST = 254, 1
_NLMSGERR_ATTR_MSG = 1
_IFF_UP, _IFF_RUNNING = 0x1, 0x40

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")  # length with this header, type
_ADDRESS = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, interface
_CACHE_INFO = struct.Struct("=IIII")  # preferred, valid, created, changed
_LINK = struct.Struct("=BxHiII")  # family, kind of device, interface, flags, change
_ROUTE = struct.Struct("=BBBBBBBBI")  # family, dst and src length, tos, table, protocol, scope, type, flags
_NEXT_HOP = struct.Struct("=HBBi")  # length, flags, weight, interface
_ERROR = struct.Struct("=i")


@dataclass(frozen=True, slots=True)
class Message:
    """One message: its type, its number, the rest as bytes."""

    kind: int
    flags: int
    sequence: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """The end of a request or of a dump: ``error`` is an errno, 0 if it was done, ``text`` the kernel's own words."""

    error: int
    text: str = ""

    def explain(self) -> str:
        """Say what went wrong."""
        words = os.strerror(self.error)
        if self.error == errno.EPERM:
            words += " (CAP_NET_ADMIN is missing)"
        return f"{words}: {self.text}" if self.text else words


@dataclass(frozen=True, slots=True)
class AddressState:
    """An address on an interface; in an event, ``is_present`` says whether it came or went."""

    index: int
    address: Interface
    is_present: bool
    is_usable: bool  # neither being checked for duplicates nor found to be one
    lifetime: int  # seconds that were left when this was written, or FOREVER


@dataclass(frozen=True, slots=True)
class LinkState:
    """An interface; it is up when it is switched on and has a carrier."""

    index: int
    name: str
    is_present: bool
    is_up: bool
    mac: bytes
    kind: int  # ARPHRD_*


@dataclass(frozen=True, slots=True)
class DefaultRoute:
    """A way out: the gateway, and how much it is liked (less is better)."""

    index: int
    gateway: Ip
    metric: int


Event = AddressState | LinkState


def set_address(sequence: int, index: int, address: Interface, lifetime: int) -> bytes:
    """
    Ask for an address, or for a new lifetime (seconds, ``FOREVER``) of one that is there already.

    An IPv6 address comes without duplicate detection, which would hold it back for over a second, and deprecated
    from the start, so that nobody here takes it as the source of a connection of his own.
    """
    flags = _IFA_F_NODAD if address.version == 6 else 0
    preferred = 0 if address.version == 6 else lifetime
    attributes = _attribute(_IFA_CACHEINFO, _CACHE_INFO.pack(preferred, lifetime, 0, 0))
    attributes += _attribute(_IFA_FLAGS, struct.pack("=I", flags))
    body = _address_body(index, address, flags) + attributes
    return _message(_RTM_NEWADDR, _REQUEST | _ACK | _CREATE | _REPLACE, sequence, body)


def remove_address(sequence: int, index: int, address: Interface) -> bytes:
    """Ask for the end of an address."""
    return _message(_RTM_DELADDR, _REQUEST | _ACK, sequence, _address_body(index, address, 0))


def dump_addresses(sequence: int) -> bytes:
    """Ask for all addresses."""
    return _message(_RTM_GETADDR, _REQUEST | _DUMP, sequence, _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0))


def get_link(sequence: int, name: str) -> bytes:
    """Ask for one interface by its name."""
    attribute = _attribute(_IFLA_IFNAME, name.encode() + b"\0")
    return _message(_RTM_GETLINK, _REQUEST, sequence, _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + attribute)


def dump_routes(sequence: int, family: int, index: int) -> bytes:
    """Ask for the routes of one family that leave through one interface, where the socket checks strictly."""
    body = _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0) + _attribute(_RTA_OIF, struct.pack("=I", index))
    return _message(_RTM_GETROUTE, _REQUEST | _DUMP, sequence, body)


def messages(datagram: bytes) -> Iterator[Message]:
    """Split a datagram into its messages; what is cut short ends it."""
    offset = 0
    while offset + _HEADER.size <= len(datagram):
        length, kind, flags, sequence, _ = _HEADER.unpack_from(datagram, offset)
        if length < _HEADER.size or offset + length > len(datagram):
            return
        yield Message(kind, flags, sequence, datagram[offset + _HEADER.size : offset + length])
        offset += _padded(length)


def parse_answer(message: Message) -> Answer | None:
    """Read an acknowledgement, an error or the end of a dump; None for anything else."""
    if message.kind not in (_NLMSG_ERROR, _NLMSG_DONE):
        return None
    if len(message.body) < _ERROR.size:
        return Answer(0) if message.kind == _NLMSG_DONE else Answer(errno.EBADMSG)
    (code,) = _ERROR.unpack_from(message.body)
    text = ""
    if message.kind == _NLMSG_ERROR and message.flags & _ACK_ATTRIBUTES:
        text = _extended_text(message)
    return Answer(-code if code < 0 else 0, text)


def parse_event(message: Message) -> Event | None:
    """Read what is said of an address or an interface, whether asked for or not; None for anything else."""
    if message.kind in (_RTM_NEWADDR, _RTM_DELADDR):
        return _parse_address(message)
    if message.kind in (_RTM_NEWLINK, _RTM_DELLINK):
        return _parse_link(message)
    return None


def parse_default_routes(message: Message) -> list[DefaultRoute]:
    """Read the gateways of a default route in the main table; empty for any other route."""
    if message.kind != _RTM_NEWROUTE or len(message.body) < _ROUTE.size:
        return []
    family, dst_length, _, _, table, _, _, kind, _ = _ROUTE.unpack_from(message.body)
    if dst_length or kind != _RTN_UNICAST:
        return []
    attributes = _attributes(message.body[_ROUTE.size :])
    if _number(attributes.get(_RTA_TABLE), table) != _RT_TABLE_MAIN:
        return []
    metric = _number(attributes.get(_RTA_PRIORITY), 0)
    hops = [(_number(attributes.get(_RTA_OIF), 0), attributes), *_next_hops(attributes.get(_RTA_MULTIPATH, b""))]
    found = [(index, _gateway(family, hop)) for index, hop in hops]
    return [DefaultRoute(index, gateway, metric) for index, gateway in found if gateway is not None]


def _message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, sequence, 0) + body


def _attribute(kind: int, value: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(_padded(length) - length)


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    offset = 0
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size or offset + length > len(data):
            break
        found[kind & 0x3FFF] = data[offset + _ATTRIBUTE.size : offset + length]  # without the nesting flags
        offset += _padded(length)
    return found


def _padded(length: int) -> int:
    return (length + 3) & ~3


def _number(value: bytes | None, default: int) -> int:
    return int(struct.unpack("=I", value)[0]) if value is not None and len(value) == 4 else default


def _address_body(index: int, address: Interface, flags: int) -> bytes:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    attributes = _attribute(_IFA_LOCAL, address.packed) + _attribute(_IFA_ADDRESS, address.packed)
    return _ADDRESS.pack(family, address.network.prefixlen, flags, 0, index) + attributes


def _parse_address(message: Message) -> AddressState | None:
    if len(message.body) < _ADDRESS.size:
        return None
    _, prefix, flags, _, index = _ADDRESS.unpack_from(message.body)
    attributes = _attributes(message.body[_ADDRESS.size :])
    # With a peer address IFA_ADDRESS is the other end's; IPv6 leaves IFA_LOCAL out when there is none.
    packed = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS, b"")
    if len(packed) not in (4, 16) or prefix > len(packed) * 8:
        return None
    flags = _number(attributes.get(_IFA_FLAGS), flags)
    cache = attributes.get(_IFA_CACHEINFO, b"")
    return AddressState(
        index=index,
        address=ip_interface((packed, prefix)),
        is_present=message.kind == _RTM_NEWADDR,
        is_usable=not flags & (_IFA_F_TENTATIVE | _IFA_F_DADFAILED),
        lifetime=_CACHE_INFO.unpack(cache)[1] if len(cache) == _CACHE_INFO.size else FOREVER,
    )


def _parse_link(message: Message) -> LinkState | None:
    if len(message.body) < _LINK.size:
        return None
    _, kind, index, flags, _ = _LINK.unpack_from(message.body)
    attributes = _attributes(message.body[_LINK.size :])
    is_present = message.kind == _RTM_NEWLINK
    return LinkState(
        index=index,
        name=attributes.get(_IFLA_IFNAME, b"").rstrip(b"\0").decode(errors="replace"),
        is_present=is_present,
        is_up=is_present and bool(flags & _IFF_UP) and bool(flags & _IFF_RUNNING),
        mac=attributes.get(_IFLA_ADDRESS, b""),
        kind=kind,
    )


def _next_hops(data: bytes) -> Iterator[tuple[int, dict[int, bytes]]]:
    offset = 0
    while offset + _NEXT_HOP.size <= len(data):
        length, _, _, index = _NEXT_HOP.unpack_from(data, offset)
        if length < _NEXT_HOP.size or offset + length > len(data):
            return
        yield index, _attributes(data[offset + _NEXT_HOP.size : offset + length])
        offset += _padded(length)


def _gateway(family: int, attributes: dict[int, bytes]) -> Ip | None:
    packed = attributes.get(_RTA_GATEWAY, b"")
    if _RTA_VIA in attributes:  # of the other family: two bytes that say which, then the address
        packed = attributes[_RTA_VIA][2:]
    elif len(packed) != (4 if family == socket.AF_INET else 16):
        return None
    return ip_address(packed) if len(packed) in (4, 16) else None


def _extended_text(message: Message) -> str:
    offset = _ERROR.size + _HEADER.size
    if not message.flags & _ACK_CAPPED:  # then the whole request stands before the attributes
        (length,) = struct.unpack_from("=I", message.body, _ERROR.size)
        offset = _ERROR.size + _padded(length)
    text = _attributes(message.body[offset:]).get(_NLMSGERR_ATTR_MSG, b"")
    return text.rstrip(b"\0").decode(errors="replace")
