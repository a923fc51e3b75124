"""
Adverts on the pair's own VRID, malformed or forged, as a broken or hostile neighbour sends them.

Must not know pyproxy's codec: the frames are made here. Each would make a backup master, or a master step down, if it
were believed: priority 255 or 0 from the address of the peer, and something that makes it invalid.
"""

import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from tests.lab.namespaces import inside
from tests.lab.topology import VIP, Lab

_GROUP = "224.0.0.18"
_GROUP_MAC = bytes.fromhex("01005e000012")
_SOURCE_MAC = bytes.fromhex("020000000050")
_VRRP = 112

Spoil = Callable[[random.Random, bytes], bytes]


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071) of data."""
    padded = data + b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    inverted: int = ~total & 0xFFFF
    return inverted


def advert(source: str, priority: int, vrid: int = 51, address: str = VIP) -> bytes:
    """Return a valid version 3 advert with a pseudo header in its checksum."""
    message = struct.pack("!BBBBHH", 0x31, vrid, priority, 1, 10, 0) + socket.inet_aton(address)
    pseudo = socket.inet_aton(source) + socket.inet_aton(_GROUP) + struct.pack("!BBH", 0, _VRRP, len(message))
    return message[:6] + checksum(pseudo + message).to_bytes(2, "big") + message[8:]


def frame(source: str, message: bytes, hops: int = 255) -> bytes:
    """Wrap an advert for the wire, to the multicast group."""
    header = struct.pack("!BBHHHBBH", 0x45, 0xC0, 20 + len(message), 0, 0, hops, _VRRP, 0)
    header += socket.inet_aton(source) + socket.inet_aton(_GROUP)
    header = header[:10] + checksum(header).to_bytes(2, "big") + header[12:]
    return _GROUP_MAC + _SOURCE_MAC + b"\x08\x00" + header + message


def _spoilt_checksum(rng: random.Random, message: bytes) -> bytes:
    wrong = (int.from_bytes(message[6:8], "big") + rng.randrange(1, 0xFFFE)) & 0xFFFF
    return message[:6] + wrong.to_bytes(2, "big") + message[8:]


def _cut(rng: random.Random, message: bytes) -> bytes:
    return message[: rng.randrange(len(message))]


def _more_addresses(rng: random.Random, message: bytes) -> bytes:
    return message[:3] + bytes([rng.randrange(2, 256)]) + message[4:]


def _other_version(rng: random.Random, message: bytes) -> bytes:
    return bytes([rng.choice((0x01, 0x11, 0x21, 0x41, 0xF1))]) + message[1:]


def _other_type(rng: random.Random, message: bytes) -> bytes:
    return bytes([0x30 | rng.choice((0, 2, 9, 15))]) + message[1:]


def _trailing(rng: random.Random, message: bytes) -> bytes:
    return message + rng.randbytes(rng.randrange(1, 64))


SPOILS: tuple[Spoil, ...] = (_spoilt_checksum, _cut, _more_addresses, _other_version, _other_type, _trailing)


def malformed(source: str, rng: random.Random) -> bytes:
    """Return a frame that no speaker may believe."""
    message = advert(source, rng.choice((0, 255)))
    if rng.random() < 0.15:
        return frame(source, message, hops=rng.choice((1, 64, 254)))  # it came through a router
    return frame(source, rng.choice(SPOILS)(rng, message))


def malformed_adverts(
    lab: Lab, source: str, interval: float = 0.01, seed: int = 1
) -> AbstractContextManager[Callable[[], int]]:
    """Send malformed adverts from the client's place in the name of ``source``; gives how many it has sent."""
    rng = random.Random(seed)
    return _sent(lab, lambda: malformed(source, rng), interval)


def valid_adverts(
    lab: Lab, source: str, priority: int, interval: float = 0.05, address: str = VIP
) -> AbstractContextManager[Callable[[], int]]:
    """Send adverts that nobody can tell from true ones by their form; gives how many it has sent."""
    content = frame(source, advert(source, priority, address=address))
    return _sent(lab, lambda: content, interval)


@contextmanager
def _sent(lab: Lab, make: Callable[[], bytes], interval: float) -> Iterator[Callable[[], int]]:
    sent = 0
    is_over = threading.Event()

    def send() -> None:
        nonlocal sent
        while not is_over.wait(interval):
            sock.send(make())
            sent += 1

    with inside(lab.client, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)) as sock:
        sock.bind(("eth0", 0))
        thread = threading.Thread(target=send)
        thread.start()
        try:
            yield lambda: sent
        finally:
            is_over.set()
            thread.join()
