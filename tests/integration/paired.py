"""
The real program but for its speaker: `python -m tests.integration.paired FILE`, and a handle on two of them.

Knows nothing of what is tested with them.
"""

import http.client
import json
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from pyproxy.config.load import load_config
from pyproxy.control.pair_settings import make_pair_settings
from pyproxy.control.run import run_settings
from pyproxy.control.settings import make_settings
from pyproxy.control.startup import StartError
from pyproxy.control.worker import Program, worker_environ
from pyproxy.observe.logging_setup import configure_logging
from tests.integration.ports import Ports
from tests.integration.supervised import DEADLINE, ROOT, until

KEY = "hex:" + "5a" * 32


class Machine:
    """One of the two, in a directory of its own."""

    def __init__(self, directory: Path, ports: Ports, link: tuple[int, int], priority: int, **config: Any) -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self.port, self.admin_port = ports.take(), ports.take()
        self.errors = directory / "stderr.txt"
        (directory / "key").write_text(KEY)
        self.failover: dict[str, Any] = {
            "interface": "eth0",
            "virtual_ips": ["192.0.2.10/32"],
            "vrid": 51,
            "priority": priority,
            "link": {
                "bind": f"127.0.0.1:{link[0]}",
                "peer": f"127.0.0.1:{link[1]}",
                "key_file": str(directory / "key"),
                "interval": "50ms",
                "dead_after": 10,
            },
        }
        self.config: dict[str, Any] = {
            "workers": 1,
            "shutdown_grace": "5s",
            "state_dir": str(directory / "state"),
            "listeners": [{"name": "main", "bind": f"127.0.0.1:{self.port}"}],
            "pools": {"web": {"backends": [{"name": "a", "address": "127.0.0.1:9"}]}},
            "access_log": {"to": "off"},
            "admin": {"bind": f"127.0.0.1:{self.admin_port}"},
            **config,
        }

    def spawn(self) -> Self:
        """Start the process."""
        file = self.directory / "lb.yml"
        file.write_text(json.dumps({**self.config, "failover": self.failover}))
        with self.errors.open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(file)], cwd=ROOT, stdin=subprocess.DEVNULL, stderr=errors
            )
        return self

    def until_state(self, state: str) -> Self:
        """Wait until it is in a state."""
        until(lambda: self.process.poll() is not None or self.state == state, f"not {state}: {self.stderr}")
        assert self.process.poll() is None, self.stderr
        return self

    def until_linked(self) -> None:
        """Wait until it hears the other, and takes traffic."""
        until(lambda: self.peer["peer"]["link"] == "up", "no link")
        until(lambda: self.ask("GET", "/readyz")[0] == 200, "not ready")

    def until_drift(self, *names: str) -> None:
        """Wait until these sections differ."""
        until(lambda: self.peer["drift"] == list(names), f"no such drift: {self.peer['drift']}")

    @property
    def stderr(self) -> str:
        """What it has said so far."""
        return self.errors.read_text(errors="replace")

    @property
    def state(self) -> str:
        """Its state, empty while nobody answers."""
        with suppress(OSError, http.client.HTTPException):
            return str(self.peer["state"])
        return ""

    @property
    def peer(self) -> dict[str, Any]:
        """What it says of the pair."""
        found: dict[str, Any] = self.ask("GET", "/api/v1/peer")[1]
        return found

    @property
    def backends(self) -> dict[str, str]:
        """The admin states of its backends."""
        return {item["name"]: item["state"] for item in self.ask("GET", "/api/v1/pools/web/backends")[1]}

    def ask(self, method: str, path: str, content: Any = None) -> tuple[int, Any]:
        """Ask the admin API."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=DEADLINE)
        try:
            body = None if content is None else json.dumps(content)
            connection.request(method, path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = response.read()
            is_json = response.headers["Content-Type"].startswith("application/json")
            return response.status, json.loads(answer) if is_json else answer.decode()
        finally:
            connection.close()

    def kill(self) -> None:
        """End it; its children end by themselves when it is gone."""
        self.process.kill()
        self.process.wait()


def main(file: str) -> int:
    """Run the program."""
    configure_logging("info", "supervisor")
    try:
        return _run(file)
    except StartError as error:
        sys.stderr.write(f"pyproxy: {error}\n")
        return error.exit_code


def _run(file: str) -> int:
    config = load_config(file)
    pair = make_pair_settings(config)
    assert pair is not None
    directory = Path(file).parent
    pair = replace(pair, directory=directory / "vrid", host=directory.name)
    command = (sys.executable, "-m", "tests.integration.fake_speaker")
    speaker = Program(command, worker_environ({"PYTHONPATH": str(ROOT)}))
    return run_settings(replace(make_settings(config, file), pair=pair), None, speaker)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
