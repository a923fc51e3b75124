"""Idle connections to one backend. Decides only: it never opens, closes or looks at a socket."""

from typing import Generic, Protocol, TypeVar

from pyproxy.config.runtime import Keepalive as KeepaliveConfig


class Idle(Protocol):
    """What is asked of a connection."""

    @property
    def is_open(self) -> bool:
        """Whether it can still carry a request."""
        ...


C = TypeVar("C", bound=Idle)


class Keepalive(Generic[C]):
    """A stack: the connection used last is used first, so that the others can grow old and go."""

    __slots__ = ("_idle", "config")

    def __init__(self, config: KeepaliveConfig) -> None:
        self.config = config
        self._idle: list[C] = []

    def __len__(self) -> int:
        return len(self._idle)

    def take(self) -> C | None:
        """Give a connection that is open as far as anyone knows, None if there is none."""
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.is_open:
                return connection
        return None

    def put(self, connection: C) -> bool:
        """Keep a connection; False if it must be closed because there are enough."""
        if len(self._idle) >= self.config.max_idle:
            return False
        self._idle.append(connection)
        return True

    def discard(self, connection: C) -> None:
        """Forget a connection that was lost or has been idle for too long."""
        if connection in self._idle:
            self._idle.remove(connection)

    def clear(self) -> list[C]:
        """Give up all connections; the caller closes them."""
        idle, self._idle = self._idle, []
        return idle
