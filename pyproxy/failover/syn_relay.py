"""
What clients sent to begin a connection while this machine gave the addresses away, passed on to the one that has them.

Must not know when that is, nor why. For some milliseconds of a hand-over nobody answers a SYN: here they are dropped,
so that nothing is in flight, and the other machine doesn't have the address yet. Its sender would repeat it after a
second. So they are caught on their way in, and sent on as they came, to the other machine's hardware address, as soon
as that one has announced itself. It answers the client; the client notices some milliseconds.

A packet that was taken over from the sender's own kernel may come without a checksum (as on a veth, whose other end is
on the same machine), so it is computed anew. Frames that are sent twice do no harm: TCP knows them.
"""

import socket
import struct
from collections import deque
from collections.abc import Iterable
from typing import Final

from pyproxy.failover.neighbour_socket import Instruction, attach_filter
from pyproxy.failover.netlink import Ip

MAX_FRAMES: Final = 4096  # kept at a time; what comes beyond pushes out the oldest

_ALL: Final = 0x0003  # ETH_P_ALL
_FOR_US: Final = 0  # PACKET_HOST
_READS: Final = 64  # frames at a time, between which others have their turn
_FRAME_BYTES: Final = 2048
_IPV4, _IPV6, _TCP = 0x0800, 0x86DD, 6
_SYN, _ACK = 0x02, 0x10
_ETHERNET, _IPV6_HEADER = 14, 40

# linux/filter.h; a frame begins with its Ethernet header. Each jump names how many steps to pass over.
_LOAD_BYTE, _LOAD_HALF, _LOAD_BYTE_X, _LOAD_IHL = 0x30, 0x28, 0x50, 0xB1
_AND, _EQUALS, _HAS_ANY, _RETURN = 0x54, 0x15, 0x45, 0x06
_PROGRAM: Final[list[Instruction]] = [
    (_LOAD_HALF, 0, 0, 12),
    (_EQUALS, 0, 8, _IPV4),
    (_LOAD_BYTE, 0, 0, _ETHERNET + 9),
    (_EQUALS, 0, 13, _TCP),
    (_LOAD_HALF, 0, 0, _ETHERNET + 6),
    (_HAS_ANY, 11, 0, 0x1FFF),  # a later fragment
    (_LOAD_IHL, 0, 0, _ETHERNET),
    (_LOAD_BYTE_X, 0, 0, _ETHERNET + 13),
    (_AND, 0, 0, _SYN | _ACK),
    (_EQUALS, 6, 7, _SYN),
    (_EQUALS, 0, 6, _IPV6),
    (_LOAD_BYTE, 0, 0, _ETHERNET + 6),
    (_EQUALS, 0, 4, _TCP),
    (_LOAD_BYTE, 0, 0, _ETHERNET + _IPV6_HEADER + 13),
    (_AND, 0, 0, _SYN | _ACK),
    (_EQUALS, 0, 1, _SYN),
    (_RETURN, 0, 0, 0xFFFFFFFF),
    (_RETURN, 0, 0, 0),
]


class SynRelay:
    """
    Catch SYNs for these addresses on an interface from now on; ``OSError`` if that can't be done.

    ``point_to`` says where they go, from then on; ``read`` is to be called when ``fileno`` can be read.
    """

    def __init__(self, interface: str, mac: bytes, addresses: Iterable[Ip]) -> None:
        self.sent = 0
        self._mac = mac
        self._addresses = frozenset(address.packed for address in addresses)
        self._frames: deque[bytes] = deque(maxlen=MAX_FRAMES)
        self._target: bytes | None = None
        self._sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)  # hears nothing before it is bound
        try:
            self._sock.setblocking(False)
            attach_filter(self._sock, _PROGRAM)
            self._sock.bind((interface, _ALL))
        except OSError:
            self._sock.close()
            raise

    def __repr__(self) -> str:
        return f"<SynRelay {len(self._frames)} caught {self.sent} sent>"

    def fileno(self) -> int:
        """The socket's, for the loop."""
        return self._sock.fileno()

    def read(self) -> None:
        """Catch what has come, and send it on if it is known where to."""
        for _ in range(_READS):
            try:
                frame, (_, _, kind, *_) = self._sock.recvfrom(_FRAME_BYTES)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                return  # the interface is gone, and with it whoever could be sent to
            if kind == _FOR_US and destination_of(frame) in self._addresses:
                self._frames.append(frame)
        self._flush()

    def point_to(self, mac: bytes) -> None:
        """Send what was caught, and all that comes later, to this machine."""
        self._target = mac
        self._flush()

    def close(self) -> None:
        """Catch nothing more; what was caught and isn't sent is repeated by its sender."""
        self._sock.close()
        self._frames.clear()

    def _flush(self) -> None:
        while self._target is not None and self._frames:
            frame = self._frames.popleft()
            try:
                self._sock.send(self._target + self._mac + with_checksum(frame)[12:])
                self.sent += 1
            except OSError:
                return  # its sender repeats it


def destination_of(frame: bytes) -> bytes:
    """Give the address that a frame's packet goes to."""
    return frame[30:34] if frame[12:14] == _IPV4.to_bytes(2, "big") else frame[38:54]


def with_checksum(frame: bytes) -> bytes:
    """Compute the checksum of a frame's TCP segment anew (RFC 9293 3.1); a frame cut short comes back as it is."""
    is_ipv4 = frame[12:14] == _IPV4.to_bytes(2, "big")
    if is_ipv4:
        begin = _ETHERNET + (frame[_ETHERNET] & 0x0F) * 4
        end = _ETHERNET + int.from_bytes(frame[16:18], "big")
        addresses = frame[26:34]
    else:
        begin = _ETHERNET + _IPV6_HEADER
        end = begin + int.from_bytes(frame[18:20], "big")
        addresses = frame[22:54]
    if not begin + 20 <= end <= len(frame):
        return frame
    segment = frame[begin : begin + 16] + b"\0\0" + frame[begin + 18 : end]
    total = _sum(addresses + struct.pack("!II", len(segment), _TCP) + segment)
    return frame[: begin + 16] + (~total & 0xFFFF).to_bytes(2, "big") + frame[begin + 18 :]


def _sum(data: bytes) -> int:
    """Add up 16 bits at a time, with carry around (RFC 1071)."""
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total
