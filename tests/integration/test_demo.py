"""`pyproxy demo` as a user runs it: it works, tells what to try, and leaves nothing running."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import websockets

from tests.integration.ports import Ports
from tests.integration.supervised import DEADLINE, ROOT, is_running, until


class Demo:
    """One run of the demo."""

    def __init__(self, directory: Path, port: int) -> None:
        self.port = port
        self._out, self._err = directory / "out", directory / "err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pyproxy", "demo", "--port", str(port)],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                process_group=0,
            )

    @property
    def out(self) -> str:
        """What it printed."""
        return self._out.read_text()

    @property
    def err(self) -> str:
        """What it complained about."""
        return self._err.read_text()

    def ready(self) -> "Demo":
        """Wait until it serves."""
        until(lambda: self.process.poll() is not None or self.is_serving(), "demo serves")
        assert self.process.poll() is None, self.err
        return self

    def is_serving(self) -> bool:
        """Whether a request through the proxy is answered, and every node has passed its first check."""
        with suppress(OSError, http.client.HTTPException):
            return self.get("/")[0] == 200 and set(self.health().values()) == {"up"}
        return False

    def health(self) -> dict[str, str]:
        """How each node stands, by the printed address of the admin API."""
        (port,) = set(re.findall(r"http://127\.0\.0\.1:(\d+)/metrics", self.out))
        connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=DEADLINE)
        try:
            connection.request("GET", "/api/v1/pools")
            (pool,) = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        return {backend["name"]: backend["health"] for backend in pool["backends"]}

    def get(self, path: str) -> tuple[int, bytes]:
        """GET through the proxy."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def who(self) -> str:
        """Name of the node that answers."""
        status, body = self.get("/")
        assert status == 200, self.out
        return body.split()[2].decode().rstrip(",")

    def nodes(self) -> dict[str, int]:
        """Name and process id of the nodes, as printed."""
        return {name: int(pid) for name, pid in re.findall(r"(web\d)\s+http://\S+\s+\(pid (\d+)\)", self.out)}

    def processes(self) -> list[int]:
        """Every process that the demo started."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                if int(stat.read_text().rpartition(")")[2].split()[1]) == self.process.pid:
                    found.append(int(stat.parent.name))
        return found


@pytest.fixture
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], Demo]]:
    """Start demos; killed at the end if the test didn't end them."""
    demos: list[Demo] = []

    def start(port: int) -> Demo:
        demos.append(Demo(tmp_path_factory.mktemp("demo"), port))
        return demos[-1]

    yield start
    for demo in demos:
        demo.process.kill()
        demo.process.wait()


@pytest.fixture
def demo(start: Callable[[int], Demo], ports: Ports) -> Demo:
    """A demo that serves."""
    return start(ports.take()).ready()


def test_three_nodes_take_turns(demo: Demo) -> None:
    """Six requests reach each node twice, and the node shows the headers that the proxy added."""
    until(lambda: len({demo.who() for _ in range(3)}) == 3, "the worker knows that all are up")
    names = [demo.who() for _ in range(6)]
    assert sorted(names) == ["web1", "web1", "web2", "web2", "web3", "web3"]
    assert names[:3] == names[3:]
    assert b"X-Forwarded-For: 127.0.0.1" in demo.get("/x")[1]


def test_everything_printed_can_be_tried(demo: Demo) -> None:
    """Each address of each printed curl answers 200."""
    addresses = re.findall(r"curl http://127\.0\.0\.1:(\d+)(/\S*)", demo.out)
    assert len(addresses) == 3
    for port, path in addresses:
        connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=DEADLINE)
        connection.request("GET", path)
        assert connection.getresponse().status == 200
        connection.close()
    assert len(demo.nodes()) == 3


async def test_slow_bytes_and_websocket(demo: Demo) -> None:
    """The nodes' special paths work through the proxy."""
    assert demo.get("/slow?ms=20")[0] == 200
    assert demo.get("/slow?ms=never")[0] == 400
    assert len(demo.get("/bytes/300000")[1]) == 300_000
    async with websockets.connect(f"ws://127.0.0.1:{demo.port}/ws", proxy=None) as channel:
        for message in ("text", b"bytes"):
            await channel.send(message)
            assert await channel.recv() == message


def test_a_node_dies_and_nobody_notices(demo: Demo) -> None:
    """The printed kill takes one node away; every request is still answered."""
    os.kill(demo.nodes()["web1"], signal.SIGTERM)
    names = {demo.who() for _ in range(9)}
    until(lambda: demo.health()["web1"] == "down", "web1 is down")
    assert "web1" not in {demo.who() for _ in range(3)}
    assert {"web2", "web3"} <= names


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM", "SIGKILL"])
def test_nothing_is_left_running(demo: Demo, how: str) -> None:
    """However the demo ends, its nodes and its worker end with it; asked nicely, with code 0."""
    processes = demo.processes()
    assert len(processes) == 4
    if how == "Ctrl-C":
        os.killpg(demo.process.pid, signal.SIGINT)
    else:
        demo.process.send_signal(signal.Signals[how])
    assert demo.process.wait(DEADLINE) == (-signal.SIGKILL if how == "SIGKILL" else 0)
    until(lambda: not any(is_running(pid) for pid in processes), "everything ended")
    assert "Traceback" not in demo.err


def test_a_port_that_is_taken(start: Callable[[int], Demo], ports: Ports) -> None:
    """One clear line, exit code 1, nothing printed that isn't true, nothing left running."""
    port = ports.take()
    with socket.create_server(("127.0.0.1", port)):
        demo = start(port)
        assert demo.process.wait(DEADLINE) == 1
    (line,) = demo.err.splitlines()
    assert line.startswith(f"pyproxy: can't listen on 127.0.0.1:{port} (demo): the address is already in use")
    assert demo.out == ""


def test_the_admin_port_gives_way(start: Callable[[int], Demo], ports: Ports) -> None:
    """When the next port is taken the admin API takes a free one and says which."""
    port = ports.take()
    with socket.socket() as other:
        other.bind(("127.0.0.1", port + 1))
        demo = start(port).ready()
        (admin,) = set(re.findall(r"http://127\.0\.0\.1:(\d+)/metrics", demo.out))
        assert int(admin) not in (port, port + 1)
