"""Real nginx nodes behind the program: shares, large files both ways, curl, wrk."""

import asyncio
import hashlib
import random
import subprocess
from collections import Counter
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from tests.integration.client import get, post
from tests.integration.conftest import Connect, StartNginx, StartProgram
from tests.integration.nginx import Nginx
from tests.integration.program import Program

LARGE = 100 * 1024 * 1024
SHARES = {"n1": 300, "n2": 200, "n3": 100}


def _pool(nodes: list[Nginx], weights: tuple[int, ...] = (1, 1, 1)) -> dict[str, Any]:
    backends = [
        {"name": node.name, "address": node.address, "weight": weight}
        for node, weight in zip(nodes, weights, strict=False)
    ]
    return {"pools": {"web": {"backends": backends}}}


@pytest.fixture
def nodes(start_nginx: StartNginx) -> list[Nginx]:
    """Three nodes."""
    return [start_nginx(name) for name in SHARES]


@pytest.fixture
def before_one(start_nginx: StartNginx, start_program: StartProgram) -> tuple[Program, Nginx]:
    """The program before one node."""
    node = start_nginx("n1")
    return start_program(_pool([node])), node


def _content(seed: int) -> bytes:
    """A hundred megabytes in which no two blocks are the same."""
    block = random.Random(seed).randbytes(1024 * 1024 - 8)
    return b"".join(b"%08d" % number + block for number in range(100))


@pytest.mark.parametrize("connections", [1, 7, 60])
async def test_shares_by_weight(
    connections: int, nodes: list[Nginx], start_program: StartProgram, connect_to: Connect
) -> None:
    """600 requests over any number of connections: 300, 200, 100, at most two in a row to one."""
    program = start_program(_pool(nodes, (3, 2, 1)))
    clients = [await connect_to(program.port) for _ in range(connections)]
    served: list[bytes | None] = []
    for number in range(600):
        answer = await clients[number % connections].ask(get("h", f"/{number}"))
        served.append(answer.get("x-node"))
    assert Counter(served) == {name.encode(): share for name, share in SHARES.items()}
    assert max(len(list(run)) for _, run in groupby(served)) <= 2


async def test_shares_of_concurrent_clients(
    nodes: list[Nginx], start_program: StartProgram, connect_to: Connect
) -> None:
    """The same shares when thirty clients ask at once, and the log agrees."""
    program = start_program(_pool(nodes, (3, 2, 1)))

    async def ask() -> list[bytes | None]:
        client = await connect_to(program.port)
        return [(await client.ask(get("h"))).get("x-node") for _ in range(20)]

    served = [name for names in await asyncio.gather(*(ask() for _ in range(30))) for name in names]
    assert Counter(served) == {name.encode(): share for name, share in SHARES.items()}
    await program.await_metric("pyproxy_terminations_total", 600, end="--")
    for name, share in SHARES.items():
        await program.await_metric("pyproxy_backend_requests_total", share, backend=name, code="2xx")


async def test_node_that_goes_away_costs_no_request(
    nodes: list[Nginx], start_program: StartProgram, connect_to: Connect
) -> None:
    """
    When a node ends between two requests, its kept connections and refusals are retried.

    Every answer is 200.
    """
    program = start_program(_pool(nodes))
    client = await connect_to(program.port)
    for _ in range(12):
        assert (await client.ask(get("h"))).status == 200
    nodes[1].stop()
    answers = [await client.ask(get("h")) for _ in range(6)]
    assert {(answer.status, answer.get("x-node")) for answer in answers} == {(200, b"n1"), (200, b"n3")}


async def test_headers_as_nginx_sees_them(before_one: tuple[Program, Nginx], connect_to: Connect) -> None:
    """What nginx's own parser makes of our headers."""
    program, _ = before_one
    client = await connect_to(program.port)
    answer = await client.ask(get("www.example.com:81", "/a?b", "X-Request-Id: id-1"))
    assert answer.body == b"n1 GET /a?b\n"
    assert answer.get("x-saw-for") == client.source.encode()
    assert answer.get("x-saw-host") == b"www.example.com:81"
    assert answer.get("x-saw-id") == b"id-1"


async def test_status_and_range_and_condition(before_one: tuple[Program, Nginx], connect_to: Connect) -> None:
    """404, 206, 304 and HEAD of a real server follow each other on one connection."""
    program, node = before_one
    (node.files / "f").write_bytes(b"0123456789")
    client = await connect_to(program.port)
    assert (await client.ask(get("h", "/missing"))).status == 404
    part = await client.ask(get("h", "/files/f", "Range: bytes=2-4"))
    assert (part.status, part.body) == (206, b"234")
    etag = (part.get("etag") or b"").decode()
    assert (await client.ask(get("h", "/files/f", f"If-None-Match: {etag}"))).status == 304
    head = await client.ask(get("h", "/files/f", method="HEAD"))
    assert (head.status, head.get("content-length")) == (200, b"10")
    assert (await client.ask(post("h", b"x" * 100))).body == b"n1 POST /\n"
    assert (await client.ask(get("h", "/files/f"))).body == b"0123456789"


async def test_ipv6_node(start_nginx: StartNginx, start_program: StartProgram, connect_to: Connect) -> None:
    """A node on IPv6, reached over an IPv6 listener."""
    node = start_nginx("six", "::1")
    program = start_program(_pool([node]))
    program.stop()
    program.config["listeners"] = [{"name": "six", "bind": f"[::1]:{program.port}"}]
    program.start()
    client = await connect_to(program.port, host="::1")
    answer = await client.ask(get("h"))
    assert (answer.get("x-node"), answer.get("x-saw-for")) == (b"six", b"::1")


def _curl(curl: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([curl, "-sS", "-m", "60", *arguments], capture_output=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "n1 GET /x"),
        (["--http1.0"], "n1 GET /x"),
        (["-X", "DELETE"], "n1 DELETE /x"),
        (["-d", "a=b"], "n1 POST /x"),
        (["-d", "a=b", "-H", "Expect: 100-continue"], "n1 POST /x"),
        (["-d", "a=b", "-H", "Transfer-Encoding: chunked"], "n1 POST /x"),
        (["-d", "a=b", "--http1.0"], "n1 POST /x"),
        (["--http2"], "n1 GET /x"),
        (["-H", "Connection: close"], "n1 GET /x"),
    ],
    ids=["get", "1.0", "delete", "post", "expect", "chunked", "post-1.0", "h2c-offer", "close"],
)
def test_curl(arguments: list[str], expected: str, curl: str, before_one: tuple[Program, Nginx]) -> None:
    """What curl makes of it, with an exit code of 0 and nothing on stderr."""
    program, _ = before_one
    url = f"http://127.0.0.1:{program.port}/x"
    result = _curl(curl, *arguments, url, url)
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout.decode() == f"{expected}\n" * 2


def test_curl_head(curl: str, before_one: tuple[Program, Nginx]) -> None:
    """HEAD twice on one connection."""
    program, _ = before_one
    url = f"http://127.0.0.1:{program.port}/x"
    result = _curl(curl, "-I", url, url)
    assert result.returncode == 0
    assert result.stdout.count(b"HTTP/1.1 200 OK\r\n") == 2
    assert result.stdout.count(b"X-Node: n1\r\n") == 2


def test_curl_downloads_a_large_file(curl: str, before_one: tuple[Program, Nginx], tmp_path: Path) -> None:
    """A hundred megabytes down, the same bytes."""
    program, node = before_one
    content = _content(1)
    (node.files / "large").write_bytes(content)
    result = _curl(curl, "-o", str(tmp_path / "got"), f"http://127.0.0.1:{program.port}/files/large")
    assert (result.returncode, result.stderr) == (0, b"")
    assert _digest(tmp_path / "got") == hashlib.sha256(content).hexdigest()


def test_curl_downloads_a_sparse_file(curl: str, before_one: tuple[Program, Nginx], tmp_path: Path) -> None:
    """A large file that takes nothing on the node's disk comes with its full length."""
    program, node = before_one
    with (node.files / "sparse").open("wb") as file:
        file.truncate(LARGE)
    result = _curl(curl, "-o", str(tmp_path / "got"), f"http://127.0.0.1:{program.port}/files/sparse")
    assert (result.returncode, (tmp_path / "got").stat().st_size) == (0, LARGE)


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_curl_uploads_a_large_file(chunked: bool, curl: str, before_one: tuple[Program, Nginx], tmp_path: Path) -> None:
    """A hundred megabytes up, in either framing, the same bytes on the node's disk."""
    program, node = before_one
    content = _content(2)
    (tmp_path / "large").write_bytes(content)
    url = f"http://127.0.0.1:{program.port}/files/up"
    extra = ["-H", "Transfer-Encoding: chunked"] if chunked else []
    result = _curl(curl, *extra, "-o", "/dev/null", "-w", "%{http_code}", "-T", str(tmp_path / "large"), url)
    assert (result.returncode, result.stdout) == (0, b"201")
    assert _digest(node.files / "up") == hashlib.sha256(content).hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


async def test_two_workers(nodes: list[Nginx], start_program: StartProgram, connect_to: Connect) -> None:
    """Two workers share the listener, the counters and the log: nothing is lost or counted twice."""
    program = start_program({**_pool(nodes), "workers": 2})
    assert len(set(program.workers())) == 2
    clients = [await connect_to(program.port) for _ in range(40)]
    for client in clients:
        for _ in range(5):
            assert (await client.ask(get("h"))).status == 200
    await program.await_metric("pyproxy_connections", 40)
    for client in clients:
        client.close()
    await program.settled()
    await program.await_metric("pyproxy_terminations_total", 200, end="--")
    program.stop()
    assert len(program.log.lines()) == 200


@pytest.mark.slow
async def test_wrk(wrk: str, nodes: list[Nginx], start_program: StartProgram) -> None:
    """Ten seconds of wrk: no socket error, no answer but 2xx, every request logged."""
    program = start_program(_pool(nodes, (3, 2, 1)))
    process = await asyncio.create_subprocess_exec(
        *(wrk, "-t1", "-c64", "-d10s", f"http://127.0.0.1:{program.port}/"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output = (await process.communicate())[0].decode()
    assert process.returncode == 0, output
    assert "requests in" in output
    assert "Socket errors" not in output, output
    assert "Non-2xx" not in output, output
    await program.settled()
    total = program.metric("pyproxy_terminations_total")
    # Those that wrk cut off when its time was up were 64 at most.
    assert total - program.metric("pyproxy_terminations_total", end="--") <= 64
    program.stop()
    assert len(program.log.raw_lines()) == total
