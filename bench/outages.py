"""
Nodes that die, hang, drain, come and go under load: what clients notice, and what watching costs.

Real nginx nodes on one core, the proxy on the other, wrk with 64 connections. Prints a row for each promise with its
bar, exit code 1 if one is missed. What must hold whatever the clock says is in ``tests/``; here are the figures.

    outages.py [WORD ...]    only the rows with such a word in their name
"""

import argparse
import contextlib
import http.client
import http.cookies
import json
import os
import re
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.append(str(Path(__file__).resolve().parents[1]))  # behind what is installed, which is what is measured

from bench import load, stage

NODE = 'server {{ listen {port} backlog=4096; location / {{ return 200 "{name}\\n"; }} }} keepalive_timeout 1h;'
CHECKS = {"interval": "1s", "timeout": "500ms", "rise": 2, "fall": 3}
OUT_SECONDS = 3 * (1 + 0.5)  # fall x (interval + timeout)
DEADLINE = 30.0
TURNS = 20
STICKY_CLIENTS = 1000
WRK_COMPLAINT = re.compile(r"(?:Non-2xx|Socket errors).*")
CHECKED, CHECK_SECONDS, CHECK_CORE = 500, 20.0, 0.10


class Row(NamedTuple):
    """One promise: its bar, what was seen, and whether it was kept."""

    name: str
    bar: str
    seen: str
    met: bool


class Node:
    """A web node that can be killed, stopped and started again at its address."""

    def __init__(self, directory: Path, name: str, core: int) -> None:
        self.name = name
        self.port = stage.free_port()
        self._directory = directory
        self._core = core
        self._starts = 0
        self._running = contextlib.ExitStack()
        self.pid = 0
        self.start()

    def start(self) -> None:
        """Start it."""
        self._starts += 1
        text = NODE.format(port=self.port, name=self.name)
        directory = self._directory / f"{self.name}-{self._starts}"
        self.pid = self._running.enter_context(stage.nginx(directory, text, self._core))

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all its processes."""
        for pid in stage.process_tree(self.pid):
            os.kill(pid, number)

    def close(self) -> None:
        """End it, also if it is stopped."""
        with contextlib.suppress(ProcessLookupError):
            self.signal(signal.SIGCONT)
        self._running.close()


class Stage:
    """Three nodes and the proxy in front of them."""

    def __init__(self, directory: Path, nodes: Sequence[Node], proxy: stage.Proxy, core: int) -> None:
        self.directory = directory
        self.nodes = nodes
        self.proxy = proxy
        self.core = core

    def ask(self, method: str, path: str, content: Any = None) -> tuple[int, Any]:
        """Ask the admin API; status and JSON."""
        connection = http.client.HTTPConnection(stage.HOST, self.proxy.admin_port, timeout=DEADLINE)
        try:
            body = None if content is None else json.dumps(content)
            connection.request(method, f"/api/v1/pools/web/backends{path}", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = response.read()
            return response.status, json.loads(answer) if answer else None
        finally:
            connection.close()

    def change(self, method: str, path: str, content: Any = None) -> Any:
        """Change something that can be changed."""
        status, answer = self.ask(method, path, content)
        if status >= 300 or status == 202:
            raise stage.StageError(f"{method} {path}: {status} {answer}")
        return answer

    def await_health(self, node: Node, health: str) -> float:
        """Wait for what the checks find; seconds that it took."""
        begin = time.monotonic()
        while self.ask("GET", f"/{node.name}")[1]["health"] != health:
            if time.monotonic() > begin + DEADLINE:
                raise stage.StageError(f"{node.name} is not {health} after {DEADLINE:.0f} s")
            time.sleep(0.02)
        return time.monotonic() - begin

    def await_told(self, node: Node, clients: int) -> tuple[str, bool]:
        """Wait until the API knows of so many sticky clients, which workers tell every few seconds."""
        begin = time.monotonic()
        while (found := self.ask("GET", f"/{node.name}")[1]["sticky_clients"]["5m"]) != clients:
            if time.monotonic() > begin + DEADLINE:
                break
            time.sleep(0.2)
        return str(found), found == clients

    @contextlib.contextmanager
    def under_load(self, seconds: int) -> Iterator[list[str]]:
        """Have wrk at work meanwhile and until its time is up; yields what it complained of, nothing if all is well."""
        complaints: list[str] = []

        def run() -> None:
            try:
                load.wrk(self.proxy.port, seconds=seconds, core=self.core)
            except stage.StageError as error:
                complaints.append(" ".join(WRK_COMPLAINT.findall(str(error))) or str(error))

        thread = threading.Thread(target=run)
        thread.start()
        try:
            time.sleep(0.5)  # all its connections are at work
            yield complaints
        finally:
            thread.join()


@contextlib.contextmanager
def set_up(pool: dict[str, Any] | None = None, **changes: Any) -> Iterator[Stage]:
    """Set the stage, on the two cores that there are."""
    proxy_core, core = stage.two_cores()
    with stage.temporary_directory() as directory, contextlib.ExitStack() as cleanup:
        nodes = [Node(directory, f"web{number}", core) for number in (1, 2, 3)]
        for node in nodes:
            cleanup.callback(node.close)
        backends = [{"name": node.name, "address": f"{stage.HOST}:{node.port}"} for node in nodes]
        pools = {"web": {"backends": backends, "health": CHECKS, **(pool or {})}}
        config = {"pools": pools, "workers": 2, **changes}
        proxy = cleanup.enter_context(stage.proxy(directory / "proxy", [], proxy_core, config))
        yield Stage(directory, nodes, proxy, core)


def killed() -> Iterator[Row]:
    """Kill a node under load, and start it again."""
    with set_up() as scene:
        node = scene.nodes[0]
        with scene.under_load(8) as complaints:
            node.signal(signal.SIGKILL)
            scene.await_health(node, "down")
            node.start()
            back = scene.await_health(node, "up")
        yield Row("kill -9 under load: failed requests", "0", "; ".join(complaints) or "0", not complaints)
        yield Row("kill -9: up again after the start, 2 checks", "2 s", f"{back:.2f} s", back <= 2.2)


def hung() -> Iterator[Row]:
    """Stop a node so that it accepts and never answers."""
    with set_up({"on_down": "reset"}) as scene:
        before = load.wrk(scene.proxy.port, seconds=4, core=scene.core)
        node = scene.nodes[0]
        with scene.under_load(7) as complaints:
            node.signal(signal.SIGSTOP)
            out = scene.await_health(node, "down")
        after = load.wrk(scene.proxy.port, seconds=4, core=scene.core)
        yield Row("SIGSTOP: out after", f"{OUT_SECONDS} s", f"{out:.2f} s", out <= OUT_SECONDS)
        yield Row("SIGSTOP: failed requests", "0", "; ".join(complaints) or "0", not complaints)
        ratio = after.p50_ms / before.p50_ms
        seen = f"p50 {before.p50_ms:.2f} -> {after.p50_ms:.2f} ms, p99 {before.p99_ms:.2f} -> {after.p99_ms:.2f} ms"
        yield Row("SIGSTOP: latency before, and after it is out", "as before", seen, ratio <= 1.25)


def turns() -> Iterator[Row]:
    """Take a node out, away, back in, again and again."""
    with set_up() as scene:
        late = 0
        node = scene.nodes[0]
        address = f"{stage.HOST}:{node.port}"
        with scene.under_load(20) as complaints:
            for _ in range(TURNS):
                drained = scene.change("PATCH", f"/{node.name}", {"state": "drain"})
                idle = scene.change("PATCH", f"/{node.name}?wait=10s", {"state": "drain"})
                late += idle["total"] - drained["total"]
                scene.change("DELETE", f"/{node.name}")
                scene.change("POST", "", {"name": node.name, "address": address})
                scene.await_health(node, "up")
                scene.change("PATCH", f"/{node.name}", {"state": "ready"})
        yield Row(f"{TURNS} turns: failed requests", "0", "; ".join(complaints) or "0", not complaints)
        yield Row("new requests to a node after it was drained", "0", str(late), late == 0)


class Client:
    """A browser with its cookie, behind an address of its own."""

    def __init__(self, port: int, number: int) -> None:
        self._port = port
        self._source = f"127.1.{number // 250}.{number % 250 + 1}"
        self._cookie = ""

    def visit(self) -> str:
        """Ask once; the name of the node that answered."""
        connection = http.client.HTTPConnection(stage.HOST, self._port, DEADLINE, (self._source, 0))
        try:
            connection.request("GET", "/", headers={"Cookie": self._cookie} if self._cookie else {})
            response = connection.getresponse()
            name = response.read().decode().strip()
            for morsel in http.cookies.SimpleCookie(response.getheader("Set-Cookie", "")).values():
                self._cookie = f"{morsel.key}={morsel.value}"
        except (OSError, http.client.HTTPException) as error:
            return f"failed: {error}"
        finally:
            connection.close()
        return name if response.status == 200 else f"failed: {response.status}"


def sticky() -> Iterator[Row]:
    """Follow a thousand clients through a drain and a death."""
    with set_up({"sticky": {"cookie": "SRV", "secret": "a secret of the benchmark"}}) as scene:
        clients = [Client(scene.proxy.port, number) for number in range(STICKY_CLIENTS)]
        first = [client.visit() for client in clients]
        again = [client.visit() for client in clients]
        yield Row("sticky: clients that stay", str(STICKY_CLIENTS), _same(first, again), first == again)
        node = scene.nodes[0]
        scene.change("PATCH", f"/{node.name}", {"state": "drain"})
        drained = [client.visit() for client in clients]
        yield Row(
            "sticky: that stay while one node drains", str(STICKY_CLIENTS), _same(first, drained), first == drained
        )
        newcomers = Counter(Client(scene.proxy.port, STICKY_CLIENTS + number).visit() for number in range(300))
        seen = f"{newcomers[node.name]} of {newcomers.total()}"
        yield Row("sticky: new clients on the drained node", "0", seen, newcomers[node.name] == 0)
        told = scene.await_told(node, first.count(node.name))
        yield Row("sticky: clients that the API tells of it", str(first.count(node.name)), *told)
        node.signal(signal.SIGKILL)
        scene.await_health(node, "down")
        moved = [client.visit() for client in clients]
        later = [client.visit() for client in clients]
        stay = sum(old == new for old, new in zip(first, moved, strict=True) if old != node.name)
        others = STICKY_CLIENTS - first.count(node.name)
        yield Row("sticky: one node dies, others stay", str(others), str(stay), stay == others)
        is_good = moved == later and set(moved) == {"web2", "web3"}
        yield Row("sticky: its own move once and stay", str(STICKY_CLIENTS), _same(moved, later), is_good)


def restarted() -> Iterator[Row]:
    """Stop and start the proxy: what was changed stays changed."""
    _, core = stage.two_cores()
    with stage.temporary_directory() as directory, contextlib.ExitStack() as cleanup:
        nodes = [Node(directory, f"web{number}", core) for number in (1, 2)]
        for node in nodes:
            cleanup.callback(node.close)
        backends = [{"name": "web1", "address": f"{stage.HOST}:{nodes[0].port}"}]
        config = {"pools": {"web": {"backends": backends}}, "state_dir": str(directory / "state")}
        (directory / "state").mkdir()
        with stage.proxy(directory / "one", [], None, config) as proxy:
            scene = Stage(directory, nodes, proxy, core)
            scene.change("POST", "", {"name": "web2", "address": f"{stage.HOST}:{nodes[1].port}"})
            scene.change("PATCH", "/web1", {"state": "drain", "reason": "bench"})
        with stage.proxy(directory / "two", [], None, config) as proxy:
            found = Stage(directory, nodes, proxy, core).ask("GET", "")[1]
        stands = {view["name"]: (view["state"], view["origin"]) for view in found}
        met = stands == {"web1": ("drain", "config"), "web2": ("ready", "runtime")}
        yield Row("after a restart", "web1 drained, web2 added", str(stands), met)


def watched() -> Iterator[Row]:
    """Have 500 backends checked every two seconds."""
    with stage.temporary_directory() as directory:
        proxy_core, core = stage.two_cores()
        node = Node(directory, "web", core)
        try:
            # One node under many addresses: 127.0.0.0/8 is all ours, if it listens on all of it.
            addresses = [f"127.2.{number // 250}.{number % 250 + 1}:{node.port}" for number in range(CHECKED)]
            _require_any_address(node)
            pool = {"backends": [{"address": address} for address in addresses], "health": {"interval": "2s"}}
            config = {"pools": {"web": pool}}
            with stage.proxy(directory / "proxy", [], proxy_core, config) as proxy:
                time.sleep(3.0)  # the first round, which is all at once
                before, begin = _seconds_of(proxy.pid), time.monotonic()
                time.sleep(CHECK_SECONDS)
                share = (_seconds_of(proxy.pid) - before) / (time.monotonic() - begin)
        finally:
            node.close()
    yield Row(
        f"{CHECKED} backends checked every 2 s", f"{CHECK_CORE:.0%} of a core", f"{share:.1%}", share <= CHECK_CORE
    )


def _require_any_address(node: Node) -> None:
    try:
        socket.create_connection(("127.2.0.1", node.port), 1.0).close()
    except OSError as error:
        raise stage.StageError("the node doesn't listen on 127.2.0.1") from error


def _seconds_of(pid: int) -> float:
    """Seconds of CPU of the supervisor alone."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _same(before: Sequence[str], after: Sequence[str]) -> str:
    return str(sum(old == new for old, new in zip(before, after, strict=True)))


PROMISES: tuple[Callable[[], Iterator[Row]], ...] = (killed, hung, turns, sticky, restarted, watched)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What clients notice when nodes fail, drain, come and go.")
    parser.add_argument("words", metavar="WORD", nargs="*", help="killed, hung, turns, sticky, restarted, watched")
    words = parser.parse_args().words
    rows = []
    for promise in PROMISES:
        if not words or promise.__name__ in words:
            for row in promise():
                rows.append(row)
                print(f"{'met   ' if row.met else 'MISSED'} {row.name}: {row.seen} (bar: {row.bar})", flush=True)
    return 0 if rows and all(row.met for row in rows) else 1


if __name__ == "__main__":
    stage.run(main)
