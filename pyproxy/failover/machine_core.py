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
from pyproxy.failover.reach import Comparison
from pyproxy.failover.settings import Settings, VirtualIp
from pyproxy.failover.strangers import contradiction, stranger_word
from pyproxy.failover.takeover import (
    Facts,
    PeerFacts,
    Verdict,
    family_word,
    fault_cause,
    is_isolated,
    is_well,
    silence_word,
)

RENEW_GAP = 0.25  # twice a second is enough for any lease

_LASTING = frozenset({"worker", "stranger", "doubt"})
_LEAST_PRIORITY = 1
_DOUBT = 0.25  # seconds, at least, that the link's word may come after an advert
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
    STRANGER = "stranger"  # nobody but the peer was heard any more
    DOUBT = "doubt"  # the link didn't say what an advert said


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
        self._has_given_up = False  # what fails that is tracked has made us go, and no peer said that it is better off
        self._yielded = ""  # handover | no_backend: to whom we gave the addresses we don't preempt
        self._claiming = ""  # the reason, while we probe or fence
        # as master
        self._is_late = False
        self._renewed_at = 0.0
        self._announced_at = float("-inf")
        self._tie_since: float | None = None
        self._deaf_since: float | None = None  # the peer, to our adverts
        self._answered_at = float("-inf")  # when an advert of somebody was answered with one of ours
        self._held = settings.virtual_ips  # the addresses that we have while we are master
        self._blind_until = float("-inf")
        self._handover_reason = ""
        # of the facts
        self._doubted: on.AdvertHeard | None = None
        self._no_worker_since: float | None = None
        self._gateway_sign, self._witness_sign = Comparison(), Comparison()
        self._word: PeerFacts | None = None  # the peer's last one, which says nothing new when it is looked at again
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
        return timing.down_interval(settings.version, self.own_priority, self._interval, settings.down_adverts)

    @property
    def priority(self) -> int:
        """
        What our adverts say.

        It is the lowest for a master that took the addresses although it reaches nobody, and until it has listened
        for a down interval after that: every other master is a better one.
        """
        return _LEAST_PRIORITY if self._now < self._blind_until else self.own_priority

    @property
    def own_priority(self) -> int:
        """The configured priority, lowered by tracks that fail."""
        return max(self.settings.priority - self.facts.lowered, _LEAST_PRIORITY)

    @property
    def active_vips(self) -> tuple[VirtualIp, ...]:
        """The addresses that a master holds: of the families that it can speak VRRP in, if the kernel has them."""
        if self.settings.vip_backend != "netlink":
            return self.settings.virtual_ips
        return tuple(vip for vip in self.settings.virtual_ips if vip.family in self.facts.sources)

    def is_strange(self, event: on.AdvertHeard) -> bool:
        """Whether an advert is known to be of somebody who isn't the peer."""
        return bool(stranger_word(self.settings, self.facts, event.advert, event.source))

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
            priority=self.priority,
            well=is_well(facts),
            reason=self.reason,
            released=self.released,
            gateway=facts.gateway,
            gateway_age=None if facts.gateway_at is None else now - facts.gateway_at,
            witnesses=facts.witnesses,
            witnesses_age=None if facts.witnesses_at is None else now - facts.witnesses_at,
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
        if self._yielded == "family" and len(facts.sources) >= len(self.settings.families):
            self._yielded = ""
        self._has_given_up = self._has_given_up and bool(facts.impaired)
        self._compare_signs()
        self._unlearn_strangers()
        peer = facts.linked_peer
        if peer and peer.state == "master":
            self.released = False
        if self._now < self._blind_until and is_isolated(self.settings, facts):
            self._blind_until = self._now + self.down_interval()
        self._alarm("gateway", silence_word(self.settings, facts))
        self._alarm("family", family_word(self.settings, facts))

    def _compare_signs(self) -> None:
        facts, peer, now = self.facts, self.facts.linked_peer, self._now
        is_new, self._word = peer is not self._word, peer
        link = self.settings.link
        beat = link.interval if link else 0.0
        theirs = peer or PeerFacts("init", 0, False)
        patience = timing.question_interval(self.down_interval()) + beat
        self._gateway_sign.observe(
            facts.gateway, theirs.gateway, theirs.gateway_age, now, patience, is_new=is_new and peer is not None
        )
        patience = timing.WITNESS_SECONDS + beat
        self._witness_sign.observe(
            facts.witnesses, theirs.witnesses, theirs.witnesses_age, now, patience, is_new=is_new and peer is not None
        )

    # --- strangers ----------------------------------------------------------------------------------------------------

    def _is_refused(self, event: on.AdvertHeard) -> bool:
        """Whether an advert isn't the peer's, which is told."""
        word = stranger_word(self.settings, self.facts, event.advert, event.source)
        if word:
            self._suspect(word, event.advert)
        return bool(word)

    def _is_doubted(self, event: on.AdvertHeard) -> bool:
        """
        Whether the link says otherwise than an advert from the peer's address: then the link is believed.

        The advert may have come first. When the link says the same in a moment, the advert counts (``_recall``).
        """
        if not contradiction(self.facts, event.advert, event.source):
            return False
        if self._doubted is None:
            link = self.settings.link
            self._arm(Timer.DOUBT, max(2 * link.interval if link else 0.0, _DOUBT))
        self._doubted = event
        return True

    def _recall(self) -> on.AdvertHeard | None:
        """Give the advert that came before the word of the link that confirms it."""
        event = self._doubted
        if event is None or contradiction(self.facts, event.advert, event.source):
            return None
        self._doubted = None
        self._timers.pop(Timer.DOUBT, None)
        return event

    def _end_doubt(self) -> None:
        event, self._doubted = self._doubted, None
        if event is not None and (word := contradiction(self.facts, event.advert, event.source)):
            self._suspect(word, event.advert)

    def _suspect(self, word: str, advert: Advert) -> None:
        self._alarm("stranger", word)
        silence = self.settings.down_adverts * max(advert.interval, self.settings.advert_interval)
        self._arm(Timer.STRANGER, silence)

    def _forget_stranger(self) -> None:
        self._alarm("stranger", "")

    def _unlearn_strangers(self) -> None:
        """Forget a master who turns out not to be the peer: he was heard before the link told who is."""
        peer = self.facts.peer
        if peer is None or self.facts.link == "none" or not peer.sources:
            return
        if peer.sources.issuperset(self._masters.values()):
            return
        self._masters.clear()
        self._interval, self.last_advert = self.settings.advert_interval, None
        if Timer.DOWN in self._timers:
            self._timers[Timer.DOWN] = min(self._timers[Timer.DOWN], self._now + self.down_interval())

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
            is_alone=self._gateway_sign.is_confirmed or self._witness_sign.is_confirmed,
        )

    def _arm(self, timer: Timer, delay: float) -> None:
        self._timers[timer] = self._now + delay

    def _to(self, state: State, reason: str) -> None:
        """Change the state; what the old one was waiting for is over."""
        before, self.state, self.reason, self.since = self.state, state, reason, self._now
        self._timers = {timer: at for timer, at in self._timers.items() if timer in _LASTING}
        self._overdue = self._held_since = self._lower_since = self._lower_at = None
        self._claiming = self._handover_reason = ""
        self._has_left = False
        self._blind_until = float("-inf")
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
        self._compare_masters(event)
        self._interval = advert.interval if advert.version == 3 else self.settings.advert_interval
        self._masters[advert.family] = event.source
        self.last_advert = self._now
        self.released = self._has_left = False
        self._check_addresses(advert)

    def _compare_masters(self, event: on.AdvertHeard) -> None:
        """Notice a third machine where no link tells who the second one is; it is obeyed all the same."""
        before = self._masters.get(event.advert.family, event.source)
        if before != event.source and self._is_heard() and not self._has_left:
            advert = event.advert
            word = f"{event.source} says that it is master with priority {advert.priority}, {before} said so before"
            self._suspect(f"{word}: one of them isn't the peer", advert)

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

    def _claim(self, reason: str, *, is_adopted: bool = False, is_blind: bool = False) -> None:
        """Become master: the advert first, so that the old master goes, then the addresses, then everyone is told."""
        settings = self.settings
        blind_until = self._now + self.down_interval() if is_blind else float("-inf")
        self._blind_until = blind_until
        self._held = self.active_vips
        self._assert(1 if is_adopted else settings.garp.repeat)
        for family in settings.families:
            self._alarm(f"addresses_v{family}", "")  # of a master that is gone
        self._to(State.MASTER, reason)
        self._blind_until = blind_until
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
        self._out += [do.SendAdvert(self.priority), do.AddVips(self._held, self.lifetime())]
        self._out.append(do.Announce(self._held, repeat))
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
