"""
A bare pair of connections: the floor under what a proxy on uvloop and httptools can cost.

This is a program; it runs until SIGTERM:

    bare_pair.py PORT NODE_PORT...

It parses both sides, writes heads anew without what holds for one connection only, passes bodies, with a length or
chunked, as the bytes that came, keeps connections to the nodes, which it asks in turn, and stops reading where nobody
takes. It has no features and no deadlines, and refuses nothing. It must not be sent what the benchmarks don't send:
pipelined requests, HEAD, upgrades, Expect; nor nodes that answer before they have read, or end a body by closing.
"""

import asyncio
import sys
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import cast

import httptools
import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import stage

BACKLOG = 4096
JOIN_BYTES = 4096  # up to here a copy costs less than a second buffer to write
CONNECTION_ONLY = frozenset({b"connection", b"keep-alive", b"proxy-connection"})


class Side(asyncio.Protocol):
    """One connection: reads messages, one at a time, and passes them to the other side."""

    transport: asyncio.Transport
    _parser: "httptools.HttpRequestParser | httptools.HttpResponseParser"

    def __init__(self) -> None:
        self.other: Side | None = None
        self._received = b""  # of a head that hasn't come whole
        self._lines: list[bytes] = []
        self._is_body = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._is_body:
            assert self.other is not None
            self.other.transport.write(data)
            self._parser.feed_data(data)
            return
        data = self._received + data
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            self._received = data
            return
        self._received = b""
        self._parser.feed_data(data)
        self._is_body = True
        self._handle_head(data, end)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a line; the parser calls this, and would copy bodies if there were an on_body."""
        if name.lower() not in CONNECTION_ONLY:
            self._lines.append(b"%b: %b\r\n" % (name, value))

    def connection_lost(self, exception: Exception | None) -> None:
        del self._parser  # which knows this object
        other, self.other = self.other, None
        if other is not None:
            other.transport.abort()

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None:
            self.other.transport.resume_reading()

    def _handle_head(self, data: bytes, end: int) -> None:
        raise NotImplementedError

    def _pass_head(self, data: bytes, end: int) -> None:
        assert self.other is not None
        write = self.other.transport.write
        head = b"".join((data[: data.find(b"\r\n") + 2], *self._lines, b"\r\n"))
        self._lines.clear()
        if len(data) - end > JOIN_BYTES:
            write(head)
            write(memoryview(data)[end:])
        else:
            write(head + data[end:])


class Client(Side):
    """A client's connection."""

    def __init__(self, nodes: "Nodes") -> None:
        super().__init__()
        self._nodes = nodes
        self._parser = httptools.HttpRequestParser(self)
        self.keeps_alive = True

    def on_headers_complete(self) -> None:
        self.keeps_alive = self._parser.should_keep_alive()

    def begin(self, node: "Node", data: bytes, end: int) -> None:
        """Send a node the head and what came with it."""
        self.other, node.other = node, self
        self._pass_head(data, end)

    def finish(self) -> None:
        """Be ready for the next request, if one may come."""
        self.other = None
        self._is_body = False
        if self.keeps_alive:
            self.transport.resume_reading()
        else:
            self.transport.close()

    def _handle_head(self, data: bytes, end: int) -> None:
        node = self._nodes.take()
        if isinstance(node, Node):
            self.begin(node, data, end)
        else:
            self.transport.pause_reading()
            self._nodes.connect(node, self, data, end)


class Node(Side):
    """A connection to a node."""

    def __init__(self, idle: "list[Node]") -> None:
        super().__init__()
        self._idle = idle
        self._parser = httptools.HttpResponseParser(self)
        self._is_complete = False

    def on_message_complete(self) -> None:
        self._is_complete = True

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_complete:
            self._finish()

    def connection_lost(self, exception: Exception | None) -> None:
        super().connection_lost(exception)
        if self in self._idle:
            self._idle.remove(self)

    def _handle_head(self, data: bytes, end: int) -> None:
        assert isinstance(self.other, Client)
        if not self.other.keeps_alive:
            self._lines.append(b"Connection: close\r\n")
        self._pass_head(data, end)

    def _finish(self) -> None:
        client, self.other = self.other, None
        assert isinstance(client, Client)
        self._is_body = self._is_complete = False
        self.transport.resume_reading()  # what the client has yet to take is no reason any more
        self._idle.append(self)
        client.finish()


class Nodes:
    """The nodes in turn, and the idle connections to each."""

    def __init__(self, ports: list[int]) -> None:
        self._idle: dict[int, list[Node]] = {port: [] for port in ports}
        self._turn = cycle(self._idle.items())
        self._connecting: set[asyncio.Task[None]] = set()

    def take(self) -> Node | int:
        """Return an idle connection to the next node, or its port if there is none."""
        port, idle = next(self._turn)
        return idle.pop() if idle else port

    def connect(self, port: int, client: Client, data: bytes, end: int) -> None:
        """Begin to connect to a node; the client's request goes there then."""
        task = asyncio.get_running_loop().create_task(self._connect(port, client, data, end))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, port: int, client: Client, data: bytes, end: int) -> None:
        make = partial(Node, self._idle[port])
        try:
            _, node = await asyncio.get_running_loop().create_connection(make, stage.HOST, port)
        except OSError:
            client.transport.abort()
            return
        if client.transport.is_closing():
            node.transport.close()
            return
        client.begin(node, data, end)
        client.transport.resume_reading()


async def serve(port: int, nodes: Nodes) -> None:
    """Take clients."""
    server = await asyncio.get_running_loop().create_server(partial(Client, nodes), stage.HOST, port, backlog=BACKLOG)
    await server.serve_forever()


def main() -> int:
    """Be the proxy that the arguments ask for."""
    port, *ports = map(int, sys.argv[1:])
    uvloop.run(serve(port, Nodes(ports)))
    return 0


if __name__ == "__main__":
    stage.run(main)
