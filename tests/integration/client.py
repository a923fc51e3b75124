"""A raw client: sends exactly the bytes it is told, as slowly or rudely as it is told."""

import asyncio
import socket
from itertools import count
from typing import Self

from tests.integration.wire import DEADLINE, Message, Wire

_numbers = count(1)


def unique_source(*, trusted: bool = False) -> str:
    """
    Return a loopback address that no other client of this test process has: it finds its log lines again.

    127.9.0.0/16 is what the shared program's ``trusted_proxies`` say.
    """
    number = next(_numbers)
    return f"127.{9 if trusted else 77}.{number // 250}.{number % 250 + 1}"


class RawClient(Wire):
    """One connection to the program, from its own source address."""

    def __init__(self, sock: socket.socket, source: str) -> None:
        super().__init__(sock)
        self.source = source

    @classmethod
    async def connect(
        cls, port: int, host: str = "127.0.0.1", source: str | None = None, receive_buffer: int | None = None
    ) -> Self:
        """Connect; a small ``receive_buffer`` makes a client that can't take much at once."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            if receive_buffer is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            if family is socket.AF_INET:
                source = source or unique_source()
                sock.bind((source, 0))
            async with asyncio.timeout(DEADLINE):
                await asyncio.get_running_loop().sock_connect(sock, (host, port))
        except BaseException:
            sock.close()
            raise
        return cls(sock, source or host)

    async def ask(self, raw: bytes) -> Message:
        """Send one request and return its response (for a HEAD, the head)."""
        await self.send(raw)
        return await self.read_response(bodiless=raw.startswith(b"HEAD "))

    async def responses(self, number: int) -> list[Message]:
        """Read so many responses."""
        return [await self.read_response() for _ in range(number)]


def get(host: str, target: str = "/", *headers: str, method: str = "GET", version: str = "1.1") -> bytes:
    """Build a request without a body."""
    lines = [f"{method} {target} HTTP/{version}", f"Host: {host}", *headers]
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1") + b"\r\n"


def post(host: str, body: bytes, *headers: str, target: str = "/", method: str = "POST") -> bytes:
    """Build a request whose body has a Content-Length."""
    return get(host, target, f"Content-Length: {len(body)}", *headers, method=method) + body


def chunked(*chunks: bytes, trailers: bytes = b"") -> bytes:
    """Encode a body in chunks."""
    return b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in chunks) + b"0\r\n" + trailers + b"\r\n"
