"""
The admin API as an aiohttp application: who may ask, and how answers and errors look.

Must not know the supervisor, sockets or the configuration: it is handed a ``Control`` and a token.
"""

import hmac
import logging
import socket
from collections.abc import Sequence
from http import HTTPStatus

import orjson
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from pyproxy.admin.body import InvalidBody
from pyproxy.admin.changes import Changes, Conflict, Impossible, NotThere
from pyproxy.admin.control import Basics, Control, Unavailable
from pyproxy.admin.events import STREAMS, Events, Streams
from pyproxy.admin.events import routes as event_routes
from pyproxy.admin.pair import Pair
from pyproxy.admin.peer import PAIR
from pyproxy.admin.peer import routes as peer_routes
from pyproxy.admin.views import BASICS, CONTROL, basics, routes
from pyproxy.admin.writes import BY_TOKEN, CHANGES
from pyproxy.admin.writes import routes as write_routes
from pyproxy.config.addresses import is_ip

# The largest thing that is sent here is a request's head.
MAX_BODY_BYTES = 64 * 1024

OPEN_PATHS = frozenset({"/healthz", "/readyz"})

_READING = frozenset({"GET", "HEAD", "OPTIONS"})

_log = logging.getLogger(__name__)


def make_app(
    control: Control, changes: Changes, events: Events, token: str | None, pair: Pair | None = None
) -> web.Application:
    """
    Put the application together.

    With a ``token``, every request but those for ``OPEN_PATHS`` needs it as ``Authorization: Bearer``. ``pair`` is
    there with failover only.
    """
    app = _make_basics(control, token)
    app[CONTROL] = control
    app[CHANGES] = changes
    streams = app[STREAMS] = Streams(events)
    app.on_shutdown.append(streams.close)
    if pair is not None:
        app[PAIR] = pair
    app.add_routes([*routes, *write_routes, *event_routes, *peer_routes])
    return app


def make_pair_app(program: Basics, token: str | None, pair: Pair) -> web.Application:
    """Put the application of a speaker together that runs alone: what monitoring asks, and the pair."""
    app = _make_basics(program, token)
    app[PAIR] = pair
    app.add_routes(peer_routes)
    return app


def _make_basics(program: Basics, token: str | None) -> web.Application:
    app = web.Application(middlewares=[_errors, _guard(token), _same_site], client_max_size=MAX_BODY_BYTES)
    app[BASICS] = program
    app.add_routes(basics)
    app.on_response_prepare.append(_finish_headers)
    return app


def error_response(status: int, text: str, detail: Sequence[str] = ()) -> web.Response:
    """Make the JSON that every error is answered with."""
    content = {"error": text, "detail": detail} if detail else {"error": text}
    return web.Response(status=status, body=orjson.dumps(content) + b"\n", content_type="application/json")


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error as JSON; one of our own is logged with its traceback and costs this request only."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        # What a view said, such as which pool is unknown, or else the status in words.
        text = error.text
        if not text or text.startswith(f"{error.status}:"):
            text = error.reason
        response = error_response(error.status, text, error.detail if isinstance(error, InvalidBody) else ())
        for name in (hdrs.ALLOW, hdrs.WWW_AUTHENTICATE):
            if name in error.headers:
                response.headers[name] = error.headers[name]
        return response
    except Unavailable as error:
        return error_response(503, str(error))
    except NotThere as error:
        return error_response(404, str(error))
    except Conflict as error:
        return error_response(409, str(error))
    except Impossible as error:
        return error_response(422, "the request is not valid", [str(error)])
    except Exception:
        _log.exception("%s %s failed", request.method, request.path)
        return error_response(500, HTTPStatus.INTERNAL_SERVER_ERROR.phrase)


def _guard(token: str | None) -> Middleware:
    """
    Let a request pass only with the token, whether its path exists or not.

    Without a token only by an address: a name may be one that a page of another site has pointed at us.
    """
    expected = None if token is None else token.encode()

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if expected is None and not _is_addressed(request) and request.path not in OPEN_PATHS:
            raise web.HTTPForbidden(text="without a token the Host must be an IP address or localhost")
        if expected is None or request.path in OPEN_PATHS:
            return await handler(request)
        if _has_token(request, expected):
            request[BY_TOKEN] = True
            return await handler(request)
        raise web.HTTPUnauthorized(
            text="a valid token is needed", headers={hdrs.WWW_AUTHENTICATE: 'Bearer realm="pyproxy"'}
        )

    return guard


def _has_token(request: web.Request, expected: bytes) -> bool:
    values = request.headers.getall(hdrs.AUTHORIZATION, [])
    if len(values) != 1:
        return False
    scheme, _, given = values[0].partition(" ")
    # surrogateescape, since that is how aiohttp decodes header bytes that are not UTF-8
    found = given.strip().encode("utf-8", "surrogateescape")
    return scheme.lower() == "bearer" and hmac.compare_digest(found, expected)


def _is_addressed(request: web.Request) -> bool:
    """Whether the request was meant for an address, or came through a unix socket; browsers always send Host."""
    sock = request.transport.get_extra_info("socket") if request.transport is not None else None
    if sock is not None and sock.family == socket.AF_UNIX:
        return True
    return all(_is_address(host) for host in request.headers.getall(hdrs.HOST, []))


def _is_address(host: str) -> bool:
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    bare = name[1:-1] if name.startswith("[") and name.endswith("]") else name
    return bare.lower() == "localhost" or is_ip(bare)


@web.middleware
async def _same_site(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse what a page of another site lets its reader's browser send; browsers name the page in Origin."""
    if request.method not in _READING:
        for origin in request.headers.getall(hdrs.ORIGIN, []):
            if origin.partition("://")[2].lower() != request.headers.get(hdrs.HOST, "").lower():
                raise web.HTTPForbidden(text="a page of another site must not write here")
    return await handler(request)


async def _finish_headers(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.popall(hdrs.SERVER, None)  # would tell aiohttp's and Python's versions
    response.headers[hdrs.CACHE_CONTROL] = "no-store"
    response.headers[hdrs.X_CONTENT_TYPE_OPTIONS] = "nosniff"
