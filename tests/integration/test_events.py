"""The stream of events of the real program: what is told, to whom, and that it delays no stop."""

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.ports import Ports
from tests.integration.supervised import DEADLINE, Supervised, until


class Stream:
    """A connection on which events come."""

    def __init__(self, port: int, query: str = "", *lines: str) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
        request = [f"GET /api/v1/events{query} HTTP/1.1", "Host: 127.0.0.1", *lines, "", ""]
        self.sock.sendall("\r\n".join(request).encode())
        self.received = b""

    def until(self, text: bytes) -> None:
        """Read until this has come."""
        while text not in self.received:
            data = self.sock.recv(65536)
            assert data, self.received
            self.received += data

    def rest(self) -> bytes:
        """Read until the end."""
        while data := self.sock.recv(65536):
            self.received += data
        return self.received

    def events(self) -> list[dict[str, Any]]:
        """What has come."""
        lines = self.received.decode().splitlines()
        return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]


@pytest.fixture
def program(tmp_path: Path, ports: Ports) -> Iterator[Supervised]:
    """The supervisor over a fake worker; its one backend refuses every check."""
    pools = {"web": {"backends": [{"name": "a", "address": "127.0.0.1:9"}], "health": {"interval": "100ms"}}}
    program = Supervised(tmp_path, ports, pools=pools).start()
    yield program
    program.kill()


def test_what_happens_is_told_and_can_be_asked_for_again(program: Supervised) -> None:
    """First what was before, then a worker that dies, each with its reason; an id leads on from there."""
    stream = Stream(program.admin_port, "?after=0")
    stream.until(b"L4 refused")
    pid = program.pid()
    os.kill(pid, signal.SIGKILL)
    stream.until(b"SIGKILL")
    found = {(event["kind"], event["backend"], event["from"], event["to"]) for event in stream.events()}
    assert {("worker", None, None, "started"), ("health", "a", "checking", "down")} <= found
    (ended,) = [event for event in stream.events() if event["to"] == "ended"]
    assert ended["reason"].startswith(f"worker 0, pid {pid}: ")
    name = stream.received[: stream.received.index(b"SIGKILL")].rpartition(b"id: ")[2].split()[0].decode()
    again = Stream(program.admin_port, "?for=0s&after=0", f"Last-Event-ID: {name}", "Connection: close")
    assert b"SIGKILL" not in again.rest()
    assert again.received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"L4 refused" not in again.received
    stream.sock.close()
    again.sock.close()


def test_streams_delay_no_stop(program: Supervised) -> None:
    """Neither one that is read, which hears of it and ends whole, nor those that are not."""
    stream = Stream(program.admin_port)
    stream.until(b"retry")
    deaf = [Stream(program.admin_port, "?after=0") for _ in range(8)]
    program.send(signal.SIGTERM)
    assert program.wait() == 0
    assert stream.rest().endswith(b"0\r\n\r\n")
    assert "stopping" in [event["kind"] for event in stream.events()]
    for other in [stream, *deaf]:
        other.sock.close()


def test_a_listener_that_left_makes_room(program: Supervised) -> None:
    """The 33rd is refused, until one of them is gone."""
    streams = [Stream(program.admin_port) for _ in range(32)]
    for stream in streams:
        stream.until(b"retry")
    assert program.get("/api/v1/events?for=0s")[0] == 503
    streams.pop().sock.close()
    until(lambda: program.get("/api/v1/events?for=0s")[0] == 200, "no room")
    for stream in streams:
        stream.sock.close()
