"""
What the speaker tells of itself: the view that ``GET /api/v1/peer`` is made of, and its journal of transitions.

Must not know sockets or the machine's rules; it is given what happened.
"""

from collections import deque
from datetime import UTC, datetime
from typing import Any

from pyproxy.clock import wall
from pyproxy.failover.machine import Machine
from pyproxy.failover.takeover import PeerFacts

MAX_TRANSITIONS = 50


def show_time(at: float | None) -> str | None:
    """
    Write a time in seconds since 1970 as RFC 3339.

    >>> show_time(1.5)
    '1970-01-01T00:00:01.500Z'
    """
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Report:
    """Keeps what is told of the past; ``view`` adds what is so now."""

    def __init__(self) -> None:
        self.since = wall()
        self.transitions: deque[dict[str, Any]] = deque(maxlen=MAX_TRANSITIONS)
        self.heard_at: float | None = None  # the last advert of another machine
        self.heard_from: str | None = None

    def __repr__(self) -> str:
        return f"<Report {len(self.transitions)} transitions>"

    def hear(self, source: str) -> None:
        """Note an advert of another machine."""
        self.heard_at, self.heard_from = wall(), source

    def change(self, before: str, state: str, reason: str) -> dict[str, Any]:
        """Note a change of state, and give it as it is told."""
        self.since = wall()
        entry = {"at": show_time(self.since), "from": before, "to": state, "reason": reason}
        self.transitions.append(entry)
        return entry

    def alarm(self, name: str, text: str) -> dict[str, Any]:
        """Give an alarm that began, or ended if there is no text, as it is told."""
        was, now = ("off", "on") if text else ("on", "off")
        return {"at": show_time(wall()), "name": name, "from": was, "to": now, "reason": text}

    def view(self, machine: Machine, now: float) -> dict[str, Any]:
        """Give all of it as JSON can hold it; ``now`` is monotonic."""
        settings = machine.settings
        return {
            "state": machine.state.value,
            "since": show_time(self.since),
            "reason": machine.reason,
            "priority": settings.priority,
            "vrid": settings.vrid,
            "virtual_ips": [str(vip) for vip in settings.virtual_ips],
            "last_advert": show_time(self.heard_at),
            "peer": self._peer(machine),
            "transitions": list(self.transitions),
            "dual_master_seconds": round(machine.duals.seconds(now), 3),
            "alarms": [{"name": name, "text": text} for name, text in machine.alarms.items()],
            "gateway": machine.facts.gateway,
            "sources": list(machine.facts.sources.values()),
        }

    def _peer(self, machine: Machine) -> dict[str, Any]:
        facts = machine.facts
        peer = facts.peer
        return {
            "address": self.heard_from,
            "state": peer.state if peer else None,
            "heard": show_time(self.heard_at),
            "healthy_backends": peer.healthy_backends if peer else None,
            "link": None if facts.link == "none" else "up" if facts.link == "up" else "down",
            "priority": peer.priority if peer else None,
            "well": peer.well if peer else None,
            "reason": peer.reason if peer else None,
            "released": peer.released if peer else None,
            "gateway": peer.gateway if peer else None,
            "hears_us": peer.advert_age if peer else None,
        }


def peer_to_plain(peer: PeerFacts) -> dict[str, Any]:
    """Write what the other machine is told as JSON can hold it."""
    return {
        "state": peer.state,
        "priority": peer.priority,
        "well": peer.well,
        "reason": peer.reason,
        "released": peer.released,
        "gateway": peer.gateway,
        "healthy_backends": peer.healthy_backends,
        "advert_age": None if peer.advert_age is None else round(peer.advert_age, 3),
        "down_adverts": peer.down_adverts,
        "sources": sorted(peer.sources),
    }


def peer_from_plain(data: dict[str, Any]) -> PeerFacts:
    """
    Read what the other machine says; ``ValueError`` if that makes no sense.

    A part that is missing is unknown, so that another version of the program can be on the other side.
    """
    sources = data.get("sources") or []
    if not isinstance(sources, list) or not all(isinstance(source, str) for source in sources):
        raise ValueError("sources")
    return PeerFacts(
        state=_of(data, "state", str, "init"),
        priority=_of(data, "priority", int, 100),
        well=_of(data, "well", bool, False),
        reason=_of(data, "reason", str, ""),
        released=_of(data, "released", bool, False),
        gateway=_of(data, "gateway", bool, None),
        healthy_backends=_of(data, "healthy_backends", int, None),
        advert_age=_of(data, "advert_age", (int, float), None),
        down_adverts=_of(data, "down_adverts", int, None),
        sources=frozenset(sources),
    )


def _of(data: dict[str, Any], key: str, kind: type | tuple[type, ...], default: Any) -> Any:
    value = data.get(key)
    if value is None:
        return default
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(key)
    return value
