"""
What the admin API asks of the program, and the shapes of its answers.

Must not know the supervisor: it is handed something that satisfies ``Control``. The shapes are those of the
JSON that goes out; they are a contract with scripts and dashboards, so fields are added, never renamed.
"""

from typing import Literal, Protocol, TypedDict


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


class BackendView(TypedDict):
    """One backend; ``rate`` is requests a second over 10 s, ``since`` when its state last changed."""

    name: str
    address: str
    weight: int
    backup: bool
    max_conns: int
    state: Literal["ready", "drain", "maint"]
    health: Literal["up", "down", "checking"]
    ejected: bool
    available: bool
    origin: Literal["config", "runtime"]
    active: int
    total: int
    errors: int
    rate: float
    since: str


class PoolView(TypedDict):
    """One pool; ``available`` is how many of its backends are."""

    name: str
    policy: str
    available: int
    backends: list[BackendView]


class Control(Protocol):
    """The program as the admin API sees it; nothing here waits."""

    def is_ready(self) -> bool:
        """Whether clients should be sent here: a worker is ready and the program isn't stopping."""
        ...

    def status(self) -> StatusView:
        """Describe the program and its workers."""
        ...

    def pools(self) -> list[PoolView]:
        """Describe every pool, in the order of the configuration."""
        ...

    def metrics(self) -> str:
        """All metrics as Prometheus text."""
        ...
