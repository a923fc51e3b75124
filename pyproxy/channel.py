"""
The line between the supervisor and a worker: JSON messages and file descriptors over a Unix stream socket.

Must not know what a message means, nor which of the two ends it is.

A frame is the length of the body as four bytes, big-endian, and the body, one orjson object. A message
that comes with descriptors says under ``"fds"`` how many are its own. The kernel hands descriptors over no
later than the first byte they were sent with, so those of a frame have all arrived when its last byte has:
they go into a queue, and each message takes its own number from the front.

A channel ends for good when the other end is gone or sends something that isn't a frame.
"""

import asyncio
import contextlib
import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from pyproxy.errors import ChannelError

MAX_FRAME_BYTES = 64 * 1024 * 1024
MAX_FDS = 253  # the kernel's limit for one sendmsg

_HEADER_BYTES = 4
_READ_BYTES = 256 * 1024
# socket.recv_fds would do, but it drops its flags argument, and with it close-on-exec (seen in CPython 3.11).
_ANCILLARY_BYTES = socket.CMSG_SPACE(MAX_FDS * 4)

_log = logging.getLogger(__name__)


class Channel:
    """
    One end of the line; made inside a running event loop.

    ``on_message`` gets each message with its descriptors, which are then the receiver's to close.
    ``on_close`` is called once when the other end is gone or the line is broken, not after ``close``.
    """

    __slots__ = ("_buffer", "_fds", "_loop", "_on_close", "_on_message", "_outgoing", "_sock")

    def __init__(
        self,
        sock: socket.socket,
        on_message: Callable[[dict[str, Any], list[int]], None],
        on_close: Callable[[], None],
    ) -> None:
        sock.setblocking(False)
        self._sock: socket.socket | None = sock
        self._on_message = on_message
        self._on_close = on_close
        self._buffer = bytearray()
        self._fds: deque[int] = deque()  # received, not yet claimed by a message
        self._outgoing: deque[tuple[memoryview, list[int]]] = deque()  # the descriptors are our own duplicates
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock.fileno(), self._read)

    def __repr__(self) -> str:
        state = "closed" if self._sock is None else f"fd {self._sock.fileno()}"
        return f"<Channel {state} {len(self._outgoing)} frames waiting>"

    def send(self, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
        """
        Send or queue a message; never blocks, keeps the order, leaves ``fds`` open and the caller's.

        On a closed channel nothing happens: the one who watches the other process learns of its end anyway.
        Raises ``ValueError`` for a message that doesn't fit into a frame.
        """
        if self._sock is None:
            return
        if len(fds) > MAX_FDS:
            raise ValueError(f"{len(fds)} descriptors in one message")
        body = orjson.dumps({**message, "fds": len(fds)} if fds else message)
        if len(body) > MAX_FRAME_BYTES:
            raise ValueError(f"message of {len(body)} bytes")
        frame = memoryview(len(body).to_bytes(_HEADER_BYTES, "big") + body)
        idle = not self._outgoing
        self._outgoing.append((frame, _duplicate(fds)))
        if idle:
            self._write()
            if self._outgoing and self._sock is not None:
                self._loop.add_writer(self._sock.fileno(), self._write)

    def close(self) -> None:
        """Close this end; what is still queued is dropped. May be called again."""
        sock = self._sock
        if sock is None:
            return
        self._sock = None
        self._loop.remove_reader(sock.fileno())
        self._drop_outgoing(sock)
        sock.close()
        while self._fds:
            os.close(self._fds.popleft())

    def _write(self) -> None:
        sock = self._sock
        if sock is None:
            return
        while self._outgoing:
            frame, fds = self._outgoing[0]
            try:
                sent = socket.send_fds(sock, [frame], fds) if fds else sock.send(frame)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                # Reading goes on: what the other end said before it left is still to be heard, then EOF.
                _log.debug("%r can't send: %s", self, error)
                self._drop_outgoing(sock)
                return
            for fd in fds:
                os.close(fd)
            if sent == len(frame):
                self._outgoing.popleft()
            else:
                self._outgoing[0] = (frame[sent:], [])
        self._loop.remove_writer(sock.fileno())

    def _drop_outgoing(self, sock: socket.socket) -> None:
        self._loop.remove_writer(sock.fileno())
        for _, fds in self._outgoing:
            for fd in fds:
                os.close(fd)
        self._outgoing.clear()

    def _read(self) -> None:
        sock = self._sock
        if sock is None:
            return
        try:
            data, ancillary, flags, _ = sock.recvmsg(_READ_BYTES, _ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            _log.debug("%r can't receive: %s", self, error)
            self._end()
            return
        for level, kind, fds in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                self._fds.extend(memoryview(fds).cast("i"))
        self._buffer += data
        try:
            if flags & socket.MSG_CTRUNC:
                raise ChannelError("descriptors were lost")  # noqa: TRY301 - one way out for all that breaks it
            self._take_frames()
            if not data and self._sock is not None:
                if self._buffer:
                    raise ChannelError("the other end left within a frame")  # noqa: TRY301 - as above
                self._end()
        except ChannelError as error:
            _log.error("%r is broken: %s", self, error)
            self._end()

    def _take_frames(self) -> None:
        """Handle every whole frame in the buffer; a handler may close the channel."""
        while self._sock is not None and len(self._buffer) >= _HEADER_BYTES:
            size = int.from_bytes(self._buffer[:_HEADER_BYTES], "big")
            if size > MAX_FRAME_BYTES:
                raise ChannelError(f"a frame of {size} bytes")
            end = _HEADER_BYTES + size
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[_HEADER_BYTES:end])
            del self._buffer[:end]
            message = _decode(body)
            fds = self._claim_fds(message)
            try:
                self._on_message(message, fds)
            except Exception:
                # The line lives on: the other end's next messages must not be lost with this one, and what is
                # sent as a snapshot comes whole with the next change.
                _log.exception("a message of type %r was not handled", message.get("type"))

    def _claim_fds(self, message: dict[str, Any]) -> list[int]:
        count = message.get("fds", 0)
        if not isinstance(count, int) or not 0 <= count <= len(self._fds):
            raise ChannelError(f"a message claims {count!r} descriptors, {len(self._fds)} have come")
        return [self._fds.popleft() for _ in range(count)]

    def _end(self) -> None:
        if self._sock is not None:
            self.close()
            self._on_close()


def _duplicate(fds: Sequence[int]) -> list[int]:
    """Duplicate all descriptors or none."""
    with contextlib.ExitStack() as undo:
        result = []
        for fd in fds:
            result.append(os.dup(fd))
            undo.callback(os.close, result[-1])
        undo.pop_all()
    return result


def _decode(body: bytes) -> dict[str, Any]:
    with contextlib.suppress(orjson.JSONDecodeError):
        message = orjson.loads(body)
        if isinstance(message, dict):
            return message
    raise ChannelError("a frame is not a JSON object")
