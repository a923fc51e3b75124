"""
The admin API's listening socket and the server behind it.

Must not know what is served: it gets an application, and where it shall be on a unix path, the socket as well.
Failing to bind is an ``OSError``.
"""

import asyncio
import contextlib
import logging
import socket
from http import HTTPStatus
from typing import Any

from aiohttp import hdrs, web

from pyproxy.admin.app import error_response

BACKLOG = 128
#: Connections at once. One more takes the place of the oldest one that is idle, or is refused.
MAX_CONNECTIONS = 128

#: Until a request's head is whole, and until the next one begins; a scraper that comes less often connects again.
_KEEPALIVE = 15.0
#: That a client may take nothing of its answer.
_WRITE_TIMEOUT = 30.0
# The answers are made at once: whatever is left after this, its client isn't reading.
_STOP_TIMEOUT = 1.0

_log = logging.getLogger(__name__)


def bind_tcp(host: str, port: int) -> socket.socket:
    """Listen on an IP address; port 0 takes a free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as undo:
        sock = undo.enter_context(socket.socket(family, socket.SOCK_STREAM))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
        undo.pop_all()
    return sock


class _Protocol(web.RequestHandler):
    """
    A connection that counts, and is ended when its client reads nothing.

    Answers what can't be parsed in the API's own form, and without a traceback in the log.
    """

    __slots__ = ("_connections", "_stalled")

    def __init__(self, connections: "dict[_Protocol, None]", server: web.Server, **settings: Any) -> None:
        super().__init__(server, **settings)
        self._connections = connections
        self._stalled: asyncio.TimerHandle | None = None

    @property
    def is_idle(self) -> bool:
        """Whether no request is being answered, nor an answer being sent."""
        return not self._request_in_progress and not self._messages

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connections[self] = None

    def connection_lost(self, exc: BaseException | None) -> None:
        self._connections.pop(self, None)
        self._cancel_stalled()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._cancel_stalled()
        self._stalled = asyncio.get_running_loop().call_later(_WRITE_TIMEOUT, self._handle_stalled)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._cancel_stalled()

    def _handle_stalled(self) -> None:
        if isinstance(self.transport, asyncio.Transport):
            self.transport.abort()

    def _cancel_stalled(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if status >= 500:
            _log.error("a request failed", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has already begun")
        response = error_response(status, HTTPStatus(status).phrase)
        # Such a request never reaches the application, which would remove the header; without a value of
        # its own the answer would name aiohttp's and Python's versions.
        response.headers[hdrs.SERVER] = "pyproxy"
        response.headers[hdrs.CACHE_CONTROL] = "no-store"
        response.force_close()
        return response


class _Refusal(asyncio.Protocol):
    """Says no to a connection that is one too many, and ends it at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(_REFUSAL)
        transport.close()


_REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: 34\r\n"
    b'Connection: close\r\n\r\n{"error": "too many connections"}\n'
)


def _address(sock: socket.socket) -> str:
    if sock.family == socket.AF_UNIX:
        return f"unix:{sock.getsockname()}"
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class AdminServer:
    """
    The application on one listening socket, which it owns from ``start`` on.

    ``address`` is where it listens: ``host:port``, ``[v6]:port`` or ``unix:/path``.
    """

    def __init__(self, app: web.Application, sock: socket.socket) -> None:
        self._runner = web.AppRunner(app, shutdown_timeout=_STOP_TIMEOUT)
        self.address = _address(sock)
        self._sock = sock
        self._server: asyncio.Server | None = None
        self._connections: dict[_Protocol, None] = {}  # in the order in which they came

    def __repr__(self) -> str:
        return f"<AdminServer {self.address}>"

    async def start(self) -> None:
        """Begin to serve."""
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._make_protocol, sock=self._sock, backlog=BACKLOG)

    def _make_protocol(self) -> asyncio.Protocol:
        server = self._runner.server
        if server is None:
            raise RuntimeError("the admin server is not set up")
        if len(self._connections) >= MAX_CONNECTIONS:
            idle = next((protocol for protocol in self._connections if protocol.is_idle), None)
            if idle is None:
                return _Refusal()
            self._connections.pop(idle)
            idle.force_close()
        return _Protocol(
            self._connections,
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,
            keepalive_timeout=_KEEPALIVE,
            # A request to this API is short, and so are its headers.
            max_line_size=4096,
            max_field_size=8190,
            max_headers=64,
        )

    async def stop(self) -> None:
        """Close the socket, end every connection."""
        if self._server is not None:
            self._server.close()
        self._sock.close()
        await self._runner.cleanup()
