"""
The SYNs of a hand-over: caught when the supervisor says so, passed on when the other machine has announced itself.

Must not know frames (``syn_relay``), nor whether the hand-over comes to its end: it is told, or its time is up.
"""

import asyncio
import logging
from collections.abc import Iterable

from pyproxy.failover.interface import Interface
from pyproxy.failover.netlink import Ip
from pyproxy.failover.syn_relay import SynRelay

HOLD_SECONDS = 5.0  # at most, from the first SYN that may be caught to the release
RELAY_SECONDS = 2.0  # from the release on: until then everybody has learnt where the addresses are
LAST_SECONDS = 0.3  # that the process's end waits for the other machine

_log = logging.getLogger(__name__)


class Relaying:
    """At most one relay at a time; made inside a running event loop."""

    def __init__(self, interface: Interface, addresses: Iterable[Ip]) -> None:
        self._interface = interface
        self._addresses = tuple(addresses)
        self._relay: SynRelay | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_released = False
        self._pointed = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def __repr__(self) -> str:
        return f"<Relaying {self._relay!r}>"

    def hold(self) -> None:
        """Begin to catch."""
        self.drop()
        if not self._interface.has_neighbours:
            return
        try:
            self._relay = SynRelay(self._interface.name, self._interface.mac, self._addresses)
        except OSError as error:
            # Whoever sends a SYN now sends it again after a second.
            _log.warning("what begins during the hand-over can't be passed on: %s", error)
            return
        self._pointed.clear()
        self._loop.add_reader(self._relay.fileno(), self._relay.read)
        self._end_after(HOLD_SECONDS)

    def release(self) -> None:
        """Hear that the addresses are given away: the next one who claims them gets what was caught."""
        if self._relay is not None:
            self._is_released = True
            self._end_after(RELAY_SECONDS)

    def claim(self, mac: bytes) -> None:
        """Hear that another machine says that it has the addresses."""
        if self._relay is not None and self._is_released:
            self._relay.point_to(mac)
            self._pointed.set()

    def drop(self) -> None:
        """Catch nothing more, and forget what was caught."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._is_released = False
        relay, self._relay = self._relay, None
        if relay is not None:
            self._loop.remove_reader(relay.fileno())
            if relay.sent:
                _log.info("%d connections that began meanwhile were passed on to the other machine", relay.sent)
            relay.close()

    async def close(self) -> None:
        """Give the other machine a moment to announce itself, if something waits for that; then end."""
        if self._relay is not None and self._is_released:
            try:
                await asyncio.wait_for(self._pointed.wait(), LAST_SECONDS)
                await asyncio.sleep(LAST_SECONDS / 4)  # for those who haven't heard the announcement
            except TimeoutError:
                pass
        self.drop()

    def _end_after(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self.drop)
