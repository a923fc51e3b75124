"""Nodes that answer before they have read, and break off: what they said reaches the client, and is no failure."""

import asyncio
import contextlib

import pytest

from tests.integration.client import chunked, get
from tests.integration.conftest import Connect, StartOrigin, StartProgram
from tests.integration.origin import Origin, OriginConnection
from tests.integration.shared import SharedProgram

PIECE = bytes(64 * 1024)
BIG = b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbig\n"


async def refuse(connection: OriginConnection) -> None:
    """Read the head, answer, and close with the rest unread, so that the kernel sends RST."""
    await connection.request_head()
    await connection.send(BIG)
    connection.close()


UPLOADS = {
    "chunked": ("Transfer-Encoding: chunked", [chunked(PIECE)[:-5]] * 100),
    "short": ("Content-Length: 900000", [PIECE] * 13),
    "large": ("Content-Length: 8000000", [PIECE] * 122),
}


@pytest.mark.parametrize(("framing", "pieces"), UPLOADS.values(), ids=UPLOADS.keys())
async def test_an_upload_into_a_refusal(
    framing: str, pieces: list[bytes], start_program: StartProgram, start_origin: StartOrigin, connect_to: Connect
) -> None:
    """The client that goes on sending reads the 413 each time, the node is asked once and never ejected."""
    origin = start_origin()
    origin.play(refuse)
    pool = {"backends": [{"name": "a", "address": f"127.0.0.1:{origin.port}"}], "outlier": {"consecutive": 2}}
    program = start_program({"pools": {"web": pool}})
    sources: list[str] = []

    async def upload() -> None:
        client = await connect_to(program.port)
        sources.append(client.source)

        async def send() -> None:
            with contextlib.suppress(ConnectionError):
                for piece in pieces:
                    await client.send(piece)

        await client.send(get("h", "/", framing, method="POST"))
        sender = asyncio.create_task(send())
        answer = await client.read_response()
        assert (answer.status, answer.body) == (413, b"big\n")
        sender.cancel()
        client.close()

    for _ in range(5):
        await asyncio.gather(*[upload() for _ in range(4)])
    lines = [line for source in sources for line in await program.log.await_lines(1, source)]
    assert {(line.status, line.end, line.tries, line.ua[0]) for line in lines} == {(413, "--", 1, "a")}


async def test_nothing_said_is_still_a_failure(proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """A node that breaks off in the upload without a word has not answered: 502 SH."""

    async def script(connection: OriginConnection) -> None:
        await connection.request_head()
        connection.close()

    origin.play(script)
    client = await connect()
    await client.send(get("once.test", "/", "Content-Length: 100000", method="POST") + bytes(50000))
    assert (await client.read_response()).status == 502
    line = await proxy.log.await_line(client.source)
    assert (line.status, line.end, line.us) == (502, "SH", ["-"])
