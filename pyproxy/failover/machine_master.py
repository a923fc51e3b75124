"""
What the machine does while it is master: it says so, keeps the addresses, and knows when to give them away.

Must not know how one becomes master.
"""

from pyproxy.failover import commands as do
from pyproxy.failover import events as on
from pyproxy.failover import timing
from pyproxy.failover.events import Event, State
from pyproxy.failover.machine_core import RENEW_GAP, MachineCore, Timer
from pyproxy.failover.packet import packed
from pyproxy.failover.takeover import LEFT, handover_refusal, is_offered, loses_to_peer, missing_families, yield_cause

_ANNOUNCE_GAP = 0.25  # between announcements that others cause
_CONFLICT_GAP = 1.0
_CONFLICT_TIME = 10.0
_TIE_PATIENCE = 1.5  # intervals until a tie is decided in the second family
_LATE_ADVERTS = 3


class MachineMaster(MachineCore):
    """The handlers of master."""

    # --- adverts ------------------------------------------------------------------------------------------------------

    def _master_hears(self, event: on.AdvertHeard) -> None:
        advert = event.advert
        if self._is_refused(event):
            return
        if advert.priority == 0:
            self._send_advert_now()
            return
        is_late = self._is_late or self._now > self._timers[Timer.ADVERT] + self._lateness()
        if (is_late or advert.priority >= self.priority) and self._is_doubted(event):
            return
        wins = self._does_win(event)
        self.last_advert = self._now
        self._masters[advert.family] = event.source
        self._check_addresses(advert)
        if wins or (is_late and not self.settings.preempt):
            self._step_down(event, is_beaten=bool(wins))
        elif wins is False:
            self._assert_against(event)

    def _does_win(self, event: on.AdvertHeard) -> bool | None:
        """Whether the other master is to stay and we are to go; None if its other family will tell."""
        advert, ours = event.advert, self.priority
        if advert.priority != ours:
            return advert.priority > ours
        first = self.settings.families[0]
        if advert.family != first:
            if first in self._masters:
                return None
            if self._tie_since is None:
                self._tie_since = self._now
            if self._now < self._tie_since + _TIE_PATIENCE * max(advert.interval, self.settings.advert_interval):
                return None
        own = self.facts.sources.get(advert.family)
        return own is not None and packed(event.source) > packed(own)

    def _step_down(self, event: on.AdvertHeard, *, is_beaten: bool) -> None:
        """Leave it to the other master; one advert of ours tells it to announce the addresses again."""
        if is_beaten:
            self._out.append(do.SendAdvert(self.priority))
        self._out.append(do.RemoveVips(self.settings.virtual_ips))
        self._listen_as_backup(f"{event.source} is master with priority {event.advert.priority}")
        self._learn(event)
        self._listen_anew()

    def _assert_against(self, event: on.AdvertHeard) -> None:
        """Tell a master that is to go, and everyone whom it had told that it has the addresses."""
        advert = event.advert
        if self._may_answer():
            self._out.append(do.SendAdvert(self.priority))
        self._announce_once(_ANNOUNCE_GAP)
        self.duals.hear(self._now, advert.interval)
        self._arm(Timer.DUAL, _LATE_ADVERTS * max(advert.interval, self.settings.advert_interval))
        self._show_dual(f"{event.source} is master too, with priority {advert.priority}")

    def _send_advert_now(self) -> None:
        """Answer a farewell as the end of an interval would: nobody's adverts keep ours, or the lease, from coming."""
        if self._may_answer():
            self._send_and_renew()
            self._arm(Timer.ADVERT, self.settings.advert_interval)

    def _may_answer(self) -> bool:
        """Whether it is time to answer anybody: a flood gets few answers."""
        is_due = self._now - self._answered_at >= min(_ANNOUNCE_GAP, self.settings.advert_interval / 2)
        if is_due:
            self._answered_at = self._now
        return is_due

    def _send_and_renew(self) -> None:
        self._out.append(do.SendAdvert(self.priority))
        if self._now - self._renewed_at >= RENEW_GAP:
            self._renew()

    def _advertise(self) -> None:
        """Say at the end of an interval that we are master; after a stall everything is said anew."""
        if self._is_late:
            self._is_late = False
            self._assert(self.settings.garp.repeat)
        else:
            self._send_and_renew()
        interval = self.settings.advert_interval
        self._timers[Timer.ADVERT] = max(self._deadline + interval, self._now + interval / 2)
        self._watch_peer()

    def _lateness(self) -> float:
        """How late the advert timer may be until it looks as if this machine had been asleep."""
        settings = self.settings
        return timing.down_interval(settings.version, settings.priority, settings.advert_interval, _LATE_ADVERTS)

    def _master_wakes(self, _: Event) -> None:
        self._is_late = True
        self._timers[Timer.ADVERT] = self._now

    # --- the addresses ------------------------------------------------------------------------------------------------

    def _renew(self) -> None:
        lifetime = self.lifetime()
        if lifetime is not None:
            self._out.append(do.RenewLease(self._held, lifetime))
            self._renewed_at = self._now
            self._arm_renewal()

    def _announce_once(self, gap: float) -> None:
        """Announce; if that was done a moment ago then when the gap is over, as what caused it came after."""
        due = self._announced_at + gap
        if self._now >= due:
            self._announced_at = self._now
            self._out.append(do.Announce(self._held, 1))
        else:
            self._timers[Timer.REFRESH] = min(self._timers.get(Timer.REFRESH, due), due)

    def _announce_again(self) -> None:
        self._announced_at = self._now
        self._out.append(do.Announce(self._held, self.settings.garp.repeat))

    def _refresh(self) -> None:
        self._announce_once(0.0)
        if self.settings.garp.refresh:
            self._arm(Timer.REFRESH, self.settings.garp.refresh)

    def _see_conflict(self, event: on.ConflictSeen) -> None:
        """Another machine answers for an address: say again and again that we have it."""
        if self.state == State.MASTER:
            self._alarm("address_conflict", f"{event.holder} answers for {event.address}")
            self._announce_once(_CONFLICT_GAP)
            self._arm(Timer.CONFLICT, _CONFLICT_TIME)

    def _end_conflict(self) -> None:
        self._alarm("address_conflict", "")

    def _lose_vips(self, event: on.VipsFailed) -> None:
        self._vips_failed = event.detail
        self._release()
        self._enter_fault(self._cause())

    def _master_takes_settings(self, event: on.Reconfigured) -> None:
        self.settings = event.settings
        if not self._follow_families():
            self._assert(1)
        self._interval = self.settings.advert_interval
        self._arm(Timer.ADVERT, self._interval)
        self._arm_renewal()

    # --- giving them away ---------------------------------------------------------------------------------------------

    def _master_reconsiders(self, _: object = None) -> None:
        cause = self._cause()
        if cause:
            self._release()
            self._enter_fault(cause)
            return
        if (event := self._recall()) is not None:
            self._master_hears(event)
            if self.state != State.MASTER:
                return
        better_off = yield_cause(self.settings, self.facts) or self._give_up()
        if better_off:
            self._give_to_peer(better_off, "family" if missing_families(self.settings, self.facts) else "no_backend")
            return
        self._follow_families()
        is_linked = self.facts.link == "up"
        if is_linked and not self._was_linked:
            self._announce_once(_ANNOUNCE_GAP)
        self._was_linked = is_linked
        if self.reason == LEFT:  # the farewell was faster than the link
            self.reason = is_offered(self.facts) or LEFT
        self._watch_peer()

    def _give_up(self) -> str:
        """
        Say why we go although nobody says that another machine is better off, empty if we don't.

        Once for each failure: if the other one comes to the same, the addresses move there and back, and stay.
        """
        if self._has_given_up or not self.facts.impaired or self.facts.linked_peer is not None:
            return ""
        self._has_given_up = True
        return f"{self.facts.impaired}, and perhaps not on another machine"

    def _follow_families(self) -> bool:
        """Hold the addresses of the families that we can speak in, no more and no less; whether that changed."""
        before, self._held = self._held, self.active_vips
        gone = tuple(vip for vip in before if vip not in self._held)
        if gone:
            self._out.append(do.RemoveVips(gone))
        if before != self._held:
            self._assert(self.settings.garp.repeat)
        return before != self._held

    def _give_to_peer(self, reason: str, why: str) -> None:
        self._release()
        self._listen_as_backup(reason)
        self._yielded = why

    def _begin_handover(self, event: on.HandoverRequested) -> None:
        refusal = handover_refusal(self.facts)
        if refusal:
            self._out.append(do.RefuseHandover(refusal))
        elif not self.is_draining:
            self.is_draining, self._handover_reason = True, event.reason
            self._out.append(do.BeginHandover())

    def _drain_done(self, _: Event) -> None:
        if not self.is_draining:
            return
        refusal = handover_refusal(self.facts)
        if refusal:
            self.is_draining = False
            self._out.append(do.RefuseHandover(refusal))
        else:
            self._give_to_peer(self._handover_reason, "handover")

    # --- the other one ------------------------------------------------------------------------------------------------

    def _watch_peer(self) -> None:
        """Look at what the link says: whether the peer is master too, and whether it hears us."""
        peer = self.facts.linked_peer
        settings = self.settings
        patience = timing.down_interval(
            settings.version, settings.priority, settings.advert_interval, settings.down_adverts
        )
        is_master = peer is not None and peer.state == "master"
        is_dual = self.duals.hear_link(self._now, is_master=is_master, patience=patience)
        if peer and is_dual and loses_to_peer(self.facts, peer, self.priority):
            self._give_to_peer("the link says that the peer is master and better placed", "")
            return
        self._show_dual("the link says that the peer is master too")
        hears = peer is None or peer.state != "backup" or (peer.advert_age is not None and peer.advert_age <= patience)
        if hears:
            self._deaf_since = None
        elif self._deaf_since is None:
            # It may have begun to listen, or the link to live, a moment ago.
            self._deaf_since = self._now
        is_deaf = self._deaf_since is not None and self._now - self._deaf_since > patience
        self._alarm("one_way", "the link lives, but the peer doesn't hear our adverts" if is_deaf else "")

    def _show_dual(self, text: str) -> None:
        self._alarm("dual_master", text if self.duals.is_on else "")

    def _end_dual(self) -> None:
        self.duals.end_adverts(self._now)
        self._show_dual("the link says that the peer is master too")
