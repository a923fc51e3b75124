"""
The PROXY protocol, versions 1 and 2: the header before the first byte that tells who the client really is.

Must not know sockets, nor who may be believed: bytes and addresses in, addresses and bytes out. Both versions are
in HAProxy's doc/proxy-protocol.txt, section 2. Where a header names no usable addresses (LOCAL, UNKNOWN, UNSPEC,
unix sockets, datagrams) the connection is valid and the socket's own addresses hold.
"""

import re
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from pyproxy.errors import BadRequest

#: The longest line of version 1, its CRLF included.
V1_MAX_BYTES: Final = 107
#: What may follow the fixed part of version 2. Addresses take at most 216; the rest are TLVs, which no sender needs
#: to be large: without a bound a client could make us keep 64 KiB before its first request.
V2_MAX_BYTES: Final = 2048

_V1_STARTS: Final = (b"PROXY TCP4 ", b"PROXY TCP6 ", b"PROXY UNKNOWN ", b"PROXY UNKNOWN\r")
_V1_WORD: Final = re.compile(rb"[0-9A-Fa-f.:]*")  # of an address or a port; notably no % and no sign
_V1_PORT: Final = re.compile(rb"0|[1-9][0-9]{0,4}")
_V1_UNKNOWN: Final = b"PROXY UNKNOWN\r\n"
_V1_FIRST: Final = ord("P")

_V2_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_V2_FIXED: Final = struct.Struct(">12sBBH")
_V2_LOCAL: Final = 0x20
_V2_PROXY: Final = 0x21
_UNSPEC: Final = 0x00
_TCP4: Final = 0x11
_TCP6: Final = 0x21
#: Bytes of the two addresses by family and transport, as far as the specification knows them.
_V2_ADDRESS_BYTES: Final = {_UNSPEC: 0, _TCP4: 12, 0x12: 12, _TCP6: 36, 0x22: 36, 0x31: 216, 0x32: 216}
_TCP4_BLOCK: Final = struct.Struct(">4s4sHH")
_TCP6_BLOCK: Final = struct.Struct(">16s16sHH")
_TLV_BYTES: Final = 3  # type and length


class ProxyHeader:
    """Who connected to whom, as text without brackets; "" and 0 where the socket's own addresses hold."""

    __slots__ = ("destination", "destination_port", "source", "source_port")

    def __init__(
        self, source: str = "", source_port: int = 0, destination: str = "", destination_port: int = 0
    ) -> None:
        self.source = source
        self.source_port = source_port
        self.destination = destination
        self.destination_port = destination_port

    def __repr__(self) -> str:
        return f"<ProxyHeader {self.source} {self.source_port} to {self.destination} {self.destination_port}>"


class HeaderReader:
    r"""
    Read the header that a connection begins with, however it is cut; what is known of it is not looked at again.

        >>> HeaderReader().feed(b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\nGET /")
        (b'GET /', <ProxyHeader 192.0.2.1 56324 to 192.0.2.2 443>)
    """

    __slots__ = ("_addresses", "_checked", "_data", "_end", "_ports", "_wanted")

    def __init__(self) -> None:
        self._data = bytearray()
        self._wanted = 1  # with fewer bytes there is nothing new to see
        self._end = 0  # of a header of version 2, when that is known
        self._checked = 0  # so far its TLVs are right; in version 1, so many words
        self._addresses: list[str] = []
        self._ports: list[int] = []

    def feed(self, data: bytes) -> tuple[bytes, ProxyHeader] | None:
        """
        Take bytes as they arrived; give what is behind the header, and what that says. None wants more bytes.

        Raises ``BadRequest`` as soon as no further byte could make it a header. At most ``V1_MAX_BYTES`` or 16 +
        ``V2_MAX_BYTES`` are ever wanted.
        """
        held = self._data
        held += data
        if len(held) < self._wanted:
            return None
        if held[0] == _V1_FIRST:
            found = self._read_v1(bytes(held))
            self._wanted = len(held) + 1
        elif held[:12] == _V2_SIGNATURE[: len(held)]:
            found = self._read_v2(held)
        else:
            raise BadRequest("The connection does not begin with a PROXY header")
        return None if found is None else (bytes(held[found[0] :]), found[1])

    def _read_v1(self, data: bytes) -> tuple[int, ProxyHeader] | None:
        if not any(start[: len(data)] == data[: len(start)] for start in _V1_STARTS):
            raise BadRequest("The PROXY line names no known protocol")
        end = data.find(b"\r\n", 0, V1_MAX_BYTES)
        if end < 0 and len(data) >= V1_MAX_BYTES:
            raise BadRequest("The PROXY line is too long")
        if data.startswith(b"PROXY U"):
            return None if end < 0 else (end + 2, ProxyHeader())
        words = data[len(_V1_STARTS[0]) : end if end >= 0 else len(data)].split(b" ")
        self._check_words(words[: len(words) if end >= 0 else len(words) - 1], data[:10] == b"PROXY TCP6")
        if end < 0:
            if len(words) > 4 or not _V1_WORD.fullmatch(words[-1].removesuffix(b"\r")):
                raise BadRequest("The PROXY line is malformed")
            return None
        if len(words) != 4:
            raise BadRequest("The PROXY line is malformed")
        (source, destination), (source_port, destination_port) = self._addresses, self._ports
        return end + 2, ProxyHeader(source, source_port, destination, destination_port)

    def _check_words(self, words: list[bytes], is_v6: bool) -> None:
        """Take those that have become complete."""
        for word in words[self._checked :]:
            if len(self._addresses) < 2:
                self._addresses.append(_v1_address(word, is_v6))
            else:
                self._ports.append(_v1_port(word))
        self._checked = len(words)

    def _read_v2(self, held: bytearray) -> tuple[int, ProxyHeader] | None:
        if not self._end:
            self._wanted = len(held) + 1
            self._end = _find_v2_end(held)
            if not self._end:
                return None
            has_addresses = held[12] == _V2_PROXY and held[13] != _UNSPEC
            self._checked = _V2_FIXED.size + _V2_ADDRESS_BYTES[held[13]] if has_addresses else self._end
        self._check_tlvs(held, self._end)
        if len(held) < self._end:
            return None
        if held[12] == _V2_LOCAL or held[13] not in (_TCP4, _TCP6):
            return self._end, ProxyHeader()
        return self._end, _v2_addresses(held, held[13])

    def _check_tlvs(self, held: bytearray, end: int) -> None:
        """Go through the TLVs as far as they have come: they must fill exactly what is left of the header."""
        at = self._checked
        while at < end:
            if end - at < _TLV_BYTES:
                raise BadRequest("The PROXY header ends within a field")
            if len(held) < at + _TLV_BYTES:
                break
            at += _TLV_BYTES + int.from_bytes(held[at + 1 : at + 3], "big")
        if at > end:
            raise BadRequest("The PROXY header is too short for what it says to hold")
        self._checked = at
        self._wanted = min(at + _TLV_BYTES, end)


def _v1_address(word: bytes, is_v6: bool) -> str:
    if _V1_WORD.fullmatch(word):
        try:
            return str(_unmapped(IPv6Address(word.decode()))) if is_v6 else str(IPv4Address(word.decode()))
        except ValueError:
            pass
    raise BadRequest("The PROXY line has a malformed address")


def _v1_port(word: bytes) -> int:
    if not _V1_PORT.fullmatch(word) or int(word) > 65535:
        raise BadRequest("The PROXY line has a malformed port")
    return int(word)


def _find_v2_end(held: bytearray) -> int:
    """Check the fixed part as far as it has come, and tell where the header ends; 0 if that isn't known yet."""
    if len(held) <= 12:
        return 0
    if held[12] not in (_V2_LOCAL, _V2_PROXY):
        raise BadRequest("The PROXY header has an unknown version or command")
    # The family of a LOCAL one is ignored.
    if len(held) > 13 and held[12] == _V2_PROXY and held[13] not in _V2_ADDRESS_BYTES:
        raise BadRequest("The PROXY header has an unknown protocol")
    if len(held) < _V2_FIXED.size:
        return 0
    size = int.from_bytes(held[14:16], "big")
    if size > V2_MAX_BYTES:
        raise BadRequest("The PROXY header is too long")
    return _V2_FIXED.size + size


def _v2_addresses(data: bytearray, family: int) -> ProxyHeader:
    if family == _TCP4:
        source, destination, source_port, destination_port = _TCP4_BLOCK.unpack_from(data, _V2_FIXED.size)
        return ProxyHeader(str(IPv4Address(source)), source_port, str(IPv4Address(destination)), destination_port)
    source, destination, source_port, destination_port = _TCP6_BLOCK.unpack_from(data, _V2_FIXED.size)
    return ProxyHeader(
        str(_unmapped(IPv6Address(source))),
        source_port,
        str(_unmapped(IPv6Address(destination))),
        destination_port,
    )


def write_v1(source: str, source_port: int, destination: str, destination_port: int) -> bytes:
    r"""
    Write a line of version 1; UNKNOWN unless both are addresses of one family.

    >>> write_v1("192.0.2.1", 56324, "192.0.2.2", 443)
    b'PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n'
    """
    one, other = _parse(source), _parse(destination)
    if one is None or other is None or one.version != other.version:
        return _V1_UNKNOWN
    return f"PROXY TCP{one.version} {one} {other} {source_port} {destination_port}\r\n".encode()


def write_v2(source: str, source_port: int, destination: str, destination_port: int) -> bytes:
    """
    Write a header of version 2; LOCAL unless both are addresses of one family.

    PROXY with UNSPEC would say the same, but HAProxy 2.6 resets such a connection.
    """
    one, other = _parse(source), _parse(destination)
    if one is None or other is None or one.version != other.version:
        return _V2_FIXED.pack(_V2_SIGNATURE, _V2_LOCAL, _UNSPEC, 0)
    family, block = (_TCP4, _TCP4_BLOCK) if one.version == 4 else (_TCP6, _TCP6_BLOCK)
    fixed = _V2_FIXED.pack(_V2_SIGNATURE, _V2_PROXY, family, block.size)
    return fixed + block.pack(one.packed, other.packed, source_port, destination_port)


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    """Read an address, without the zone that only means something on this machine."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return address if isinstance(address, IPv4Address) else _unmapped(address)


def _unmapped(address: IPv6Address) -> IPv4Address | IPv6Address:
    """Give an IPv4 address on a socket for both families its own form, so that one client has one name."""
    return address.ipv4_mapped or address
