"""
The resources of the admin API about the failover pair.

Must not know tokens or errors' looks, which ``app`` adds around every view.
"""

from aiohttp import web

from pyproxy.admin.body import read_body
from pyproxy.admin.change_body import HandoverBody
from pyproxy.admin.changes import Origin
from pyproxy.admin.pair import Pair
from pyproxy.admin.views import answer
from pyproxy.admin.writes import sender_of

PAIR = web.AppKey("pair", Pair)

routes = web.RouteTableDef()


@routes.get("/api/v1/peer")
async def peer(request: web.Request) -> web.Response:
    """The pair."""
    return answer(_pair(request).view())


@routes.get("/api/v1/peer/diff")
async def diff(request: web.Request) -> web.Response:
    """In what the other machine's configuration differs."""
    return answer(await _pair(request).diff())


@routes.get("/api/v1/peer/facts")
async def facts(request: web.Request) -> web.Response:
    """What a simulation needs."""
    return answer(_pair(request).facts())


@routes.post("/api/v1/peer/handover")
async def handover(request: web.Request) -> web.Response:
    """Give the addresses to the other machine."""
    body = await read_body(request, HandoverBody) if request.can_read_body else HandoverBody()
    return answer(await _pair(request).handover(Origin(sender_of(request), body.reason)))


def _pair(request: web.Request) -> Pair:
    pair = request.app.get(PAIR)
    if pair is None:
        raise web.HTTPNotFound(text="there is no other machine: failover is not configured")
    return pair
