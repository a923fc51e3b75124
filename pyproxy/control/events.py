"""
What happens, told to whoever listens: changes by the operator, flips of health, members, workers.

Must not know who listens nor how: it keeps the latest events, numbered, and wakes who waits for the next one.

There is one ring for all, and each listener has only a number, the last that it has seen. Whatever a listener does,
nothing is kept for it, and nobody who publishes ever waits: one that is too slow misses what has left the ring, and
is told so.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from itertools import islice
from secrets import token_hex

from pyproxy.admin.events import EventView, Value
from pyproxy.clock import wall
from pyproxy.control.times import rfc3339

KEPT = 1000


class Events:
    """
    Satisfies ``admin.events.Events``.

    The id of an event is that of this run of the program and the event's number, so that one of an earlier run is
    never taken for one of this.
    """

    def __init__(self, kept: int = KEPT, clock: Callable[[], float] = wall) -> None:
        self.last = 0  # number of the newest; the first one is 1
        self._ring: deque[EventView] = deque(maxlen=kept)
        self._clock = clock
        self._run = token_hex(4)
        self._news = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Events {self.last} so far, {len(self._ring)} kept>"

    def publish(
        self,
        kind: str,
        *,
        pool: str | None = None,
        backend: str | None = None,
        before: Value = None,
        after: Value = None,
        reason: str | None = None,
        by: str | None = None,
    ) -> None:
        """Tell what has just happened; ``before`` and ``after`` are the values that changed, if any."""
        self.last += 1
        self._ring.append(self._event(kind, pool, backend, before, after, reason, by))
        self.wake()

    def since(self, number: int) -> tuple[EventView | None, list[tuple[int, EventView]]]:
        """Give the kept events after this one with their numbers, and a note if there were others before those."""
        first = self.last - len(self._ring) + 1
        begin = max(number + 1, first)
        note = None
        if number < first - 1:
            note = self._event("skipped", reason="events before the next one are not kept any more")
        return note, list(enumerate(islice(self._ring, begin - first, None), begin))

    def id_of(self, number: int) -> str:
        """Give the id that a listener may come back with."""
        return f"{self._run}-{number}"

    def find(self, text: str) -> int:
        """Give the number that belongs to an id; ``0`` is the beginning, anything unknown is before that: -1."""
        if text == "0":
            return 0
        run, _, number = text.partition("-")
        # Bounded: nobody shall make us read a number of a thousand digits.
        if run != self._run or len(number) > 18 or not (number.isascii() and number.isdigit()):
            return -1
        return int(number) if int(number) <= self.last else -1

    async def changed(self, number: int) -> None:
        """Wait for an event after this one, or for ``wake``."""
        if self.last <= number:
            await self._news.wait()

    def wake(self) -> None:
        """Let go who waits."""
        news, self._news = self._news, asyncio.Event()
        news.set()

    def _event(
        self,
        kind: str,
        pool: str | None = None,
        backend: str | None = None,
        before: Value = None,
        after: Value = None,
        reason: str | None = None,
        by: str | None = None,
    ) -> EventView:
        return {
            "at": rfc3339(self._clock()),
            "kind": kind,
            "pool": pool,
            "backend": backend,
            "from": before,
            "to": after,
            "reason": reason,
            "by": by,
        }
