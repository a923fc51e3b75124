"""
Stop serving without failing anybody, so that the other machine can take the address.

Must not know VRRP or the other machine: it empties this one, for at most a given time, and fills it again.

Theory of operation. Clients connect as before, all the time but for some milliseconds::

    yield      workers close idle connections, and each other one after its next answer; new ones are served
      │ all that were there at the begin are gone, or the time is nearly up
    block      the first packet of any new connection is dropped, as if the network had lost it
      │ nothing is in flight            │ something still is after BLOCK_SECONDS
      ▼                                 ▼
    empty                             unblock, wait 1, 2, 4 … s, block again; at the end reset what is left

The speaker catches those packets meanwhile, and passes them on to the other machine when that one has the address.
Where it can't, their senders repeat them after a second, and the other machine answers.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from pyproxy.control import syn_block
from pyproxy.control.worker import Worker

BLOCK_SECONDS: Final = 0.05
LOOK_SECONDS: Final = 0.002
LOOKS: Final = 3  # one after another that find nothing
FIRST_PAUSE: Final = 1.0
RESET_SECONDS: Final = 0.5  # that workers have to do as they were told at the end
#: What is left of the grace for the last attempt and the reset.
LAST_SECONDS: Final = 0.5

_log = logging.getLogger(__name__)


def pauses(first: float = FIRST_PAUSE) -> Iterator[float]:
    """
    Give the seconds between two attempts to find nothing in flight.

    >>> found = pauses()
    >>> [next(found) for _ in range(5)]
    [1.0, 2.0, 4.0, 8.0, 8.0]
    """
    pause = first
    while True:
        yield pause
        pause = min(2 * pause, 8 * first)


class Emptying:
    """
    One attempt to have nothing in flight; made inside a running event loop.

    ``workers`` gives those that live, ``count`` what is in flight on the sockets, which are the TCP listeners'.
    """

    def __init__(
        self, workers: Callable[[], Sequence[Worker]], sockets: Sequence[socket.socket], count: Callable[[], int]
    ) -> None:
        self._workers = workers
        self._sockets = sockets
        self._count = count
        self._yielded: set[int] = set()  # process ids
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.was_reset = 0  # how many were in flight at the end of the grace
        #: Told before SYNs are dropped, and when they no longer are because it is tried again later.
        self.on_block: Callable[[bool], None] = lambda _is_blocked: None

    def __repr__(self) -> str:
        return f"<Emptying {self._count()} in flight>"

    def handle_yielded(self, worker: Worker) -> None:
        """Hear that the connections that a worker had at the begin are gone."""
        self._yielded.add(worker.pid)
        self._changed.set()

    async def empty(self, grace: float) -> None:
        """
        Come back when nothing is in flight, with new connections blocked, after at most about ``grace`` seconds.

        The caller calls ``end`` in any case.
        """
        deadline = self._loop.time() + grace
        self._tell({"type": "yield"})
        await self._wait_yielded(deadline - LAST_SECONDS)
        for pause in pauses():
            if await self._is_empty_within(BLOCK_SECONDS):
                return
            left = deadline - LAST_SECONDS - self._loop.time()
            if left <= 0:
                break
            syn_block.unblock(self._sockets)
            self.on_block(False)
            await asyncio.sleep(min(pause, left))
        await self._reset()

    def end(self) -> None:
        """Let clients connect, and stay."""
        with contextlib.suppress(OSError):
            syn_block.unblock(self._sockets)
        self._tell({"type": "keep"})

    async def _wait_yielded(self, deadline: float) -> None:
        """Wait for the workers' word; one that ends in between has nothing in flight."""
        while any(worker.pid not in self._yielded for worker in self._workers()):
            left = deadline - self._loop.time()
            if left <= 0:
                return
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), min(left, FIRST_PAUSE))

    async def _is_empty_within(self, seconds: float) -> bool:
        """
        Block, and wait until nothing is in flight; False if something still is.

        A worker counts a connection a moment after it has taken it, so one look isn't enough. Who has begun to
        connect is waited for as well; but he may never answer, so he can't make it fail.
        """
        self.on_block(True)
        await asyncio.sleep(LOOK_SECONDS)  # for who has to get ready for it
        syn_block.block(self._sockets)
        end = self._loop.time() + seconds
        quiet = 0
        while True:
            is_over = self._loop.time() >= end
            if syn_block.queued(self._sockets) or self._count():
                quiet = 0
            elif is_over or not syn_block.half_open(self._sockets):
                quiet += 1
            if quiet >= LOOKS:
                return True
            if is_over and not quiet:
                return False
            await asyncio.sleep(LOOK_SECONDS)

    async def _reset(self) -> None:
        self.was_reset = self._count()
        if self.was_reset:
            _log.warning("%d connections are reset: the grace is over", self.was_reset)
        self._tell({"type": "reset"})
        await self._is_empty_within(RESET_SECONDS)

    def _tell(self, message: dict[str, Any]) -> None:
        for worker in self._workers():
            worker.send(message)
