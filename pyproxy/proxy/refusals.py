"""
Why a request gets no backend's answer, in words that say which route, pool or limit: for the log and for ``explain``.

Pure. Must not know the exchange: made only once a request is refused, of what it was refused for.
"""

from typing import TYPE_CHECKING, Final

from pyproxy.errors import BodyTooLarge, Forbidden, NoBackend, NoRoute, QueueFull, QueueTimeout, excerpt

if TYPE_CHECKING:
    from pyproxy.balance.pool import Pool
    from pyproxy.http1.head import RequestHead

#: So many backends are named; a pool may have thousands.
_NAMED_MAX: Final = 5


def forbidden(client: bytes, route: int) -> Forbidden:
    """Refuse a client whose address a route doesn't allow."""
    return Forbidden(note=b"%b is not in the allow of routes[%d]" % (client, route))


def no_route(head: "RequestHead") -> NoRoute:
    """Refuse a request that no route matches; the query plays no part in that."""
    host = head.host if head.host is not None else b"none"
    path = head.target.partition(b"?")[0]
    return NoRoute(note=b"host %b, path %b, method %b" % (excerpt(host), excerpt(path), excerpt(head.method)))


def no_backend(pool: "Pool") -> NoBackend:
    """Refuse a request whose pool has nobody to serve it."""
    rows = [f"{name} {reason}" for name, reason in pool.reasons_against(_NAMED_MAX)]
    others = len(pool.backends) - len(rows)
    if others:
        rows.append(f"and {others} more")
    return NoBackend(note=(", ".join(rows) or f"pool {pool.name} has no backends").encode())


def queue_full(pool: "Pool", waiting: int, size: int) -> QueueFull:
    """Refuse a request for which there is no place to wait."""
    return QueueFull(note=b"%d wait for pool %b, queue.size is %d" % (waiting, pool.name.encode(), size))


def queue_timeout(pool: "Pool", seconds: float) -> QueueTimeout:
    """Refuse a request that has waited for too long."""
    return QueueTimeout(note=over(f"pool {pool.name}, queue.timeout", seconds))


def over(setting: str, value: float, unit: str = " s") -> bytes:
    """
    Name the limit that was passed.

    >>> over("timeouts.connect", 3.0)
    b'timeouts.connect is 3 s'
    """
    return f"{setting} is {value:g}{unit}".encode()


def body_too_large(size: int, limit: int) -> BodyTooLarge:
    """Refuse a body of more bytes than the route takes; ``size`` is announced, or what has come so far."""
    return BodyTooLarge(note=b"%d bytes, the limit is %d" % (size, limit))
