"""
Watch the gateway: whether it answers, as a sign that this machine is connected.

Must not know sockets or what follows: questions go out through a function, answers are told.

It counts as lost after three questions without an answer; until then, and without a gateway, nothing is known.
Questions come so often that a loss is noticed within one down interval, though not more than 20 times a second and at
least once a second. When a takeover is near, what was known counts no more: ``hurry`` finds it out anew in time.
"""

import asyncio
import logging
from collections.abc import Callable

from pyproxy.failover.netlink import Ip
from pyproxy.failover.timing import GATEWAY_QUESTIONS, question_interval

HURRIED = 0.005  # seconds between two questions, at least, when in a hurry
FALL = GATEWAY_QUESTIONS

_log = logging.getLogger(__name__)


class GatewayWatch:
    """
    See the module's docstring; its timers are ``loop``'s.

    ``find`` gives the gateway's address, None if there is none; it is asked anew whenever the gateway doesn't answer.
    ``ask`` sends a question. ``on_change`` is called when ``is_ok`` has changed.
    """

    def __init__(
        self,
        find: Callable[[], Ip | None],
        ask: Callable[[Ip], None],
        on_change: Callable[[], None],
        down_interval: float,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.address: Ip | None = None
        self.is_ok: bool | None = None
        self.answered_at: float | None = None  # of ``loop``, which is the monotonic clock; None: this one never did
        self._find = find
        self._ask = ask
        self._on_change = on_change
        self._interval = question_interval(down_interval)
        self._pace: float | None = None  # seconds between two questions while in a hurry
        self._unanswered = 0
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<GatewayWatch {self.address} {self.is_ok}>"

    def start(self) -> None:
        """Begin to ask, or begin anew: the link came up, routes may be other ones."""
        self.stop()
        self._tick()

    def hurry(self, seconds: float) -> None:
        """Find out anew, and within so many seconds."""
        self._pace = max(seconds / (FALL + 1), HURRIED)
        self._unanswered = 0
        self.start()

    def stop(self) -> None:
        """Ask no more; what is known stays."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def answered(self) -> None:
        """Take an answer."""
        self._unanswered, self._pace = 0, None
        self.answered_at = self._loop.time()
        self._set(True)

    def _tick(self) -> None:
        if self._unanswered >= FALL:
            self._pace = None
            self._set(False)
        if self.address is None or self._unanswered >= FALL:
            self._look()
        self._timer = self._loop.call_later(self._pace or self._interval, self._tick)
        if self.address is not None:
            self._unanswered += 1
            self._ask(self.address)

    def _look(self) -> None:
        found = self._find()
        if found != self.address:
            _log.info("the gateway is %s", found or "unknown: no default route leads through this interface")
            self.address, self._unanswered, self.answered_at = found, 0, None
            self._set(None)

    def _set(self, is_ok: bool | None) -> None:
        if is_ok is not self.is_ok:
            before, self.is_ok = self.is_ok, is_ok
            if is_ok is False:
                _log.warning("the gateway %s doesn't answer", self.address)
            elif is_ok and before is False:
                _log.info("the gateway %s answers again", self.address)
            self._on_change()
