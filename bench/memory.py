"""
Resident memory: how much large bodies add.

Exit code 1 if the bar is missed. Must not know how bytes are held.

1 GiB down, 1 GiB up, and a client that reads 1 MiB a second while the backend could send at once. The memory of all
processes is looked at ten times a second; what counts is the maximum above the level before, of each transfer and of
all three together. It is told what had grown: memory of a process's own, or pages of files, which is code that runs for
the first time, or again after the system had taken it away. Kernel memory (socket buffers) is not in it. The proxy is a
fresh one, which has served a few small requests before. The clients are processes of their own.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import stage

GIB, MIB = 1024**3, 1024**2
GROWTH_BAR_BYTES = 16 * MIB
BODY_BYTES = GIB
SLOW_SECONDS = 30
SLOW_RATE = MIB  # bytes a second
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
    parser = argparse.ArgumentParser(description="Resident memory under large bodies.")
    parser.add_argument("--json", action="store_true", help="print a result for machines")
    options = parser.parse_args()
    with stage.temporary_directory() as directory, backend(directory / "backend") as port:
        bodies = measure_bodies(directory, port)
    most = max(transfer["growth_bytes"] for transfer in bodies.values())
    met = most < GROWTH_BAR_BYTES
    result = {"bodies": bodies, "bars": {"growth_bytes": GROWTH_BAR_BYTES}, "met": met}
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
        await_no_connections(proxy)
        yield proxy


def await_no_connections(proxy: stage.Proxy) -> None:
    """Wait until the proxy has no connection, and for what it still does about the last ones."""
    until = time.monotonic() + stage.START_SECONDS
    while (now := proxy.connections()) > 0:
        if time.monotonic() > until:
            raise stage.StageError(f"the proxy still has {now} connections")
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
        [one for transfer in results.values() for one in transfer["samples"]],
        sum(transfer["seconds"] for transfer in results.values()),
    )
    for transfer in results.values():
        transfer["samples"] = len(transfer["samples"])
    return results


def watch(proxy: stage.Proxy, kind: str, target: str, *numbers: int) -> dict[str, Any]:
    """Look at the memory of all processes of the proxy while a client is at work."""
    pids = stage.process_tree(proxy.pid)
    samples = [sample(pids)]
    began = time.monotonic()
    with client(proxy.port, kind, target, *numbers) as started:
        while started.poll() is None:
            time.sleep(SAMPLE_SECONDS)
            samples.append(sample(pids))
    return growth(samples, time.monotonic() - began)


def sample(pids: Sequence[int]) -> dict[str, int]:
    """Return the resident memory by process, the supervisor first, and by whether it is its own or pages of files."""
    found: dict[str, int] = {}
    for index, pid in enumerate(pids):
        resident, own = stage.resident_parts(pid)
        name = f"process {index}" if index else "supervisor"
        found |= {f"{name}, its own": own, f"{name}, of files": resident - own}
    return found


def growth(samples: list[dict[str, int]], seconds: float) -> dict[str, Any]:
    """Compare the highest sample with the first; tell what it was that had grown."""
    first, peak = samples[0], max(samples, key=lambda one: sum(one.values()))
    before, most = sum(first.values()), sum(peak.values())
    return {
        "before_bytes": before,
        "peak_bytes": most,
        "growth_bytes": most - before,
        "grown": {name: size - first[name] for name, size in peak.items()},
        "seconds": round(seconds, 1),
        "samples": samples,
    }


def describe(result: dict[str, Any]) -> str:
    """Write the result for people."""
    rows = [["resident memory, MiB", "before", "peak", "growth", "seconds", "samples"]]
    for name, transfer in result["bodies"].items():
        keys = ("before_bytes", "peak_bytes", "growth_bytes")
        sizes = [f"{transfer[key] / MIB:.2f}" for key in keys]
        rows.append([name, *sizes, f"{transfer['seconds']:.1f}", str(transfer["samples"])])
    worst = max(result["bodies"].values(), key=lambda transfer: transfer["growth_bytes"])
    most = worst["growth_bytes"]
    parts = ", ".join(f"{name} {size / MIB:+.2f}" for name, size in worst["grown"].items())
    verdict = "met" if result["met"] else "MISSED"
    bar = f"bar: growth below {GROWTH_BAR_BYTES / MIB:g} MiB: {most / MIB:.2f}, {verdict}"
    return f"{stage.table(rows)}\nwhere it grew most: {parts}\n{bar}"


if __name__ == "__main__":
    stage.run(main)
