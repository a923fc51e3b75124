"""
Send frames to the neighbours and hear which of them claims an address that matters.

Must not know VRRP, nor what a claim means.

The kernel hands up only what a filter lets through: a busy network carries thousands of ARP requests a second, and
the speaker has better to do than to look at them. The filter compares the claimed address, for IPv6 its last four
bytes; the rest is looked at here.
"""

import ctypes
import socket
import struct
from collections.abc import Iterable

from pyproxy.failover.neighbour import ETH_P_ARP, ETH_P_IPV6, Claim, parse
from pyproxy.failover.netlink import Ip

_SO_ATTACH_FILTER = 26
_SOL_PACKET, _PACKET_IGNORE_OUTGOING = 263, 23
_READ_BYTES = 2048
_MOST_IN_ONE_GO = 64  # frames in one read: a flood must leave time for the adverts

_LOAD_BYTE, _LOAD_WORD, _JUMP_IF_EQUAL, _RETURN = 0x30, 0x20, 0x15, 0x06
_PACKET_TYPE = 0xFFFFF000 + 4  # SKF_AD_OFF + SKF_AD_PKTTYPE
_FOR_ANOTHER_HOST = 3  # PACKET_OTHERHOST
_ALL, _NOTHING = 0xFFFF, 0

Instruction = tuple[int, int, int, int]  # code, steps to skip if true, if false, operand


class NeighbourSocket:
    """
    One interface, one family; ``read`` gives the claims of ``watched`` addresses that others made.

    Raises ``OSError`` when made without CAP_NET_RAW.
    """

    def __init__(self, interface: str, version: int, watched: Iterable[Ip]) -> None:
        protocol = ETH_P_ARP if version == 4 else ETH_P_IPV6
        self.version = version
        # Made for no protocol, so nothing can come in before the filter is there.
        self._sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        try:
            self._sock.setblocking(False)
            self._sock.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
            self.watch(watched)
            self._sock.bind((interface, protocol))
        except OSError:
            self._sock.close()
            raise

    def __repr__(self) -> str:
        return f"<NeighbourSocket IPv{self.version} {len(self._watched)} watched>"

    def fileno(self) -> int:
        """Give the descriptor to watch for reading."""
        return self._sock.fileno()

    def watch(self, addresses: Iterable[Ip]) -> None:
        """Hear of these addresses from now on, of those that are of this family."""
        self._watched = frozenset(address for address in addresses if address.version == self.version)
        words = sorted({int(address) & 0xFFFFFFFF for address in self._watched})
        attach_filter(self._sock, (arp_filter if self.version == 4 else advertisement_filter)(words))

    def send(self, frame: bytes) -> bool:
        """Send a whole Ethernet frame; False if the kernel wouldn't take it."""
        try:
            self._sock.send(frame)
        except OSError:  # the interface is down or its queue full: the next announcement is never far
            return False
        return True

    def read(self) -> list[Claim]:
        """Take what waits, within reason."""
        claims = []
        for _ in range(_MOST_IN_ONE_GO):
            try:
                frame = self._sock.recv(_READ_BYTES)
            except OSError:  # nothing more, or the interface went down, which the monitor tells
                break
            claim = parse(frame)
            if claim is not None and claim.address in self._watched:
                claims.append(claim)
        return claims

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()


def arp_filter(senders: Iterable[int]) -> list[Instruction]:
    """Let ARP through whose sender's address is one of these."""
    return _for_us([(_LOAD_WORD, 0, 0, 14 + 14)], senders)


def advertisement_filter(targets: Iterable[int]) -> list[Instruction]:
    """Let neighbour advertisements through whose target ends in one of these four bytes."""
    return _for_us(
        [
            (_LOAD_BYTE, 0, 0, 14 + 6),  # next header
            (_JUMP_IF_EQUAL, 1, 0, 58),
            (_RETURN, 0, 0, _NOTHING),
            (_LOAD_BYTE, 0, 0, 14 + 40),
            (_JUMP_IF_EQUAL, 1, 0, 136),
            (_RETURN, 0, 0, _NOTHING),
            (_LOAD_WORD, 0, 0, 14 + 40 + 8 + 12),
        ],
        targets,
    )


def _for_us(load: list[Instruction], words: Iterable[int]) -> list[Instruction]:
    """Refuse frames for others, which come in promiscuous mode; the kernel calls those of a VLAN that isn't here so."""
    program: list[Instruction] = [
        (_LOAD_BYTE, 0, 0, _PACKET_TYPE),
        (_JUMP_IF_EQUAL, 0, 1, _FOR_ANOTHER_HOST),
        (_RETURN, 0, 0, _NOTHING),
        *load,
    ]
    for word in words:
        program += [(_JUMP_IF_EQUAL, 0, 1, word), (_RETURN, 0, 0, _ALL)]
    return [*program, (_RETURN, 0, 0, _NOTHING)]


def attach_filter(sock: socket.socket, program: list[Instruction]) -> None:
    """Give a socket a classic BPF program, in place of the one it had."""
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in program))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(program), ctypes.addressof(code)))
