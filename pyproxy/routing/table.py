"""
Find the route of a request: exact host before none, within it the longest path.

Theory of operation. One table a host, keyed by path without its closing slash. A path can only match a key
that is one of its own prefixes ending at a segment boundary, so for each key length that exists, longest
first, one dict lookup decides: the cost depends on how many lengths there are, not on how many routes.
"""

from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar
from urllib.parse import unquote_to_bytes

from pyproxy.config.runtime import Route

T = TypeVar("T")


def host_key(host: bytes) -> bytes:
    """
    Lower-case a Host and take off port and closing dot.

    >>> host_key(b"WWW.Example.com.:8080"), host_key(b"[::1]:80"), host_key(b"[::1]")
    (b'www.example.com', b'[::1]', b'[::1]')
    """
    host = host.lower()
    if b":" in host and not host.endswith(b"]"):
        host = host.rpartition(b":")[0]
    return host.removesuffix(b".")


def routing_path(target: bytes) -> bytes:
    """
    Give the path that routes are compared with: no query, percent-decoded once, dot segments removed.

    >>> routing_path(b"/a/%62/../c?x=/d"), routing_path(b"http://h/x"), routing_path(b"/../..")
    (b'/a/c', b'/x', b'/')
    """
    path = target.partition(b"?")[0]
    if not path.startswith(b"/"):
        _, absolute, rest = path.partition(b"://")
        path = b"/" + rest.partition(b"/")[2] if absolute else path
    if b"%" in path:
        path = unquote_to_bytes(path)
    if b"/." in path:
        path = _without_dot_segments(path)
    return path


def _without_dot_segments(path: bytes) -> bytes:
    """Apply RFC 3986, section 5.2.4, to a path that begins with a slash."""
    output: list[bytes] = []
    segments = path.split(b"/")[1:]
    for segment in segments:
        if segment == b"..":
            del output[-1:]
        elif segment != b".":
            output.append(segment)
    if segments[-1] in {b".", b".."}:
        output.append(b"")
    return b"/" + b"/".join(output)


class _Paths(Generic[T]):
    """The routes of one host."""

    __slots__ = ("_lengths", "_prefixes")

    def __init__(self) -> None:
        self._prefixes: dict[bytes, T] = {}
        self._lengths: tuple[int, ...] = ()

    def add(self, path: str | None, value: T) -> None:
        key = routing_path(path.encode()).rstrip(b"/") if path else b""
        self._prefixes.setdefault(key, value)
        self._lengths = tuple(sorted({len(prefix) for prefix in self._prefixes}, reverse=True))

    def match(self, path: bytes) -> T | None:
        size = len(path)
        for length in self._lengths:
            if length == 0 or length == size or (length < size and path[length] == 0x2F):
                value = self._prefixes.get(path[:length])
                if value is not None:
                    return value
        return None


class RouteTable(Generic[T]):
    """Map a request's Host and target to a value, usually the pool."""

    __slots__ = ("_any_host", "_hosts", "_only")

    def __init__(self, routes: Sequence[Route], pools: Mapping[str, T]) -> None:
        self._hosts: dict[bytes, _Paths[T]] = {}
        self._any_host: _Paths[T] = _Paths()
        for route in routes:
            paths = self._any_host
            if route.host is not None:
                paths = self._hosts.setdefault(host_key(route.host.encode()), _Paths())
            paths.add(route.path, pools[route.pool])
        # One route for everything is the common case, and then there is nothing to look at.
        plain = len(routes) == 1 and routes[0].host is None and routes[0].path in {None, "/"}
        self._only: T | None = pools[routes[0].pool] if plain else None

    def match(self, host: bytes | None, target: bytes) -> T | None:
        """Give the best route's value, None if no route fits."""
        if self._only is not None:
            return self._only
        path = routing_path(target)
        if host:
            paths = self._hosts.get(host_key(host))
            if paths is not None:
                value = paths.match(path)
                if value is not None:
                    return value
        return self._any_host.match(path)
