"""
What one slow backend of three does to everybody: its share of the requests, and the median time, by policy.

Exit code 1 if least_conn, random or ewma send it 10 % of the requests or more, or if their median is not that of the
fast ones: over 1.5 times what the fast ones take by themselves. round_robin is measured for comparison only.
Must not know how a policy picks. Takes about a minute.

The web nodes are one process of this script that answers after a delay of each port's own; wrk keeps 64
connections busy. It shares a core with the nodes, pyproxy has the other one.

    slow_backend.py nodes PORT=SECONDS ...   is the nodes, until SIGTERM
"""

import argparse
import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import stage

CONNECTIONS = 64
FAST_SECONDS, SLOW_SECONDS = 0.001, 0.2
WARM_UP_SECONDS = 2
POLICIES = ("round_robin", "least_conn", "random", "ewma")
FREE = {"round_robin"}  # of the bar
ALLOWED_SHARE = 0.10
ALLOWED_RATIO = 1.5
FAST_ONLY = "fast_only"  # the pool without the slow one

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nhello, world\n"

# wrk's own report is for people; this one has what is needed, as the last line.
REPORT = """
done = function(summary, latency, requests)
    local errors = summary.errors
    io.write(string.format('\\n{"requests": %d, "p50_ms": %.3f, "p99_ms": %.3f, "errors": %d}\\n',
        summary.requests, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
        errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


class Node(asyncio.Protocol):
    """A web node that thinks for a while before it answers."""

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._loop.call_later(self._delay, self._transport.write, ANSWER * data.count(b"\r\n\r\n"))


class Result(NamedTuple):
    """What the clients saw with one pool; ``share`` is the slow backend's."""

    requests: int
    p50_ms: float
    p99_ms: float
    share: float


class Wrk(NamedTuple):
    """How wrk is run."""

    binary: str
    script: Path
    core: int

    def run(self, url: str, seconds: int) -> dict[str, float]:
        """Load an address for some seconds; every request must be answered with 2xx."""
        command = [self.binary, "-t", "1", "-c", str(CONNECTIONS), "-d", f"{seconds}s", "--timeout", "10s"]
        with stage.pinned(self.core):
            done = subprocess.run([*command, "-s", str(self.script), url], capture_output=True, text=True, check=False)
        if done.returncode:
            raise stage.StageError(f"wrk failed: {done.stderr}")
        report: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        if report["errors"] or not report["requests"]:
            raise stage.StageError(f"not every request was answered:\n{done.stdout}")
        return report


def main() -> int:
    """Measure, print, compare."""
    if sys.argv[1:2] == ["nodes"]:
        uvloop.run(serve(sys.argv[2:]))
        return 0
    parser = argparse.ArgumentParser(description="One slow backend of three.")
    parser.add_argument("--seconds", type=int, default=8, help="how long each policy is measured (8)")
    parser.add_argument("--json", action="store_true", help="print a result for machines")
    options = parser.parse_args()
    with running() as (proxy, wrk):
        results = {name: measure(proxy, wrk, name, options.seconds) for name in (FAST_ONLY, *POLICIES)}
    verdicts = {name: judge(results[name], results[FAST_ONLY]) for name in POLICIES if name not in FREE}
    met = all(verdicts.values())
    if options.json:
        plain = {name: result._asdict() for name, result in results.items()}
        print(json.dumps({"results": plain, "verdicts": verdicts, "met": met}, indent=2))
    else:
        print(describe(results, verdicts))
    return 0 if met else 1


async def serve(nodes: Sequence[str]) -> None:
    """Be the web nodes."""
    loop = asyncio.get_running_loop()
    servers = []
    for node in nodes:
        port, _, seconds = node.partition("=")
        servers.append(await loop.create_server(partial(Node, float(seconds)), stage.HOST, int(port)))
    await asyncio.gather(*(server.serve_forever() for server in servers))


@contextlib.contextmanager
def running() -> Iterator[tuple[stage.Proxy, Wrk]]:
    """Start the nodes and the proxy, with a pool and a path for each policy."""
    measured, others = stage.two_cores()
    binary = stage.require("wrk")
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(stage.temporary_directory())
        script = directory / "report.lua"
        script.write_text(REPORT)
        ports = [stage.free_port() for _ in range(3)]
        delays = (SLOW_SECONDS, FAST_SECONDS, FAST_SECONDS)
        nodes = [f"{port}={delay}" for port, delay in zip(ports, delays, strict=True)]
        command = [sys.executable, str(Path(__file__).resolve()), "nodes", *nodes]
        started = stack.enter_context(stage.process(command, directory / "nodes.txt", others))
        stage.await_ports(started, ports, directory / "nodes.txt")
        proxy = stack.enter_context(stage.proxy(directory / "pyproxy", ports, measured, make_pools(ports)))
        yield proxy, Wrk(binary, script, others)


def make_pools(ports: Sequence[int]) -> dict[str, Any]:
    """Make a pool and a route for each policy; the slow backend is the first one."""
    backends = [{"name": f"b{number}", "address": f"{stage.HOST}:{port}"} for number, port in enumerate(ports)]
    pools: dict[str, Any] = {policy: {"policy": policy, "backends": backends} for policy in POLICIES}
    pools[FAST_ONLY] = {"backends": backends[1:]}
    return {"pools": pools, "routes": [{"path": f"/{pool}", "pool": pool} for pool in pools]}


def measure(proxy: stage.Proxy, wrk: Wrk, pool: str, seconds: int) -> Result:
    """Load one pool, after a while in which it learns."""
    url = f"http://{stage.HOST}:{proxy.port}/{pool}"
    wrk.run(url, WARM_UP_SECONDS)
    before = proxy.totals(pool)
    report = wrk.run(url, seconds)
    served = [after - count for after, count in zip(proxy.totals(pool), before, strict=True)]
    share = 0.0 if pool == FAST_ONLY else served[0] / sum(served)
    return Result(int(report["requests"]), report["p50_ms"], report["p99_ms"], round(share, 4))


def judge(result: Result, fast: Result) -> bool:
    """Tell whether the bar is met."""
    return result.share < ALLOWED_SHARE and result.p50_ms <= ALLOWED_RATIO * fast.p50_ms


def describe(results: dict[str, Result], verdicts: dict[str, bool]) -> str:
    """Write the result for people."""
    rows = [["", "slow one's share", "p50 ms", "p99 ms", "requests", "bar"]]
    for name, result in results.items():
        verdict = {None: "", True: "met", False: "MISSED"}[verdicts.get(name)]
        share = "" if name == FAST_ONLY else f"{result.share:.1%}"
        rows.append([name, share, f"{result.p50_ms:.2f}", f"{result.p99_ms:.2f}", str(result.requests), verdict])
    bar = f"share under {ALLOWED_SHARE:.0%}, p50 at most {ALLOWED_RATIO:g} times that of {FAST_ONLY}"
    nodes = f"{SLOW_SECONDS * 1e3:.0f} ms against {FAST_SECONDS * 1e3:.0f} ms twice, {CONNECTIONS} connections"
    return f"{stage.table(rows)}\n{nodes}; bar: {bar}"


if __name__ == "__main__":
    stage.run(main)
