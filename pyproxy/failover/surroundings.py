"""
What this machine finds around it: interface, gateway, witnesses, guards, tracks, and who has the addresses.

Must not know states: it keeps the facts that rules are applied to, and says when one of them has changed.

**Strangers.** Before the first claim in a process's life somebody else may have the addresses by mistake, or a master
whose adverts don't come through. So they are asked for once at the start. Whoever answers is taken for the master as
long as an advert is heard before the first down interval is nearly over; if none is, this machine is kept out as by a
guard, and asks again every second. Later no such question comes before a takeover, which it would delay.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_address

from pyproxy.clock import monotonic
from pyproxy.failover.gateway import GatewayWatch
from pyproxy.failover.guards import Guards
from pyproxy.failover.interface import Interface
from pyproxy.failover.jobs import Result
from pyproxy.failover.neighbour import Claim
from pyproxy.failover.neighbours import Neighbours
from pyproxy.failover.netlink import Ip
from pyproxy.failover.netlink_socket import Netlink
from pyproxy.failover.settings import Settings
from pyproxy.failover.takeover import Facts
from pyproxy.failover.tracks import Tracks
from pyproxy.failover.witness import Witnesses

PATIENCE = 0.8  # of the first down interval, in which a master has to be heard
ASK_AGAIN = 1.0

_log = logging.getLogger(__name__)


class Surroundings:
    """
    See the module's docstring; made inside a running event loop.

    ``run`` runs a command. ``facts`` are changed by ``apply``, and ``on_change`` is called when there is a reason to;
    only when the gateway or a witness answered last is written at once. ``on_claim`` is called when another machine
    claims one of the addresses.
    """

    def __init__(
        self,
        settings: Settings,
        run: Callable[[Sequence[str], float], Awaitable[Result]],
        down_interval: float,
        facts: Facts,
        on_change: Callable[[], None],
        on_claim: Callable[[Claim], None],
    ) -> None:
        self.netlink = Netlink()
        self.interface = Interface(settings, self.netlink)
        self.neighbours = Neighbours(self.interface, self._on_claim)
        loop = asyncio.get_running_loop()
        self.gateway = GatewayWatch(self._find_gateway, self.neighbours.ask, on_change, down_interval, loop)
        self.guards = Guards(settings.guards, run, on_change)
        self.tracks = Tracks(settings.track, run, on_change)
        self.witnesses = Witnesses(settings.witnesses, on_change, self._on_witness)
        self._settings = settings
        self._facts = facts
        self._down_interval = down_interval
        self._on_change = on_change
        self._on_vip_claim = on_claim
        self._stranger = ""  # who has the addresses and doesn't speak VRRP, in words
        self._search: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Surroundings {self.interface!r} {self.gateway!r} {self.guards!r} {self.witnesses!r}>"

    def start(self) -> None:
        """Begin to watch."""
        self._find_gateway()
        self.guards.start()
        self.tracks.start()
        self.witnesses.start()
        self.hurry(PATIENCE * self._down_interval)

    def apply(self) -> bool:
        """Write what is known into the facts; whether any of them changed."""
        facts = self._facts
        seen = (dict(self.interface.sources), self.gateway.is_ok, self.witnesses.verdict(), self._stranger)
        impaired = self.tracks.failure() or self.interface.lost_track or self.guards.lasting_failure()
        lowered = impaired, self.tracks.lowered()
        found = (*seen, *self.guards.verdict()), lowered
        before = (facts.sources, facts.gateway, facts.witnesses, facts.stranger, facts.guards, facts.guard_reason)
        was_lowered = facts.impaired, facts.lowered
        facts.sources, facts.gateway, facts.witnesses, facts.stranger, facts.guards, facts.guard_reason = found[0]
        facts.impaired, facts.lowered = lowered
        facts.gateway_at, facts.witnesses_at = self.gateway.answered_at, self.witnesses.answered_at
        return found != (before, was_lowered)

    def adapt(self, *, was_up: bool) -> None:
        """Follow a change of the interface."""
        self.neighbours.refresh()
        if self.interface.is_up and not was_up and self._settings.gateway != "off":
            self.gateway.start()

    def hurry(self, seconds: float) -> None:
        """Find out within so many seconds whether we are connected."""
        if self._settings.gateway != "off":
            self.gateway.hurry(seconds)
        self.witnesses.hurry(seconds)

    async def look_for_strangers(self, is_heard: Callable[[], bool]) -> None:
        """
        Ask who has the addresses, and go on in the background if somebody has.

        ``is_heard`` tells whether a master has ever been heard. Returns when the first question is answered.
        """
        if self._settings.vip_backend != "netlink" or self._settings.priority == 255:
            return
        judged_at = monotonic() + PATIENCE * self._down_interval
        holder = await self.find_holder()
        if holder is not None:
            self._search = asyncio.ensure_future(self._judge(holder, judged_at, is_heard))

    async def close(self) -> None:
        """Watch nothing any more."""
        if self._search is not None:
            self._search.cancel()
            await asyncio.gather(self._search, return_exceptions=True)
        self.gateway.stop()
        await self.guards.close()
        await self.tracks.close()
        await self.witnesses.close()
        self.neighbours.close()
        self.interface.close()
        self.netlink.close()

    async def _judge(self, holder: str | None, at: float, is_heard: Callable[[], bool]) -> None:
        await asyncio.sleep(at - monotonic())
        while holder is not None and not is_heard():
            self._suspect(f"{holder} has the addresses, but no advert of it is heard")
            await asyncio.sleep(ASK_AGAIN)
            holder = await self.find_holder()
        self._suspect("")

    def _suspect(self, stranger: str) -> None:
        if stranger != self._stranger:
            self._stranger = stranger
            _log.warning("%s", stranger or "nobody unknown has the addresses any more")
            self._on_change()

    async def find_holder(self) -> str | None:
        """Ask who else has any of the addresses; its MAC."""
        return await self.neighbours.find_holder(ip_address(vip.address) for vip in self._settings.virtual_ips)

    def _find_gateway(self) -> Ip | None:
        """Find the gateway to ask, and listen for its answers."""
        wanted, found = self._settings.gateway, None
        if wanted == "auto":
            gateways = (self.netlink.gateway(self.interface.index, family) for family in self._settings.families)
            found = next((gateway for gateway in gateways if gateway is not None), None)
        elif wanted != "off":
            found = ip_address(wanted)
        addresses: set[Ip] = {ip_address(vip.address) for vip in self._settings.virtual_ips}
        self.neighbours.watch(addresses | ({found} if found is not None else set()))
        return found

    def _on_witness(self) -> None:
        self._facts.witnesses_at = self.witnesses.answered_at

    def _on_claim(self, claim: Claim) -> None:
        if claim.address == self.gateway.address:
            self.gateway.answered()
            self._facts.gateway_at = self.gateway.answered_at
        else:
            self._on_vip_claim(claim)
