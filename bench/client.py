"""
Clients that wrk and h2load can't be, a program of its own: their memory and their work are not the proxy's.

Must not know what is measured. It fails unless it got what it asked for.

    client.py PORT download TARGET BYTES     reads an answer of this size as fast as it can
    client.py PORT upload TARGET BYTES       sends a body of this size as fast as it can
    client.py PORT slow TARGET RATE SECONDS  reads RATE bytes of an answer a second, leaves after some seconds
    client.py PORT idle TARGET CONNECTIONS   makes one request on each of many connections, prints a line, and
                                             keeps them until its stdin ends; none may have been closed by then
    client.py PORT echo TARGET CONNECTIONS SECONDS
                                             has WebSocket messages come back, one at a time on each connection,
                                             and prints how many and how fast as JSON
"""

import json
import resource
import select
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import open_loop, stage

PIECE_BYTES = 1024 * 1024
STEP_SECONDS = 0.05
TIMEOUT_SECONDS = 60.0
ECHO_SECONDS = 5.0  # after which a message doesn't come back any more
MESSAGE_BYTES = 125  # the most that fits into the shortest frame


def connect(port: int) -> socket.socket:
    """Connect to the proxy."""
    return socket.create_connection((stage.HOST, port), TIMEOUT_SECONDS)


def read_head(sock: socket.socket, status: bytes) -> tuple[int, int]:
    """Read a head with this status; return the body's length and how many bytes of it came along."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(4096)
        if not piece:
            raise stage.StageError(f"the connection ended after {data!r}")
        data += piece
    head, _, rest = data.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 " + status):
        raise stage.StageError(f"the answer is {head!r}")
    _, _, after = head.lower().partition(b"content-length:")
    return int(after.split(b"\r\n")[0] or 0), len(rest)


def download(port: int, target: str, size: int) -> None:
    """Read an answer as fast as it comes."""
    buffer = bytearray(PIECE_BYTES)
    with connect(port) as sock:
        sock.sendall(stage.request(port, stage.BROWSER_HEADERS, target))
        length, got = read_head(sock, b"200")
        while got < length:
            count = sock.recv_into(buffer)
            if not count:
                break
            got += count
    if not got == length == size:
        raise stage.StageError(f"got {got} bytes of {length}, not {size}")


def upload(port: int, target: str, size: int) -> None:
    """Send a body as fast as it is taken."""
    piece = bytes(PIECE_BYTES)
    with connect(port) as sock:
        sock.sendall(f"PUT {target} HTTP/1.1\r\nHost: {stage.HOST}\r\nContent-Length: {size}\r\n\r\n".encode())
        for begin in range(0, size, PIECE_BYTES):
            sock.sendall(piece[: size - begin])
        read_head(sock, b"201")


def slow(port: int, target: str, rate: int, seconds: int) -> None:
    """Read an answer slowly, then leave."""
    got = 0
    with connect(port) as sock:
        sock.sendall(stage.request(port, stage.BROWSER_HEADERS, target))
        got = read_head(sock, b"200")[1]
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            while got < rate * passed:
                count = len(sock.recv(min(PIECE_BYTES, int(rate * passed) - got + 1)))
                if not count:
                    raise stage.StageError(f"the answer ended after {got} bytes")
                got += count
            time.sleep(STEP_SECONDS)


def idle(port: int, target: str, connections: int) -> None:
    """Make connections with one request each, and keep them."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    kept = []
    request = stage.request(port, stage.BROWSER_HEADERS, target)
    for _ in range(connections):
        sock = connect(port)
        kept.append(sock)
        sock.sendall(request)
        length, got = read_head(sock, b"200")
        while got < length:
            got += len(sock.recv(length - got))
    print(len(kept), flush=True)
    sys.stdin.read()
    poll = select.poll()
    for sock in kept:
        poll.register(sock, select.POLLIN)
    if closed := len(poll.poll(0)):
        raise stage.StageError(f"{closed} of {connections} idle connections were closed")


def echo(port: int, target: str, connections: int, seconds: int) -> None:
    """Send each message when the one before is back; at the end wait for those under way."""
    epoll, times = select.epoll(), open_loop.Histogram()
    clients = {}
    for number in range(connections):
        client = EchoClient(port, target, number)
        clients[client.sock.fileno()] = client
        epoll.register(client.sock, select.EPOLLIN)
    begin = open_loop.clock()
    end = begin + seconds * open_loop.NANO
    for client in clients.values():
        client.send()
    under_way = connections
    while under_way:
        events = epoll.poll(ECHO_SECONDS)
        if not events:
            raise stage.StageError(f"{under_way} messages did not come back")
        for fd, _ in events:
            client = clients[fd]
            if client.is_back():
                now = open_loop.clock()
                times.record(now - client.sent)
                if now < end:
                    client.send()
                else:
                    under_way -= 1
    took = (open_loop.clock() - begin) / open_loop.NANO
    result = {"p50_ms": times.percentile_ms(50), "p99_ms": times.percentile_ms(99)}
    print(json.dumps({"requests": times.count, "seconds": took, **result}))


class EchoClient:
    """A WebSocket with one message under way, of its own, so that mixing them up would be noticed."""

    def __init__(self, port: int, target: str, number: int) -> None:
        self.sock = connect(port)
        headers = (
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        )
        self.sock.sendall(stage.request(port, headers, target))
        read_head(self.sock, b"101")
        self.sock.settimeout(None)  # with one, each call would ask the kernel first whether it can be made
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        message, mask = str(number).encode().rjust(MESSAGE_BYTES), b"mask"
        masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(message))
        self._frame = bytes([0x82, 0x80 | MESSAGE_BYTES]) + mask + masked
        self._expected = bytes([0x82, MESSAGE_BYTES]) + message
        self._received = b""
        self.sent = 0

    def __repr__(self) -> str:
        return f"<EchoClient {self.sock.fileno()} {len(self._received)} bytes back>"

    def send(self) -> None:
        """Send the message."""
        self.sent = open_loop.clock()
        self.sock.sendall(self._frame)

    def is_back(self) -> bool:
        """Read what came back; tell whether that is the whole message, and fail if it is something else."""
        data = self.sock.recv(4096)
        self._received += data
        if not data or not self._expected.startswith(self._received):
            raise stage.StageError(f"what came back is {self._received!r}")
        if len(self._received) < len(self._expected):
            return False
        self._received = b""
        return True


KINDS: dict[str, Callable[..., None]] = {
    "download": download,
    "upload": upload,
    "slow": slow,
    "idle": idle,
    "echo": echo,
}


def main() -> int:
    """Be the client that the arguments ask for."""
    port, kind, target, *numbers = sys.argv[1:]
    try:
        KINDS[kind](int(port), target, *map(int, numbers))
    except OSError as error:
        raise stage.StageError(str(error)) from error
    return 0


if __name__ == "__main__":
    stage.run(main)
