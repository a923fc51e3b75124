"""
``pyproxy demo``: three web nodes, the proxy in front of them, and something to try.

Must not know how a node or the proxy works: it starts the ones and runs the other.
"""

import json
import os
import socket
from collections.abc import Sequence

from pyproxy.config.load import load_text
from pyproxy.config.model import Config
from pyproxy.config.runtime import Listener
from pyproxy.control.listeners import open_listeners
from pyproxy.control.run import run
from pyproxy.control.worker import worker_environ
from pyproxy.demo.nodes import Node, start_nodes

HOST = "127.0.0.1"
NAMES = ("web1", "web2", "web3")
GRACE = "2s"


def run_demo(port: int) -> int:
    """Run the demo until it is stopped and return the exit code; port 0 takes a free one."""
    port = _claim(port)
    admin_port = _free_port(port + 1)
    with start_nodes(NAMES, HOST, worker_environ(os.environ)) as nodes:
        print(_welcome(port, admin_port, nodes), flush=True)
        return run(make_config(port, admin_port, nodes), "(demo)")


def make_config(port: int, admin_port: int, nodes: Sequence[Node]) -> Config:
    """Write the demo's configuration; JSON, which is YAML too."""
    pool = {
        "backends": [{"name": node.name, "address": node.address} for node in nodes],
        # With a node killed a third of the requests need a retry, more than the default budget allows.
        "retry": {"budget": "100%"},
        # A check waits for a node that is still starting: it must not begin as down.
        "health": {"interval": "1s", "timeout": "10s"},
    }
    content = {
        # One worker, so that the nodes answer strictly in turn.
        "workers": 1,
        "shutdown_grace": GRACE,
        "listeners": [{"name": "demo", "bind": f"{HOST}:{port}"}],
        "pools": {"web": pool},
        "admin": {"bind": f"{HOST}:{admin_port}"},
        "log_level": "warning",
    }
    return load_text(json.dumps(content), "(demo)", {})


def _claim(port: int) -> int:
    """Find out before anything is started whether the port can be had."""
    (probe,) = open_listeners([Listener("demo", HOST, port)], slots=1)
    with probe.sockets[0] as sock:
        return int(sock.getsockname()[1])


def _free_port(wanted: int) -> int:
    """Take the wanted port if it is free, else any that is."""
    with socket.socket() as probe:
        try:
            probe.bind((HOST, wanted))
        except (OSError, OverflowError):
            probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _welcome(port: int, admin_port: int, nodes: Sequence[Node]) -> str:
    proxy, admin = f"http://{HOST}:{port}", f"http://{HOST}:{admin_port}"
    commands = {
        f"curl {proxy}/": "again and again: the nodes take turns",
        f"curl {admin}/api/v1/pools": "what the proxy knows about them",
        f"curl {admin}/metrics": "the same for Prometheus",
        f"kill {nodes[0].pid}": "a node dies, no client notices, and soon it is down",
    }
    width = max(map(len, commands))
    lines = ["Three web nodes and the proxy in front of them:", ""]
    lines += [f"  proxy   {proxy}/", f"  admin   {admin}/api/v1/status"]
    lines += [f"  {node.name}    http://{node.address}/   (pid {node.pid})" for node in nodes]
    lines += ["", "Try, in another terminal:", ""]
    lines += [f"  {command:{width}}   # {effect}" for command, effect in commands.items()]
    lines += ["", "Every request is logged below. Ctrl-C stops all of it.", ""]
    return "\n".join(lines)
