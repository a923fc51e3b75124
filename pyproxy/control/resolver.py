"""
Watch what the names among the backends stand for, and say when it changes.

Must not know pools beyond their names, nor what an answer is used for.

A name is asked for again when its answer's time is up. Whatever goes wrong, the last good answer stays: a name
server that fails, or a record that somebody deleted by mistake, must not take backends away that still work.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from pyproxy.config.runtime import Backend, Pool, RuntimeConfig, join_address
from pyproxy.control.answers import MAX_ADDRESSES, Answer
from pyproxy.control.lookup import Found, Lookup, LookupFailed

MIN_TTL = 5.0
MAX_TTL = 60.0
PAUSES = (1.0, 2.0, 5.0)  # after the first, the second and any further failure in a row
_AT_ONCE = 16  # lookups; each has a thread of c-ares and a few descriptors

_Place = tuple[str, str, str, int, str]  # pool, backend, host, port, what is looked up

_log = logging.getLogger(__name__)


class Resolver:
    """
    Watches every name of a configuration, from ``start`` until ``close``.

    ``on_answer`` gets pool, backend and answer when the answer is another than before.
    """

    def __init__(self, config: RuntimeConfig, on_answer: Callable[[str, str, Answer], None]) -> None:
        self._servers = config.dns.servers
        self._on_answer = on_answer
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._watches = {place: self._make(*place) for pool in config.pools for place in _places(pool)}
        self._tasks: dict[_Place, asyncio.Task[None]] = {}

    def __repr__(self) -> str:
        return f"<Resolver {len(self._watches)} names>"

    def start(self) -> None:
        """Begin to ask."""
        for place in self._watches:
            self._start(place)

    def follow(self, pool: Pool) -> None:
        """Watch the names of a pool whose backends have changed, and no others of that pool."""
        present = set(_places(pool))
        for place in [place for place in self._watches if place[0] == pool.name and place not in present]:
            del self._watches[place]
            self._tasks.pop(place).cancel()
        for place in present - self._watches.keys():
            self._watches[place] = self._make(*place)
            self._start(place)

    async def wait_for_first(self, seconds: float) -> None:
        """Wait until every name was asked for once, at most so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.gather(*(watch.asked.wait() for watch in self._watches.values()))

    async def close(self) -> None:
        """Stop asking."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _make(self, pool: str, name: str, host: str, port: int, lookup: str) -> "_Watch":
        backend = Backend(name, host, port, weight=1, backup=False, max_conns=0, lookup=lookup)
        return _Watch(pool, backend, Lookup(backend, self._servers), self._turns, self._on_answer)

    def _start(self, place: "_Place") -> None:
        self._tasks[place] = asyncio.create_task(self._watches[place].run())


def _places(pool: Pool) -> "list[_Place]":
    """Give all that makes a lookup, for each name of a pool; a weight changes nothing about it."""
    return [(pool.name, item.name, item.host, item.port, item.lookup) for item in pool.backends if item.lookup]


class _Watch:
    """One name of one pool."""

    def __init__(
        self,
        pool: str,
        backend: Backend,
        lookup: Lookup,
        turns: asyncio.Semaphore,
        on_answer: Callable[[str, str, Answer], None],
    ) -> None:
        self.asked = asyncio.Event()
        self._pool = pool
        self._backend = backend.name
        self._title = f"{backend.host} ({pool}/{backend.name})"
        self._lookup = lookup
        self._turns = turns
        self._on_answer = on_answer
        self._answer: Answer = ()
        self._failures = 0  # in a row
        self._reasons: set[str] = set()  # that were told since the last answer
        self._is_crowded = False

    async def run(self) -> None:
        """Ask for ever."""
        while True:
            try:
                async with self._turns:
                    found = await self._lookup.find()
                seconds = self._handle_answer(found)
            except LookupFailed as error:
                seconds = self._handle_failure(str(error))
            except Exception as error:
                _log.exception("looking up %s went wrong", self._title)
                seconds = self._handle_failure(str(error))
            self.asked.set()
            await asyncio.sleep(seconds)

    def _handle_answer(self, found: Found) -> float:
        """Pass on what is new, and return the seconds until the next lookup."""
        if found.left_out and not self._is_crowded:
            _log.warning("%s has more than %d addresses, the others are left out", self._title, MAX_ADDRESSES)
        self._is_crowded = found.left_out > 0
        if found.answer != self._answer:
            _log.info("%s is %s", self._title, _text(found.answer))
            self._on_answer(self._pool, self._backend, found.answer)
            self._answer = found.answer
        elif self._failures:
            _log.info("%s is answered again, nothing has changed", self._title)
        self._failures = 0
        self._reasons.clear()
        return min(max(found.ttl, MIN_TTL), MAX_TTL)

    def _handle_failure(self, reason: str) -> float:
        """Say it once an outage for each reason, and return the seconds until the next lookup."""
        if reason not in self._reasons:
            self._reasons.add(reason)
            stays = f"it stays {_text(self._answer)}" if self._answer else "it has no address yet"
            _log.warning("can't look up %s: %s; %s", self._title, reason, stays)
        self._failures += 1
        return PAUSES[min(self._failures, len(PAUSES)) - 1]


def _text(answer: Answer) -> str:
    return ", ".join(join_address(address.host, address.port) for address in answer)
