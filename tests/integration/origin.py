"""
A web node that misbehaves as told: each connection plays a script, and every byte that came is kept.

A script is an async function of the connection; those that many tests need are at the bottom.
Knows nothing of pyproxy.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from tests.integration.wire import DEADLINE, End, Message, Truncated, Wire

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class OriginConnection(Wire):
    """One connection that the origin accepted, with the requests read from it so far."""

    def __init__(self, sock: socket.socket, origin: "Origin", number: int) -> None:
        super().__init__(sock)
        self.origin = origin
        self.number = number
        self.requests: list[Message] = []

    async def request(self) -> Message:
        """Read one request, body and all."""
        message = await self.read_request()
        self.requests.append(message)
        self.origin.arrived.set()
        return message

    async def request_head(self) -> Message:
        """Read the head of one request and leave its body on the wire."""
        message = await self.read_head()
        self.requests.append(message)
        self.origin.arrived.set()
        return message

    async def ended(self) -> End:
        """Wait until the script has seen the other side end, and say how."""
        async with asyncio.timeout(DEADLINE):
            while self.end is End.OPEN:
                await asyncio.sleep(0.005)
        return self.end


Script = Callable[[OriginConnection], Awaitable[None]]


class Origin:
    """A listening socket; connection n plays the nth script, the last one repeats."""

    def __init__(self, port: int, host: str = "127.0.0.1", name: str = "a") -> None:
        self.name = name
        self.connections: list[OriginConnection] = []
        self.arrived = asyncio.Event()
        self.failures: list[BaseException] = []
        self._scripts: Sequence[Script] = (serve(),)
        self._tasks: set[asyncio.Task[None]] = set()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family, backlog=1024)
        self._socket.setblocking(False)
        self.port: int = self._socket.getsockname()[1]

    def play(self, *scripts: Script) -> None:
        """Say what the coming connections do."""
        self._scripts = scripts
        self._offset = len(self.connections)

    _offset = 0

    @property
    def requests(self) -> list[Message]:
        """Every request read, connection by connection."""
        return [message for connection in self.connections for message in connection.requests]

    @property
    def received(self) -> bytes:
        """Every byte read, connection by connection."""
        return b"".join(bytes(connection.received) for connection in self.connections)

    async def request(self) -> Message:
        """Wait for the next request to have been read, and return the latest."""
        async with asyncio.timeout(DEADLINE):
            await self.arrived.wait()
        self.arrived.clear()
        return self.requests[-1]

    async def connection(self, number: int = 0) -> OriginConnection:
        """Wait for a connection."""
        async with asyncio.timeout(DEADLINE):
            while len(self.connections) <= number:
                await asyncio.sleep(0.005)
        return self.connections[number]

    def start(self) -> None:
        """Accept from now on."""
        self._spawn(self._accept())

    async def close(self) -> None:
        """
        End every connection and wait until the other side has let go of it too.

        Raise what scripts raised.
        """
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._socket.close()
        await asyncio.gather(*(_let_go(connection) for connection in self.connections))
        if self.failures:
            raise self.failures[0]

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            sock, _ = await loop.sock_accept(self._socket)
            connection = OriginConnection(sock, self, len(self.connections))
            script = self._scripts[min(connection.number - self._offset, len(self._scripts) - 1)]
            self.connections.append(connection)
            self._spawn(self._play(script, connection))

    async def _play(self, script: Script, connection: OriginConnection) -> None:
        try:
            await script(connection)
        except (Truncated, OSError):
            # The proxy went away in the middle: the test looks at the connection, the script is over.
            pass
        except Exception as error:
            self.failures.append(error)

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _let_go(connection: OriginConnection) -> None:
    """Half-close and wait for the other end, so that no later test meets a connection of this one."""
    if connection.sock.fileno() < 0:
        return
    with suppress(OSError, TimeoutError):
        if connection.end is End.OPEN:
            connection.half_close()
            while await connection.fill(deadline=1.0):
                pass
    connection.close()


def serve(headers: bytes = b"", body: bytes | None = None) -> Script:
    """Answer every request with 200; the body is the target unless given."""

    async def script(connection: OriginConnection) -> None:
        while True:
            request = await connection.request()
            content = request.target if body is None else body
            head = b"HTTP/1.1 200 OK\r\n%bX-Origin: %b\r\nContent-Length: %d\r\n\r\n" % (
                headers,
                connection.origin.name.encode(),
                len(content),
            )
            await connection.send(head if request.method == b"HEAD" else head + content)

    return script


async def hang(connection: OriginConnection) -> None:
    """Read whatever comes and never answer."""
    await connection.request_head()
    await connection.read_rest()
    connection.close()


async def deaf(connection: OriginConnection) -> None:
    """Read the request's head, then not another byte, and never answer."""
    await connection.request_head()
    await asyncio.Event().wait()


async def close_at_once(connection: OriginConnection) -> None:
    """Read the request and close without an answer."""
    await connection.request()
    connection.close()


async def reset_at_once(connection: OriginConnection) -> None:
    """Read the request and reset without an answer."""
    await connection.request()
    connection.reset()


def reply(*raw: bytes, then: str = "serve") -> Script:
    """
    Answer one request with each of ``raw``, then do what ``then`` says.

    ``close`` FIN, ``reset`` RST right behind the bytes, ``hang`` wait for the other side to end,
    ``serve`` go on with proper answers.
    """

    async def script(connection: OriginConnection) -> None:
        for answer in raw:
            await connection.request()
            await connection.send(answer)
        if then == "close":
            connection.half_close()
        elif then == "reset":
            connection.reset()
            return
        elif then == "serve":
            await serve()(connection)
        await connection.read_rest()

    return script


def early(raw: bytes, *, reads_on: bool) -> Script:
    """Answer when only the head has come; then read the body, or leave it."""

    async def script(connection: OriginConnection) -> None:
        await connection.request_head()
        await connection.send(raw)
        if reads_on:
            await connection.read_rest()
        else:
            await asyncio.Event().wait()

    return script


def drip(raw: bytes, size: int = 1) -> Script:
    """Answer each request in pieces of ``size`` bytes."""

    async def script(connection: OriginConnection) -> None:
        while True:
            await connection.request()
            await connection.drip(raw, size)

    return script
