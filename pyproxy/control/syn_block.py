"""
Let no new connection begin on listening sockets for a moment, without refusing any.

Must not know why. A filter on the socket drops the first packet of a connection, the SYN, as if it were lost on the
way: its sender repeats it a second later. All else passes, so connections that had begun are completed. The sockets
are shared with the workers, who needn't know of it.
"""

import ctypes
import errno
import socket
import struct
from collections.abc import Sequence
from typing import Final

_SO_ATTACH_FILTER: Final = 26  # asm-generic/socket.h
_SO_DETACH_FILTER: Final = 27

_TCP_INFO_BYTES: Final = 104
_UNACKED: Final = struct.Struct("=24xI")  # of a listening socket: connections that nobody has accepted yet

# linux/sock_diag.h, linux/inet_diag.h
_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_REQUEST_DUMP: Final = 0x301
_DONE, _ERROR = 3, 2
_SYN_RECEIVED: Final = 1 << 3
_HEADER: Final = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_QUESTION: Final = struct.Struct("=BBBxI")  # family, protocol, extensions, states; then the socket's id
_ID_BYTES: Final = 48  # source port first, in network order
_ANSWER_BYTES: Final = 64 * 1024

# linux/filter.h: code, jump if true, jump if false, argument. The filter of a TCP socket sees a packet from the
# TCP header on, where byte 13 has the flags.
_PROGRAM: Final = (
    (0x30, 0, 0, 13),  # load the byte at 13
    (0x54, 0, 0, 0x12),  # keep SYN and ACK
    (0x15, 0, 1, 0x02),  # if it is SYN alone
    (0x06, 0, 0, 0),  # drop the packet
    (0x06, 0, 0, 0xFFFFFFFF),  # keep all of it
)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def block(sockets: Sequence[socket.socket]) -> None:
    """Drop every SYN that comes to these TCP sockets from now on."""
    code = b"".join(struct.pack("=HBBI", *step) for step in _PROGRAM)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = bytes(_Program(len(_PROGRAM), ctypes.addressof(buffer)))
    for sock in sockets:
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def unblock(sockets: Sequence[socket.socket]) -> None:
    """Let connections begin again; on a socket that wasn't blocked, or is closed, nothing happens."""
    for sock in sockets:
        try:
            if sock.fileno() >= 0:
                sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise


def queued(sockets: Sequence[socket.socket]) -> int:
    """Count the connections that were completed and that nobody has accepted yet."""
    count = 0
    for sock in sockets:
        if sock.fileno() >= 0:
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
            count += int(_UNACKED.unpack_from(info)[0])
    return count


def half_open(sockets: Sequence[socket.socket]) -> int:
    """Count the connections that have begun and whose clients haven't answered yet; 0 where the kernel won't tell."""
    found = {(sock.family, sock.getsockname()[1]) for sock in sockets if sock.fileno() >= 0}
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as netlink:
            netlink.settimeout(0.1)
            return sum(_half_open(netlink, family, port) for family, port in found)
    except OSError:
        return 0


def _half_open(netlink: socket.socket, family: int, port: int) -> int:
    question = _QUESTION.pack(family, socket.IPPROTO_TCP, 0, _SYN_RECEIVED) + port.to_bytes(2, "big")
    size = _HEADER.size + _QUESTION.size + _ID_BYTES
    netlink.send((_HEADER.pack(size, _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0) + question).ljust(size, b"\0"))
    count = 0
    while True:
        data = netlink.recv(_ANSWER_BYTES)
        while len(data) >= _HEADER.size:
            length, kind, _, _, _ = _HEADER.unpack_from(data)
            if kind in (_DONE, _ERROR):
                return count
            count += 1
            data = data[(length + 3) & ~3 :]
