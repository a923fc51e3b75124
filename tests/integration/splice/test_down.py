"""Large bodies inside the kernel, down: the same bytes, ends and log lines as those that are copied."""

import asyncio

import pytest

from tests.integration.client import RawClient, chunked, get, post
from tests.integration.origin import OriginConnection, reply, serve
from tests.integration.splice.scene import (
    BOTH,
    CONTENT,
    HALF,
    LEAVE,
    MIB,
    SIZE,
    SPLICE_BYTES,
    SPLICES_MAX,
    Paused,
    Scene,
    depart,
    endless,
    head,
)
from tests.integration.test_flow import PIECE, UPLOAD
from tests.integration.wire import DEADLINE, End, Truncated


@BOTH
async def test_download(spliced: bool, scene: Scene, target: str) -> None:
    """8 MiB arrive as they were sent, both connections serve the next request, and the log and metrics say how much."""
    scene.origin.play(serve(body=CONTENT))
    client = await scene.visit(spliced=spliced)
    before = [scene.program.metric("pyproxy_bytes_total", direction=which) for which in ("in", "out")]
    sent = 0
    with scene.worker.passing(2 * SIZE, spliced=spliced):
        for turn in ("a", "b"):
            request = get("web.test", target + turn)
            sent += len(request)
            answer = await client.ask(request)
            assert (answer.status, answer.body == CONTENT) == (200, True)
    assert len(scene.origin.connections) == 1
    for turn in ("a", "b"):
        line = await scene.line(target + turn)
        assert (line.status, line.bytes, line.end, line.us) == (200, SIZE, "--", ["200"])
    await scene.program.await_metric("pyproxy_bytes_total", before[0] + sent, direction="in")
    await scene.program.await_metric("pyproxy_bytes_total", before[1] + len(client.received), direction="out")


async def test_pipelined_downloads(scene: Scene) -> None:
    """Answers to requests that came in one piece are all spliced, one after the other."""
    scene.origin.play(serve(body=CONTENT))
    client = await scene.visit()
    with scene.worker.passing(3 * SIZE, spliced=True):
        await client.send(get("web.test") * 3)
        assert [answer.body == CONTENT for answer in await client.responses(3)] == [True] * 3
    assert len(scene.origin.connections) == 1


@pytest.mark.parametrize(
    ("size", "spliced"), [(SPLICE_BYTES, True), (SPLICE_BYTES - 1, False)], ids=["enough", "not-enough"]
)
async def test_what_is_large(size: int, spliced: bool, scene: Scene) -> None:
    """A body is spliced if this much of it is to come."""
    go = asyncio.Event()

    async def script(connection: OriginConnection) -> None:
        await connection.request()
        await connection.send(head(size))
        await go.wait()
        await connection.send(CONTENT[:size])
        await connection.read_rest()

    scene.origin.play(script)
    client = await scene.visit()
    await client.send(get("web.test"))
    await client.read_until(b"\r\n\r\n")
    assert scene.worker.splices == spliced
    with scene.worker.passing(size, spliced=spliced):
        go.set()
        assert await client.read(size) == CONTENT[:size]


async def test_no_body_to_splice(scene: Scene) -> None:
    """The length in an answer to a HEAD, or in a 304, is that of no body."""
    scene.origin.play(
        reply(head(), b"HTTP/1.1 304 Not Modified\r\nContent-Length: %d\r\n\r\n" % SIZE, head() + CONTENT)
    )
    client = await scene.visit()
    for method, status in (("HEAD", 200), ("GET", 304)):
        answer = await client.ask(get("web.test", method=method))
        assert (answer.status, answer.get("content-length")) == (status, b"%d" % SIZE)
        assert scene.worker.splices == 0
    with scene.worker.passing(SIZE, spliced=True):
        assert (await client.ask(get("web.test"))).body == CONTENT
    assert len(scene.origin.connections) == 1


async def test_chunked_is_copied(scene: Scene) -> None:
    """A body in chunks has to be looked at, whichever way it goes."""
    pieces = [CONTENT[at : at + 100_000] for at in range(0, SIZE, 100_000)]
    scene.origin.play(reply(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(*pieces)))
    client = await scene.visit()
    with scene.worker.passing(SIZE, spliced=False):
        assert (await client.ask(get("web.test"))).body == CONTENT
    with scene.worker.passing(SIZE, spliced=False):
        upload = get("web.test", "/up", "Transfer-Encoding: chunked", method="POST") + chunked(*pieces)
        assert (await client.ask(upload)).body == b"/up"
    assert scene.origin.requests[-1].body == CONTENT


async def test_unix_backend_is_copied(scene: Scene) -> None:
    """Only bytes between two TCP sockets are spliced."""

    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(SIZE)
        writer.write(head() + body)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_unix_server(shout, scene.program.path.with_name("b.sock"))
    client = await scene.visit()
    with scene.worker.passing(2 * SIZE, spliced=False):
        sender = asyncio.create_task(client.send(post("unix.test", CONTENT)))
        assert (await client.read_response()).body == CONTENT
        await sender
    server.close()
    await server.wait_closed()


async def test_length_that_nobody_knows_is_copied(scene: Scene) -> None:
    """So has a body that ends with its connection, because it may be cut."""
    scene.origin.play(reply(b"HTTP/1.1 200 OK\r\n\r\n" + CONTENT, then="close"))
    client = await scene.visit()
    with scene.worker.passing(SIZE, spliced=False):
        assert (await client.ask(get("web.test"))).body == CONTENT


async def test_many_at_once(scene: Scene, target: str) -> None:
    """As many as there may be are spliced, the others copied; each gets its own bytes."""
    go = asyncio.Event()
    size = 3 * MIB

    def content(request: str) -> bytes:
        start = int(request.rsplit("-", maxsplit=1)[-1]) * 1000
        return CONTENT[start : start + size]

    async def script(connection: OriginConnection) -> None:
        body = content((await connection.request()).target.decode())
        await connection.send(head(size) + body[: size // 2])
        await go.wait()
        await connection.send(body[size // 2 :])
        await connection.read_rest()

    async def take(client: RawClient, request: str) -> None:
        assert (await client.read_response()).body == content(request)

    scene.origin.play(script)
    requests = [f"{target}-{number}" for number in range(SPLICES_MAX + 8)]
    clients = [await scene.visit() for _ in requests]
    for client, request in zip(clients, requests, strict=True):
        await client.send(get("web.test", request))
    async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as tasks:
        for client, request in zip(clients, requests, strict=True):
            tasks.create_task(take(client, request))
        while not all(len(client.received) > size // 2 for client in clients):
            await asyncio.sleep(0.01)
        assert scene.worker.splices == SPLICES_MAX
        go.set()
    for request in requests:
        line = await scene.line(request)
        assert (line.status, line.bytes, line.end) == (200, size, "--")
    assert (scene.worker.splices, scene.worker.pipes) == (0, SPLICES_MAX)


@BOTH
@pytest.mark.parametrize("then", ["close", "reset"])
async def test_backend_breaks_off(then: str, spliced: bool, scene: Scene, target: str) -> None:
    """A backend that leaves in the middle of its answer: the client can see that it is cut, SD."""
    script = Paused(then)
    client = await scene.download(script, target, spliced=spliced)
    script.go.set()
    await client.expect_eof()
    line = await scene.line(target)
    assert (line.status, line.bytes, line.end, line.us) == (200, HALF, "SD", ["200"])
    await scene.worker.await_splices(0)


@BOTH
async def test_backend_stalls(spliced: bool, scene: Scene, target: str) -> None:
    """An answer that stops coming for timeouts.idle is given up: sD."""
    client = await scene.download(Paused(), target, spliced=spliced, host="hasty.test")
    await client.expect_eof()
    line = await scene.ended(target)
    assert (line.status, line.bytes, line.end, line.us) == (200, HALF, "sD", ["200"])
    assert line.rt >= 0.3


@BOTH
async def test_slow_backend_is_not_stalled(spliced: bool, scene: Scene) -> None:
    """The idle timeout is between two reads: an answer that takes longer in all is delivered."""

    async def script(connection: OriginConnection) -> None:
        await connection.request()
        await connection.send(head())
        await connection.drip(CONTENT, MIB, pause=0.07)

    scene.origin.play(script)
    client = await scene.visit(spliced=spliced)
    with scene.worker.passing(SIZE, spliced=spliced):
        assert (await client.ask(get("hasty.test"))).body == CONTENT


@LEAVE
@BOTH
async def test_client_leaves_a_slow_backend(leave: str, spliced: bool, scene: Scene, target: str) -> None:
    """A client that leaves while the rest of its answer is awaited: CD, and the backend is let go."""
    client = await scene.download(Paused(), target, spliced=spliced)
    depart(client, leave)
    line = await scene.ended(target)
    assert (line.status, line.bytes, line.end, line.us) == (200, HALF, "CD", ["200"])


@LEAVE
@BOTH
async def test_client_leaves_a_fast_backend(leave: str, spliced: bool, scene: Scene, target: str) -> None:
    """The same when there is more to come than the client takes."""
    scene.origin.play(endless)
    client = await scene.visit(spliced=spliced, receive_buffer=4096)
    await client.send(get("web.test", target))
    await client.read_until(b"\r\n\r\n")
    await client.read(1000)
    await scene.worker.await_splices(spliced)
    await asyncio.sleep(0.1)  # until all buffers are full; if they aren't, that is all right too
    depart(client, leave)
    line = await scene.ended(target)
    assert (line.status, line.end, line.us) == (200, "CD", ["200"])
    assert line.bytes >= 1000


@BOTH
async def test_client_leaves_with_requests_waiting(spliced: bool, scene: Scene, target: str) -> None:
    """A client that resets is noticed by writing to it, when reading from it has to wait."""
    scene.origin.play(endless)
    client = await scene.visit(spliced=spliced, receive_buffer=4096)
    await client.send(get("web.test", target) + get("web.test", target + "-next"))
    await client.read_until(b"\r\n\r\n")
    await client.read(1000)
    await scene.worker.await_splices(spliced)
    client.reset()
    line = await scene.ended(target)
    assert (line.status, line.end, line.us) == (200, "CD", ["200"])


@BOTH
async def test_client_stops_reading(spliced: bool, hasty: Scene, target: str) -> None:
    """A client that takes nothing for client.write_timeout is cut off: cD, and the backend is let go."""
    hasty.origin.play(endless)
    client = await hasty.visit(spliced=spliced, receive_buffer=4096)
    await client.send(get("web.test", target))
    await hasty.worker.await_splices(spliced)
    line = await hasty.ended(target)
    assert (line.status, line.end, line.us) == (200, "cD", ["200"])
    assert line.rt >= 0.3
    with pytest.raises(Truncated):
        await client.read_response()


@pytest.mark.parametrize("framing", [f"Content-Length: {1000 * UPLOAD}", "Transfer-Encoding: chunked"])
async def test_client_that_stopped_reading_is_reset(framing: str, hasty: Scene, target: str) -> None:
    """What it hasn't taken doesn't stay behind in the kernel, waiting for it."""

    async def script(connection: OriginConnection) -> None:
        await connection.request()
        await connection.send(f"HTTP/1.1 200 OK\r\n{framing}\r\n\r\n".encode())
        while True:
            await connection.send(b"%x\r\n" % len(PIECE) + PIECE + b"\r\n")

    hasty.origin.play(script)
    client = await hasty.visit(receive_buffer=4096)
    await client.send(get("web.test", target))
    await hasty.worker.await_splices("Length" in framing)
    assert (await hasty.ended(target)).end == "cD"
    await client.read_rest()
    assert client.end is End.RESET


@BOTH
async def test_client_that_reads_slowly(spliced: bool, hasty: Scene, target: str) -> None:
    """A client is served to the end if it always takes something in time, however little."""
    hasty.origin.play(serve(body=CONTENT))
    client = await hasty.visit(spliced=spliced, receive_buffer=4096)
    await client.send(get("web.test", target))
    for _ in range(12):
        await client.fill(16 * 1024)
        await asyncio.sleep(0.1)
    assert hasty.worker.splices == spliced
    assert (await client.read_response()).body == CONTENT
    line = await hasty.line(target)
    assert (line.bytes, line.end) == (SIZE, "--")


async def test_memory_of_clients_that_do_not_read(scene: Scene) -> None:
    """Twenty downloads that nobody reads are held back, and not in the worker's memory."""
    scene.origin.play(endless)
    before = scene.worker.memory
    clients = [await scene.visit(receive_buffer=4096) for _ in range(20)]
    for client in clients:
        await client.send(get("web.test"))
        await client.fill(1)
    await scene.worker.await_splices(20)
    await asyncio.sleep(0.3)
    assert scene.worker.memory - before < 10 * MIB
