"""
What the program runs on: the configuration as frozen slotted objects, made from plain data.

Must not know YAML, pydantic or the file that the data came from: the standard library only.

Plain data is what crosses the channel, only str, int, float, bool, None, list and dict. It has the same names
and nesting as the classes below; a tuple, frozenset or pairs of header and value are lists there::

    {"digest": "0123456789ab", "workers": 2, "user": None, "shutdown_grace": 30.0, "log_level": "info",
     "listeners": [{"name": "http", "host": "0.0.0.0", "port": 80, "path": "", "mode": None, "owner": None,
                    "proxy_protocol": False}],
     "trusted_proxies": ["10.0.0.0/8"],
     "routes": [{"host": "www.example.com", "path": "/api/", "listeners": None, "methods": ["GET"],
                 "headers": [["X-Canary", "1"]], "allow": None, "pool": "api", "strip_prefix": False,
                 "body_limit": None, "request_headers": {"set": [["X-Tier", "a"]], "remove": []},
                 "response_headers": {"set": [], "remove": ["Server"]}, "redirect": None}],
     "pools": [{"name": "api", "policy": "round_robin", "hash": None, "unit": 1,
                "backends": [{"name": "a", "host": "10.0.0.3", "port": 80, "path": "", "lookup": "",
                              "weight": 1, "backup": False, "max_conns": 0, "seat": 0, "state": "ready",
                              "health": "up", "ejected": False, "rising": 0.0}],
                "timeouts": {"connect": 3.0, "response": 60.0, "idle": 60.0, "tunnel": 3600.0},
                "retry": {"attempts": 2, "on": ["connect", "reset"], "budget": 0.2, "min": 3, "timeout": 60.0},
                "keepalive": {"max_idle": 64, "idle": 4.0, "max_requests": 1000},
                "queue": {"size": 128, "timeout": 5.0}, "send_proxy": None,
                "health": {"type": "http", "path": "/", "host": None, "expect": [[200, 399]], "body": None,
                           "interval": 2.0, "timeout": 1.0, "rise": 2, "fall": 3, "port": None,
                           "steer": False},
                "on_down": "keep", "when_all_down": "fail",
                "outlier": {"consecutive": 5, "eject": 10.0, "max_eject": 120.0, "min_available": 1},
                "slow_start": 0.0,
                "sticky": {"cookie": "SRV", "secrets": ["new", "old"], "max_age": 0.0, "secure": None,
                           "samesite": "lax", "path": "/", "domain": None}}],
     "client": {"header_timeout": 10.0, "body_timeout": 60.0, "keepalive": 75.0,
                "write_timeout": 60.0, "max_requests": 1000},
     "limits": {"request_line": 8192, "headers": 32768, "header_count": 100,
                "body": None, "connections": 0},
     "error_pages": [{"status": 503, "content_type": "text/html; charset=utf-8", "body": "<p>Back soon."}],
     "dns": {"servers": []},
     "access_log": {"to": "stdout", "format": "combined"}}

Seconds are floats, sizes are ints in bytes. What the file says of a backend may be a name to look up; a worker
only ever gets addresses, each with its seat in the scoreboard (``control.members``).
"""

from dataclasses import dataclass, field
from typing import Any


def join_address(host: str, port: int) -> str:
    """
    Write host and port as one address, an IPv6 literal in brackets.

    >>> join_address("10.0.0.3", 80), join_address("::1", 80)
    ('10.0.0.3:80', '[::1]:80')
    """
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def seconds_left(rising: float, seconds: float, now: float) -> float:
    """
    Give the seconds until a backend has its full share, whose slow start of so many began at ``rising``; 0 is never.

    >>> seconds_left(100.0, 18.0, 110.0), seconds_left(100.0, 18.0, 200.0), seconds_left(0.0, 18.0, 1.0)
    (8.0, 0.0, 0.0)
    """
    return min(max(rising + seconds - now, 0.0), seconds) if rising else 0.0


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

    attempts: int  # the first one counts, one without a connection doesn't
    on: frozenset[str]  # of connect, reset, timeout, 502, 503, 504
    budget: float  # share of the recent requests: 0.2 is 20 %
    min: int  # retries that the budget always allows
    timeout: float = 60.0  # for all attempts together, in seconds


@dataclass(frozen=True, slots=True)
class Keepalive:
    """Idle upstream connections of one backend in one worker."""

    max_idle: int
    idle: float
    max_requests: int


@dataclass(frozen=True, slots=True)
class Queue:
    """How many requests may wait for a backend below its ``max_conns``, and for how long, in seconds."""

    size: int
    timeout: float


@dataclass(frozen=True, slots=True)
class Backend:
    """
    One address in a pool: an IP literal without brackets and a port, or the ``path`` of a unix socket.

    ``lookup`` says that ``host`` is a name: ``address`` for its addresses, ``srv`` for its SRV records (then the
    port comes from there). ``weight`` counts in the pool's ``unit``: divided by it, it is the weight of the file.
    """

    name: str
    host: str
    port: int
    weight: int
    backup: bool
    max_conns: int  # 0 = no limit
    path: str = ""
    lookup: str = ""  # "", "address" or "srv"
    seat: int = 0
    state: str = "ready"  # what the operator or the backend itself wants: ready, drain or maint
    health: str = "up"  # what checks say: up, down or checking
    ejected: bool = False  # passed over, because live traffic failed on it
    rising: float = 0.0  # when its slow start began, in monotonic seconds; 0: never
    is_own: bool = False  # whether it is a listener of this very program
    steered: bool = False  # whether the state is the backend's own word, stricter than the operator's

    @property
    def address(self) -> str:
        """As text, such as ``10.0.0.3:80``, ``[::1]:80`` or ``unix:/run/app.sock``; a SRV name has no port."""
        if self.path:
            return f"unix:{self.path}"
        return self.host if self.lookup == "srv" else join_address(self.host, self.port)


@dataclass(frozen=True, slots=True)
class Health:
    """
    How each backend is checked: every ``interval`` seconds, for at most ``timeout``.

    ``expect`` are ranges of status codes, ``port`` None is the backend's own, ``host`` None its address.
    """

    type: str  # http or tcp
    path: str
    host: str | None
    expect: tuple[tuple[int, int], ...]
    body: str | None
    interval: float
    timeout: float
    rise: int
    fall: int
    port: int | None
    steer: bool = False  # whether a node's X-LB-State is obeyed


@dataclass(frozen=True, slots=True)
class Outlier:
    """When live traffic that fails on a backend ejects it; times in seconds."""

    consecutive: int  # failures in a row, in one worker
    eject: float  # the first time; twice as long each time in a row
    max_eject: float
    min_available: int  # so many others are to be available


@dataclass(frozen=True, slots=True)
class Sticky:
    """
    The cookie that keeps clients on their backend; seconds for ``max_age``, 0 is until the browser closes.

    The first of the ``secrets`` makes values, all are believed. ``secure`` None goes by how the client came.
    """

    cookie: str
    secrets: tuple[str, ...] = field(repr=False)
    max_age: float = 0.0
    secure: bool | None = None
    samesite: str = "lax"  # or strict or none
    path: str = "/"
    domain: str | None = None


@dataclass(frozen=True, slots=True)
class Pool:
    """A named group of backends with one policy; what is a plain text is as in the file."""

    name: str
    policy: str
    backends: tuple[Backend, ...]
    timeouts: Timeouts
    retry: Retry
    keepalive: Keepalive
    queue: Queue
    hash: str | None = None
    send_proxy: str | None = None
    unit: int = 1
    health: Health | None = None  # None: no checks
    on_down: str = "keep"  # or reset
    when_all_down: str = "fail"  # or try_all
    outlier: Outlier | None = None  # None: live traffic ejects nobody
    slow_start: float = 0.0  # seconds in which who is back gets its full share; 0: at once
    sticky: Sticky | None = None


#: What a text of a route may refer to as ``$name``.
VARIABLES = ("host", "request_uri", "uri", "scheme", "client_ip", "request_id")


@dataclass(frozen=True, slots=True)
class HeaderChanges:
    """Headers to set, as (name, text with variables), and names to take away."""

    set: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Redirect:
    """Where to, as a text with variables, and with which status."""

    to: str
    status: int


@dataclass(frozen=True, slots=True)
class Route:
    """
    Which requests go where; what is None asks for nothing.

    ``host`` is lower case without port, or ``*.example.com``; ``path`` is a prefix on a segment boundary. Either
    ``pool`` or ``redirect`` is set. ``allow`` are networks, ``body_limit`` is bytes.
    """

    host: str | None
    path: str | None
    pool: str | None
    listeners: tuple[str, ...] | None = None
    methods: tuple[str, ...] | None = None
    headers: tuple[tuple[str, str], ...] | None = None
    allow: tuple[str, ...] | None = None
    strip_prefix: bool = False
    body_limit: int | None = None
    request_headers: HeaderChanges = HeaderChanges()
    response_headers: HeaderChanges = HeaderChanges()
    redirect: Redirect | None = None


@dataclass(frozen=True, slots=True)
class Listener:
    """
    A bound address: an IP literal without brackets and a port, or the ``path`` of a unix socket.

    ``mode`` and ``owner`` (``user`` or ``user:group``) are the unix socket's, None for the process's own.
    """

    name: str
    host: str
    port: int
    path: str = ""
    mode: int | None = None
    owner: str | None = None
    proxy_protocol: bool = False  # required, and believed

    @property
    def address(self) -> str:
        """As text, such as ``0.0.0.0:80``, ``[::]:80`` or ``unix:/run/pyproxy.sock``."""
        return f"unix:{self.path}" if self.path else join_address(self.host, self.port)


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
class ErrorPage:
    """The body of our own answers with one status."""

    status: int
    content_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Dns:
    """Name servers to ask, as ``IP:port``; none is the system's."""

    servers: tuple[str, ...]


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
    error_pages: tuple[ErrorPage, ...] = ()
    dns: Dns = Dns(())


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
        routes=tuple(_route(item) for item in data["routes"]),
        pools=tuple(_pool(item) for item in data["pools"]),
        client=Client(**data["client"]),
        limits=Limits(**data["limits"]),
        access_log=AccessLog(**data["access_log"]),
        error_pages=tuple(
            ErrorPage(**{**item, "body": item["body"].encode("latin-1")}) for item in data["error_pages"]
        ),
        dns=Dns(tuple(data["dns"]["servers"])),
        **rest,
    )


_BUILT = frozenset(
    {*("listeners", "trusted_proxies", "routes", "pools"), *("client", "limits", "access_log", "error_pages", "dns")}
)


def members_from_plain(data: list[dict[str, Any]]) -> tuple[Backend, ...]:
    """Make the backends of one pool from plain data."""
    return tuple(Backend(**item) for item in data)


def _pool(data: dict[str, Any]) -> Pool:
    retry = data["retry"]
    return Pool(
        **{
            **data,
            "backends": members_from_plain(data["backends"]),
            "timeouts": Timeouts(**data["timeouts"]),
            "retry": Retry(**{**retry, "on": frozenset(retry["on"])}),
            "keepalive": Keepalive(**data["keepalive"]),
            "queue": Queue(**data["queue"]),
            "health": None if data["health"] is None else _health(data["health"]),
            "outlier": None if data["outlier"] is None else Outlier(**data["outlier"]),
            "sticky": None if data["sticky"] is None else _sticky(data["sticky"]),
        }
    )


def _health(data: dict[str, Any]) -> Health:
    return Health(**{**data, "expect": tuple((low, high) for low, high in data["expect"])})


def _sticky(data: dict[str, Any]) -> Sticky:
    return Sticky(**{**data, "secrets": tuple(data["secrets"])})


def _route(data: dict[str, Any]) -> Route:
    return Route(
        **{
            **data,
            **{key: _tuple(data[key]) for key in ("listeners", "methods", "allow")},
            "headers": None if data["headers"] is None else _pairs(data["headers"]),
            "request_headers": _changes(data["request_headers"]),
            "response_headers": _changes(data["response_headers"]),
            "redirect": None if data["redirect"] is None else Redirect(**data["redirect"]),
        }
    )


def _tuple(items: list[str] | None) -> tuple[str, ...] | None:
    return None if items is None else tuple(items)


def _pairs(items: list[list[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in items)


def _changes(data: dict[str, Any]) -> HeaderChanges:
    return HeaderChanges(_pairs(data["set"]), tuple(data["remove"]))
