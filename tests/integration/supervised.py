"""
A supervisor over fake workers, as a process: `python -m ... FILE BEHAVIOUR READY_TIMEOUT`.

And the tests' handle on it. It is the real program but for the worker's command and the command line.
"""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from pyproxy.config.load import load_config
from pyproxy.control.run import run_settings
from pyproxy.control.settings import make_settings
from pyproxy.control.startup import StartError
from pyproxy.control.worker import Program
from pyproxy.observe.logging_setup import configure_logging
from tests.integration.ports import Ports

DEADLINE = 15.0
ROOT = Path(__file__).resolve().parents[2]


def until(condition: Callable[[], object], what: str) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    """Whether a process with this id runs; one that waits to be reaped by somebody doesn't."""
    with suppress(OSError):
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state != "Z"
    return False


def ask(port: int, text: str = "GET / HTTP/1.0\r\n\r\n", host: str = "127.0.0.1") -> tuple[int, int]:
    """Connect, send, and return the slot and process id of the fake worker that answered."""
    with socket.create_connection((host, port), timeout=DEADLINE) as sock:
        sock.sendall(text.encode())
        return answered(sock)


def answered(sock: socket.socket) -> tuple[int, int]:
    """Read a fake worker's answer from a connection."""
    received = b""
    while data := sock.recv(4096):
        received += data
    slot, pid = received.split(b"\r\n\r\n")[1].split()
    return int(slot), int(pid)


class Supervised:
    """One run, in a directory of its own."""

    def __init__(self, directory: Path, ports: Ports, behaviour: str = "serve", **config: Any) -> None:
        self.directory = directory
        self.port, self.admin_port = ports.take(), ports.take()
        self.behaviour = behaviour
        self.ready_timeout = 10.0
        self.config: dict[str, Any] = {
            "workers": 1,
            "shutdown_grace": "5s",
            "listeners": [{"name": "main", "bind": f"127.0.0.1:{self.port}"}],
            "pools": {"web": {"backends": [{"name": "a", "address": "127.0.0.1:9"}]}},
            "access_log": {"to": str(directory / "access.log")},
            "admin": {"bind": f"127.0.0.1:{self.admin_port}"},
            **config,
        }
        self.errors = directory / "stderr.txt"

    def spawn(self) -> Self:
        """Start the process, in its own process group as a terminal would have it."""
        file = self.directory / "lb.yml"
        file.write_text(json.dumps(self.config))
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(file), self.behaviour, str(self.ready_timeout)],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stderr=errors,
                process_group=0,
            )
        return self

    def start(self) -> Self:
        """Start it and wait until it is ready."""
        self.spawn()
        until(lambda: self.process.poll() is not None or self.is_ready(), "not ready")
        assert self.process.poll() is None, self.stderr
        return self

    @property
    def stderr(self) -> str:
        """What it has said so far."""
        return self.errors.read_text(errors="replace")

    def get(self, path: str, **headers: str) -> tuple[int, bytes]:
        """GET from the admin API."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=DEADLINE)
        try:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def is_ready(self) -> bool:
        """Whether /readyz says 200."""
        with suppress(OSError):
            return self.get("/readyz")[0] == 200
        return False

    def workers(self) -> list[dict[str, Any]]:
        """The workers, as the status has them."""
        found: list[dict[str, Any]] = json.loads(self.get("/api/v1/status")[1])["workers"]
        return found

    def pid(self, slot: int = 0) -> int:
        """The process id of a worker that lives."""
        return int(self.workers()[slot]["pid"])

    def metric(self, sample: str) -> float:
        """The value of one sample, named as in the text."""
        for line in self.get("/metrics")[1].decode().splitlines():
            name, _, value = line.rpartition(" ")
            if name == sample:
                return float(value)
        raise AssertionError(sample)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the supervisor."""
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait for the end and return the exit code."""
        return self.process.wait(DEADLINE)

    def kill(self) -> None:
        """End the supervisor and, by what it logged, its workers."""
        self.process.kill()
        self.process.wait()
        for word in self.stderr.replace(")", " ").split("pid ")[1:]:
            with suppress(OSError, ValueError):
                pid = int(word.split()[0])
                if b"fake_worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGKILL)


def main(file: str, behaviour: str, ready_timeout: str) -> int:
    """Run a supervisor."""
    config = load_config(file)
    configure_logging("debug", "supervisor")
    command = (sys.executable, "-m", "tests.integration.fake_worker", behaviour)
    program = Program(command=command, ready_timeout=float(ready_timeout))
    try:
        return run_settings(make_settings(config, file), program)
    except StartError as error:
        sys.stderr.write(f"pyproxy: {error}\n")
        return error.exit_code


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
