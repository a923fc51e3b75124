"""
Frames of JSON over a stream socket: to the supervisor by a socketpair, to the other machine by TCP.

Must not know what a message means. A frame is the length of its body as four bytes, big-endian, and the body, one
JSON object: what ``pyproxy.channel`` speaks as well, here with the standard library alone and without descriptors.
"""

import asyncio
import json
import logging
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

from pyproxy.errors import FrameInvalid

MAX_FRAME_BYTES = 64 * 1024 * 1024

_HEADER_BYTES = 4
_READ_BYTES = 256 * 1024

_log = logging.getLogger(__name__)


def encode(message: dict[str, Any]) -> bytes:
    r"""
    Write a message as a frame; ``ValueError`` if it is too long for any, or not JSON.

    >>> encode({"type": "stop"})
    b'\x00\x00\x00\x0f{"type":"stop"}'
    """
    body = json.dumps(message, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    if len(body) > MAX_FRAME_BYTES:
        raise ValueError(f"message of {len(body)} bytes")
    return len(body).to_bytes(_HEADER_BYTES, "big") + body


class FrameReader:
    """Bytes as they come to messages; ``max_bytes`` may be changed between two frames."""

    __slots__ = ("_buffer", "max_bytes")

    def __init__(self, max_bytes: int = MAX_FRAME_BYTES) -> None:
        self.max_bytes = max_bytes
        self._buffer = bytearray()

    def __repr__(self) -> str:
        return f"<FrameReader {len(self._buffer)} of at most {self.max_bytes} bytes>"

    @property
    def is_empty(self) -> bool:
        """Whether no frame has begun that hasn't ended."""
        return not self._buffer

    def feed(self, data: bytes) -> None:
        """Take bytes; whole frames then come out of ``take``."""
        self._buffer += data

    def take(self) -> dict[str, Any] | None:
        """Give the next whole message, None if there is none yet; ``FrameInvalid`` if it can't be one."""
        if len(self._buffer) < _HEADER_BYTES:
            return None
        size = int.from_bytes(self._buffer[:_HEADER_BYTES], "big")
        if size > self.max_bytes:
            raise FrameInvalid(f"a frame of {size} bytes, at most {self.max_bytes} are allowed")
        end = _HEADER_BYTES + size
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[_HEADER_BYTES:end])
        del self._buffer[:end]
        return decode(body)


def decode(body: bytes | str) -> dict[str, Any]:
    """Read one JSON object; anything else is ``FrameInvalid``."""
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise FrameInvalid("a frame is not JSON") from error
    if not isinstance(message, dict):
        raise FrameInvalid("a frame is not a JSON object")
    return message


class Wire:
    """
    One end of a line; made inside a running event loop, owns its connected socket.

    ``on_close`` is called once with the reason when the line has ended by itself, not after ``close``.
    """

    __slots__ = ("_loop", "_on_close", "_on_message", "_outgoing", "_sock", "reader", "unsent_bytes")

    def __init__(
        self,
        sock: socket.socket,
        on_message: Callable[[dict[str, Any]], None],
        on_close: Callable[[str], None],
        max_bytes: int = MAX_FRAME_BYTES,
    ) -> None:
        sock.setblocking(False)
        self._sock: socket.socket | None = sock
        self._on_message = on_message
        self._on_close = on_close
        self.reader = FrameReader(max_bytes)
        self.unsent_bytes = 0
        self._outgoing: deque[memoryview] = deque()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock.fileno(), self._read)

    def __repr__(self) -> str:
        state = "closed" if self._sock is None else f"fd {self._sock.fileno()}"
        return f"<Wire {state} {self.unsent_bytes} bytes unsent>"

    @property
    def is_open(self) -> bool:
        """Whether anything can still be sent."""
        return self._sock is not None

    def send(self, message: dict[str, Any]) -> bool:
        """Send or queue a message, in order, without waiting; False if the line is closed."""
        if self._sock is None:
            return False
        frame = memoryview(encode(message))
        self._outgoing.append(frame)
        self.unsent_bytes += len(frame)
        if len(self._outgoing) == 1:
            self._write()
            if self._outgoing and self._sock is not None:
                self._loop.add_writer(self._sock.fileno(), self._write)
        return self._sock is not None

    def close(self) -> None:
        """Close this end; what is still queued is dropped. May be called again."""
        sock, self._sock = self._sock, None
        if sock is not None:
            self._loop.remove_reader(sock.fileno())
            self._loop.remove_writer(sock.fileno())
            sock.close()
            self._outgoing.clear()
            self.unsent_bytes = 0

    def _write(self) -> None:
        sock = self._sock
        if sock is None:
            return
        while self._outgoing:
            frame = self._outgoing[0]
            try:
                sent = sock.send(frame)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                # Not from here: the caller of ``send`` is in the middle of something.
                self._loop.remove_writer(sock.fileno())
                self._loop.call_soon(self._end, error.strerror or str(error))
                return
            self.unsent_bytes -= sent
            if sent == len(frame):
                self._outgoing.popleft()
            else:
                self._outgoing[0] = frame[sent:]
        self._loop.remove_writer(sock.fileno())

    def _read(self) -> None:
        if self._sock is None:
            return
        try:
            data = self._sock.recv(_READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._end(error.strerror or str(error))
            return
        if not data:
            self._end("closed by the other end" if self.reader.is_empty else "closed within a frame")
            return
        self.reader.feed(data)
        try:
            while self._sock is not None and (message := self.reader.take()) is not None:
                self._handle(message)
        except FrameInvalid as error:
            self._end(str(error))

    def _handle(self, message: dict[str, Any]) -> None:
        try:
            self._on_message(message)
        except FrameInvalid:
            raise
        except Exception:
            # The line lives on: the next messages must not be lost with this one.
            _log.exception("a message of type %r was not handled", message.get("type"))

    def _end(self, reason: str) -> None:
        if self._sock is not None:
            self.close()
            self._on_close(reason)
