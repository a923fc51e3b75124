"""Large bodies inside the kernel, both ways and in trouble: the same bytes and ends as those that are copied."""

import asyncio
import fcntl
import struct
import termios

import pytest

from tests.integration.client import get, post
from tests.integration.conftest import Connect, StartOrigin, StartProgram
from tests.integration.origin import OK, OriginConnection, reply, serve
from tests.integration.splice.scene import (
    BOTH,
    CONTENT,
    HALF,
    MIB,
    SIZE,
    SPLICES_MAX,
    Paused,
    Scene,
    Taking,
    Worker,
    depart,
    echo,
    head,
    pools,
)
from tests.integration.test_flow import PIECE, UPLOAD, Sender
from tests.integration.wire import DEADLINE


@BOTH
async def test_large_both_ways(spliced: bool, scene: Scene) -> None:
    """A large body is answered with a large one, twice."""
    scene.origin.play(echo)
    client = await scene.visit(spliced=spliced)
    for _ in range(2):
        with scene.worker.passing(2 * SIZE, spliced=spliced):
            sender = asyncio.create_task(client.send(post("web.test", CONTENT)))
            assert (await client.read_response()).body == CONTENT
            await sender
    assert len(scene.origin.connections) == 1


@pytest.mark.parametrize("first", ["answer", "body"])
async def test_both_ways_at_once(first: str, scene: Scene, target: str) -> None:
    """Of two bodies that pass at the same time one is spliced and one copied; both are whole."""
    taken = b""

    async def script(connection: OriginConnection) -> None:
        nonlocal taken
        await connection.request_head()
        if first == "body":
            taken = await connection.read(HALF)
        await connection.send(head() + CONTENT[:HALF])
        taken += await connection.read(SIZE - len(taken))
        await connection.send(CONTENT[HALF:])
        await serve()(connection)

    scene.origin.play(script)
    client = await scene.visit()
    await client.send(get("web.test", target, f"Content-Length: {SIZE}", method="POST"))
    if first == "answer":
        await client.read_until(b"\r\n\r\n")
        await client.read(HALF)
        assert scene.worker.splices == 1
    await client.send(CONTENT[:HALF])
    if first == "body":
        await client.read_until(b"\r\n\r\n")
        await client.read(HALF)
    assert scene.worker.splices == 1
    await client.send(CONTENT[HALF:])
    assert await client.read(HALF) == CONTENT[HALF:]
    assert taken == CONTENT
    line = await scene.line(target)
    assert (line.status, line.bytes, line.end) == (200, SIZE, "--")


@BOTH
async def test_backend_stalls_after_an_upload(spliced: bool, scene: Scene, target: str) -> None:
    """A backend that stops answering is given up, also if it has held back an upload and taken it since."""
    go = asyncio.Event()

    async def script(connection: OriginConnection) -> None:
        await connection.request_head()
        await connection.send(head() + CONTENT[:HALF])
        await go.wait()
        await connection.read(UPLOAD)
        await connection.read_rest()

    scene.origin.play(script)
    client = await scene.visit(spliced=spliced)
    await client.send(get("hasty.test", target, f"Content-Length: {UPLOAD}", method="POST"))
    await client.read_until(b"\r\n\r\n")
    await client.read(HALF)
    assert scene.worker.splices == spliced
    sender = Sender(client, UPLOAD // len(PIECE))
    await asyncio.sleep(0.1)
    assert sender.sent < UPLOAD
    go.set()
    await sender.task
    async with asyncio.timeout(3):
        assert await client.read_rest() == b""
    line = await scene.ended(target)
    assert (line.status, line.bytes, line.end) == (200, HALF, "sD")


@BOTH
async def test_client_stops_sending_during_an_answer(spliced: bool, hasty: Scene, target: str) -> None:
    """A client that stops sending its body is cut off after client.body_timeout, however busily it is answered: cD."""

    async def script(connection: OriginConnection) -> None:
        await connection.request_head()
        await connection.send(head())
        await connection.drip(CONTENT, SIZE // 40, pause=0.05)

    hasty.origin.play(script)
    client = await hasty.visit(spliced=spliced)
    await client.send(get("web.test", target, f"Content-Length: {SIZE}", method="POST"))
    await client.read_until(b"\r\n\r\n")
    await hasty.worker.await_splices(spliced)
    await client.send(b"some of it")
    await client.read_rest()
    line = await hasty.ended(target)
    assert (line.status, line.end) == (200, "cD")


@BOTH
async def test_surplus_reaches_nobody(spliced: bool, scene: Scene) -> None:
    """What a backend sends behind its answer is no answer to the next request, not even to one that waits already."""
    evil = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL"
    scene.origin.play(reply(head() + CONTENT + evil, then="hang"), serve())
    client = await scene.visit(spliced=spliced)
    with scene.worker.passing(SIZE, spliced=spliced):
        await client.send(get("web.test", "/1") + get("web.test", "/2"))
        first, second = await client.responses(2)
    assert first.body == CONTENT
    assert second.body == b"/2"
    assert len(scene.origin.connections) == 2


# the program's own affairs


@pytest.mark.parametrize("grace", ["5s", "300ms"])
async def test_program_stops(
    grace: str, start_program: StartProgram, start_origin: StartOrigin, connect_to: Connect
) -> None:
    """What is under way is finished within the grace, and cut after it."""
    origin = start_origin()
    program = start_program({"pools": {"web": pools(origin.port)["web"]}, "shutdown_grace": grace})
    worker = Worker(program)
    down, up = Paused(), Taking()
    origin.play(down, up)
    loading, sending = await connect_to(program.port), await connect_to(program.port)
    await loading.send(get("h"))
    await loading.read_until(b"\r\n\r\n")
    await loading.read(HALF)
    await sending.send(post("h", CONTENT)[: HALF - SIZE])
    await up.has_stopped.wait()
    assert worker.splices == 2
    program.terminate()
    await asyncio.sleep(0.1)
    if grace == "5s":
        down.go.set()
        up.go.set()
        assert await loading.read(HALF) == CONTENT[HALF:]
        await loading.expect_eof()
        await sending.send(CONTENT[HALF:])
        answer = await sending.read_response()
        assert (answer.status, answer.get("connection")) == (200, b"close")
        assert up.body == CONTENT
        ends = (200, "--"), (200, "--")
    else:
        await loading.expect_eof()
        answer = await sending.read_response()
        assert (answer.status, answer.get("connection")) == (503, b"close")
        ends = (200, "PD"), (503, "PD")
    sending.close()
    assert await program.exited() == 0
    for client, end in zip((loading, sending), ends, strict=True):
        (line,) = await program.log.await_lines(1, client.source)
        assert (line.status, line.end) == end


async def test_descriptors_are_not_lost(scene: Scene) -> None:
    """A hundred downloads that are left at any point leave only pipes that can be used again."""
    scene.origin.play(serve(body=CONTENT[: 3 * MIB]))
    client = await scene.visit()
    assert len((await client.ask(get("web.test"))).body) == 3 * MIB
    assert scene.worker.pipes >= 1
    for number in range(100):
        each = await scene.visit()
        await each.send(get("web.test"))
        await each.read(number * 30_000)
        depart(each, ("close", "reset", "half-close")[number % 3])
    await scene.worker.await_splices(0)
    with scene.worker.passing(3 * MIB, spliced=True):
        assert len((await client.ask(get("web.test"))).body) == 3 * MIB
    assert scene.worker.pipes <= SPLICES_MAX


@pytest.mark.parametrize("way", ["down", "up"])
async def test_out_of_descriptors(
    way: str, start_program: StartProgram, start_origin: StartOrigin, connect_to: Connect
) -> None:
    """A splice takes four descriptors; without them the body is copied."""
    origin = start_origin()
    origin.play(reply(OK, *[head() + CONTENT] * 7) if way == "down" else serve())
    request = get("h") if way == "down" else post("h", CONTENT)
    program = start_program({"pools": {"web": pools(origin.port)["web"]}})
    client = await connect_to(program.port)
    await client.ask(get("h"))
    worker = Worker(program)
    # A pipe that was made for nothing serves the next: then two are enough.
    for room, spliced in ((0, False), (1, False), (2, None), (3, None), (4, True), (1, False), (0, False)):
        with worker.room(room), worker.passing(SIZE, spliced=spliced):
            sender = asyncio.create_task(client.send(request))
            answer = await client.read_response()
            await sender
        assert answer.status == 200
        assert (answer if way == "down" else origin.requests[-1]).body == CONTENT
        assert (worker.splices, worker.others) == (0, [])
        assert worker.pipes <= 1


async def test_an_answer_is_heard_out_although_a_write_failed(scene: Scene, target: str) -> None:
    """A backend breaks off while its answer is spliced to a slow client: all that had come passes before it is cut."""
    arrived = 0
    has_left = asyncio.Event()

    async def script(connection: OriginConnection) -> None:
        nonlocal arrived
        await connection.request_head()
        sent = head(1000 * MIB)
        connection.sock.send(sent)
        while True:
            try:
                arrived += connection.sock.send(PIECE)
            except BlockingIOError:
                unsent = struct.unpack("i", fcntl.ioctl(connection.sock, termios.TIOCOUTQ, b"\0\0\0\0"))[0]
                await asyncio.sleep(0.2)  # until the kernel at the other end takes no more either
                if unsent == struct.unpack("i", fcntl.ioctl(connection.sock, termios.TIOCOUTQ, b"\0\0\0\0"))[0]:
                    arrived -= unsent
                    break
        connection.reset()
        has_left.set()

    scene.origin.play(script)
    client = await scene.visit()
    await client.send(get("web.test", target, "Transfer-Encoding: chunked", method="POST") + b"1\r\nx\r\n")
    async with asyncio.timeout(DEADLINE):
        await has_left.wait()
    before = len(scene.worker.others)
    await client.send(b"1\r\nx\r\n")
    async with asyncio.timeout(DEADLINE):
        while len(scene.worker.others) == before:
            await asyncio.sleep(0.005)
    await client.read_until(b"\r\n\r\n")
    assert len(await client.read_rest()) >= arrived > MIB
    line = await scene.line(target)
    assert (line.status, line.end) == (200, "SD")
    await scene.worker.await_splices(0)
