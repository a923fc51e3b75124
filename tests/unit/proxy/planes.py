"""
The real data plane on a fake loop, and short ways to configure one.

Must not know what a test wants to show: the defaults are round numbers that differ from each other, so that a
mixed-up timeout is seen.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import count
from typing import Any
from unittest.mock import patch

from pyproxy.config.runtime import (
    AccessLog,
    Backend,
    Client,
    Keepalive,
    Limits,
    Listener,
    Pool,
    Queue,
    Retry,
    Route,
    RuntimeConfig,
    Timeouts,
)
from pyproxy.observe.metrics import Layout
from pyproxy.proxy.downstream import Downstream
from pyproxy.proxy.exchange import Exchange
from pyproxy.proxy.flow import Leg
from pyproxy.proxy.log_lines import combined, json_line
from pyproxy.proxy.plane import DataPlane
from pyproxy.proxy.upstream import Upstream
from tests.fakes import FakeLoop, FakeTransport


def make_backend(name: str, *, port: int = 8080, weight: int = 1, backup: bool = False, **changes: Any) -> Backend:
    """Configure one backend; each has its own name and seat."""
    return Backend(name, "10.0.0.1", port, weight, backup, **{"max_conns": 0, **changes})


def seated(pools: tuple[Pool, ...]) -> tuple[Pool, ...]:
    """Give every backend a seat in the scoreboard, as the supervisor does."""
    seats = count()
    return tuple(
        replace(pool, backends=tuple(replace(backend, seat=next(seats)) for backend in pool.backends)) for pool in pools
    )


def make_pool(name: str = "web", backends: tuple[Backend, ...] = (), **changes: Any) -> Pool:
    """Configure a pool, of one backend unless told otherwise, with short round times."""
    settings: dict[str, Any] = {
        "policy": "round_robin",
        "timeouts": Timeouts(connect=3.0, response=20.0, idle=15.0, tunnel=40.0),
        "retry": Retry(attempts=2, on=frozenset({"connect", "reset"}), budget=0.2, min=3),
        "keepalive": Keepalive(max_idle=2, idle=30.0, max_requests=1000),
        "queue": Queue(size=3, timeout=5.0),
    }
    return Pool(name=name, backends=backends or (make_backend("web1"),), **{**settings, **changes})


def make_config(*pools: Pool, **changes: Any) -> RuntimeConfig:
    """Configure a worker; the first pool gets everything unless ``routes`` says otherwise."""
    pools = pools or (make_pool(),)
    settings: dict[str, Any] = {
        "digest": "0123456789ab",
        "workers": 1,
        "user": None,
        "shutdown_grace": 30.0,
        "log_level": "info",
        "listeners": (Listener("http", "192.0.2.9", 80),),
        "trusted_proxies": (),
        "routes": (Route(None, None, pools[0].name),),
        "client": Client(header_timeout=10.0, body_timeout=12.0, keepalive=75.0, write_timeout=14.0, max_requests=1000),
        "limits": Limits(request_line=8192, headers=32768, header_count=100, body=None, connections=0),
        "access_log": AccessLog("off", "combined"),
    }
    return RuntimeConfig(pools=seated(pools), **{**settings, **changes})


SEATS = 40


class FakeTime:
    """What stands in for the monotonic clock: the time of the loop that was made last."""

    def __init__(self) -> None:
        self.loop = FakeLoop()

    def __call__(self) -> float:
        return self.loop.now


FAKE_TIME = FakeTime()


def _count_unsent(leg: Leg) -> int:
    return leg.transport.get_write_buffer_size() if leg.transport is not None else 0


def _has_news(leg: Leg) -> bool:
    return not leg.is_open or bool(getattr(leg.transport, "inbox", ()))


def _read_unread(leg: Leg) -> Iterator[bytes]:
    assert isinstance(leg.transport, FakeTransport)
    return leg.transport.read_unread()


@contextmanager
def fake_time() -> Iterator[None]:
    """Let every module of the byte path that reads the clock read ``FAKE_TIME``, and nobody look into the kernel."""
    with ExitStack() as stack:
        for name, module in list(sys.modules.items()):
            if name.startswith("pyproxy.proxy.") and hasattr(module, "monotonic"):
                stack.enter_context(patch.object(module, "monotonic", FAKE_TIME))
        stack.enter_context(patch.object(Leg, "_count_unsent", _count_unsent))
        stack.enter_context(patch.object(Leg, "has_news", _has_news))
        stack.enter_context(patch.object(Leg, "read_unread", _read_unread))
        yield


class FakePlane(DataPlane):
    """The real data plane on a fake loop, with a memory of what ended and how; needs ``fake_time``."""

    fake_loop: FakeLoop
    contains_crashes = False

    def __init__(self, config: RuntimeConfig | None = None, log_fd: int | None = None) -> None:
        loop = self.fake_loop = FAKE_TIME.loop = FakeLoop()
        config = config or make_config()
        listeners = [listener.name for listener in config.listeners]
        layout = self.layout = Layout(listeners, [pool.name for pool in config.pools], SEATS)
        self.shared_row = memoryview(bytearray(layout.size * 8)).cast("q")
        with patch("asyncio.get_running_loop", return_value=loop):
            super().__init__(config, layout, [self.shared_row], 0, log_fd)
        self.finished: list[Exchange] = []
        self.lines: list[bytes] = []

    def log(self, exchange: Exchange) -> None:
        """Remember; write the line in both formats, since either may stumble over a record, and look for its reason."""
        assert bool(exchange.why) == (exchange.end != "--" or exchange.status in {502, 503, 504}), exchange.why
        self.finished.append(exchange)
        self.lines.append(combined(exchange, 0.0))
        json_line(exchange, 0.0)
        super().log(exchange)

    def crash(self, exchange: Exchange | None) -> None:
        """Let the test see what the program would contain."""
        if not self.contains_crashes:
            raise  # noqa: PLE0704 - called from an except block
        super().crash(exchange)

    def connect(self, peer: tuple[str, int] = ("192.0.2.1", 50_000), listener: str = "http") -> FakeTransport:
        """Let a client connect."""
        transport = FakeTransport(self.fake_loop, self.accept(listener)(), peer=peer)
        transport.start()
        self.fake_loop.run()
        return transport

    def run(self) -> None:
        """Take turns until nothing moves."""
        self.fake_loop.run()

    def upstreams(self) -> list[Upstream]:
        """Every backend connection that is watched."""
        return [watched for watched in self.sweeper.watched if isinstance(watched, Upstream)]

    def downstreams(self) -> list[Downstream]:
        """Every client connection that is watched."""
        return [watched for watched in self.sweeper.watched if isinstance(watched, Downstream)]


class Stage:
    """A plane, one client and the connections to backends, in the order in which they were made."""

    def __init__(self, config: RuntimeConfig | None = None, log_fd: int | None = None) -> None:
        self.plane = FakePlane(config, log_fd)
        self.loop = self.plane.fake_loop
        self.client = self.plane.connect()

    @property
    def leg(self) -> Downstream:
        """The client's connection as the program sees it."""
        assert isinstance(self.client.protocol, Downstream)
        return self.client.protocol

    def ask(self, *segments: bytes) -> None:
        """Let the client send."""
        self.client.receive(*segments)
        self.plane.run()

    def accept(self) -> FakeTransport:
        """Let the oldest waiting connect succeed."""
        transport = self.loop.dials[0].accept()
        self.plane.run()
        return transport

    def start(self, raw: bytes) -> FakeTransport:
        """Let the client send a request, and the backend be reached."""
        self.ask(raw)
        return self.accept()

    def refuse(self, error: OSError | None = None) -> None:
        """Let the oldest waiting connect fail."""
        self.loop.dials[0].refuse(error)
        self.plane.run()

    def answer(self, origin: FakeTransport, *items: bytes | Exception | None) -> None:
        """Let a backend send bytes, EOF (None) or RST (an exception)."""
        origin.receive(*items)
        self.plane.run()

    def leave(self, error: Exception | None = None) -> None:
        """Let the client go, with FIN or RST."""
        self.client.receive(error)
        self.plane.run()

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.loop.advance(seconds)

    @property
    def got(self) -> bytes:
        """What the client has got since the last look, without the Date that answers get."""
        data = bytes(self.client.sent)
        self.client.sent.clear()
        return data.replace(b"Date: %b\r\n" % self.plane.date, b"")

    @property
    def ends(self) -> list[tuple[int, str]]:
        """Status and termination code of everything that has finished."""
        return [(exchange.status, exchange.end) for exchange in self.plane.finished]
