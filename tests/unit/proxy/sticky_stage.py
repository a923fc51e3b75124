"""A pool of three nodes with sticky sessions, what a client sends to it, and what it gets."""

import re
from dataclasses import replace
from typing import Any

from pyproxy.balance.sticky import Tokens
from pyproxy.config.runtime import Backend, Sticky
from tests.unit.proxy.planes import FakePlane, Stage, make_backend, make_config, make_pool

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
NEW, OLD = "new secret", "old secret"
NODES = (make_backend("a", port=8001), make_backend("b", port=8002), make_backend("c", port=8003))


def sticky(**changes: Any) -> Sticky:
    """A cookie named SRV."""
    return Sticky("SRV", **{"secrets": (NEW, OLD), **changes})


def stage_of(nodes: tuple[Backend, ...] = NODES, config: Sticky | None = None, **changes: Any) -> Stage:
    """A pool of three nodes with sticky sessions."""
    return Stage(make_config(make_pool("web", nodes, sticky=config or sticky(), **changes)))


def cookie(plane: FakePlane, name: str, secret: str = NEW) -> bytes:
    """What a client of a node has got."""
    found = [backend for backend in plane.pools["web"].pool.backends if backend.name == name]
    value = Tokens("web", [secret], found).value_of(found[0])
    assert value is not None
    return value


def get(value: bytes = b"", *more: bytes) -> bytes:
    """Ask with a cookie."""
    lines = [b"GET / HTTP/1.1", b"Host: a", *([b"Cookie: SRV=" + value] if value else []), *more]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def given(answer: bytes) -> list[bytes]:
    """The values of an answer's Set-Cookie."""
    return re.findall(rb"Set-Cookie: ([^\r]*)\r\n", answer)


def port(stage: Stage) -> int:
    """Whom the oldest waiting connect is for."""
    return int(stage.loop.dials[0].address[1])


def exchange(stage: Stage, raw: bytes, answer: bytes = OK) -> tuple[int, bytes]:
    """Ask on a connection of its own that closes; give who served it, and the answer."""
    stage.client = stage.plane.connect()
    stage.ask(raw.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    served = port(stage)
    origin = stage.accept()
    stage.answer(origin, answer.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
    return served, stage.got


def change(stage: Stage, name: str, **facts: Any) -> None:
    """Let the supervisor tell of other facts."""
    pool = stage.plane.config.pools[0]
    backends = [replace(item, **facts) if item.name == name else item for item in pool.backends]
    plain = [{field: getattr(item, field) for field in Backend.__slots__} for item in backends]
    stage.plane.update_pools([{"name": "web", "unit": 1, "backends": plain}])
