"""
Start the demo's web nodes as processes, and leave none of them behind.

Must not know what a node answers. Each node has a pipe as its stdin, whose other end is ours alone: it ends
when the pipe does, however this process came to its end.
"""

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

BACKLOG = 128
# A node needs no longer than this to notice the end of its pipe.
END_TIMEOUT = 3.0


@dataclass(frozen=True, slots=True)
class Node:
    """A running node."""

    name: str
    address: str
    pid: int


@contextlib.contextmanager
def start_nodes(names: Sequence[str], host: str, environ: Mapping[str, str]) -> Iterator[list[Node]]:
    """Run a node for each name on a free port of ``host`` for as long as the context lasts."""
    processes: list[subprocess.Popen[bytes]] = []
    try:
        nodes = []
        for name in names:
            # The socket listens before the node runs: requests wait for it instead of being refused.
            with socket.create_server((host, 0), backlog=BACKLOG) as sock:
                process = _spawn(name, sock.fileno(), environ)
                processes.append(process)
                nodes.append(Node(name, f"{host}:{sock.getsockname()[1]}", process.pid))
        yield nodes
    finally:
        for process in processes:
            if process.stdin:
                process.stdin.close()
        for process in processes:
            _end(process)


def _spawn(name: str, fd: int, environ: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(  # noqa: S603 - the command is our own
        [sys.executable, "-P", "-m", "pyproxy.demo.node", name, str(fd)],
        stdin=subprocess.PIPE,
        pass_fds=[fd],
        env=dict(environ),
        process_group=0,  # a terminal's Ctrl-C is ours alone: the proxy drains first
    )


def _end(process: "subprocess.Popen[bytes]") -> None:
    try:
        process.wait(END_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
