"""
The whole program on a machine: supervisor, workers, speaker, and the link to the other machine.

Must not know its inside: it is started as a user starts it, and asked through the admin API on a unix socket.
"""

import http.client
import json
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

from tests.integration.program import PYTHON
from tests.lab.namespaces import members_of
from tests.lab.pair import Pair
from tests.lab.process import Process, await_true
from tests.lab.speaker import section
from tests.lab.topology import GATEWAY, NODES, PORT, Machine

LINK_PORT = 9901
WORKER = r"pyproxy\.worker|pyproxy: worker"
_KEY = "a key that both machines of the lab know"


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Proxy:
    """One run of pyproxy with a failover section; ``top`` replaces keys of the file, ``options`` of the section."""

    verbs: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self, machine: Machine, pair: Pair, priority: int = 100, *, top: dict[str, Any] | None = None, **options: Any
    ) -> None:
        self.machine = machine
        self.admin_socket = machine.directory / "admin"
        self.file = machine.directory / "lb.yml"
        key = machine.directory / "link.key"
        key.write_text(_KEY)
        key.chmod(0o600)
        link = {
            "bind": f"{machine.link_address}:{LINK_PORT}",
            "peer": f"{machine.other.link_address}:{LINK_PORT}",
            "key_file": str(key),
        }
        self.config = self.base(pair) | (top or {})
        self.config["failover"] = section(machine, pair, priority, {"link": link, **options})
        self.file.write_text(json.dumps(self.config, indent=1))
        self.process: Process = machine.start("pyproxy", [*self.command, *self.verbs])
        await_true(self._is_ready, lambda: f"{self.machine.name} is not ready:\n{self.process.log}", 30)

    def __repr__(self) -> str:
        return f"<Proxy {self.machine.name}>"

    def base(self, pair: Pair) -> dict[str, Any]:
        """Return the file but for its failover section: the nodes behind the switch, by way of the virtual address."""
        address = f"[{pair.address}]" if pair.is_ipv6 else pair.address
        return {
            "workers": 1,
            "shutdown_grace": "2s",
            "listeners": [{"name": "vip", "bind": f"{address}:{PORT}"}],
            "routes": [{"pool": "web", "response_headers": {"set": {"X-Machine": self.machine.name}}}],
            "pools": {
                "web": {"backends": [{"name": name, "address": f"{GATEWAY}:{port}"} for name, port in NODES.items()]}
            },
            "access_log": {"to": str(self.machine.directory / "access.log")},
            "admin": {"bind": f"unix:{self.admin_socket}"},
        }

    @property
    def command(self) -> list[str]:
        """How it is started; with a verb, how it is spoken to."""
        return [PYTHON, "-P", "-m", "pyproxy", "-c", str(self.file)]

    def run_verb(self, *arguments: str) -> tuple[int, str]:
        """Run the command line against it: exit code, and what it prints."""
        verb = self.machine.start("verb", [*self.command, *arguments])
        return verb.wait(), verb.log

    def ask(self, method: str, path: str, content: Any = None) -> tuple[int, Any]:
        """Ask the admin API: the answer's status, and its JSON or text."""
        connection = _UnixConnection(self.admin_socket)
        try:
            body = None if content is None else json.dumps(content)
            connection.request(method, path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = response.read().decode()
            return response.status, json.loads(answer) if answer.startswith(("{", "[")) else answer
        finally:
            connection.close()

    @property
    def peer(self) -> dict[str, Any]:
        """What GET /api/v1/peer says."""
        status, answer = self.ask("GET", "/api/v1/peer")
        assert status == 200, answer
        assert isinstance(answer, dict)
        return answer

    @property
    def state(self) -> str:
        """``init``, ``backup``, ``master`` or ``fault``."""
        return str(self.peer["state"])

    @property
    def transitions(self) -> list[str]:
        """The states that it entered."""
        return [str(transition["to"]) for transition in self.peer["transitions"]]

    def await_state(self, state: str) -> None:
        """Wait until it says that it is in a state."""
        await_true(lambda: self.state == state, lambda: f"{self!r} is not {state}: {self.peer}\n{self.process.log}")

    @property
    def complaints(self) -> list[str]:
        """Lines of its log that say that it isn't in order."""
        return [line for line in self.process.log.splitlines() if re.search(r"Traceback|never retrieved", line)]

    @property
    def speaker(self) -> int:
        """The id of the speaker's process that became ready last; a spare may wait beside it."""
        return int(re.findall(r"the speaker is ready \(pid (\d+)\)", self.process.log)[-1])

    @property
    def speakers(self) -> list[int]:
        """The ids of the speaker's process, its spare and its helpers."""
        return pids_of(self.machine, r"pyproxy\.failover|pyproxy: vipd|pyproxy: speaker")

    @property
    def workers(self) -> list[int]:
        """The ids of the workers."""
        return pids_of(self.machine, WORKER)

    @contextmanager
    def without_workers(self) -> Iterator[None]:
        """Kill all workers, and each one that is started for them, as soon as it is seen."""
        with signalled_workers(self.machine, signal.SIGKILL):
            yield

    def stop(self) -> None:
        """Let it drain, give the address away and end."""
        self.process.terminate()

    def kill(self) -> None:
        """Kill -9 of all its processes at once."""
        for pid in (self.process.pid, *pids_of(self.machine, "pyproxy")):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.kill()

    def _is_ready(self) -> bool:
        assert self.process.is_running, f"it ended:\n{self.process.log}"
        try:
            return self.ask("GET", "/readyz")[0] == 200
        except OSError:
            return False


class Vipd(Proxy):
    """The speaker alone with its supervisor, beside a program that knows nothing of it."""

    verbs = ("vipd",)

    def base(self, pair: Pair) -> dict[str, Any]:
        """Return the file but for its failover section."""
        return {"admin": {"bind": f"unix:{self.admin_socket}"}}


def pids_of(machine: Machine, title: str) -> list[int]:
    """Give the ids of a machine's processes whose command line has the pattern."""
    found = []
    for pid in members_of(machine.namespace):
        with suppress(OSError):
            if re.search(title, Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")):
                found.append(pid)
    return found


@contextmanager
def signalled_workers(machine: Machine, number: signal.Signals) -> Iterator[None]:
    """Send a signal to all workers of a machine, and to each one that is started, as soon as it is seen."""
    is_over = threading.Event()

    def send() -> None:
        while not is_over.wait(0.005):
            for pid in pids_of(machine, WORKER):
                with suppress(ProcessLookupError):
                    os.kill(pid, number)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
