"""SIGTERM: what is in flight is finished, what is idle is closed, what is new is refused."""

import asyncio
import os
import signal
from typing import Any

import pytest

from tests.integration.client import RawClient, get
from tests.integration.conftest import Connect, StartOrigin, StartProgram
from tests.integration.origin import OK, Origin, OriginConnection, hang, reply
from tests.integration.program import Program
from tests.integration.wire import DEADLINE, End


def _config(port: int, **config: Any) -> dict[str, Any]:
    return {"pools": {"web": {"backends": [{"name": "a", "address": f"127.0.0.1:{port}"}]}}, **config}


class Held:
    """A script that holds its answer back until it is told to go."""

    def __init__(self, before: bytes = b"", after: bytes = OK) -> None:
        self.go = asyncio.Event()
        self._before = before
        self._after = after

    async def __call__(self, connection: OriginConnection) -> None:
        """Play it."""
        await connection.request()
        await connection.send(self._before)
        await self.go.wait()
        await connection.send(self._after)
        await connection.read_rest()


async def _refused(port: int) -> None:
    """Wait until nobody takes connections on a port any more."""
    async with asyncio.timeout(DEADLINE):
        while True:
            try:
                (await RawClient.connect(port)).close()
            except ConnectionRefusedError:
                return
            except ConnectionResetError:
                pass  # it came in the very moment in which the listener was closed
            await asyncio.sleep(0.01)


async def _start_and_ask(
    start_program: StartProgram, connect_to: Connect, origin: Origin, **config: Any
) -> tuple[Program, RawClient]:
    program = start_program(_config(origin.port, **config))
    client = await connect_to(program.port)
    await client.send(get("h", "/running"))
    await origin.request()
    return program, client


async def test_a_signal_to_all_processes_is_one_to_the_first(
    start_program: StartProgram, start_origin: StartOrigin, connect_to: Connect
) -> None:
    """As systemd stops a service: the workers go on until the supervisor says that they are done."""
    origin = start_origin()
    held = Held()
    origin.play(held)
    program, client = await _start_and_ask(start_program, connect_to, origin)
    for pid in program.workers():
        os.kill(pid, signal.SIGTERM)
    program.terminate()
    await _refused(program.port)
    held.go.set()
    assert (await client.read_response()).status == 200
    assert await program.exited() == 0


async def test_running_request_is_finished(
    start_program: StartProgram, start_origin: StartOrigin, connect_to: Connect
) -> None:
    """
    A request in flight gets its answer, which says close.

    Idle connections are closed, new ones refused.
    """
    origin = start_origin()
    held = Held()
    origin.play(held)
    program, client = await _start_and_ask(start_program, connect_to, origin)
    origin.play(reply(OK))
    idle = await connect_to(program.port)
    assert (await idle.ask(get("h"))).status == 200
    program.terminate()
    await idle.expect_eof()
    await _refused(program.port)
    assert program.process.poll() is None, "it did not wait for the running request"
    held.go.set()
    answer = await client.read_response()
    assert (answer.status, answer.body, answer.get("connection")) == (200, b"ok", b"close")
    await client.expect_eof()
    assert await program.exited() == 0
    (line,) = await program.log.await_lines(1, client.source)
    assert (line.status, line.end) == (200, "--")


async def test_readyz_says_no_while_stopping(
    start_program: StartProgram, start_origin: StartOrigin, connect_to: Connect
) -> None:
    """From the signal on, /readyz is 503 and /healthz still 200."""
    origin = start_origin()
    held = Held()
    origin.play(held)
    program, client = await _start_and_ask(start_program, connect_to, origin)
    program.terminate()
    async with asyncio.timeout(DEADLINE):
        while program.admin("/readyz")[0] != 503:
            await asyncio.sleep(0.01)
    assert program.admin("/healthz")[0] == 200
    held.go.set()
    assert (await client.read_response()).status == 200
    assert await program.exited() == 0


async def test_body_under_way_is_finished(
    start_program: StartProgram, start_origin: StartOrigin, connect_to: Connect
) -> None:
    """A response whose head is out already is finished too, and its connection closed."""
    origin = start_origin()
    held = Held(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", b"world")
    origin.play(held)
    program, client = await _start_and_ask(start_program, connect_to, origin)
    await client.read_until(b"hello")
    program.terminate()
    await _refused(program.port)
    held.go.set()
    assert await client.read(5) == b"world"
    await client.expect_eof()
    assert await program.exited() == 0


async def test_grace_ends_before_the_answer(
    start_program: StartProgram, start_origin: StartOrigin, connect_to: Connect
) -> None:
    """A request still waiting when the grace ends is answered 503 and logged PD."""
    origin = start_origin()
    origin.play(hang)
    program, client = await _start_and_ask(start_program, connect_to, origin, shutdown_grace="300ms")
    program.terminate()
    answer = await client.read_response()
    assert (answer.status, answer.get("connection")) == (503, b"close")
    assert await program.exited() == 0
    (line,) = await program.log.await_lines(1, client.source)
    assert (line.status, line.end, line.ua) == (503, "PD", ["a"])


async def test_grace_ends_in_the_body(
    start_program: StartProgram, start_origin: StartOrigin, connect_to: Connect
) -> None:
    """A response under way when the grace ends is cut visibly: PD."""
    origin = start_origin()
    origin.play(reply(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", then="hang"))
    program, client = await _start_and_ask(start_program, connect_to, origin, shutdown_grace="300ms")
    await client.read_until(b"hello")
    program.terminate()
    await client.read_rest()
    assert client.received.endswith(b"hello")
    assert await program.exited() == 0
    (line,) = await program.log.await_lines(1, client.source)
    assert (line.status, line.end) == (200, "PD")


async def test_tunnel_lives_on_until_the_grace_ends(
    start_program: StartProgram, start_origin: StartOrigin, connect_to: Connect
) -> None:
    """A tunnel goes on while the program stops, and is closed and logged PD when the grace ends."""

    async def script(connection: OriginConnection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
        while await connection.fill():
            await connection.send(await connection.read(len(connection.unread())))

    origin = start_origin()
    origin.play(script)
    program = start_program(_config(origin.port, shutdown_grace="1s"))
    client = await connect_to(program.port)
    assert (await client.ask(get("h", "/", "Connection: Upgrade", "Upgrade: x"))).status == 101
    program.terminate()
    await _refused(program.port)
    await client.send(b"alive")
    assert await client.read(5) == b"alive"
    await client.read_rest()
    assert await program.exited() == 0
    (line,) = await program.log.await_lines(1, client.source)
    assert (line.status, line.end) == (101, "PD")


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
async def test_nothing_to_do(
    sign: signal.Signals, start_program: StartProgram, start_origin: StartOrigin, connect_to: Connect
) -> None:
    """With nothing in flight the program ends at once, exit code 0, whatever the grace."""
    origin = start_origin()
    program = start_program(_config(origin.port, shutdown_grace="60s"))
    idle = await connect_to(program.port)
    assert (await idle.ask(get("h"))).status == 200
    program.process.send_signal(sign)
    await idle.expect_eof()
    assert await program.exited() == 0
    assert await origin.connections[0].ended() is not End.OPEN


async def test_pipelined_requests_while_stopping(
    start_program: StartProgram, start_origin: StartOrigin, connect_to: Connect
) -> None:
    """
    The request being served is answered, with close if it is the last.

    Those behind it are never half-served.
    """
    origin = start_origin()
    held = Held()
    origin.play(held)
    program = start_program(_config(origin.port))
    client = await connect_to(program.port)
    await client.send(get("h", "/1") + get("h", "/2"))
    await origin.request()
    program.terminate()
    await _refused(program.port)
    origin.play(reply(OK, then="hang"))
    held.go.set()
    first = await client.read_response()
    assert first.status == 200
    if first.get("connection") == b"close":
        assert await client.read_rest() == b""
    else:
        second = await client.read_response()
        assert (second.status, second.get("connection")) == (200, b"close")
    assert await program.exited() == 0


async def test_second_signal_ends_at_once(
    start_program: StartProgram, start_origin: StartOrigin, connect_to: Connect
) -> None:
    """A second SIGTERM doesn't wait for anything, and the exit code says so."""
    origin = start_origin()
    origin.play(hang)
    program, client = await _start_and_ask(start_program, connect_to, origin, shutdown_grace="60s")
    program.exit_code = 1
    program.terminate()
    await _refused(program.port)
    program.terminate()
    assert await program.exited() == 1
    assert await client.read_rest() == b""
