"""
The scenarios of the benchmark, as data: what is asked for, of whom, and which figure is compared with what.

Must not know how anything is started, driven or counted. A new scenario is a new entry at the end; a new kind of
load or of place needs its lines in ``measure.py`` or ``run.py``.
"""

from dataclasses import dataclass
from typing import Literal

from bench import stage

KIB, MIB = 1024, 1024**2

#: What a round is reduced to, and how it is called.
FIGURES = {
    "cpu_us": "CPU",
    "p50_ms": "p50",
    "p99_ms": "p99",
    "slow_share": "share of the slow backend",
    "connection_kib": "KiB per idle connection",
}


@dataclass(frozen=True)
class Demand:
    """What the clients do."""

    kind: Literal["wrk", "h2load", "echo", "open_loop", "idle"]
    connections: int = 64
    path: str = "/"
    headers: tuple[tuple[str, str], ...] = stage.SCENARIOS["2 headers"]
    upload_bytes: int = 0  # of the body of a request: h2load
    answer_bytes: int = 0  # of the body of an answer, where the scenario is about it
    idle: int = 0  # connections that are held beside the busy ones
    share: float = 0.0  # of what the contender can do under wrk: open_loop


@dataclass(frozen=True)
class Place:
    """What stands behind the contenders, and how they choose from it."""

    nodes: Literal["web", "slow", "fast", "echo"] = "web"  # fast: the slow ones without the slow one
    backends: int = 3  # of web
    routes: int = 1
    policy: str = "round_robin"


@dataclass(frozen=True)
class Bar:
    """
    What a figure of pyproxy must not exceed.

    ``to`` is whose figure counts as 1, in this scenario or in another one; without it the limit is the figure itself.
    """

    limit: float
    to: str = ""
    figure: str = "cpu_us"
    scenario: str = ""

    def __str__(self) -> str:
        against = f" times {self.to}" if self.to else ""
        return f"{self.limit:g}{against}" + (f" in {self.scenario}" if self.scenario else "")


@dataclass(frozen=True)
class Scenario:
    """One thing to measure. ``figure`` is the one that is compared, in ``unit``: times ``scale``."""

    name: str
    title: str
    contenders: tuple[str, ...]
    demand: Demand
    place: Place = Place()
    figure: str = "cpu_us"
    unit: str = "µs"
    scale: float = 1.0
    bars: tuple[Bar, ...] = ()
    quick: bool = False
    shown: bool = False  # in the README's table and in the overview


ORDINARY = ("pyproxy", "nginx", "haproxy", "caddy", "aiohttp")
WITH_BARE = (*ORDINARY, "bare pair")
# The tuned nginx has larger buffers, which only bodies notice.
WITH_TUNED = ("pyproxy", "nginx", "nginx tuned", "haproxy", "caddy", "aiohttp")
ALL = (*WITH_TUNED, "bare pair")
CHOOSING = ("pyproxy", "nginx", "haproxy", "caddy")
ROUTING = ("pyproxy", "nginx", "haproxy")

#: Requests a second that an open loop offers at most: with more, its own core would be what is measured.
MOST_RATE = 50_000.0
SLOW_SHARE = 0.10
IDLE_CONNECTIONS = 5_000


def _slow(policy: str) -> Scenario:
    # Round robin can't know better: it is there for comparison.
    bars = (
        Bar(SLOW_SHARE, figure="slow_share"),
        Bar(1.5, "pyproxy", figure="p50_ms", scenario="slow-none"),
    )
    return Scenario(
        f"slow-{policy}",
        f"one backend of three takes 200 ms, {policy}",
        CHOOSING,
        Demand("wrk"),
        Place("slow", policy=policy),
        figure="p99_ms",
        unit="ms p99",
        bars=() if policy == "round_robin" else bars,
    )


def _routes(count: int) -> Scenario:
    path = f"/r{count - 1}/" if count > 1 else "/"
    title = f"{count:,} routes, the last one" if count > 1 else "1 route"
    return Scenario(f"routes-{count}", title, ROUTING, Demand("wrk", path=path), Place(routes=count))


def _backends(count: int) -> Scenario:
    return Scenario(f"backends-{count}", f"{count:,} backends", CHOOSING, Demand("wrk"), Place(backends=count))


def _latency(percent: int) -> Scenario:
    return Scenario(
        f"latency-{percent}",
        f"fixed rate, {percent} % of what the same proxy can do, at most {MOST_RATE:,.0f}/s",
        WITH_BARE,
        Demand("open_loop", share=percent / 100),
        figure="p99_ms",
        unit="ms p99",
    )


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        "small-2",
        "small GET, 2 headers",
        WITH_BARE,
        Demand("wrk", answer_bytes=13),
        bars=(Bar(1.6, "nginx"),),
        quick=True,
        shown=True,
    ),
    Scenario(
        "small-15",
        "small GET, 15 headers",
        WITH_BARE,
        Demand("wrk", headers=stage.BROWSER_HEADERS),
        bars=(Bar(1.8, "nginx"),),
        quick=True,
        shown=True,
    ),
    Scenario(
        "post-1k",
        "POST of 1 KiB",
        WITH_BARE,
        Demand("h2load", path="/upload", upload_bytes=KIB),
        bars=(Bar(1.3, "bare pair"),),
        shown=True,
    ),
    Scenario(
        "close",
        "one connection per request",
        WITH_BARE,
        Demand("wrk", headers=(*stage.SCENARIOS["2 headers"], ("Connection", "close"))),
        bars=(Bar(1.3, "bare pair"),),
        shown=True,
    ),
    Scenario("down-4k", "4 KiB down", ORDINARY, Demand("wrk", path="/4k", answer_bytes=4 * KIB), shown=True),
    Scenario(
        "down-64k",
        "64 KiB down",
        ALL,
        Demand("wrk", path="/64k", answer_bytes=64 * KIB),
        bars=(Bar(0.9, "nginx"),),
        quick=True,
        shown=True,
    ),
    Scenario(
        "down-1m",
        "1 MiB down",
        ALL,
        Demand("wrk", 16, "/1m", answer_bytes=MIB),
        bars=(Bar(0.85, "nginx"),),
        quick=True,
        shown=True,
    ),
    Scenario(
        "down-100m",
        "100 MiB down",
        ALL,
        Demand("wrk", 4, "/100m", answer_bytes=100 * MIB),
        unit="ms",
        scale=1e-3,
        bars=(Bar(0.45, "nginx"), Bar(0.75, "nginx tuned")),
        quick=True,
        shown=True,
    ),
    Scenario("up-1m", "1 MiB up", ORDINARY, Demand("h2load", 16, "/upload", upload_bytes=MIB), shown=True),
    Scenario("websocket", "WebSocket echo, 125 bytes", ORDINARY, Demand("echo"), Place("echo"), shown=True),
    Scenario(
        "idle-5000",
        f"small GET beside {IDLE_CONNECTIONS:,} idle connections",
        ORDINARY,
        Demand("wrk", idle=IDLE_CONNECTIONS),
        shown=True,
    ),
    Scenario(
        "memory-idle",
        "memory per idle connection",
        WITH_BARE,
        Demand("idle", IDLE_CONNECTIONS),
        figure="connection_kib",
        unit="KiB",
        bars=(Bar(6.0, figure="connection_kib"),),
        shown=True,
    ),
    Scenario(
        "slow-none",
        "the two fast backends alone",
        CHOOSING,
        Demand("wrk"),
        Place("fast"),
        figure="p99_ms",
        unit="ms p99",
    ),
    *(_slow(policy) for policy in ("round_robin", "least_conn", "random", "ewma")),
    *(_routes(count) for count in (1, 100, 10_000)),
    *(_backends(count) for count in (3, 100, 1_000)),
    *(_latency(percent) for percent in (50, 80)),
)
