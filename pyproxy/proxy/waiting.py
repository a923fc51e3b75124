"""
Requests of one pool that wait for a backend below its ``max_conns``, or for the first check: first in, first out.

Must not know how a request is sent. Theory of operation. Each worker has a line of its own. Room made in this
worker wakes it at once; room made in another is seen by a look every 5 ms, which is only taken while somebody
waits. Since the workers share the backends, a worker whose own requests end all the time could keep all the room
for itself: every line therefore shows in the scoreboard since when its first request has been waiting, and one
that is much younger than another's gives way for one look, but not for two in a row, because the other worker may
hang. A request that arrives while anybody waits goes to the end of the line.

Two kinds of requests stand in a line of their own, and go first: those that were tried already, whose place is free,
and those that stick to a backend which gets no others. For them there may be room where there is none for the rest, and
the other way round, so each of them is looked at. Of the rest nobody has room if the first one hasn't.

While nobody is eligible only because the first checks aren't done, the line waits for these, for a second at most.
When nobody is left to wait for, those in the line are refused at once. Backups are no overflow while there is time to
wait; but who would be refused, because that is over or the line is full, goes to one that has room.
"""

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from pyproxy.clock import monotonic
from pyproxy.config.runtime import Queue
from pyproxy.errors import ExchangeError
from pyproxy.proxy import refusals
from pyproxy.proxy.flow import FOREVER

if TYPE_CHECKING:
    from pyproxy.balance.backend import Backend
    from pyproxy.proxy.exchange import Exchange
    from pyproxy.proxy.plane import DataPlane
    from pyproxy.proxy.served import ServedPool

LOOK_SECONDS: Final = 0.005
#: So long a request waits for a backend to be checked for the first time.
CHECKING_SECONDS: Final = 1.0
#: So much longer must another worker's first request have been waiting to go before ours.
GIVE_WAY_NANOSECONDS: Final = 50_000_000


class WaitingLine:
    """See the module's docstring; ``deadline`` is that of the first in the line, watched by the sweeper."""

    __slots__ = (
        "_gave_way",
        "_head_column",
        "_is_looking",
        "_is_woken",
        "_line",
        "_plane",
        "_pool",
        "_queued_column",
        "_served",
        "_size",
        "_special",
        "_timeout",
        "deadline",
    )

    def __init__(
        self, plane: "DataPlane", served: "ServedPool", config: Queue, queued_column: int, head_column: int
    ) -> None:
        self._plane = plane
        self._served = served
        self._pool = served.pool
        self._size = config.size
        self._timeout = config.timeout
        self._queued_column = queued_column
        self._head_column = head_column
        self._line: OrderedDict[Exchange, float] = OrderedDict()  # since when, in monotonic seconds
        self._special: OrderedDict[Exchange, float] = OrderedDict()
        self._is_woken = False
        self._is_looking = False
        self._gave_way = False
        self.deadline = FOREVER

    def __len__(self) -> int:
        return len(self._line) + len(self._special)

    def __repr__(self) -> str:
        return f"<WaitingLine {self._pool.name} {len(self)} waiting>"

    def count(self) -> int:
        """Count who waits for this pool, over all workers."""
        return sum([row[self._queued_column] for row in self._plane.rows])

    def is_full(self) -> bool:
        """Whether as many wait as may."""
        return self.count() >= self._size

    def refuse(self) -> ExchangeError:
        """Say why nobody can be taken in."""
        return refusals.queue_full(self._pool, self.count(), self._size)

    def join(self, exchange: "Exchange") -> bool:
        """Take a request in, False if the line is full."""
        if self.is_full():
            return False
        if not len(self):
            self._plane.watch(self)
        own = exchange.own()
        is_special = bool(exchange.attempts) or (own is not None and own not in self._pool.eligible)
        (self._special if is_special else self._line)[exchange] = self._plane.now
        self._plane.row[self._queued_column] += 1
        self._show_first()
        self._look_later()
        return True

    def leave(self, exchange: "Exchange") -> None:
        """Forget a request that doesn't wait any more."""
        if self._line.pop(exchange, None) is not None or self._special.pop(exchange, None) is not None:
            self._plane.row[self._queued_column] -= 1
            self._show_first()

    def wake(self) -> None:
        """Serve who waits, in a turn of its own: who made room may be in the middle of something."""
        if len(self) and not self._is_woken:
            self._is_woken = True
            self._plane.loop.call_soon(self._handle_room)

    def handle_members(self) -> None:
        """Take it that the pool's members have changed, or how they stand: there may be room, or nobody left."""
        if len(self):
            self._show_first()
            self.wake()

    def on_deadline(self, now: float) -> None:
        """Let those who have waited for too long go to a backup, or refuse them."""
        for line in (self._special, self._line):
            while line:
                exchange, since = next(iter(line.items()))
                if since + self._patience() > now:
                    break
                backend = self._served.pick_another(exchange) or self._served.pick_spare(exchange)
                if backend is not None:
                    self._release(exchange, backend)
                else:
                    self._refuse(exchange)

    def _release(self, exchange: "Exchange", backend: "Backend") -> None:
        self.leave(exchange)
        self._plane.contain(exchange, exchange.begin, backend)

    def _refuse(self, exchange: "Exchange") -> None:
        pool = self._pool
        error = refusals.queue_timeout(pool, self._timeout) if pool.eligible else refusals.no_backend(pool)
        self.leave(exchange)
        self._plane.contain(exchange, exchange.break_off, error)

    def _patience(self) -> float:
        """Seconds that the present reason to wait is worth."""
        return CHECKING_SECONDS if self._pool.is_checking else self._timeout

    def _show_first(self) -> None:
        since = min([next(iter(line.values())) for line in (self._special, self._line) if line], default=0.0)
        self._plane.row[self._head_column] = int(since * 1e9)
        self.deadline = since + self._patience() if len(self) else FOREVER
        if not len(self):
            self._plane.unwatch(self)

    def _look_later(self) -> None:
        if len(self) and not self._is_looking:
            self._is_looking = True
            self._plane.loop.call_later(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        self._is_looking = False
        if self._is_younger() and not self._gave_way:
            self._gave_way = True
        else:
            self._gave_way = False
            self._serve()
        self._look_later()

    def _handle_room(self) -> None:
        self._is_woken = False
        if not self._is_younger():
            self._serve()

    def _is_younger(self) -> bool:
        """Whether another worker's first request has been waiting for much longer than ours."""
        heads = [row[self._head_column] for row in self._plane.rows]
        oldest = min([head for head in heads if head], default=0)
        return oldest < self._plane.row[self._head_column] - GIVE_WAY_NANOSECONDS

    def _serve(self) -> None:
        self._plane.now = monotonic()
        for exchange in list(self._special):
            if exchange in self._special:
                self._serve_one(exchange)
        while self._line and self._serve_one(next(iter(self._line))):
            pass

    def _serve_one(self, exchange: "Exchange") -> bool:
        """Send a request on its way, or refuse it if there is nothing to wait for; False if it has to go on waiting."""
        backend = self._served.pick_another(exchange)
        if backend is not None:
            self._release(exchange, backend)
        elif not self._served.has_another(exchange) and not self._pool.is_checking:
            self._refuse(exchange)
        else:
            return False
        return True
