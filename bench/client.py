"""
The clients of the memory benchmark, a program of its own: their memory and their work are not the proxy's.

Must not know what is measured. It fails unless it got what it asked for.

    client.py PORT download TARGET BYTES     reads an answer of this size as fast as it can
    client.py PORT upload TARGET BYTES       sends a body of this size as fast as it can
    client.py PORT slow TARGET RATE SECONDS  reads RATE bytes of an answer a second, leaves after some seconds
    client.py PORT idle TARGET CONNECTIONS   makes one request on each of many connections, prints a line, and
                                             keeps them until its stdin ends
"""

import resource
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import stage

PIECE_BYTES = 1024 * 1024
STEP_SECONDS = 0.05
TIMEOUT_SECONDS = 60.0


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


KINDS: dict[str, Callable[..., None]] = {"download": download, "upload": upload, "slow": slow, "idle": idle}


def main() -> int:
    """Be the client that the arguments ask for."""
    port, kind, target, *numbers = sys.argv[1:]
    KINDS[kind](int(port), target, *map(int, numbers))
    return 0


if __name__ == "__main__":
    stage.run(main)
