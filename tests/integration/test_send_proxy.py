"""Real nginx nodes that want a PROXY header: each learns who its client is, and no two clients share a connection."""

import asyncio
import random
import socket
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.client import RawClient, get, post, unique_source
from tests.integration.conftest import Connect, StartOrigin
from tests.integration.origin import Origin, OriginConnection, serve
from tests.integration.peers import nginx
from tests.integration.ports import Ports
from tests.integration.program import Program, lend
from tests.integration.wire import DEADLINE, End, Message

NODES = ("one", "two", "thrice")  # thrice ends a connection after three requests
SERVER = """
server {{
    listen 127.0.0.1:{port} {option};
    keepalive_requests {requests};
    client_max_body_size 0;
    add_header X-Client "$proxy_protocol_addr $proxy_protocol_port" always;
    add_header X-At "$proxy_protocol_server_addr $proxy_protocol_server_port" always;
    add_header X-Connection "{name} $connection" always;
    add_header X-Number "$connection_requests" always;
    add_header X-Saw-For "$http_x_forwarded_for" always;
    location / {{ return 200 "$request_method $request_uri"; }}
}}
"""


class Sending(Program):
    """A program whose pools tell nginx, or an origin, who the client is; one of them doesn't."""

    def __init__(self, directory: Path, ports: Ports) -> None:
        self.ports = {name: ports.take() for name in (*NODES, "plain", "origin", "closed")}
        self.port6, self.path = ports.take(), directory / "pyproxy.sock"
        pools: dict[str, dict[str, Any]] = {
            "v1": self._pool("one", "two", send_proxy="v1"),
            "v2": self._pool("one", "two", send_proxy="v2"),
            "one": self._pool("one", send_proxy="v2"),
            "plain": self._pool("plain"),
            "thrice": self._pool("thrice", send_proxy="v1"),
            "two-each": self._pool("one", send_proxy="v2", keepalive={"max_requests": 2}),
            "none-kept": self._pool("one", send_proxy="v2", keepalive={"max_idle": 0}),
            "limited": self._pool("one", send_proxy="v2"),
            "half": self._pool("closed", "one", send_proxy="v2", retry={"budget": "100%", "min": 1000}),
            "origin": self._pool("origin", send_proxy="v1", retry={"budget": "100%", "min": 1000}),
        }
        pools["limited"]["backends"][0]["max_conns"] = 2
        routes = [{"host": name, "pool": name} for name in pools]
        super().__init__(directory, ports, {"pools": pools, "routes": routes, "trusted_proxies": ["127.9.0.0/16"]})
        self.config["listeners"] += [
            {"name": "six", "bind": f"[::1]:{self.port6}"},
            {"name": "unix", "bind": f"unix:{self.path}"},
        ]

    def _pool(self, *names: str, **config: Any) -> dict[str, Any]:
        backends = [{"name": name, "address": f"127.0.0.1:{self.ports[name]}"} for name in names]
        return {"backends": backends, **config}

    def servers(self) -> str:
        """Write the nodes for nginx."""
        options = dict.fromkeys(NODES, "proxy_protocol") | {"plain": ""}
        return "".join(
            SERVER.format(name=name, port=self.ports[name], option=option, requests=3 if name == "thrice" else 1000)
            for name, option in options.items()
        )


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, ports: Ports) -> Iterator[Sending]:
    """One program and one nginx for all tests here; nginx has understood every header."""
    directory = tmp_path_factory.mktemp("sending")
    program = Sending(directory, ports)
    with nginx(directory, program.servers()):
        try:
            yield program.start()
            program.stop()
        finally:
            program.kill()
    assert "broken header" not in (directory / "error.log").read_text()


@pytest.fixture
async def program(running: Sending) -> AsyncIterator[Sending]:
    """The program; when the test's clients and origins are gone, nothing may be left in flight."""
    async for lent in lend(running):
        yield lent


@dataclass(frozen=True)
class Seen:
    """What nginx saw: who the client was, where it had come, on which connection, its how manieth request."""

    client: str
    at: str
    connection: str
    number: int


def seen(answer: Message) -> Seen:
    """Read it from an answer."""
    assert answer.status == 200, answer.raw
    client, at, connection, number = (
        (answer.get(name) or b"").decode() for name in ("x-client", "x-at", "x-connection", "x-number")
    )
    return Seen(client.strip(), at.strip(), connection, int(number))


def ends(client: RawClient) -> tuple[str, str]:
    """Give both ends of a client's connection as nginx writes them."""
    here, there = client.sock.getsockname(), client.sock.getpeername()
    return f"{here[0]} {here[1]}", f"{there[0]} {there[1]}"


async def test_no_two_clients_share_a_connection(program: Sending, connect_to: Connect) -> None:
    """
    Thirty clients at once, over IPv4 and IPv6, both versions and two nodes, some leaving in the middle.

    Every answer comes to the client that nginx took it for, and every connection of nginx's had one client.
    """
    clients_of: dict[str, set[str]] = defaultdict(set)
    answered = 0

    async def visit(number: int) -> None:
        nonlocal answered
        dice = random.Random(number)
        place = (program.port6, "::1") if number % 5 == 0 else (program.port, "127.0.0.1")
        client = await connect_to(place[0], host=place[1])
        for turn in range(20):
            pool, target = dice.choice(("v1", "v2")), f"/{number}/{turn}"
            raw = dice.choice((get(pool, target), post(pool, b"x" * dice.choice((1, 40_000)), target=target)))
            raw = dice.choice((raw, get(pool, target, method="HEAD")))
            if dice.random() < 0.05:
                await client.send(raw)
                client.close()
                client = await connect_to(place[0], host=place[1])
                continue
            answer = await client.ask(raw)
            method = raw.split(b" ")[0]
            assert answer.body == (b"" if method == b"HEAD" else b"%b %b" % (method, target.encode()))
            found = seen(answer)
            assert (found.client, found.at) == ends(client)
            clients_of[found.connection].add(found.client)
            answered += 1
        client.close()

    await asyncio.gather(*(visit(number) for number in range(30)))
    assert answered > 450
    assert {connection: clients for connection, clients in clients_of.items() if len(clients) > 1} == {}


async def test_a_client_keeps_its_connection(program: Sending, connect_to: Connect) -> None:
    """While it goes on to the same node; who comes next from that address gets another one."""
    source = unique_source()
    connections = []
    for _ in range(3):
        client = await connect_to(program.port, source=source)
        found = [seen(await client.ask(get("one", f"/{number}"))) for number in range(4)]
        assert [here.number for here in found] == [1, 2, 3, 4]
        assert {(here.client, here.at) for here in found} == {ends(client)}
        (connection,) = {here.connection for here in found}
        connections.append(connection)
        client.close()
    assert len(set(connections)) == 3


async def test_a_pipeline(program: Sending, connect_to: Connect) -> None:
    """Requests that come all at once go one after the other, and not through anyone else's connection."""
    pools = ("one", "v1", "plain", "v2", "one") * 4
    first, second = await connect_to(program.port), await connect_to(program.port)
    for client in (first, second):
        await client.send(b"".join(get(pool, f"/{pool}") for pool in pools))
    for client in (first, second):
        answers = await client.responses(20)
        assert [answer.body for answer in answers] == [
            b"GET /one",
            b"GET /v1",
            b"GET /plain",
            b"GET /v2",
            b"GET /one",
        ] * 4
        told = {(here.client, here.at) for here in map(seen, answers)}
        assert told == {ends(client), ("", "")}


async def test_other_pools_share_as_before(program: Sending, connect_to: Connect) -> None:
    """A connection without a header is anyone's: only ``send_proxy`` costs one each."""
    clients = [await connect_to(program.port) for _ in range(3)]
    plain, proxied = [], []
    for _ in range(2):
        for client in clients:
            plain.append(seen(await client.ask(get("plain"))))
            proxied.append(seen(await client.ask(get("one"))))
    assert len({here.connection for here in plain}) == 1
    assert len({here.connection for here in proxied}) == 3
    assert {here.client for here in plain} == {""}


@pytest.mark.parametrize(
    ("pool", "numbers"), [("thrice", [1, 2, 3] * 3), ("two-each", [1, 2] * 4), ("none-kept", [1] * 4)]
)
async def test_when_its_connection_has_ended(
    pool: str, numbers: list[int], program: Sending, connect_to: Connect
) -> None:
    """Whether the node or we had enough of it: the next one begins with a header again, and nothing is lost."""
    client = await connect_to(program.port)
    found = [seen(await client.ask(get(pool, f"/{number}"))) for number in range(len(numbers))]
    assert [here.number for here in found] == numbers
    assert {(here.client, here.at) for here in found} == {ends(client)}


async def test_clients_that_wait_for_room(program: Sending, connect_to: Connect) -> None:
    """With ``max_conns`` a request waits for another client's to end, and then still has a connection of its own."""

    async def visit() -> set[str]:
        client = await connect_to(program.port)
        found = [seen(await client.ask(get("limited", f"/{number}"))) for number in range(10)]
        assert {(here.client, here.at) for here in found} == {ends(client)}
        return {here.connection for here in found}

    connections = await asyncio.gather(*(visit() for _ in range(12)))
    assert sum(map(len, connections)) == len(set.union(*connections))


async def test_the_next_node_is_told_as_well(program: Sending, connect_to: Connect) -> None:
    """A retry goes to another node, which gets a header of its own."""
    clients = [await connect_to(program.port) for _ in range(4)]
    for client in clients * 3:
        assert (seen(await client.ask(get("half"))).client, client.end) == (ends(client)[0], End.OPEN)
    lines = [line for client in clients for line in await program.log.await_lines(3, client.source)]
    assert {line.ua[-1] for line in lines} == {"one"}
    assert ["closed", "one"] in [line.ua for line in lines]


async def test_who_connected_is_told(program: Sending, connect_to: Connect) -> None:
    """The header is about the connection, also of a trusted proxy's; whom that names is in X-Forwarded-For."""
    client = await connect_to(program.port, source=unique_source(trusted=True))
    answer = await client.ask(get("one", "/", "X-Forwarded-For: 203.0.113.9"))
    assert (seen(answer).client, seen(answer).at) == ends(client)
    assert answer.get("x-saw-for") == f"203.0.113.9, {client.source}".encode()


@pytest.mark.parametrize("pool", ["v1", "v2"])
async def test_a_client_of_a_unix_socket(pool: str, program: Sending) -> None:
    """It is unknown to nginx, in either version, and has its connection for itself all the same."""
    connections = set()
    for _ in range(2):
        sock = socket.socket(socket.AF_UNIX)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, str(program.path))
        with closing(RawClient(sock, "unix:")) as client:
            found = [seen(await client.ask(get(pool))) for _ in range(2)]
        connections |= {here.connection for here in found}
        assert {(here.client, here.at) for here in found} == {("", "")}
    assert len(connections) == 4


# ---- what nginx can't be asked to do


async def read_header(connection: OriginConnection) -> str:
    """Read the header's line, and say whom it names."""
    words = (await connection.read_until(b"\r\n")).decode().split()
    assert words[:2] == ["PROXY", "TCP4"]
    return f"{words[2]} {words[4]}"


@pytest.fixture
async def origin(program: Sending, start_origin: StartOrigin) -> Origin:
    """The backend of pool ``origin``."""
    return start_origin(program.ports["origin"])


async def test_a_connection_that_dies_under_a_request(origin: Origin, program: Sending, connect_to: Connect) -> None:
    """The second request finds it closed: it is sent again on a new one, behind a header."""
    named: list[str] = []

    async def script(connection: OriginConnection) -> None:
        named.append(await read_header(connection))
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % len(named))
        await connection.request()
        connection.reset()

    origin.play(script)
    client = await connect_to(program.port)
    assert [(await client.ask(get("origin", f"/{number}"))).body for number in range(3)] == [b"1", b"2", b"3"]
    assert named == [ends(client)[0]] * 3
    lines = await program.log.await_lines(3, client.source)
    assert [line.tries for line in lines] == [1, 2, 2]


async def test_a_tunnel(origin: Origin, program: Sending, connect_to: Connect) -> None:
    """The header comes before the request that becomes a tunnel, and nothing comes between."""
    named: list[str] = []

    async def script(connection: OriginConnection) -> None:
        named.append(await read_header(connection))
        await connection.request()
        await connection.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
        while word := await connection.read_until(b"\n"):
            await connection.send(word[::-1])

    origin.play(script)
    first, second = await connect_to(program.port), await connect_to(program.port)
    for client in (first, second):
        assert (await client.ask(get("origin", "/", "Connection: upgrade", "Upgrade: x"))).status == 101
    for client in (first, second):
        await client.send(f"{client.source}\n".encode())
        assert await client.read(len(client.source) + 1) == f"\n{client.source[::-1]}".encode()
    assert named == [ends(first)[0], ends(second)[0]]


async def test_an_idle_connection_goes_with_its_client(origin: Origin, program: Sending, connect_to: Connect) -> None:
    """Also when the client went to another pool in between, or left in the middle of its request."""

    async def script(connection: OriginConnection) -> None:
        await read_header(connection)
        await serve()(connection)

    origin.play(script)
    leaving, straying, sending = [await connect_to(program.port) for _ in range(3)]
    for client in (leaving, straying, sending):
        assert (await client.ask(get("origin"))).status == 200
    leaving.close()
    assert (await straying.ask(get("one"))).status == 200
    await sending.send(post("origin", b"whole")[:-1])
    async with asyncio.timeout(DEADLINE):
        while b"whol" not in origin.connections[2].received:
            await asyncio.sleep(0.005)
    sending.close()
    for connection in origin.connections:
        await connection.ended()
    assert len(origin.connections) == 3
