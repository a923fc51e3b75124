"""
What the admin API asks of the program, and the shapes of its answers.

Must not know the supervisor: it is handed something that satisfies ``Control``. The shapes are those of the
JSON that goes out; they are a contract with scripts and dashboards, so fields are added, never renamed.
"""

from typing import Literal, Protocol, TypedDict

from pyproxy.errors import PyproxyError

State = Literal["ready", "drain", "maint"]
Health = Literal["up", "down", "checking"]


class Unavailable(PyproxyError):
    """What was asked for can't be had at the moment; the text says why."""


class WorkerView(TypedDict):
    """One worker slot; ``pid`` is None while no process runs there."""

    slot: int
    pid: int | None
    state: Literal["starting", "ready", "draining", "dead"]
    loop_lag_ms: float
    connections: int


class ConfigView(TypedDict):
    """Which configuration is in force."""

    file: str
    digest: str
    loaded_at: str


class ListenerView(TypedDict):
    """A bound address."""

    name: str
    address: str
    connections: int
    connections_total: int


class StatusView(TypedDict):
    """The program; ``started`` in RFC 3339, ``uptime`` in seconds."""

    version: str
    pid: int
    started: str
    uptime: float
    workers: list[WorkerView]
    config: ConfigView
    listeners: list[ListenerView]


class CheckView(TypedDict):
    """A check of a backend: when it began, what came of it, and how long it took."""

    at: str
    ok: bool
    detail: str
    duration_ms: float


class LatencyView(TypedDict):
    """Milliseconds until the head of an answer that half, 95 % and 99 % of the last minute's did not exceed."""

    p50: float
    p95: float
    p99: float


#: Clients that came back to a backend with its cookie, seen in the last 5 and 60 minutes; one address counts once.
StickyView = TypedDict("StickyView", {"5m": int, "60m": int})


class BackendView(TypedDict):
    """
    One backend; ``rate`` is requests a second over 10 s, ``since`` when its state last changed.

    ``state`` is the operator's, or the stricter one that the backend asks for itself, with ``steered``.
    ``latency_ms`` is None if it has answered nothing in the last minute. ``oldest_tunnel_s`` says for how many seconds
    the oldest open tunnel has been open, None without one.
    ``ejected_for`` and ``slow_start`` are the seconds until it is no longer passed over, and until it has its full
    share; None if it isn't, or has.

    ``sticky_clients`` are 0 in a pool without sticky sessions.
    ``last_check`` is None without checks, and before the first. ``weight`` is the file's, or the share of it that one
    of several addresses of a name has.
    """

    name: str
    address: str
    weight: float
    backup: bool
    max_conns: int
    state: State
    steered: bool
    health: Health
    ejected: bool
    ejected_for: float | None
    slow_start: float | None
    available: bool
    origin: Literal["config", "runtime"]
    active: int
    total: int
    errors: int
    rate: float
    latency_ms: LatencyView | None
    oldest_tunnel_s: float | None
    since: str
    last_check: CheckView | None
    sticky_clients: StickyView


class PoolView(TypedDict):
    """One pool; ``available`` is how many of its backends are."""

    name: str
    policy: str
    available: int
    backends: list[BackendView]


class Question(TypedDict):
    """
    A request that is to be explained.

    ``url`` is absolute, or a path and query where ``headers`` name the host. ``sender`` is the address that the
    connection comes from, ``unix:`` for a unix socket. No text has a control character that would end a line.
    """

    method: str
    url: str
    headers: list[tuple[str, str]]
    sender: str


class AskedView(TypedDict):
    """A request as the proxy reads it; ``host`` is None without one."""

    method: str
    target: str
    host: str | None


class RefusalView(TypedDict):
    """The answer of our own that a request would get, and why."""

    status: int
    reason: str


class RouteView(TypedDict):
    """
    A route whose host and path fit; ``index`` is its place in the file, from 0.

    ``host`` and ``path`` are the route's, None for any. ``reason`` says why it was not chosen.
    """

    index: int
    host: str | None
    path: str | None
    chosen: bool
    reason: str | None


class RedirectView(TypedDict):
    """Where the client would be sent."""

    status: int
    location: str


class CandidateView(TypedDict):
    """
    A backend as the next pick sees it: ``score`` is its policy's, lower is better, None if it isn't eligible.

    ``reason`` says why it can't be picked now. ``active`` is over all workers. ``slow_start`` is the seconds until it
    has its full share, None if it has.
    """

    name: str
    address: str
    weight: float
    active: int
    eligible: bool
    score: float | None
    reason: str | None
    slow_start: float | None
    picked: bool


class ExplanationView(TypedDict):
    """
    What would become of a request, found by the code that serves them, without sending anything.

    ``routes`` are best first, ``others`` counts those whose host or path doesn't fit. ``queued`` counts who waits for
    the pool; with ``pool`` and neither ``backend`` nor ``refused`` this request would wait too. ``sticky`` says what
    the cookie does, None in a pool without sticky sessions. ``worker`` is the slot that was asked: each has its own
    turn in the policy. ``notes`` are sentences for a person.
    """

    listener: str
    client: str
    request: AskedView
    refused: RefusalView | None
    routes: list[RouteView]
    others: int
    route: int | None
    redirect: RedirectView | None
    pool: str | None
    policy: str | None
    backends: list[CandidateView]
    backend: str | None
    sticky: str | None
    queued: int
    worker: int
    notes: list[str]


class Basics(Protocol):
    """What every program has that monitoring asks, a speaker alone as well."""

    def is_ready(self) -> bool:
        """Whether clients should be sent here: a worker is ready and the program isn't stopping or in fault."""
        ...

    def metrics(self) -> str:
        """All metrics as Prometheus text."""
        ...


class Control(Basics, Protocol):
    """The program as the admin API sees it; only what is ``async`` waits."""

    def status(self) -> StatusView:
        """Describe the program and its workers."""
        ...

    def pools(self) -> list[PoolView]:
        """Describe every pool, in the order of the configuration."""
        ...

    def backend(self, pool: str, name: str) -> BackendView | None:
        """
        Describe one backend; None if there is no such pool or backend.

        It may also be a name of the configuration that stands for several addresses, each of which is a backend.
        """
        ...

    async def explain(self, question: Question) -> ExplanationView:
        """Find out what would become of a request; raises ``Unavailable`` when no worker can tell."""
        ...
