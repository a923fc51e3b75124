"""A real WebSocket client and server, the `websockets` library's, through the tunnel."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_websocket
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosedOK

from tests.integration.client import unique_source
from tests.integration.shared import SharedProgram

LARGE = 1024 * 1024


async def _echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


@pytest.fixture
async def source(proxy: SharedProgram) -> AsyncIterator[str]:
    """Run an echo server as backend ``a``; give an address for the client to come from."""
    async with serve(_echo, "127.0.0.1", proxy.origin_port, max_size=2 * LARGE):
        yield unique_source()


def _open(proxy: SharedProgram, source: str) -> connect_websocket:
    uri = f"ws://solo.test:{proxy.port}/chat"
    return connect_websocket(
        uri,
        host="127.0.0.1",
        port=proxy.port,
        local_addr=(source, 0),
        max_size=2 * LARGE,
        proxy=None,
        compression=None,
    )


async def test_a_thousand_messages(proxy: SharedProgram, source: str) -> None:
    """
    A thousand small messages come back as they were.

    The tunnel closes cleanly and is one line of the log.
    """
    async with _open(proxy, source) as connection:
        for number in range(1000):
            await connection.send(f"message {number}")
            assert await connection.recv() == f"message {number}"
    (line,) = await proxy.log.await_lines(1, source)
    assert (line.request, line.status, line.end, line.us) == ("GET /chat HTTP/1.1", 101, "--", ["101"])
    assert line.bytes > 1000 * len("message 0")


async def test_a_thousand_messages_at_once(proxy: SharedProgram, source: str) -> None:
    """The same without waiting for each: order is kept."""
    messages = [f"message {number}" * (number % 50) for number in range(1000)]
    async with _open(proxy, source) as connection:
        sender = asyncio.create_task(_send_all(connection, messages))
        assert [await connection.recv() for _ in messages] == messages
        await sender


async def _send_all(connection: ClientConnection, messages: list[str]) -> None:
    for message in messages:
        await connection.send(message)


async def test_large_messages(proxy: SharedProgram, source: str) -> None:
    """Messages of a megabyte come back whole."""
    noise = random.Random(3)
    async with _open(proxy, source) as connection:
        for _ in range(5):
            message = noise.randbytes(LARGE)
            await connection.send(message)
            assert await connection.recv() == message


async def test_fragmented_messages(proxy: SharedProgram, source: str) -> None:
    """Messages in fragments, with pings in between, are one message there and back."""
    async with _open(proxy, source) as connection:
        for size in (0, 1, 125, 126, 65535, 65536):
            fragments = [b"a" * size, b"b", b"", b"c" * size]
            await connection.send(fragments)
            assert await connection.recv() == b"".join(fragments)
            await (await connection.ping())


async def test_server_closes(proxy: SharedProgram) -> None:
    """A close by the backend reaches the client as such, with its code."""

    async def goodbye(connection: ServerConnection) -> None:
        await connection.send("bye")
        await connection.close(1000, "done")

    source = unique_source()
    async with serve(goodbye, "127.0.0.1", proxy.origin_port), _open(proxy, source) as connection:
        assert await connection.recv() == "bye"
        with pytest.raises(ConnectionClosedOK) as caught:
            await connection.recv()
        assert caught.value.rcvd is not None
        assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (1000, "done")
    (line,) = await proxy.log.await_lines(1, source)
    assert (line.status, line.end) == (101, "--")
