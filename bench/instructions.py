"""
Instructions per keep-alive request in a worker, counted by callgrind, against ``bench/baseline.json``.

The sources and the compiled program each have a baseline: whichever this is run with is counted. Exit code 1 if a
scenario needs over 15 % more than the baseline; with ``--scale`` if 10,000 routes or 1,000 backends
need over 10 % more than 1 and 3 do. Must not know how a worker does its work.

Only the worker runs under valgrind. This script is its supervisor (channel, scoreboard, listening socket,
log), its three backends and its client, which sends one request after another on one connection. A run of 2N
requests minus a run of N leaves N requests of steady state: start, first connections and end are in both.
Nothing is timed, so a busy machine hardly matters; what is left to chance is the worker's periodic work, ten
times a second. Hashes are seeded; compiled modules come from a cache that a run without valgrind has filled.

``--scale`` takes five to ten minutes, in which no source may be edited: compiling it anew would be counted. There
the warm-up is longer, until every connection that will be needed is open. Under valgrind a request takes milliseconds,
so the periodic work, which looks at each open connection, would seem to be a large part of it: its rate is counted in
a run that ends idle, told beside, and left out of the request.
"""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import re
import resource
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.append(str(Path(__file__).resolve().parents[1]))  # behind what is installed, which is what is counted

from bench import scale, stage
from pyproxy.channel import Channel
from pyproxy.config.load import load_config
from pyproxy.config.runtime import RuntimeConfig, from_plain
from pyproxy.control.listeners import open_listeners
from pyproxy.control.members import Members
from pyproxy.control.report import make_layout
from pyproxy.control.scoreboard import Scoreboard
from pyproxy.control.settings import make_settings
from pyproxy.control.startup import open_access_log
from pyproxy.control.worker import Program, worker_environ
from pyproxy.proxy import exchange

BASELINE = Path(__file__).with_name("baseline.json")
ALLOWED = 1.15
READY_SECONDS = 120.0
END_SECONDS = 120.0
FILL_REQUESTS = 20  # of the run that fills the cache of compiled modules
IDLE_SECONDS = 20.0  # in which periodic work is counted; long beside what a busy machine does to a run
PROFILE_LINES = 40

ANSWER = (
    b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Type: text/plain\r\n"
    b"Content-Length: 13\r\nConnection: keep-alive\r\n\r\nhello, world\n"
)
# A count, its share, and "file:function", which callgrind numbers when a function calls itself.
_ANNOTATED = re.compile(r"^\s*([\d,]+) \(\s*[\d.]+%\)\s+\S*:([^\s:']+)")


class Run(NamedTuple):
    """How workers are run, and with what."""

    plain: dict[str, Any]
    config: RuntimeConfig
    environ: Mapping[str, str]

    @property
    def port(self) -> int:
        """Where the worker listens."""
        return self.config.listeners[0].port


class Origin(asyncio.Protocol):
    """A backend: one answer for each request, whatever it says."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(ANSWER * data.count(b"\r\n\r\n"))


def main() -> int:
    """Count, print, store or compare."""
    parser = argparse.ArgumentParser(description="Instructions per request, counted by callgrind.")
    parser.add_argument("--requests", type=int, default=1000, help="N; runs take N and 2N requests (1000)")
    parser.add_argument("--write", action="store_true", help=f"store the result in {BASELINE.name}")
    parser.add_argument("--profile", action="store_true", help="print which functions they are spent in, too")
    parser.add_argument("--json", action="store_true", help="print a result for machines")
    parser.add_argument(
        "--scale",
        nargs="?",
        const="",
        metavar="WORD",
        help="1 against 10,000 routes, 3 against 1,000 backends; only those with this word in their name",
    )
    options = parser.parse_args()
    stage.require("valgrind")
    if options.scale is not None:
        return main_scale(options.scale, as_json=options.json)
    with stage.temporary_directory() as directory:
        counts, profiles = asyncio.run(measure(directory, options.requests, profile=options.profile))
    result = {"python": platform.python_version(), "kind": kind(), "scenarios": counts}
    if options.write:
        write(result)
    met, lines = compare(result)
    if options.json:
        print(json.dumps({**result, "profiles": profiles, "comparison": lines, "met": met}, indent=2))
        return 0 if met else 1
    for scenario, profile in profiles.items():
        print(f"{scenario}: instructions a request, by function")
        print("".join(f"{count:8d}  {function}\n" for function, count in profile.items()))
    print(stage.table([(name, f"{count} instructions a request") for name, count in counts.items()]))
    print("\n".join(lines))
    return 0 if met else 1


def main_scale(word: str, *, as_json: bool) -> int:
    """Count and print how a request's cost grows with routes and backends."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with stage.temporary_directory() as directory:
        growths = asyncio.run(measure_scale(directory, word))
    met = all(growth.met for growth in growths)
    if as_json:
        print(json.dumps({"growths": [growth._asdict() for growth in growths], "met": met}, indent=2))
    else:
        print(scale.describe(growths))
    return 0 if met else 1


async def measure_scale(directory: Path, word: str) -> list[scale.Growth]:
    """Count each pair of scenarios, small and large, with this word in a name."""
    growths = []
    async with backends() as ports:
        config = make_config(directory, ports)
        for pair in scale.pairs(config):
            if not any(word in scenario.name for scenario in pair):
                continue
            small, large = [await measure_steady(directory, scenario) for scenario in (pair.small, pair.large)]
            growths.append(scale.Growth(pair.small.name, pair.large.name, small, large))
    return growths


async def measure_steady(directory: Path, scenario: scale.Scenario) -> scale.Cost:
    """Count what a request needs, and what a second without requests, when all connections are there."""
    run = prepare(directory, scenario.config)
    requests, warm_up = scenario.requests, scenario.warm_up
    await serve(run, [sys.executable], requests, FILL_REQUESTS)
    outputs = [directory / f"callgrind.{name}" for name in ("fewer", "idle", "more")]
    fewer_time = await serve(run, callgrind(outputs[0]), requests, warm_up)
    idle_time = await serve(run, callgrind(outputs[1]), requests, warm_up, idle=IDLE_SECONDS)
    more_time = await serve(run, callgrind(outputs[2]), requests, warm_up + scenario.counted)
    fewer, idle, more = map(total, outputs)
    # Periodic work goes by the clock, which on a busy machine runs further in one run than in another.
    periodic = (idle - fewer) / (idle_time - fewer_time)
    spent = more - fewer - periodic * (more_time - fewer_time)
    return scale.Cost(round(spent / scenario.counted), round(periodic))


async def measure(directory: Path, requests: int, *, profile: bool) -> tuple[dict[str, int], dict[str, dict[str, int]]]:
    """Count the instructions per request in each scenario; with ``profile`` also by function."""
    async with backends() as ports:
        run = prepare(directory, make_config(directory, ports))
        await serve(run, [sys.executable], [stage.request(run.port, ())], FILL_REQUESTS)
        counts: dict[str, int] = {}
        profiles: dict[str, dict[str, int]] = {}
        for number, (scenario, headers) in enumerate(stage.SCENARIOS.items()):
            fewer, more = directory / f"callgrind.{number}.1", directory / f"callgrind.{number}.2"
            request = [stage.request(run.port, headers)]
            await serve(run, callgrind(fewer), request, requests)
            await serve(run, callgrind(more), request, 2 * requests)
            counts[scenario] = round((total(more) - total(fewer)) / requests)
            if profile:
                profiles[scenario] = difference(fewer, more, requests)
    return counts, profiles


@contextlib.asynccontextmanager
async def backends() -> AsyncIterator[list[int]]:
    """Serve on three ports, from this process."""
    loop = asyncio.get_running_loop()
    async with contextlib.AsyncExitStack() as stack:
        ports = []
        for _ in range(3):
            server = await stack.enter_async_context(await loop.create_server(Origin, stage.HOST, 0))
            ports.append(server.sockets[0].getsockname()[1])
        yield ports


def make_config(directory: Path, ports: Sequence[int]) -> dict[str, Any]:
    """Make what the file says."""
    config = stage.proxy_config(ports, directory / "access.log", stage.free_port(), stage.free_port())
    # One connection each for all requests: making new ones is not what is counted.
    config["client"] = {"max_requests": 1_000_000}
    config["pools"]["web"]["keepalive"] = {"max_requests": 1_000_000, "idle": "1h"}
    return config


def prepare(directory: Path, config: Mapping[str, Any]) -> Run:
    """Make the configuration as the program does from a file, and the environment of every run."""
    file = directory / "lb.yml"
    file.write_text(json.dumps(config))
    plain = make_settings(load_config(str(file)), str(file)).plain
    environ = worker_environ(os.environ)
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    environ |= {"PYTHONHASHSEED": "0", "PYTHONPYCACHEPREFIX": str(directory / "pycache")}
    return Run(plain, from_plain(plain), environ)


def callgrind(output: Path) -> list[str]:
    """Give the command that runs Python under callgrind, which leaves its counts in ``output``."""
    return [
        *(stage.require("valgrind"), "--tool=callgrind", "--vgdb=no"),
        *(f"--callgrind-out-file={output}", f"--log-file={output}.log", sys.executable),
    ]


async def serve(run: Run, python: Sequence[str], requests: Sequence[bytes], count: int, *, idle: float = 0.0) -> float:
    """
    Run a worker from start to drained, and have it serve ``count`` requests, then nothing for ``idle`` seconds.

    Returns how long it was busy and idle.
    """
    program = Program([*python, "-P", "-m", "pyproxy.worker"], run.environ)
    members = Members(run.config)
    layout = make_layout(run.config, members.capacity)
    listeners = open_listeners(run.config.listeners, 1)
    scoreboard = Scoreboard(1, layout.size, layout.gauges)
    log = open_access_log(run.config.access_log.to)
    assert log is not None
    messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    ours, theirs = socket.socketpair()
    with theirs:
        worker = program.spawn(theirs.fileno())
    try:
        channel = Channel(
            ours,
            lambda message, _: messages.put_nowait(message),
            lambda: messages.put_nowait({"type": "end"}),
        )
        start = {
            "type": "start",
            "slot": 0,
            "version": members.version,
            "config": members.start_config(run.plain),
            "seats": members.capacity,
            "log": True,
        }
        channel.send(start, [scoreboard.fd, log, listeners[0].sockets[0].fileno()])
        answer = await asyncio.wait_for(messages.get(), READY_SECONDS)
        if answer["type"] != "ready":
            raise stage.StageError(f"the worker is not ready: {answer}")
        seconds = await load(run.port, requests, count, idle)
        channel.send({"type": "drain", "grace": 5.0})
        if await asyncio.to_thread(worker.wait, END_SECONDS):
            raise stage.StageError(f"the worker ended with exit status {worker.returncode}")
        channel.close()
    except (TimeoutError, subprocess.TimeoutExpired, EOFError, ConnectionError) as error:
        raise stage.StageError(f"the worker doesn't do its work: {error!r}") from error
    finally:
        worker.kill()
        worker.wait()
        os.close(log)
        scoreboard.close()
        for listener in listeners:
            listener.close()
    return seconds


async def load(port: int, requests: Sequence[bytes], count: int, idle: float) -> float:
    """Send one request after another on one connection, in turn, then be idle; return how long all that took."""
    reader, writer = await asyncio.open_connection(stage.HOST, port)
    began = time.monotonic()
    for number in range(count):
        writer.write(requests[number % len(requests)])
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), READY_SECONDS)
        if not head.startswith(b"HTTP/1.1 200 "):
            raise stage.StageError(f"a request was answered with {head!r}")
        await reader.readexactly(13)
    await asyncio.sleep(idle)
    seconds = time.monotonic() - began
    writer.close()
    await writer.wait_closed()
    return seconds


def total(output: Path) -> int:
    """Return all instructions of a run."""
    for line in output.read_text().splitlines():
        if line.startswith("totals:"):
            return int(line.split()[1])
    raise stage.StageError(f"callgrind left no counts:\n{Path(f'{output}.log').read_text()}")


def difference(fewer: Path, more: Path, requests: int) -> dict[str, int]:
    """Say which functions most of a request's instructions are spent in, without those that they call."""
    spent = Counter(by_function(more))
    spent.subtract(by_function(fewer))
    return {function: round(count / requests) for function, count in spent.most_common(PROFILE_LINES)}


def by_function(output: Path) -> Counter[str]:
    """Return all instructions of a run by function."""
    command = [stage.require("callgrind_annotate"), "--threshold=100", "--auto=no", str(output)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    spent: Counter[str] = Counter()
    for line in text.splitlines():
        found = _ANNOTATED.match(line)
        if found:
            spent[found[2]] += int(found[1].replace(",", ""))
    return spent


def compare(result: Mapping[str, Any]) -> tuple[bool, list[str]]:
    """Return whether no scenario is too far above the baseline, and a line on each."""
    if not BASELINE.exists():
        raise stage.StageError(f"there is no {BASELINE.name} yet: store one with --write; counted: {result}")
    baseline = json.loads(BASELINE.read_text()).get(result["kind"])
    if baseline is None:
        return True, [f"not comparable: there is no baseline of {result['kind']} yet; --write stores one"]
    ours, theirs = result["python"], baseline["python"]
    if _minor(ours) != _minor(theirs):
        return True, [f"not comparable: this is Python {ours}, the baseline was counted with {theirs}"]
    ratios = {name: count / baseline["scenarios"][name] for name, count in result["scenarios"].items()}
    lines = [
        f"{name}: {result['scenarios'][name]} against {baseline['scenarios'][name]} with Python {theirs}, "
        f"{ratio - 1:+.1%}: {'ok' if ratio <= ALLOWED else f'MORE THAN {ALLOWED - 1:.0%} ABOVE'}"
        for name, ratio in ratios.items()
    ]
    return max(ratios.values()) <= ALLOWED, lines


def kind() -> str:
    """Tell whether it is the sources that are counted, as they lie here, or what the image has, and on which build."""
    what = "sources" if exchange.__file__.endswith(".py") else "compiled"
    return f"{what}, optimised Python" if stage.is_optimised() else what


def write(result: Mapping[str, Any]) -> None:
    """Store a result beside that of the other kind."""
    stored = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    stored[result["kind"]] = {key: result[key] for key in ("python", "scenarios")}
    BASELINE.write_text(json.dumps(stored, indent=2) + "\n")


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]


if __name__ == "__main__":
    stage.run(main)
