"""
One web node of the demo: tells who it is and what it was asked.

Must not know that there is a proxy. ``python -m pyproxy.demo.node NAME FD`` serves on the listening socket FD
until its stdin ends.

    /            name, hits and the request as it came
    /slow?ms=N   the same after N milliseconds
    /bytes/N     N bytes
    /ws          a WebSocket that says back what it hears
"""

import asyncio
import itertools
import socket
import sys

from aiohttp import WSMsgType, web

MAX_BYTES = 1024**3
MAX_WAIT_MS = 60_000
CHUNK_BYTES = 64 * 1024


def make_app(name: str) -> web.Application:
    """Make a node's application."""
    hits = itertools.count(1)

    async def answer(request: web.Request) -> web.Response:
        version = request.version
        lines = [f"Hello from {name}, hit {next(hits)}.", ""]
        lines.append(f"{request.method} {request.raw_path} HTTP/{version.major}.{version.minor}")
        lines += [f"{field}: {value}" for field, value in request.headers.items()]
        return web.Response(text="\n".join((*lines, "")), headers={"X-Node": name})

    async def slow(request: web.Request) -> web.Response:
        wait = _number(request.query.get("ms", "1000"), MAX_WAIT_MS)
        await asyncio.sleep(wait / 1000)
        return await answer(request)

    app = web.Application()
    app.router.add_get("/slow", slow)
    app.router.add_get("/bytes/{count}", _send_bytes)
    app.router.add_get("/ws", _echo)
    app.router.add_route("*", "/{path:.*}", answer)
    return app


async def _send_bytes(request: web.Request) -> web.StreamResponse:
    left = _number(request.match_info["count"], MAX_BYTES)
    response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
    response.content_length = left
    await response.prepare(request)
    if request.method != "HEAD":
        while left > 0:
            await response.write(bytes(min(left, CHUNK_BYTES)))
            left -= CHUNK_BYTES
    return response


async def _echo(request: web.Request) -> web.WebSocketResponse:
    channel = web.WebSocketResponse()
    await channel.prepare(request)
    async for message in channel:
        if message.type is WSMsgType.TEXT:
            await channel.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await channel.send_bytes(message.data)
    return channel


def _number(text: str, most: int) -> int:
    if text.isascii() and text.isdigit() and len(text) < 12 and int(text) <= most:
        return int(text)
    raise web.HTTPBadRequest(text=f"a number from 0 to {most} is needed\n")


async def serve(name: str, sock: socket.socket) -> None:
    """Serve until stdin ends."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), ended.set)
    runner = web.AppRunner(make_app(name), access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    await web.SockSite(runner, sock).start()
    await ended.wait()
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], socket.socket(fileno=int(sys.argv[2]))))
