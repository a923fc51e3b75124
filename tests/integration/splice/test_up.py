"""Large bodies inside the kernel, up: the same bytes, ends and log lines as those that are copied."""

import asyncio

import pytest

from tests.integration.client import get, post
from tests.integration.origin import OK, OriginConnection, deaf
from tests.integration.splice.scene import (
    BOTH,
    CONTENT,
    HALF,
    LEAVE,
    MIB,
    SIZE,
    Scene,
    Taking,
    depart,
    head,
)
from tests.integration.test_flow import PIECE, UPLOAD, Sender
from tests.integration.wire import Truncated


@BOTH
async def test_upload(spliced: bool, scene: Scene, target: str) -> None:
    """8 MiB arrive as they were sent, also with the next request right behind them."""
    client = await scene.visit(spliced=spliced)
    before = scene.program.metric("pyproxy_bytes_total", direction="in")
    sent = b"".join(
        [
            post("web.test", CONTENT, target=target + "a"),
            post("web.test", CONTENT, target=target + "b"),
            get("web.test"),
        ]
    )
    with scene.worker.passing(2 * SIZE, spliced=spliced):
        sender = asyncio.create_task(client.send(sent))
        answers = await client.responses(3)
    await sender
    assert [answer.body.decode() for answer in answers] == [target + "a", target + "b", "/"]
    assert [request.body == CONTENT for request in scene.origin.requests[:2]] == [True, True]
    assert len(scene.origin.connections) == 1
    for turn in ("a", "b"):
        line = await scene.line(target + turn)
        assert (line.status, line.end, line.us) == (200, "--", ["200"])
    await scene.program.await_metric("pyproxy_bytes_total", before + len(sent), direction="in")


@BOTH
@pytest.mark.parametrize("piece", [1000, 100_000])
async def test_upload_that_begins_beside_its_head(piece: int, spliced: bool, scene: Scene) -> None:
    """Nothing of a body overtakes the head that came with its first bytes, on a connection that is there already."""
    client = await scene.visit(spliced=spliced)
    assert (await client.ask(get("web.test"))).status == 200
    upload = post("web.test", CONTENT, target="/up")
    with scene.worker.passing(SIZE, spliced=spliced):
        await client.send(upload[:piece])
        await asyncio.sleep(0.05)  # it is to be read by itself
        await client.send(upload[piece:])
        assert (await client.read_response()).body == b"/up"
    assert scene.origin.requests[-1].body == CONTENT
    assert len(scene.origin.connections) == 1


@BOTH
async def test_upload_after_100_continue(spliced: bool, scene: Scene) -> None:
    """A client that waits for leave to send its body."""

    async def script(connection: OriginConnection) -> None:
        await connection.request_head()
        await connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert await connection.read(SIZE) == CONTENT
        await connection.send(OK)
        await connection.read_rest()

    scene.origin.play(script)
    client = await scene.visit(spliced=spliced)
    await client.send(get("web.test", "/", "Expect: 100-continue", f"Content-Length: {SIZE}", method="PUT"))
    assert (await client.read_response()).status == 100
    with scene.worker.passing(SIZE, spliced=spliced):
        await client.send(CONTENT)
        assert (await client.read_response()).body == b"ok"


@BOTH
async def test_client_stops_sending(spliced: bool, hasty: Scene, target: str) -> None:
    """A body that stops coming for client.body_timeout: 408 cD, and the backend's attempt is cut."""
    client = await hasty.upload(Taking(), target, spliced=spliced)
    answer = await client.read_response()
    assert (answer.status, answer.get("connection")) == (408, b"close")
    await client.expect_eof()
    hasty.origin.connections[0].close()
    line = await hasty.line(target)
    assert (line.status, line.end, line.us) == (408, "cD", ["-"])
    await hasty.worker.await_splices(0)


@BOTH
async def test_client_that_sends_slowly(spliced: bool, hasty: Scene) -> None:
    """The body's timeout is between two reads."""
    client = await hasty.visit(spliced=spliced)
    with hasty.worker.passing(SIZE, spliced=spliced):
        await client.send(get("web.test", "/slow", f"Content-Length: {SIZE}", method="POST"))
        await client.drip(CONTENT, MIB, pause=0.07)
        assert (await client.read_response()).body == b"/slow"
    assert hasty.origin.requests[0].body == CONTENT


@LEAVE
@BOTH
async def test_client_leaves_its_upload(leave: str, spliced: bool, scene: Scene, target: str) -> None:
    """A client that leaves in the middle of its upload: 499 CR, and the backend sees its connection end."""
    script = Taking()
    client = await scene.upload(script, target, spliced=spliced)
    depart(client, leave)
    line = await scene.line(target)
    assert (line.status, line.end, line.us) == (499, "CR", ["-"])
    script.go.set()
    await scene.ended(target)
    assert len(scene.origin.connections[0].received) < SIZE


@BOTH
@pytest.mark.parametrize("then", ["close", "reset"])
async def test_backend_leaves_an_upload(then: str, spliced: bool, scene: Scene, target: str) -> None:
    """A backend that leaves in the middle of an upload without an answer: 502 SH."""
    go = asyncio.Event()

    async def script(connection: OriginConnection) -> None:
        await connection.request_head()
        await connection.read(HALF)
        await go.wait()
        if then == "close":
            connection.close()
        else:
            connection.reset()

    scene.origin.play(script)
    client = await scene.visit(spliced=spliced)
    await client.send(get("web.test", target, f"Content-Length: {UPLOAD}", method="POST"))
    sender = Sender(client, UPLOAD // len(PIECE))
    await scene.origin.request()
    await scene.worker.await_splices(spliced)
    go.set()
    answer = await client.read_response()
    assert (answer.status, answer.get("connection")) == (502, b"close")
    await asyncio.gather(sender.task, return_exceptions=True)
    line = await scene.line(target)
    assert (line.status, line.end, line.us) == (502, "SH", ["-"])
    await scene.worker.await_splices(0)


TOO_LARGE = b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno"


@BOTH
@pytest.mark.parametrize("then", ["take", "nothing", "close"])
async def test_early_answer(then: str, spliced: bool, scene: Scene, target: str) -> None:
    """An answer before the end of the upload reaches the client, whatever the backend does with the rest."""
    script = Taking(TOO_LARGE, then)
    client = await scene.upload(script, target, spliced=spliced, size=UPLOAD)
    sender = Sender(client, (UPLOAD - HALF) // len(PIECE))
    await asyncio.sleep(0.05)
    script.go.set()
    answer = await client.read_response()
    assert (answer.status, answer.body, answer.get("connection")) == (413, b"no", b"close")
    async with asyncio.timeout(4):
        await sender.task  # what is left of the body is taken and thrown away
    line = await scene.line(target)
    assert (line.status, line.end, line.us) == (413, "--", ["413"])
    await scene.worker.await_splices(0)


@BOTH
async def test_early_answer_that_is_reset(spliced: bool, scene: Scene, target: str) -> None:
    """A reset in an early answer that only the end of the connection ends isn't taken for that end."""
    script = Taking(b"HTTP/1.1 413 Too Large\r\n\r\nsome of it", "reset")
    client = await scene.upload(script, target, spliced=spliced, size=UPLOAD)
    sender = Sender(client, (UPLOAD - HALF) // len(PIECE))
    await asyncio.sleep(0.05)
    script.go.set()
    with pytest.raises(Truncated):
        await client.read_response()
    await asyncio.gather(sender.task, return_exceptions=True)
    line = await scene.line(target)
    assert (line.status, line.end, line.us) == (413, "SD", ["413"])
    await scene.worker.await_splices(0)


@BOTH
@pytest.mark.parametrize("answers", [False, True], ids=["no-answer", "early-answer"])
async def test_backend_takes_nothing(answers: bool, spliced: bool, scene: Scene, target: str) -> None:
    """A backend that stops taking the upload is given up after timeouts.idle: 504, or cut if it had answered."""

    async def answer(connection: OriginConnection) -> None:
        await connection.request_head()
        await connection.send(head(100) + b"x")
        await asyncio.Event().wait()

    scene.origin.play(answer if answers else deaf)
    client = await scene.visit(spliced=spliced)
    await client.send(get("hasty.test", target, f"Content-Length: {UPLOAD}", method="POST"))
    sender = Sender(client, UPLOAD // len(PIECE))
    await scene.worker.await_splices(spliced)
    if answers:
        with pytest.raises(Truncated):
            await client.read_response()
    else:
        answered = await client.read_response()
        assert (answered.status, answered.get("connection")) == (504, b"close")
    sender.task.cancel()
    await asyncio.gather(sender.task, return_exceptions=True)
    assert sender.sent < UPLOAD
    line = await scene.line(target)
    assert (line.status, line.end, line.us) == ((200, "sD", ["200"]) if answers else (504, "sH", ["-"]))
    await scene.worker.await_splices(0)
