"""Idle connections to one backend. Decides only: it never opens, closes or looks at a socket."""

from typing import Generic, TypeVar

from pyproxy.config.runtime import Keepalive as KeepaliveConfig

C = TypeVar("C")


class Keepalive(Generic[C]):
    """
    A stack: the connection used last is used first, so that the others can grow old and go.

    Whoever sees a connection end takes it out with ``discard``: what is in here is open as far as anyone knows.
    """

    __slots__ = ("_connections", "_max_idle", "idle", "max_requests")

    def __init__(self, config: KeepaliveConfig) -> None:
        self._connections: list[C] = []
        self._max_idle = config.max_idle
        self.idle = config.idle  # seconds
        self.max_requests = config.max_requests

    def __len__(self) -> int:
        return len(self._connections)

    def take(self) -> C | None:
        """Give a connection, None if there is none."""
        return self._connections.pop() if self._connections else None

    def put(self, connection: C) -> bool:
        """Keep a connection; False if it must be closed because there are enough."""
        if len(self._connections) >= self._max_idle:
            return False
        self._connections.append(connection)
        return True

    def discard(self, connection: C) -> None:
        """Forget a connection that was lost or has been idle for too long."""
        if connection in self._connections:
            self._connections.remove(connection)

    def clear(self) -> list[C]:
        """Give up all connections; the caller closes them."""
        connections, self._connections = self._connections, []
        return connections

    def retire(self) -> list[C]:
        """Give up all connections and keep none from now on: the backend is gone."""
        self._max_idle = 0
        return self.clear()
