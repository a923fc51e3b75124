"""A node with a process for each connection: our idle connections leave it one for checks and for new requests."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.integration.client import get
from tests.integration.conftest import Connect, StartProgram
from tests.integration.test_health import QUICK, until, until_health

PROCESSES = 4
REQUEST = get("app.test")
#: Longer than any test waits: what doesn't give way stays.
LONG = {"idle": "10m"}


class Prefork:
    """
    As Apache's prefork: each process serves one connection until its end, and the kernel connects the others.

    A process answers when ``crowd`` requests are there at once. ``checks`` counts answers to checks.
    """

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.socket.setblocking(False)
        self.name = "node"
        self.port = self.socket.getsockname()[1]
        self.checks = 0
        self.served = 0
        self._crowd = 1
        self._here = 0
        self._turn = asyncio.Lock()  # the loop knows one that waits for a socket
        self._gate = asyncio.Event()
        self._gate.set()

    def gather(self, crowd: int) -> None:
        """Answer nothing but checks until so many requests are there."""
        self._crowd, self._here = crowd, 0
        self._gate.clear()

    async def process(self) -> None:
        """Serve one connection after the other."""
        loop = asyncio.get_running_loop()
        while True:
            async with self._turn:
                connection, _ = await loop.sock_accept(self.socket)
            with connection:
                try:
                    await self._serve(loop, connection)
                except OSError:
                    pass  # the other end has left

    async def _serve(self, loop: asyncio.AbstractEventLoop, connection: socket.socket) -> None:
        data = b""
        while True:
            while b"\r\n\r\n" not in data:
                more = await loop.sock_recv(connection, 65536)
                if not more:
                    return
                data += more
            head, _, data = data.partition(b"\r\n\r\n")
            if b"pyproxy-check" in head:
                await loop.sock_sendall(
                    connection, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                )
                self.checks += 1
                return
            self._here += 1
            if self._here >= self._crowd:
                self._gate.set()
            await self._gate.wait()
            await loop.sock_sendall(connection, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            self.served += 1


@asynccontextmanager
async def prefork() -> AsyncIterator[Prefork]:
    """Run a node."""
    node = Prefork()
    tasks = [asyncio.create_task(node.process()) for _ in range(PROCESSES)]
    try:
        yield node
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        node.socket.close()


def configure(node: Prefork, workers: int, **pool: object) -> dict[str, object]:
    """One pool of this node, whose connections we would keep for ever."""
    backends = [{"name": node.name, "address": f"127.0.0.1:{node.port}"}]
    return {"pools": {"web": {"backends": backends, "keepalive": LONG, **pool}}, "workers": workers}


async def ask_at_once(connect_to: Connect, port: int, count: int) -> None:
    """Let so many clients ask at the same time, and read their answers."""
    clients = [await connect_to(port) for _ in range(count)]
    for client in clients:
        await client.send(REQUEST)
    for client in clients:
        assert (await client.read_response()).status == 200


async def test_checks_find_a_process(start_program: StartProgram, connect_to: Connect) -> None:
    """After a burst all processes are bound by idle connections; the checks pass nevertheless, and nobody is down."""
    async with prefork() as node:
        program = start_program(configure(node, 2, health=QUICK))
        await until_health(program, node="up")
        node.gather(PROCESSES)
        await ask_at_once(connect_to, program.port, PROCESSES)
        seen, told = node.checks, program.stderr  # before, the node stood still while the program started
        await until(lambda: node.checks > seen + 4, "checked")
        assert "is down" not in program.stderr[len(told) :]


async def test_new_requests_find_a_process(start_program: StartProgram, connect_to: Connect) -> None:
    """Twice as many requests as processes, over two workers: those that find none aren't left waiting for ever."""
    async with prefork() as node:
        program = start_program(configure(node, 2))
        node.gather(PROCESSES)
        await ask_at_once(connect_to, program.port, 2 * PROCESSES)
        assert node.served == 2 * PROCESSES
        await ask_at_once(connect_to, program.port, 2 * PROCESSES)
