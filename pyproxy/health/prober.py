"""
Check all backends again and again, and say whose health has changed.

Must not know workers, nor what a change means to anyone. Each target has a task of its own: all begin at once, so
the first round takes no longer than its slowest check. The second check of each comes after a random part of the
interval, which spreads the targets over it; later ones keep to the interval with a jitter of 10 %. While the latest
results speak against the present state the checks come four times as often.

Targets are told apart by their number, the seat of the backend: a name is a label only (``control.members``).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from random import Random

from pyproxy.clock import monotonic
from pyproxy.config.runtime import Backend, Pool
from pyproxy.health.checks import CheckResult, NotChecked, Target, check, make_target
from pyproxy.health.counter import CheckCounter
from pyproxy.health.steer import STATES, parse_word

MIN_PAUSE = 0.1
JITTER = 0.1
QUICKER = 4  # while a state is in the balance
WAITS = 0.25  # of a check's timeout: after so much of it without an answer, others are asked to give way

Check = Callable[[Target], Awaitable[CheckResult]]
Sleep = Callable[[float], Awaitable[None]]
OnFlip = Callable[[str, int, str], None]
OnPass = Callable[[str, int, float], None]
OnWord = Callable[[str, int, str], None]
OnWait = Callable[[str, float], None]

_log = logging.getLogger(__name__)


class Prober:
    """
    Watches the backends of the pools that it is told of, until ``close``.

    ``on_flip`` gets pool, seat and health when that has changed, ``on_word`` pool, seat and the state that the node
    itself asks for, ``on_pass`` pool, seat and when it began (monotonic seconds) for every check that passed, after
    that. ``on_wait`` gets an address and when its check began that has taken a part of its timeout already: that of a
    node which may have no process to spare. ``results`` has the latest result by seat.
    """

    def __init__(
        self,
        on_flip: OnFlip,
        on_word: OnWord,
        *,
        on_pass: OnPass = lambda _pool, _seat, _began: None,
        on_wait: OnWait = lambda _address, _began: None,
        check: Check = check,
        sleep: Sleep = asyncio.sleep,
        random: Random | None = None,
    ) -> None:
        self.results: dict[int, CheckResult] = {}
        self._on_flip = on_flip
        self._on_pass = on_pass
        self._on_wait = on_wait
        self._on_word = on_word
        self._check = check
        self._sleep = sleep
        self._random = random or Random()  # noqa: S311 - nothing secret depends on it
        self._watches: dict[str, dict[int, _Watch]] = {}  # by pool and seat

    def __repr__(self) -> str:
        return f"<Prober {sum(map(len, self._watches.values()))} backends>"

    def update(self, pool: Pool) -> None:
        """
        Take the present members of a pool: those that stay keep their past, a new address begins with ``checking``.

        A backend that the operator has put into ``maint`` isn't checked, and is ``checking`` from then on. One that has
        asked for it itself is: else it could never say that it is over.
        """
        health = pool.health
        if health is None:
            return
        wanted = {
            backend.seat: (backend, make_target(backend, health, pool.send_proxy))
            for backend in pool.backends
            if not backend.lookup and (backend.state != "maint" or backend.steered)
        }
        watches = self._watches.setdefault(pool.name, {})
        for seat, watch in list(watches.items()):
            if seat not in wanted or watch.target != wanted[seat][1]:
                del watches[seat]
                watch.task.cancel()
                self.results.pop(seat, None)
                self._on_flip(pool.name, seat, "checking")
                if watch.word != STATES[0]:
                    self._on_word(pool.name, seat, STATES[0])  # nobody asks it any more: it can't take that back
        for seat, (backend, target) in wanted.items():
            if seat not in watches:
                watches[seat] = watch = _Watch(pool.name, target)
                watch.task = asyncio.create_task(self._run(seat, watch))
            watches[seat].title = _title(pool.name, backend)

    async def close(self) -> None:
        """Check nobody any more."""
        tasks = [watch.task for watches in self._watches.values() for watch in watches.values()]
        self._watches.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, seat: int, watch: "_Watch") -> None:
        loop = asyncio.get_running_loop()
        is_first = True
        while True:
            begin = loop.time()
            try:
                await self._check_once(seat, watch)
            except Exception:
                _log.exception("checking %s went wrong", watch.title)  # its health stays; the next check is due as ever
            pause = self._pause(watch, is_first=is_first)
            is_first = False
            await self._sleep(max(begin + pause - loop.time(), min(pause, MIN_PAUSE)))

    async def _check_once(self, seat: int, watch: "_Watch") -> None:
        began = monotonic()
        timer = asyncio.get_running_loop().call_later(
            watch.target.health.timeout * WAITS, self._on_wait, watch.target.address, began
        )
        try:
            result = await self._check(watch.target)
        except NotChecked as error:
            if not watch.is_hindered:
                _log.error("can't check %s: %s", watch.title, error)
            watch.is_hindered = True
            return
        finally:
            timer.cancel()
        watch.is_hindered = False
        self.results[seat] = result
        self._hear(seat, watch, result.said)
        if watch.counter.record(result.ok):
            level = logging.INFO if result.ok else logging.WARNING
            _log.log(level, "%s is %s: %s", watch.title, watch.counter.health, result.detail)
            self._on_flip(watch.pool, seat, watch.counter.health)
        if result.ok:
            self._on_pass(watch.pool, seat, began)

    def _hear(self, seat: int, watch: "_Watch", said: str | None) -> None:
        """Take what a node says of itself; what can't be understood changes nothing."""
        if said is None or said == watch.said:
            return
        watch.said = said
        word = parse_word(said)
        if word is None:
            _log.warning("%s says X-LB-State: %.64r, which is none of %s", watch.title, said, ", ".join(STATES))
        elif word != watch.word:
            watch.word = word
            _log.info("%s asks for %s", watch.title, word)
            self._on_word(watch.pool, seat, word)

    def _pause(self, watch: "_Watch", *, is_first: bool) -> float:
        """Seconds from the beginning of a check to the beginning of the next."""
        interval = watch.target.health.interval
        if watch.counter.is_in_balance:
            interval = max(interval / QUICKER, min(interval, MIN_PAUSE))
        elif is_first:
            return self._random.uniform(0, interval)
        return interval * self._random.uniform(1 - JITTER, 1 + JITTER)


class _Watch:
    """One backend that is checked."""

    task: "asyncio.Task[None]"

    def __init__(self, pool: str, target: Target) -> None:
        self.pool = pool
        self.target = target
        self.title = ""
        self.counter = CheckCounter(target.health.rise, target.health.fall)
        self.is_hindered = False
        self.said = ""  # by the node, and what was last understood of it
        self.word = STATES[0]


def _title(pool: str, backend: Backend) -> str:
    name = f"{pool}/{backend.name}"
    return name if backend.name == backend.address else f"{name} ({backend.address})"
