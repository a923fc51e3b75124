"""
What the speaker says of itself, as the admin API and Prometheus show it.

Must not know how it is said. Whatever is missing in a status is shown as unknown: a speaker that has just begun knows
little, and one of another version may say something else.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

from pyproxy.admin.pair import AlarmView, GuardView, LinkView, PairState, PairView, PeerMachineView, TransitionView
from pyproxy.control.times import rfc3339

STATES: Final = ("init", "backup", "master", "fault")
STALE_SECONDS: Final = 3.0  # a speaker tells its status every second
MAX_REASONS: Final = 32  # kinds of reasons that are counted apart

_END_OF_KIND = re.compile(r"[:;,(0-9]")


@dataclass(slots=True)
class Known:
    """Everything that the view is made of; ``status`` is the speaker's last word, {} before the first."""

    speaker: Mapping[str, Any]  # its settings
    started: float
    status: Mapping[str, Any] = field(default_factory=dict)
    drift: Sequence[str] = ()
    kept: Sequence[str] = ()
    config_digest: str | None = None
    is_handing_over: bool = False
    is_speaking: bool = True  # whether there is a speaker
    age: float | None = None  # seconds since the status was told
    now: float | None = None  # seconds since 1970


def state_of(known: Known) -> str:
    """Give the state, ``init`` while nothing is known."""
    state = known.status.get("state")
    return state if state in STATES else "init"


def make_view(known: Known) -> PairView:
    """Make the answer of ``GET /api/v1/peer``."""
    status = known.status
    return {
        "state": cast(PairState, state_of(known)),
        "since": rfc3339(status.get("since") or known.started),
        "reason": str(status.get("reason") or ""),
        "priority": status.get("priority", known.speaker["priority"]),
        "vrid": known.speaker["vrid"],
        "virtual_ips": [f"{vip['address']}/{vip['prefix']}" for vip in known.speaker["virtual_ips"]],
        "vip_present": bool(status.get("vip_present")),
        "last_advert": _time(status.get("last_advert")),
        "peer": _machine(known),
        "drift": list(known.drift),
        "guards": [_guard(item, known.now) for item in status.get("guards") or ()],
        "tracks": [_guard(item, known.now) for item in status.get("tracks") or ()],
        "transitions": [_transition(item) for item in status.get("transitions") or ()],
        "dual_master_seconds": float(status.get("dual_master_seconds") or 0.0),
        "alarms": [_alarm(item) for item in _alarms(known)],
        "link": _link(status.get("link")),
        "gateway": status.get("gateway"),
        "witnesses": status.get("witnesses"),
        "witness_states": [_guard(item, known.now) for item in status.get("witness_states") or ()],
        "config_digest": known.config_digest,
        "kept": list(known.kept),
        "handover": known.is_handing_over,
        "dropped": dict(status.get("rejected") or {}),
        "age": known.age,
    }


def kind_of(reason: str) -> str:
    """
    Cut a reason down to what doesn't change from one time to the next, for a label.

    >>> kind_of("no advert for 3.2 s, and the link is dead"), kind_of("the peer is in fault: guard refuses")
    ('no advert for', 'the peer is in fault')
    """
    return _END_OF_KIND.split(reason, maxsplit=1)[0].strip()[:60]


class Transitions:
    """How often the state became which one, and why; there is an end to the kinds of reasons that are told apart."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str], int] = {}

    def __repr__(self) -> str:
        return f"<Transitions {sum(self.counts.values())}>"

    def count(self, to: str, reason: str) -> None:
        """Count one."""
        key = to, kind_of(reason)
        if key not in self.counts and len(self.counts) >= MAX_REASONS:
            key = to, "other"
        self.counts[key] = self.counts.get(key, 0) + 1


def render(view: PairView, transitions: Transitions, restarts: int) -> str:
    """Write the Prometheus text about the pair."""
    link = view["link"]
    lines = [
        *_gauges(
            "state", "1 for the state that this machine is in.", {("state", s): view["state"] == s for s in STATES}
        ),
        *_head("transitions_total", "counter", "Changes of state, by the new one and the kind of reason."),
        *(
            f'pyproxy_peer_transitions_total{{to="{to}",reason="{_escape(reason)}"}} {count}'
            for (to, reason), count in sorted(transitions.counts.items())
        ),
        *_gauge("drift", "Sections of the file that differ from the other machine's.", len(view["drift"])),
        *_gauge("vip_present", "1 while the virtual addresses are on this machine.", int(view["vip_present"])),
        *(_link_lines(link["state"]) if link is not None and link["state"] != "none" else ()),
        *_gauges(
            "guard_ok", "1 while a guard passes.", {("guard", g["name"]): g["ok"] is True for g in view["guards"]}
        ),
        *_gauges(
            "track_ok", "1 while a track passes.", {("track", t["name"]): t["ok"] is True for t in view["tracks"]}
        ),
        *_gauges("alarm", "1 for each alarm that is on.", {("name", item["name"]): True for item in view["alarms"]}),
        *_head("dual_master_seconds_total", "counter", "For how long both machines were master."),
        f"pyproxy_peer_dual_master_seconds_total {view['dual_master_seconds']:.3f}",
        *_head("adverts_dropped_total", "counter", "VRRP adverts that were dropped, by reason."),
        *(
            f'pyproxy_peer_adverts_dropped_total{{reason="{_escape(reason)}"}} {count}'
            for reason, count in sorted(view["dropped"].items())
        ),
        *_head("speaker_restarts_total", "counter", "Speakers started again after they ended."),
        f"pyproxy_peer_speaker_restarts_total {restarts}",
    ]
    return "\n".join([*lines, ""])


def _alarms(known: Known) -> list[Mapping[str, Any]]:
    """Give the speaker's alarms, and that there is no speaker to raise any, or one that says nothing."""
    found = list(known.status.get("alarms") or ())
    if not known.is_speaking:
        found.append({"name": "speaker", "text": "the speaker is not running: what is shown is its last word"})
    elif known.age is not None and known.age > STALE_SECONDS:
        text = f"the speaker has said nothing for {known.age:.3g} s: what is shown is its last word"
        found.append({"name": "speaker", "text": text})
    return found


def _machine(known: Known) -> PeerMachineView:
    peer, link = known.status.get("peer") or {}, known.status.get("link") or {}
    configured = known.speaker["link"]
    return {
        "address": peer.get("address") or (configured["peer"]["host"] if configured is not None else None),
        "state": peer.get("state"),
        "heard": _time(peer.get("heard")),
        "config_digest": peer.get("config_digest"),
        "healthy_backends": peer.get("healthy_backends"),
        "link": "up" if link.get("state") == "up" else "down",
        "well": peer.get("well"),
        "reason": str(peer.get("reason") or ""),
        "priority": peer.get("priority"),
        "released": bool(peer.get("released")),
        "gateway": peer.get("gateway"),
        "witnesses": peer.get("witnesses"),
        "advert_age": peer.get("advert_age"),
    }


def _link(link: Any) -> LinkView | None:
    if not isinstance(link, dict):
        return None
    return {
        "state": link.get("state", "none"),
        "heard_age": link.get("heard_age"),
        "speaking": bool(link.get("speaking")),
        "refused": link.get("refused") or {},
        "fault": str(link.get("fault") or ""),
    }


def _guard(item: Mapping[str, Any], now: float | None) -> GuardView:
    at = item.get("at")
    return {
        "name": str(item.get("name")),
        "ok": item.get("ok"),
        "detail": str(item.get("detail") or ""),
        "at": _time(at),
        "age": round(max(now - at, 0.0), 1) if now is not None and at is not None else None,
    }


def _transition(item: Mapping[str, Any]) -> TransitionView:
    texts = {name: str(item.get(name) or "") for name in ("from", "to", "reason")}
    return {"at": _time(item.get("at")) or "", "from": texts["from"], "to": texts["to"], "reason": texts["reason"]}


def _alarm(item: Mapping[str, Any]) -> AlarmView:
    return {
        "name": str(item.get("name")),
        "text": str(item.get("text") or ""),
        "since": _time(item.get("since")) or "",
    }


def _time(value: Any) -> str | None:
    return rfc3339(value) if isinstance(value, (int, float)) else None


def _head(name: str, kind: str, text: str) -> tuple[str, str]:
    return f"# HELP pyproxy_peer_{name} {text}", f"# TYPE pyproxy_peer_{name} {kind}"


def _gauge(name: str, text: str, value: int) -> Iterator[str]:
    yield from _head(name, "gauge", text)
    yield f"pyproxy_peer_{name} {value}"


def _link_lines(state: str) -> Iterator[str]:
    return _gauge("link_up", "1 while the other machine is heard over the link.", int(state == "up"))


def _gauges(name: str, text: str, values: Mapping[tuple[str, str], bool]) -> Iterator[str]:
    yield from _head(name, "gauge", text)
    for (label, word), value in values.items():
        yield f'pyproxy_peer_{name}{{{label}="{_escape(word)}"}} {int(value)}'


def _escape(text: str) -> str:
    r"""
    Write a label's value.

    >>> print(_escape('say "no"'))
    say \"no\"
    """
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
