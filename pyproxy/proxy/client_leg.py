"""
A client's connection below HTTP: who is at its ends, how bytes go out, how it is closed.

Must not know requests or exchanges.
"""

import socket
import struct
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from pyproxy.balance.backend import Backend
from pyproxy.proxy.ends import ends_of, host_of, write_proxy_header
from pyproxy.proxy.flow import FOREVER, Leg
from pyproxy.proxy.keepalive import Keepalive
from pyproxy.proxy.proxy_protocol import ProxyHeader, read_header
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


class ClientLeg(Leg):
    """See the module's docstring; ``mode`` says what becomes of the bytes that come in."""

    __slots__ = ("_own", "_preface", "_proxied", "listener", "mode", "plane", "sender")

    def __init__(self, plane: "DataPlane", listener: "ServedListener") -> None:
        super().__init__()
        self.plane = plane
        self.listener = listener
        self.mode: Mode = HTTP
        self.sender = UNKNOWN_SENDER
        self._preface = b""  # an incomplete PROXY header
        self._proxied: ProxyHeader | None = None  # what it said, if that was an address
        self._own: tuple[Backend, Keepalive[Upstream]] | None = None  # a backend's connection for this client alone

    # who is there

    def identify(self, address: str, port: int) -> None:
        """Take this address for the sender of what comes in on this port of ours; 0 is none."""
        self.sender = Sender(address, port, self.plane.trusted_proxies)

    def take_preface(self, data: bytes) -> bytes:
        """
        Read the PROXY header, which names the client in place of who connected, and return what comes behind it.

        While it is incomplete there is nothing behind it; a malformed one raises ``BadRequest``.
        """
        data = self._preface + data
        found = read_header(data)
        if found is None:
            self._preface = data
            return b""
        size, header = found
        self._preface = b""
        self.mode = HTTP
        if header.source:
            self._proxied = header
            self.identify(header.source, header.destination_port)
        return data[size:]

    def find_keepalive(self, backend: Backend, served: "ServedPool") -> Keepalive[Upstream]:
        """Give the place where this client's own connection to a backend may wait; to another one there is none."""
        if self._own is None or self._own[0] is not backend:
            self.close_own()
            self._own = backend, Keepalive(served.private_keepalive, backend.address)
        return self._own[1]

    def close_own(self) -> None:
        """Close what no other client may use."""
        if self._own is not None:
            for upstream in self._own[1].clear():
                upstream.close()

    def proxy_header(self, version: str) -> bytes:
        """Write the PROXY header that tells a backend of this client."""
        return write_proxy_header(version, self._ends())

    def own_host(self) -> bytes:
        """Give the address that the client came to, as a host for who named none."""
        return host_of(self._ends().destination)

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
