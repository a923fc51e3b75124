"""
Raw sockets for VRRP: adverts of one IP family on one interface.

Must not know what is in an advert, nor which of them are meant for us (``dialect``).

There are two sockets. The one that receives is bound to no address, so it hears what goes to the group as well as
what goes to this machine; an arrival says what it came for. The one that sends is bound to our own address, because
in VRRP the source decides a tie; whatever the kernel delivers to it as well is refused by a filter.

IPv4 comes with its IP header. With IPv6 hop limit and destination come as ancillary data.
"""

import errno
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from pyproxy.errors import FailoverError
from pyproxy.failover.dialect import Arrival
from pyproxy.failover.neighbour_socket import attach_filter
from pyproxy.failover.packet import GROUPS, HOP_LIMIT, PROTOCOL

_TOS_INTERNETWORK_CONTROL = 0xC0
_SOCKET_PRIORITY = 7
_CHECKSUM_OFFSET = 6
_READ_BYTES = 2048
_ANCILLARY_BYTES = 256
_RECEIVE_BUFFER_BYTES = 256 * 1024
_MOST_IN_ONE_GO = 256  # arrivals in one read: a flood must leave time for our own adverts
_IP_MULTICAST_ALL, _IPV6_MULTICAST_ALL = 49, 29
_REFUSE_ALL = [(0x06, 0, 0, 0)]  # BPF: return 0

_PACKET_INFO = struct.Struct("@16si")
_INT = struct.Struct("@i")


@dataclass(frozen=True, slots=True)
class Place:
    """Where VRRP is spoken: on which interface, from which of our addresses (text, without a zone)."""

    interface: str
    index: int
    source: str

    @property
    def family(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.source else 4


class VrrpSocket:
    """
    Both sockets of one family; made only when the source address is there.

    Raises ``FailoverError``, which says what is missing.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.family = place.family
        self.send_error: str | None = None  # of the last send; None if it went out
        try:
            self._receiver = _open(place, _set_up_receiver)
            try:
                self._sender = _open(place, _set_up_sender)
            except OSError:
                self._receiver.close()
                raise
        except OSError as error:
            raise FailoverError(f"no VRRP on {place.interface} from {place.source}: {_explain(error)}") from error
        self._receive = _receive_ipv4 if self.family == 4 else _receive_ipv6

    def __repr__(self) -> str:
        return f"<VrrpSocket {self.place.interface} {self.place.source}>"

    def fileno(self) -> int:
        """Give the descriptor to watch for reading."""
        return self._receiver.fileno()

    def send(self, payload: bytes, destination: str) -> bool:
        """Send an advert; False if the kernel wouldn't take it, with the reason in ``send_error``."""
        address = (destination, 0) if self.family == 4 else (destination, 0, 0, self.place.index)
        try:
            self._sender.sendto(payload, address)
        except OSError as error:
            self.send_error = _explain(error)
            return False
        self.send_error = None
        return True

    def receive(self) -> list[Arrival]:
        """Take what waits, within reason, in the order in which it came."""
        found: list[Arrival] = []
        for _ in range(_MOST_IN_ONE_GO):
            try:
                arrival = self._receive(self._receiver)
            except OSError:  # nothing more, or the interface went down, which others tell
                break
            if arrival is not None:
                found.append(arrival)
        return found

    def close(self) -> None:
        """Close both sockets."""
        self._receiver.close()
        self._sender.close()


def parse_ipv4(packet: bytes) -> Arrival | None:
    """Take the IP header off; None if it isn't whole."""
    if len(packet) < 20:
        return None
    header_bytes = (packet[0] & 0x0F) * 4
    if packet[0] >> 4 != 4 or header_bytes < 20 or len(packet) < header_bytes:
        return None
    source, destination = (socket.inet_ntoa(packet[start : start + 4]) for start in (12, 16))
    return Arrival(packet[header_bytes:], 4, source, destination, packet[8])


def parse_ipv6(payload: bytes, ancillary: Sequence[tuple[int, int, bytes]], sender: str) -> Arrival | None:
    """Put together what the kernel says of a packet; None if it didn't say where it went to."""
    hop_limit, destination = None, ""
    for level, kind, data in ancillary:
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT) and len(data) >= _INT.size:
            hop_limit = _INT.unpack_from(data)[0]
        elif (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO) and len(data) >= _PACKET_INFO.size:
            destination = socket.inet_ntop(socket.AF_INET6, _PACKET_INFO.unpack_from(data)[0])
    if not destination:
        return None
    return Arrival(payload, 6, sender.partition("%")[0], destination, hop_limit)


def _open(place: Place, set_up: Callable[[socket.socket, Place], None]) -> socket.socket:
    family = socket.AF_INET if place.family == 4 else socket.AF_INET6
    sock = socket.socket(family, socket.SOCK_RAW, PROTOCOL)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, place.interface.encode() + b"\0")
        set_up(sock, place)
    except OSError:
        sock.close()
        raise
    return sock


def _set_up_receiver(sock: socket.socket, place: Place) -> None:
    """Join the group also where peers are configured: who speaks otherwise than we expect is to be noticed."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
    group = ip_address(GROUPS[place.family]).packed
    if place.family == 4:
        # Without this a socket hears every group that anybody on this machine has joined.
        sock.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, _by_index(place.index, group))
        return
    sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL, 0)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group + struct.pack("@I", place.index))


def _set_up_sender(sock: socket.socket, place: Place) -> None:
    attach_filter(sock, _REFUSE_ALL)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, _SOCKET_PRIORITY)
    if place.family == 4:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, HOP_LIMIT)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, HOP_LIMIT)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, _TOS_INTERNETWORK_CONTROL)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, _by_index(place.index, bytes(4)))
        sock.bind((place.source, 0))
        return
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, HOP_LIMIT)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, HOP_LIMIT)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, _TOS_INTERNETWORK_CONTROL)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, place.index)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_CHECKSUM, _CHECKSUM_OFFSET)
    sock.bind((place.source, 0, 0, place.index))


def _by_index(index: int, group: bytes) -> bytes:
    """Pack ``struct ip_mreqn``."""
    return struct.pack("@4s4si", group, bytes(4), index)


def _receive_ipv4(sock: socket.socket) -> Arrival | None:
    return parse_ipv4(sock.recv(_READ_BYTES))


def _receive_ipv6(sock: socket.socket) -> Arrival | None:
    payload, ancillary, _, sender = sock.recvmsg(_READ_BYTES, _ANCILLARY_BYTES)
    return parse_ipv6(payload, ancillary, sender[0])


def _explain(error: OSError) -> str:
    if error.errno == errno.EPERM:
        return "permission denied (CAP_NET_RAW is missing)"
    return error.strerror or str(error)
