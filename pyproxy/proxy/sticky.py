"""
Sticky sessions of one pool at work: what a request's cookie says, whom it is sent to, and what its answer is to say.

Pure. Must not know connections, or how a cookie's value is made (``balance.sticky``). A client that comes with a valid
cookie keeps it for as long as its backend is there, not in maintenance, not down and not ejected. While that one is at
its limit or not checked yet, another serves the request and the cookie stays as it is. Only when the backend is lost,
or has failed this very request, does the client get the cookie of the one that answered.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from xxhash import xxh32_intdigest

from pyproxy.balance.backend import Backend
from pyproxy.balance.sticky import Tokens
from pyproxy.config.runtime import Sticky
from pyproxy.errors import ExchangeError
from pyproxy.proxy.attempt import Attempt
from pyproxy.routing.cookies import take_cookie

if TYPE_CHECKING:
    from pyproxy.balance.pool import Pool
    from pyproxy.http1.head import RequestHead

#: Clients of a pool that are remembered until the next report; with more of them, some are told of later.
SEEN_MAX: Final = 20_000


class ServedSticky:
    """The cookie of a pool; ``seen`` are the clients that came back with it since the last report, by backend."""

    __slots__ = ("_attributes", "_cookie", "_pool", "_secure", "_seen_count", "renews", "seen", "tokens")

    def __init__(self, config: Sticky, pool: "Pool") -> None:
        self.tokens = Tokens(pool.name, config.secrets, pool.backends)
        self.renews = config.max_age > 0
        self.seen: dict[str, set[int]] = {}
        self._seen_count = 0
        self._pool = pool
        self._cookie = config.cookie.encode()
        self._secure = config.secure
        self._attributes = _attributes(config)

    def __repr__(self) -> str:
        return f"<ServedSticky {self._cookie.decode()} of {self._pool.name}>"

    def bind(self, head: "RequestHead") -> "Bond":
        """Take the cookie out of a request, so that no backend sees it, and find out what it says."""
        return Bond(self, take_cookie(head.lines, self._cookie))

    def take_values(self, head: "RequestHead") -> Sequence[bytes]:
        """Take the cookie out of a request and give what it says, in each of its places."""
        return take_cookie(head.lines, self._cookie)

    def keeps(self, backend: Backend) -> bool:
        """Whether a backend's clients go on sticking to it."""
        return self._pool.keeps(backend)

    def cookie_line(self, value: bytes, *, is_https: bool) -> bytes:
        """Write the header that gives a client its cookie."""
        secure = is_https if self._secure is None else self._secure
        return b"Set-Cookie: %b=%b%b%b\r\n" % (
            self._cookie,
            value,
            self._attributes,
            b"; Secure" if secure else b"",
        )

    def note(self, backend: Backend, client: bytes) -> None:
        """Note that a client came back to its backend."""
        found = self.seen.get(backend.name)
        if found is None:
            found = self.seen[backend.name] = set()
        number = xxh32_intdigest(client)
        if number not in found and self._seen_count < SEEN_MAX:
            found.add(number)
            self._seen_count += 1

    def take_seen(self) -> dict[str, list[int]]:
        """Give who was seen, by backend, and begin anew."""
        seen, self.seen = self.seen, {}
        self._seen_count = 0
        return {name: list(clients) for name, clients in seen.items()}

    def explain(self, values: Sequence[bytes]) -> str:
        """Say in a sentence what these values of the cookie do to a request."""
        cookie, pool = self._cookie.decode(), self._pool
        if not values:
            return f"no cookie {cookie}: it gets one"
        own = self.tokens.find(self.tokens.first(values))
        if own is None and self.tokens.has_known_key(values):
            return f"cookie {cookie} is ignored: it is of no backend of this pool, or made up"
        if own is None:
            return f"cookie {cookie} is ignored: it was made with another secret, or made up"
        if not pool.keeps(own):
            why = "maint" if own.state == "maint" else "down" if own.health == "down" else "ejected"
            return f"cookie {cookie} is of {own.name}, which is lost ({why}): it gets another"
        if not pool.can_serve(own):
            why = "checking" if own.health == "checking" else "at max_conns"
            return f"cookie {cookie} is of {own.name}, which can't serve now ({why}): another does, the cookie stays"
        return f"cookie {cookie} is of {own.name}"


class Bond:
    """
    What ties one request to a backend; ``values`` are what its cookies of the pool's name say.

    It is asked for the backend on each pick, since members come and go while a request waits.
    """

    __slots__ = ("_has_failed", "_sticky", "_value")

    def __init__(self, sticky: ServedSticky, values: Sequence[bytes]) -> None:
        self._sticky = sticky
        self._value = sticky.tokens.first(values) if values else b""
        self._has_failed = False

    def __repr__(self) -> str:
        return f"<Bond {self._value.decode()}>"

    def own(self) -> Backend | None:
        """Give the backend that the client sticks to; the members may have changed since the last time."""
        return self._sticky.tokens.find(self._value) if self._value else None

    def failed(self, attempt: Attempt, error: ExchangeError) -> None:
        """Take it that an attempt failed."""
        if attempt.on is self.own() and not attempt.was_closed_as_idle(error):
            self._has_failed = True

    def answered(self, by: Backend, client: bytes) -> bytes | None:
        """Note who answers; return the value that the client's cookie is to get, None if that is not needed."""
        sticky = self._sticky
        fresh = sticky.tokens.value_of(by)
        own = self.own()
        if own is by:
            sticky.note(by, client)
            return fresh if sticky.renews or fresh != self._value else None
        if own is not None and not self._has_failed and sticky.keeps(own):
            return None
        # One that was taken out since it was asked is to get nobody new; the next request finds another.
        return fresh if by.state == "ready" and by.full_weight else None

    def cookie_line(self, value: bytes, *, is_https: bool) -> bytes:
        """Write the header that gives a client its cookie."""
        return self._sticky.cookie_line(value, is_https=is_https)


def _attributes(config: Sticky) -> bytes:
    """Write what is the same for every client."""
    parts = [f"; Path={config.path}"]
    if config.domain is not None:
        parts.append(f"; Domain={config.domain}")
    if config.max_age:
        parts.append(f"; Max-Age={max(1, round(config.max_age))}")
    parts.append(f"; HttpOnly; SameSite={config.samesite.capitalize()}")
    return "".join(parts).encode()
