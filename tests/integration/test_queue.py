"""``max_conns`` and the queue in front of real nginx nodes: how many they see at once, and who is served when."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from itertools import accumulate
from typing import Any

import pytest

from tests.integration.client import RawClient, get
from tests.integration.conftest import Connect, StartNginx, StartProgram
from tests.integration.nginx import Nginx
from tests.integration.ports import Ports
from tests.integration.program import Program

MAX_CONNS = 2
CLIENTS = 16
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
# nginx logs in whole milliseconds: what ends and what begins in the same one is not at the same time.
ROUNDING = 0.002


class Slow:
    """What the nodes themselves wait for: every request is answered when the test says so, or after a while."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.seconds = 0.1
        self._stopping = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def stop(self) -> None:
        """Let go of everything."""
        assert self._server is not None
        self._server.close()
        self._stopping.set()
        for writer in self._connections:
            writer.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), self.seconds)
                writer.write(ANSWER)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


@pytest.fixture
async def slow(ports: Ports) -> AsyncIterator[Slow]:
    """Something that takes its time."""
    origin = Slow(ports.take())
    await origin.start()
    yield origin
    await origin.stop()


def _pool(nodes: list[Nginx], workers: int = 1, **queue: Any) -> dict[str, Any]:
    backends = [{"name": node.name, "address": node.address, "max_conns": MAX_CONNS} for node in nodes]
    return {"workers": workers, "pools": {"web": {"backends": backends, "queue": {"timeout": "30s", **queue}}}}


def _start_nodes(start_nginx: StartNginx, slow: Slow, count: int = 2) -> list[Nginx]:
    extra = f"access_log times.log times; location /slow/ {{ proxy_pass http://127.0.0.1:{slow.port}; }}"
    return [start_nginx(f"n{number}", server=extra) for number in range(count)]


def _times(node: Nginx) -> list[tuple[float, float, int]]:
    """Beginning and end of each request of a node that has stopped, and the number in its path."""
    rows = [line.split() for line in (node.directory / "times.log").read_text().splitlines()]
    return [(float(end) - float(took), float(end), int(target.rpartition("/")[2])) for end, took, target in rows]


def _peak(times: list[tuple[float, float, int]]) -> int:
    """How many were in flight at once."""
    moves = [(begin + ROUNDING, 1) for begin, _, _ in times] + [(end - ROUNDING, -1) for _, end, _ in times]
    return max(accumulate(move for _, move in sorted(moves)))


async def _ask_in_turn(program: Program, connect_to: Connect, slow: Slow, count: int) -> list[RawClient]:
    """Let clients come one after another, each when the one before it waits or is served."""
    clients = []
    for number in range(count):
        client = await connect_to(program.port)
        await client.send(get("h", f"/slow/{number}"))
        clients.append(client)
        places = 2 * MAX_CONNS
        await program.await_metric("pyproxy_backend_active", min(number + 1, places))
        await program.await_metric("pyproxy_queue_length", max(number + 1 - places, 0))
    return clients


@pytest.mark.parametrize("workers", [1, 2])
async def test_nodes_never_see_more_than_they_may(
    workers: int, slow: Slow, start_nginx: StartNginx, start_program: StartProgram, connect_to: Connect
) -> None:
    """Everybody is served in the end, and no node ever has more than its limit and one for each further worker."""
    nodes = _start_nodes(start_nginx, slow)
    program = start_program(_pool(nodes, workers))
    clients = [await connect_to(program.port) for _ in range(CLIENTS)]
    answers = await asyncio.gather(*(client.ask(get("h", f"/slow/{n}")) for n, client in enumerate(clients)))
    assert [answer.status for answer in answers] == [200] * CLIENTS
    for node in nodes:
        node.stop()
        times = _times(node)
        assert len(times) > MAX_CONNS
        assert _peak(times) <= MAX_CONNS + workers - 1


async def test_first_come_first_served(
    slow: Slow, start_nginx: StartNginx, start_program: StartProgram, connect_to: Connect
) -> None:
    """Within one worker the order of arrival is the order of service."""
    nodes = _start_nodes(start_nginx, slow)
    slow.seconds = 2.0  # until everybody is there
    program = start_program(_pool(nodes))
    clients = await _ask_in_turn(program, connect_to, slow, 10)
    slow.seconds = 0.05
    for client in clients:
        assert (await client.read_response()).status == 200
    for node in nodes:
        node.stop()
    begun = sorted(time for node in nodes for time in _times(node))
    late = [number for _, _, number in begun if number >= 2 * MAX_CONNS]
    # Two places may become free in the same millisecond: who got which of them, a log can't tell.
    assert all(abs(place + 2 * MAX_CONNS - number) <= 3 for place, number in enumerate(late))


async def test_full_and_too_late(
    slow: Slow, start_nginx: StartNginx, start_program: StartProgram, connect_to: Connect
) -> None:
    """One too many is refused at once, who waits for too long a little later; a client that left is neither."""
    nodes = _start_nodes(start_nginx, slow)
    slow.seconds = 20.0
    program = start_program(_pool(nodes, size=2, timeout="2s"))
    clients = await _ask_in_turn(program, connect_to, slow, 2 * MAX_CONNS + 2)
    late = await connect_to(program.port)
    assert (await late.ask(get("h", "/slow/99"))).status == 503
    clients[-1].close()
    assert (await clients[-2].read_response()).status == 503
    for client, end in ((late, "PQ"), (clients[-1], "CQ"), (clients[-2], "sQ")):
        assert (await program.log.await_line(client.source)).end == end
    for client in (late, *clients[:-1]):
        client.close()
    await program.settled()
    assert program.metric("pyproxy_queue_length") == 0
