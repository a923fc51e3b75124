"""
Idle connections to one address. Decides only: it never opens, closes or looks at a socket.

Theory of operation. A node with a process for each connection (Apache with prefork) has none left for a new one while
all of them sit on kept ones; the kernel connects nevertheless. So whoever waits on a new connection for its first
answer is noted here (``await_first``), and kept connections give way to it:

- one that its exchange lets go, if that exchange was sent after the one that waits: it has overtaken it
  (``gives_way``);
- one that has been idle for as long as a waiting one may wait, at a look every ``WAIT_SECONDS`` (``find_idle``).

One gives way to each, and another one if it still waits ``AGAIN_SECONDS`` later: the process that was set free may have
taken a connection of another worker's.

The node takes connections in the order in which they came. If a younger one has its answer, the node has taken the
older one too, which is only slow, and nothing gives way to it. Where no answer overtakes another, nothing gives way at
all. A check of the supervisor's or a request of another worker that waits is noted without an attempt
(``note_strangers``), for as long as its own process repeats that it waits.
"""

from collections.abc import Callable, Iterable
from math import inf
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from pyproxy.config.runtime import Keepalive as KeepaliveConfig

if TYPE_CHECKING:
    from pyproxy.proxy.attempt import Attempt

C = TypeVar("C")

#: So long a new connection's first answer may take before others give way to it.
WAIT_SECONDS: Final = 0.02
#: One that still waits is given way to again after so long, and others are told of it again.
AGAIN_SECONDS: Final = 0.25
#: So long a stranger is remembered from when it was last told of.
STRANGER_SECONDS: Final = 2 * AGAIN_SECONDS
#: Of connections that two workers made within so many seconds, nobody knows which came first.
SAME_SECONDS: Final = 0.1
#: The most that are noted; in a crowd of more the first ones speak for the rest.
WAITING_MAX: Final = 256


def idle_seconds(configured: float, hint: float) -> float:
    """
    Give how long a connection may be idle of which the backend says that it closes it after ``hint`` seconds.

    What we send must arrive before that: a second less, or half of it if that is more.

    >>> idle_seconds(4.0, 5.0), idle_seconds(30.0, 5.0), idle_seconds(4.0, 1.0), idle_seconds(4.0, 0.0)
    (4.0, 4.0, 0.5, 0.0)
    """
    return min(configured, max(hint - 1.0, hint / 2))


class Waiting:
    """
    One who waits since ``started`` for a first answer; ``attempt`` is None for a stranger.

    ``given`` is when a connection last gave way to it, ``told`` when others were last told of it, or we of a stranger.
    """

    __slots__ = ("attempt", "given", "started", "told")

    def __init__(self, started: float, attempt: "Attempt | None", told: float = -inf) -> None:
        self.started = started
        self.attempt = attempt
        self.given = -inf
        self.told = told

    def wants(self, now: float) -> bool:
        """Whether a connection is to give way."""
        return now - self.started >= WAIT_SECONDS and now - self.given >= AGAIN_SECONDS


class Keepalive(Generic[C]):
    """
    A stack: the connection used last is used first, so that the others can grow old and go.

    Whoever sees a connection end takes it out with ``discard``: what is in here is open as far as anyone knows.
    ``users`` counts the backends that it belongs to: pools that have an address in common share it. ``is_watched``
    says that somebody looks at it every ``WAIT_SECONDS``. Times are those of ``monotonic``, the same in all processes.
    """

    __slots__ = (
        *("_connections", "_max_idle", "_taken"),
        *("address", "idle", "is_watched", "max_requests", "users", "waiting"),
    )

    def __init__(self, config: KeepaliveConfig, address: bytes = b"") -> None:
        self._connections: list[C] = []
        self._max_idle = config.max_idle
        self._taken = -inf  # the node has taken connections that began until then
        self.address = address
        self.idle = config.idle  # seconds
        self.max_requests = config.max_requests
        self.users = 0
        self.waiting: list[Waiting] = []  # in the order in which they began
        self.is_watched = False

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

    def release(self) -> list[C]:
        """Take it that one of the backends is gone: with the last one all connections go, and none is kept any more."""
        self.users -= 1
        if self.users > 0:
            return []
        self._max_idle = 0
        return self.clear()

    # giving way

    def await_first(self, attempt: "Attempt") -> None:
        """Note an attempt that needs a new connection."""
        self._forget_answered(attempt.started)
        if len(self.waiting) < WAITING_MAX:
            self.waiting.append(Waiting(attempt.started, attempt))

    def note_strangers(self, since: Iterable[float], now: float) -> None:
        """Note others that wait since these times."""
        self._forget_answered(now)
        known = {each.started: each for each in self.waiting if each.attempt is None}
        for started in since:
            if started in known:
                known[started].told = now
            elif started > self._taken - SAME_SECONDS and len(self.waiting) < WAITING_MAX:
                self.waiting.append(Waiting(started, None, now))
        self.waiting.sort(key=lambda each: each.started)

    def gives_way(self, sent: float, now: float) -> bool:
        """Whether a connection is not to be kept whose request was sent then: somebody waits that it has overtaken."""
        self._forget_answered(now)
        first = next((each for each in self.waiting if each.wants(now)), None)
        if first is None or sent <= first.started:
            return False
        self._give(first, now)
        return True

    def find_idle(self, now: float, is_idle_since: Callable[[C, float], bool]) -> tuple[list[C], list[float]]:
        """
        Give the connections that give way now, and since when those wait of whom others must be told (again).

        ``is_idle_since`` says of a connection whether it has been idle since then.
        """
        self._forget_answered(now)
        found: list[C] = []
        untold: list[float] = []
        for each in [each for each in self.waiting if each.wants(now)]:
            if self._connections and is_idle_since(self._connections[0], now - WAIT_SECONDS):
                found.append(self._connections.pop(0))
                self._give(each, now)
            elif each.attempt is not None and now - each.told >= AGAIN_SECONDS:
                each.told = now
                untold.append(each.started)
        return found, untold

    def _give(self, to: Waiting, now: float) -> None:
        """Note that a connection gives way; of a stranger we are told again if that didn't help."""
        if to.attempt is None:
            self.waiting.remove(to)
        else:
            to.given = now

    def _forget_answered(self, now: float) -> None:
        """Forget up to the youngest who has its answer, those that ended in another way, and strangers of old."""
        answered = 0
        for place, each in enumerate(self.waiting, 1):
            if each.attempt is not None and each.attempt.header_time is not None:
                answered, self._taken = place, max(each.started, self._taken)
        self.waiting = [
            each
            for place, each in enumerate(self.waiting, 1)
            if (
                place > answered and not each.attempt.is_over
                if each.attempt is not None
                else now - each.told <= STRANGER_SECONDS and each.started > self._taken - SAME_SECONDS
            )
        ]
