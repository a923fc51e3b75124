"""
Resident memory: how much large bodies add, and what an idle connection costs.

Exit code 1 if a bar is missed. Must not know how bytes or connections are held.

Bodies: 1 GiB down, 1 GiB up, and a client that reads 1 MiB a second while the backend could send at once. The
memory of all processes is looked at ten times a second; what counts is the maximum above the level before, of
each transfer and of all three together. Connections: one request each, then idle, 5,000 of them; what counts
is what the worker has grown by. Kernel memory (socket buffers) is in neither. Each part has a fresh proxy,
which has served a few small requests before. The clients are processes of their own.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import stage

GIB, MIB, KIB = 1024**3, 1024**2, 1024
GROWTH_BAR_BYTES = 16 * MIB
CONNECTION_BAR_BYTES = 6 * KIB
BODY_BYTES = GIB
SLOW_SECONDS = 30
SLOW_RATE = MIB  # bytes a second
CONNECTIONS = 5000
SAMPLE_SECONDS = 0.1
SETTLE_SECONDS = 1.0
WARM_UP_CONNECTIONS = 20
CLIENT_SECONDS = 600.0

NGINX = """
    sendfile on;
    client_max_body_size 0;
    server {{
        listen {host}:{port};
        location / {{ return 200 "hello, world\\n"; }}
        location /files/ {{ root {directory}; }}
        location /uploads/ {{ root {directory}; dav_methods PUT; create_full_put_path on; }}
    }}
"""


def main() -> int:
    """Measure, print, compare."""
    parser = argparse.ArgumentParser(description="Resident memory under large bodies and idle connections.")
    parser.add_argument("--json", action="store_true", help="print a result for machines")
    options = parser.parse_args()
    with stage.temporary_directory() as directory, backend(directory / "backend") as port:
        bodies = measure_bodies(directory, port)
        idle = measure_idle(directory, port)
    most = max(transfer["growth_bytes"] for transfer in bodies.values())
    met = most < GROWTH_BAR_BYTES and idle["bytes_per_connection"] < CONNECTION_BAR_BYTES
    bars = {"growth_bytes": GROWTH_BAR_BYTES, "bytes_per_connection": CONNECTION_BAR_BYTES}
    result = {"bodies": bodies, "idle": idle, "bars": bars, "met": met}
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        print(describe(result))
    return 0 if met else 1


@contextlib.contextmanager
def backend(directory: Path) -> Iterator[int]:
    """Run nginx with a sparse file and a place for uploads; yield its port."""
    port = stage.free_port()
    with stage.nginx(directory, NGINX.format(host=stage.HOST, port=port, directory=directory)):
        (directory / "files").mkdir()
        with (directory / "files" / "zeros").open("wb") as file:
            file.truncate(BODY_BYTES)
        yield port


@contextlib.contextmanager
def client(port: int, kind: str, target: str, *numbers: int) -> Iterator["subprocess.Popen[str]"]:
    """Run a client, see ``bench/client.py``, to its end, which must be a good one."""
    command = [sys.executable, str(Path(__file__).with_name("client.py")), str(port), kind, target]
    command += map(str, numbers)
    started = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield started
        started.communicate(timeout=CLIENT_SECONDS)
    finally:
        started.kill()
        started.wait()
    if started.returncode:
        raise stage.StageError(f"a client failed: {started.args!r}")


@contextlib.contextmanager
def running(directory: Path, port: int) -> Iterator[stage.Proxy]:
    """Run a proxy that has served a few requests and has no connection any more."""
    with stage.proxy(directory, [port]) as proxy:
        with client(proxy.port, "idle", "/", WARM_UP_CONNECTIONS):
            pass
        await_connections(proxy, 0)
        yield proxy


def await_connections(proxy: stage.Proxy, count: int) -> None:
    """Wait until the proxy has this many connections, and for what it still does about them."""
    until = time.monotonic() + stage.START_SECONDS
    while (now := proxy.connections()) != count:
        if time.monotonic() > until:
            raise stage.StageError(f"the proxy has {now} connections, not {count}")
        time.sleep(SAMPLE_SECONDS)
    time.sleep(SETTLE_SECONDS)


def measure_bodies(directory: Path, port: int) -> dict[str, dict[str, Any]]:
    """Move large bodies; return levels and growth of each transfer and of all together."""
    results: dict[str, dict[str, Any]] = {}
    with running(directory / "bodies", port) as proxy:
        results["down"] = watch(proxy, "download", "/files/zeros", BODY_BYTES)
        results["up"] = watch(proxy, "upload", "/uploads/body", BODY_BYTES)
        results["slow reader"] = watch(proxy, "slow", "/files/zeros", SLOW_RATE, SLOW_SECONDS)
    if (directory / "backend" / "uploads" / "body").stat().st_size != BODY_BYTES:
        raise stage.StageError("the upload did not arrive whole")
    results["all three"] = growth(
        [sample for transfer in results.values() for sample in transfer["samples"]],
        sum(transfer["seconds"] for transfer in results.values()),
    )
    for transfer in results.values():
        transfer["samples"] = len(transfer["samples"])
    return results


def watch(proxy: stage.Proxy, kind: str, target: str, *numbers: int) -> dict[str, Any]:
    """Look at the memory of all processes of the proxy while a client is at work."""
    pids = stage.process_tree(proxy.pid)
    samples = [stage.resident_bytes(pids)]
    began = time.monotonic()
    with client(proxy.port, kind, target, *numbers) as started:
        while started.poll() is None:
            time.sleep(SAMPLE_SECONDS)
            samples.append(stage.resident_bytes(pids))
    return growth(samples, time.monotonic() - began)


def growth(samples: list[int], seconds: float) -> dict[str, Any]:
    """Compare the highest sample with the first."""
    return {
        "before_bytes": samples[0],
        "peak_bytes": max(samples),
        "growth_bytes": max(samples) - samples[0],
        "seconds": round(seconds, 1),
        "samples": samples,
    }


def measure_idle(directory: Path, port: int) -> dict[str, int]:
    """Hold idle connections; return what the worker has grown by for each of them."""
    with running(directory / "idle", port) as proxy:
        workers = proxy.workers()
        before = stage.resident_bytes(workers)
        with client(proxy.port, "idle", "/", CONNECTIONS) as started:
            assert started.stdout is not None
            started.stdout.readline()
            await_connections(proxy, CONNECTIONS)
            after = stage.resident_bytes(workers)
    return {
        "connections": CONNECTIONS,
        "before_bytes": before,
        "after_bytes": after,
        "bytes_per_connection": round((after - before) / CONNECTIONS),
    }


def describe(result: dict[str, Any]) -> str:
    """Write the result for people."""
    rows = [["resident memory, MiB", "before", "peak", "growth", "seconds", "samples"]]
    for name, transfer in result["bodies"].items():
        keys = ("before_bytes", "peak_bytes", "growth_bytes")
        sizes = [f"{transfer[key] / MIB:.2f}" for key in keys]
        rows.append([name, *sizes, f"{transfer['seconds']:.1f}", str(transfer["samples"])])
    most = max(transfer["growth_bytes"] for transfer in result["bodies"].values())
    idle = result["idle"]
    each = idle["bytes_per_connection"]
    return "\n".join(
        [
            stage.table(rows),
            verdict("growth", most, GROWTH_BAR_BYTES, MIB, "MiB"),
            "",
            f"{idle['connections']} idle connections: worker {idle['before_bytes'] / MIB:.2f} MiB before, "
            f"{idle['after_bytes'] / MIB:.2f} MiB with them",
            verdict("each", each, CONNECTION_BAR_BYTES, KIB, "KiB"),
        ]
    )


def verdict(what: str, value: int, bar: int, unit: int, name: str) -> str:
    """Compare a size with its bar."""
    met = "met" if value < bar else "MISSED"
    return f"bar: {what} below {bar / unit:g} {name}: {value / unit:.2f}, {met}"


if __name__ == "__main__":
    stage.run(main)
