"""
What the parts of the machine share: its variables, its timers, and the ways from one state to another.

Must not know which event leads where (``machine_backup``, ``machine_master``, and the tables in ``machine``).
"""

from enum import StrEnum

from pyproxy.failover import commands as do
from pyproxy.failover import events as on
from pyproxy.failover import timing
from pyproxy.failover.commands import Command
from pyproxy.failover.duals import DualWatch
from pyproxy.failover.events import State
from pyproxy.failover.packet import Advert
from pyproxy.failover.peer_gateway import PeerGateway
from pyproxy.failover.settings import Settings
from pyproxy.failover.takeover import Facts, PeerFacts, Verdict, fault_cause, is_well

RENEW_GAP = 0.25  # twice a second is enough for any lease

_LASTING = frozenset({"worker"})
_SHORT_LEASE = 1.25  # intervals
_VIPS_RETRY = 10.0


class Timer(StrEnum):
    """What a deadline is for; of two at the same time the first one here comes first."""

    ADVERT = "advert"  # A: the next advert of ours
    DOWN = "down"  # D: the master counts as dead, or the rule is asked again
    DELAY = "delay"  # startup_delay, link_up_delay
    WORKER = "worker"  # no worker for release_when.no_worker
    RENEW = "renew"  # the addresses' lease
    BURST = "burst"  # the second burst of announcements
    REFRESH = "refresh"  # single announcements
    FENCE = "fence"  # a probe or a fence that nobody answered for
    DUAL = "dual"  # no foreign advert came any more
    CONFLICT = "conflict"  # nobody else answered for our addresses any more
    RETRY = "retry"  # addresses that could not be had


class MachineCore:
    """The variables of a machine; ``machine.Machine`` says which of them are for others to read."""

    def __init__(self, settings: Settings, facts: Facts | None = None) -> None:
        self.settings = settings
        self.facts = facts if facts is not None else Facts()
        self.state = State.INIT
        self.reason = "not started"
        self.since = 0.0
        self.released = False
        self.is_draining = False
        self.last_advert: float | None = None
        self.alarms: dict[str, str] = {}
        self.duals = DualWatch()
        self._now = 0.0
        self._out: list[Command] = []
        self._timers: dict[Timer, float] = {}
        self._deadline = 0.0  # of the timer that is being handled
        # what is known of the master
        self._interval = settings.advert_interval  # the master's; ours until one is heard
        self._masters: dict[int, str] = {}  # family → source of its adverts
        self._has_left = False
        self._lower_since: float | None = None  # of adverts that we would preempt
        self._lower_at: float | None = None
        self._lower_interval = 0.0
        # on the way to become master
        self._listening_since = 0.0
        self._overdue: Verdict | None = None
        self._held_since: float | None = None
        self._yielded = ""  # handover | no_backend: to whom we gave the addresses we don't preempt
        self._claiming = ""  # the reason, while we probe or fence
        # as master
        self._is_late = False
        self._renewed_at = 0.0
        self._announced_at = float("-inf")
        self._tie_since: float | None = None
        self._deaf_since: float | None = None  # the peer, to our adverts
        # of the facts
        self._no_worker_since: float | None = None
        self._peer_gateway = PeerGateway()
        self._link_up_at = float("-inf")
        self._was_linked = False
        self._was_down = False  # the interface, during this fault
        self._vips_failed = ""

    def __repr__(self) -> str:
        timers = " ".join(f"{name}@{at:.3f}" for name, at in sorted(self._timers.items(), key=lambda item: item[1]))
        return f"<Machine vrid {self.settings.vrid} {self.state} priority {self.settings.priority} {timers}>"

    def down_interval(self) -> float:
        """How long the master may be silent, by the interval that it uses."""
        settings = self.settings
        return timing.down_interval(settings.version, settings.priority, self._interval, settings.down_adverts)

    def lifetime(self) -> int | None:
        """How many seconds the kernel is to keep the addresses on its own; None is for ever."""
        settings, peer = self.settings, self.facts.linked_peer
        if settings.vip_backend != "netlink":
            return None
        priority = peer.priority if peer else None
        adverts = (peer.down_adverts if peer else None) or min(settings.down_adverts, 3)
        return timing.lease(settings.lease, settings.version, settings.advert_interval, priority, adverts)

    def told(self, now: float) -> PeerFacts:
        """What to tell the other machine over the link."""
        facts = self.facts
        # An advert that is passed over, to preempt its sender, has been heard all the same.
        heard = max((at for at in (self.last_advert, self._lower_at) if at is not None), default=None)
        return PeerFacts(
            state=self.state.value,
            priority=self.settings.priority,
            well=is_well(facts),
            reason=self.reason,
            released=self.released,
            gateway=facts.gateway,
            gateway_age=None if facts.gateway_at is None else now - facts.gateway_at,
            healthy_backends=facts.healthy_backends,
            advert_age=None if heard is None else now - heard,
            down_adverts=self.settings.down_adverts,
            sources=frozenset(facts.sources.values()),
        )

    def _ignore(self, _: object = None) -> None:
        pass

    def _observe(self) -> None:
        """Take from the facts when something began."""
        facts = self.facts
        if facts.ready_workers != 0:
            self._no_worker_since = None
            self._timers.pop(Timer.WORKER, None)
        elif self._no_worker_since is None:
            self._no_worker_since = self._now
            self._arm(Timer.WORKER, self.settings.release_when.no_worker)
        if facts.link == "up":
            self._link_up_at = self._now
        if self._yielded == "no_backend" and facts.healthy_backends != 0:
            self._yielded = ""
        self._peer_gateway.observe(facts, self._now, self._gateway_patience())
        peer = facts.linked_peer
        if peer and peer.state == "master":
            self.released = False

    def _cause(self, *, is_adopting: bool = False) -> str:
        """Why this machine can't take part at present, empty if it can; who adopts goes on as the master that was."""
        wait = self.settings.release_when.no_worker
        since = self._no_worker_since
        if self._vips_failed:
            return f"addresses: {self._vips_failed}"
        return fault_cause(
            self.settings,
            self.facts,
            no_worker=since is not None and self._now >= since + wait,
            is_master=is_adopting or self.state == State.MASTER,
            is_fault=self.state == State.FAULT,
            is_alone=self._peer_gateway.is_confirmed,
        )

    def _gateway_patience(self) -> float:
        """How long it may take until each machine has asked the gateway again and heard what the other one found."""
        link = self.settings.link
        return timing.question_interval(self.down_interval()) + (link.interval if link else 0.0)

    def _arm(self, timer: Timer, delay: float) -> None:
        self._timers[timer] = self._now + delay

    def _to(self, state: State, reason: str) -> None:
        """Change the state; what the old one was waiting for is over."""
        before, self.state, self.reason, self.since = self.state, state, reason, self._now
        self._timers = {timer: at for timer, at in self._timers.items() if timer in _LASTING}
        self._overdue = self._held_since = self._lower_since = self._lower_at = None
        self._claiming = ""
        self._has_left = False
        self.duals.leave(self._now)
        for name in ("split", "isolated", "fence", "one_way", "address_conflict", "dual_master"):
            self._alarm(name, "")
        self._out += [do.TellLink(), do.Notify(state, before, reason)]
        if self.is_draining:
            self.is_draining = False
            self._out.append(do.EndHandover())

    def _alarm(self, name: str, text: str) -> None:
        """Switch an alarm on with a text, or off with an empty one."""
        if text and name not in self.alarms:
            self._out.append(do.Alarm(name, True, text))
        if not text and self.alarms.pop(name, ""):
            self._out.append(do.Alarm(name, False, ""))
        if text:
            self.alarms[name] = text

    def _learn(self, event: on.AdvertHeard) -> None:
        advert = event.advert
        self._interval = advert.interval if advert.version == 3 else self.settings.advert_interval
        self._masters[advert.family] = event.source
        self.last_advert = self._now
        self.released = self._has_left = False
        self._check_addresses(advert)

    def _check_addresses(self, advert: Advert) -> None:
        ours = self.settings.addresses(advert.family)
        if set(advert.addresses) != set(ours):
            theirs = ", ".join(advert.addresses) or "none"
            text = f"the peer says {theirs} over IPv{advert.family}, configured are {', '.join(ours)}"
            self._alarm(f"addresses_v{advert.family}", text)
        else:
            self._alarm(f"addresses_v{advert.family}", "")

    def is_heard(self, now: float) -> bool:
        """Whether there was an advert within the last down interval."""
        return self.last_advert is not None and now - self.last_advert < self.down_interval()

    def _is_heard(self) -> bool:
        return self.is_heard(self._now)

    def _listen_anew(self) -> None:
        """Give the master a whole down interval."""
        self._arm(Timer.DOWN, self.down_interval())
        self._timers.pop(Timer.FENCE, None)
        self._overdue = self._held_since = None
        self._claiming = ""
        for name in ("split", "isolated", "fence"):
            self._alarm(name, "")

    def _claim(self, reason: str, *, is_adopted: bool = False) -> None:
        """Become master: the advert first, so that the old master goes, then the addresses, then everyone is told."""
        settings = self.settings
        self._assert(1 if is_adopted else settings.garp.repeat)
        for family in settings.families:
            self._alarm(f"addresses_v{family}", "")  # of a master that is gone
        self._to(State.MASTER, reason)
        self.released = self._is_late = False
        self._yielded = ""
        self._tie_since = self._deaf_since = None
        self._interval = settings.advert_interval
        self._masters.clear()
        self._was_linked = self.facts.link == "up"
        self._arm(Timer.ADVERT, settings.advert_interval)
        self._arm_renewal()
        if settings.garp.delay and not is_adopted:
            self._arm(Timer.BURST, settings.garp.delay)
        if settings.garp.refresh:
            self._arm(Timer.REFRESH, settings.garp.refresh)

    def _assert(self, repeat: int) -> None:
        """Say that we are master, have the addresses, and say where they are."""
        vips = self.settings.virtual_ips
        self._out += [do.SendAdvert(self.settings.priority), do.AddVips(vips, self.lifetime())]
        self._out.append(do.Announce(vips, repeat))
        self._renewed_at = self._announced_at = self._now

    def _arm_renewal(self) -> None:
        """
        Renew between two adverts, but only a lease that is too short to be renewed with each of them.

        What is renewed later than the last advert ends later than the peer expects who counts from that advert.
        """
        lifetime = self.lifetime()
        if lifetime is not None and lifetime < _SHORT_LEASE * self.settings.advert_interval:
            self._arm(Timer.RENEW, lifetime / 3)

    def _release(self) -> None:
        """Give the addresses away on purpose; the change of state is the caller's."""
        self._out += [do.SendAdvert(0), do.RemoveVips(self.settings.virtual_ips)]
        self.released = True

    def _enter_fault(self, cause: str) -> None:
        self._was_down = not self.facts.own_link_up
        self._to(State.FAULT, cause)
        if self._vips_failed:
            self._arm(Timer.RETRY, _VIPS_RETRY)

    def _listen_as_backup(self, reason: str) -> None:
        self._to(State.BACKUP, reason)
        self._listen_anew()
