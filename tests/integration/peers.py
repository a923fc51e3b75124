"""nginx and HAProxy with a configuration of the test's own, in the foreground. Knows nothing of pyproxy."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.nginx import require
from tests.integration.wire import DEADLINE

_NGINX = """
{user}
worker_processes 1;
pid {directory}/nginx.pid;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    {servers}
}}
"""

_HAPROXY = """
global
    maxconn 200
    stats socket {directory}/haproxy.sock
defaults
    mode http
    timeout connect 5s
    timeout client 10s
    timeout server 10s
{sections}
"""


@contextmanager
def nginx(directory: Path, servers: str) -> Iterator[None]:
    """Run nginx with these ``server`` blocks."""
    user = "user root;" if os.geteuid() == 0 else ""
    config = directory / "nginx.conf"
    config.write_text(_NGINX.format(user=user, directory=directory, servers=servers))
    command = [require("nginx"), "-p", str(directory), "-c", str(config), "-e", "error.log", "-g", "daemon off;"]
    # The master writes its pid only after it has bound its sockets.
    with _running(command, directory, (directory / "nginx.pid").exists):
        yield


@contextmanager
def haproxy(directory: Path, sections: str) -> Iterator[None]:
    """Run HAProxy with these sections."""
    config = directory / "haproxy.cfg"
    config.write_text(_HAPROXY.format(directory=directory, sections=sections))
    # Its own socket is bound with the others, and gets its final name when all of them are.
    with _running([require("haproxy"), "-db", "-f", str(config)], directory, (directory / "haproxy.sock").exists):
        yield


@contextmanager
def _running(command: list[str], directory: Path, is_ready: Callable[[], bool]) -> Iterator[None]:
    output = directory / "output.txt"
    with output.open("wb") as errors:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors)
    try:
        until = time.monotonic() + DEADLINE
        while not is_ready():
            assert process.poll() is None, output.read_text()
            assert time.monotonic() < until, output.read_text()
            time.sleep(0.01)
        yield
    finally:
        process.terminate()
        process.wait(DEADLINE)
