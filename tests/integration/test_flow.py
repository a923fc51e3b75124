"""Flow control: whoever doesn't read holds back whoever sends, in bounded memory, and not for ever."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.integration.client import RawClient, chunked, get
from tests.integration.conftest import Connect, StartOrigin, StartProgram
from tests.integration.origin import OK, Origin, OriginConnection, deaf, early, serve
from tests.integration.program import Program
from tests.integration.shared import SharedProgram
from tests.integration.wire import Wire

UPLOAD = 64 * 1024 * 1024
PIECE = b"x" * 65536


class Sender:
    """Send pieces until told otherwise, and know how many went."""

    def __init__(self, wire: Wire, pieces: int) -> None:
        self.sent = 0
        self._wire = wire
        self._pieces = pieces
        self.task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        for _ in range(self._pieces):
            await self._wire.send(PIECE)
            self.sent += len(PIECE)

    async def stalled(self) -> None:
        """Wait until nothing has gone for a while."""
        before = -1
        while self.sent != before:
            before = self.sent
            await asyncio.sleep(0.3)


async def test_backpressure_reaches_the_backend(proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """
    With a client that doesn't read, the program stops taking the backend's bytes.

    When it reads, all come.
    """
    sent = 0
    size = 32 * 1024 * 1024

    async def script(connection: OriginConnection) -> None:
        nonlocal sent
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while sent < size:
            await connection.send(b"x" * 65536)
            sent += 65536
        await connection.read_rest()

    origin.play(script)
    client = await connect(receive_buffer=4096)
    await client.send(get("solo.test"))
    await client.fill(1)
    before = -1
    while sent != before:
        before = sent
        await asyncio.sleep(0.3)
    assert sent < size, "the program took it all although nobody read"
    assert len((await client.read_response()).body) == size
    assert len(await proxy.log.await_lines(1, client.source)) == 1


def _unlimited(port: int, **timeouts: Any) -> dict[str, Any]:
    backend = {"name": "a", "address": f"127.0.0.1:{port}"}
    return {"pools": {"web": {"backends": [backend], "timeouts": timeouts, "retry": {"attempts": 1}}}}


def _memory(program: Program) -> int:
    """Resident bytes of the program's worker."""
    (pid,) = program.workers()
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


@pytest.mark.parametrize(
    "framing", [f"Content-Length: {UPLOAD}", "Transfer-Encoding: chunked"], ids=["length", "chunked"]
)
async def test_upload_is_held_back(
    framing: str, start_program: StartProgram, start_origin: StartOrigin, connect_to: Connect
) -> None:
    """With a backend that doesn't read, the client's body stays with the client; when it reads, all comes."""
    go = asyncio.Event()

    async def script(connection: OriginConnection) -> None:
        await connection.request_head()
        await go.wait()
        while connection.received.count(b"x") < UPLOAD and await connection.fill():
            pass
        await connection.send(OK)
        await connection.read_rest()

    origin = start_origin()
    origin.play(script)
    program = start_program(_unlimited(origin.port))
    before = _memory(program)
    client = await connect_to(program.port)
    await client.send(get("h", "/", framing, method="POST"))
    if framing.endswith("chunked"):
        await client.send(b"%x\r\n" % UPLOAD)
    sender = Sender(client, UPLOAD // len(PIECE))
    await sender.stalled()
    assert sender.sent < UPLOAD / 2, "the program took what it couldn't pass on"
    assert _memory(program) - before < 8 * 1024 * 1024
    go.set()
    await sender.task
    if framing.endswith("chunked"):
        await client.send(b"\r\n0\r\n\r\n")
    assert (await client.read_response()).body == b"ok"
    (line,) = await program.log.await_lines(1, client.source)
    assert (line.status, line.end) == (200, "--")


async def test_upload_to_a_backend_that_never_reads(
    start_program: StartProgram, start_origin: StartOrigin, connect_to: Connect
) -> None:
    """timeouts.idle is also between two writes: the client isn't kept for ever by a backend that is stuck."""
    origin = start_origin()
    origin.play(deaf)
    program = start_program(_unlimited(origin.port, idle="300ms", response="300ms"))
    client = await connect_to(program.port)
    await client.send(get("h", "/", f"Content-Length: {UPLOAD}", method="POST"))
    sender = Sender(client, UPLOAD // len(PIECE))
    answer = await client.read_response()
    assert (answer.status, answer.get("connection")) == (504, b"close")
    sender.task.cancel()
    await asyncio.gather(sender.task, return_exceptions=True)
    (line,) = await program.log.await_lines(1, client.source)
    assert (line.status, line.us) == (504, ["-"])
    assert line.end in {"sH", "sD"}


@pytest.mark.parametrize("reads_on", [True, False], ids=["reads-on", "stops-reading"])
async def test_early_answer_to_a_large_upload(
    reads_on: bool, start_program: StartProgram, start_origin: StartOrigin, connect_to: Connect
) -> None:
    """An answer that comes early is read by a client that goes on sending all it has."""
    origin = start_origin()
    origin.play(early(b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno", reads_on=reads_on))
    program = start_program(_unlimited(origin.port))
    client = await connect_to(program.port)
    await client.send(get("h", "/", f"Content-Length: {UPLOAD}", method="POST"))
    sender = Sender(client, UPLOAD // len(PIECE))
    answer = await client.read_response()
    assert (answer.status, answer.body) == (403, b"no")
    await asyncio.gather(sender.task, return_exceptions=True)
    (line,) = await program.log.await_lines(1, client.source)
    assert (line.status, line.end) == (403, "--")


async def test_slow_reader_of_a_large_download_costs_little_memory(
    start_program: StartProgram, start_origin: StartOrigin, connect_to: Connect
) -> None:
    """Twenty readers that don't read hold twenty downloads back, not in the program's memory."""
    origin = start_origin()
    origin.play(serve(body=b"x" * UPLOAD))
    program = start_program(_unlimited(origin.port))
    before = _memory(program)
    clients: list[RawClient] = [await connect_to(program.port, receive_buffer=4096) for _ in range(20)]
    for client in clients:
        await client.send(get("h"))
        await client.fill(1)
    await asyncio.sleep(0.5)
    assert _memory(program) - before < 20 * 1024 * 1024
    await program.await_metric("pyproxy_backend_active", 20)


async def test_tunnel_is_held_back(proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """In a tunnel, too, whoever doesn't read holds the other back, and gets everything when it reads."""

    async def script(connection: OriginConnection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
        sender = Sender(connection, UPLOAD // len(PIECE))
        senders.append(sender)
        await sender.task
        connection.half_close()

    senders: list[Sender] = []
    origin.play(script)
    client = await connect(receive_buffer=4096)
    answer = await client.ask(get("solo.test", "/", "Connection: Upgrade", "Upgrade: x"))
    assert answer.status == 101
    await senders[0].stalled()
    assert senders[0].sent < UPLOAD / 2
    assert len(await client.read(UPLOAD)) == UPLOAD
    await client.expect_eof()
    client.half_close()
    (line,) = await proxy.log.await_lines(1, client.source)
    assert (line.status, line.end, line.bytes) == (101, "--", UPLOAD)


async def test_held_upload_of_a_client_that_leaves(
    start_program: StartProgram, start_origin: StartOrigin, connect_to: Connect
) -> None:
    """A client that resets while its upload is held back is noticed by a deadline at the latest; nothing is left."""
    origin = start_origin()
    origin.play(deaf)
    program = start_program(_unlimited(origin.port, idle="300ms", response="300ms"))
    client = await connect_to(program.port)
    await client.send(get("h", "/", f"Content-Length: {UPLOAD}", method="POST"))
    sender = Sender(client, UPLOAD // len(PIECE))
    await sender.stalled()
    sender.task.cancel()
    await asyncio.gather(sender.task, return_exceptions=True)
    client.reset()
    await program.settled()
    (line,) = await program.log.await_lines(1, client.source)
    assert (line.status, line.end) in {(499, "CR"), (504, "sH"), (504, "sD")}


async def test_expect_continue_reaches_the_second_backend(
    proxy: SharedProgram, connect: Connect, other: Origin
) -> None:
    """A client that waits for 100 before its body is served by the backend that takes the connection."""

    async def script(connection: OriginConnection) -> None:
        while True:
            await connection.request_head()
            await connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            assert await connection.read(len(body)) == body
            await connection.send(OK)

    body = chunked(b"hello")
    other.play(script)
    client = await connect()
    for _ in range(2):
        head = get("half.test", "/", "Expect: 100-continue", "Transfer-Encoding: chunked", method="POST")
        await client.send(head)
        assert (await client.read_response()).status == 100
        await client.send(body)
        assert (await client.read_response()).body == b"ok"
    lines = await proxy.log.await_lines(2, client.source)
    assert ["closed", "b"] in [line.ua for line in lines]
