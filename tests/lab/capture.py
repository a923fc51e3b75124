"""
What is on the wire: VRRP adverts and announcements, with the kernel's time stamps.

Must not know pyproxy's codec, whose oracle it is: the packets are taken apart here once more.
"""

import ctypes
import errno
import socket
import struct
import time
from dataclasses import dataclass
from functools import partial

from tests.lab.namespaces import inside

_ETH_P_ALL = 3
_SO_ATTACH_FILTER = 26
_SO_RCVBUFFORCE, _SO_TIMESTAMPNS = 33, 35
_PACKET_OUTGOING = 4
_BUFFER_BYTES = 16 * 1024 * 1024
_ARP, _IPV4, _IPV6 = 0x0806, 0x0800, 0x86DD
_VRRP, _ICMPV6, _NEIGHBOUR_ADVERT = 112, 58, 136

# tcpdump -y EN10MB -ddd 'arp or ip proto 112 or ip6 proto 112 or (icmp6 and ip6[40] == 136)'
_FILTER = (
    *((40, 0, 0, 12), (21, 12, 0, 2054), (21, 0, 2, 2048), (48, 0, 0, 23), (21, 9, 10, 112), (21, 0, 9, 34525)),
    *((48, 0, 0, 20), (21, 6, 0, 112), (21, 0, 2, 44), (48, 0, 0, 54), (21, 3, 0, 112), (21, 0, 3, 58)),
    *((48, 0, 0, 54), (21, 0, 1, 136), (6, 0, 0, 262144), (6, 0, 0, 0)),
)


@dataclass(frozen=True, slots=True)
class Advert:
    """A VRRP advert as it came in at a port; ``at`` is monotonic, ``interval`` is in seconds."""

    at: float
    port: str
    source: str
    destination: str
    mac: str
    hops: int
    version: int
    vrid: int
    priority: int
    interval: float
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Announcement:
    """A gratuitous ARP or an unsolicited neighbour advert: ``address`` is said to be at ``mac``."""

    at: float
    port: str
    address: str
    mac: str


class Capture:
    """
    Frames that came in at some interfaces of a namespace since this was made.

    The kernel keeps and stamps them: a busy test loses none, and its own delay isn't measured.
    """

    def __init__(self, namespace: str, ports: tuple[str, ...]) -> None:
        self._adverts: list[Advert] = []
        self._announcements: list[Announcement] = []
        self._socks = {port: inside(namespace, partial(_open, port)) for port in ports}
        # Stamps are wall time, the tests' clock is monotonic.
        self._wall_offset = time.time() - time.monotonic()

    def __repr__(self) -> str:
        return f"<Capture {len(self._adverts)} adverts {len(self._announcements)} announcements>"

    def adverts(self, port: str | None = None, after: float = 0.0) -> list[Advert]:
        """Return the adverts so far, those of one port or of all."""
        self._read()
        return [advert for advert in self._adverts if advert.at > after and port in (None, advert.port)]

    def announcements(self, address: str, after: float = 0.0) -> list[Announcement]:
        """Return the announcements of an address so far."""
        self._read()
        return [one for one in self._announcements if one.at > after and one.address == address]

    def close(self) -> None:
        """Stop."""
        for sock in self._socks.values():
            sock.close()

    def _read(self) -> None:
        for port, sock in self._socks.items():
            self._read_port(port, sock)
        self._adverts.sort(key=lambda advert: advert.at)
        self._announcements.sort(key=lambda one: one.at)

    def _read_port(self, port: str, sock: socket.socket) -> None:
        while True:
            try:
                frame, ancillary, _, sender = sock.recvmsg(2048, socket.CMSG_SPACE(16))
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.ENETDOWN:
                    continue  # said once when a port goes down; the socket hears it again when it comes up
                raise
            if sender[2] == _PACKET_OUTGOING:
                continue  # it is seen where it comes in, not once more where it goes out
            stamp = next(data for _, kind, data in ancillary if kind == _SO_TIMESTAMPNS)
            seconds, nanoseconds = struct.unpack("ll", stamp)
            self._take(frame, port, seconds + nanoseconds / 1e9 - self._wall_offset)

    def _take(self, frame: bytes, port: str, at: float) -> None:
        mac = frame[6:12].hex(":")
        kind = int.from_bytes(frame[12:14], "big")
        packet = frame[14:]
        if kind == _ARP:
            sender, target = packet[14:18], packet[24:28]
            if sender == target:
                self._announcements.append(Announcement(at, port, socket.inet_ntoa(sender), packet[8:14].hex(":")))
        elif kind == _IPV4:
            header, family, width = (packet[0] & 15) * 4, socket.AF_INET, 4
            self._take_advert(packet[header:], family, (at, port, *_texts(family, packet, 12, width), mac, packet[8]))
        elif packet[6] == _VRRP:
            self._take_advert(
                packet[40:], socket.AF_INET6, (at, port, *_texts(socket.AF_INET6, packet, 8, 16), mac, packet[7])
            )
        elif packet[6] == _ICMPV6:
            self._take_neighbour(packet[40:], port, at)

    def _take_neighbour(self, message: bytes, port: str, at: float) -> None:
        is_solicited = message[4] & 0x40
        if not is_solicited and message[24:26] == b"\x02\x01":
            address = socket.inet_ntop(socket.AF_INET6, message[8:24])
            self._announcements.append(Announcement(at, port, address, message[26:32].hex(":")))

    def _take_advert(
        self, message: bytes, family: socket.AddressFamily, where: tuple[float, str, str, str, str, int]
    ) -> None:
        version = message[0] >> 4
        width = 16 if family is socket.AF_INET6 else 4
        interval = float(message[5]) if version == 2 else (int.from_bytes(message[4:6], "big") & 0xFFF) / 100
        addresses = tuple(
            socket.inet_ntop(family, message[start : start + width])
            for start in range(8, 8 + message[3] * width, width)
            if len(message) >= start + width
        )
        self._adverts.append(Advert(*where, version, message[1], message[2], interval, addresses))


def _texts(family: socket.AddressFamily, packet: bytes, start: int, width: int) -> tuple[str, str]:
    middle = start + width
    return socket.inet_ntop(family, packet[start:middle]), socket.inet_ntop(family, packet[middle : middle + width])


def _open(port: str) -> socket.socket:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)  # hears nothing until it has its filter
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
    sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *instruction) for instruction in _FILTER))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HL", len(_FILTER), ctypes.addressof(code)))
    sock.bind((port, _ETH_P_ALL))
    return sock
