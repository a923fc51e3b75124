"""
The speaker: feeds the machine with what happens and carries out what it wants done.

Must not know VRRP's rules (``machine``, ``takeover``), nor the line to the supervisor (``__main__``).

Theory of operation
===================
Everything happens in one event loop, in plain calls; a coroutine only waits for something slow that the state
doesn't hang on (a probe, a fence, the end). Whatever comes in (a packet, the kernel's news, a word over the link, a
timer) goes the same way::

    drain the VRRP sockets → set facts → machine.handle(event) → carry out its commands → arm one timer

**Draining first** is what makes a stall harmless. When this process was held up, its timers are late, its lease may
have expired and the sockets are full; all become due in the same moment, and the adverts are to be seen before any of
the others is acted upon. So a late down timer finds the advert that came in time, and a master that slept hears its
successor before it puts back an address that the kernel has taken away.

**Commands that bring events** (an address that can't be added) don't recurse: events wait in a queue until the
commands of the one before are done, because the machine wants them carried out in their order.
"""

import asyncio
import gc
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from pyproxy.clock import monotonic
from pyproxy.errors import VipFailed
from pyproxy.failover import events as on
from pyproxy.failover import saved
from pyproxy.failover.adverts import Adverts
from pyproxy.failover.background import Background, boottime
from pyproxy.failover.dialect import Dialect
from pyproxy.failover.events import State
from pyproxy.failover.gateway import GatewayWatch
from pyproxy.failover.guards import Guards
from pyproxy.failover.hands import Hands, Tools, addresses_of
from pyproxy.failover.interface import Interface
from pyproxy.failover.jobs import Jobs, Result
from pyproxy.failover.link import Link
from pyproxy.failover.machine import Machine
from pyproxy.failover.neighbour import Claim, show_mac
from pyproxy.failover.neighbours import Neighbours
from pyproxy.failover.netlink import AddressState, Ip
from pyproxy.failover.netlink_socket import Netlink
from pyproxy.failover.notify import Notifier
from pyproxy.failover.report import Report, peer_from_plain, peer_to_plain
from pyproxy.failover.settings import Settings
from pyproxy.failover.vips import make_vips
from pyproxy.failover.witness import Witnesses

STATUS_EVERY = 1.0
COLLECT_EVERY = 60.0
ASK_AROUND_EVERY = 10.0  # whether another machine has the addresses, where the kernel doesn't say that we have them
SUSPENDED = 0.1  # seconds that CLOCK_BOOTTIME runs ahead by until that counts as a suspension
END_SECONDS = 10.0  # for what still has to run when we end

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a speaker is made of: the start message, read."""

    settings: Settings
    digest: str  # of the settings
    advert_keys: tuple[tuple[int, bytes], ...]
    link_key: bytes
    boot_id: str
    directory: Path


class Speaker:
    """
    One machine's speaker; made and used inside one event loop.

    ``tell`` takes messages for the supervisor. ``jobs`` is None where no command is configured.
    """

    def __init__(self, beginning: Beginning, jobs: Jobs | None, tell: Callable[[dict[str, Any]], object]) -> None:
        settings = beginning.settings
        self._beginning = beginning
        self._digest = beginning.digest
        self._tell = tell
        self._jobs = jobs
        self._loop = asyncio.get_running_loop()
        self._events: deque[on.Event] = deque()
        self._is_busy = self._is_started = self._is_ended = self._is_stopping = False
        self._timer: asyncio.TimerHandle | None = None
        self._status_timer: asyncio.Handle | None = None
        self._ahead = boottime() - monotonic()
        self._collected = self._asked_around = self._saved_at = monotonic()
        self._background = Background("state")
        self._netlink = Netlink()
        self._interface = Interface(settings, self._netlink)
        self.machine = Machine(settings)
        self._dialect = Dialect(settings, beginning.advert_keys)
        self._adverts = Adverts(self._dialect, self._interface, self._on_packets)
        self._neighbours = Neighbours(self._interface, self._on_claim)
        self._gateway = GatewayWatch(
            self._find_gateway, self._neighbours.ask, self._on_gateway, self.machine.down_interval()
        )
        self._guards = Guards(settings.guards, self._run_guard, self._on_guards)
        self._witnesses = Witnesses(settings.witnesses, self._on_witnesses)
        self._vips = make_vips(settings, self._netlink, self._interface, jobs)
        self._report = Report()
        self._notifier = Notifier(settings, jobs)
        self._link = self._make_link()
        tools = Tools(self._adverts, self._vips, self._neighbours, self._notifier, self._report, jobs)
        self._hands = Hands(self.machine, tools, self.handle, tell, self._tell_link)
