"""
What a connection becomes after ``101 Switching Protocols``: bytes both ways until both sides have ended.

Must not know what the bytes mean. Either side may end its half alone (FIN); the other half goes on. The only
deadline is inactivity, kept on the client's leg and moved by every byte in either direction.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyproxy.proxy.downstream import Downstream
    from pyproxy.proxy.exchange import Exchange
    from pyproxy.proxy.upstream import Upstream


class Tunnel:
    """Join the two legs of an exchange that was upgraded."""

    __slots__ = ("_backend_ended", "_client_ended", "_exchange", "_timeout", "downstream", "upstream")

    def __init__(self, exchange: "Exchange", downstream: "Downstream", upstream: "Upstream", timeout: float) -> None:
        self._exchange = exchange
        self.downstream = downstream
        self.upstream = upstream
        self._timeout = timeout
        self._client_ended = False
        self._backend_ended = False
        self._touch()

    def __repr__(self) -> str:
        ended = f"client {'ended' if self._client_ended else 'open'}"
        return f"<Tunnel {ended}, backend {'ended' if self._backend_ended else 'open'}>"

    def _touch(self) -> None:
        self.downstream.deadline = self._exchange.plane.now + self._timeout

    def from_client(self, data: bytes) -> None:
        """Pass bytes on."""
        self._touch()
        self.upstream.send(data)

    def from_backend(self, data: bytes) -> None:
        """Pass bytes on."""
        self._touch()
        self._exchange.bytes_sent += len(data)
        self.downstream.send(data)

    def eof_from_client(self) -> bool:
        """Pass the end of one half on; True keeps the transport open for the other half."""
        self._client_ended = True
        if self._backend_ended:
            self._end("--")
            return False
        if self.upstream.is_open and self.upstream.transport is not None:
            self.upstream.transport.write_eof()
        return True

    def eof_from_backend(self) -> bool:
        """Pass the end of one half on; True keeps the transport open for the other half."""
        self._backend_ended = True
        if self._client_ended:
            self._end("--")
            return False
        if self.downstream.is_open and self.downstream.transport is not None:
            self.downstream.transport.write_eof()
        return True

    def client_lost(self, error: Exception | None) -> None:
        """End because the client's connection is gone altogether."""
        self._end("--" if error is None and self._backend_ended else "CD")

    def backend_lost(self, error: Exception | None) -> None:
        """End because the backend's connection is gone altogether."""
        self._end("--" if error is None and self._client_ended else "SD")

    def expired(self) -> None:
        """End because nothing came from either side for too long."""
        self._end("cD")

    def grace_ended(self) -> None:
        """End because the program stops."""
        self._end("PD")

    def _end(self, end: str) -> None:
        self.upstream.tunnel = self.downstream.tunnel = None
        self._exchange.tunnel_ended(end)
