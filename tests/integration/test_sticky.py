"""Sticky sessions with real nodes: a thousand clients, and what an operator does to the nodes under them."""

import asyncio
import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect as connect_websocket
from websockets.asyncio.server import ServerConnection, serve

from tests.integration.client import RawClient, get, unique_source
from tests.integration.conftest import StartNginx, StartOrigin, StartProgram
from tests.integration.nginx import Nginx
from tests.integration.origin import OK, OriginConnection
from tests.integration.ports import Ports
from tests.integration.program import Program
from tests.integration.wire import DEADLINE, Message

SECRET = "correct horse"
CLIENTS = 1000
AT_ONCE = 50
ALL = "/api/v1/pools/web/backends"
#: Nodes say what they saw of cookies.
SAW = 'add_header X-Saw-Cookie "$http_cookie" always;'


class Client:
    """A client with an address of its own, which keeps the cookie as a browser does."""

    def __init__(self, cookie: str = "SRV", others: str = "sid=1") -> None:
        self.source = unique_source()
        self.cookie = cookie
        self.others = others
        self.value = ""
        self.given = 0

    async def ask(self, port: int, target: str = "/", host: str = "h") -> Message:
        """Ask on a new connection; remember the cookie, and that it was given."""
        cookies = f"{self.others}; {self.cookie}={self.value}" if self.value else self.others
        connection = await RawClient.connect(port, source=self.source)
        try:
            answer = await connection.ask(get(host, target, f"Cookie: {cookies}", "Connection: close"))
        finally:
            connection.close()
        for line in answer.all("set-cookie"):
            name, _, value = line.decode().partition(";")[0].partition("=")
            assert name == self.cookie
            self.value = value
            self.given += 1
        return answer


async def nodes_of(clients: Iterable[Client], port: int) -> dict[Client, str]:
    """Let each client ask once; give the node that answered it."""
    free = asyncio.Semaphore(AT_ONCE)

    async def ask(client: Client) -> tuple[Client, str]:
        async with free:
            answer = await client.ask(port)
        assert answer.status == 200
        assert b"SRV" not in (answer.get("x-saw-cookie") or b"")
        assert answer.get("x-saw-cookie") == b"sid=1"
        return client, (answer.get("x-node") or b"").decode()

    return dict(await asyncio.gather(*map(ask, clients)))


def start_nodes(start_nginx: StartNginx, count: int = 3) -> list[Nginx]:
    """Start nodes that say which cookies they saw."""
    return [start_nginx(f"n{number}", server=SAW) for number in range(1, count + 1)]


def config(nodes: Iterable[Nginx], sticky: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """One pool with sticky sessions, two workers."""
    backends = [{"name": node.name, "address": node.address} for node in nodes]
    web = {"backends": backends, "sticky": sticky or {"secret": SECRET}, "retry": {"budget": "100%"}}
    return {"workers": 2, "pools": {"web": web}, **more}


def backend(program: Program, name: str) -> Any:
    """A backend as the admin API has it."""
    return json.loads(program.admin(f"{ALL}/{name}")[1])


async def until(condition: Callable[[], object], what: str) -> None:
    """Wait until the condition holds."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, what
        await asyncio.sleep(0.02)


def kill(node: Nginx) -> None:
    """End a node with all its processes at once."""
    master = int((node.directory / "nginx.pid").read_text())
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(master)], capture_output=True, text=True, check=True)
    for pid in (master, *map(int, found.stdout.split())):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
async def test_a_thousand_clients(start_nginx: StartNginx, start_program: StartProgram) -> None:
    """
    All stay; of one that is drained its third stays and nobody new comes; when it dies, they move once and stay.

    A drained node shows how many sticky clients it has, and no node ever sees the cookie.
    """
    nodes = start_nodes(start_nginx)
    program = start_program(config(nodes))
    clients = [Client() for _ in range(CLIENTS)]
    home = await nodes_of(clients, program.port)
    assert all(320 <= count <= 347 for count in Counter(home.values()).values()), Counter(home.values())
    for _ in range(3):
        assert await nodes_of(clients, program.port) == home
    assert {client.given for client in clients} == {1}

    assert program.change("PATCH", f"{ALL}/n2?wait=5s", {"state": "drain"})[0] == 200
    of_drained = [client for client in clients if home[client] == "n2"]
    assert await nodes_of(clients, program.port) == home
    assert "n2" not in (await nodes_of([Client() for _ in range(200)], program.port)).values()
    await until(lambda: backend(program, "n2")["sticky_clients"]["5m"] == len(of_drained), "all are seen")
    assert backend(program, "n2")["sticky_clients"]["60m"] == len(of_drained)
    assert f"sticky clients: {len(of_drained)} in 5m" in program.run_verb("status")[1]

    kill(nodes[1])
    moved = await nodes_of(clients, program.port)
    assert {client for client in clients if moved[client] != home[client]} == set(of_drained)
    assert {client.given for client in of_drained} == {2}
    nodes[1].stop()
    nodes[1].start()
    assert program.change("PATCH", f"{ALL}/n2", {"state": "ready"})[0] == 200
    assert await nodes_of(clients, program.port) == moved
    assert sum(client.given for client in clients) == CLIENTS + len(of_drained)


async def test_new_clients_go_where_the_sticky_ones_are_not(
    start_nginx: StartNginx, start_program: StartProgram
) -> None:
    """A node's own clients are charged to it, so that all together get the same."""
    program = start_program({**config(start_nodes(start_nginx)), "workers": 1})
    clients = [Client() for _ in range(3)]
    home = await nodes_of(clients, program.port)
    (mine,) = [client for client in clients if home[client] == "n1"]
    served = Counter[str]()
    for _ in range(20):
        served.update((await nodes_of([mine], program.port)).values())
        for _ in range(2):
            served.update((await nodes_of([Client()], program.port)).values())
    assert served == {"n1": 20, "n2": 20, "n3": 20}


async def test_maintenance_and_weight_0(start_nginx: StartNginx, start_program: StartProgram) -> None:
    """A weight of 0 keeps its clients and gets no others; maintenance loses them."""
    program = start_program(config(start_nodes(start_nginx)))
    clients = [Client() for _ in range(30)]
    home = await nodes_of(clients, program.port)
    assert program.change("PATCH", f"{ALL}/n1", {"weight": 0})[0] == 200
    assert await nodes_of(clients, program.port) == home
    assert "n1" not in (await nodes_of([Client() for _ in range(30)], program.port)).values()
    assert program.change("PATCH", f"{ALL}/n1", {"state": "maint"})[0] == 200
    moved = await nodes_of(clients, program.port)
    assert "n1" not in moved.values()
    assert {client for client in clients if moved[client] != home[client]} == {
        client for client in clients if home[client] == "n1"
    }
    assert await nodes_of(clients, program.port) == moved


async def test_checks_that_fail_lose_the_clients(start_nginx: StartNginx, start_program: StartProgram) -> None:
    """As soon as the node is down, without an attempt on it; in both workers."""
    nodes = start_nodes(start_nginx)
    settings = config(nodes)
    settings["pools"]["web"]["health"] = {"type": "http", "interval": "200ms", "fall": 2}
    program = start_program(settings)
    clients = [Client() for _ in range(30)]
    home = await nodes_of(clients, program.port)
    kill(nodes[0])
    await until(lambda: backend(program, "n1")["health"] == "down", "n1 is down")
    moved = await nodes_of(clients, program.port)
    assert "n1" not in moved.values()
    assert all(moved[client] == home[client] for client in clients if home[client] != "n1")
    assert await nodes_of(clients, program.port) == moved


async def test_forged_cookies(start_nginx: StartNginx, start_program: StartProgram) -> None:
    """Names, numbers and noise are nobody's: the client is a new one."""
    program = start_program(config(start_nodes(start_nginx)))
    for value in ("n1", "1", "x" * 27, "0000.AAAAAAAAAAAAAAAAAAAAAA", '"', "%2e"):
        client = Client()
        client.value = value
        await nodes_of([client], program.port)
        assert client.given == 1
        home = await nodes_of([client], program.port)
        assert await nodes_of([client], program.port) == home
        assert client.given == 1


async def test_secrets_are_rotated_and_another_machine_agrees(
    start_nginx: StartNginx, start_program: StartProgram, tmp_path: Path
) -> None:
    """
    Over a restart with a new and the old secret clients stay and get new cookies; then the old one may go.

    The secret comes from a file, once; another program with it agrees at once.
    """
    nodes = start_nodes(start_nginx)
    program = start_program(config(nodes))
    clients = [Client() for _ in range(30)]
    home = await nodes_of(clients, program.port)
    old = {client: client.value for client in clients}

    file = tmp_path / "secret"
    file.write_text(f"another secret\n{SECRET}\n")
    program.stop()
    program.config["pools"]["web"]["sticky"] = {"secret_file": str(file)}
    program.start()
    assert await nodes_of(clients, program.port) == home
    assert all(client.value != old[client] for client in clients)
    assert {client.given for client in clients} == {2}

    other = start_program(config(nodes, {"secret": "another secret"}))
    assert await nodes_of(clients, other.port) == home
    assert {client.given for client in clients} == {2}
    for client in clients:
        client.value = old[client]
    await nodes_of(clients, other.port)
    assert {client.given for client in clients} == {3}, "the old secret is not believed any more"


async def test_secrets_stay_secret(start_nginx: StartNginx, start_program: StartProgram) -> None:
    """Not in the API, not in the logs, not in what anybody on the machine can see of the processes."""
    program = start_program({**config(start_nodes(start_nginx, 1)), "log_level": "debug"})
    await nodes_of([Client()], program.port)
    program.change("PATCH", f"{ALL}/n1", {"weight": 2})
    shown = program.admin("/api/v1/config")[1].decode()
    assert json.loads(shown)["config"]["pools"]["web"]["sticky"]["secret"] == ["**********"]
    texts = [shown, program.stderr, program.stdout, program.log.path.read_text(), program.admin("/metrics")[1].decode()]
    for pid in (program.process.pid, *program.workers()):
        texts += [Path(f"/proc/{pid}/{name}").read_bytes().decode() for name in ("cmdline", "environ")]
    assert not [text for text in texts if SECRET in text]


async def test_two_pools_with_the_same_cookie_name(start_nginx: StartNginx, start_program: StartProgram) -> None:
    """On hosts of their own each goes by its own values; one's value means nothing to the other."""
    nodes = start_nodes(start_nginx)
    settings = config(nodes)
    settings["pools"]["api"] = settings["pools"]["web"]
    settings["routes"] = [{"host": "api.test", "pool": "api"}, {"pool": "web"}]
    program = start_program(settings)
    web, api = Client(), Client()
    first = {client: (await client.ask(program.port, host=host)).get("x-node") for client, host in _hosts(web, api)}
    for client, host in _hosts(web, api) * 3:
        assert (await client.ask(program.port, host=host)).get("x-node") == first[client]
    assert (web.given, api.given) == (1, 1)
    api.value = web.value
    await api.ask(program.port, host="api.test")
    assert api.given == 2
    assert api.value != web.value


def _hosts(web: Client, api: Client) -> list[tuple[Client, str]]:
    return [(web, "web.test"), (api, "api.test")]


async def test_explain(start_nginx: StartNginx, start_program: StartProgram) -> None:
    """The verb says whom the cookie names, and what that is worth."""
    program = start_program(config(start_nodes(start_nginx)))
    client = Client()
    (node,) = (await nodes_of([client], program.port)).values()
    program.change("PATCH", f"{ALL}/{node}", {"state": "drain"})
    ask = ("explain", "GET", "http://h/", "-H", f"Cookie: SRV={client.value}")
    code, out, _ = program.run_verb(*ask)
    assert code == 0
    assert f"sticky    cookie SRV is of {node}\nresult    served by web/{node}\n" in out
    program.change("PATCH", f"{ALL}/{node}", {"state": "maint"})
    assert f"cookie SRV is of {node}, which is lost (maint): it gets another" in program.run_verb(*ask)[1]


async def test_a_cookie_that_is_in_flight_when_its_node_dies(
    ports: Ports, start_nginx: StartNginx, start_origin: StartOrigin, start_program: StartProgram
) -> None:
    """A request whose answer hadn't begun is served by another node."""
    (node,) = start_nodes(start_nginx, 1)
    arrived = asyncio.Event()

    async def answer_once(connection: OriginConnection) -> None:
        await connection.request()
        if not arrived.is_set():
            arrived.set()
            await connection.send(OK)
            await connection.request()
        connection.reset()

    origin = start_origin(ports.take(), name="dies")
    origin.play(answer_once)
    settings = config([node])
    settings["pools"]["web"]["backends"].insert(0, {"name": "dies", "address": f"127.0.0.1:{origin.port}"})
    program = start_program({**settings, "workers": 1})
    client = Client()
    assert (await client.ask(program.port)).get("x-node") is None
    assert (await client.ask(program.port)).get("x-node") == b"n1"


async def test_websockets(ports: Ports, start_program: StartProgram) -> None:
    """A client gets its cookie with the 101 and comes back to the same node with it, which doesn't see it."""
    saw: list[tuple[str, str | None]] = []

    def node(name: str) -> Callable[[ServerConnection], Any]:
        async def handle(connection: ServerConnection) -> None:
            assert connection.request is not None
            saw.append((name, connection.request.headers.get("Cookie")))
            async for message in connection:
                await connection.send(message)

        return handle

    taken = {name: ports.take() for name in ("a", "b")}
    backends = [{"name": name, "address": f"127.0.0.1:{port}"} for name, port in taken.items()]
    async with serve(node("a"), "127.0.0.1", taken["a"]), serve(node("b"), "127.0.0.1", taken["b"]):
        program = start_program({"pools": {"web": {"backends": backends, "sticky": {"secret": SECRET}}}})
        uri = f"ws://127.0.0.1:{program.port}/chat"
        async with connect_websocket(uri, proxy=None) as connection:
            assert connection.response is not None
            cookie = connection.response.headers["Set-Cookie"].partition(";")[0]
        for _ in range(4):
            async with connect_websocket(uri, proxy=None, additional_headers={"Cookie": cookie}) as connection:
                await connection.send("hello")
                assert await connection.recv() == "hello"
                assert connection.response is not None
                assert "Set-Cookie" not in connection.response.headers
        program.stop()
    assert {name for name, _ in saw} == {saw[0][0]}
    assert {seen for _, seen in saw} == {None}
