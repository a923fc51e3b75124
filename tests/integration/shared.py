"""
The configuration that most tests share: one program for many tests, one pool for each situation.

A test picks the situation by its Host: ``solo.test`` goes to pool ``solo`` and so on. Two programs run from
it: ``proxy`` is patient with clients, ``hasty`` gives up on them after 300 ms.
"""

import socket
from pathlib import Path
from typing import Any

from tests.integration.ports import Ports
from tests.integration.program import Program

TRUSTED = "127.9.0.0/16"
SHORT = "300ms"
BODY_LIMIT = 1024 * 1024
REQUEST_LINE = 2048
HEADER_BYTES = 8192
HEADER_COUNT = 40


class SharedProgram(Program):
    """A program with a pool for each situation; the tests bring the origins on its ports."""

    def __init__(self, directory: Path, ports: Ports, client: dict[str, Any]) -> None:
        self.origin_port = ports.take()
        self.other_port = ports.take()
        self.closed_port = ports.take()
        self.port6 = ports.take()
        self.hole = BlackHole(ports.take())
        # Nor is anybody passed over for what one test after another lets him do.
        pools = {name: {**pool, "outlier": False} for name, pool in self._pools().items()}
        routes = [{"host": f"{name}.test", "pool": name} for name in pools]
        super().__init__(
            directory,
            ports,
            {
                "trusted_proxies": [TRUSTED],
                "routes": [*routes, {"host": "paths.test", "path": "/only/", "pool": "solo"}],
                "pools": pools,
                "client": client,
                "limits": {
                    "body": BODY_LIMIT,
                    "request_line": REQUEST_LINE,
                    "headers": HEADER_BYTES,
                    "header_count": HEADER_COUNT,
                },
            },
        )
        self.config["listeners"].append({"name": "six", "bind": f"[::1]:{self.port6}"})

    def _pools(self) -> dict[str, dict[str, Any]]:
        a = {"name": "a", "address": f"127.0.0.1:{self.origin_port}"}
        b = {"name": "b", "address": f"127.0.0.1:{self.other_port}"}
        closed = {"name": "closed", "address": f"127.0.0.1:{self.closed_port}"}
        hole = {"name": "hole", "address": f"127.0.0.1:{self.hole.port}"}
        six = {"name": "six", "address": f"[::1]:{self.origin_port}"}
        once = {"attempts": 1}
        hasty = {"connect": SHORT, "response": SHORT, "idle": SHORT, "tunnel": SHORT}
        # A budget that never says no: the tests of one program share the ten seconds it looks back on.
        free = {"attempts": 2, "budget": "100%", "min": 1000}
        return {
            "solo": {"backends": [a], "retry": free},
            "once": {"backends": [a], "retry": once},
            "pair": {"backends": [a, b], "retry": free},
            "half": {"backends": [closed, b], "retry": free},
            "dead": {"backends": [closed], "retry": free},
            "hole": {"backends": [hole], "timeouts": hasty, "retry": once},
            "around": {"backends": [hole, b], "timeouts": hasty, "retry": {**free, "timeout": "30s"}},
            "empty": {"backends": [{**a, "weight": 0}]},
            "spare": {"backends": [{**a, "weight": 0}, {**b, "backup": True}]},
            "hasty": {"backends": [a], "timeouts": hasty, "retry": once},
            "on503": {"backends": [a, b], "retry": {**free, "on": ["connect", 503]}},
            "on-timeout": {
                "backends": [a, b],
                "timeouts": hasty,
                "retry": {**free, "on": ["timeout"], "timeout": "30s"},
            },
            "on-nothing": {"backends": [a, b], "retry": {**free, "on": []}},
            "stingy": {"backends": [a, b], "retry": {"attempts": 2, "budget": "1%", "min": 1}},
            "two-each": {"backends": [a], "keepalive": {"max_requests": 2}},
            "brief": {"backends": [a], "keepalive": {"idle": SHORT}},
            "six": {"backends": [six]},
        }

    def kill(self) -> None:
        """End everything, the black hole too."""
        self.hole.close()
        super().kill()


class BlackHole:
    """A port where connecting never comes to an end: its queue of connections to be accepted is full."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._sockets = [socket.create_server(("127.0.0.1", port), backlog=0)]
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            self._sockets.append(filler)

    def close(self) -> None:
        """Let go of the port."""
        while self._sockets:
            self._sockets.pop().close()


PATIENT: dict[str, Any] = {
    "header_timeout": "30s",
    "body_timeout": "30s",
    "keepalive": "60s",
    "write_timeout": "30s",
    "max_requests": 1000,
}
HASTY: dict[str, Any] = {
    "header_timeout": SHORT,
    "body_timeout": SHORT,
    "keepalive": SHORT,
    "write_timeout": SHORT,
    "max_requests": 3,
}
