"""
One end of a TCP connection, and the small HTTP/1 reader that both ends of the tests share.

No stream sits in between: what is sent is on the wire when ``send`` returns, what nobody reads stays in the
kernel, and a reset is told from an end. Knows nothing of pyproxy, and borrows no parser from it.
"""

import asyncio
import socket
import struct
from dataclasses import dataclass
from enum import Enum

# No test waits longer than this for anything that ought to happen.
DEADLINE = 10.0
READ_BYTES = 256 * 1024
BODILESS = frozenset({204, 304})


class End(Enum):
    """How the other side stopped sending."""

    OPEN = "open"
    EOF = "eof"
    RESET = "reset"


class Truncated(Exception):
    """The other side ended before a message was whole."""

    def __init__(self, got: bytes, end: End) -> None:
        super().__init__(f"{end.value} after {got[-200:]!r}")
        self.got = got
        self.end = end


@dataclass(frozen=True, slots=True)
class Message:
    """One request or response; header names are lower case, ``raw`` is every byte of it as it came."""

    raw: bytes
    start: tuple[bytes, bytes, bytes]
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    trailers: tuple[tuple[bytes, bytes], ...] = ()

    @property
    def head(self) -> bytes:
        """The raw bytes up to and including the empty line."""
        return self.raw[: self.raw.index(b"\r\n\r\n") + 4]

    @property
    def status(self) -> int:
        """The status code of a response."""
        return int(self.start[1])

    @property
    def method(self) -> bytes:
        """The method of a request."""
        return self.start[0]

    @property
    def target(self) -> bytes:
        """The target of a request."""
        return self.start[1]

    def all(self, name: str) -> list[bytes]:
        """Every value of a header, in order."""
        wanted = name.lower().encode()
        return [value for key, value in self.headers if key == wanted]

    def get(self, name: str) -> bytes | None:
        """The value of a header that may be there once; a second one is an error."""
        values = self.all(name)
        assert len(values) < 2, f"{name} came {len(values)} times: {values}"
        return values[0] if values else None

    def names(self) -> set[bytes]:
        """The names of all headers."""
        return {name for name, _ in self.headers}


class Wire:
    """A connected socket with a deadline on everything and a memory of every byte that came."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self.received = bytearray()
        self.end = End.OPEN
        self._consumed = 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.end.value} {len(self.received)} bytes received>"

    async def send(self, data: bytes, deadline: float = DEADLINE) -> None:
        """Send all of it."""
        async with asyncio.timeout(deadline):
            await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def drip(self, data: bytes, size: int = 1, pause: float = 0.001) -> None:
        """Send in pieces of ``size`` bytes, each in its own segment."""
        for at in range(0, len(data), size):
            await self.send(data[at : at + size])
            await asyncio.sleep(pause)

    async def fill(self, limit: int = READ_BYTES, deadline: float = DEADLINE) -> bool:
        """Read once; False when the other side has ended."""
        if self.end is not End.OPEN:
            return False
        try:
            async with asyncio.timeout(deadline):
                data = await asyncio.get_running_loop().sock_recv(self.sock, limit)
        except (ConnectionResetError, BrokenPipeError):
            self.end = End.RESET
            return False
        if not data:
            self.end = End.EOF
            return False
        self.received += data
        return True

    def unread(self) -> bytes:
        """What came and was not consumed yet."""
        return bytes(self.received[self._consumed :])

    async def read(self, count: int) -> bytes:
        """Read exactly so many bytes."""
        while len(self.received) - self._consumed < count:
            await self._more()
        return self._take(count)

    async def read_until(self, mark: bytes) -> bytes:
        """Read up to and including ``mark``."""
        start = self._consumed
        while (at := self.received.find(mark, start)) < 0:
            start = max(self._consumed, len(self.received) - len(mark) + 1)
            await self._more()
        return self._take(at + len(mark) - self._consumed)

    async def read_rest(self) -> bytes:
        """Read until the other side ends, in whatever way; ``end`` tells which."""
        while await self.fill():
            pass
        return self._take(len(self.received) - self._consumed)

    async def expect_eof(self) -> None:
        """Fail unless the other side ends properly, without another byte."""
        rest = await self.read_rest()
        assert (rest, self.end) == (b"", End.EOF)

    async def expect_closed(self) -> None:
        """Fail unless the other side ends, by FIN or RST, without another byte."""
        assert await self.read_rest() == b""

    def half_close(self) -> None:
        """Send FIN and go on reading."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close with RST."""
        if self.sock.fileno() >= 0:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.sock.close()

    def close(self) -> None:
        """Close; the kernel makes it a RST when something was left unread."""
        self.sock.close()

    async def read_request(self) -> Message:
        """Read one request with its body."""
        return await self._message(await self.read_until(b"\r\n\r\n"), is_request=True, bodiless=False)

    async def read_response(self, *, bodiless: bool = False) -> Message:
        """Read one response, 1xx included; ``bodiless`` when the request was a HEAD."""
        return await self._message(await self.read_until(b"\r\n\r\n"), is_request=False, bodiless=bodiless)

    async def read_head(self) -> Message:
        """Read a head and leave what follows it."""
        raw = await self.read_until(b"\r\n\r\n")
        return Message(raw, *parse_head(raw), body=b"")

    async def _message(self, raw: bytes, *, is_request: bool, bodiless: bool) -> Message:
        begin = self._consumed - len(raw)
        start, headers = parse_head(raw)
        fields = dict(headers)
        if not is_request:
            status = int(start[1])
            bodiless = bodiless or status < 200 or status in BODILESS
        trailers: tuple[tuple[bytes, bytes], ...] = ()
        if bodiless:
            body = b""
        elif b"transfer-encoding" in fields:
            body, trailers = await self._chunked()
        elif b"content-length" in fields:
            body = await self.read(int(fields[b"content-length"]))
        elif is_request:
            body = b""
        else:
            body = await self.read_rest()
            if self.end is End.RESET:
                raise Truncated(bytes(self.received[begin:]), self.end)
        return Message(bytes(self.received[begin : self._consumed]), start, headers, body, trailers)

    async def _chunked(self) -> tuple[bytes, tuple[tuple[bytes, bytes], ...]]:
        body = bytearray()
        while size := int((await self.read_until(b"\r\n")).split(b";")[0], 16):
            body += await self.read(size)
            assert await self.read(2) == b"\r\n"
        lines = bytearray()
        while (line := await self.read_until(b"\r\n")) != b"\r\n":
            lines += line
        return bytes(body), _fields(bytes(lines))

    async def _more(self) -> None:
        if not await self.fill():
            raise Truncated(bytes(self.received), self.end)

    def _take(self, count: int) -> bytes:
        begin = self._consumed
        self._consumed += count
        return bytes(self.received[begin : self._consumed])


def parse_head(raw: bytes) -> tuple[tuple[bytes, bytes, bytes], tuple[tuple[bytes, bytes], ...]]:
    """Split a head into its start line's three words and its fields, names in lower case."""
    line, _, rest = raw.partition(b"\r\n")
    first, second, third = (line + b" ").split(b" ", 2) if line.count(b" ") < 2 else line.split(b" ", 2)
    return (first, second, third), _fields(rest.removesuffix(b"\r\n"))


def _fields(raw: bytes) -> tuple[tuple[bytes, bytes], ...]:
    pairs = (line.partition(b":") for line in raw.split(b"\r\n") if line)
    return tuple((name.lower(), value.strip()) for name, _, value in pairs)
