"""
The model of one pool in lb.yml: its backends and how they are picked, watched and spoken to.

Must not know the rest of the file; what holds between two keys is in ``checks``.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr

from pyproxy.config.addresses import BackendAddress, host_name
from pyproxy.config.section import Section
from pyproxy.config.values import (
    YEAR,
    FalseIsNone,
    FieldName,
    FilePath,
    Items,
    Name,
    Percent,
    Scalar,
    Text,
    duration,
    one_of,
    parse_secret,
    text,
)

Policy = Literal["round_robin", "least_conn", "random", "ewma", "hash"]

_HASH = r"client_ip|uri|(header|cookie):[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}"
_RANGE = re.compile(r"([1-5][0-9][0-9])(?:-([1-5][0-9][0-9]))?")
_RETRY_ON = ("connect", "reset", "timeout", "502", "503", "504")
#: Characters of a secret that signs cookies.
MIN_STICKY_SECRET = 8
_COOKIE_PATH = r"/[!-:<-~]*"
_COOKIE_DOMAIN = r"\.?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*"


def _parse_expect(value: Any) -> tuple[tuple[int, int], ...]:
    parts = str(value).split(",") if isinstance(value, int | str) and not isinstance(value, bool) else [""]
    ranges = []
    for part in parts:
        match = _RANGE.fullmatch(part.strip())
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise ValueError("must be status codes such as 200, 200-399 or 200,301")
        ranges.append((int(match[1]), int(match[2] or match[1])))
    return tuple(ranges)


def _show_expect(ranges: tuple[tuple[int, int], ...]) -> str:
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in ranges)


def _parse_secrets(value: Any) -> tuple[SecretStr, ...]:
    values = value if isinstance(value, list) else [value]
    if not 1 <= len(values) <= 2:
        raise ValueError("must be a secret, or a list of the new one and the old one")
    return tuple(parse_secret(item, MIN_STICKY_SECRET) for item in values)


def _parse_retry_on(value: Any) -> str:
    word = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    return str(one_of(*_RETRY_ON).parse(word))


Expect = Annotated[
    tuple[tuple[int, int], ...],
    Scalar("status codes", _parse_expect, _show_expect, {"type": ["string", "integer"]}),
]
Secrets = Annotated[
    tuple[SecretStr, ...],
    Scalar(
        "secret, or list of the new and the old",
        _parse_secrets,
        lambda secrets: [str(item) for item in secrets],
        {"type": ["string", "array"], "items": {"type": "string"}, "format": "password", "writeOnly": True},
    ),
]
RetryOn = Annotated[str, Scalar(" | ".join(_RETRY_ON), _parse_retry_on, str, {"enum": [*_RETRY_ON, 502, 503, 504]})]


class Backend(Section):
    """One web node."""

    address: BackendAddress = Field(
        description="Where it listens: `IP:port`, `[IPv6]:port` (quoted), `name:port` or `unix:/path`. A "
        "host name is resolved again by its TTL (5 s to 60 s), keeping the last good answer; with several "
        "addresses it counts as one backend per address, which share its weight."
    )
    srv: bool = Field(
        False,
        description="Whether `address` is the name of SRV records, without a port, such as `_http._tcp.app.internal`.",
    )
    name: Name = Field(
        default_factory=lambda data: str(data["address"]),
        description="Its name in logs, metrics and commands, unique in the pool. Left out: the address; a "
        "unix "
        "address needs a name.",
    )
    weight: int = Field(
        1,
        ge=0,
        le=256,
        description="Its share of the requests relative to the others. 0: sticky clients only.",
    )
    backup: bool = Field(
        False,
        description="Used only while no other backend of the pool is available, and for requests that would be refused "
        "otherwise. One at `max_conns` counts as available until the queue is full or a request's time in it is over.",
    )
    max_conns: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="Most requests in flight on this backend over all workers; 0 is no limit. May be "
        "exceeded "
        "by the number of workers less one for a moment.",
    )


class PoolTls(Section):
    """TLS towards the backends."""

    verify: bool = Field(True, description="Whether the backend's certificate must be valid.")
    ca: FilePath | None = Field(
        None, description="File with the certificate authorities to trust; null trusts the system's."
    )
    sni: Annotated[str, text("host name", check=host_name, most=253)] | None = Field(
        None, description="Server name to send and to verify; null sends the host of the address."
    )
    cert: FilePath | None = Field(None, description="Client certificate file, together with `key`.")
    key: FilePath | None = Field(None, description="File with the private key of `cert`.")


class Sticky(Section):
    """Keep a client on the backend that served it first, by a signed cookie."""

    cookie: FieldName = Field("SRV", description="Name of the cookie.")
    secret: Secrets | None = Field(
        None,
        description="Key that signs the cookie, at least 8 characters; a list of two is the new key and the "
        "old "
        "one that is still believed. This or `secret_file`.",
    )
    secret_file: FilePath | None = Field(
        None,
        description="File that holds the secret, instead of `secret`; a second line is the old one. Read at the start.",
    )
    max_age: Annotated[float, duration(0, YEAR)] = Field(
        0.0,
        description="Lifetime of the cookie in whole seconds, renewed with each answer; 0 is until the browser closes.",
    )
    secure: Annotated[bool | Literal["auto"], one_of("auto", True, False)] = Field(
        "auto",
        description="Whether the cookie is for HTTPS only; `auto` goes by how the client came, which a trusted proxy "
        "tells with X-Forwarded-Proto.",
    )
    samesite: Literal["lax", "strict", "none"] = Field("lax", description="SameSite attribute of the cookie.")
    path: Annotated[str, text("path", _COOKIE_PATH, "must begin with / and have no spaces or semicolons")] = Field(
        "/", description="Path attribute of the cookie."
    )
    domain: Annotated[str, text("host name", _COOKIE_DOMAIN, "must be a host name", most=253)] | None = Field(
        None, description="Domain attribute of the cookie; null leaves it out."
    )


class Health(Section):
    """Active checks, sent to each backend of the pool."""

    type: Literal["http", "tcp"] = Field(
        "http", description="`http` asks for `path` and looks at the answer, `tcp` only connects."
    )
    path: Annotated[str, text("path", r"/[!-~]*", "must begin with / and have no spaces")] = Field(
        "/", description="Request target of the check."
    )
    host: Annotated[str, text("host", r"[!-~]+", "must be a host without spaces")] | None = Field(
        None, description="Host header of the check; null sends the backend's address."
    )
    expect: Expect = Field(((200, 399),), description="Status codes of a good answer.")
    body: Text | None = Field(
        None, description="Text that must occur in the first 64 KiB of the answer; null takes any."
    )
    interval: Annotated[float, duration(0.1, 3600)] = Field(2.0, description="Time between two checks.")
    timeout: Annotated[float, duration(0.01, 3600)] = Field(1.0, description="Time that a check may take.")
    rise: int = Field(2, ge=1, le=100, description="Good checks in a row that make a backend up.")
    fall: int = Field(3, ge=1, le=100, description="Bad checks in a row that make a backend down.")
    port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        None, description="Port to check; null checks the backend's own."
    )
    steer: bool = Field(
        False,
        description="Whether `X-LB-State: ready | drain | maint` in a check's answer is obeyed. The stricter of that "
        "and the operator's word holds; an answer without the header says `ready`.",
    )


class Outlier(Section):
    """Pass over a backend for a while when live traffic fails on it."""

    consecutive: int = Field(5, ge=1, le=1000, description="Failures in a row that eject a backend.")
    eject: Annotated[float, duration(0.1)] = Field(10.0, description="Length of the first ejection.")
    max_eject: Annotated[float, duration(0.1)] = Field(
        120.0, description="Longest ejection; each one in a row is longer than the one before."
    )
    min_available: int = Field(1, ge=0, le=1024, description="Backends that stay available whatever fails on them.")


class Retry(Section):
    """When a request is tried again on another backend."""

    attempts: int = Field(
        2,
        ge=1,
        le=10,
        description="Most attempts of one request; the first one counts, one that found no connection doesn't.",
    )
    on: Items[RetryOn] = Field(
        ("connect", "reset"),
        max_length=len(_RETRY_ON),
        description="What is tried again: `connect` no connection, `reset` connection lost before the answer, "
        "`timeout` no answer in time, or an answer with that status. After a `connect` failure any request goes to "
        "each other backend and then to the backups until one is reached, whatever `attempts` and `budget` say; "
        "otherwise only a request that is safe to repeat is tried again.",
    )
    budget: Percent = Field(0.2, description="Share of the requests of the last 10 s of a worker that retries may add.")
    min: int = Field(3, ge=0, le=10_000, description="Retries in 10 s that are allowed whatever the budget says.")
    timeout: Annotated[float, duration()] | None = Field(
        None,
        description="Time for all attempts of one request together; null is `timeouts.response`.",
    )


class Timeouts(Section):
    """How long a backend may take."""

    connect: Annotated[float, duration()] = Field(3.0, description="Until the connection is open.")
    response: Annotated[float, duration()] = Field(
        60.0, description="From the end of the request to the head of the answer."
    )
    idle: Annotated[float, duration()] = Field(60.0, description="Between two reads or writes of a body.")
    tunnel: Annotated[float, duration(most=YEAR)] = Field(
        3600.0, description="Without a byte in either direction of a tunnel, such as a WebSocket."
    )


class Keepalive(Section):
    """Idle connections to one backend, in one worker."""

    max_idle: int = Field(64, ge=0, le=65536, description="Most idle connections; 0 keeps none.")
    idle: Annotated[float, duration()] = Field(
        4.0,
        description="How long one may stay idle, shorter if the backend's `Keep-Alive` says so; keep it below the "
        "backend's own keep-alive timeout, which is 5 s in many.",
    )
    max_requests: int = Field(1000, ge=1, le=1_000_000_000, description="Requests after which a connection is closed.")


class Queue(Section):
    """Where requests wait while every available backend is at `max_conns`."""

    size: int = Field(
        128, ge=0, le=1_000_000, description="Most requests waiting, over all workers; one more gets a 503."
    )
    timeout: Annotated[float, duration()] = Field(5.0, description="Longest wait; then a 503.")


class Pool(Section):
    """A named group of backends with one policy."""

    policy: Policy = Field(
        "round_robin",
        description="How a backend is picked: `round_robin` in turn, smoothly by weight; `least_conn` the "
        "least "
        "busy; `random` the less busy of two; `ewma` the fastest of late; `hash` the same for the same "
        "`hash` value.",
    )
    hash: Annotated[str, text("text", _HASH, "must be client_ip, uri, header:NAME or cookie:NAME")] | None = Field(
        None,
        description="What policy `hash` looks at: `client_ip`, `uri`, `header:NAME` or `cookie:NAME`. "
        "Needed with that policy, refused with others. A request without that header or cookie goes by its client's "
        "address.",
    )
    backends: Items[Backend] = Field(min_length=1, max_length=1024, description="The web nodes.")
    tls: PoolTls | None = Field(None, description="Speak TLS to the backends; null speaks plain HTTP.")
    sticky: Sticky | None = Field(None, description="Keep clients on their backend; null doesn't.")
    health: Health | None = Field(None, description="Active checks; null sends none, backends count as up.")
    on_down: Literal["keep", "reset"] = Field(
        "keep", description="What happens to requests in flight when checks mark their backend down."
    )
    outlier: Annotated[Outlier | None, FalseIsNone()] = Field(
        default_factory=Outlier, description="Ejection on failures of live traffic; false turns it off."
    )
    slow_start: Annotated[float, duration(0)] = Field(
        0.0, description="Time in which a backend that came back gets its full share; 0 is at once."
    )
    retry: Retry = Field(default_factory=Retry, description="When a request is tried on another backend.")
    timeouts: Timeouts = Field(default_factory=Timeouts, description="How long a backend may take.")
    keepalive: Keepalive = Field(default_factory=Keepalive, description="Idle connections, per backend and worker.")
    queue: Queue = Field(default_factory=Queue, description="Where requests wait for a backend at `max_conns`.")
    send_proxy: Literal["v1", "v2"] | None = Field(
        None,
        description="Begin each connection to a backend with a PROXY header of that version; it then serves "
        "only "
        "the client connection that caused it.",
    )
    when_all_down: Literal["fail", "try_all"] = Field(
        "fail",
        description="With no backend available: `fail` answers 503, `try_all` tries them nevertheless.",
    )
