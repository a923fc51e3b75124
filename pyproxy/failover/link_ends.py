"""
The two connections of a link: the one that comes in and is heard, the one that goes out and is spoken on.

Must not know when to dial, to give up or to try again, which is ``link``'s, nor what is said.
"""

import asyncio
import socket
from typing import Any, Protocol

from pyproxy.errors import LinkRefused
from pyproxy.failover.link_protocol import HANDSHAKE_BYTES, MAX_BODY_BYTES, Acceptor, Dialler
from pyproxy.failover.wire import Wire

HANDSHAKE_SECONDS = 2.0
MAX_UNSENT_BYTES = 2 * MAX_BODY_BYTES  # what waits for a machine that doesn't read; more ends the connection

# A body travels as a text in a JSON object, where every quotation mark takes a backslash.
_FRAME_BYTES = 2 * MAX_BODY_BYTES + HANDSHAKE_BYTES


class Owner(Protocol):
    """Whose connection it is."""

    def joined(self, incoming: "Incoming") -> None:
        """Hear that the other end has shown the key."""
        ...

    def handle(self, kind: str, body: Any) -> None:
        """Take what was said."""
        ...

    def refuse(self, reason: str, address: str, detail: str = "") -> None:
        """Hear why it was refused: ``reason`` is one of few, ``detail`` what a stranger can make differ each time."""
        ...

    def lost(self, incoming: "Incoming", reason: str) -> None:
        """Hear that it has ended."""
        ...


class Incoming:
    """A connection that was accepted: a stranger's, until it has shown the key."""

    def __init__(self, link: Owner, sock: socket.socket, acceptor: Acceptor) -> None:
        self._link = link
        self._acceptor = acceptor
        self._address = str(sock.getpeername()[0])
        self._wire = Wire(sock, self._on_message, self._on_close, HANDSHAKE_BYTES)
        self._timer = asyncio.get_running_loop().call_later(HANDSHAKE_SECONDS, self._on_late)

    def __repr__(self) -> str:
        return f"<Incoming from {self._address} {self._acceptor!r}>"

    @property
    def boot(self) -> str:
        return self._acceptor.boot

    def start(self) -> None:
        """Send the challenge."""
        self._wire.send(self._acceptor.hello())

    def close(self) -> None:
        self._timer.cancel()
        self._wire.close()

    def _on_message(self, message: dict[str, Any]) -> None:
        try:
            if self._acceptor.is_joined:
                self._link.handle(*self._acceptor.open(message))
                return
            answer = self._acceptor.handle_join(message)
        except LinkRefused as error:
            self._refuse(str(error))
            return
        self._timer.cancel()
        self._wire.reader.max_bytes = _FRAME_BYTES
        self._wire.send(answer)
        self._link.joined(self)

    def _on_late(self) -> None:
        self._refuse("no handshake in time")

    def _refuse(self, reason: str) -> None:
        self.close()
        self._link.refuse(reason, self._address)
        self._link.lost(self, reason)

    def _on_close(self, reason: str) -> None:
        self._timer.cancel()
        if not self._acceptor.is_joined:
            self._link.refuse("no handshake", self._address, reason)
        self._link.lost(self, reason)


class Outgoing:
    """The connection that we dialled; ``joined`` is done when we may speak on it, ``ended`` with the reason."""

    def __init__(self, sock: socket.socket, dialler: Dialler) -> None:
        loop = asyncio.get_running_loop()
        self.joined: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[str] = loop.create_future()
        self._dialler = dialler
        self._wire = Wire(sock, self._on_message, self._on_close, HANDSHAKE_BYTES)

    def __repr__(self) -> str:
        return f"<Outgoing {self._dialler!r} {self._wire!r}>"

    @property
    def is_congested(self) -> bool:
        """Whether something still waits to be sent: another heartbeat behind it would tell nothing."""
        return self._wire.unsent_bytes > 0

    def say(self, kind: str, body: Any) -> bool:
        """Send a frame; what the other machine doesn't read for too long ends the connection."""
        if not self._wire.is_open:
            return False
        if self._wire.unsent_bytes > MAX_UNSENT_BYTES:
            self.close()
            self._on_close("the peer doesn't read")
            return False
        return self._wire.send(self._dialler.seal(kind, body))

    def close(self) -> None:
        self._wire.close()
        self.joined.cancel()

    def _on_message(self, message: dict[str, Any]) -> None:
        try:
            answer = self._dialler.handle(message)
        except LinkRefused as error:
            self._wire.close()
            self._end(error, str(error))
            return
        if answer is not None:
            self._wire.send(answer)
        elif not self.joined.done():
            self.joined.set_result(None)

    def _on_close(self, reason: str) -> None:
        self._end(ConnectionError(reason), reason)

    def _end(self, error: Exception, reason: str) -> None:
        if not self.joined.done():
            self.joined.set_exception(error)
        if not self.ended.done():
            self.ended.set_result(reason)


def family_of(host: str) -> socket.AddressFamily:
    """Give the family of an IP literal."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def set_options(sock: socket.socket, patience: float) -> None:
    """Make TCP give up on a dead wire about as soon as we do; it has no finer clock for probes than a second."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(max(patience, 1.0) * 1000))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in ((socket.TCP_KEEPIDLE, 1), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 3)):
        sock.setsockopt(socket.IPPROTO_TCP, option, value)
