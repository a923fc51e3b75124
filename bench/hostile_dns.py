"""
A name server that means no good: answers over UDP that there is more, and over TCP with as much as a message can hold.

Knows the format of messages (RFC 1035, section 4) and nothing of who asks.
"""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

from bench import stage

MESSAGE_BYTES = 65_000
TTL = 1
A, CNAME, AAAA, SRV = 1, 5, 28, 33
_HERE = b"\xc0\x0c"  # the name that was asked for, which stands behind the header
_TRUNCATED, _ANSWER = 0x8380, 0x8180


def record(name: bytes, kind: int, data: bytes) -> bytes:
    """Write a record."""
    return name + struct.pack(">HHIH", kind, 1, TTL, len(data)) + data


def label(number: int) -> bytes:
    """Write a name of two labels that no other number has."""
    text = b"n%d" % number
    return bytes((len(text),)) + text + b"\x01x\x00"


def addresses(kind: int) -> Iterator[bytes]:
    """Give ever more addresses of the name."""
    for number in range(MESSAGE_BYTES):
        yield record(_HERE, A if kind == SRV else kind, number.to_bytes(16 if kind == AAAA else 4, "big"))


def chain(_kind: int) -> Iterator[bytes]:
    """Give a name for a name for a name."""
    yield record(_HERE, CNAME, label(0))
    for number in range(MESSAGE_BYTES):
        yield record(label(number), CNAME, label(number + 1))


def circle(_kind: int) -> Iterator[bytes]:
    """Give two names that stand for each other."""
    while True:
        yield record(_HERE, CNAME, label(0))
        yield record(label(0), CNAME, _HERE)


def services(kind: int) -> Iterator[bytes]:
    """Give ever more targets, each of which has to be asked for, and one address for each of these."""
    if kind != SRV:
        yield record(_HERE, kind, bytes(16 if kind == AAAA else 4))
        return
    for number in range(MESSAGE_BYTES):
        yield record(_HERE, SRV, struct.pack(">HHH", 1, 1, 80) + label(number))


def loops(_kind: int) -> Iterator[bytes]:
    """Give names that are pointers to themselves (section 4.1.4)."""
    at = 12 + len(b"\x01a\x04test\x00") + 4
    while True:
        yield record(struct.pack(">H", 0xC000 | at), CNAME, b"\xc0\x0c")


#: What a name's answers are, by what they are called, and whether it is a service that is asked for.
ANSWERS = {
    "thousands of addresses": (addresses, False),
    "a chain of names": (chain, False),
    "names in a circle": (circle, False),
    "names that point to themselves": (loops, False),
    "thousands of services": (services, True),
}


class HostileDns:
    """Listens on one port of UDP and TCP; ``bytes`` and ``questions`` count."""

    def __init__(self, name: str) -> None:
        self._make = ANSWERS[name][0]
        self.port = stage.free_port()
        self.bytes = self.questions = 0
        self._made: dict[int, tuple[int, bytes]] = {}
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind((stage.HOST, self.port))
        self._tcp = socket.create_server((stage.HOST, self.port), backlog=512)
        for run in (self._serve_udp, self._accept):
            threading.Thread(target=run, daemon=True).start()

    def _serve_udp(self) -> None:
        while True:
            asked, sender = self._udp.recvfrom(4096)
            self.questions += 1
            self._udp.sendto(self._answer(asked, whole=False), sender)

    def _accept(self) -> None:
        while True:
            connection, _ = self._tcp.accept()
            threading.Thread(target=self._serve_tcp, args=(connection,), daemon=True).start()

    def _serve_tcp(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError), connection.makefile("rb") as file:
            while size := file.read(2):
                answer = self._answer(file.read(int.from_bytes(size, "big")), whole=True)
                connection.sendall(len(answer).to_bytes(2, "big") + answer)

    def _answer(self, asked: bytes, *, whole: bool) -> bytes:
        end = asked.index(b"\x00", 12) + 5
        kind = int.from_bytes(asked[end - 4 : end - 2], "big")
        count, records = self._records(kind) if whole else (0, b"")
        flags = _ANSWER if whole else _TRUNCATED
        answer = asked[:2] + struct.pack(">HHHHH", flags, 1, count, 0, 0) + asked[12:end] + records
        self.bytes += len(answer)
        return answer

    def _records(self, kind: int) -> tuple[int, bytes]:
        """Make as many records as fit, once for each kind."""
        if kind not in self._made:
            found, size = [], 0
            for one in self._make(kind):
                size += len(one)
                if size > MESSAGE_BYTES:
                    break
                found.append(one)
            self._made[kind] = len(found), b"".join(found)
        return self._made[kind]
