"""
A proxy in the ordinary Python way: aiohttp's server and client on uvloop.

This is a program; it runs until SIGTERM:

    aiohttp_proxy.py PORT LOG POLICY NODE_PORT...

It has what the contenders have in common: an access log, X-Forwarded-*, X-Request-Id, connections to the nodes kept,
bodies of any size as they come, WebSockets. Must not know what is sent to it, and uses what aiohttp offers as it is
meant: nobody should have to read its code to write this.
"""

import asyncio
import itertools
import logging
import random
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import uvloop
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import stage

WebSocket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse

BACKLOG = 4096
IDLE_SECONDS = 600.0
CONNECTION_ONLY = (
    "Connection",
    "Keep-Alive",
    "Proxy-Connection",
    "Transfer-Encoding",
    "TE",
    "Trailer",
    "Upgrade",
    "Expect",
)
OF_A_HANDSHAKE = ("Sec-WebSocket-Key", "Sec-WebSocket-Version", "Sec-WebSocket-Extensions")  # the client makes its own
NO_HEADERS_OF_ITS_OWN = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


@dataclass(slots=True)
class Node:
    """A web node, and how many requests it has."""

    port: int
    active: int = 0


def round_robin(nodes: list[Node]) -> Callable[[], Node]:
    """Pick one after the other."""
    return itertools.cycle(nodes).__next__


def least_conn(nodes: list[Node]) -> Callable[[], Node]:
    """Pick the least busy."""
    return lambda: min(nodes, key=lambda node: node.active)


def random_choice(nodes: list[Node]) -> Callable[[], Node]:
    """Pick the less busy of two."""
    return lambda: min(random.sample(nodes, 2), key=lambda node: node.active)


POLICIES = {"round_robin": round_robin, "least_conn": least_conn, "random": random_choice}


class Proxy:
    """Answers requests with what a node answers."""

    def __init__(self, session: aiohttp.ClientSession, pick: Callable[[], Node]) -> None:
        self._session = session
        self._pick = pick

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Pick a node for a request and pass both on."""
        node = self._pick()
        node.active += 1
        url = URL(f"http://{stage.HOST}:{node.port}{request.raw_path}", encoded=True)
        try:
            if request.headers.get("Upgrade", "").lower() == "websocket":
                return await self._tunnel(request, url)
            return await self._exchange(request, url)
        finally:
            node.active -= 1

    async def _exchange(self, request: web.Request, url: URL) -> web.StreamResponse:
        body = request.content if request.can_read_body else None
        headers = request_headers(request)
        async with self._session.request(
            request.method, url, headers=headers, data=body, allow_redirects=False
        ) as answer:
            response = web.StreamResponse(
                status=answer.status, reason=answer.reason, headers=without(answer.headers, CONNECTION_ONLY)
            )
            await response.prepare(request)
            async for piece in answer.content.iter_any():
                await response.write(piece)
            await response.write_eof()
            return response

    async def _tunnel(self, request: web.Request, url: URL) -> web.WebSocketResponse:
        client = web.WebSocketResponse(compress=False, max_msg_size=0)
        headers = without(request_headers(request), OF_A_HANDSHAKE)
        async with self._session.ws_connect(url, headers=headers, max_msg_size=0) as node:
            await client.prepare(request)
            await asyncio.gather(relay(client, node), relay(node, client))
        return client


def request_headers(request: web.Request) -> CIMultiDict[str]:
    """Make the headers that a node gets."""
    headers = without(request.headers, CONNECTION_ONLY)
    headers["X-Forwarded-For"] = request.remote or ""
    headers["X-Forwarded-Proto"] = request.scheme
    headers["X-Forwarded-Host"] = request.host
    headers["X-Request-Id"] = uuid.uuid4().hex
    return headers


def without(headers: "aiohttp.typedefs.LooseHeaders", names: tuple[str, ...]) -> CIMultiDict[str]:
    """Copy headers, but for some."""
    copied = CIMultiDict(headers)
    for name in names:
        copied.popall(name, None)
    return copied


async def relay(source: WebSocket, target: WebSocket) -> None:
    """Pass messages on until one side closes."""
    async for message in source:
        if message.type == aiohttp.WSMsgType.TEXT:
            await target.send_str(message.data)
        else:
            await target.send_bytes(message.data)
    await target.close()


async def serve(port: int, log: Path, policy: str, ports: list[int]) -> None:
    """Take clients until cancelled."""
    logger = logging.getLogger("access")
    logger.addHandler(logging.FileHandler(log))
    logger.setLevel(logging.INFO)
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_SECONDS),
        timeout=aiohttp.ClientTimeout(total=None),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=NO_HEADERS_OF_ITS_OWN,
    )
    async with session:
        app = web.Application()
        pick = POLICIES[policy]([Node(port) for port in ports])
        app.router.add_route("*", "/{path:.*}", Proxy(session, pick).handle)
        runner = web.AppRunner(app, access_log=logger, keepalive_timeout=IDLE_SECONDS, auto_decompress=False)
        await runner.setup()
        await web.TCPSite(runner, stage.HOST, port, backlog=BACKLOG).start()
        await asyncio.Event().wait()


def main() -> int:
    """Be the proxy that the arguments ask for."""
    port, log, policy, *ports = sys.argv[1:]
    uvloop.run(serve(int(port), Path(log), policy, list(map(int, ports))))
    return 0


if __name__ == "__main__":
    stage.run(main)
