"""
Connections that were answered for the last time, while their clients may still be sending.

A socket that is closed with unread bytes sends a RST, which can destroy the answer on its way. So the client is read,
and not listened to, for a while; but what that takes is bounded, or whoever is refused could hold what others need:
there are so many at a time, and beyond that the one that has had the most time gives way.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyproxy.proxy.downstream import Downstream


class Lingering:
    """At most ``most`` connections, in the order in which they came."""

    __slots__ = ("_clients", "_most")

    def __init__(self, most: int) -> None:
        self._clients: dict[Downstream, None] = {}
        self._most = most

    def __len__(self) -> int:
        return len(self._clients)

    def __repr__(self) -> str:
        return f"<Lingering {len(self._clients)} of {self._most}>"

    def add(self, client: "Downstream") -> None:
        """Take a connection in; the oldest closes if they are too many."""
        if len(self._clients) >= self._most:
            oldest = next(iter(self._clients))
            del self._clients[oldest]
            oldest.give_way()
        self._clients[client] = None

    def discard(self, client: "Downstream") -> None:
        """Forget a connection that has ended, if it is known at all."""
        self._clients.pop(client, None)
