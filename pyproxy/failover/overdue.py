"""
Notice that the master's next advert is overdue, well before it counts as dead.

Must not know what follows. One timer does, however many adverts come before it ends: a new one for each advert would
be the most frequent thing that a backup does.
"""

import asyncio
from collections.abc import Callable

PATIENCE = 1.5  # of the master's interval


class OverdueWatch:
    """
    Tell ``hear`` of each advert; times are those of ``loop``.

    ``look`` is called when an advert may be overdue, to read what waits, and ``late`` with the time of the last one if
    it is: once for each silence.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, look: Callable[[], None], late: Callable[[float], None]
    ) -> None:
        self._loop = loop
        self._look = look
        self._late = late
        self._heard = 0.0
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<OverdueWatch {'until ' + format(self._due, '.3f') if self._timer else 'idle'}>"

    def hear(self, interval: float) -> None:
        """Note an advert, and what it says of the time until the next."""
        self._heard = self._loop.time()
        self._due = self._heard + PATIENCE * interval
        if self._timer is None and not self._is_closed:
            self._arm()

    def close(self) -> None:
        """Tell nothing any more."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        self._timer = self._loop.call_later(self._due - self._loop.time(), self._check)

    def _check(self) -> None:
        self._timer = None
        self._look()
        if self._timer is not None or self._is_closed:
            return  # one has just come
        if self._loop.time() < self._due:
            self._arm()
        else:
            self._late(self._heard)
