"""
What the machine does while it isn't master: it starts, listens, asks whether to take over, or is at fault.

Must not know what a master does.
"""

from pyproxy.failover import commands as do
from pyproxy.failover import events as on
from pyproxy.failover import timing
from pyproxy.failover.events import Event, State
from pyproxy.failover.machine_core import MachineCore, Timer
from pyproxy.failover.packet import Advert
from pyproxy.failover.takeover import Decision, Silence, Verdict, decide, is_isolated, is_offered

_ASK_AGAIN = 0.25  # seconds, at least, between two questions of an overdue backup
_PROBE_TIME = 1.0
_GRACE = 5.0  # for an answer to a command that has a deadline of its own
_OWNER = 255


class MachineBackup(MachineCore):
    """The handlers of init, backup and fault."""

    # --- init and fault -----------------------------------------------------------------------------------------------

    def _start(self, event: on.Start) -> None:
        self._listening_since = self._now
        settings = self.settings
        if event.adopt and not self._cause(is_adopting=True):
            self._claim("adopted from the process before", is_adopted=True)
            return
        if event.adopt:
            self._out.append(do.SendAdvert(0))
        if settings.priority != _OWNER or settings.startup_delay or event.adopt:
            self._out.append(do.RemoveVips(settings.virtual_ips))
        if settings.startup_delay:
            self.reason = f"waits for startup_delay, {settings.startup_delay:g} s"
            self._arm(Timer.DELAY, settings.startup_delay)
        else:
            self._begin()

    def _begin(self) -> None:
        """Take part: as the owner of the addresses at once, else as a backup."""
        cause = self._cause()
        if cause:
            self._enter_fault(cause)
        elif self.settings.priority == _OWNER and self.facts.ready_workers == 0:
            self.reason = "waits for a worker"
            self._arm(Timer.DELAY, _ASK_AGAIN)
        elif self.settings.priority == _OWNER:
            self._claim("priority 255 owns the addresses")
        else:
            is_from_fault = self.state == State.FAULT
            if not self._is_heard():
                self._interval = self.settings.advert_interval
            self._listen_as_backup("listens for a master")
            if is_from_fault:
                self._out.append(do.AnnounceSelf())

    def _end(self, event: on.Stop) -> None:
        if self.state == State.MASTER:
            self._release()
        self._to(State.INIT, event.reason)

    def _take_settings(self, event: on.Reconfigured) -> None:
        self.settings = event.settings

    def _refuse_handover(self, _: Event) -> None:
        self._out.append(do.RefuseHandover(f"this machine isn't master but {self.state}"))

    def _fault_reconsiders(self, _: object = None) -> None:
        if Timer.RETRY not in self._timers:
            self._vips_failed = ""
        cause = self._cause()
        if cause:
            self._timers.pop(Timer.DELAY, None)
            self._was_down |= not self.facts.own_link_up
            self.reason = cause
        elif Timer.DELAY not in self._timers:
            delay = self.settings.link_up_delay if self._was_down else 0.0
            if delay:
                self.reason = f"waits for link_up_delay, {delay:g} s"
                self._arm(Timer.DELAY, delay)
            else:
                self._begin()

    def _listen(self, event: on.AdvertHeard) -> None:
        """Learn of the master without taking part."""
        if not self._is_refused(event) and event.advert.priority and not self._is_doubted(event):
            self._learn(event)

    # --- backup -------------------------------------------------------------------------------------------------------

    def _listen_again(self, _: Event) -> None:
        self._listening_since = self._now
        self._listen_anew()

    def _backup_takes_settings(self, event: on.Reconfigured) -> None:
        self.settings = event.settings
        self._listen_anew()

    def _backup_hears(self, event: on.AdvertHeard) -> None:
        advert = event.advert
        if self._is_refused(event) or self._is_doubted(event):
            return
        if advert.priority == 0:
            self._hear_farewell(event)
        elif not self._preempts(advert):
            self._learn(event)
            self.reason = f"hears {event.source} with priority {advert.priority}"
            self._listen_anew()
        elif self._overdue:
            self._listen_anew()

    def _hear_farewell(self, event: on.AdvertHeard) -> None:
        """Priority 0 means: don't wait. Only the master's counts, and only once."""
        if self._masters.get(event.advert.family, event.source) != event.source:
            return
        settings = self.settings
        wait = self._now + timing.skew(settings.version, self.own_priority, self._interval)
        self._has_left = True
        self._timers[Timer.DOWN] = min(self._timers.get(Timer.DOWN, wait), wait)

    def _preempts(self, advert: Advert) -> bool:
        """Whether an advert is passed over because we want to be master in its place."""
        settings = self.settings
        if not settings.preempt or self._yielded or advert.priority >= self.own_priority:
            self._lower_since = self._lower_at = None
            return False
        self._lower_at, self._lower_interval = self._now, advert.interval
        if self._lower_since is None:
            self._lower_since = self._now
        return self._now >= self._lower_since + settings.preempt_delay

    def _backup_reconsiders(self, _: object = None) -> None:
        if (event := self._recall()) is not None:
            self._backup_hears(event)
        cause = self._cause()
        if cause:
            self._enter_fault(cause)
        elif self._overdue or self._is_offered():
            self._ask()

    def _is_offered(self) -> bool:
        """Whether the link's word is enough: we have listened, or heard its adverts, and know who is master."""
        peer = self.facts.linked_peer
        if peer is None or not is_offered(self.facts) or self._claiming:
            return False
        if self._now - self._listening_since >= self.down_interval():
            return True
        # Its own adverts say who is master as well as a whole interval of silence does.
        is_peers = bool(peer.sources & set(self._masters.values()))
        return is_peers and self.last_advert is not None and self.last_advert > self._listening_since

    def _ask(self) -> None:
        """Ask the rule whether to take the addresses, and do what it says."""
        decision = decide(self.settings, self.facts, self._silence())
        is_back = "isolated" in self.alarms and not is_isolated(self.settings, self.facts)
        if decision.verdict != Verdict.TAKE:
            self._stay(decision)
        elif is_back and not self._has_left and not is_offered(self.facts):
            self._listen_anew()
        else:
            self._take(decision.reason, is_blind=decision.alarm == "isolated")

    def _silence(self) -> Silence:
        heard = self.last_advert if self.last_advert is not None else self._listening_since
        # The lower master's interval isn't adopted, so it may well be longer than our patience.
        patience = max(self.down_interval(), self.settings.down_adverts * self._lower_interval)
        is_preempting = self._lower_at is not None and self._now - self._lower_at < patience
        held = 0.0 if self._held_since is None else self._now - self._held_since
        return Silence(self._now - heard, self._now - self._link_up_at, held, is_preempting, self._has_left)

    def _stay(self, decision: Decision) -> None:
        self._overdue, self.reason = decision.verdict, decision.reason
        if decision.verdict == Verdict.HOLD and self._held_since is None:
            self._held_since = self._now
        for name in ("split", "isolated"):
            self._alarm(name, decision.reason if decision.alarm == name else "")
        self._arm(Timer.DOWN, max(self._interval, _ASK_AGAIN))

    def _take(self, reason: str, *, is_blind: bool) -> None:
        """Take the addresses, after fencing where that is wanted: the link is dead and someone has them."""
        settings = self.settings
        if settings.fence is None or self.facts.link != "dead" or self._has_left:
            self._claim(reason, is_blind=is_blind)
            return
        self._claiming = reason
        self._timers.pop(Timer.DOWN, None)
        if settings.vip_backend == "netlink":
            self._out.append(do.ProbeVips(settings.virtual_ips))
            self._arm(Timer.FENCE, _PROBE_TIME)
        else:
            self._fence("")

    def _fence(self, holder: str) -> None:
        settings = self.settings
        assert settings.fence is not None
        self._out.append(do.Fence(settings.fence, holder, settings.notify_timeout))
        self._arm(Timer.FENCE, settings.notify_timeout + _GRACE)

    def _probe_done(self, event: on.ProbeDone) -> None:
        if self._claiming and event.holder is None:
            self._claim(self._claiming, is_blind=is_isolated(self.settings, self.facts))
        elif self._claiming and event.holder is not None:
            self._fence(event.holder)

    def _fence_done(self, event: on.FenceDone) -> None:
        if self._claiming and event.ok:
            self._claim(f"{self._claiming}; the old master is fenced", is_blind=is_isolated(self.settings, self.facts))
        elif self._claiming:
            self._listen_anew()
            self.reason = f"fencing failed: {event.detail}"
            self._alarm("fence", self.reason)

    def _give_up_waiting(self) -> None:
        self._fence_done(on.FenceDone(False, "no answer in time"))
