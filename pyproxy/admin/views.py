"""
The resources of the admin API.

Must not know tokens or errors' looks, which ``app`` adds around every view.
"""

from typing import Any

import orjson
from aiohttp import hdrs, web

from pyproxy.admin.body import ExplainBody, read_body
from pyproxy.admin.control import BackendView, Basics, Control, PoolView
from pyproxy.admin.openapi import document
from pyproxy.admin.tags import tag_of
from pyproxy.observe.metrics import CONTENT_TYPE

CONTROL = web.AppKey("control", Control)
BASICS = web.AppKey("basics", Basics)

basics = web.RouteTableDef()
routes = web.RouteTableDef()


def _json(data: Any, status: int = 200) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(data) + b"\n", content_type="application/json")


def answer(data: Any, status: int = 200) -> web.Response:
    """Answer with JSON and its tag."""
    response = _json(data, status)
    response.headers[hdrs.ETAG] = tag_of(data)
    return response


@basics.get("/healthz")
async def healthz(_request: web.Request) -> web.Response:
    """Answer 200 while the program lives."""
    return _json({"status": "ok"})


@basics.get("/readyz")
async def readyz(request: web.Request) -> web.Response:
    """Answer 200 while the program should get traffic, else 503."""
    if request.app[BASICS].is_ready():
        return _json({"status": "ready"})
    return _json({"error": "not ready"}, status=503)


@basics.get("/metrics")
async def metrics(request: web.Request) -> web.Response:
    """All metrics as Prometheus text."""
    body = request.app[BASICS].metrics().encode()
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})


@routes.get("/api/v1/status")
async def status(request: web.Request) -> web.Response:
    """The program, its workers, its configuration and its listeners."""
    return answer(request.app[CONTROL].status())


@routes.get("/api/v1/pools")
async def pools(request: web.Request) -> web.Response:
    """Every pool with its backends."""
    return answer(request.app[CONTROL].pools())


@routes.get("/api/v1/pools/{pool}")
async def pool(request: web.Request) -> web.Response:
    """One pool with its backends."""
    return answer(find_pool(request))


@routes.get("/api/v1/pools/{pool}/backends")
async def backends(request: web.Request) -> web.Response:
    """The backends of one pool."""
    return answer(find_pool(request)["backends"])


@routes.get("/api/v1/pools/{pool}/backends/{backend}")
async def backend(request: web.Request) -> web.Response:
    """One backend."""
    return answer(find_backend(request))


@routes.get("/api/v1/openapi.json")
async def openapi(_request: web.Request) -> web.Response:
    """What there is to ask for, and how."""
    return answer(document())


@routes.post("/api/v1/explain")
async def explain(request: web.Request) -> web.Response:
    """What would become of a request."""
    body = await read_body(request, ExplainBody)
    return _json(await request.app[CONTROL].explain(body.question()))


def find_pool(request: web.Request) -> PoolView:
    """Give the pool that the path names; 404 if there is none."""
    name = request.match_info["pool"]
    for item in request.app[CONTROL].pools():
        if item["name"] == name:
            return item
    raise web.HTTPNotFound(text=f"no pool {name!r}")


def find_backend(request: web.Request) -> BackendView:
    """Give the backend that the path names; 404 if there is none."""
    pool, name = request.match_info["pool"], request.match_info["backend"]
    found = request.app[CONTROL].backend(pool, name)
    if found is None:
        raise web.HTTPNotFound(text=f"no backend {name!r} in pool {find_pool(request)['name']!r}")
    return found
