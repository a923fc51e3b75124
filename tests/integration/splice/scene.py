"""
The stage of the tests of splices: a program, who visits it, and who stands behind it.

Must not know what a test wants to show. What is spliced comes over TCP, what is copied over a unix socket of the same
program. That it was really so shows in /proc: a splice has both its sockets open twice, and what it moves isn't among
what the worker has read.
"""

import asyncio
import random
import resource
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.integration.access_log import Line
from tests.integration.client import RawClient, get
from tests.integration.origin import OK, Origin, OriginConnection, serve
from tests.integration.ports import Ports
from tests.integration.program import Program
from tests.integration.shared import SHORT
from tests.integration.test_flow import PIECE
from tests.integration.wire import DEADLINE

MIB = 1024 * 1024
SIZE = 8 * MIB
HALF = SIZE // 2
CONTENT = random.Random(5).randbytes(SIZE)
#: As in pyproxy.proxy.splice.
SPLICE_BYTES = MIB
SPLICES_MAX = 32
_ESTABLISHED = b"\1"

BOTH = pytest.mark.parametrize("spliced", [True, False], ids=["spliced", "copied"])
LEAVE = pytest.mark.parametrize("leave", ["close", "reset", "half-close"])


# what /proc says


class Worker:
    """The program's only worker, as the kernel sees it."""

    def __init__(self, program: Program) -> None:
        (self.pid,) = program.workers()
        self._links_before = Counter(self._links())

    def _links(self) -> list[str]:
        links = []
        for descriptor in Path(f"/proc/{self.pid}/fd").iterdir():
            with suppress(OSError):  # closed meanwhile
                links.append(str(descriptor.readlink()))
        return links

    @property
    def splices(self) -> int:
        """How many are under way: each has a duplicate of both its sockets."""
        found = Counter(self._links()) - self._links_before
        twice = sum(number == 2 for link, number in found.items() if link.startswith("socket:"))
        assert not twice % 2
        return twice // 2

    @property
    def pipes(self) -> int:
        """How many pipes were made for splices and are still there, each with two ends."""
        found = Counter(self._links()) - self._links_before
        numbers = [number for link, number in found.items() if link.startswith("pipe:")]
        assert all(number == 2 for number in numbers), "half a pipe"
        return len(numbers)

    @property
    def others(self) -> list[str]:
        """What is open besides, and was not at the beginning."""
        return [link for link in (Counter(self._links()) - self._links_before).elements() if link[:5] != "pipe:"]

    @property
    def copied(self) -> int:
        """How many bytes it has read so far; what is spliced is not among them."""
        text = Path(f"/proc/{self.pid}/io").read_text(encoding="ascii")
        return int(text.split("rchar:")[1].split()[0])

    @property
    def memory(self) -> int:
        """Resident bytes."""
        text = Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8")
        return int(text.split("VmRSS:")[1].split()[0]) * 1024

    async def await_splices(self, number: int) -> None:
        """Wait until so many are under way."""
        async with asyncio.timeout(DEADLINE):
            while self.splices != number:
                await asyncio.sleep(0.005)

    @contextmanager
    def passing(self, size: int, *, spliced: bool | None) -> Iterator[None]:
        """Fail unless bodies of this size pass in here in the way that they shall, if there is one."""
        before = self.copied
        yield
        copied = self.copied - before
        if spliced is not None:
            assert (copied < size / 4) if spliced else (copied >= size), f"{copied} of {size} bytes were copied"

    @contextmanager
    def room(self, descriptors: int) -> Iterator[None]:
        """Let it open so many more descriptors and no more."""
        taken = {int(path.name) for path in Path(f"/proc/{self.pid}/fd").iterdir()}
        free = (number for number in count() if number not in taken)
        limit = [next(free) for _ in range(descriptors + 1)][-1]
        soft, hard = resource.prlimit(self.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (limit, hard))
        try:
            yield
        finally:
            resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (soft, hard))


# the program, who visits it and who stands behind it


def pools(port: int) -> dict[str, Any]:
    """Give a patient and a hasty pool of one backend."""
    backend = {"backends": [{"name": "a", "address": f"127.0.0.1:{port}"}], "retry": {"attempts": 1}}
    return {"web": backend, "hasty": {**backend, "timeouts": {"response": SHORT, "idle": SHORT}}}


class SpliceProgram(Program):
    """A program with a listener whose bodies are spliced, and one whose bodies are copied."""

    def __init__(self, directory: Path, ports: Ports, client: dict[str, Any]) -> None:
        self.origin_port = ports.take()
        self.path = directory / "x.sock"
        named = pools(self.origin_port)
        named["unix"] = {"backends": [{"name": "b", "address": f"unix:{directory}/b.sock"}]}
        routes = [{"host": f"{name}.test", "pool": name} for name in named]
        super().__init__(directory, ports, {"routes": routes, "pools": named, "client": client})
        self.config["listeners"].append({"name": "unix", "bind": f"unix:{self.path}"})


class Scene:
    """A running program, its backend, and the clients of one test."""

    def __init__(self, program: SpliceProgram, origin: Origin, worker: Worker) -> None:
        self.program = program
        self.origin = origin
        self.worker = worker
        self.clients: list[RawClient] = []

    async def visit(self, *, spliced: bool = True, receive_buffer: int | None = None) -> RawClient:
        """Connect to the listener whose bodies are spliced, or to the other."""
        if spliced:
            client = await RawClient.connect(self.program.port, receive_buffer=receive_buffer)
        else:
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(str(self.program.path))
            client = RawClient(sock, "unix:")
        self.clients.append(client)
        return client

    async def download(
        self, script: "Paused", target: str, *, spliced: bool, host: str = "web.test", receive_buffer: int | None = None
    ) -> RawClient:
        """Ask for an answer that stops in its middle, and take it as far as that."""
        self.origin.play(script)
        client = await self.visit(spliced=spliced, receive_buffer=receive_buffer)
        await client.send(get(host, target))
        await client.read_until(b"\r\n\r\n")
        assert await client.read(script.at) == CONTENT[: script.at]
        assert self.worker.splices == spliced
        return client

    async def upload(self, script: "Taking", target: str, *, spliced: bool, size: int = SIZE) -> RawClient:
        """Send a body as far as the origin takes it."""
        self.origin.play(script)
        client = await self.visit(spliced=spliced)
        await client.send(get("web.test", target, f"Content-Length: {size}", method="POST"))
        await client.send(CONTENT[: script.at])
        async with asyncio.timeout(DEADLINE):
            await script.has_stopped.wait()
        assert self.worker.splices == spliced
        return client

    async def line(self, target: str) -> Line:
        """Wait for the log line of a target, which must be the test's own."""
        async with asyncio.timeout(DEADLINE):
            while True:
                found = [line for line in self.program.log.lines() if line.request.split(" ")[1] == target]
                if found:
                    (line,) = found
                    return line
                await asyncio.sleep(0.01)

    async def ended(self, target: str) -> Line:
        """Wait until nothing is left of a request: the backend's connection is closed, no splice goes on."""
        line = await self.line(target)
        (connection,) = self.origin.connections
        async with asyncio.timeout(DEADLINE):
            while connection.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) == _ESTABLISHED:
                await asyncio.sleep(0.005)
        await self.worker.await_splices(0)
        await self.program.await_metric("pyproxy_backend_active", 0)
        return line


@asynccontextmanager
async def make_scene(program: SpliceProgram, worker: Worker) -> AsyncIterator[Scene]:
    """Give a scene; when its clients and its origin have gone, the worker has nothing open but idle pipes."""
    origin = Origin(program.origin_port)
    origin.start()
    scene = Scene(program, origin, worker)
    yield scene
    for client in scene.clients:
        client.close()
    await origin.close()
    await program.settled()
    program.check_stderr()
    async with asyncio.timeout(DEADLINE):
        while worker.others:
            await asyncio.sleep(0.01)
    assert worker.pipes <= SPLICES_MAX


# what origins do


def head(size: int = SIZE, *headers: str) -> bytes:
    """The head of an answer."""
    return "\r\n".join(["HTTP/1.1 200 OK", f"Content-Length: {size}", *headers, "", ""]).encode()


class Paused:
    """Send an answer to its middle; then wait for ``go``, and do what ``then`` says."""

    def __init__(self, then: str = "rest", at: int = HALF) -> None:
        self.go = asyncio.Event()
        self.at = at
        self._then = then

    async def __call__(self, connection: OriginConnection) -> None:
        """Play it."""
        await connection.request()
        await connection.send(head() + CONTENT[: self.at])
        await self.go.wait()
        if self._then == "close":
            connection.half_close()
        elif self._then == "reset":
            connection.reset()
            return
        elif self._then == "rest":
            await connection.send(CONTENT[self.at :])
            await serve()(connection)
        await connection.read_rest()


class Taking:
    """
    Take a body to its middle and wait for ``go``.

    Then take the rest and answer; or answer early with ``answer``, and do what ``then`` says.
    """

    def __init__(self, answer: bytes = b"", then: str = "") -> None:
        self.go = asyncio.Event()
        self.has_stopped = asyncio.Event()
        self.at = HALF
        self.body = b""
        self._answer = answer
        self._then = then

    async def __call__(self, connection: OriginConnection) -> None:
        """Play it."""
        await connection.request_head()
        self.body = await connection.read(self.at)
        self.has_stopped.set()
        await self.go.wait()
        if not self._answer:
            self.body += await connection.read(SIZE - self.at)
            await connection.send(OK)
            await serve()(connection)
        await connection.send(self._answer)
        if self._then == "close":
            connection.close()
        elif self._then == "reset":
            await asyncio.sleep(0.05)  # the head is to be read first
            connection.reset()
        elif self._then == "nothing":
            await asyncio.Event().wait()
        else:
            await connection.read_rest()


async def endless(connection: OriginConnection) -> None:
    """Send a body until nobody takes it any more."""
    await connection.request()
    await connection.send(head(1000 * 1000 * MIB))
    while True:
        await connection.send(PIECE)


async def echo(connection: OriginConnection) -> None:
    """Answer with the request's body."""
    while True:
        request = await connection.request()
        await connection.send(head(len(request.body)) + request.body)


def depart(client: RawClient, how: str) -> None:
    """Let a client go."""
    {"close": client.close, "reset": client.reset, "half-close": client.half_close}[how]()
