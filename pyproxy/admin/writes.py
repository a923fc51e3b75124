"""
The resources of the admin API that change something.

Must not know tokens or errors' looks, which ``app`` adds around every view.
"""

import asyncio
import os
import pwd
import socket
import struct
from contextlib import suppress
from typing import Any

from aiohttp import hdrs, web

from pyproxy.admin.body import InvalidBody, read_body
from pyproxy.admin.change_body import BackendChange, NewBackend, Why
from pyproxy.admin.changes import Changes, Origin
from pyproxy.admin.tags import guard_of
from pyproxy.admin.views import CONTROL, answer, find_backend, find_pool
from pyproxy.config.values import parse_duration

CHANGES = web.AppKey("changes", Changes)
#: Set on a request that came with the token.
BY_TOKEN = web.RequestKey("by_token", bool)

LONGEST_WAIT = 3600.0
_LOOK_SECONDS = 0.05
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid

routes = web.RouteTableDef()


@routes.get("/api/v1/config")
async def config(request: web.Request) -> web.Response:
    """The configuration in force, where its values come from, and everything that isn't as the file says."""
    status = request.app[CONTROL].status()["config"]
    changes = request.app[CHANGES]
    return answer({**status, **changes.config(), "overrides": changes.overrides()})


@routes.patch("/api/v1/pools/{pool}/backends/{backend}")
async def patch(request: web.Request) -> web.Response:
    """Change a backend, and wait until nothing is in flight on it if that is asked for."""
    seconds = _wait_of(request)
    find_backend(request)
    body = await read_body(request, BackendChange)
    await request.app[CHANGES].patch(*_names(request), body.values(), _origin(request, body), _guard(request))
    is_idle = await _is_idle_within(request, seconds)
    return answer(find_backend(request), status=200 if is_idle else 202)


@routes.post("/api/v1/pools/{pool}/backends")
async def add(request: web.Request) -> web.Response:
    """Add a backend."""
    name = find_pool(request)["name"]
    body = await read_body(request, NewBackend)
    guard = guard_of(request, lambda: find_pool(request)["backends"])
    await request.app[CHANGES].add(name, body, _origin(request, body), guard)
    found = request.app[CONTROL].backend(name, body.name)
    response = answer(found, status=201)
    response.headers[hdrs.LOCATION] = str(request.rel_url.with_query(None) / body.name)
    return response


@routes.delete("/api/v1/pools/{pool}/backends/{backend}")
async def remove(request: web.Request) -> web.Response:
    """Remove a backend."""
    force = _flag_of(request, "force")
    find_backend(request)
    await request.app[CHANGES].remove(*_names(request), _origin(request), _guard(request), force=force)
    return web.Response(status=204)


def _names(request: web.Request) -> tuple[str, str]:
    return request.match_info["pool"], request.match_info["backend"]


def _guard(request: web.Request) -> Any:
    return guard_of(request, lambda: find_backend(request))


def _wait_of(request: web.Request) -> float:
    text = request.query.get("wait", "0")
    try:
        seconds = parse_duration(float(text) if text.isdecimal() else text)
    except ValueError as error:
        raise InvalidBody([f"wait: {error}"]) from error
    if seconds > LONGEST_WAIT:
        raise InvalidBody(["wait: must be at most 1h"])
    return seconds


def _flag_of(request: web.Request, name: str) -> bool:
    text = request.query.get(name, "false")
    if text not in ("true", "false"):
        raise InvalidBody([f"{name}: must be true or false"])
    return text == "true"


async def _is_idle_within(request: web.Request, seconds: float) -> bool:
    """Wait until nothing is in flight; without any time to wait it doesn't matter."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while seconds and find_backend(request)["active"]:
        if loop.time() >= deadline or request.transport is None:
            return False
        await asyncio.sleep(_LOOK_SECONDS)
    return True


def _origin(request: web.Request, why: Why | None = None) -> Origin:
    if why is None:
        return Origin(sender_of(request))
    return Origin(sender_of(request), why.reason, why.expires, why.pinned)


def sender_of(request: web.Request) -> str:
    """Say who asks: the user behind a unix socket, the token, or the address."""
    transport = request.transport
    sock = transport.get_extra_info("socket") if transport is not None else None
    if sock is not None and sock.family == socket.AF_UNIX:
        return _peer_user(sock.fileno())
    return "token" if request.get(BY_TOKEN) else request.remote or "unknown"


def _peer_user(fd: int) -> str:
    with socket.socket(fileno=os.dup(fd)) as sock:
        _, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    with suppress(KeyError):
        return pwd.getpwuid(uid).pw_name
    return f"uid {uid}"
