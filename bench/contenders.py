"""
Who is measured: how each contender is asked for the same thing, and started.

Same for all but the bare pair, which has no features: an access log with a line per request in a file,
X-Forwarded-For, -Proto and -Host set, an X-Request-Id made, connections to the nodes kept, one process or thread that
works, bodies without a limit, WebSockets passed through. What else they do is what they do as packaged.
Must not know what is sent to them.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import stage

IDLE_SECONDS = 600  # a client's connection may wait that long, so that a scenario may hold idle ones over its rounds
UPSTREAM_IDLE_SECONDS = 600  # the nodes wait longer
GRACE_SECONDS = 1  # for what is under way when a contender is ended: nothing that anybody waits for
MAX_REQUESTS = 1_000_000  # on one connection
KEPT = 64  # idle connections to a node, as many as there are active clients


@dataclass(frozen=True)
class Task:
    """What a contender is asked to be, the same for all."""

    pool: tuple[int, ...]  # ports of the web nodes
    policy: str = "round_robin"
    routes: int = 1  # more than one: /r0/, /r1/ ... beside the one for everything, all to the pool


@dataclass(frozen=True)
class Running:
    """A contender that runs; what its process and all descendants use is its cost."""

    name: str
    pid: int
    port: int
    log: Path | None


Start = Callable[[Path, Task, int], AbstractContextManager[Running]]


@dataclass(frozen=True)
class Contender:
    """A contender that could run; ``version`` raises stage.Missing if it isn't installed."""

    name: str
    title: str
    version: Callable[[], str]
    start: Start  # a directory that doesn't exist yet, the task, the core
    policies: frozenset[str]
    routes: bool  # whether it routes by path
    logs: bool


# --- pyproxy and the other programs in Python

JEMALLOC = "libjemalloc.so.2"
PYPROXY_POLICIES = frozenset({"round_robin", "least_conn", "random", "ewma"})
ASK_PYPROXY = (
    "import pyproxy, pyproxy.proxy.exchange as module; "
    "print('pyproxy', pyproxy.__version__, 'sources' if module.__file__.endswith('.py') else 'compiled')"
)


def has_jemalloc() -> bool:
    """Tell whether the loader finds jemalloc."""
    listed = subprocess.run([stage.require("ldconfig"), "-p"], capture_output=True, text=True, check=True)
    return JEMALLOC in listed.stdout


def python() -> list[str]:
    """Begin the command of a program in Python: the interpreter that is measured, with jemalloc as in the image."""
    preload = ["env", f"LD_PRELOAD={JEMALLOC}"] if has_jemalloc() else []
    return [*preload, os.environ.get("PYPROXY_PYTHON", sys.executable), "-P"]


def ask_python(code: str) -> str:
    """Let the interpreter that is measured tell versions; add its own, its build, and whether jemalloc is there."""
    code += f"; import sys; sys.path.append({str(stage.ROOT)!r}); from bench import stage; print(stage.interpreter())"
    said = subprocess.run([*python(), "-c", code], capture_output=True, text=True, check=False, cwd=stage.ROOT)
    if said.returncode:
        raise stage.StageError(f"can't tell its version: {said.stderr.strip()}")
    return ", ".join([*said.stdout.splitlines(), "jemalloc" if has_jemalloc() else "no jemalloc"])


def ask_packages(*names: str) -> str:
    """Tell the versions of Python packages."""
    listed = "; ".join(f"print({name!r}, version({name!r}))" for name in names)
    return ask_python(f"from importlib.metadata import version; {listed}")


def pyproxy_config(task: Task, log: Path, port: int, admin_port: int) -> dict[str, Any]:
    """Write pyproxy's file: what it has by default, and limits on connections that don't matter."""
    config = stage.proxy_config(task.pool, log, port, admin_port)
    config["pools"]["web"] |= {
        "policy": task.policy,
        "keepalive": {"max_idle": KEPT, "idle": UPSTREAM_IDLE_SECONDS, "max_requests": MAX_REQUESTS},
    }
    config["shutdown_grace"] = GRACE_SECONDS
    config["client"] = {"keepalive": IDLE_SECONDS, "max_requests": MAX_REQUESTS}
    if task.routes > 1:
        paths = [{"path": f"/r{number}/", "pool": "web"} for number in range(task.routes)]
        config["routes"] = [*paths, {"pool": "web"}]
    return config


@contextlib.contextmanager
def start_pyproxy(directory: Path, task: Task, core: int) -> Iterator[Running]:
    """Run pyproxy."""
    directory.mkdir()
    port, admin_port = stage.free_ports(2)
    file, log, output = directory / "lb.yml", directory / "access.log", directory / "output.txt"
    file.write_text(json.dumps(pyproxy_config(task, log, port, admin_port)))
    with stage.process([*python(), "-m", "pyproxy", "-c", str(file)], output, core, cwd=stage.ROOT) as started:
        stage.await_ports(started, [port, admin_port], output)
        yield Running("pyproxy", started.pid, port, log)


@contextlib.contextmanager
def script(directory: Path, name: str, arguments: list[str], port: int, core: int) -> Iterator[int]:
    """Run a proxy that is a file here until it listens; yield its pid."""
    directory.mkdir()
    output = directory / "output.txt"
    command = [*python(), str(Path(__file__).with_name(name)), str(port), *arguments]
    with stage.process(command, output, core, cwd=stage.ROOT) as started:
        stage.await_ports(started, [port], output)
        yield started.pid


@contextlib.contextmanager
def start_aiohttp(directory: Path, task: Task, core: int) -> Iterator[Running]:
    """Run the proxy made of aiohttp."""
    port, log = stage.free_port(), directory / "access.log"
    arguments = [str(log), task.policy, *map(str, task.pool)]
    with script(directory, "aiohttp_proxy.py", arguments, port, core) as pid:
        yield Running("aiohttp", pid, port, log)


@contextlib.contextmanager
def start_bare_pair(directory: Path, task: Task, core: int) -> Iterator[Running]:
    """Run the bare pair."""
    port = stage.free_port()
    with script(directory, "bare_pair.py", [*map(str, task.pool)], port, core) as pid:
        yield Running("bare pair", pid, port, None)


# --- nginx

# Debian's nginx.conf, but for what the task asks for. Its gzip takes HTML only, which nobody sends here.
NGINX = """
    sendfile on;
    tcp_nopush on;
    types_hash_max_size 2048;
    default_type application/octet-stream;
    gzip on;
    keepalive_timeout {idle};
    map $http_upgrade $passed_connection {{
        default upgrade;
        '' '';
    }}
    upstream web {{
        {policy}
{servers}
        keepalive {kept};
        keepalive_requests {requests};
        keepalive_timeout {upstream_idle};
    }}
    server {{
        listen {host}:{port} backlog=4096;
        access_log "{log}" combined;
        client_max_body_size 0;
        proxy_http_version 1.1;
        proxy_set_header Connection $passed_connection;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-For $remote_addr;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_set_header X-Forwarded-Host $http_host;
        proxy_set_header X-Request-Id $request_id;
        {tuned}
{locations}
    }}
"""
NGINX_POLICIES = {"round_robin": "", "least_conn": "least_conn;", "random": "random two least_conn;"}
NGINX_TUNED = "proxy_buffers 16 64k; proxy_buffer_size 64k; proxy_busy_buffers_size 128k;"


def nginx_config(task: Task, log: Path, port: int, tuned: str) -> str:
    """Write what stands in nginx's http block."""
    prefixes = ["/", *(f"/r{number}/" for number in range(task.routes) if task.routes > 1)]
    return NGINX.format(
        policy=NGINX_POLICIES[task.policy],
        servers="\n".join(f"        server {stage.HOST}:{node};" for node in task.pool),
        # Counted over all nodes, not for each: with fewer than nodes it would hardly ever find one again.
        kept=max(KEPT, 2 * len(task.pool)),
        requests=MAX_REQUESTS,
        idle=IDLE_SECONDS,
        upstream_idle=UPSTREAM_IDLE_SECONDS,
        host=stage.HOST,
        port=port,
        log=log,
        tuned=tuned,
        locations="\n".join(f"        location {prefix} {{ proxy_pass http://web; }}" for prefix in prefixes),
    )


@contextlib.contextmanager
def start_nginx(directory: Path, task: Task, core: int, name: str, tuned: str) -> Iterator[Running]:
    """Run nginx; stage lifts its limit on requests a connection."""
    port, log = stage.free_port(), directory / "access.log"
    with stage.nginx(directory, nginx_config(task, log, port, tuned), core) as pid:
        yield Running(name, pid, port, log)


def nginx(name: str, title: str, tuned: str) -> Contender:
    """Make a contender of nginx with some directives."""
    start = partial(start_nginx, name=name, tuned=tuned)
    version = partial(ask_program, "nginx", "-v")
    return Contender(name, title, version, start, frozenset(NGINX_POLICIES), routes=True, logs=True)


# --- HAProxy

# It needs five files for two connections and the pipes that go with them, and doesn't start when it may not have them.
HAPROXY = """
global
    nbthread 1
    maxconn 7000
    log stdout format raw local0 info

defaults
    mode http
    log global
    option httplog
    option splice-auto
    http-reuse always
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout tunnel 1h
    timeout http-keep-alive {idle}s

frontend http
    bind {host}:{port} backlog 4096
    unique-id-format %[uuid()]
    unique-id-header X-Request-Id
    http-request set-header X-Forwarded-For %[src]
    http-request set-header X-Forwarded-Proto http
    http-request set-header X-Forwarded-Host %[req.hdr(host)]
    {routes}
    default_backend web

backend web
    balance {policy}
    default-server pool-purge-delay {upstream_idle}s
{servers}
"""
HAPROXY_POLICIES = {"round_robin": "roundrobin", "least_conn": "leastconn", "random": "random(2)"}


@contextlib.contextmanager
def start_haproxy(directory: Path, task: Task, core: int) -> Iterator[Running]:
    """Run HAProxy."""
    directory.mkdir()
    port, file, log = stage.free_port(), directory / "haproxy.cfg", directory / "access.log"
    file.write_text(haproxy_config(task, directory, port))
    # It can log to its stdout or to a syslog server only; appended, so that the log may be emptied meanwhile.
    shell = 'exec "$0" -db -f "$1" >> "$2"'
    command = ["sh", "-c", shell, stage.require("haproxy"), str(file), str(log)]
    with stage.process(command, directory / "output.txt", core) as started:
        stage.await_ports(started, [port], directory / "output.txt")
        yield Running("haproxy", started.pid, port, log)


def haproxy_config(task: Task, directory: Path, port: int) -> str:
    """Write HAProxy's file; routes go into a map beside it."""
    routes = ""
    if task.routes > 1:
        paths = directory / "paths.map"
        paths.write_text("".join(f"/r{number}/ web\n" for number in range(task.routes)))
        routes = f"use_backend %[path,map_beg({paths})]"
    return HAPROXY.format(
        policy=HAPROXY_POLICIES[task.policy],
        servers="\n".join(f"    server node{node} {stage.HOST}:{node}" for node in task.pool),
        idle=IDLE_SECONDS,
        upstream_idle=UPSTREAM_IDLE_SECONDS,
        host=stage.HOST,
        port=port,
        routes=routes,
    )


# --- Caddy

CADDY_POLICIES = {
    "round_robin": {"policy": "round_robin"},
    "least_conn": {"policy": "least_conn"},
    "random": {"policy": "random_choose", "choose": 2},
}


@contextlib.contextmanager
def start_caddy(directory: Path, task: Task, core: int) -> Iterator[Running]:
    """Run Caddy, which has a directory of its own for what it would write into the home directory."""
    directory.mkdir()
    port, file, log = stage.free_port(), directory / "caddy.json", directory / "access.log"
    file.write_text(json.dumps(caddy_config(task, log, port)))
    settings = ["GOMAXPROCS=1", f"XDG_CONFIG_HOME={directory}", f"XDG_DATA_HOME={directory}"]
    command = ["env", *settings, stage.require("caddy"), "run", "--config", str(file)]
    with stage.process(command, directory / "output.txt", core) as started:
        stage.await_ports(started, [port], directory / "output.txt")
        yield Running("caddy", started.pid, port, log)


def caddy_config(task: Task, log: Path, port: int) -> dict[str, Any]:
    """Write Caddy's file; X-Forwarded-* it sets by itself."""
    proxy = {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": f"{stage.HOST}:{node}"} for node in task.pool],
        "load_balancing": {"selection_policy": CADDY_POLICIES[task.policy]},
        "headers": {"request": {"set": {"X-Request-Id": ["{http.request.uuid}"]}}},
        "transport": {
            "protocol": "http",
            "versions": ["1.1"],
            "compression": False,
            "keep_alive": {"max_idle_conns_per_host": KEPT, "idle_timeout": f"{UPSTREAM_IDLE_SECONDS}s"},
        },
    }
    server = {
        "listen": [f"{stage.HOST}:{port}"],
        "protocols": ["h1"],
        "idle_timeout": f"{IDLE_SECONDS}s",
        "automatic_https": {"disable": True},
        "routes": [{"handle": [proxy]}],
        "logs": {"default_logger_name": "access"},
    }
    writer = {"output": "file", "filename": str(log), "roll": False}
    access = {"writer": writer, "include": ["http.log.access.access"]}
    return {
        "admin": {"disabled": True},
        "logging": {"logs": {"default": {"exclude": ["http.log.access"], "level": "WARN"}, "access": access}},
        "apps": {"http": {"servers": {"web": server}, "grace_period": f"{GRACE_SECONDS}s"}},
    }


def ask_program(name: str, option: str) -> str:
    """Let a program tell its version; its package has its name."""
    try:
        binary = stage.require(name)
    except stage.StageError:
        raise stage.Missing(name) from None
    said = subprocess.run([binary, option], capture_output=True, text=True, check=True)
    found = re.search(r"\d+(\.\d+)+", said.stdout + said.stderr)
    return f"{name} {found[0] if found else '(unknown)'}"


CONTENDERS = (
    Contender(
        "pyproxy",
        "pyproxy",
        partial(ask_python, ASK_PYPROXY),
        start_pyproxy,
        PYPROXY_POLICIES,
        routes=True,
        logs=True,
    ),
    nginx("nginx", "nginx as packaged", ""),
    nginx("nginx tuned", "nginx, proxy_buffers 16 64k", NGINX_TUNED),
    Contender(
        "haproxy",
        "HAProxy, splice-auto",
        partial(ask_program, "haproxy", "-v"),
        start_haproxy,
        frozenset(HAPROXY_POLICIES),
        routes=True,
        logs=True,
    ),
    Contender(
        "caddy",
        "Caddy",
        partial(ask_program, "caddy", "version"),
        start_caddy,
        frozenset(CADDY_POLICIES),
        routes=False,
        logs=True,
    ),
    Contender(
        "aiohttp",
        "aiohttp server and client on uvloop",
        partial(ask_packages, "aiohttp", "uvloop"),
        start_aiohttp,
        frozenset({"round_robin", "least_conn", "random"}),
        routes=False,
        logs=True,
    ),
    Contender(
        "bare pair",
        "uvloop and httptools, no features",
        partial(ask_packages, "uvloop", "httptools"),
        start_bare_pair,
        frozenset({"round_robin"}),
        routes=False,
        logs=False,
    ),
)
