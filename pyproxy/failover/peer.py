"""
The link as the speaker uses it: our state goes out, the other machine's facts come in.

Must not know the link's protocol (``link``), nor what follows from what it says.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pyproxy.clock import monotonic
from pyproxy.failover.link import Link
from pyproxy.failover.machine import Machine
from pyproxy.failover.report import Report
from pyproxy.failover.settings import Settings
from pyproxy.failover.takeover import peer_from_plain, peer_to_plain

_log = logging.getLogger(__name__)


class PeerLink:
    """
    Our end of the link, or of none if none is configured; made inside a running event loop.

    ``before`` is called before a fact changes, so that packets that came first are seen first, ``after`` then.
    """

    def __init__(
        self,
        machine: Machine,
        report: Report,
        tell: Callable[[dict[str, Any]], object],
        before: Callable[[], None],
        after: Callable[[], None],
    ) -> None:
        self.is_stopping = False  # the whole program, soon: then nobody should hand us anything
        self.config_digest: str | None = None
        self._machine = machine
        self._report = report
        self._tell = tell
        self._before = before
        self._after = after
        self._link: Link | None = None
        self._beat: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<PeerLink {self._link!r}>"

    async def start(self, key: bytes, boot_id: str) -> None:
        """Begin to speak and to listen, where a link is configured."""
        settings = self._machine.settings.link
        if settings is None:
            return
        self._machine.facts.link = "dead"
        self._link = Link(settings, key, boot_id, self._on_state, self._on_message, self._on_connect)
        self._on_beat()
        await self._link.start()

    def announce(self) -> None:
        """Tell the other machine how we are, now."""
        if self._link is None:
            return
        told = self._machine.told(monotonic())
        if self.is_stopping:
            told = replace(told, well=False, reason="it is stopping")
        self._link.announce({**peer_to_plain(told), "config_digest": self.config_digest})

    def adapt(self, settings: Settings) -> None:
        """Follow new settings, whose link has the addresses and the key that it had."""
        if self._link is not None and settings.link is not None:
            self._link.adapt(settings.link)

    def send(self, kind: str, body: Any) -> None:
        """Send a message of the supervisor's; without a connection it is lost, and all is sent after the next."""
        if self._link is not None:
            self._link.send(kind, body)

    def to_plain(self) -> dict[str, Any] | None:
        """Write how the link is as JSON can hold it."""
        return None if self._link is None else self._link.facts().to_plain()

    async def close(self) -> None:
        """Close the link; what was announced last still arrives."""
        if self._beat is not None:
            self._beat.cancel()
        if self._link is not None:
            await self._link.close()

    def _on_beat(self) -> None:
        """Keep the ages fresh that are told."""
        assert self._machine.settings.link is not None
        self._beat = asyncio.get_running_loop().call_later(self._machine.settings.link.interval, self._on_beat)
        if self._link is not None:
            self._machine.facts.link_fault = self._link.fault
        self.announce()

    def _on_state(self, state: dict[str, Any] | None) -> None:
        self._before()
        facts = self._machine.facts
        facts.link = "dead" if state is None else "up"
        facts.link_fault = self._link.fault if self._link is not None else ""
        if state is not None:
            digest = state.get("config_digest")
            self._report.peer_digest = digest if isinstance(digest, str) else None
            try:
                facts.peer = peer_from_plain(state)
            except ValueError as error:
                _log.warning("the peer says of itself what can't be understood: %s", error)
        self._after()

    def _on_message(self, kind: str, body: Any) -> None:
        self._tell({"type": "peer_in", "kind": kind, "body": body})

    def _on_connect(self) -> None:
        self._tell({"type": "peer_connected"})
