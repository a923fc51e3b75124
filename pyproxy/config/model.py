"""
The model of lb.yml: every key of the file with its type, bounds, default and meaning.

Must not know the text of a file, nor which features exist already (``unavailable``) or what holds between
two keys (``checks``). The descriptions are the administrator's manual: docs/configuration.md and the JSON
Schema are made from them.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, PrivateAttr

from pyproxy.config.addresses import Address, Bind, NameServer, NetworkText
from pyproxy.config.model_failover import Failover
from pyproxy.config.model_pool import Pool
from pyproxy.config.model_route import Route
from pyproxy.config.pages import Page
from pyproxy.config.section import Section
from pyproxy.config.values import (
    FieldName,
    FileMode,
    FilePath,
    Items,
    Name,
    Scalar,
    Token,
    duration,
    size,
    text,
    whole,
)

_MAX_WORKERS = 256
_USER = r"[A-Za-z_][A-Za-z0-9_.-]{0,31}"


def _parse_workers(value: Any) -> int | str:
    if value == "auto":
        return "auto"
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _MAX_WORKERS:
        raise ValueError(f"must be auto or a number from 1 to {_MAX_WORKERS}")
    return value


def _parse_tls_version(value: Any) -> str:
    if not isinstance(value, bool) and str(value) in ("1.2", "1.3"):
        return str(value)
    raise ValueError("must be 1.2 or 1.3")


def _log_target(value: str) -> str:
    if value not in ("stdout", "off") and "/" not in value:
        raise ValueError("must be stdout, off or a path with a /, such as /var/log/pyproxy/access.log")
    return value


Workers = Annotated[
    int | Literal["auto"],
    Scalar(
        f"auto | 1 to {_MAX_WORKERS}",
        _parse_workers,
        lambda value: value,
        {"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1, "maximum": _MAX_WORKERS}]},
    ),
]
TlsVersion = Annotated[str, Scalar("1.2 | 1.3", _parse_tls_version, str, {"enum": ["1.2", "1.3", 1.2, 1.3]})]
User = Annotated[str, text("user", _USER, "must be the name of a user", most=32)]
Owner = Annotated[str, text("user:group", f"{_USER}(:{_USER})?", "must be user or user:group", most=65)]
ErrorStatus = Annotated[int, whole(400, 599)]


class Certificate(Section):
    """A certificate and its key."""

    cert: FilePath = Field(description="PEM file with the certificate and its chain.")
    key: FilePath = Field(description="PEM file with the private key.")


class ListenerTls(Section):
    """TLS towards the clients."""

    certificates: Items[Certificate] = Field(
        min_length=1, max_length=1024, description="Picked by SNI; the first one is the default."
    )
    min_version: TlsVersion = Field("1.2", description="Lowest TLS version.")
    client_ca: FilePath | None = Field(
        None,
        description="File with the authorities whose client certificates are required; null asks for none.",
    )
    client_header: FieldName = Field(
        "X-Client-Cert", description="Header that tells the backend the client's certificate."
    )


class Listener(Section):
    """An address that clients connect to."""

    bind: Bind = Field(
        description="`IP:port`, `[IPv6]:port` (quoted) or `unix:/path`. 0.0.0.0 and [::] are all addresses; "
        "port 0 "
        "takes a free one."
    )
    name: Name = Field(
        default_factory=lambda data: str(data["bind"]),
        description="Its name in logs, metrics and routes, unique. Left out: the bind address; a unix bind needs one.",
    )
    mode: FileMode | None = Field(None, description="File mode of a unix socket, such as 0o660.")
    owner: Owner | None = Field(None, description="Owner of a unix socket, `user` or `user:group`.")
    proxy_protocol: bool = Field(
        False, description="Whether a PROXY header, v1 or v2, is required on every connection, and believed."
    )
    tls: ListenerTls | None = Field(None, description="Speak TLS to the clients; null speaks plain HTTP.")


class Client(Section):
    """How long a client may take."""

    header_timeout: Annotated[float, duration()] = Field(10.0, description="Time for a whole request head; then a 408.")
    body_timeout: Annotated[float, duration()] = Field(60.0, description="Between two reads of a request body.")
    keepalive: Annotated[float, duration(0)] = Field(
        75.0, description="How long a connection may wait for its next request; 0 closes after each answer."
    )
    max_requests: int = Field(
        1000, ge=1, le=1_000_000_000, description="Requests after which a client's connection is closed."
    )
    write_timeout: Annotated[float, duration()] = Field(
        60.0, description="Time without progress in sending an answer to a client that doesn't read."
    )


class Limits(Section):
    """How much a client may send, and how many clients there may be."""

    request_line: Annotated[int, size(256, 64 * 1024)] = Field(
        8192, description="Longest request line; above it a 414."
    )
    headers: Annotated[int, size(1024, 1024**2)] = Field(
        32768, description="All header lines of a request together; above it a 431."
    )
    header_count: int = Field(100, ge=1, le=1000, description="Most header lines; above it a 431.")
    body: Annotated[int, size()] | None = Field(
        None, description="Largest request body; above it a 413. null is no limit."
    )
    connections: int = Field(
        0,
        ge=0,
        le=10_000_000,
        description="Most client connections over all workers; 0 is no limit of its own.",
    )


class Dns(Section):
    """Where the host names of backends are looked up."""

    servers: Items[NameServer] = Field(
        (), max_length=8, description="Name servers, `IP` or `IP:port`. Empty takes those of the system."
    )


class AccessLog(Section):
    """One line for each request and its answer."""

    to: Annotated[str, text("stdout | off | file", check=_log_target)] = Field(
        "stdout", description="`stdout`, `off` or a file, which SIGUSR1 opens anew."
    )
    format: Literal["combined", "json"] = Field(
        "combined",
        description="`combined` is nginx's with fields of our own behind it, `json` an object a line.",
    )


class Admin(Section):
    """The admin API, the metrics and the dashboard."""

    bind: Bind = Field(
        Address("127.0.0.1", 9900),
        description="`IP:port` or `unix:/path`. Other than loopback or unix needs a token.",
    )
    token: Token | None = Field(
        None, description="Token that callers must send; better from the environment, `${NAME}`."
    )
    token_file: FilePath | None = Field(None, description="File that holds the token, instead of `token`.")


class Config(Section):
    """The file. Only `listeners` and `pools` are required."""

    _origins: dict[tuple[str | int, ...], str] = PrivateAttr(default_factory=dict)
    _variables: frozenset[str] = PrivateAttr(default=frozenset())

    workers: Workers = Field(
        "auto",
        description="Data-plane processes; `auto` is one per usable CPU, by affinity and by the quota of a control "
        "group (docker, Kubernetes, systemd).",
    )
    user: User | None = Field(
        None,
        description="User that the workers drop to; needs a start as root. null keeps the starting user.",
    )
    state_dir: Annotated[str, text("directory")] | None = Field(
        None, description="Directory where runtime changes survive a restart; null keeps them in memory only."
    )
    shutdown_grace: Annotated[float, duration(0)] = Field(
        30.0, description="How long requests in flight and tunnels may go on when the program stops."
    )
    listeners: Items[Listener] = Field(min_length=1, max_length=64, description="Where clients connect to.")
    trusted_proxies: Items[NetworkText] = Field(
        (),
        max_length=4096,
        description="Networks of proxies in front of this one, whose `X-Forwarded-*` are believed; `unix:` is "
        "whoever comes in through a unix socket.",
    )
    routes: Items[Route] = Field(
        (),
        max_length=65536,
        description="Which requests go to which pool. May be left out with one pool. No route fits: 404.",
    )
    pools: dict[Name, Pool] = Field(
        min_length=1,
        max_length=1024,
        description="Groups of backends by name, letters, digits and . _ : [ ] -.",
    )
    client: Client = Field(default_factory=Client, description="How long a client may take.")
    limits: Limits = Field(default_factory=Limits, description="How much a client may send.")
    error_pages: dict[ErrorStatus, Page] = Field(
        default_factory=dict,
        max_length=200,
        description="Files with the body of our own error answers by status, such as "
        "`503: /etc/pyproxy/503.html`, at most 1 MiB each. Read with this file; the suffix (html, htm, json, txt) "
        "says the content type.",
    )
    dns: Dns = Field(default_factory=Dns, description="Where the host names of backends are looked up.")
    access_log: AccessLog = Field(default_factory=AccessLog, description="One line for each request.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe message of the program's own log on stderr."
    )
    admin: Admin | None = Field(
        default_factory=Admin, description="The admin API; null turns it off, with metrics and dashboard."
    )
    failover: Failover | None = Field(
        None, description="Two machines that share an address; null is a machine on its own."
    )

    @property
    def origins(self) -> dict[tuple[str | int, ...], str]:
        """Where the value at each path comes from, if it is from the file; without a file nothing is known."""
        return self._origins

    @property
    def variables(self) -> frozenset[str]:
        """The variables of the environment that have a part in any value."""
        return self._variables

    def with_origins(self, origins: dict[tuple[str | int, ...], str], variables: frozenset[str]) -> Self:
        """Give the same configuration, which knows where its values come from."""
        copy = self.model_copy()
        copy._origins, copy._variables = origins, variables
        return copy


class SpeakerConfig(Config):
    """The file of a speaker that runs alone: only `failover` is required."""

    listeners: Items[Listener] = Field((), max_length=64, description="Not used.")
    pools: dict[Name, Pool] = Field(default_factory=dict, max_length=1024, description="Not used.")
    failover: Failover = Field(description="Two machines that share an address.")
