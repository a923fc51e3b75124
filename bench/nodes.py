"""
The web nodes behind the contenders: quick ones with bodies of all sizes, slow ones, and one that echoes WebSockets.

Must not know who asks. The quick ones are nginx; the others are this file as a program, until SIGTERM:

    nodes.py slow PORT=SECONDS ...   answers after a delay of each port's own
    nodes.py echo PORT               sends back every message of a WebSocket
"""

import asyncio
import base64
import contextlib
import hashlib
import random
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import cast

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import stage

KIB, MIB = 1024, 1024**2
FILES = {"4k": 4 * KIB, "64k": 64 * KIB, "1m": MIB, "100m": 100 * MIB}
FAST_SECONDS, SLOW_SECONDS = 0.001, 0.2
BACKLOG = 4096
WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

# An upload is read whole for the sake of `mirror`, before no file is found, which becomes the good answer: a `return`
# or `try_files` in place of that would answer before the body has come, and DAV takes no POST. What fits the buffer
# isn't written to disk. The idle time is such that no contender finds its connections closed when its turn comes.
NGINX = """
    sendfile on;
    tcp_nopush on;
    open_file_cache max=16 inactive=1h;
    open_file_cache_errors on;
    log_not_found off;
    keepalive_timeout 1h;
    client_max_body_size 0;
    client_body_buffer_size 2m;
    server {{
{listens}
        root {directory};
        location / {{ return 200 "hello, world\\n"; }}
{files}
        location = /upload {{ mirror /discard; error_page 404 405 = @done; }}
        location = /discard {{ internal; return 204; }}
        location @done {{ return 204; }}
    }}
"""

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nhello, world\n"
NO_WEBSOCKET = b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n"
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
KEY = re.compile(rb"\r\nsec-websocket-key:[ \t]*([^ \t\r]+)", re.IGNORECASE)


@contextlib.contextmanager
def web_nodes(directory: Path, core: int, count: int = 3) -> Iterator[tuple[int, ...]]:
    """
    Run web nodes; yield their ports.

    One process serves all of them: more would only cost the core on which the load runs, too, more switching.
    """
    ports = stage.free_ports(count)
    listens = "\n".join(f"        listen {stage.HOST}:{port} backlog={BACKLOG};" for port in ports)
    files = "\n".join(f"        location = /{name} {{ }}" for name in FILES)
    with stage.nginx(directory, NGINX.format(listens=listens, files=files, directory=directory), core):
        write_files(directory)
        yield ports


def write_files(directory: Path) -> None:
    """Write the bodies: the same in every run, and nothing that could be compressed."""
    piece = random.Random(1).randbytes(MIB)
    for name, size in FILES.items():
        with (directory / name).open("wb") as file:
            for begin in range(0, size, MIB):
                file.write(piece[: size - begin])


@contextlib.contextmanager
def slow_nodes(core: int, directory: Path) -> Iterator[tuple[int, ...]]:
    """Run one slow node and two fast ones; yield their ports, the slow one's first."""
    ports = stage.free_ports(3)
    delays = (SLOW_SECONDS, FAST_SECONDS, FAST_SECONDS)
    arguments = [f"{port}={delay}" for port, delay in zip(ports, delays, strict=True)]
    with running("slow", arguments, ports, core, directory):
        yield ports


@contextlib.contextmanager
def echo_nodes(core: int, directory: Path) -> Iterator[tuple[int, ...]]:
    """Run one node that echoes WebSockets; yield its port."""
    ports = stage.free_ports(1)
    with running("echo", [str(ports[0])], ports, core, directory):
        yield ports


@contextlib.contextmanager
def running(kind: str, arguments: Sequence[str], ports: Sequence[int], core: int, directory: Path) -> Iterator[None]:
    """Run this file as a program until it listens on all these ports."""
    directory.mkdir()
    output = directory / "output.txt"
    command = [sys.executable, str(Path(__file__).resolve()), kind, *arguments]
    with stage.process(command, output, core) as started:
        stage.await_ports(started, ports, output)
        yield


class SlowNode(asyncio.Protocol):
    """A web node that thinks for a while before it answers; it takes requests without a body."""

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._loop.call_later(self._delay, self._transport.write, ANSWER * data.count(b"\r\n\r\n"))


class EchoNode(asyncio.Protocol):
    """A web node that takes an upgrade to a WebSocket and sends back what comes, frame by frame."""

    def __init__(self) -> None:
        self._received = b""
        self._is_websocket = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._is_websocket and b"\r\n\r\n" in self._received:
            self._upgrade()
        while self._is_websocket and (frame := parse_frame(self._received)):
            first, payload, length = frame
            self._received = self._received[length:]
            self._answer(first, payload)

    def _upgrade(self) -> None:
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        key = KEY.search(head)
        if key is None:
            self._transport.write(NO_WEBSOCKET)
            self._transport.close()
            return
        self._is_websocket = True
        accept = base64.b64encode(hashlib.sha1(key[1] + WEBSOCKET_GUID).digest())
        self._transport.write(b"%bSec-WebSocket-Accept: %b\r\n\r\n" % (SWITCHING, accept))

    def _answer(self, first: int, payload: bytes) -> None:
        opcode = first & 0x0F
        if opcode == 0x0A:  # a pong, for which nobody asked
            return
        if opcode == 0x09:  # a ping, whose answer is a pong with the same payload
            first += 1
        self._transport.write(make_frame(first, payload))
        if opcode == 0x08:
            self._transport.close()


def parse_frame(data: bytes) -> tuple[int, bytes, int] | None:
    r"""
    Read a client's frame: its first byte, what it carries without the mask, its length; None if it isn't all there.

    >>> parse_frame(bytes([0x81, 0x82, 0, 1, 0, 1]) + b"hh, and more")
    (129, b'hi', 8)
    >>> parse_frame(bytes([0x81, 0x82, 0, 1, 0, 1]) + b"h")
    """
    if len(data) < 2:
        return None
    length, begin = data[1] & 0x7F, 2
    if length >= 126:
        begin = 4 if length == 126 else 10
        length = int.from_bytes(data[2:begin], "big")
    body, end = begin + 4, begin + 4 + length
    if len(data) < end:
        return None
    mask = (data[begin:body] * (length // 4 + 1))[:length]
    plain = int.from_bytes(data[body:end], "big") ^ int.from_bytes(mask, "big")
    return data[0], plain.to_bytes(length, "big"), end


def make_frame(first: int, payload: bytes) -> bytes:
    r"""
    Write a frame as servers send it, without a mask.

    >>> make_frame(0x81, b"hi")
    b'\x81\x02hi'
    """
    length = len(payload)
    if length < 126:
        return bytes((first, length)) + payload
    if length < 1 << 16:
        return bytes((first, 126)) + length.to_bytes(2, "big") + payload
    return bytes((first, 127)) + length.to_bytes(8, "big") + payload


async def serve(nodes: Sequence[tuple[int, Callable[[], asyncio.Protocol]]]) -> None:
    """Listen on each port with its kind of connection."""
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(make, stage.HOST, port, backlog=BACKLOG) for port, make in nodes]
    await asyncio.gather(*(server.serve_forever() for server in servers))


def main() -> int:
    """Be the nodes that the arguments ask for."""
    kind, *arguments = sys.argv[1:]
    if kind == "echo":
        uvloop.run(serve([(int(port), EchoNode) for port in arguments]))
    else:
        pairs = [argument.split("=") for argument in arguments]
        uvloop.run(serve([(int(port), partial(SlowNode, float(delay))) for port, delay in pairs]))
    return 0


if __name__ == "__main__":
    stage.run(main)
