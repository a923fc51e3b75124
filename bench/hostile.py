"""
What hostile peers cost: CPU for each byte that they send, and memory for each byte that they leave lying here.

Exit code 1 if a bar is missed, 2 if something could not be measured. What is sent is in ``hostile_inputs``.

Whatever its size, a connection, a request and a segment have a price of their own (system calls, the loop, an access
log line, the way to a backend and back). What is allowed for these is stated below; each is measured too, as an input
that has little else. What a process spends beyond that is divided by the bytes that it was sent. CPU is what the
scheduler says of the process, the kernel's work for it included, less what it spends when nobody asks for anything; of
several rounds the lowest counts. Memory is resident memory above the level before, of connections that all hold the
same; each input has a fresh proxy, since memory that was once taken is taken again.
"""

import argparse
import contextlib
import json
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import hostile_dns, hostile_inputs, stage
from bench.hostile_inputs import Input

#: The bars: beyond the constants below, a byte costs at most this much.
CPU_BAR_US = 0.5
MEMORY_BAR_BYTES = 5.0
#: What is allowed beside the bytes, in microseconds; a connection to or from us, a request with its answer.
CONNECTION_US = 150.0
REQUEST_US = 100.0
SEGMENT_US = 25.0
SUPERVISOR_SEGMENT_US = 60.0  # where no hot path is compiled
CHECK_US = 3000.0  # of the supervisor, with its connection
API_REQUEST_US = 3000.0
QUESTION_US = 3000.0  # of the supervisor to a name server
IDLE_US = 5000.0  # of the supervisor in each second, where it isn't measured for itself
#: What is allowed to be held beside the bytes: of a request as many lines as ``limits.header_count`` says, of an answer
#: 256, each an object of its own.
CONNECTION_BYTES = 4 * 1024
REQUEST_BYTES = 24 * 1024

ROUNDS = 5
ROUND_BYTES = 200_000
READ_BYTES = 64 * 1024  # of what comes at once; a read takes at least as much
DRIP_SECONDS = 0.0001
HELD_CONNECTIONS = 60
ANSWER_SECONDS = 5.0
CHECK_SECONDS = 2.0
DNS_SECONDS = 6.0  # a name is asked for again after five
IDLE_SECONDS = 1.0
SETTLE_SECONDS = 0.25
SETTLED_BYTES = 64 * 1024

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Row:
    """What one input cost: its bytes, what a byte took in all, and beyond the constants."""

    name: str
    bytes: int
    whole: float
    beyond: float
    bar: float
    unit: str

    @property
    def met(self) -> bool:
        """Whether it is below its bar."""
        return self.beyond <= self.bar


@dataclass
class Tally:
    """What was sent."""

    bytes: int = 0
    segments: int = 0
    connections: int = 0


class Backend:
    """A web node in threads: answers with ``input``, and ends the connection unless it ``holds`` it."""

    def __init__(self) -> None:
        self.input = Input("", OK)
        self.holds = False
        self.tally = Tally()
        self._socket = socket.create_server((stage.HOST, 0), backlog=512)
        self.port = int(self._socket.getsockname()[1])
        self._held: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        is_held = False
        with contextlib.suppress(OSError):
            connection.settimeout(ANSWER_SECONDS)
            tally = self.tally
            tally.connections += 1
            while read_request(connection):
                given = self.input
                send(connection, given, tally)
                is_held = self.holds
                if is_held or given.data is not OK:
                    break
        if is_held:
            self._held.append(connection)
        else:
            finish(connection)


def read_request(sock: socket.socket) -> bool:
    """Read one request, which has come by itself; False at the end."""
    tail = b""
    while b"\r\n\r\n" not in tail:
        data = sock.recv(65536)
        if not data:
            return False
        tail = (tail + data)[-65536:]
    return True


def send(sock: socket.socket, given: Input, tally: Tally) -> None:
    """Send an input, for as long as the other side hasn't had enough."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    data = memoryview(given.data)
    step = given.step or len(data)
    with contextlib.suppress(OSError):
        while data:
            size = sock.send(data[:step])
            data = data[size:]
            tally.bytes += size
            tally.segments += 1
            if given.step:
                time.sleep(DRIP_SECONDS)


def finish(sock: socket.socket) -> None:
    """End our half, read what comes until the other side has ended too, and close."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(65536):
            pass
    sock.close()


def read_all(sock: socket.socket) -> None:
    """Read until the other side ends, or says nothing for a while."""
    with contextlib.suppress(OSError):
        while sock.recv(65536):
            pass


def cpu_us(pid: int) -> float:
    """Return the CPU time of a process so far in microseconds, all its threads."""
    texts = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    return sum(int(text.split()[0]) for text in texts) / 1000


def config(port: int, pool: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys in which the configuration isn't the default, so that everything that looks at input is on."""
    sticky = {"cookie": hostile_inputs.COOKIE.decode(), "secret": "0123456789abcdef0123456789abcdef"}
    backends = [{"name": "web", "address": f"{stage.HOST}:{port}"}]
    web = {"backends": backends, "outlier": False, "retry": {"attempts": 1}, "sticky": sticky, **pool}
    wanted = {"A": "1", "Cookie": "1"}
    routes = [
        {"path": "/a" * 200, "headers": wanted, "pool": "web"},
        {"headers": wanted, "pool": "web"},
        {"pool": "web"},
    ]
    return {"trusted_proxies": ["127.0.0.0/8"], "routes": routes, "pools": {"web": web}}


@dataclass
class Stand:
    """A running proxy with one worker."""

    proxy: stage.Proxy
    worker: int
    preface_port: int
    backend: Backend


@contextlib.contextmanager
def running(directory: Path, pool: Mapping[str, Any] | None = None) -> Iterator[Stand]:
    """Run a proxy in front of a backend of ours, with a second listener that wants a PROXY header."""
    backend, port = Backend(), stage.free_port()
    proxied = {"name": "proxied", "bind": f"{stage.HOST}:{port}", "proxy_protocol": True}
    with stage.proxy(directory, [], changes=config(backend.port, pool or {}), listeners=[proxied]) as proxy:
        (worker,) = [pid for pid in stage.process_tree(proxy.pid) if is_worker(pid)]
        for _ in range(20):
            ask(proxy.port, Input("", hostile_inputs.get()))
        yield Stand(proxy, worker, port, backend)


def is_worker(pid: int) -> bool:
    """Tell a worker by its title."""
    return b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes()


def ask(port: int, given: Input, tally: Tally | None = None) -> None:
    """Make a connection, send an input, read what is answered."""
    with socket.create_connection((stage.HOST, port), ANSWER_SECONDS) as sock:
        send(sock, given, tally or Tally())
        read_all(sock)


def idle_rate(pid: int) -> float:
    """Return what a process takes when nobody asks for anything, in microseconds a second."""
    time.sleep(SETTLE_SECONDS)
    before = cpu_us(pid)
    time.sleep(IDLE_SECONDS)
    return (cpu_us(pid) - before) / IDLE_SECONDS


class Allowed(NamedTuple):
    """What a client's connection, request and segment may cost beside the bytes."""

    connection_us: float
    request_us: float
    segment_us: float


OF_THE_WORKER = Allowed(2 * CONNECTION_US, REQUEST_US, SEGMENT_US)
OF_THE_SUPERVISOR = Allowed(CONNECTION_US, API_REQUEST_US, SUPERVISOR_SEGMENT_US)


@dataclass
class Spent:
    """What was sent in a round, and what that may cost beside its bytes."""

    bytes: int = 0
    allowed_us: float = 0.0


def measure(name: str, pid: int, idle: float, round_: Callable[[], Spent]) -> Row:
    """Take the lowest of some rounds: what else runs on the machine only ever adds."""
    whole, beyond, sent = [], [], 0
    for _ in range(ROUNDS):
        before, began = cpu_us(pid), time.monotonic()
        spent = round_()
        time.sleep(0.02)
        used = cpu_us(pid) - before - idle * (time.monotonic() - began)
        sent = spent.bytes
        if not sent:
            raise stage.StageError(f"{name}: nothing was sent")
        whole.append(used / sent)
        beyond.append((used - spent.allowed_us) / sent)
    return Row(name, sent, min(whole), min(beyond), CPU_BAR_US, "us")


def dns_round(server: hostile_dns.HostileDns) -> Spent:
    """Let a name be asked for at least once more, whatever its answer is worth."""
    sent, asked = server.bytes, server.questions
    time.sleep(DNS_SECONDS)
    return Spent(server.bytes - sent, (server.questions - asked) * QUESTION_US + DNS_SECONDS * IDLE_US)


def is_enough(tally: Tally, given: Input) -> bool:
    """Whether a round has sent what it should; once is enough where it takes long."""
    return tally.bytes >= min(ROUND_BYTES, len(given.data) * (1 if given.step else 100))


def segments_us(tally: Tally, each: float = SEGMENT_US) -> float:
    """Allow for the reads that it took to get these bytes."""
    return max(tally.segments, tally.bytes // READ_BYTES) * each


def client_round(port: int, given: Input, allowed: Allowed) -> Spent:
    """Send an input on one connection after another."""
    tally, allowed_us = Tally(), 0.0
    while not is_enough(tally, given):
        ask(port, given, tally)
        allowed_us += allowed.connection_us + given.requests * allowed.request_us
    return Spent(tally.bytes, allowed_us + segments_us(tally, allowed.segment_us))


def backend_round(stand: Stand, given: Input) -> Spent:
    """Ask for an input again and again."""
    backend, allowed = stand.backend, 0.0
    backend.input, backend.tally = given, Tally()
    while not is_enough(backend.tally, given):
        ask(stand.proxy.port, Input("", hostile_inputs.get(b"TE: trailers\r\n")))
        allowed += 2 * CONNECTION_US + REQUEST_US
    return Spent(backend.tally.bytes, allowed + segments_us(backend.tally))


def check_round(backend: Backend, given: Input) -> Spent:
    """Let checks come for a while."""
    backend.input = given
    time.sleep(SETTLE_SECONDS)
    backend.tally = tally = Tally()
    time.sleep(CHECK_SECONDS)
    return Spent(tally.bytes, tally.connections * CHECK_US + segments_us(tally, SUPERVISOR_SEGMENT_US))


def controls(stand: Stand, idle: float) -> list[Row]:
    """Measure the constants: inputs that are nearly nothing but a connection, a request, segments."""
    empty = Input("", hostile_inputs.get(target=b"/") * 1)
    pipelined = Input("", b"GET / HTTP/1.1\r\nHost:a\r\n\r\n" * 299 + hostile_inputs.get(), 300)
    plain = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 3000\r\n\r\n"
    dripped = Input("", plain + b"x" * 3000, step=1)
    found = []
    for name, given, times, units, allowed in (
        ("constant: a connection with a request", empty, 100, 100, 2 * CONNECTION_US + REQUEST_US),
        ("constant: a pipelined request", pipelined, 3, 900, REQUEST_US),
        ("constant: a segment, passed on", dripped, 1, len(dripped.data), SEGMENT_US),
    ):
        costs = []
        for _ in range(ROUNDS):
            before, began = cpu_us(stand.worker), time.monotonic()
            for _ in range(times):
                ask(stand.proxy.port, given)
            costs.append((cpu_us(stand.worker) - before - idle * (time.monotonic() - began)) / units)
        cost = min(costs)
        found.append(Row(name, len(given.data) * times, cost, cost, allowed, "us each"))
    return found


def measure_cpu(directory: Path, wanted: str) -> Iterator[Row]:
    """Measure what inputs cost in CPU."""
    with running(directory / "traffic") as stand:
        yield from measure_traffic(stand, wanted)
    checked = list(chosen("check", hostile_inputs.to_checks(), wanted))
    if checked:
        with running(directory / "unchecked") as stand:
            idle = idle_rate(stand.proxy.pid)
        health = {"type": "http", "body": "needle", "interval": 0.1, "timeout": 1, "steer": True}
        with running(directory / "checked", {"health": health}) as stand:
            for given in checked:
                yield measure(given.name, stand.proxy.pid, idle, partial(check_round, stand.backend, given))
    yield from measure_names(directory, wanted)


def measure_names(directory: Path, wanted: str) -> Iterator[Row]:
    """Measure what name servers answer; a name is asked for again after some seconds."""
    for name, (_, is_service) in hostile_dns.ANSWERS.items():
        if not re.search(wanted, f"dns: {name}"):
            continue
        server = hostile_dns.HostileDns(name)
        web: dict[str, Any] = {"name": "web", "address": "a.test" if is_service else "a.test:80", "srv": is_service}
        dns = {"servers": [f"{stage.HOST}:{server.port}"]}
        with stage.proxy(
            directory / str(server.port), [], changes={"pools": {"web": {"backends": [web]}}, "dns": dns}
        ) as proxy:
            yield measure(f"dns: {name}", proxy.pid, 0.0, partial(dns_round, server))


def measure_traffic(stand: Stand, wanted: str) -> Iterator[Row]:
    """Measure what comes from clients and backends, and to the API."""
    worker, supervisor = stand.worker, stand.proxy.pid
    idle = idle_rate(worker)
    if not wanted:
        yield from controls(stand, idle)
    proxied, traffic, api = stand.preface_port, stand.proxy.port, stand.proxy.admin_port
    for given in chosen("client", hostile_inputs.from_clients(), wanted):
        yield measure(given.name, worker, idle, partial(client_round, traffic, given, OF_THE_WORKER))
    for given in chosen("client", hostile_inputs.with_proxy_header(), wanted):
        yield measure(given.name, worker, idle, partial(client_round, proxied, given, OF_THE_WORKER))
    for given in chosen("backend", hostile_inputs.from_backends(), wanted):
        yield measure(given.name, worker, idle, partial(backend_round, stand, given))
    stand.backend.input = Input("", OK)
    idle = idle_rate(supervisor)
    for given in chosen("api", hostile_inputs.to_the_api(), wanted):
        yield measure(given.name, supervisor, idle, partial(client_round, api, given, OF_THE_SUPERVISOR))


def chosen(side: str, inputs: Iterable[Input], wanted: str) -> Iterator[Input]:
    """Name inputs by the side that sends them, and leave out what isn't wanted."""
    for given in inputs:
        named = given._replace(name=f"{side}: {given.name}")
        if re.search(wanted, named.name):
            yield named


def measure_memory(directory: Path, wanted: str) -> Iterator[Row]:
    """Measure how much memory inputs hold."""
    if not wanted:
        yield hold(directory / "idle", Input("constant: a connection", b"G"), is_client=True)
    for given in chosen("held: client", hostile_inputs.held_by_clients(), wanted):
        yield hold(directory / str(hash(given.name)), given, is_client=True)
    for given in chosen("held: backend", hostile_inputs.held_by_backends(), wanted):
        yield hold(directory / str(hash(given.name)), given, is_client=False)


def hold(directory: Path, given: Input, *, is_client: bool) -> Row:
    """Let many connections hold an input, of their own or as a backend's answer."""
    with running(directory) as stand, contextlib.ExitStack() as stack:
        backend = stand.backend
        backend.input, backend.holds = Input("", b"") if is_client else given, True
        request = given if is_client else Input("", hostile_inputs.get(b"TE: trailers\r\n"))
        tally = Tally()
        before = stage.resident_bytes([stand.worker])
        for _ in range(HELD_CONNECTIONS):
            sock = stack.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect((stage.HOST, stand.proxy.port))
            sock.settimeout(SETTLE_SECONDS)
            send(sock, request, tally)
        level = settled(stand.worker)
        sent = tally.bytes if is_client else backend.tally.bytes
    grown = level - before
    allowed = HELD_CONNECTIONS * (CONNECTION_BYTES + REQUEST_BYTES)
    if given.name.startswith("constant"):
        each = grown / HELD_CONNECTIONS
        return Row(given.name, sent, each, each, CONNECTION_BYTES, "bytes each")
    return Row(given.name, sent, grown / sent, (grown - allowed) / sent, MEMORY_BAR_BYTES, "bytes")


def settled(pid: int) -> int:
    """Return a process's resident memory once it doesn't change any more."""
    before = 0
    for _ in range(20):
        time.sleep(SETTLE_SECONDS)
        now = stage.resident_bytes([pid])
        if abs(now - before) < SETTLED_BYTES:
            return now
        before = now
    return before


def told(rows: Iterable[Row]) -> Iterator[Row]:
    """Tell each row as it comes."""
    for row in rows:
        print(f"{row.name}: {row.beyond:.3f} {row.unit}", file=sys.stderr, flush=True)
        yield row


def describe(rows: Iterable[Row]) -> str:
    """Write the worst first."""
    lines = [["what", "bytes", "each", "beyond the constants", "bar", "unit", ""]]
    for row in sorted(rows, key=lambda row: row.beyond / row.bar, reverse=True):
        figures = [f"{row.bytes}", f"{row.whole:.3f}", f"{row.beyond:.3f}", f"{row.bar:g}"]
        lines.append([row.name, *figures, row.unit, "met" if row.met else "MISSED"])
    return stage.table(lines)


def main() -> int:
    """Measure, print, compare."""
    parser = argparse.ArgumentParser(description="What hostile peers cost.")
    parser.add_argument("--only", choices=("cpu", "memory"), help="a half of it")
    parser.add_argument("--input", default="", metavar="TEXT", help="only inputs whose name has this text in it")
    parser.add_argument("--json", action="store_true", help="print a result for machines")
    options = parser.parse_args()
    stage.raise_file_limit()
    rows: list[Row] = []
    with stage.temporary_directory() as directory:
        if options.only != "memory":
            rows += told(measure_cpu(directory, options.input))
        if options.only != "cpu":
            rows += told(measure_memory(directory, options.input))
    if not rows:
        raise stage.StageError("no input has this name")
    if options.json:
        print(json.dumps([{**vars(row), "met": row.met} for row in rows], indent=2))
    else:
        print(describe(rows))
    missed = [row.name for row in rows if not row.met]
    print(f"bars: {len(rows) - len(missed)} of {len(rows)} met", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    stage.run(main)
