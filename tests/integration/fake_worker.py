"""
A worker program that only speaks the channel, and misbehaves as it is told: `python -m ... BEHAVIOUR FD`.

Knows nothing of HTTP but the shape of one answer; it shows what the supervisor does, not what the proxy does.

    serve       answer each connection with "SLOT PID", count it, write the same to the log
    stubborn    the same, deaf to drain
    deaf        the same, but close the channel after ready and live on
    failing     say failed and wait
    exiting     exit with status 3 instead of becoming ready
    hanging     never become ready
"""

import asyncio
import os
import socket
import sys
from typing import Any

from pyproxy.channel import Channel
from pyproxy.config.runtime import RuntimeConfig, from_plain
from pyproxy.observe.metrics import Layout, map_row


class FakeWorker:
    """What the behaviour says, until told to drain or left alone."""

    def __init__(self, behaviour: str, fd: int) -> None:
        self.behaviour = behaviour
        self.ended = asyncio.Event()
        self.log_fd = -1
        self.channel = Channel(socket.socket(fileno=fd), self.handle, self.ended.set)
        self.tasks: list[asyncio.Task[None]] = []

    def handle(self, message: dict[str, Any], fds: list[int]) -> None:
        match message["type"]:
            case "start":
                self.start(message, fds)
            case "ping":
                self.channel.send({"type": "pong"})
            case "pools":
                self.channel.send({"type": "applied", "version": message["version"]})
            case "log":
                os.close(self.log_fd)
                (self.log_fd,) = fds
            case "drain" if self.behaviour != "stubborn":
                self.ended.set()

    def start(self, message: dict[str, Any], fds: list[int]) -> None:
        match self.behaviour:
            case "failing":
                self.channel.send({"type": "failed", "version": 1, "error": "the reason"})
            case "exiting":
                sys.exit(3)
            case "hanging":
                pass
            case _:
                self.serve(from_plain(message["config"]), message, fds)

    def serve(self, config: RuntimeConfig, message: dict[str, Any], fds: list[int]) -> None:
        listeners = [listener.name for listener in config.listeners]
        layout = Layout(listeners, [pool.name for pool in config.pools], message["seats"])
        scoreboard = fds.pop(0)
        row = map_row(scoreboard, message["slot"], layout.size)
        os.close(scoreboard)
        row[layout.connections("main")] = 7  # a gauge that nobody counts down
        if message["log"]:
            self.log_fd = fds.pop(0)
        assert len(fds) == len(config.listeners)
        for fd in fds:
            sock = socket.socket(fileno=fd)
            sock.setblocking(False)
            self.tasks.append(
                asyncio.ensure_future(self.accept(sock, message["slot"], row, layout.connections_total("main")))
            )
        self.channel.send({"type": "ready", "version": message["version"]})
        if self.behaviour == "deaf":
            self.channel.close()
            # Nobody can reach it any more, so it must find its own end if it isn't killed.
            asyncio.get_running_loop().call_later(30.0, self.ended.set)

    async def accept(self, sock: socket.socket, slot: int, row: memoryview, column: int) -> None:
        loop = asyncio.get_running_loop()
        while True:
            client, _ = await loop.sock_accept(sock)
            with client:
                await loop.sock_recv(client, 4096)
                text = f"{slot} {os.getpid()}\n".encode()
                row[column] += 1
                if self.log_fd >= 0:
                    os.write(self.log_fd, text)
                await loop.sock_sendall(client, b"HTTP/1.0 200 OK\r\n\r\n" + text)


async def main() -> None:
    """Live until drained."""
    await FakeWorker(sys.argv[1], int(sys.argv[2])).ended.wait()


if __name__ == "__main__":
    asyncio.run(main())
