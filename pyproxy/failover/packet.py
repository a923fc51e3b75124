"""
Adverts to bytes and back: VRRP version 2 and 3, over IPv4 and IPv6. Pure functions.

Must not know sockets, the machine, or which adverts are meant for us (``dialect``). Signatures are ``auth``'s.

Theory of operation
===================
An advert is eight bytes, the addresses, and in version 2 eight bytes of authentication data (RFC 3768, 5.3.10)::

    v3 (RFC 9568)  version|type  vrid  priority  count  rsvd|max advert interval (12 bits, 1/100 s)  checksum
    v2 (RFC 3768)  version|type  vrid  priority  count  auth type  advert interval (s)               checksum

**Checksum.** Version 2 sums the message. Over IPv6 the pseudo header is always in. For version 3 over IPv4 there
are three forms in the world, and a receiver that knows one only makes two masters with a sender of another: with
an IPv4 pseudo header (keepalived, FRR, scapy; ``pseudo``), the message only (RFC 9568, Cisco; ``rfc9568``), and with
the multicast group in the pseudo header of a unicast packet (keepalived up to 1.3.6; ``old``). All are accepted and
the form is told, so that the sender can copy it.

**Length** is exact, for a receiver can't tell what follows. Two things may: the 28 bytes of a signature, which no
checksum over IPv4 covers and over IPv6 the kernel's does, and the zeros that fill an IPv4 packet up to the smallest
Ethernet frame.

**Nothing else is believed.** Whatever is wrong raises ``PacketInvalid`` with a reason from ``Reason``; the rest of
the program can therefore count what it drops and touches nothing for it.
"""

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from struct import Struct

from pyproxy.errors import PacketInvalid
from pyproxy.failover.auth import TRAILER_BYTES, Trailer, read_trailer

PROTOCOL = 112
GROUPS = {4: "224.0.0.18", 6: "ff02::12"}
HOP_LIMIT = 255
ADVERTISEMENT = 1
MAX_ADDRESSES = 255
MAX_CENTISECONDS = 4095

_HEADER = Struct("!BBBBHH")
_ADDRESS_BYTES = {4: 4, 6: 16}
_V2_AUTH_BYTES = 8
_CHECKSUM_AT = 6
_SMALLEST_FRAME_BYTES = 46  # of Ethernet payload
_IPV4_HEADER_BYTES = 20
_MAX_PADDED_BYTES = _SMALLEST_FRAME_BYTES - _IPV4_HEADER_BYTES
_RIGHT = 0xFFFF  # the folded sum of a message with its right checksum


class Reason(StrEnum):
    """Why an advert is dropped. The first group is about the bytes, the others are told by ``dialect``."""

    TRUNCATED = "truncated"  # shorter than its header, or than the addresses it counts
    VERSION = "version"  # neither 2 nor 3, 2 over IPv6, or not the one that is configured
    TYPE = "type"  # no advertisement
    VRID_ZERO = "vrid_zero"
    AUTH_TYPE = "auth_type"  # version 2 with a password or AH
    LENGTH = "length"  # bytes behind the advert that are neither a signature nor padding
    CHECKSUM = "checksum"  # fits in no form
    INTERVAL_ZERO = "interval_zero"

    OWN = "own"  # came back to us
    OTHER_VRID = "other_vrid"  # another pair's, which is nothing wrong
    TTL = "ttl"  # a multicast advert that was routed
    DESTINATION = "destination"  # multicast where unicast is configured, or the other way round
    SOURCE = "source"  # not one of the peers
    INTERVAL = "interval"  # version 2 with another interval than ours

    UNSIGNED = "unsigned"  # and mode enforce
    TRAILER = "trailer"  # a signature with reserved bits
    KEY = "key"  # signed with a key that we don't have
    SIGNATURE = "signature"  # wrong
    STALE = "stale"  # signed too long ago, or by a clock that is ahead
    REPLAYED = "replayed"  # not later than the last one from there


class Form(StrEnum):
    """How the checksum of version 3 over IPv4 is made."""

    PSEUDO = "pseudo"
    RFC9568 = "rfc9568"
    OLD = "old"


@dataclass(frozen=True, slots=True)
class Advert:
    """
    What an advert says. ``interval`` is in seconds, ``addresses`` are in their short form.

    ``form`` is None where there is only one. ``trailer`` is the signature as it came, not yet verified.
    """

    family: int  # 4 or 6
    version: int
    vrid: int
    priority: int
    interval: float
    addresses: tuple[str, ...]
    form: Form | None = None
    trailer: Trailer | None = None


def encode(advert: Advert, source: str, destination: str) -> bytes:
    """
    Write an advert without its signature; ``source`` and ``destination`` are in the checksum of most forms.

    Raises ``ValueError`` for what the wire can't carry: more than 255 addresses, an interval out of its range.
    """
    interval = _encode_interval(advert)
    if len(advert.addresses) > MAX_ADDRESSES:
        raise ValueError(f"{len(advert.addresses)} addresses don't fit into an advert")
    head = advert.version << 4 | ADVERTISEMENT, advert.vrid, advert.priority, len(advert.addresses), interval, 0
    message = _HEADER.pack(*head) + b"".join(ip_address(address).packed for address in advert.addresses)
    if advert.version == 2:
        message += bytes(_V2_AUTH_BYTES)
    form = advert.form or Form.PSEUDO
    before = pseudo_header(advert.family, source, destination, len(message))
    if advert.family == 4 and (advert.version == 2 or form == Form.RFC9568):
        before = b""
    elif advert.family == 4 and form == Form.OLD:
        before = pseudo_header(4, source, GROUPS[4], len(message))
    return put_checksum(message, before)


def decode(data: bytes, family: int, source: str, destination: str) -> Advert:
    """
    Read the payload of an IP packet of protocol 112.

    Raises ``PacketInvalid`` with one of the first group of ``Reason``, whatever the bytes are.
    """
    if len(data) < _HEADER.size:
        raise PacketInvalid(Reason.TRUNCATED, f"{len(data)} bytes")
    first, vrid, priority, count, interval, _ = _HEADER.unpack_from(data)
    version = first >> 4
    if version not in (2, 3) or (version == 2 and family == 6):
        raise PacketInvalid(Reason.VERSION, f"{version} over IPv{family}")
    if first & 0xF != ADVERTISEMENT:
        raise PacketInvalid(Reason.TYPE, str(first & 0xF))
    if vrid == 0:
        raise PacketInvalid(Reason.VRID_ZERO)
    if version == 2 and interval >> 8:
        raise PacketInvalid(Reason.AUTH_TYPE, str(interval >> 8))
    end, trailer = _measure(data, family, version, count)
    form = _find_form(data, end, version, (family, source, destination))
    seconds = float(interval & 0xFF) if version == 2 else (interval & MAX_CENTISECONDS) / 100
    if not seconds:
        raise PacketInvalid(Reason.INTERVAL_ZERO)
    return Advert(family, version, vrid, priority, seconds, _addresses(data, family, count), form, trailer)


def pseudo_header(family: int, source: str, destination: str, length: int) -> bytes:
    """Make the pseudo header of a checksum (RFC 793, 3.1; RFC 8200, 8.1) for a payload of ``length`` bytes."""
    addresses = packed(source) + packed(destination)
    if family == 4:
        return addresses + bytes((0, PROTOCOL)) + length.to_bytes(2, "big")
    return addresses + length.to_bytes(4, "big") + bytes((0, 0, 0, PROTOCOL))


def put_checksum(message: bytes, before: bytes) -> bytes:
    """Write the checksum of a message and what is thought before it into the message."""
    blank = without_checksum(message)
    checksum = ~_fold(before + blank) & _RIGHT
    return blank[:_CHECKSUM_AT] + checksum.to_bytes(2, "big") + blank[_CHECKSUM_AT + 2 :]


def without_checksum(message: bytes) -> bytes:
    """Give the message with zeros for its checksum."""
    return message[:_CHECKSUM_AT] + b"\0\0" + message[_CHECKSUM_AT + 2 :]


def packed(address: str) -> bytes:
    """Give the bytes of an address; an IPv6 zone is left out."""
    return ip_address(address.partition("%")[0]).packed


def _encode_interval(advert: Advert) -> int:
    if advert.version == 2:
        seconds = round(advert.interval)
        if seconds != advert.interval or not 1 <= seconds <= 255:
            raise ValueError(f"version 2 can't say an interval of {advert.interval} s")
        return seconds
    centiseconds = round(advert.interval * 100)
    if not 1 <= centiseconds <= MAX_CENTISECONDS:
        raise ValueError(f"version 3 can't say an interval of {advert.interval} s")
    return centiseconds


def _measure(data: bytes, family: int, version: int, count: int) -> tuple[int, Trailer | None]:
    """Find where the advert ends and what follows it."""
    end = _HEADER.size + count * _ADDRESS_BYTES[family]
    if version == 2 and len(data) >= end + _V2_AUTH_BYTES:
        end += _V2_AUTH_BYTES  # which some senders leave out
    rest = data[end:]
    if len(data) < end:
        raise PacketInvalid(Reason.TRUNCATED, f"{len(data)} bytes for {count} addresses")
    trailer = read_trailer(rest) if len(rest) == TRAILER_BYTES else None
    is_padding = family == 4 and len(data) <= _MAX_PADDED_BYTES and not any(rest)
    if rest and trailer is None and not is_padding:
        raise PacketInvalid(Reason.LENGTH, f"{len(data)} bytes for {count} addresses")
    return end, trailer


def _find_form(data: bytes, end: int, version: int, path: tuple[int, str, str]) -> Form | None:
    """Find the form in which the checksum fits; None where there is but one."""
    family, source, destination = path
    message = data[:end]
    if family == 6:
        for covered in (data, message):
            if _fold(pseudo_header(6, source, destination, len(covered)) + covered) == _RIGHT:
                return None
        raise PacketInvalid(Reason.CHECKSUM)
    if version == 3:
        for form, to in ((Form.PSEUDO, destination), (Form.OLD, GROUPS[4])):
            if _fold(pseudo_header(4, source, to, end) + message) == _RIGHT:
                return form
    if _fold(message) != _RIGHT:
        raise PacketInvalid(Reason.CHECKSUM)
    return Form.RFC9568 if version == 3 else None


def _addresses(data: bytes, family: int, count: int) -> tuple[str, ...]:
    size = _ADDRESS_BYTES[family]
    starts = range(_HEADER.size, _HEADER.size + count * size, size)
    return tuple(str(ip_address(data[start : start + size])) for start in starts)


def _fold(data: bytes) -> int:
    """Sum 16-bit words in one's complement (RFC 1071); an odd last byte counts as a word's first."""
    total = int.from_bytes(data + bytes(len(data) % 2), "big")
    folded = total % 0xFFFF  # 2**16 is 1 modulo 0xFFFF, so the sum of all words is the whole number's remainder
    return folded or (0xFFFF if total else 0)
