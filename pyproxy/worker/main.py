"""
One data-plane process: takes its orders from the supervisor over the channel, and serves until it is drained.

Must not know YAML, the admin API or the other workers. What it is given: a configuration as plain data, the
scoreboard, listening sockets and the access log as descriptors. What it answers: ``ready``, or ``failed`` and why.
"""

import asyncio
import contextlib
import ctypes
import gc
import logging
import os
import signal
import socket
import sys
from typing import Any, Final

import uvloop
from setproctitle import setproctitle

from pyproxy.channel import Channel
from pyproxy.config.runtime import RuntimeConfig, from_plain
from pyproxy.observe.logging_setup import configure_logging, log_stray_output
from pyproxy.observe.metrics import Layout, map_row
from pyproxy.proxy.explain import explain
from pyproxy.proxy.plane import DataPlane

_log = logging.getLogger("worker")

_PR_SET_NO_NEW_PRIVS: Final = 38
#: The supervisor's; uvloop calls listen() again and would lower it to 100.
BACKLOG: Final = 4096
#: What is left of the log when everything else is done may take this long to write.
LOG_CLOSE_SECONDS: Final = 1.0
#: So often the supervisor hears which sticky clients came back.
SEEN_SECONDS: Final = 5.0
#: Between two looks at what is still there.
LOOK_SECONDS: Final = 0.02
#: Objects of one exchange are freed by reference counting; what the collector finds is rare, so it may wait.
_GC_THRESHOLD: Final = (50_000, 20, 50)


class Worker:
    """The life of a worker: ``start``, then ``drain`` by order, or because the supervisor is gone."""

    def __init__(self, channel_fd: int) -> None:
        self.stopped = asyncio.Event()
        self._plane: DataPlane | None = None
        self._early: list[dict[str, Any]] = []  # changes that came before there was anything to change
        self._servers: list[tuple[asyncio.Server, socket.socket, str]] = []
        self._grace = 0.0
        self._task: asyncio.Task[None] | None = None
        self._yielding: asyncio.Task[None] | None = None
        self._channel = Channel(socket.socket(fileno=channel_fd), self._on_message, self._on_supervisor_lost)

    def _on_message(self, message: dict[str, Any], fds: list[int]) -> None:
        kind = message["type"]
        if kind == "start":
            self._task = asyncio.ensure_future(self._start(message, fds))
        elif kind == "pools":
            self._update_pools(message)
        elif kind == "ping":
            self._channel.send({"type": "pong"})
        elif kind == "explain":
            self._explain(message)
        elif kind == "give_way":
            if self._plane is not None:
                self._plane.give_way(message["address"], message["since"])
        elif kind == "log":
            self._reopen_log(fds[0])
        elif kind == "drain":
            self._drain(float(message["grace"]))
        elif self._plane is not None:
            self._hand_over(self._plane, kind)

    def _update_pools(self, message: dict[str, Any]) -> None:
        if self._plane is None:
            self._early.append(message)
            return
        self._plane.update_pools(message["pools"])
        self._channel.send({"type": "applied", "version": message["version"]})

    def _explain(self, message: dict[str, Any]) -> None:
        if self._plane is not None:
            result = explain(self._plane, message["request"])
            self._channel.send({"type": "explained", "id": message["id"], "result": result})

    def _reopen_log(self, descriptor: int) -> None:
        if self._plane is not None and self._plane.log_writer is not None:
            self._plane.log_writer.reopen(descriptor)
        else:
            os.close(descriptor)

    def _hand_over(self, plane: DataPlane, kind: str) -> None:
        """Take a step of a hand-over of the address to another machine."""
        if kind in ("yield", "keep") and self._yielding is not None:
            self._yielding.cancel()
        if kind == "yield":
            clients = plane.yield_clients()
            self._yielding = asyncio.ensure_future(self._tell_yielded(plane, clients))
        elif kind == "keep":
            plane.keep_clients()
        elif kind == "reset":
            plane.reset_clients()

    async def _tell_yielded(self, plane: DataPlane, clients: list[Any]) -> None:
        while not plane.are_gone(clients):
            await asyncio.sleep(LOOK_SECONDS)
        self._channel.send({"type": "yielded"})

    def _on_supervisor_lost(self) -> None:
        _log.warning("the supervisor is gone: draining")
        self._drain(self._grace)

    async def _start(self, message: dict[str, Any], fds: list[int]) -> None:
        try:
            config = from_plain(message["config"])
            configure_logging(config.log_level, f"worker {message['slot']}")
            setproctitle(f"pyproxy: worker {message['slot']}")
            self._grace = config.shutdown_grace
            await self._serve(config, message, fds)
        except Exception as error:
            _log.exception("can't start")
            self._channel.send({"type": "failed", "version": message["version"], "error": str(error)})
            return
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLD)
        self._channel.send({"type": "ready", "version": message["version"]})
        self._report_seen()

    async def _serve(self, config: RuntimeConfig, message: dict[str, Any], fds: list[int]) -> None:
        listeners = [listener.name for listener in config.listeners]
        layout = Layout(listeners, [pool.name for pool in config.pools], message["seats"])
        scoreboard = fds.pop(0)
        rows = [map_row(scoreboard, slot, layout.size) for slot in range(config.workers)]
        os.close(scoreboard)
        log_fd = fds.pop(0) if message["log"] else None
        plane = self._plane = DataPlane(config, layout, rows, message["slot"], log_fd, self._channel.send)
        for early in self._early:
            self._update_pools(early)
        loop = asyncio.get_running_loop()
        for listener, fd in zip(config.listeners, fds, strict=True):
            sock = socket.socket(fileno=fd)
            spare = sock.dup()
            spare.setblocking(False)
            # For unix sockets too: create_unix_server would, from Python 3.13 on, remove the path in the end.
            server = await loop.create_server(plane.accept(listener.name), sock=sock, backlog=BACKLOG)
            self._servers.append((server, spare, listener.name))

    def _report_seen(self) -> None:
        """Tell which sticky clients came back since the last report, again and again until the end."""
        if self._plane is None or not self._plane.is_sticky or self.stopped.is_set():
            return
        seen = self._plane.take_seen()
        if seen:
            self._channel.send({"type": "seen", "pools": seen})
        asyncio.get_running_loop().call_later(SEEN_SECONDS, self._report_seen)

    def _drain(self, grace: float) -> None:
        plane = self._plane
        if plane is None:
            self.stopped.set()
        elif not plane.draining:
            plane.draining = True
            plane.keeps_clients = False
            self._task = asyncio.ensure_future(self._drain_plane(plane, grace))

    async def _drain_plane(self, plane: DataPlane, grace: float) -> None:
        loop = asyncio.get_running_loop()
        for server, _, _ in self._servers:
            server.close()
        await asyncio.sleep(0.01)  # the servers' handles close in a later turn of the loop
        for _, spare, name in self._servers:
            # Connections that were queued before we stopped: nobody else would accept them any more.
            with contextlib.suppress(OSError):
                while True:
                    sock, _ = spare.accept()
                    await loop.connect_accepted_socket(plane.accept(name), sock)
            spare.close()
        plane.drain()
        deadline = loop.time() + grace
        while plane.connections and loop.time() < deadline:
            await asyncio.sleep(0.02)
        plane.abandon()
        for _ in range(50):
            if not plane.connections:
                break
            await asyncio.sleep(0.02)
        plane.close(LOG_CLOSE_SECONDS)
        self._channel.close()
        self.stopped.set()


def _forbid_new_privileges() -> None:
    """Keep this process and its children from ever gaining privileges by running a setuid program."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_NO_NEW_PRIVS)")


async def _run(channel_fd: int) -> None:
    await Worker(channel_fd).stopped.wait()


def main() -> int:
    """Run a worker on the channel whose descriptor is the only argument."""
    # Ctrl-C goes to the whole group of processes, and systemd's SIGTERM to all of the service: the supervisor says what
    # to do, and its end is one for the worker too.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    _forbid_new_privileges()
    log_stray_output()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(int(sys.argv[1])))
    return 0
