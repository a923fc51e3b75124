"""
Idle connections to one address. Decides only: it never opens, closes or looks at a socket.

Theory of operation. A node with a process for each connection (Apache with prefork) has none left for a new one while
all of them sit on kept ones; the kernel connects nevertheless. So whoever waits on a new connection for its first
answer is noted here (``await_first``), and kept connections give way to it, one for each:

- one that its exchange lets go, if that exchange was sent after the one that waits: it has overtaken it (``put``);
- one that has been idle for as long as a waiting one may wait, at a look every ``WAIT_SECONDS`` (``find_idle``).

The node takes connections in the order in which they came. If a younger one has its answer, the node has taken the
older one too, which is only slow, and nothing gives way to it. Where no answer overtakes another, nothing gives way at
all. A check of the supervisor's or a request of another worker that waits is noted without an attempt
(``note_strangers``).
"""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from pyproxy.config.runtime import Keepalive as KeepaliveConfig

if TYPE_CHECKING:
    from pyproxy.proxy.attempt import Attempt

C = TypeVar("C")

#: So long a new connection's first answer may take before others give way to it.
WAIT_SECONDS: Final = 0.02
#: So long a stranger is remembered.
STRANGER_SECONDS: Final = 1.0
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
    """One who waits since ``started`` for a first answer; ``attempt`` is None for a stranger."""

    __slots__ = ("attempt", "is_told", "started")

    def __init__(self, started: float, attempt: "Attempt | None") -> None:
        self.started = started
        self.attempt = attempt
        self.is_told = attempt is None  # whether others were asked to give way


class Keepalive(Generic[C]):
    """
    A stack: the connection used last is used first, so that the others can grow old and go.

    Whoever sees a connection end takes it out with ``discard``: what is in here is open as far as anyone knows.
    ``users`` counts the backends that it belongs to: pools that have an address in common share it. ``is_watched``
    says that somebody looks at it every ``WAIT_SECONDS``.
    """

    __slots__ = ("_connections", "_max_idle", "address", "idle", "is_watched", "max_requests", "users", "waiting")

    def __init__(self, config: KeepaliveConfig, address: bytes = b"") -> None:
        self._connections: list[C] = []
        self._max_idle = config.max_idle
        self.address = address
        self.idle = config.idle  # seconds
        self.max_requests = config.max_requests
        self.users = 0
        self.waiting: deque[Waiting] = deque()  # in the order in which they began
        self.is_watched = False

    def __len__(self) -> int:
        return len(self._connections)

    def take(self) -> C | None:
        """Give a connection, None if there is none."""
        return self._connections.pop() if self._connections else None

    def take_oldest(self) -> C:
        """Give the connection that has been idle for longest; there must be one."""
        return self._connections.pop(0)

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

    def note_strangers(self, count: int, now: float) -> None:
        """Note others that have waited for long enough already."""
        for _ in range(min(count, WAITING_MAX - len(self.waiting))):
            self.waiting.appendleft(Waiting(now - 2 * WAIT_SECONDS, None))

    def gives_way(self, sent: float, now: float) -> bool:
        """Whether a connection is not to be kept whose request was sent then: somebody waits that it has overtaken."""
        self._forget_answered(now)
        if not self.waiting:
            return False
        first = self.waiting[0]
        if now - first.started < WAIT_SECONDS or (first.attempt is not None and sent <= first.started):
            return False
        self.waiting.popleft()
        return True

    def find_idle(self, now: float, is_idle_since: Callable[[C, float], bool]) -> tuple[list[C], int]:
        """
        Give the connections that give way now, and how many who have just waited for long enough found none.

        ``is_idle_since`` says of a connection whether it has been idle since then.
        """
        self._forget_answered(now)
        found: list[C] = []
        untold = 0
        while self.waiting and now - self.waiting[0].started >= WAIT_SECONDS and self._connections:
            if not is_idle_since(self._connections[0], now - WAIT_SECONDS):
                break
            found.append(self._connections.pop(0))
            self.waiting.popleft()
        for waiting in self.waiting:
            if not waiting.is_told and now - waiting.started >= WAIT_SECONDS:
                waiting.is_told = True
                untold += 1
        return found, untold

    def _forget_answered(self, now: float) -> None:
        """Forget up to the youngest who has its answer, those that ended in another way, and strangers of old."""
        waiting = self.waiting
        answered = 0
        for place, each in enumerate(waiting, 1):
            if each.attempt is not None and each.attempt.header_time is not None:
                answered = place
        for _ in range(answered):
            waiting.popleft()
        if any([_is_over(each, now) for each in waiting]):  # noqa: C419 - no generator here
            self.waiting = deque([each for each in waiting if not _is_over(each, now)])


def _is_over(waiting: Waiting, now: float) -> bool:
    attempt = waiting.attempt
    return attempt.is_over if attempt is not None else now - waiting.started > STRANGER_SECONDS
