"""
Our speaker on a machine, alone: a process with the line to a supervisor that the test plays.

Must not know the speaker's inside: it is started as the supervisor starts it, and believed what it sends up.
"""

import json
import re
import secrets
import signal
import socket
from typing import Any

from pyproxy.config.compile_failover import compile_failover
from pyproxy.config.model_failover import Failover
from tests.integration.program import PYTHON
from tests.lab.pair import Pair
from tests.lab.process import Process, await_true
from tests.lab.topology import Machine

_HEADER_BYTES = 4


def section(machine: Machine, pair: Pair, priority: int, options: dict[str, Any]) -> dict[str, Any]:
    """Return the failover section of a machine's lb.yml."""
    other = machine.other
    peer = other.address6 if pair.is_ipv6 else other.address
    return {
        "interface": "eth0",
        "virtual_ips": list(pair.virtual_ips),
        "vrid": pair.vrid,
        "priority": priority,
        "advert_interval": pair.interval,
        "preempt": pair.preempt,
        "version": pair.version,
        "peers": [peer] if pair.unicast else [],
        **options,
    }


class Speaker:
    """One run of the speaker."""

    def __init__(self, machine: Machine, pair: Pair, priority: int = 100, **options: Any) -> None:
        self.machine = machine
        self.messages: list[dict[str, Any]] = []
        self._buffer = b""
        ours, theirs = socket.socketpair()
        self._sock = ours
        ours.setblocking(False)
        command = [PYTHON, "-P", "-m", "pyproxy.failover", str(theirs.fileno())]
        self.process: Process = machine.start("speaker", command, pass_fds=[theirs.fileno()])
        theirs.close()
        machine.lab.defer(ours.close)
        runtime = machine.directory / "vrid"
        runtime.mkdir(mode=0o700, exist_ok=True)
        settings = compile_failover(Failover.model_validate(section(machine, pair, priority, options)))
        self.send(
            {
                "type": "start",
                "settings": settings,
                "keys": {},
                "boot_id": secrets.token_hex(16),
                "runtime_dir": str(runtime),
            }
        )

    def __repr__(self) -> str:
        return f"<Speaker {self.machine.name} {self.state}>"

    def send(self, message: dict[str, Any]) -> None:
        """Tell the speaker something, as its supervisor."""
        body = json.dumps(message).encode()
        self._sock.setblocking(True)
        self._sock.sendall(len(body).to_bytes(_HEADER_BYTES, "big") + body)
        self._sock.setblocking(False)

    def received(self, kind: str) -> list[dict[str, Any]]:
        """Return the messages of a kind so far."""
        self._read()
        return [message for message in self.messages if message["type"] == kind]

    @property
    def status(self) -> dict[str, Any]:
        """What it said last about itself; empty before."""
        return (self.received("status") or [{}])[-1]

    @property
    def state(self) -> str:
        """``init``, ``backup``, ``master`` or ``fault``, as it said last; empty before."""
        return str(self.status.get("state", ""))

    @property
    def transitions(self) -> list[str]:
        """The states that it entered."""
        return [str(event["to"]) for event in self.received("event") if event["kind"] == "transition"]

    def await_state(self, state: str) -> None:
        """Wait until it says that it is in a state."""
        await_true(
            lambda: self.state == state or not self.process.is_running,
            lambda: f"{self!r} is not {state}: {self.messages[-5:]}\n{self.process.log}",
        )
        assert self.process.is_running, f"it ended: {self.messages[-5:]}\n{self.process.log}"

    @property
    def complaints(self) -> list[str]:
        """Lines of its log that say that it isn't in order."""
        return [line for line in self.process.log.splitlines() if re.search(r"Traceback|Error|never retrieved", line)]

    def stop(self) -> None:
        """Let it give the address away and end."""
        self.send({"type": "stop"})
        self.process.wait()

    def kill(self) -> None:
        """Kill -9 of the speaker and of its supervisor at once."""
        self.process.kill()
        self._sock.close()

    def hang_up(self) -> None:
        """Close the line, as a supervisor does that dies."""
        self._sock.close()

    def freeze(self) -> None:
        """Stop the process, as a frozen machine would."""
        self.process.send_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self.process.send_all(signal.SIGCONT)

    def _read(self) -> None:
        while True:
            try:
                data = self._sock.recv(65536)
            except (BlockingIOError, ConnectionResetError):
                break
            if not data:
                break
            self._buffer += data
        while len(self._buffer) >= _HEADER_BYTES:
            end = _HEADER_BYTES + int.from_bytes(self._buffer[:_HEADER_BYTES], "big")
            if len(self._buffer) < end:
                return
            self.messages.append(json.loads(self._buffer[_HEADER_BYTES:end]))
            self._buffer = self._buffer[end:]
