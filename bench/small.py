"""
CPU per small keep-alive request, of pyproxy and of nginx with the same features on, side by side in one run.

Exit code 1 if pyproxy needs more than ``--bar`` times what nginx needs. Must not know how either is started.

Each contender has the first core to itself, with one worker; web nodes and wrk share the second. They take
turns (A B A B …) so that a noisy neighbour disturbs both, and the medians are compared. CPU is user and
system time of all processes of the contender as the kernel counts it, from before wrk starts until it has
ended. Each round also counts the lines of the access log: who doesn't write one would win for nothing.
"""

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import stage

CONNECTIONS = 64
WARM_UP_SECONDS = 1
BAR_SCENARIO = "2 headers"

# wrk's own report is for people; this one has what is needed, as the last line.
REPORT = """
done = function(summary, latency, requests)
    local errors = summary.errors
    io.write(string.format('\\n{"requests": %d, "seconds": %.6f, "p99_ms": %.3f, "errors": %d}\\n',
        summary.requests, summary.duration / 1e6, latency:percentile(99) / 1e3,
        errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""

# The log as Debian's nginx writes it: combined, and unbuffered.
NGINX = """
    upstream web {{
{backends}
        keepalive 64;
    }}
    server {{
        listen {host}:{port};
        access_log {log} combined;
        keepalive_requests 1000;
        location / {{
            proxy_pass http://web;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Host $http_host;
            proxy_set_header X-Request-Id $request_id;
        }}
    }}
"""

NODE = 'server {{ listen {}:{}; location / {{ return 200 "hello, world\\n"; }} }}'


class Contender(NamedTuple):
    """One of the two proxies, running."""

    name: str
    pid: int
    core: int
    port: int
    log: Path


class Sample(NamedTuple):
    """One round: µs of CPU per request, and what the clients saw."""

    user: float
    system: float
    total: float
    rate: float
    p99_ms: float
    others: float  # share of the core's time that went to programs that have no part in this


class Wrk(NamedTuple):
    """How wrk is run."""

    binary: str
    script: Path
    core: int

    def run(self, port: int, headers: Sequence[tuple[str, str]], seconds: int) -> dict[str, float]:
        """Load a port for some seconds; every request must be answered with 2xx."""
        command = [self.binary, "-t", "1", "-c", str(CONNECTIONS), "-d", f"{seconds}s", "--timeout", "10s"]
        command += ["-s", str(self.script)]
        for name, value in headers:
            command += ["-H", f"{name}: {value}"]
        with stage.pinned(self.core):
            done = subprocess.run(
                [*command, f"http://{stage.HOST}:{port}/"], capture_output=True, text=True, check=False
            )
        if done.returncode:
            raise stage.StageError(f"wrk failed: {done.stderr}")
        report: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        if report["errors"] or not report["requests"]:
            raise stage.StageError(f"not every request was answered:\n{done.stdout}")
        return report


def main() -> int:
    """Measure, print, compare."""
    parser = argparse.ArgumentParser(description="CPU per small keep-alive request beside nginx.")
    parser.add_argument("--rounds", type=int, default=5, help="how often each contender is measured (5)")
    parser.add_argument("--seconds", type=int, default=4, help="length of a round (4)")
    parser.add_argument("--bar", type=float, default=1.8, help=f"highest good ratio of '{BAR_SCENARIO}' (1.8)")
    parser.add_argument("--json", action="store_true", help="print a result for machines")
    options = parser.parse_args()
    with running() as (contenders, wrk):
        samples = {
            scenario: measure(contenders, wrk, headers, options.rounds, options.seconds)
            for scenario, headers in stage.SCENARIOS.items()
        }
    result = summarize(samples, options.rounds, options.seconds, options.bar)
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        print(describe(result))
    return 0 if result["met"] else 1


@contextlib.contextmanager
def running() -> Iterator[tuple[list[Contender], Wrk]]:
    """Start the web nodes and both contenders; an idle one costs the other nothing."""
    measured, others = stage.two_cores()
    binary = stage.require("wrk")
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(stage.temporary_directory())
        script = directory / "report.lua"
        script.write_text(REPORT)
        nodes = stack.enter_context(web_nodes(directory / "nodes", others))
        ours = stack.enter_context(stage.proxy(directory / "pyproxy", nodes, measured))
        port, log = stage.free_port(), directory / "nginx-access.log"
        backends = "\n".join(f"        server {stage.HOST}:{node};" for node in nodes)
        config = NGINX.format(log=log, backends=backends, host=stage.HOST, port=port)
        theirs = stack.enter_context(stage.nginx(directory / "nginx", config, measured))
        yield (
            [
                Contender("pyproxy", ours.pid, measured, ours.port, directory / "pyproxy" / "access.log"),
                Contender("nginx", theirs, measured, port, log),
            ],
            Wrk(binary, script, others),
        )


@contextlib.contextmanager
def web_nodes(directory: Path, core: int) -> Iterator[list[int]]:
    """
    Run three web nodes with a tiny answer; yield their ports.

    One process serves all three: three would only cost the core on which wrk runs, too, more switching.
    """
    ports = [stage.free_port() for _ in range(3)]
    with stage.nginx(directory, "\n".join(NODE.format(stage.HOST, port) for port in ports), core):
        yield ports


def measure(
    contenders: Sequence[Contender], wrk: Wrk, headers: Sequence[tuple[str, str]], rounds: int, seconds: int
) -> dict[str, list[Sample]]:
    """Let the contenders take turns."""
    for contender in contenders:
        wrk.run(contender.port, headers, WARM_UP_SECONDS)
    samples: dict[str, list[Sample]] = {contender.name: [] for contender in contenders}
    for _ in range(rounds):
        for contender in contenders:
            samples[contender.name].append(measure_round(contender, wrk, headers, seconds))
    return samples


def measure_round(contender: Contender, wrk: Wrk, headers: Sequence[tuple[str, str]], seconds: int) -> Sample:
    """Load a contender once."""
    contender.log.write_bytes(b"")
    before, core_before = stage.cpu(contender.pid), stage.core_seconds(contender.core)
    report = wrk.run(contender.port, headers, seconds)
    after, core_after = stage.cpu(contender.pid), stage.core_seconds(contender.core)
    check_log(contender, report)
    user, system = after.user - before.user, after.system - before.system
    others = max(0.0, core_after - core_before - user - system) / report["seconds"]
    per_request = 1e6 / report["requests"]
    return Sample(
        user * per_request,
        system * per_request,
        (user + system) * per_request,
        report["requests"] / report["seconds"],
        report["p99_ms"],
        others,
    )


def check_log(contender: Contender, report: dict[str, float]) -> None:
    """Fail unless the round's requests are in the log; lines of a moment may still be on their way."""
    with contender.log.open("rb") as log:
        lines = sum(1 for _ in log)
    if lines < 0.9 * report["requests"]:
        raise stage.StageError(f"{contender.name} logged {lines} of {report['requests']} requests")


def summarize(samples: dict[str, dict[str, list[Sample]]], rounds: int, seconds: int, bar: float) -> dict[str, Any]:
    """Reduce the rounds to medians and, of the total, the lowest and the highest; compare with the bar."""
    scenarios: dict[str, Any] = {}
    for scenario, by_name in samples.items():
        found: dict[str, Any] = {name: _medians(rows) for name, rows in by_name.items()}
        found["ratio"] = round(found["pyproxy"]["total_us"] / found["nginx"]["total_us"], 3)
        scenarios[scenario] = found
    return {
        "rounds": rounds,
        "seconds": seconds,
        "connections": CONNECTIONS,
        "scenarios": scenarios,
        "bar": {"scenario": BAR_SCENARIO, "ratio": bar},
        "met": scenarios[BAR_SCENARIO]["ratio"] <= bar,
    }


def _medians(rows: list[Sample]) -> dict[str, float]:
    columns = [[row[column] for row in rows] for column in range(len(Sample._fields))]
    user, system, total, rate, p99_ms, others = (statistics.median(column) for column in columns)
    return {
        "user_us": round(user, 2),
        "system_us": round(system, 2),
        "total_us": round(total, 2),
        "total_us_lowest": round(min(row.total for row in rows), 2),
        "total_us_highest": round(max(row.total for row in rows), 2),
        "requests_per_second": round(rate),
        "p99_ms": round(p99_ms, 2),
        "core_taken_by_others": round(others, 3),
    }


def describe(result: dict[str, Any]) -> str:
    """Write the result for people."""
    rows = [["CPU µs per request", "user", "system", "total", "(rounds)", "requests/s", "p99 ms", "others", "ratio"]]
    for scenario, found in result["scenarios"].items():
        for name in ("pyproxy", "nginx"):
            one = found[name]
            rows.append(
                [
                    f"{scenario}, {name}",
                    *(f"{one[key]:.1f}" for key in ("user_us", "system_us", "total_us")),
                    f"({one['total_us_lowest']:.1f} to {one['total_us_highest']:.1f})",
                    f"{one['requests_per_second']:.0f}",
                    f"{one['p99_ms']:.2f}",
                    f"{one['core_taken_by_others']:.0%}",
                    f"{found['ratio']:.2f}" if name == "pyproxy" else "",
                ]
            )
    bar, ratio = result["bar"], result["scenarios"][BAR_SCENARIO]["ratio"]
    verdict = "met" if result["met"] else "MISSED"
    verdict = f"{bar['scenario']} at most {bar['ratio']:g} times nginx: {ratio:.2f}, {verdict}"
    note = f"Medians of {result['rounds']} rounds of {result['seconds']} s, {CONNECTIONS} connections."
    note += " others: what else ran on the core."
    return f"{stage.table(rows)}\n{note}\nbar: {verdict}"


if __name__ == "__main__":
    stage.run(main)
