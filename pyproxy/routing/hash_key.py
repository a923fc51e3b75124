"""
What a request is hashed by: requests with the same key go to the same backend.

Must not know the hash, nor who the client is: that is an argument.
"""

from pyproxy.routing.fields import Fields, Request, field_values

#: Before a client's address that stands in for an absent value. No field can hold this byte, so nobody can choose
#: to be where another's address leads.
_STAND_IN = b"\x00"


class HashKey:
    """Where the key comes from; this one takes the client's address."""

    __slots__ = ()

    def of(self, head: Request, client: bytes) -> bytes:
        """Give the key of a request; ``client`` is the client's address."""
        return client


class _Uri(HashKey):
    """The target as routes see it, before one takes its prefix off."""

    __slots__ = ()

    def of(self, head: Request, client: bytes) -> bytes:
        return head.target


class _Header(HashKey):
    """The value of a header."""

    __slots__ = ("_names",)

    def __init__(self, name: str) -> None:
        self._names = (name.lower().encode(),)

    def of(self, head: Request, client: bytes) -> bytes:
        return field_values(head, self._names).get(self._names[0]) or _STAND_IN + client


class _Cookie(HashKey):
    """The value of a cookie."""

    __slots__ = ("_start",)

    def __init__(self, name: str) -> None:
        self._start = name.encode() + b"="

    def of(self, head: Request, client: bytes) -> bytes:
        return self._find(head) or _STAND_IN + client

    def _find(self, head: Fields) -> bytes:
        """Take the first one of that name, as servers do (RFC 6265, section 4.2); names have a case."""
        start = self._start
        for line in head.lines:
            if start in line and line[:7].lower() == b"cookie:":
                for pair in line[7:-2].split(b";"):
                    cookie = pair.strip(b" \t")
                    if cookie.startswith(start):
                        return cookie.removeprefix(start)
        return b""


def make_hash_key(spec: str) -> HashKey:
    """Make what the file says under ``hash``: ``client_ip``, ``uri``, ``header:NAME`` or ``cookie:NAME``."""
    kind, _, name = spec.partition(":")
    if kind == "header":
        return _Header(name)
    if kind == "cookie":
        return _Cookie(name)
    return _Uri() if kind == "uri" else HashKey()
