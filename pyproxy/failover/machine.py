"""
The state machine of VRRP with what VRRP lacks: which state follows on what, and what is to be done for it.

Must not know sockets, the kernel or any clock: time is an argument, and all that happens comes back as commands.

Theory of operation
===================
::

             Start                D expires, rule says take
      INIT ─────────► BACKUP ──────────────────────────────► MASTER
       ▲ ▲              │  ▲ ◄──────────────────────────────── │ │
       │ └───── Stop ───┤  │   higher advert, handover, yield  │ │
       │                ▼  │ cause gone                        │ │
       │               FAULT ◄─────── cause of a fault ────────┘ │
       └───────────────────────────── Stop ──────────────────────┘

**The caller's duties** (the speaker's):

1. One machine for all families: an advert heard in any of them is an event, ``SendAdvert`` goes out in each of them.
2. Set ``facts`` first, then ``handle`` the event that follows from it, ``FactsChanged`` if there is no other.
3. Carry out the commands in their order before the next event. Sending never fails for the machine: what can't be
   sent is logged and left.
4. Call ``handle(Tick(), now)`` when ``next_deadline()`` has come, **after** every packet waiting in the receive
   sockets was handled. A timer that is late proves nothing about the master; the packets that came meanwhile do. For
   the same reason drain the receive sockets before ``facts`` are changed by what the link says.
5. An invalid packet is no event (or ``PacketDropped``, which does nothing): it touches no timer.
6. ``now`` is CLOCK_MONOTONIC in seconds and never goes back. After a suspension send ``Resumed`` before draining.

**Timers** belong to a state and end with it; only the one that waits for workers goes on. A timer's handler arms it
again later than now, so a tick ends.

**Overdue.** When D has expired and the rule (``takeover``) doesn't say take, the backup is *overdue*: it asks again
when facts change and every now and then. One that was cut off listens for a whole down interval again when it is
connected, since its own port may have been what was blocked.

**Two families** (IPv4 and IPv6) are two VRRP instances for others. An advert of either keeps us backup. Of equal
priorities the higher source address wins, and since the two families could tell different winners, the first one
decides as long as the other master is heard in it.
"""

from pyproxy.errors import IllegalEvent
from pyproxy.failover import events as on
from pyproxy.failover.commands import Command
from pyproxy.failover.events import Event, State
from pyproxy.failover.machine_backup import MachineBackup
from pyproxy.failover.machine_core import Timer
from pyproxy.failover.machine_master import MachineMaster

INIT, BACKUP, MASTER, FAULT = State.INIT, State.BACKUP, State.MASTER, State.FAULT

#: The transition table: what handles an event in a state.
TABLE: dict[State, dict[type[Event], str]] = {
    INIT: {
        on.Start: "_start",
        on.Stop: "_ignore",
        on.AdvertHeard: "_listen",
        on.FactsChanged: "_ignore",
        on.Resumed: "_ignore",
        on.HandoverRequested: "_refuse_handover",
        on.VipsFailed: "_ignore",
        on.Reconfigured: "_take_settings",
    },
    BACKUP: {
        on.Stop: "_end",
        on.AdvertHeard: "_backup_hears",
        on.FactsChanged: "_backup_reconsiders",
        on.Resumed: "_listen_again",
        on.HandoverRequested: "_refuse_handover",
        on.VipsFailed: "_ignore",
        on.Reconfigured: "_backup_takes_settings",
    },
    MASTER: {
        on.Stop: "_end",
        on.AdvertHeard: "_master_hears",
        on.FactsChanged: "_master_reconsiders",
        on.Resumed: "_master_wakes",
        on.HandoverRequested: "_begin_handover",
        on.VipsFailed: "_lose_vips",
        on.Reconfigured: "_master_takes_settings",
    },
    FAULT: {
        on.Stop: "_end",
        on.AdvertHeard: "_listen",
        on.FactsChanged: "_fault_reconsiders",
        on.Resumed: "_ignore",
        on.HandoverRequested: "_refuse_handover",
        on.VipsFailed: "_ignore",
        on.Reconfigured: "_take_settings",
    },
}
for _row in TABLE.values():
    _row.update({on.Tick: "_tick", on.PacketDropped: "_ignore"})
    # Answers may come when the question is no longer of interest.
    _row.update({on.DrainDone: "_drain_done", on.ProbeDone: "_probe_done", on.FenceDone: "_fence_done"})
    _row.update({on.ConflictSeen: "_see_conflict"})

#: What can't happen; ``handle`` raises ``IllegalEvent``.
ILLEGAL = {(BACKUP, on.Start), (MASTER, on.Start), (FAULT, on.Start)}

#: What handles a timer in a state; the others are never armed there.
TIMERS: dict[tuple[State, Timer], str] = {
    (INIT, Timer.DELAY): "_begin",
    (BACKUP, Timer.DOWN): "_ask",
    (BACKUP, Timer.FENCE): "_give_up_waiting",
    (MASTER, Timer.ADVERT): "_advertise",
    (MASTER, Timer.RENEW): "_renew",
    (MASTER, Timer.BURST): "_announce_again",
    (MASTER, Timer.REFRESH): "_refresh",
    (MASTER, Timer.DUAL): "_end_dual",
    (MASTER, Timer.CONFLICT): "_end_conflict",
    (FAULT, Timer.DELAY): "_begin",
    (FAULT, Timer.RETRY): "_fault_reconsiders",
    (INIT, Timer.WORKER): "_ignore",
    (BACKUP, Timer.WORKER): "_backup_reconsiders",
    (MASTER, Timer.WORKER): "_master_reconsiders",
    (FAULT, Timer.WORKER): "_fault_reconsiders",
}

# Of strangers and their adverts, in whatever state they are heard.
TIMERS.update({(state, Timer.STRANGER): "_forget_stranger" for state in State})
TIMERS.update({(state, Timer.DOUBT): "_end_doubt" for state in State})


class Machine(MachineBackup, MachineMaster):
    """
    One machine's part in the pair.

    ``facts`` is the caller's to keep up to date; all else is to be read only:

    - ``state``, ``since`` when, and ``reason`` in words: why it came there, or why it stays although the master is
      silent
    - ``released``: it gave the addresses away on purpose and has not heard of a new master
    - ``is_draining``: between ``BeginHandover`` and ``EndHandover`` or ``RefuseHandover``
    - ``last_advert``: when a valid advert was heard last
    - ``alarms``: name and text of those that are on
    - ``duals.seconds(now)``: how long there were two masters
    - ``told(now)``: what to tell the peer over the link
    - ``lifetime()``: the lease that addresses have
    """

    def handle(self, event: Event, now: float) -> list[Command]:
        """Take an event that happened at ``now``; give the commands to carry out, in this order."""
        handler = TABLE[self.state].get(type(event))
        if handler is None:
            raise IllegalEvent(self, self.state, event)
        self._now, self._out = now, []
        self._observe()
        getattr(self, handler)(event)
        return self._out

    def next_deadline(self) -> float | None:
        """When ``Tick`` is due; None if nothing is."""
        return min(self._timers.values(), default=None)

    def _tick(self, _: Event) -> None:
        while True:
            due = [timer for timer in Timer if self._timers.get(timer, self._now + 1) <= self._now]
            if not due:
                return
            timer = min(due, key=lambda timer: self._timers[timer])
            self._deadline = self._timers.pop(timer)
            if timer == Timer.ADVERT:
                self._is_late |= self._now > self._deadline + self._lateness()
            getattr(self, TIMERS[self.state, timer])()
