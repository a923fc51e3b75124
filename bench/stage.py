"""
What every benchmark needs: nginx, the proxy, a core to put them on, and what the kernel knows of a process.

Must not know what is measured. Everything listens on 127.0.0.1, writes below a temporary directory and is
ended by the ``with`` block that started it.
"""

import contextlib
import http.client
import json
import os
import platform
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

ROOT = Path(__file__).resolve().parents[1]
HOST = "127.0.0.1"
START_SECONDS = 30.0
STOP_SECONDS = 20.0
RATE_NOT_HELD = 3  # as an exit code

#: What a browser sends; with Host, which every client here adds itself, these are 15.
BROWSER_HEADERS = (
    ("Connection", "keep-alive"),
    ("Cache-Control", "max-age=0"),
    ("sec-ch-ua", '"Chromium";v="128", "Not;A=Brand";v="24", "Google Chrome";v="128"'),
    ("sec-ch-ua-mobile", "?0"),
    ("sec-ch-ua-platform", '"Linux"'),
    ("Upgrade-Insecure-Requests", "1"),
    ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0.0.0"),
    ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"),
    ("Sec-Fetch-Site", "same-origin"),
    ("Sec-Fetch-Mode", "navigate"),
    ("Sec-Fetch-Dest", "document"),
    ("Accept-Encoding", "gzip, deflate, br, zstd"),
    ("Accept-Language", "en-US,en;q=0.9,de;q=0.8"),
    ("Cookie", "session=0123456789abcdef0123456789abcdef; theme=dark; consent=1"),
)
SCENARIOS = {"2 headers": (("User-Agent", "bench/1.0"),), "15 headers": BROWSER_HEADERS}

# Below 32768, where Linux starts to take ports for outgoing connections, and below those that the tests use.
_PORTS = range(10_000, 19_000)

_NGINX = """
{user}
worker_processes 1;
worker_rlimit_nofile 16384;
pid {directory}/nginx.pid;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
{http}
}}
"""


class StageError(Exception):
    """A reason why nothing could be measured, as the line for the user."""


class Missing(StageError):
    """A program isn't installed; ``package`` is Debian's name of what brings it."""

    def __init__(self, package: str) -> None:
        super().__init__(f"not installed; Debian: apt-get install {package}")
        self.package = package


class RateNotHeld(StageError):
    """The load could not be sent at the rate that was asked for: on this machine, now, nothing is known."""


class Cpu(NamedTuple):
    """Seconds of CPU."""

    user: float
    system: float


def run(main: Callable[[], int]) -> NoReturn:
    """
    Run a script to its exit code.

    1 is a bar that was missed, 2 is a measurement that couldn't be made, 3 is one whose load couldn't be sent.
    """
    # An exception, so that every `with` block ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        code = main()
    except StageError as error:
        sys.stderr.write(f"{Path(sys.argv[0]).name}: {error}\n")
        code = RATE_NOT_HELD if isinstance(error, RateNotHeld) else 2
    except KeyboardInterrupt:
        code = 130
    raise SystemExit(code)


def require(program: str) -> str:
    """Return a program's path."""
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin:/sbin")
    if path is None:
        raise StageError(f"{program} is not installed (Debian: apt-get install nginx wrk valgrind)")
    return path


def free_port() -> int:
    """Return a port on which nothing listens."""
    return free_ports(1)[0]


def free_ports(count: int) -> tuple[int, ...]:
    """Return different ports on which nothing listens."""
    found = []
    for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe:
            try:
                probe.bind(("0.0.0.0", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return tuple(found)
    raise StageError("no free port")


def raise_file_limit() -> None:
    """Let this process, and what it starts, open as many files as it may."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def is_optimised() -> bool:
    """
    Whether this interpreter was built with profiles, as the official images are: a tenth less CPU than without.

    Debian's packages are too, without being configured to.
    """
    if "--enable-optimizations" in str(sysconfig.get_config_var("CONFIG_ARGS")):
        return True
    base = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    return base.parent == Path("/usr/bin") and Path("/etc/debian_version").exists()


def interpreter() -> str:
    """Name this interpreter: version, where it is, and how it was built."""
    base = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    build = "built with optimisations" if is_optimised() else "built without optimisations"
    return f"CPython {platform.python_version()} ({base}, {build})"


def two_cores() -> tuple[int, int]:
    """Return the core of who is measured, and the core of everybody else."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise StageError("two cores are needed: one for the contender, one for the web nodes and wrk")
    return cores[0], cores[1]


@contextlib.contextmanager
def temporary_directory() -> Iterator[Path]:
    """Lend a directory."""
    with tempfile.TemporaryDirectory(prefix="pyproxy-bench-") as directory:
        yield Path(directory)


@contextlib.contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """Let processes that are started meanwhile inherit one core; None changes nothing."""
    before = os.sched_getaffinity(0)
    try:
        if core is not None:
            os.sched_setaffinity(0, {core})
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def process(
    command: Sequence[str], output: Path, core: int | None = None, cwd: Path | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a program with its output in a file; it gets SIGTERM at the end, and SIGKILL if it doesn't care."""
    with output.open("wb") as file, pinned(core):
        started = subprocess.Popen(command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)
    try:
        yield started
    finally:
        stop(started)


def stop(started: "subprocess.Popen[bytes]") -> None:
    """End a process and its children."""
    family = process_tree(started.pid) if started.poll() is None else []
    started.terminate()
    try:
        started.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        started.wait()


@contextlib.contextmanager
def nginx(directory: Path, http: str, core: int | None = None) -> Iterator[int]:
    """
    Run nginx with these directives in its http block; yield its pid.

    A log must be asked for in a server block: where ``access_log off`` stands, another beside it is ignored.
    """
    binary = require("nginx")
    directory.mkdir()
    config = directory / "nginx.conf"
    # As root, nginx would drop to a user that can't read the directory.
    user = "user root;" if os.geteuid() == 0 else ""
    config.write_text(_NGINX.format(user=user, directory=directory, http=http))
    command = [binary, "-p", str(directory), "-c", str(config), "-e", "error.log", "-g", "daemon off;"]
    with process(command, directory / "output.txt", core) as started:
        # The master writes its pid only after it has bound its sockets.
        _await(started, (directory / "nginx.pid").exists, directory / "error.log")
        yield started.pid


class Proxy(NamedTuple):
    """A running pyproxy; ``pid`` is the supervisor's."""

    pid: int
    port: int
    admin_port: int

    def connections(self) -> int:
        """How many client connections the workers have."""
        text = _get(self.admin_port, "/metrics")[1].decode()
        lines = [line for line in text.splitlines() if line.startswith("pyproxy_connections{")]
        return int(sum(float(line.rpartition(" ")[2]) for line in lines))


def proxy_config(backends: Sequence[int], log: Path, port: int, admin_port: int) -> dict[str, Any]:
    """Make a configuration with everything at its default, one worker, and the access log in a file."""
    return {
        "workers": 1,
        "listeners": [{"name": "http", "bind": f"{HOST}:{port}"}],
        "pools": {"web": {"backends": [{"address": f"{HOST}:{backend}"} for backend in backends]}},
        "access_log": {"to": str(log)},
        "admin": {"bind": f"{HOST}:{admin_port}"},
    }


@contextlib.contextmanager
def proxy(
    directory: Path,
    backends: Sequence[int],
    core: int | None = None,
    changes: Mapping[str, Any] | None = None,
    listeners: Sequence[Mapping[str, Any]] = (),
) -> Iterator[Proxy]:
    """
    Run `pyproxy -c FILE` in front of these ports and wait until it is ready.

    ``changes`` are keys of the file that are used in place of those of ``proxy_config``, ``listeners`` further ones.
    """
    directory.mkdir()
    port, admin_port = free_ports(2)
    file, output = directory / "lb.yml", directory / "output.txt"
    config = proxy_config(backends, directory / "access.log", port, admin_port)
    config["listeners"] += listeners
    file.write_text(json.dumps({**config, **(changes or {})}))
    command = [sys.executable, "-P", "-m", "pyproxy", "-c", str(file)]  # what is installed, not what lies here
    with process(command, output, core, cwd=ROOT) as started:
        _await(started, lambda: _get(admin_port, "/readyz")[0] == 200, output)
        yield Proxy(started.pid, port, admin_port)


def await_ports(started: "subprocess.Popen[bytes]", ports: Sequence[int], said: Path) -> None:
    """Wait until a process that was started listens on all these ports."""

    def is_up() -> bool:
        for port in ports:
            socket.create_connection((HOST, port), 1.0).close()
        return True

    _await(started, is_up, said)


def request(port: int, headers: Sequence[tuple[str, str]], target: str = "/") -> bytes:
    """Write a GET request."""
    lines = [
        f"GET {target} HTTP/1.1",
        f"Host: {HOST}:{port}",
        *(f"{name}: {value}" for name, value in headers),
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def process_tree(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    parents = {}
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(directory.name)] = int(_stat(int(directory.name))[1])
    family = [pid]
    for member in family:
        family += [child for child, parent in parents.items() if parent == member]
    return family


def cpu(pid: int) -> Cpu:
    """Return the CPU time that a process and its descendants have used so far."""
    tick = os.sysconf("SC_CLK_TCK")
    stats = [_stat(member) for member in process_tree(pid)]
    return Cpu(sum(int(stat[11]) for stat in stats) / tick, sum(int(stat[12]) for stat in stats) / tick)


def core_seconds(core: int) -> float:
    """Return for how long programs have run on a core so far."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name == f"cpu{core}":
            return sum(map(int, ticks[:3])) / os.sysconf("SC_CLK_TCK")  # user, nice, system
    raise StageError(f"the kernel says nothing of core {core}")


def resident_bytes(pids: Sequence[int]) -> int:
    """Return the resident memory of processes; pages that they share count in each."""
    return sum(resident for resident, _ in map(resident_parts, pids))


def resident_parts(pid: int) -> tuple[int, int]:
    """Return a process's resident memory, and how much of it is its own; the rest are pages of files."""
    # The counter in status lags behind by some pages a thread, this one is summed up when it is read.
    found = {"Rss:": 0, "Anonymous:": 0}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, *rest = line.split()
        if name in found:
            found[name] = int(rest[0]) * 1024
    return found["Rss:"], found["Anonymous:"]


def reset_peak(pids: Sequence[int]) -> None:
    """Let the peak of each process's memory begin anew, at what it has now."""
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_bytes(pids: Sequence[int]) -> int:
    """Return the sum of the peaks of resident memory; pages that processes share count in each."""
    texts = [Path(f"/proc/{pid}/status").read_text() for pid in pids]
    return sum(int(line.split()[1]) for text in texts for line in text.splitlines() if line[:6] == "VmHWM:") * 1024


def table(rows: Sequence[Sequence[str]]) -> str:
    """Align columns: the first to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = (
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def _stat(pid: int) -> list[str]:
    # pid (name) state parent ...; the name may hold blanks and parentheses.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _get(port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def _await(started: "subprocess.Popen[bytes]", is_up: Callable[[], bool], said: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while True:
        with contextlib.suppress(OSError):
            if is_up():
                return
        if started.poll() is not None or time.monotonic() > until:
            raise StageError(f"{started.args!r} did not start:\n{said.read_text()}")
        time.sleep(0.02)
