"""
What the speaker tells of itself: the status that ``GET /api/v1/peer`` is made of, and its journal of transitions.

Must not know sockets or the machine's rules; it is given what happened. Times are seconds since 1970: the supervisor
writes them for people.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pyproxy.clock import wall
from pyproxy.failover.events import State
from pyproxy.failover.machine import Machine
from pyproxy.failover.takeover import Facts, peer_to_plain

MAX_TRANSITIONS = 50

_PATIENCE = 1.0  # seconds, beyond two down intervals


class Report:
    """Keeps what is told of the past; ``view`` adds what is so now."""

    def __init__(self) -> None:
        self.since = wall()
        self.transitions: deque[dict[str, Any]] = deque(maxlen=MAX_TRANSITIONS)
        self.alarms: dict[str, float] = {}  # since when each one is on
        self.heard_at: float | None = None  # the last advert of another machine
        self.heard_from: str | None = None
        self.peer_digest: str | None = None  # of the other machine's configuration

    def __repr__(self) -> str:
        return f"<Report {len(self.transitions)} transitions>"

    def hear(self, source: str) -> None:
        """Note an advert of another machine."""
        self.heard_at, self.heard_from = wall(), source

    def change(self, before: str, state: str, reason: str) -> dict[str, Any]:
        """Note a change of state, and give it as it is told."""
        self.since = wall()
        entry = {"at": self.since, "from": before, "to": state, "reason": reason}
        self.transitions.append(entry)
        return {"type": "event", "kind": "transition", **entry}

    def alarm(self, name: str, text: str) -> dict[str, Any]:
        """Note an alarm that begins, or ends if there is no text, and give it as it is told."""
        at = wall()
        if text:
            self.alarms[name] = at
        else:
            self.alarms.pop(name, None)
        return {"type": "event", "kind": "alarm", "at": at, "name": name, "on": bool(text), "reason": text}

    def view(self, machine: Machine, now: float, alarms: Mapping[str, str]) -> dict[str, Any]:
        """Give all of it as JSON can hold it; ``now`` is monotonic, ``alarms`` are those beside the machine's."""
        settings, facts = machine.settings, machine.facts
        return {
            "state": machine.state.value,
            "since": self.since,
            "reason": machine.reason,
            "priority": machine.priority,
            "vrid": settings.vrid,
            "virtual_ips": [str(vip) for vip in settings.virtual_ips],
            "last_advert": self.heard_at,
            "peer": self._peer(facts),
            "gateway": facts.gateway,
            "witnesses": facts.witnesses,
            "transitions": list(self.transitions),
            "dual_master_seconds": round(machine.duals.seconds(now), 3),
            "alarms": [
                {"name": name, "text": text, "since": self.alarms.get(name)}
                for name, text in {**machine.alarms, **alarms}.items()
            ],
            "facts": facts_to_plain(facts),
        }

    def _peer(self, facts: Facts) -> dict[str, Any] | None:
        peer = facts.peer
        if peer is None and self.heard_at is None:
            return None
        # Whoever was heard before the link told who the peer is may have been a stranger.
        is_its_own = peer is None or not peer.sources or self.heard_from in peer.sources
        address = self.heard_from if is_its_own else min(peer.sources) if peer else None
        return {
            "address": address,
            "state": peer.state if peer else None,
            "heard": self.heard_at if is_its_own else None,
            "well": peer.well if peer else None,
            "reason": peer.reason if peer else "",
            "priority": peer.priority if peer else None,
            "released": peer.released if peer else False,
            "gateway": peer.gateway if peer else None,
            "witnesses": peer.witnesses if peer else None,
            "healthy_backends": peer.healthy_backends if peer else None,
            "advert_age": peer.advert_age if peer else None,
            "config_digest": self.peer_digest,
        }


def no_master(machine: Machine, now: float) -> str:
    """Say that nobody seems to have the addresses, empty if somebody does or may in a moment."""
    peer = machine.facts.linked_peer
    if machine.state != State.BACKUP or (peer is not None and peer.state == "master"):
        return ""  # a master whose adverts don't come is an alarm of its own
    age = machine.told(now).advert_age
    silent = min(now - machine.since, now - machine.since if age is None else age)
    if silent < 2 * machine.down_interval() + _PATIENCE:
        return ""
    return f"no master is heard, and this machine doesn't take over: {machine.reason}"


def facts_to_plain(facts: Facts) -> dict[str, Any]:
    """Write the facts as JSON can hold them."""
    peer = peer_to_plain(facts.peer) if facts.peer else None
    sources = {str(family): source for family, source in facts.sources.items()}
    return {**asdict(facts), "sources": sources, "peer": peer}
