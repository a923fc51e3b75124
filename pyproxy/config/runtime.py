"""
What a worker runs on: the configuration as frozen slotted objects, made from plain data.

Must not know YAML, pydantic or the file that the data came from: the standard library only.

Plain data is what crosses the channel, only str, int, float, bool, None, list and dict. It has the
same names and nesting as the classes below; a tuple or frozenset is a list there::

    {"digest": "0123456789ab", "workers": 2, "user": None, "shutdown_grace": 30.0, "log_level": "info",
     "listeners": [{"name": "http", "host": "0.0.0.0", "port": 80}],
     "trusted_proxies": ["10.0.0.0/8"],
     "routes": [{"host": "www.example.com", "path": "/api/", "pool": "api"}],
     "pools": [{"name": "api", "policy": "round_robin",
                "backends": [{"name": "a", "host": "10.0.0.3", "port": 80,
                              "weight": 1, "backup": False, "max_conns": 0}],
                "timeouts": {"connect": 3.0, "response": 60.0, "idle": 60.0, "tunnel": 3600.0},
                "retry": {"attempts": 2, "on": ["connect", "reset"], "budget": 0.2, "min": 3},
                "keepalive": {"max_idle": 64, "idle": 30.0, "max_requests": 1000}}],
     "client": {"header_timeout": 10.0, "body_timeout": 60.0, "keepalive": 75.0,
                "write_timeout": 60.0, "max_requests": 1000},
     "limits": {"request_line": 8192, "headers": 32768, "header_count": 100,
                "body": None, "connections": 0},
     "access_log": {"to": "stdout", "format": "combined"}}

Seconds are floats, sizes are ints in bytes.
"""

from dataclasses import dataclass
from typing import Any


def join_address(host: str, port: int) -> str:
    """
    Write host and port as one address, an IPv6 literal in brackets.

    >>> join_address("10.0.0.3", 80), join_address("::1", 80)
    ('10.0.0.3:80', '[::1]:80')
    """
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a backend may take, in seconds."""

    connect: float
    response: float  # until the response head
    idle: float  # between two reads or writes of a body
    tunnel: float  # inactivity of an upgraded connection


@dataclass(frozen=True, slots=True)
class Retry:
    """When an exchange gets another attempt."""

    attempts: int  # the first one counts
    on: frozenset[str]  # of connect, reset, timeout, 502, 503, 504
    budget: float  # share of the recent requests: 0.2 is 20 %
    min: int  # retries that the budget always allows


@dataclass(frozen=True, slots=True)
class Keepalive:
    """Idle upstream connections of one backend in one worker."""

    max_idle: int
    idle: float
    max_requests: int


@dataclass(frozen=True, slots=True)
class Backend:
    """One address in a pool; ``host`` is an IP literal without brackets."""

    name: str
    host: str
    port: int
    weight: int
    backup: bool
    max_conns: int  # 0 = no limit

    @property
    def address(self) -> str:
        """Host and port as one text, such as ``10.0.0.3:80`` or ``[::1]:80``."""
        return join_address(self.host, self.port)


@dataclass(frozen=True, slots=True)
class Pool:
    """A named group of backends with one policy."""

    name: str
    policy: str
    backends: tuple[Backend, ...]
    timeouts: Timeouts
    retry: Retry
    keepalive: Keepalive


@dataclass(frozen=True, slots=True)
class Route:
    """Host (lower case, without port) and path prefix that lead to a pool; None is any."""

    host: str | None
    path: str | None
    pool: str


@dataclass(frozen=True, slots=True)
class Listener:
    """A bound address; ``host`` is an IP literal without brackets."""

    name: str
    host: str
    port: int

    @property
    def address(self) -> str:
        """Host and port as one text, such as ``0.0.0.0:80`` or ``[::]:80``."""
        return join_address(self.host, self.port)


@dataclass(frozen=True, slots=True)
class Client:
    """How long a client may take, in seconds, and how many requests one connection may carry."""

    header_timeout: float
    body_timeout: float
    keepalive: float
    write_timeout: float
    max_requests: int


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a client may send, in bytes, and how many clients there may be."""

    request_line: int
    headers: int
    header_count: int
    body: int | None  # None = no limit
    connections: int  # 0 = no limit


@dataclass(frozen=True, slots=True)
class AccessLog:
    """Where the access log goes (``stdout``, ``off`` or a path) and as what (``combined`` or ``json``)."""

    to: str
    format: str


@dataclass(frozen=True, slots=True)
class RuntimeConfig:
    """All that a worker needs to know; ``digest`` names the content."""

    digest: str
    workers: int
    user: str | None
    shutdown_grace: float
    log_level: str
    listeners: tuple[Listener, ...]
    trusted_proxies: tuple[str, ...]
    routes: tuple[Route, ...]
    pools: tuple[Pool, ...]
    client: Client
    limits: Limits
    access_log: AccessLog


def from_plain(data: dict[str, Any]) -> RuntimeConfig:
    """
    Make the runtime objects from plain data.

    The data comes from ``compile_config`` and is trusted: a missing or unknown key is a bug and
    raises ``KeyError`` or ``TypeError``.
    """
    rest = {key: value for key, value in data.items() if key not in _BUILT}
    return RuntimeConfig(
        listeners=tuple(Listener(**item) for item in data["listeners"]),
        trusted_proxies=tuple(data["trusted_proxies"]),
        routes=tuple(Route(**item) for item in data["routes"]),
        pools=tuple(_pool(item) for item in data["pools"]),
        client=Client(**data["client"]),
        limits=Limits(**data["limits"]),
        access_log=AccessLog(**data["access_log"]),
        **rest,
    )


_BUILT = frozenset({"listeners", "trusted_proxies", "routes", "pools", "client", "limits", "access_log"})


def _pool(data: dict[str, Any]) -> Pool:
    retry = data["retry"]
    return Pool(
        name=data["name"],
        policy=data["policy"],
        backends=tuple(Backend(**item) for item in data["backends"]),
        timeouts=Timeouts(**data["timeouts"]),
        retry=Retry(**{**retry, "on": frozenset(retry["on"])}),
        keepalive=Keepalive(**data["keepalive"]),
    )
