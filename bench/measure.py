"""
One round: let clients load a contender, and ask the kernel what that took.

Must not know who the contenders are, in which order they are measured, or what is made of the figures. CPU is user
and system time of all processes of the contender, from before the load starts until it has ended. Each round also
counts the lines of the access log: who doesn't write one would win for nothing.
"""

import contextlib
import errno
import os
import time
from pathlib import Path

from bench import load, nodes, stage
from bench.contenders import Running
from bench.scenarios import KIB, MIB, MOST_RATE, Demand, Scenario

WARM_UP_SECONDS = 1
WARM_UP_CONNECTIONS = 20
SETTLE_SECONDS = 1.0
# Of a round at a fixed rate: when the whole machine stands still for 40 ms at its end, it wasn't that rate.
ATTEMPTS = 3
LOGGED = 0.9
LOG_SECONDS = 2.0  # for lines that are still on their way
# These count requests as the log does: a WebSocket has one line, however much it echoes.
LOGGED_KINDS = ("wrk", "h2load", "open_loop")

#: Figures of a round by name: those of ``scenarios.FIGURES`` and what else there is to tell.
Sample = dict[str, float]


def warm_up(running: Running, demand: Demand, seconds: int, core: int, body: Path) -> float:
    """Let a contender serve for a while; return what it can do a second where an open loop needs it, 0 elsewhere."""
    if demand.kind == "idle":
        with load.idle(running.port, WARM_UP_CONNECTIONS, core):
            pass
        time.sleep(SETTLE_SECONDS)
        return 0.0
    if demand.kind == "open_loop":
        done = _wrk(running.port, demand, seconds, core)
        return done.requests / done.seconds
    drive(running.port, demand, WARM_UP_SECONDS, core, body)
    return 0.0


def measure_round(
    running: Running, scenario: Scenario, seconds: int, cores: tuple[int, int], body: Path, capacity: float
) -> Sample:
    """Load a contender once; ``cores`` are its own, and that of nodes and clients."""
    demand = scenario.demand
    if demand.kind == "idle":
        return measure_idle(running, demand.connections, cores[1])
    family = stage.process_tree(running.pid)
    with load.idle(running.port, demand.idle, cores[1]) if demand.idle else contextlib.nullcontext():
        empty(running.log)
        stage.reset_peak(family)
        before, core_before = stage.cpu(running.pid), stage.core_seconds(cores[0])
        done = drive(running.port, demand, seconds, cores[1], body, capacity)
        after, core_after = stage.cpu(running.pid), stage.core_seconds(cores[0])
        peak = stage.peak_bytes(family)
    if demand.kind in LOGGED_KINDS:
        check_log(running, done.requests, demand.connections)
    user, system = after.user - before.user, after.system - before.system
    sample = {
        "cpu_us": (user + system) * 1e6 / done.requests,
        "user_us": user * 1e6 / done.requests,
        "system_us": system * 1e6 / done.requests,
        "requests_per_second": done.requests / done.seconds,
        "p50_ms": done.p50_ms,
        "p99_ms": done.p99_ms,
        "late_p99_ms": done.late_p99_ms,
        "peak_mib": peak / MIB,
        "others": max(0.0, core_after - core_before - user - system) / done.seconds,
    }
    if capacity:
        sample["capacity_share"] = done.requests / done.seconds / capacity
    if scenario.place.nodes == "slow":
        sample["slow_share"] = slow_share(demand.connections, done.requests / done.seconds)
    return sample


def measure_idle(running: Running, connections: int, core: int) -> Sample:
    """Hold idle connections; tell what all processes have grown by for each. Kernel memory is not in it."""
    family = stage.process_tree(running.pid)
    stage.reset_peak(family)
    before = stage.resident_bytes(family)
    with load.idle(running.port, connections, core):
        time.sleep(SETTLE_SECONDS)
        after = stage.resident_bytes(family)
    return {"connection_kib": (after - before) / connections / KIB, "peak_mib": stage.peak_bytes(family) / MIB}


def slow_share(connections: int, rate: float) -> float:
    """
    Tell which share of the requests the slow backend got at most, by Little's law.

    As many requests are always under way as there are connections, so their mean time follows from the rate; it lies
    between what a fast one and what the slow one takes as the requests do. Other time counts as the slow one's, too.

        >>> round(slow_share(64, 32_000.0), 3), round(slow_share(64, 940.0), 3)
        (0.005, 0.337)
    """
    fast, slow = nodes.FAST_SECONDS, nodes.SLOW_SECONDS
    return max(0.0, (connections / rate - fast) / (slow - fast))


def drive(port: int, demand: Demand, seconds: int, core: int, body: Path, capacity: float = 0.0) -> load.Load:
    """Be the clients of a round."""
    if demand.kind == "h2load":
        return load.h2load(
            port,
            path=demand.path,
            connections=demand.connections,
            seconds=seconds,
            body=body,
            headers=demand.headers,
            core=core,
        )
    if demand.kind == "echo":
        return load.echo(port, connections=demand.connections, seconds=seconds, core=core)
    if demand.kind == "open_loop":
        return _open_loop(port, demand, seconds, core, min(MOST_RATE, demand.share * capacity))
    return _wrk(port, demand, seconds, core)


def _wrk(port: int, demand: Demand, seconds: int, core: int) -> load.Load:
    return load.wrk(
        port,
        path=demand.path,
        connections=demand.connections,
        seconds=seconds,
        headers=demand.headers,
        core=core,
        # Of smaller answers a round has so many that those begun at its end don't matter.
        answer_bytes=demand.answer_bytes if demand.answer_bytes >= MIB else None,
    )


def _open_loop(port: int, demand: Demand, seconds: int, core: int, rate: float) -> load.Load:
    for attempt in range(ATTEMPTS):
        try:
            return load.open_loop(
                port, rate=rate, connections=demand.connections, seconds=seconds, headers=demand.headers, core=core
            )
        except stage.StageError:
            if attempt + 1 == ATTEMPTS:
                raise
    raise AssertionError


def empty(log: Path | None) -> None:
    """Make a log empty. Who doesn't append leaves a hole at its beginning, which takes no room."""
    if log is not None:
        os.truncate(log, 0)


def count_lines(log: Path) -> int:
    """Count the lines of a log that may begin with a hole."""
    with log.open("rb") as file:
        try:
            file.seek(os.lseek(file.fileno(), 0, os.SEEK_DATA))
        except OSError as error:
            if error.errno != errno.ENXIO:  # nothing but a hole
                raise
            return 0
        return sum(1 for _ in file)


def check_log(running: Running, requests: float, connections: int) -> None:
    """
    Fail unless the round's requests are in the log.

    Of large bodies each connection may have left one unfinished, which counts as far as it got.
    """
    if running.log is None:
        return
    wanted = LOGGED * requests - connections
    until = time.monotonic() + LOG_SECONDS
    while (lines := count_lines(running.log)) < wanted:
        if time.monotonic() > until:
            raise stage.StageError(f"{lines} lines in the access log for {requests:.0f} requests")
        time.sleep(0.1)
