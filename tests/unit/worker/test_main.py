"""Pins how a worker takes its orders; what it serves and how it drains real connections is for integration tests."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from pyproxy.observe.metrics import Layout
from pyproxy.worker import main as worker_main
from pyproxy.worker.main import Worker

SEATS = 4
ROUTE: dict[str, Any] = {
    **dict.fromkeys(("host", "path", "listeners", "methods", "headers", "allow", "body_limit", "redirect")),
    "pool": "web",
    "strip_prefix": False,
    "request_headers": {"set": [], "remove": []},
    "response_headers": {"set": [], "remove": []},
}
BACKEND: dict[str, Any] = {"name": "a", "host": "10.0.0.1", "port": 80, "weight": 1, "backup": False, "max_conns": 0}
PLAIN: dict[str, Any] = {
    "digest": "0123456789ab",
    "workers": 1,
    "user": None,
    "shutdown_grace": 5.0,
    "log_level": "info",
    "listeners": [],
    "trusted_proxies": [],
    "routes": [ROUTE],
    "pools": [
        {
            "name": "web",
            "policy": "round_robin",
            "backends": [BACKEND],
            "timeouts": {"connect": 3.0, "response": 60.0, "idle": 60.0, "tunnel": 3600.0},
            "retry": {"attempts": 2, "on": ["connect"], "budget": 0.2, "min": 3},
            "keepalive": {"max_idle": 64, "idle": 30.0, "max_requests": 1000},
            "queue": {"size": 128, "timeout": 5.0},
            "health": None,
            "outlier": None,
            "sticky": None,
        }
    ],
    "client": {
        "header_timeout": 10.0,
        "body_timeout": 60.0,
        "keepalive": 75.0,
        "write_timeout": 60.0,
        "max_requests": 1000,
    },
    "limits": {"request_line": 8192, "headers": 32768, "header_count": 100, "body": None, "connections": 0},
    "access_log": {"to": "off", "format": "combined"},
    "error_pages": [],
    "dns": {"servers": []},
}


class FakeChannel:
    """The worker's end of the line, with the test at the other one."""

    last: "FakeChannel"

    def __init__(
        self, _sock: object, on_message: Callable[[dict[str, Any], list[int]], None], on_close: Callable[[], None]
    ) -> None:
        self.on_message = on_message
        self.on_close = on_close
        self.sent: list[dict[str, Any]] = []
        self.arrived = asyncio.Event()
        self.is_closed = False
        FakeChannel.last = self

    def send(self, message: dict[str, Any]) -> None:
        """Note an answer."""
        self.sent.append(message)
        self.arrived.set()

    def close(self) -> None:
        """Note the end."""
        self.is_closed = True

    async def answer(self) -> dict[str, Any]:
        """Wait for the first answer."""
        async with asyncio.timeout(5):
            await self.arrived.wait()
        return self.sent[0]


@pytest.fixture(autouse=True)
def no_side_effects(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the test's own process as it is."""
    monkeypatch.setattr(worker_main, "Channel", FakeChannel)
    monkeypatch.setattr("pyproxy.worker.main.socket", SimpleNamespace(socket=lambda fileno: fileno))
    monkeypatch.setattr(worker_main, "configure_logging", lambda *_: None)
    monkeypatch.setattr(worker_main, "setproctitle", lambda _: None)
    names = ("collect", "freeze", "set_threshold")
    monkeypatch.setattr("pyproxy.worker.main.gc", SimpleNamespace(**{name: lambda *_: None for name in names}))


def start(worker: Worker, log: int | None = None, **changes: Any) -> FakeChannel:
    """Give the order to start, with a scoreboard of the right size."""
    scoreboard = os.memfd_create("scoreboard")
    os.truncate(scoreboard, Layout([], ["web"], SEATS).size * 8)
    fds = [scoreboard] if log is None else [scoreboard, log]
    message = {"type": "start", "slot": 0, "version": 7, "seats": SEATS, "log": log is not None}
    message["config"] = {**PLAIN, **changes}
    channel = FakeChannel.last
    channel.on_message(message, fds)
    assert worker is not None
    return channel


async def stopped(worker: Worker) -> None:
    """Wait for the end."""
    async with asyncio.timeout(5):
        await worker.stopped.wait()


async def test_start_and_drain() -> None:
    """Ready names the version that is served; drained, the worker closes the line and ends."""
    worker = Worker(99)
    channel = start(worker)
    assert await channel.answer() == {"type": "ready", "version": 7}
    channel.on_message({"type": "drain", "grace": 1.0}, [])
    await stopped(worker)
    assert channel.is_closed


async def test_a_configuration_that_cannot_be_served(caplog: pytest.LogCaptureFixture) -> None:
    """Failed names the version and why; the traceback is in the log."""
    worker = Worker(99)
    channel = start(worker, routes=[{**ROUTE, "pool": "nobody"}])
    answer = await channel.answer()
    assert (answer["type"], answer["version"]) == ("failed", 7)
    assert "nobody" in answer["error"]
    assert "Traceback" in caplog.text


def pools(version: int, *names: str) -> dict[str, Any]:
    """Say that the pool has these backends now."""
    backends = [{**BACKEND, "name": name, "seat": seat} for seat, name in enumerate(names)]
    return {"type": "pools", "version": version, "pools": [{"name": "web", "unit": 1, "backends": backends}]}


def members(worker: Worker) -> list[str]:
    """Name the backends that the worker's pool has."""
    assert worker._plane is not None
    return [backend.name for backend in worker._plane.pools["web"].pool.backends]


async def test_a_change_of_the_members_is_applied_and_said_so() -> None:
    """Who is in a pool changes while it is served, and the supervisor hears which version is in force."""
    worker = Worker(99)
    channel = start(worker)
    await channel.answer()
    channel.on_message(pools(8, "b", "c"), [])
    assert channel.sent[1:] == [{"type": "applied", "version": 8}]
    assert members(worker) == ["b", "c"]
    channel.on_message({"type": "drain", "grace": 1.0}, [])
    await stopped(worker)


async def test_a_change_that_comes_with_the_start_is_not_lost() -> None:
    """Both messages may arrive together: the change waits until there is something to change."""
    worker = Worker(99)
    channel = start(worker)
    channel.on_message(pools(8, "b"), [])
    channel.on_message(pools(9, "c"), [])
    async with asyncio.timeout(5):
        while len(channel.sent) < 3:
            await asyncio.sleep(0)
    assert {answer.get("version") for answer in channel.sent if answer["type"] == "applied"} == {8, 9}
    assert members(worker) == ["c"]
    channel.on_message({"type": "drain", "grace": 1.0}, [])
    await stopped(worker)


async def test_without_a_supervisor_it_drains(caplog: pytest.LogCaptureFixture) -> None:
    """The end of the line means that the supervisor died: serve what there is, then end."""
    worker = Worker(99)
    channel = start(worker)
    await channel.answer()
    with caplog.at_level(logging.WARNING):
        channel.on_close()
    await stopped(worker)
    assert "supervisor is gone" in caplog.text


async def test_without_orders_it_ends_at_once() -> None:
    """A worker that never got to serve has nothing to drain."""
    worker = Worker(99)
    FakeChannel.last.on_message({"type": "drain", "grace": 30.0}, [])
    assert worker.stopped.is_set()


async def test_a_second_drain_changes_nothing() -> None:
    """Once is enough."""
    worker = Worker(99)
    channel = start(worker)
    await channel.answer()
    channel.on_message({"type": "drain", "grace": 1.0}, [])
    channel.on_message({"type": "drain", "grace": 100.0}, [])
    channel.on_close()
    await stopped(worker)
    assert worker.stopped.is_set()


async def test_the_log_is_reopened(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new descriptor replaces the old one, which is closed."""
    worker = Worker(99)
    old, new = os.memfd_create("old"), os.memfd_create("new")
    channel = start(worker, log=old)
    await channel.answer()
    channel.on_message({"type": "log", "fds": 1}, [new])
    channel.on_message({"type": "drain", "grace": 1.0}, [])
    await stopped(worker)
    for descriptor in (old, new):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


async def test_a_new_log_for_a_worker_without_one_is_not_leaked() -> None:
    """A descriptor that nobody needs is closed."""
    worker = Worker(99)
    channel = start(worker)
    await channel.answer()
    new = os.memfd_create("new")
    channel.on_message({"type": "log", "fds": 1}, [new])
    channel.on_message({"type": "drain", "grace": 1.0}, [])
    await stopped(worker)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(new)


async def test_sticky_clients_are_reported_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever came since the last report, and only if somebody did."""
    monkeypatch.setattr(worker_main, "SEEN_SECONDS", 0.0)
    section = {"cookie": "SRV", "secrets": ["sesame"]}
    worker = Worker(99)
    channel = start(worker, pools=[{**PLAIN["pools"][0], "sticky": section}])
    await channel.answer()
    assert worker._plane is not None
    served = worker._plane.pools["web"]
    assert served.sticky is not None
    for client in (b"10.0.0.1", b"10.0.0.2"):
        served.sticky.note(served.pool.backends[0], client)
        channel.arrived.clear()
        async with asyncio.timeout(5):
            await channel.arrived.wait()
    reports = channel.sent[1:]
    assert [report["type"] for report in reports] == ["seen", "seen"]
    numbers = [report["pools"]["web"]["a"] for report in reports]
    assert [len(each) for each in numbers] == [1, 1]
    assert numbers[0] != numbers[1]
    channel.on_message({"type": "drain", "grace": 1.0}, [])
    await stopped(worker)


def test_main(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program ignores the terminal's signals, gives up privileges for good, and runs on the given descriptor."""
    first: dict[int, object] = {}
    seen = []

    async def run(descriptor: int) -> None:
        await asyncio.sleep(0)
        seen.append(descriptor)

    monkeypatch.setattr(signal, "signal", first.setdefault)
    monkeypatch.setattr(worker_main, "_forbid_new_privileges", lambda: seen.append(-1))
    monkeypatch.setattr(worker_main, "_run", run)
    loops = SimpleNamespace(new_event_loop=asyncio.new_event_loop)
    monkeypatch.setattr("pyproxy.worker.main.uvloop", loops)
    monkeypatch.setattr(sys, "argv", ["worker", "17"])
    assert worker_main.main() == 0
    assert seen == [-1, 17]
    terminal = (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
    assert [first[number] for number in terminal] == [signal.SIG_IGN] * 4


async def test_the_steps_of_a_hand_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says when those who were there are gone; what comes before it has begun is passed over."""
    worker = Worker(99)
    channel = FakeChannel.last
    channel.on_message({"type": "yield"}, [])
    start(worker)
    await channel.answer()
    plane = worker._plane
    assert plane is not None
    monkeypatch.setattr(worker_main, "LOOK_SECONDS", 0.0)
    channel.on_message({"type": "yield"}, [])
    assert not plane.keeps_clients
    async with asyncio.timeout(5):
        while channel.sent[-1] != {"type": "yielded"}:
            await asyncio.sleep(0)
    channel.on_message({"type": "reset"}, [])
    channel.on_message({"type": "keep"}, [])
    assert plane.keeps_clients
    channel.on_message({"type": "drain", "grace": 1.0}, [])
    await stopped(worker)


async def test_a_hand_over_that_is_given_up_says_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A late word about it would count for the next one."""
    worker = Worker(99)
    channel = start(worker)
    await channel.answer()
    plane = worker._plane
    assert plane is not None
    monkeypatch.setattr(plane, "are_gone", lambda _: False)
    channel.on_message({"type": "yield"}, [])
    channel.on_message({"type": "keep"}, [])
    assert worker._yielding is not None
    await asyncio.gather(worker._yielding, return_exceptions=True)
    assert worker._yielding.cancelled()
    assert {"type": "yielded"} not in channel.sent
    channel.on_message({"type": "drain", "grace": 1.0}, [])
    await stopped(worker)
