"""Debian's nginx in the foreground: one process a node, all its files in one directory."""

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Self

import pytest

from tests.integration.wire import DEADLINE

NODE = """
{user}
worker_processes 1;
pid {directory}/nginx.pid;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    log_format times '$msec $request_time $request_uri';
    default_type application/octet-stream;
    client_max_body_size 0;
    keepalive_requests 1000000;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen {address};
        add_header X-Node {name} always;
        add_header X-Saw-For "$http_x_forwarded_for" always;
        add_header X-Saw-Host "$http_host" always;
        add_header X-Saw-Id "$http_x_request_id" always;
        location / {{ return 200 "{name} $request_method $request_uri\\n"; }}
        location /files/ {{
            root {directory};
            client_body_buffer_size 1m;
            dav_methods PUT DELETE;
            create_full_put_path on;
        }}
        location /missing {{ return 404; }}
        {server}
    }}
}}
"""


def require(program: str) -> str:
    """Return a program's path; skip when it isn't installed, fail where it has to be."""
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin:/sbin")
    if path is None:
        reason = f"{program} is not installed"
        if os.environ.get("PYPROXY_REQUIRE_PEERS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return path


class Nginx:
    """
    One node; files below ``directory/files`` are served under /files/ and may be PUT there.

    ``server`` is more directives for it.
    """

    def __init__(self, directory: Path, name: str, port: int, host: str = "127.0.0.1", server: str = "") -> None:
        self.directory = directory
        self.name = name
        self.host = host
        self.port = port
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.files = directory / "files"
        self._server = server
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start it, also a second time, and wait until it listens."""
        binary = require("nginx")
        self.files.mkdir(parents=True, exist_ok=True)
        (self.directory / "nginx.pid").unlink(missing_ok=True)  # of one that was killed
        config = self.directory / "nginx.conf"
        # As root, nginx would drop to a user that can't read the test's directory.
        user = "user root;" if os.geteuid() == 0 else ""
        facts = {"directory": self.directory, "address": self.address, "name": self.name}
        config.write_text(NODE.format(user=user, server=self._server, **facts))
        self._process = subprocess.Popen(
            [binary, "-p", str(self.directory), "-c", str(config), "-e", "error.log", "-g", "daemon off;"],
            stdin=subprocess.DEVNULL,
        )
        until = time.monotonic() + DEADLINE
        # The master writes its pid only after it has bound its sockets.
        while not (self.directory / "nginx.pid").exists():
            if self._process.poll() is not None or time.monotonic() > until:
                self.stop()
                raise AssertionError(f"nginx did not start:\n{(self.directory / 'error.log').read_text()}")
            time.sleep(0.01)
        return self

    def stop(self) -> None:
        """End it, its worker too."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(DEADLINE)
            self._process = None
