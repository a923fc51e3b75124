"""
What loads a contender: wrk, h2load and clients of our own, each for one round, and what its clients saw.

Must not know what is measured, or who answers. Load is on the core that the caller names. Every function raises
``stage.StageError`` unless each request was answered with 2xx and whole. A tool that gets nowhere is ended some
time after its round should have been over, and that is an error too.
"""

import contextlib
import json
import math
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import open_loop as generator
from bench import stage

Headers = Sequence[tuple[str, str]]

SPARE_SECONDS = 15.0  # beyond its round, after which a tool is given up
HEAD_BYTES = 2048  # no answer here has a longer head

# wrk's own report is for people; this one has what is needed, as the last line.
WRK_REPORT = """
done = function(summary, latency, requests)
    local errors = summary.errors
    io.write(string.format(
        '\\n{"requests": %d, "bytes": %d, "seconds": %.6f, "p50_ms": %.3f, "p99_ms": %.3f, "errors": %d}\\n',
        summary.requests, summary.bytes, summary.duration / 1e6,
        latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
        errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""

H2LOAD_SECONDS = re.compile(r"^finished in ([\d.]+)(us|ms|s),", re.MULTILINE)
H2LOAD_REQUESTS = re.compile(r"(\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout")
H2LOAD_GOOD = re.compile(r"^status codes: (\d+) 2xx,", re.MULTILINE)
H2LOAD_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


@dataclass(frozen=True)
class Load:
    """
    What clients did and saw in one round.

    ``requests`` may be a fraction, see ``wrk``. ``late_p99_ms`` is how late an open loop's generator was itself.
    """

    requests: float
    seconds: float
    p50_ms: float
    p99_ms: float
    late_p99_ms: float = math.nan


def wrk(
    port: int,
    *,
    path: str = "/",
    connections: int = 64,
    seconds: int,
    headers: Headers = (),
    core: int,
    answer_bytes: int | None = None,
) -> Load:
    """
    Send GETs, on each connection one after the other.

    wrk stops in the middle of transfers, and counts only those that are over: of 100 MiB on four connections a
    round has perhaps thirty, so that up to four begun ones matter. Whoever gives the size of an answer's body in
    ``answer_bytes`` gets requests by the bytes that came, begun ones with their share, and a check of that size.
    Without it they are the whole ones, which is right for small answers. wrk takes 3xx for an answer, too.

    Its percentiles hold more than it saw: for a time well above the average it adds those of the requests that it
    would have sent meanwhile.
    """
    command = [stage.require("wrk"), "-t", "1", "-c", str(connections), "-d", f"{seconds}s", "--timeout", "10s"]
    for name, value in headers:
        command += ["-H", f"{name}: {value}"]
    with stage.temporary_directory() as directory:
        script = directory / "report.lua"
        script.write_text(WRK_REPORT)
        output = _run([*command, "-s", str(script), _url(port, path)], seconds, core)
    report = json.loads(output.splitlines()[-1])
    if report["errors"]:
        raise stage.StageError(f"not every request was answered:\n{output}")
    requests = float(report["requests"])
    if answer_bytes is not None:
        _check_bytes(report, answer_bytes, connections)
        requests = report["bytes"] / answer_bytes
    return _checked(Load(requests, report["seconds"], report["p50_ms"], report["p99_ms"]))


def h2load(
    port: int, *, path: str, connections: int, seconds: int, body: Path, headers: Headers = (), core: int
) -> Load:
    """
    POST a file by HTTP/1.1, on each connection one after the other.

    h2load tells neither percentiles, which are taken from its log, nor the bytes that it sent: uploads that were
    under way at the end are missing in the requests, up to one a connection. It may hang, until it is given up here,
    when a server closes connections as the round ends.
    """
    command = [stage.require("h2load"), "--h1", "-t", "1", "-c", str(connections), "-D", f"{seconds}s"]
    command += ["-d", str(body)]
    for name, value in headers:
        command += ["-H", f"{name}: {value}"]
    with stage.temporary_directory() as directory:
        log = directory / "requests.tsv"
        output = _run([*command, f"--log-file={log}", _url(port, path)], seconds, core)
        times = generator.Histogram()
        for line in log.read_text().splitlines():
            times.record(int(line.rpartition("\t")[2]) * 1000)
    finished, counts, good = (pattern.search(output) for pattern in (H2LOAD_SECONDS, H2LOAD_REQUESTS, H2LOAD_GOOD))
    if finished is None or counts is None or good is None:
        raise stage.StageError(f"h2load said something else than expected:\n{output}")
    done, succeeded, *bad = map(int, counts.groups())
    if any(bad) or not done == succeeded == int(good[1]):
        raise stage.StageError(f"not every request was answered with 2xx: {counts[0]}; {good[0]}")
    took = float(finished[1]) * H2LOAD_UNITS[finished[2]]
    return _checked(Load(done, took, times.percentile_ms(50), times.percentile_ms(99)))


def echo(port: int, *, connections: int, seconds: int, core: int) -> Load:
    """Have WebSocket messages of 125 bytes come back, on each connection one after the other."""
    return _own(_client(port, "echo", "/", connections, seconds), seconds, core)


def open_loop(port: int, *, rate: float, connections: int, seconds: int, headers: Headers = (), core: int) -> Load:
    """Send GETs at a fixed rate, see ``bench/open_loop.py``."""
    command = [sys.executable, str(Path(generator.__file__)), str(port), "--rate", str(rate)]
    command += ["--connections", str(connections), "--seconds", str(seconds)]
    for name, value in headers:
        command += ["--header", f"{name}: {value}"]
    return _own(command, seconds, core)


@contextlib.contextmanager
def idle(port: int, count: int, core: int) -> Iterator[None]:
    """Hold keep-alive connections on which one request was made; none may be closed meanwhile."""
    with stage.pinned(core):
        client = subprocess.Popen(
            _client(port, "idle", "/", count),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    assert client.stdout is not None
    try:
        if client.stdout.readline().strip() == str(count):
            yield
        errors = client.communicate(timeout=SPARE_SECONDS)[1]
    finally:
        client.kill()
        client.wait()
    if client.returncode:
        raise stage.StageError(errors.strip())


def _own(command: Sequence[str], seconds: int, core: int) -> Load:
    report: dict[str, float] = json.loads(_run(command, seconds, core))
    return _checked(Load(**report))


def _client(port: int, kind: str, target: str, *numbers: int) -> list[str]:
    script = str(Path(__file__).with_name("client.py"))
    return [sys.executable, script, str(port), kind, target, *map(str, numbers)]


def _run(command: Sequence[str], seconds: float, core: int) -> str:
    name = Path(command[1] if command[0] == sys.executable else command[0]).name
    try:
        with stage.pinned(core):
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                check=False, timeout=seconds + SPARE_SECONDS,
            )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise stage.StageError(f"{name} was not over {SPARE_SECONDS:.0f} s after its round") from error
    if done.returncode:
        kind = stage.RateNotHeld if done.returncode == stage.RATE_NOT_HELD else stage.StageError
        raise kind((done.stderr or done.stdout).strip() or f"{name} failed")
    return done.stdout


def _url(port: int, path: str) -> str:
    return f"http://{stage.HOST}:{port}{path}"


def _check_bytes(report: dict[str, float], answer_bytes: int, connections: int) -> None:
    least = report["requests"] * answer_bytes
    most = (report["requests"] + connections) * (answer_bytes + HEAD_BYTES)
    if not least <= report["bytes"] <= most:
        raise stage.StageError(f"{report['bytes']} bytes came in {report['requests']} answers of {answer_bytes} bytes")


def _checked(load: Load) -> Load:
    if load.requests <= 0:
        raise stage.StageError("no request was answered")
    return load
