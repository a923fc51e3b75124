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
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pyproxy.clock import monotonic
from pyproxy.errors import VipFailed
from pyproxy.failover import adoption
from pyproxy.failover import commands as do
from pyproxy.failover import events as on
from pyproxy.failover.adverts import Adverts
from pyproxy.failover.background import boottime
from pyproxy.failover.dialect import Dialect
from pyproxy.failover.events import State
from pyproxy.failover.hands import Hands, Tools, addresses_of
from pyproxy.failover.jobs import Jobs, Result, has_commands
from pyproxy.failover.machine import Machine
from pyproxy.failover.neighbour import Claim, show_mac
from pyproxy.failover.netlink import AddressState
from pyproxy.failover.notify import Notifier
from pyproxy.failover.overdue import OverdueWatch
from pyproxy.failover.peer import PeerLink
from pyproxy.failover.relaying import Relaying
from pyproxy.failover.report import Report, no_master
from pyproxy.failover.saved import Keeper, Saved
from pyproxy.failover.settings import Settings, VirtualIp
from pyproxy.failover.surroundings import Surroundings
from pyproxy.failover.takeover import serves_elsewhere
from pyproxy.failover.vips import KernelVips, make_vips

STATUS_EVERY = 1.0
COLLECT_EVERY = 60.0  # seconds between two collections of garbage
ASK_AROUND_EVERY = 10.0  # whether another machine has the addresses, where the kernel doesn't say that we have them
SUSPENDED = 0.1  # seconds that CLOCK_BOOTTIME runs ahead by until that counts as a suspension
GUARDS_SECONDS = 1.0  # that the start waits for the guards
OWNER = 255  # the priority of a machine that has the addresses as its own
END_SECONDS = 0.5  # for commands when we end; what takes longer the runner does after us
#: Settings that a running speaker can't change: too much was built on them.
FIXED = (
    *("interface", "vrid", "version", "virtual_ips", "vip_backend", "vip_exec"),
    *("guards", "witnesses", "gateway"),
    *("track", "track_interfaces"),
)

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
    saved: Saved | None = None  # what the one before could be gone on from, as the supervisor knows it


class Speaker:
    """
    One machine's speaker; made and used inside one event loop.

    ``tell`` takes messages for the supervisor. ``jobs`` is None where no command is configured.
    """

    def __init__(self, beginning: Beginning, jobs: Jobs | None, tell: Callable[[dict[str, Any]], object]) -> None:
        settings = beginning.settings
        self.machine = Machine(settings)
        self._beginning = beginning
        self._tell = tell
        self._jobs = jobs
        self._loop = asyncio.get_running_loop()
        self._events: deque[on.Event] = deque()
        self._is_busy = self._is_started = self._is_ended = False
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._deadline: float | None = None
        self._overdue = OverdueWatch(self._loop, self._drain, self._on_overdue)
        self._status: asyncio.Handle | None = None
        self._asking: asyncio.Task[None] | None = None
        self._strays: list[VirtualIp] = []  # as was seen last
        self._alarms: dict[str, str] = {}  # beside the machine's
        self._ahead = boottime() - monotonic()
        self._collected_at = self._asked_at = monotonic()
        self._report = Report()
        self.facts_version: int | None = None  # of what the supervisor told last
        self._around = Surroundings(
            settings,
            self._run_guard,
            self.machine.down_interval(),
            self.machine.facts,
            self._on_facts,
            self._on_claim,
        )
        dialect = Dialect(settings, beginning.advert_keys)
        self._relaying = Relaying(self._around.interface, addresses_of(settings.virtual_ips))
        self._adverts = Adverts(dialect, self._around.interface, self._on_packets)
        self._vips = make_vips(settings, self._around.netlink, self._around.interface, jobs)
        self._notifier = Notifier(settings, jobs)
        tools = Tools(self._adverts, self._vips, self._around.neighbours, self._notifier, self._report, jobs)
        self._peer = PeerLink(self.machine, self._report, tell, self._drain, self._on_peer)
        self._hands = Hands(self.machine, tools, self.handle, tell, self._peer.announce)
        self._keeper = Keeper(beginning.directory, beginning.digest, self.machine.down_interval(), beginning.saved)

    def __repr__(self) -> str:
        return f"<Speaker {self.machine!r}>"

    async def start(self) -> None:
        """Begin, as the successor of a speaker that was master a moment ago if there was one."""
        self._adverts.refresh()
        self._look_at_link_up()
        self._around.start()
        self._around.apply()
        lease = self.machine.lifetime() if isinstance(self._vips, KernelVips) else None
        refusal = await adoption.refusal(
            self._keeper, lease, self.machine.settings.advert_interval, self._adoption_obstacle
        )
        if refusal:
            _log.info("nothing to adopt: %s", refusal)
            await self._around.look_for_strangers(lambda: self._report.heard_at is not None)
            await self._around.guards.settle(GUARDS_SECONDS)
        self._around.apply()
        self._is_started = True
        self._drain()
        self.handle(on.Start(adopt=not refusal))
        self._loop.add_reader(self._around.interface.monitor.fileno(), self._on_kernel)
        self._on_kernel()
        self._on_second()
        await self._peer.start(self._beginning.link_key, self._beginning.boot_id)

    def _adoption_obstacle(self) -> str:
        """Say what keeps this process from going on as master at present, "" if nothing does."""
        if isinstance(self._vips, KernelVips) and self._vips.missing(self.machine.active_vips):
            return "the addresses are gone"
        if not self.machine.facts.own_link_up:
            return self.machine.facts.own_link_fault
        self._drain()
        heard = (event.advert for event in self._events if isinstance(event, on.AdvertHeard))
        return "another master is heard" if any(advert.priority for advert in heard) else ""

    async def stop(self, reason: str) -> None:
        """Give the addresses away and end; returns when that is done. May be called again."""
        if self._is_ended:
            return
        self._is_ended = True
        self._drain()
        self.handle(on.Stop(reason))
        for timer in self._timers.values():
            timer.cancel()
        self._overdue.close()
        await self._relaying.close()
        self._adverts.close()
        if self._asking is not None:
            self._asking.cancel()
        await self._vips.close()
        await self._peer.close()
        self._loop.remove_reader(self._around.interface.monitor.fileno())
        await self._around.close()
        await self._hands.close()
        if self._jobs is not None:
            await self._jobs.settle(END_SECONDS)
        self._keeper.close(END_SECONDS)

    # --- to and from the machine --------------------------------------------------------------------------------------

    def handle(self, event: on.Event) -> None:
        """Let the machine handle an event, after those that came before, and do what it wants done."""
        self._events.append(event)
        if self._is_busy or not self._is_started:
            return
        self._is_busy = True
        try:
            while self._events:
                before = self._picture()
                for command in self.machine.handle(self._events.popleft(), monotonic()):
                    self._hands.carry_out(command)
                if self._picture() != before:
                    self._tell_soon()
                if self.machine.state != before[0]:
                    self._enter(self.machine.state)
        finally:
            self._is_busy = False
            self._arm()

    def _picture(self) -> tuple[State, str, int, bool]:
        """Give what the supervisor wants to hear of at once."""
        machine = self.machine
        return machine.state, machine.reason, len(machine.alarms), machine.is_draining

    def _enter(self, state: State) -> None:
        self._keeper.enter(state.value)

    def _arm(self) -> None:
        """Keep one timer for the machine's next deadline."""
        deadline = None if self._is_ended else self.machine.next_deadline()
        if deadline == self._deadline:
            return
        self._deadline = deadline
        if (timer := self._timers.pop("machine", None)) is not None:
            timer.cancel()
        if deadline is not None:
            self._timers["machine"] = self._loop.call_at(deadline, self._on_deadline)

    def _on_deadline(self) -> None:
        self._deadline = None
        self._catch_up()

    def _catch_up(self) -> None:
        """See what has happened, and only then what time it is."""
        self._drain()
        deadline = self.machine.next_deadline()
        if deadline is not None and deadline <= monotonic():
            self.handle(on.Tick())
        else:
            self._arm()

    def _drain(self) -> None:
        ahead = boottime() - monotonic()
        asleep, self._ahead = ahead - self._ahead, ahead
        if asleep > SUSPENDED:
            _log.warning("this machine was suspended for %.3g s", asleep)
            self.handle(on.Resumed(asleep))
        for advert, source in self._adverts.read():
            event = on.AdvertHeard(advert, source)
            if not self.machine.is_strange(event):
                self._report.hear(source)
                self._overdue.hear(advert.interval)
            self.handle(event)

    def _on_overdue(self, heard: float) -> None:
        """Find out whether we are cut off, so that it is known when the down timer ends."""
        if self.machine.state == State.BACKUP:
            self._around.hurry(heard + self.machine.down_interval() - monotonic())

    def _on_facts(self) -> None:
        """Take over what has changed around us."""
        if not self._is_started:
            return
        self._drain()
        is_changed = self._look_at_link_up()
        if self._around.apply() or is_changed:
            self._peer.announce()  # the other machine is to know before it hears what we make of it
            self.handle(on.FactsChanged())

    def _look_at_link_up(self) -> bool:
        facts, interface = self.machine.facts, self._around.interface
        before = facts.own_link_up, facts.own_link_fault
        facts.own_link_fault = interface.fault
        if not facts.own_link_fault and not self._adverts.is_ready:
            facts.own_link_fault = f"no socket to speak VRRP on {interface.name} can be opened"
        facts.own_link_up = not facts.own_link_fault
        return (facts.own_link_up, facts.own_link_fault) != before

    # --- what comes in ------------------------------------------------------------------------------------------------

    def _on_packets(self) -> None:
        self._drain()

    def _on_kernel(self) -> None:
        """Hear of the interface and its addresses; what is late comes before what the kernel has done about it."""
        self._catch_up()
        interface = self._around.interface
        was_up, mac, index = interface.is_up, interface.mac, interface.index
        gone: list[AddressState] = []
        is_changed = interface.read_events(gone.append)
        if is_changed:
            self._adverts.refresh()
            self._around.adapt(was_up=was_up)
            self._on_facts()
        is_remade = interface.is_up and interface.index != index
        if (interface.has_missed_events or is_remade) and self._vips.is_held:  # an address may be gone
            vips = self.machine.active_vips
            self._hands.carry_out(do.AddVips(vips, self.machine.lifetime()))
            self._hands.carry_out(do.Announce(vips, 1))
        if interface.mac != mac and self._vips.is_held:
            self._around.neighbours.announce(addresses_of(self.machine.active_vips))
        for event in gone:
            self._put_back(event)

    def _put_back(self, event: AddressState) -> None:
        try:
            if self._vips.lost(event, monotonic()):
                settings = self.machine.settings
                self._around.neighbours.announce(addresses_of(settings.virtual_ips), settings.garp.repeat)
        except VipFailed as error:
            _log.error("%s", error)
            self.handle(on.VipsFailed(str(error)))

    def _on_peer(self) -> None:
        self.handle(on.FactsChanged())

    def _on_claim(self, claim: Claim) -> None:
        if self.machine.state == State.MASTER:
            self._drain()
            self.handle(on.ConflictSeen(str(claim.address), show_mac(claim.mac)))
        else:
            self._relaying.claim(claim.mac)

    async def _run_guard(self, run: Sequence[str], timeout: float) -> Result:
        assert self._jobs is not None
        return await self._jobs.run(run, timeout)

    # --- the supervisor -----------------------------------------------------------------------------------------------

    def on_message(self, message: dict[str, Any]) -> None:
        """Take a message of the supervisor, other than ``start`` and ``stop``."""
        self._drain()
        match message["type"]:
            case "facts":
                self.take_facts(message)
            case "peer_out":
                self._peer.send(str(message["kind"]), message["body"])
            case "handover":
                self.handle(on.HandoverRequested(str(message.get("reason") or "handed over")))
            case "hold_syns":
                self._relaying.hold()
            case "pass_syns":
                self._relaying.drop()
            case "handover_ready":
                self.handle(on.DrainDone())
                if self.machine.state != State.MASTER:
                    self._relaying.release()
            case kind:
                _log.error("the supervisor says %r, which means nothing here", kind)

    def take_facts(self, message: dict[str, Any]) -> None:
        """Take what the supervisor says of the program; may be called before ``start``."""
        self.facts_version = message.get("version")
        facts = self.machine.facts
        facts.ready_workers = message["ready_workers"]
        facts.healthy_backends = message["healthy_backends"]
        self._peer.is_stopping = bool(message["stopping"])
        self._peer.config_digest = message.get("config_digest")
        self.handle(on.FactsChanged())
        self._peer.announce()

    def saved(self) -> dict[str, Any] | None:
        """Give what a successor could go on from, as JSON can hold it."""
        saved = self._keeper.now()
        return None if saved is None or self._is_ended else asdict(saved)

    def note_supervisor(self, *, hangs: bool) -> None:
        """Take note whether the supervisor hangs."""
        if hangs != self.machine.facts.supervisor_hangs:
            self._drain()
            self.machine.facts.supervisor_hangs = hangs
            self._set_alarm("supervisor", "the supervisor hangs: nobody replaces a worker that ends" if hangs else "")
            self.handle(on.FactsChanged())
            self._peer.announce()

    @property
    def is_needed(self) -> bool:
        """Whether clients may have nobody but this machine: it is master, or knows of no other one that serves."""
        if self.machine.state != State.BACKUP:
            return self.machine.state == State.MASTER
        return not serves_elsewhere(self.machine.facts, is_heard=self.machine.is_heard(monotonic()))

    def _set_alarm(self, name: str, text: str) -> None:
        """Begin or end an alarm that the machine knows nothing of."""
        if text == self._alarms.get(name, ""):
            return
        if text:
            self._alarms[name] = text
        else:
            del self._alarms[name]
        self._tell(self._report.alarm(name, text))
        self._tell_soon()

    def reconfigure(self, beginning: Beginning) -> bool:
        """Go on with other settings; False, and nothing is changed, if that takes another process."""
        old, new = self.machine.settings, beginning.settings
        if any(getattr(old, name) != getattr(new, name) for name in FIXED):
            return False
        if self._jobs is None and has_commands(new):
            return False
        if (old.link and old.link.ends) != (new.link and new.link.ends):
            return False
        self._drain()
        self._adverts.reconfigure(Dialect(new, beginning.advert_keys))
        self._notifier.settings = new
        self._peer.adapt(new)
        self.handle(on.Reconfigured(new))
        self._keeper.digest, self._keeper.freshness = beginning.digest, self.machine.down_interval()
        self._tell_soon()
        return True

    def _tell_soon(self) -> None:
        """Tell the supervisor how things are, once for all that happens in this turn of the loop."""
        if self._status is None and not self._is_ended:
            self._status = self._loop.call_soon(self._tell_status)

    def _tell_status(self) -> None:
        self._status = None
        self._tell(
            {
                "type": "status",
                **self._report.view(self.machine, monotonic(), self._alarms),
                "vip_present": self._vips.is_present,
                "link": self._peer.to_plain(),
                "guards": self._around.guards.to_plain(),
                "tracks": self._around.tracks.to_plain(),
                "witness_states": self._around.witnesses.to_plain(),
                "rejected": self._adverts.rejected,
            }
        )

    # --- once a second ------------------------------------------------------------------------------------------------

    def _on_second(self) -> None:
        self._timers["second"] = self._loop.call_later(STATUS_EVERY, self._on_second)
        self._catch_up()
        if not self.machine.facts.own_link_up:  # a socket that couldn't be opened is tried again
            self._adverts.refresh()
            self._on_facts()
        now = monotonic()
        if now - self._collected_at >= COLLECT_EVERY:
            self._collected_at = now
            gc.collect()
        if not isinstance(self._vips, KernelVips) and now - self._asked_at >= ASK_AROUND_EVERY:
            self._asked_at = now
            self._asking = asyncio.ensure_future(self._ask_around())
        self._set_alarm("state_file", self._keeper.problem)
        self._set_alarm("no_master", no_master(self.machine, now))
        self._look_for_strays()
        self._tell_soon()

    def _look_for_strays(self) -> None:
        """Say which of the addresses somebody else has put here; not in the moment in which they come or go."""
        if not isinstance(self._vips, KernelVips) or self.machine.settings.priority == OWNER:
            return
        before, self._strays = self._strays, self._vips.strays(self.machine.settings.virtual_ips)
        lasting = ", ".join(str(vip) for vip in self._strays if vip in before)
        state = self.machine.state.value
        self._set_alarm("stray_address", f"{lasting} is here without us, who are {state}" if lasting else "")

    async def _ask_around(self) -> None:
        """Where others move the addresses: find out whether another machine has them while we are master."""
        if self.machine.state != State.MASTER:
            return
        holder = await self._around.find_holder()
        if holder is not None and self.machine.state == State.MASTER:
            self.handle(on.ConflictSeen(self.machine.settings.virtual_ips[0].address, holder))
