"""
Which backend a client sticks to: the value of its cookie, worked out for every backend beforehand.

Must not know cookies' syntax, requests or the clock. Theory of operation. The value for a backend is a key id and a
keyed hash (HMAC-SHA256, 128 bits of it) of the pool's and the backend's names. So nothing is stored and nothing is told
to anybody: a worker that is started again, a program that is, and another machine with the same secret all come to the
same values. Whenever the members change, the values of all of them are put into one dict, and a request costs one
lookup and no hash.

Of several secrets the first makes the values that are handed out; those of the others are believed, so that a secret
can be replaced. The key id says which secret made a value, also one that leads nowhere: to an operator it makes a
difference whether a backend is gone or the other machine has another secret.

A value that was made up isn't in the dict, whoever made it up. There is nothing to be compared in constant time: how
long a lookup takes depends on the hash of the whole value, which is seeded in each process, and bytes are only compared
once those hashes are equal. No part of a value can be guessed before the rest.
"""

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Sequence
from typing import Final

from pyproxy.balance.backend import Backend

_KEY_ID_DIGITS: Final = 4
_MAC_BYTES: Final = 16


class Tokens:
    """The values of one pool's backends; ``secrets`` are the one that makes new ones, then those still believed."""

    __slots__ = ("_backends", "_keys", "_made", "_pool", "_values")

    def __init__(self, pool: str, secrets: Sequence[str], backends: Iterable[Backend] = ()) -> None:
        self._pool = pool.encode()
        self._keys = [_Key(secret.encode()) for secret in secrets]
        self._made: dict[str, list[bytes]] = {}  # by name, so that a flip of one backend hashes nothing
        self._values: dict[str, bytes] = {}
        self._backends: dict[bytes, Backend] = {}
        self.rebuild(backends)

    def __repr__(self) -> str:
        return f"<Tokens of {len(self._values)} backends, {len(self._keys)} secrets>"

    def rebuild(self, backends: Iterable[Backend]) -> None:
        """Take the pool's members as they are now."""
        before, self._made = self._made, {}
        self._values, self._backends = {}, {}
        for backend in backends:
            values = before.get(backend.name) or [key.sign(self._pool, backend.label) for key in self._keys]
            self._made[backend.name] = values
            self._values[backend.name] = values[0]
            for value in values:
                self._backends[value] = backend

    def find(self, value: bytes) -> Backend | None:
        """Give the backend that a value stands for; None for one of another pool, of nobody any more, or made up."""
        return self._backends.get(value)

    def first(self, values: Iterable[bytes]) -> bytes:
        """Give the first value that stands for a backend, nothing if none does."""
        for value in values:
            if value in self._backends:
                return value
        return b""

    def value_of(self, backend: Backend) -> bytes | None:
        """Give what is handed out to clients of a backend; None if it isn't a member any more."""
        return self._values.get(backend.name)

    def has_known_key(self, values: Iterable[bytes]) -> bool:
        """Whether one of these says that one of our secrets made it."""
        return any(value.startswith(key.prefix) for value in values for key in self._keys)


class _Key:
    """One secret."""

    __slots__ = ("_secret", "prefix")

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self.prefix = hmac.digest(secret, b"key id", "sha256").hex()[:_KEY_ID_DIGITS].encode() + b"."

    def sign(self, pool: bytes, backend: bytes) -> bytes:
        """Make the value for a backend; names hold no zero byte."""
        mac = hmac.digest(self._secret, b"backend\0%b\0%b" % (pool, backend), "sha256")[:_MAC_BYTES]
        return self.prefix + urlsafe_b64encode(mac).rstrip(b"=")
