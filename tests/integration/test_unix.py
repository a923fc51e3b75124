"""The real program listening on unix sockets and dialling them."""

import asyncio
import http.client
import json
import os
import signal
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.client import get
from tests.integration.conftest import Connect, StartProgram
from tests.integration.peers import nginx
from tests.integration.ports import Ports
from tests.integration.program import Program
from tests.integration.wire import DEADLINE, Message, parse_head


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a socket shall be."""
    return tmp_path / "x.sock"


async def ask(path: Path, raw: bytes) -> Message:
    """Send a request over a connection of its own, which the other side has to close."""
    async with asyncio.timeout(DEADLINE):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(raw)
        received = await reader.read()
        writer.close()
        await writer.wait_closed()
    head, end, body = received.partition(b"\r\n\r\n")
    return Message(received, *parse_head(head + end), body=body)


def once(target: str = "/", *headers: str) -> bytes:
    """A request that closes its connection."""
    return get("h", target, "Connection: close", *headers)


SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"


class Node(asyncio.Protocol):
    """A backend's end of a connection: answers with the target, or switches protocols and shouts back."""

    def __init__(self, connections: list["Node"]) -> None:
        connections.append(self)
        self.requests: list[Message] = []
        self.closed = asyncio.Event()
        self._waiting = b""
        self._is_tunnel = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self._is_tunnel:
            self.transport.write(data.upper())
            return
        *heads, self._waiting = (self._waiting + data).split(b"\r\n\r\n")
        for head in heads:
            raw = head + b"\r\n\r\n"
            self.requests.append(Message(raw, *parse_head(raw), body=b""))
            self.transport.write(self._answer(self.requests[-1]))

    def _answer(self, request: Message) -> bytes:
        self._is_tunnel = b"upgrade" in request.names()
        ok = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(request.target), request.target)
        return SWITCH if self._is_tunnel else ok

    def eof_received(self) -> bool:
        if self._is_tunnel:
            self.transport.write(b"END")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()


@asynccontextmanager
async def node(path: Path) -> AsyncIterator[list[Node]]:
    """Run a backend; its connections are kept until the end."""
    connections: list[Node] = []
    server = await asyncio.get_running_loop().create_unix_server(lambda: Node(connections), path)
    async with server:
        yield connections
        for connection in connections:
            connection.transport.abort()
            await connection.closed.wait()


def on(path: Path, **more: Any) -> dict[str, Any]:
    """A configuration that listens on a path and has its only backend beside it."""
    return {
        "listeners": [{"name": "main", "bind": f"unix:{path}", **more}],
        "pools": {"web": {"backends": [{"name": "app", "address": f"unix:{path}.app"}]}},
    }


def app(path: Path) -> Path:
    """Where the backend of ``on`` listens."""
    return Path(f"{path}.app")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
async def test_from_socket_to_socket(path: Path, start_program: StartProgram) -> None:
    """Mode and owner are as in the file; clients and backends are named; the path goes with the program."""
    program = start_program({"workers": 2, **on(path, mode=0o620, owner="daemon:daemon")})
    assert stat.S_IMODE(path.stat().st_mode) == 0o620
    assert (path.owner(), path.group()) == ("daemon", "daemon")
    assert program.says(f"listening on unix:{path} (main)")
    async with node(app(path)) as connections:
        answer = await ask(path, once("/a?b"))
    assert (answer.status, answer.body) == (200, b"/a?b")
    (request,) = connections[0].requests
    assert request.get("x-forwarded-for") == b"unix:"
    assert request.get("x-forwarded-proto") == b"http"
    assert request.get("x-forwarded-port") is None
    line = await program.log.await_line("unix:")
    assert (line.status, line.ua, line.end) == (200, ["app"], "--")
    program.stop()
    assert not path.exists()


async def test_connections_to_a_backend_are_kept(path: Path, start_program: StartProgram) -> None:
    """As over TCP: what one client's request opened serves the next one's."""
    start_program(on(path))
    async with node(app(path)) as connections:
        for _ in range(5):
            assert (await ask(path, once())).status == 200
    assert [len(connection.requests) for connection in connections] == [5]


async def test_a_backend_that_is_not_there(path: Path, start_program: StartProgram) -> None:
    """No path, or a path that nobody listens on: refused like a closed port, and retried elsewhere."""
    config = on(path)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(f"{path}.dead")
    backends = [
        {"name": "missing", "address": f"unix:{path}.missing"},
        {"name": "dead", "address": f"unix:{path}.dead"},
        *config["pools"]["web"]["backends"],
    ]
    retry = {"attempts": 3, "min": 100}
    program = start_program({**config, "pools": {"web": {"backends": backends, "retry": retry}}})
    assert (await ask(path, once())).status == 502
    async with node(app(path)):
        assert [(await ask(path, once())).status for _ in range(6)] == [200] * 6
    lines = await program.log.await_lines(7, "unix:")
    assert (set(lines[0].ua), lines[0].end) == ({"missing", "dead", "app"}, "SC")


async def test_a_tunnel(path: Path, start_program: StartProgram) -> None:
    """Bytes go both ways after a 101, and a half that ends leaves the other one open."""
    start_program(on(path))
    async with node(app(path)):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(get("h", "/", "Connection: upgrade", "Upgrade: x"))
        head = await reader.readuntil(b"\r\n\r\n")
        assert parse_head(head)[0][1] == b"101"
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"HELLO"
        writer.write_eof()
        assert await reader.read() == b"END"
        writer.close()
        await writer.wait_closed()


async def test_a_worker_that_is_killed(path: Path, start_program: StartProgram) -> None:
    """The socket goes on: what the others and the next worker accept is served, also what was queued meanwhile."""
    program = start_program({"workers": 2, **on(path)})
    async with node(app(path)):
        (killed, _) = await _ready_workers(program)
        os.kill(killed, signal.SIGKILL)
        async with asyncio.timeout(DEADLINE):
            while killed in program.workers():
                await asyncio.sleep(0.01)
        assert [(await ask(path, once())).status for _ in range(10)] == [200] * 10
        pids = await _ready_workers(program)
        await _freeze(pids)
        waiting = [asyncio.ensure_future(ask(path, once(f"/{number}"))) for number in range(20)]
        await asyncio.sleep(0)  # connecting to a unix socket is done at once, or not at all
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        assert [(await answer).body for answer in waiting] == [b"/%d" % number for number in range(20)]
        assert not set(pids) & set(await _ready_workers(program))


async def _ready_workers(program: Program) -> list[int]:
    """Wait until every slot has a worker that serves, and return their process ids."""
    async with asyncio.timeout(DEADLINE):
        while True:
            workers = json.loads(program.admin("/api/v1/status")[1])["workers"]
            if all(worker["state"] == "ready" for worker in workers):
                return [worker["pid"] for worker in workers]
            await asyncio.sleep(0.02)


async def _freeze(pids: list[int]) -> None:
    """Stop the processes and wait until they really are: from then on they accept nothing."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
        async with asyncio.timeout(DEADLINE):
            # pid (name) state ...
            while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
                await asyncio.sleep(0.001)


async def test_what_is_queued_when_the_program_stops_is_served(path: Path, start_program: StartProgram) -> None:
    """A connection that came before the stop is accepted and answered; the path is gone, so later ones find nothing."""
    program = start_program({"workers": 2, **on(path)})
    async with node(app(path)):
        pids = await _ready_workers(program)
        await _freeze(pids)
        waiting = [asyncio.ensure_future(ask(path, once())) for _ in range(5)]
        await asyncio.sleep(0)
        program.terminate()
        async with asyncio.timeout(DEADLINE):
            while path.exists():
                await asyncio.sleep(0.01)
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        assert [(await answer).status for answer in waiting] == [200] * 5
    assert await program.exited() == 0


async def test_a_second_program_on_the_path_fails(
    path: Path, ports: Ports, tmp_path: Path, start_program: StartProgram
) -> None:
    """It says so in one line and ends with code 1; the first one and its path go on."""
    start_program(on(path))
    second = Program(tmp_path, ports, on(path))
    with pytest.raises(AssertionError, match=rf"pyproxy: can't listen on unix:{path}: the path is in use"):
        second.start()
    async with node(app(path)):
        assert (await ask(path, once())).status == 200


async def test_a_program_after_one_that_was_killed(
    path: Path, ports: Ports, tmp_path: Path, start_program: StartProgram
) -> None:
    """The path that it left behind leads nowhere, so the next one takes it over."""
    first = Program(tmp_path, ports, on(path)).start()
    first.kill()
    assert path.is_socket()
    start_program(on(path))
    async with node(app(path)):
        assert (await ask(path, once())).status == 200


class UnixAdmin(Program):
    """A program whose admin API is on a unix path."""

    def admin(self, path: str) -> tuple[int, bytes]:
        """GET from the admin API."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(DEADLINE)
            sock.connect(str(self.directory / "admin.sock"))
            sock.sendall(get("admin", path, "Connection: close"))
            response = http.client.HTTPResponse(sock)
            response.begin()
            return response.status, response.read()


async def test_the_admin_api(path: Path, tmp_path: Path, ports: Ports) -> None:
    """It is for owner and group without a token, takes over a stale path, and goes with the program."""
    admin = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(admin))
    program = UnixAdmin(tmp_path, ports, {**on(path), "admin": {"bind": f"unix:{admin}"}})
    try:
        program.start()
        assert program.says(f"admin API on unix:{admin}")
        assert stat.S_IMODE(admin.stat().st_mode) == 0o660
        status, body = program.admin("/api/v1/status")
        assert (status, f'"unix:{path}"' in body.decode()) == (200, True)
        program.stop()
        assert not admin.exists()
    finally:
        program.kill()


async def test_an_admin_path_in_use_is_one_line(path: Path, tmp_path: Path, ports: Ports) -> None:
    """Nothing that was bound before it is left behind."""
    with socket.socket(socket.AF_UNIX) as alive:
        alive.bind(str(tmp_path / "admin.sock"))
        alive.listen()
        program = Program(tmp_path, ports, {**on(path), "admin": {"bind": f"unix:{tmp_path}/admin.sock"}})
        with pytest.raises(AssertionError, match=rf"can't listen on unix:{tmp_path}/admin\.sock: the path is in use"):
            program.start()
    assert not path.exists()


# ---- nginx on the other side


async def test_behind_nginx(
    path: Path, tmp_path: Path, ports: Ports, connect_to: Connect, start_program: StartProgram
) -> None:
    """With ``unix:`` among the trusted proxies, nginx is believed who its client is."""
    program = start_program({**on(path), "trusted_proxies": ["unix:"]})
    port = ports.take()
    server = f"""server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://unix:{path}:;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto https;
        }}
    }}"""
    with nginx(tmp_path, server):
        async with node(app(path)) as connections:
            client = await connect_to(port)
            assert (await client.ask(get("h"))).status == 200
    (request,) = connections[0].requests
    assert request.get("x-forwarded-for") == f"{client.source}, unix:".encode()
    assert request.get("x-forwarded-proto") == b"https"
    line = await program.log.await_line(client.source)
    assert line.status == 200


async def test_before_nginx(path: Path, tmp_path: Path, start_program: StartProgram) -> None:
    """A real server behind a unix path."""
    start_program(on(path))
    server = f"""server {{ listen unix:{app(path)}; return 200 "$request_uri $http_x_forwarded_for"; }}"""
    with nginx(tmp_path, server):
        assert (await ask(path, once("/a"))).body == b"/a unix:"
