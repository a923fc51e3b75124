"""The admin API on real sockets: what is on the wire, unix paths, tokens, and the real program behind it."""

import asyncio
import http.client
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pyproxy.admin import body as admin_body
from pyproxy.admin import server as admin_server
from pyproxy.admin.app import make_app
from pyproxy.admin.server import AdminServer, bind_tcp
from pyproxy.control.events import Events
from pyproxy.control.unix_sockets import bind_unix
from tests.integration.ports import Ports
from tests.integration.program import Program
from tests.integration.wire import DEADLINE
from tests.unit.admin.fake_control import FakeChanges, FakeControl

TOKEN = "sesame" * 6

Serve = Callable[[socket.socket], Awaitable[AdminServer]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Serve a fake program on a socket, with a token."""
    servers: list[AdminServer] = []

    async def start(sock: socket.socket) -> AdminServer:
        control = FakeControl()
        servers.append(AdminServer(make_app(control, FakeChanges(control), Events(), TOKEN), sock))
        await servers[-1].start()
        return servers[-1]

    yield start
    for server in servers:
        await server.stop()


async def exchange(address: str, raw: bytes) -> tuple[bytes, dict[bytes, bytes], bytes]:
    """Send raw bytes to an address and read until the end: status line, headers, body."""
    if address.startswith("unix:"):
        reader, writer = await asyncio.open_unix_connection(address.removeprefix("unix:"))
    else:
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    writer.write(raw)
    received = await reader.read()
    writer.close()
    await writer.wait_closed()
    head, _, body = received.partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    return status, dict(line.split(b": ", 1) for line in lines), body


def get(path: str, *lines: str, method: str = "GET") -> bytes:
    """A request that closes its connection."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", "Connection: close", *lines, "", ""]).encode()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_over_ipv4_and_ipv6(serve: Serve, host: str) -> None:
    """The address tells the port that was bound; answers name no software."""
    server = await serve(bind_tcp(host, 0))
    status, headers, body = await exchange(server.address, get("/healthz"))
    assert status == b"HTTP/1.1 200 OK"
    assert json.loads(body) == {"status": "ok"}
    assert b"Server" not in headers
    assert headers[b"Cache-Control"] == b"no-store"


async def test_head_is_get_without_the_body(serve: Serve) -> None:
    """HEAD works wherever GET does."""
    server = await serve(bind_tcp("127.0.0.1", 0))
    status, headers, body = await exchange(server.address, get("/readyz", method="HEAD"))
    assert status == b"HTTP/1.1 200 OK"
    assert int(headers[b"Content-Length"]) > 0
    assert body == b""


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f"Authorization: Bearer {TOKEN}", b"HTTP/1.1 200 OK"),
        ("Authorization: Bearer wrong", b"HTTP/1.1 401 Unauthorized"),
        ("X-Nothing: x", b"HTTP/1.1 401 Unauthorized"),
    ],
)
async def test_the_token(serve: Serve, line: str, expected: bytes) -> None:
    """Only the token opens the API."""
    server = await serve(bind_tcp("127.0.0.1", 0))
    assert (await exchange(server.address, get("/api/v1/pools", line)))[0] == expected


async def test_a_token_that_is_no_text_is_wrong(serve: Serve) -> None:
    """Bytes that are not UTF-8 are compared like any others."""
    server = await serve(bind_tcp("127.0.0.1", 0))
    raw = get("/api/v1/pools", "Authorization: Bearer @").replace(b"@", b"\xff\xfe")
    assert (await exchange(server.address, raw))[0] in (
        b"HTTP/1.1 401 Unauthorized",
        b"HTTP/1.0 400 Bad Request",
    )


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"\x16\x03\x01\x02\x00\r\n\r\n", id="TLS to a plain port"),
        pytest.param(b"GET / HTTP/1.1\r\nbad header\r\n\r\n", id="bad header"),
        pytest.param(get("/" + "x" * 5000), id="long target"),
        pytest.param(get("/", "X: " + "x" * 9000), id="long header"),
        pytest.param(get("/", *(f"X-{number}: x" for number in range(100))), id="many headers"),
    ],
)
async def test_what_is_no_proper_request_is_400_in_json(
    serve: Serve, raw: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """It has the API's own form, tells no version, and leaves no traceback in the log."""
    server = await serve(bind_tcp("127.0.0.1", 0))
    status, headers, body = await exchange(server.address, raw)
    assert status == b"HTTP/1.0 400 Bad Request"
    assert json.loads(body) == {"error": "Bad Request"}
    assert headers[b"Server"] == b"pyproxy"
    assert caplog.records == []


async def test_a_body_is_not_waited_for(serve: Serve) -> None:
    """A POST that announces a gigabyte is told that it isn't allowed, at once."""
    server = await serve(bind_tcp("127.0.0.1", 0))
    raw = get("/api/v1/pools", f"Authorization: Bearer {TOKEN}", "Content-Length: 1073741824", method="POST")
    host, _, port = server.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(raw)
    assert await reader.readline() == b"HTTP/1.1 405 Method Not Allowed\r\n"
    writer.close()
    await writer.wait_closed()


async def test_over_a_unix_socket(serve: Serve, tmp_path: Path) -> None:
    """It serves on whatever socket it is given, and leaves its path to who made it."""
    path = tmp_path / "admin.sock"
    server = await serve(bind_unix(str(path), 1).sock)
    assert server.address == f"unix:{path}"
    assert (await exchange(server.address, get("/healthz")))[0] == b"HTTP/1.1 200 OK"
    await server.stop()
    assert path.is_socket()


def ask(port: int, path: str, token: str | None = None) -> tuple[int, bytes]:
    """GET from a program's admin API."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


@pytest.fixture
def program(tmp_path: Path, ports: Ports) -> Iterator[Program]:
    """The real program with a token in a file, and a backend that refuses."""
    token = tmp_path / "token"
    token.write_text(f"{TOKEN}\n")
    pools = {"web": {"backends": [{"name": "a", "address": f"127.0.0.1:{ports.take()}"}]}}
    program = Program(tmp_path, ports, {"pools": pools})
    program.config["admin"]["token_file"] = str(token)
    yield program.start()
    program.kill()


def test_the_real_program_wants_its_token(program: Program) -> None:
    """The token of ``token_file`` is needed for everything but health."""
    assert ask(program.admin_port, "/healthz")[0] == 200
    assert ask(program.admin_port, "/readyz")[0] == 200
    for path in ("/metrics", "/api/v1/status", "/api/v1/pools"):
        assert ask(program.admin_port, path)[0] == 401
        assert ask(program.admin_port, path, "wrong")[0] == 401
        assert ask(program.admin_port, path, TOKEN)[0] == 200
    assert TOKEN not in program.stderr


def test_what_the_real_program_tells(program: Program) -> None:
    """A request that its backend refuses is seen in pools, status and metrics, all sums agreeing."""
    assert ask(program.port, "/")[0] == 502
    (pool,) = json.loads(ask(program.admin_port, "/api/v1/pools", TOKEN)[1])
    (backend,) = pool["backends"]
    assert backend["total"] == backend["errors"] > 0
    assert backend["active"] == 0
    status = json.loads(ask(program.admin_port, "/api/v1/status", TOKEN)[1])
    (worker,) = status["workers"]
    assert worker["state"] == "ready"
    assert Path(f"/proc/{worker['pid']}").exists()
    assert status["pid"] == program.process.pid
    assert status["listeners"][0]["connections_total"] == 1
    text = ask(program.admin_port, "/metrics", TOKEN)[1].decode()
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    labels = (("code", "5xx"), ("listener", "main"), ("pool", "web"))
    assert samples["pyproxy_requests_total", labels] == 1
    assert samples["pyproxy_terminations_total", (("end", "SC"),)] == 1
    assert samples["pyproxy_config_info", (("digest", status["config"]["digest"]),)] == 1


def test_a_killed_real_worker_is_replaced(program: Program) -> None:
    """After kill -9 the next worker serves, counters stay, and SIGTERM still ends all with code 0."""
    for _ in range(3):
        assert ask(program.port, "/")[0] == 502
    workers = json.loads(ask(program.admin_port, "/api/v1/status", TOKEN)[1])["workers"]
    os.kill(workers[0]["pid"], signal.SIGKILL)
    assert ask(program.port, "/")[0] == 502
    (pool,) = json.loads(ask(program.admin_port, "/api/v1/pools", TOKEN)[1])
    assert pool["backends"][0]["total"] >= 4
    after = json.loads(ask(program.admin_port, "/api/v1/status", TOKEN)[1])["workers"]
    assert after[0]["pid"] != workers[0]["pid"]
    program.terminate()
    assert program.process.wait(10) == 0
    assert not Path(f"/proc/{after[0]['pid']}").exists()


async def _closed(reader: asyncio.StreamReader) -> bytes:
    """What comes on a connection until its end, by FIN or RST."""
    received = b""
    async with asyncio.timeout(DEADLINE):
        with suppress(ConnectionResetError):
            while data := await reader.read(65536):
                received += data
    return received


async def test_who_says_nothing_makes_room_for_who_asks(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest one that is idle goes; idle connections never keep an operator out."""
    monkeypatch.setattr(admin_server, "MAX_CONNECTIONS", 2)
    server = await serve(bind_tcp("127.0.0.1", 0))
    host, _, port = server.address.rpartition(":")
    first, first_writer = await asyncio.open_connection(host, int(port))
    second, second_writer = await asyncio.open_connection(host, int(port))
    assert (await exchange(server.address, get("/healthz")))[0] == b"HTTP/1.1 200 OK"
    assert await _closed(first) == b""
    second_writer.write(get("/healthz"))
    assert (await _closed(second)).startswith(b"HTTP/1.1 200")
    for writer in (first_writer, second_writer):
        writer.close()


async def test_one_too_many_is_refused_at_once(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """While all that are there are being answered, as those that listen to events are."""
    monkeypatch.setattr(admin_server, "MAX_CONNECTIONS", 1)
    server = await serve(bind_tcp("127.0.0.1", 0))
    host, _, port = server.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(get("/api/v1/events", f"Authorization: Bearer {TOKEN}"))
    await reader.readuntil(b"\r\n\r\n")
    refused, refused_writer = await asyncio.open_connection(host, int(port))
    answer = await _closed(refused)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {"error": "too many connections"}
    writer.close()
    refused_writer.close()
    async with asyncio.timeout(DEADLINE):
        while True:
            with suppress(ConnectionResetError):
                if (await exchange(server.address, get("/healthz")))[0] == b"HTTP/1.1 200 OK":
                    break
            await asyncio.sleep(0.01)


async def test_an_answer_on_its_way_is_not_cut_for_one_more(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who takes its time to read it keeps its place until then."""
    monkeypatch.setattr(admin_server, "MAX_CONNECTIONS", 1)
    server = await serve(bind_tcp("127.0.0.1", 0))
    host, _, port = server.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1)
    ask = get("/api/v1/openapi.json", f"Authorization: Bearer {TOKEN}").replace(b"close", b"keep-alive")
    async with asyncio.timeout(DEADLINE):
        while not any(connection._stalled for connection in server._connections):
            writer.write(ask)
            await asyncio.sleep(0)
    refused, refused_writer = await asyncio.open_connection(host, int(port))
    assert (await _closed(refused)).startswith(b"HTTP/1.1 503 ")
    for each in (writer, refused_writer):
        each.close()
    assert not reader.at_eof()


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: "])
async def test_a_head_that_never_comes_is_not_waited_for(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    """Neither before its first byte nor in the middle."""
    monkeypatch.setattr(admin_server, "_KEEPALIVE", 0.05)
    server = await serve(bind_tcp("127.0.0.1", 0))
    host, _, port = server.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(sent)
    assert await _closed(reader) == b""
    writer.close()


async def test_a_body_that_never_comes_is_a_408(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says so and is over."""
    monkeypatch.setattr(admin_body, "BODY_SECONDS", 0.05)
    server = await serve(bind_tcp("127.0.0.1", 0))
    lines = (f"Authorization: Bearer {TOKEN}", "Content-Type: application/json", "Content-Length: 100")
    host, _, port = server.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(get("/api/v1/explain", *lines, method="POST"))
    async with asyncio.timeout(DEADLINE):
        assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
    writer.close()


async def test_who_reads_nothing_of_the_answer_is_ended(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its place and what waits for it are free again."""
    monkeypatch.setattr(admin_server, "_WRITE_TIMEOUT", 0.05)
    server = await serve(bind_tcp("127.0.0.1", 0))
    host, _, port = server.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1)
    ask = get("/api/v1/openapi.json", f"Authorization: Bearer {TOKEN}").replace(b"close", b"keep-alive")
    with suppress(ConnectionError):
        async with asyncio.timeout(DEADLINE):
            while not reader.at_eof() and reader.exception() is None:
                writer.write(ask)
                await writer.drain()
                await asyncio.sleep(0)
    assert reader.at_eof() or reader.exception() is not None or writer.is_closing()
    writer.close()
