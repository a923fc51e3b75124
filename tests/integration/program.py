"""The program under test as its own processes, with its log, metrics and stderr."""

import asyncio
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self, TypeVar

from tests.integration.access_log import AccessLog
from tests.integration.ports import Ports
from tests.integration.wire import DEADLINE

STARTUP = 30.0
#: Which installation is tested: CI runs these tests a second time on the compiled one.
PYTHON = os.environ.get("PYPROXY_PYTHON", sys.executable)
TROUBLE = ("Traceback", "never retrieved", "Task was destroyed", "was never awaited", "Exception in callback")
_SAMPLE = re.compile(r"^(\w+)(?:\{([^}]*)\})? (\S+)$")

Labels = dict[str, str]


P = TypeVar("P", bound="Program")


class Program:
    """One run of pyproxy, in a directory of its own."""

    def __init__(self, directory: Path, ports: Ports, config: Mapping[str, Any]) -> None:
        self.directory = directory
        self.admin_port = ports.take()
        self.port = ports.take()
        self.log = AccessLog(directory / "access.log")
        self.exit_code = 0
        self.config: dict[str, Any] = {
            "workers": 1,
            "shutdown_grace": "5s",
            "listeners": [{"name": "main", "bind": f"127.0.0.1:{self.port}"}],
            "admin": {"bind": f"127.0.0.1:{self.admin_port}"},
            **config,
            "access_log": {"to": str(self.log.path), **config.get("access_log", {})},
        }
        self._errors = directory / "stderr.txt"
        self._process: subprocess.Popen[bytes] | None = None
        self._trouble_seen = 0
        self._leaked = {"pyproxy_connections": 0.0, "pyproxy_backend_active": 0.0}

    def __repr__(self) -> str:
        return f"<Program {self.directory.name} port {self.port}>"

    def start(self) -> Self:
        """Start it and wait until it says that it is ready."""
        file = self.directory / "lb.yml"
        file.write_text(json.dumps(self.config, indent=1))
        with self._errors.open("wb") as errors, (self.directory / "stdout.txt").open("wb") as output:
            self._process = subprocess.Popen(
                self.command,
                stdout=output,
                stderr=errors,
                stdin=subprocess.DEVNULL,
            )
        until = time.monotonic() + STARTUP
        while not self.is_ready():
            if self._process.poll() is not None or time.monotonic() > until:
                self.kill()
                raise AssertionError(f"the program did not become ready:\n{self.stderr}")
            time.sleep(0.02)
        return self

    @property
    def command(self) -> list[str]:
        """How it is started."""
        return [PYTHON, "-P", "-m", "pyproxy", "-c", str(self.directory / "lb.yml")]

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The supervisor's process."""
        assert self._process is not None, "the program was not started"
        return self._process

    @property
    def stderr(self) -> str:
        """What the program has said on stderr so far."""
        return self._errors.read_text(encoding="utf-8", errors="replace")

    def says(self, text: str) -> bool:
        """Whether this is on stderr, or comes there in a moment: its log is written by a thread."""
        until = time.monotonic() + DEADLINE
        while text not in self.stderr:
            if time.monotonic() > until:
                return False
            time.sleep(0.01)
        return True

    @property
    def stdout(self) -> str:
        """What the program has said on stdout so far."""
        return (self.directory / "stdout.txt").read_text(encoding="utf-8", errors="replace")

    def admin(self, path: str) -> tuple[int, bytes]:
        """GET from the admin API."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=DEADLINE)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def change(self, method: str, path: str, content: Any = None, **headers: str) -> tuple[int, Any]:
        """Write to the admin API; the answer's status and JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=DEADLINE)
        try:
            body = None if content is None else json.dumps(content)
            connection.request(method, path, body, {"Content-Type": "application/json", **headers})
            response = connection.getresponse()
            answer = response.read()
            return response.status, json.loads(answer) if answer else None
        finally:
            connection.close()

    def run_verb(self, *arguments: str) -> tuple[int, str, str]:
        """Run the command line against this program: exit code, stdout, stderr."""
        result = subprocess.run(
            [*self.command, *arguments], capture_output=True, text=True, timeout=STARTUP, check=False
        )
        return result.returncode, result.stdout, result.stderr

    def is_ready(self) -> bool:
        """Whether /readyz says 200."""
        try:
            return self.admin("/readyz")[0] == 200
        except OSError:
            return False

    def workers(self) -> list[int]:
        """The process ids of the workers."""
        status = json.loads(self.admin("/api/v1/status")[1])
        return [worker["pid"] for worker in status["workers"]]

    def metric(self, name: str, **labels: str) -> float:
        """The sum of all samples of a metric that have these labels."""
        total = 0.0
        for line in self.admin("/metrics")[1].decode().splitlines():
            found = _SAMPLE.match(line)
            if found and found[1] == name and labels.items() <= _labels(found[2] or "").items():
                total += float(found[3])
        return total

    async def await_metric(self, name: str, value: float, **labels: str) -> None:
        """Wait until a metric has this value."""
        until = time.monotonic() + DEADLINE
        while (now := self.metric(name, **labels)) != value:
            if time.monotonic() > until:
                raise AssertionError(f"{name}{labels} is {now}, not {value}")
            await asyncio.sleep(0.02)

    async def settled(self) -> None:
        """Wait until nothing is in flight: no connection of a client, nothing active on a backend."""
        until = time.monotonic() + DEADLINE
        for name, leaked in self._leaked.items():
            while (now := self.metric(name)) > leaked:
                if time.monotonic() > until:
                    # Only the test that leaked it fails, not each one after it.
                    self._leaked[name] = now
                    raise AssertionError(f"{name} is {now}, not {leaked}")
                await asyncio.sleep(0.02)
            assert now >= 0, f"{name} is {now}"
            self._leaked[name] = now

    def check_stderr(self) -> None:
        """Fail if stderr says since the last look that something went wrong inside."""
        text = self.stderr
        new, self._trouble_seen = text[self._trouble_seen :], len(text)
        assert not any(sign in new for sign in TROUBLE), new[:4000]

    def terminate(self) -> None:
        """Send SIGTERM and return at once."""
        self.process.send_signal(signal.SIGTERM)

    async def exited(self, deadline: float = DEADLINE) -> int:
        """Wait for the end of the program and return its exit code."""
        until = time.monotonic() + deadline
        while (code := self.process.poll()) is None:
            assert time.monotonic() < until, f"still running:\n{self.stderr}"
            await asyncio.sleep(0.01)
        return code

    def stop(self) -> None:
        """Stop it as an operator does and fail unless it ended cleanly, leaving nothing behind."""
        if self.process.poll() is None:
            workers = self.workers()
            self.terminate()
            try:
                self.process.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError(f"SIGTERM did not end the program:\n{self.stderr}") from None
            for pid in workers:
                assert not Path(f"/proc/{pid}").exists(), f"worker {pid} outlived its supervisor"
        assert self.process.returncode == self.exit_code, self.stderr
        self.check_stderr()

    def kill(self) -> None:
        """End every process of the program at once; nothing is checked."""
        if self._process is None:
            return
        children = _children(self._process.pid) if self._process.poll() is None else []
        self._process.kill()
        self._process.wait()
        for pid in children:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def run_until_stopped(program: P) -> Iterator[P]:
    """Start a program, lend it out and stop it as an operator does, in a fixture."""
    try:
        yield program.start()
        program.stop()
    finally:
        program.kill()


async def lend(program: P) -> AsyncIterator[P]:
    """Lend a running program to one test; when that one's clients and origins are gone, nothing may be in flight."""
    yield program
    await program.settled()
    program.check_stderr()


def _labels(text: str) -> Labels:
    return dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', text))


def _children(pid: int) -> list[int]:
    """The process ids of a process's children."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # pid (name) state parent ...; the name may hold blanks and parentheses.
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(stat.parent.name))
    return found
