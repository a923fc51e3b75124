"""
A client's connection below HTTP: who is at its ends, how bytes go out, how it is closed.

Must not know requests or exchanges.
"""

import socket
import struct
import sys
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from pyproxy.balance.backend import Backend
from pyproxy.config.runtime import Keepalive as KeepaliveConfig
from pyproxy.proxy.ends import ends_of, host_of, write_proxy_header
from pyproxy.proxy.flow import FOREVER, Leg
from pyproxy.proxy.keepalive import Keepalive
from pyproxy.proxy.proxy_protocol import HeaderReader, ProxyHeader
from pyproxy.proxy.upstream import JOIN_BYTES, Upstream
from pyproxy.routing.forwarded import UNKNOWN_SENDER, Sender

if TYPE_CHECKING:
    from pyproxy.proxy.plane import DataPlane
    from pyproxy.proxy.served import ServedListener, ServedPool

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class Mode(IntEnum):
    """What bytes from the client are."""

    HTTP = 0
    TUNNEL = 1
    LINGER = 2
    CLOSING = 3
    PREFACE = 4


HTTP: Final = Mode.HTTP
TUNNEL: Final = Mode.TUNNEL
LINGERING: Final = Mode.LINGER
CLOSING: Final = Mode.CLOSING
PREFACE: Final = Mode.PREFACE


#: Logins of one worker that hold for a connection; what is beyond them has its connection closed after use.
PINS_MAX: Final = 1024
#: Such a connection ends when the client's does, or when the backend closes it.
_PINNED: Final = KeepaliveConfig(max_idle=1, idle=FOREVER, max_requests=sys.maxsize)
_NOT_KEPT: Final = KeepaliveConfig(max_idle=0, idle=0.0, max_requests=1)


class Own:
    """
    Where a backend's connection waits that serves one client alone.

    ``is_pinned`` says that the client may have logged in on it: its requests stay on that backend.
    """

    __slots__ = ("backend", "is_pinned", "keepalive")

    def __init__(self, backend: Backend, config: KeepaliveConfig, *, is_pinned: bool) -> None:
        self.backend = backend
        self.keepalive = Keepalive[Upstream](config, backend.address)
        self.is_pinned = is_pinned

    def __repr__(self) -> str:
        return f"<Own {self.backend!r} {len(self.keepalive)} idle{' pinned' * self.is_pinned}>"


class ClientLeg(Leg):
    """
    See the module's docstring; ``mode`` says what becomes of the bytes that come in.

    ``own`` holds the connections for this client alone, one a pool; None while there was none.
    """

    __slots__ = ("_preface", "_proxied", "listener", "mode", "own", "plane", "sender")

    def __init__(self, plane: "DataPlane", listener: "ServedListener") -> None:
        super().__init__()
        self.plane = plane
        self.listener = listener
        self.mode: Mode = HTTP
        self.sender = UNKNOWN_SENDER
        self._preface: HeaderReader | None = None  # while a PROXY header is awaited
        self._proxied: ProxyHeader | None = None  # what it said, if that was an address
        self.own: dict[str, Own] | None = None

    # who is there

    def identify(self, address: str, port: int) -> None:
        """Take this address for the sender of what comes in on this port of ours; 0 is none."""
        self.sender = Sender(address, port, self.plane.trusted_proxies)

    def take_preface(self, data: bytes) -> bytes:
        """
        Read the PROXY header, which names the client in place of who connected, and return what comes behind it.

        While it is incomplete there is nothing behind it; a malformed one raises ``BadRequest``.
        """
        if self._preface is None:
            self._preface = HeaderReader()
        found = self._preface.feed(data)
        if found is None:
            return b""
        rest, header = found
        self._preface = None
        self.mode = HTTP
        if header.source:
            self._proxied = header
            self.identify(header.source, header.destination_port)
        return rest

    def find_keepalive(self, backend: Backend, served: "ServedPool") -> Keepalive[Upstream]:
        """Give the place where a connection to a backend waits: this client's own if it has one or must have one."""
        own = self._find_own(served)
        if own is not None and own.backend is backend:
            return own.keepalive
        if served.send_proxy is None:
            shared: Keepalive[Upstream] = backend.keepalive
            return shared
        for pool, other in list((self.own or {}).items()):
            if not other.is_pinned:
                self._close_own(pool)
        return self._replace_own(served, Own(backend, served.private_keepalive, is_pinned=False))

    def pin(self, backend: Backend, served: "ServedPool") -> Keepalive[Upstream]:
        """
        Keep to this backend, and give the place where the connection waits on which the client may be logged in.

        A connection for a proxy's many clients isn't kept at all, nor one to a backend that has left, nor one too many.
        """
        own = self._find_own(served)
        if own is not None and own.is_pinned and own.backend is backend:
            return own.keepalive
        if self.sender.is_trusted or self.plane.pins >= PINS_MAX or backend not in served.pool.backends:
            return Keepalive(_NOT_KEPT)
        keepalive = self._replace_own(served, Own(backend, _PINNED, is_pinned=True))
        self.plane.pins += 1
        return keepalive

    def pinned_to(self, served: "ServedPool") -> Backend | None:
        """Give the backend of a pool that this client's requests stay on."""
        own = self._find_own(served)
        return own.backend if own is not None and own.is_pinned else None

    def forget(self, backends: set[Backend]) -> None:
        """Keep to these backends no longer: they are gone, or get nothing for now."""
        for pool, own in list((self.own or {}).items()):
            if own.backend in backends:
                self._close_own(pool)

    def close_own(self) -> None:
        """Close what no other client may use."""
        for pool in list(self.own or ()):
            self._close_own(pool)

    def _find_own(self, served: "ServedPool") -> Own | None:
        return self.own.get(served.name) if self.own is not None else None

    def _replace_own(self, served: "ServedPool", own: Own) -> Keepalive[Upstream]:
        self._close_own(served.name)
        if self.own is None:
            self.own = {}
        self.own[served.name] = own
        return own.keepalive

    def _close_own(self, pool: str) -> None:
        """Close what waits, and keep nothing that comes back later."""
        own = self.own.pop(pool, None) if self.own is not None else None
        if own is not None:
            self.plane.pins -= own.is_pinned
            for upstream in own.keepalive.release():
                upstream.close()

    def proxy_header(self, version: str) -> bytes:
        """Write the PROXY header that tells a backend of this client."""
        return write_proxy_header(version, self._ends())

    def own_host(self) -> bytes:
        """Give the address that the client came to, as a host for who named none."""
        ends = self._ends()
        return host_of(ends.destination, ends.destination_port)

    def _ends(self) -> ProxyHeader:
        return self._proxied or ends_of(self.transport, is_unix=self.listener.is_unix)

    def send(self, data: bytes) -> None:
        """Write to the client."""
        transport = self.transport
        if transport is not None and not transport.is_closing():
            plane = self.plane
            plane.row[plane.bytes_out_column] += len(data)
            transport.write(data)

    def send_parts(self, parts: list[bytes]) -> None:
        """Write several pieces; large ones are not copied together."""
        size = 0
        for part in parts:
            size += len(part)
        if size <= JOIN_BYTES:
            self.send(b"".join(parts))
        elif self.is_open and self.transport is not None:
            self.plane.row[self.plane.bytes_out_column] += size
            self.transport.writelines(parts)

    # ends

    def close(self) -> None:
        """Flush and close; a client that doesn't read the rest in time loses it."""
        self.mode = CLOSING
        if self.transport is not None:
            self.deadline = self.plane.now + self.plane.client.write_timeout
            self.transport.close()

    def abort(self) -> None:
        """Drop the connection; if bytes are dropped with it, the client can tell that there were more."""
        self.deadline = FOREVER
        if self.transport is not None and (self.unsent_bytes or self.write_paused):
            self.reset()
        elif self.transport is not None:
            self.mode = CLOSING
            self.transport.abort()

    def reset(self) -> None:
        """Close with a RST, so that what the client has got can't be taken for everything."""
        self.mode = CLOSING
        transport = self.transport
        if transport is not None:
            sock = transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            transport.abort()
