"""
Whether this machine may take the addresses, must give them away, or may hand them over: pure rules on facts.

Must not know timers, states of the machine or where a fact comes from. ``Facts`` is filled by the speaker; the rules
answer with a verdict and the reason in words, which is what the operator reads.

The rules rest on one thought: adverts that don't come prove only that adverts don't come. Whoever takes over asks
first whether it is the one that is cut off (gateway, witnesses), whether it is fit (guards), and whether the other
machine says over the link that it is master and well.
"""

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from ipaddress import ip_address
from typing import Any, Literal

from pyproxy.failover.packet import packed
from pyproxy.failover.reach import Reach
from pyproxy.failover.settings import Settings

_ISOLATED = "isolated: neither the gateway nor a witness answers"
#: What its farewell says of it; the link says why.
LEFT = "the master left"
_MAX_REASON = 160  # characters of the other machine's, which may quote ours
_NONE = type(None)
_PEER_REQUIRED = ("priority", "well")
_PEER_TYPES: dict[str, tuple[type, ...]] = {
    "priority": (int,),
    "well": (bool,),
    "reason": (str,),
    "released": (bool,),
    "gateway": (bool, _NONE),
    "healthy_backends": (int, _NONE),
    "gateway_age": (int, float, _NONE),
    "witnesses": (bool, _NONE),
    "witnesses_age": (int, float, _NONE),
    "advert_age": (int, float, _NONE),
    "down_adverts": (int, _NONE),
}


@dataclass(frozen=True, slots=True)
class PeerFacts:
    """What the other machine said last over the link."""

    state: str  # init | backup | master | fault
    priority: int
    well: bool  # fit to be master, as far as it can tell
    reason: str = ""  # why it is in its state
    released: bool = False  # it gave the addresses away on purpose and nobody has them since
    gateway: bool | None = None  # whether it reaches its gateway; None = unknown or off
    healthy_backends: int | None = None
    advert_age: float | None = None  # seconds since it heard an advert of ours; None = never
    down_adverts: int | None = None
    sources: frozenset[str] = frozenset()  # addresses that its adverts come from
    gateway_age: float | None = None  # seconds since its gateway answered; None = unknown
    witnesses: bool | None = None  # whether any witness answers it; None = it has none, or unknown
    witnesses_age: float | None = None  # seconds since one answered; None = unknown

    @property
    def reach(self) -> Reach:
        """What it reaches of the world outside."""
        return Reach(self.gateway, self.witnesses)

    @property
    def families(self) -> frozenset[int]:
        """The address families that it speaks VRRP in."""
        return frozenset(6 if ":" in source else 4 for source in self.sources)


def peer_to_plain(peer: PeerFacts) -> dict[str, Any]:
    """Make the JSON object that says this over the link."""
    return {**asdict(peer), "sources": sorted(peer.sources)}


def peer_from_plain(data: dict[str, Any]) -> PeerFacts:
    """
    Read what the other machine says; it may be of another version, so unknown keys are passed over.

    Raises ``ValueError`` for what is missing or of the wrong type.
    """
    if data.get("state") not in ("init", "backup", "master", "fault"):
        raise ValueError(f"unknown state {data.get('state')!r}")
    for key, types in _PEER_TYPES.items():
        value = data.get(key)
        is_known = key in data or key in _PEER_REQUIRED
        if is_known and (not isinstance(value, types) or (isinstance(value, bool) and bool not in types)):
            raise ValueError(f"{key} can't be {value!r}")
    sources = data.get("sources", [])
    if not isinstance(sources, list) or not all(isinstance(source, str) for source in sources):
        raise ValueError(f"sources can't be {sources!r}")
    known = {key: data[key] for key in _PEER_TYPES if key in data}
    return PeerFacts(state=data["state"], sources=frozenset(map(_address, sources)), **known)


def _address(text: str) -> str:
    return str(ip_address(text))


@dataclass(slots=True)
class Facts:
    """What is known at present. The speaker sets fields and tells the machine ``FactsChanged``."""

    own_link_up: bool = True  # the interface is up, has a carrier and an address in at least one family
    own_link_fault: str = ""  # what is wrong with it otherwise, in words
    sources: dict[int, str] = field(default_factory=dict)  # family → address that our adverts come from
    gateway: bool | None = None  # None = off, or not known yet
    gateway_at: float | None = None  # when it answered last; None = unknown
    witnesses: bool | None = None  # whether any of them answers; None = there are none, or not known yet
    witnesses_at: float | None = None  # when one answered last; None = unknown
    guards: Literal["ok", "refuse", "last_resort"] = "ok"  # the worst verdict of all
    guard_reason: str = ""
    stranger: str = ""  # who has the addresses and sends no adverts, in words
    ready_workers: int | None = None  # None = there is no proxy beside this speaker
    supervisor_hangs: bool = False
    impaired: str = ""  # what fails that is tracked, in words
    lowered: int = 0  # by how much failing tracks lower the priority
    healthy_backends: int | None = None
    link: Literal["none", "up", "dead"] = "none"  # none = not configured
    link_fault: str = ""  # why a link that is dead doesn't come back, as far as can be told
    peer: PeerFacts | None = None  # kept when the link dies

    @property
    def reach(self) -> Reach:
        """What this machine reaches of the world outside."""
        return Reach(self.gateway, self.witnesses)

    @property
    def linked_peer(self) -> PeerFacts | None:
        """What the peer says, as long as the link lives."""
        return self.peer if self.link == "up" else None


@dataclass(frozen=True, slots=True)
class Silence:
    """Why the question of taking over comes up; all in seconds."""

    adverts: float = 0.0  # since the last advert, or since we began to listen
    link: float = float("inf")  # since the link was up; 0 while it is, inf if it never was
    held: float = 0.0  # since this rule said hold for the first time
    is_preempting: bool = False  # it isn't silent at all: a master with a lower priority is heard
    has_left: bool = False  # its last advert had priority 0


class Verdict(StrEnum):
    """What to do when the master seems to be gone."""

    TAKE = "take"
    HOLD = "hold"  # the link says that it lives: raise the alarm
    STAY = "stay"  # we are the wrong one


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict and the reason for it."""

    verdict: Verdict
    reason: str
    alarm: Literal["", "split", "isolated"] = ""  # what the operator is told of it, with the reason


def is_isolated(settings: Settings, facts: Facts) -> bool:
    """Whether all that a connected machine reaches is out of reach; what isn't known isn't held against us."""
    is_known = not settings.witnesses or facts.witnesses is not None
    gateway = None if settings.gateway == "off" else facts.gateway
    return is_known and Reach(gateway, facts.witnesses).is_cut_off


def is_well(facts: Facts) -> bool:
    """
    Whether this machine is fit to be master: what the other one hears as ``well``.

    What it reaches is no part of it: that is told on its own and weighed against the other's.
    """
    has_worker = facts.ready_workers is None or facts.ready_workers > 0
    return facts.own_link_up and has_worker and facts.guards == "ok" and not facts.stranger and not impairment(facts)


def impairment(facts: Facts) -> str:
    """
    Say what is wrong with this machine that doesn't keep it from serving, empty if nothing is.

    It gives the addresses away for it if the other machine can have them, and takes them if nobody else can: what is
    wrong may well be wrong on both.
    """
    return facts.impaired or ("the supervisor hangs" if facts.supervisor_hangs else "")


def serves_elsewhere(facts: Facts, *, is_heard: bool) -> bool:
    """Whether the other machine is master and well, by its word, or by its adverts where there is no link."""
    peer = facts.linked_peer
    return is_heard if facts.link == "none" else peer is not None and peer.state == "master" and peer.well


def decide(settings: Settings, facts: Facts, silence: Silence) -> Decision:
    """Say whether to take the addresses when the down timer has expired."""
    refusal = _own_refusal(settings, facts)
    if refusal:
        return Decision(Verdict.STAY, refusal)
    if facts.guards == "last_resort":
        return _as_last_resort(settings, facts, silence)
    if offer := is_offered(facts):  # nobody else will have them, however little we reach
        return Decision(Verdict.TAKE, offer)
    if silence.has_left and not silence.is_preempting:
        return Decision(Verdict.TAKE, LEFT)
    peer = facts.linked_peer
    if is_isolated(settings, facts) and not _is_blind_too(facts.peer):
        if peer is None:
            return _as_isolated(settings, facts, silence)
        if peer.well:
            return Decision(Verdict.STAY, _ISOLATED, "isolated")
    if silence.is_preempting:
        return _preempt(facts, peer)
    if peer is None:
        return Decision(Verdict.TAKE, f"no advert for {silence.adverts:.3g} s{_link_word(facts)}")
    return _by_link(settings, facts, peer, silence)


def is_offered(facts: Facts) -> str:
    """Say why the addresses may be taken at once, empty if nothing offers them: the link's word alone."""
    peer = facts.linked_peer
    if peer is None:
        return ""
    if peer.released:
        return f"the peer released the addresses{_because(peer)}"
    if peer.state == "fault":
        return f"the peer is in fault{_because(peer)}"
    return ""


def fault_cause(
    settings: Settings,
    facts: Facts,
    *,
    no_worker: bool,
    is_master: bool,
    is_fault: bool = False,
    is_alone: bool = False,
) -> str:
    """
    Say why this machine can be neither master nor backup, empty if it can.

    ``no_worker`` is whether none has been ready for ``release_when.no_worker``. Guards bind a backup only. A gateway or
    witnesses that are lost are a fault only of a master whose peer is well and reaches more, and while it then stays
    so; ``is_alone`` is whether it is sure that they answer the peer and not us (``reach``).
    """
    if not facts.own_link_up:
        return _link_down(settings, facts)
    if no_worker:
        return "no worker is ready"
    if not is_master and (unfit := _unfit(facts)):
        return unfit
    peer = facts.linked_peer
    if peer is not None and peer.well and peer.reach.is_better_than(facts.reach):
        can_take = peer.state == "backup"
        if (is_master and can_take and is_alone) or (is_fault and (can_take or peer.state == "master")):
            return facts.reach.lacks(peer.reach)
    return ""


def yield_cause(settings: Settings, facts: Facts) -> str:
    """Say why a master gives the addresses to a peer that is better off, though nothing is wrong with itself."""
    peer = facts.linked_peer
    if peer is None or peer.state != "backup" or not peer.well or facts.reach.is_better_than(peer.reach):
        return ""
    if reason := impairment(facts):
        return reason
    if settings.release_when.no_backend and facts.healthy_backends == 0 and peer.healthy_backends:
        return f"no backend is healthy here, {peer.healthy_backends} at the peer"
    missing = missing_families(settings, facts)
    if missing and set(settings.families) <= peer.families:
        return f"{_no_source(settings, missing)}, and the peer has one"
    return ""


def missing_families(settings: Settings, facts: Facts) -> list[int]:
    """Name the families in which we have addresses to hold and none to speak VRRP from."""
    return [family for family in settings.families if family not in facts.sources]


def family_word(settings: Settings, facts: Facts) -> str:
    """Say which family is left out, empty if none is."""
    missing = missing_families(settings, facts)
    if not missing or not facts.own_link_up:
        return ""
    return f"{_no_source(settings, missing)}, so its virtual addresses are left out"


def handover_refusal(facts: Facts) -> str:
    """Say why the other machine can't be handed the addresses, empty if it can."""
    peer = facts.linked_peer
    if facts.link == "none":
        return "there is no link to the other machine, so nobody knows whether it is fit"
    if peer is None:
        return "the link to the other machine is down"
    if peer.state != "backup":
        return f"the other machine is {peer.state}{_because(peer)}"
    if not peer.well:
        return f"the other machine is not fit{_because(peer)}"
    if facts.reach.is_better_than(peer.reach):
        what = "its gateway" if facts.gateway and peer.gateway is False else "any of its witnesses"
        return f"the other machine doesn't reach {what}"
    if facts.healthy_backends and peer.healthy_backends == 0:
        return "the other machine sees no healthy backend"
    return ""


def loses_to_peer(facts: Facts, peer: PeerFacts, priority: int) -> bool:
    """Whether of two masters that only hear each other over the link this one should go."""
    if peer.reach.is_better_than(facts.reach) or facts.reach.is_better_than(peer.reach):
        return peer.reach.is_better_than(facts.reach)
    if priority != peer.priority:
        return priority < peer.priority
    ours, theirs = sorted(map(packed, facts.sources.values())), sorted(map(packed, peer.sources))
    return bool(ours) and bool(theirs) and ours < theirs


def silence_word(settings: Settings, facts: Facts) -> str:
    """Say that nobody outside answers this machine, and what follows from it; empty if somebody does."""
    if not is_isolated(settings, facts):
        return ""
    if _is_blind_too(facts.peer):
        return "neither machine reaches a gateway or a witness, so these decide nothing"
    return "neither the gateway nor a witness answers this machine"


def _own_refusal(settings: Settings, facts: Facts) -> str:
    if not facts.own_link_up:
        return _link_down(settings, facts)
    return "no worker is ready" if facts.ready_workers == 0 else _unfit(facts)


def _link_down(settings: Settings, facts: Facts) -> str:
    return facts.own_link_fault or f"interface {settings.interface} is down"


def _no_source(settings: Settings, families: list[int]) -> str:
    return f"{settings.interface} has no IPv{' and no IPv'.join(map(str, families))} address to speak VRRP from"


def _is_blind_too(peer: PeerFacts | None) -> bool:
    """Whether the peer reaches as little, by its last word, so that what is silent is itself at fault."""
    return peer is not None and peer.reach.is_cut_off


def _as_isolated(settings: Settings, facts: Facts, silence: Silence) -> Decision:
    """Nobody says whether it is us: a master that is cut off harms nobody, and a better one makes it go."""
    if silence.is_preempting or silence.adverts < settings.split_hold:
        return Decision(Verdict.STAY, f"{_ISOLATED}; that is waited for {settings.split_hold:g} s", "isolated")
    word = f"no advert for {silence.adverts:.3g} s, and nobody else answers either{_link_word(facts)}"
    return Decision(Verdict.TAKE, word, "isolated")


def _unfit(facts: Facts) -> str:
    """Say why this machine is not to be promoted, empty if it may be."""
    if facts.stranger:
        return facts.stranger
    if facts.guards == "refuse":
        return f"guard refuses: {facts.guard_reason}" if facts.guard_reason else "guard refuses"
    return ""


def _as_last_resort(settings: Settings, facts: Facts, silence: Silence) -> Decision:
    quiet = 0.0 if facts.link == "up" or silence.is_preempting else min(silence.adverts, silence.link)
    why = f" ({facts.guard_reason})" if facts.guard_reason else ""
    if is_isolated(settings, facts):
        return Decision(Verdict.STAY, _ISOLATED, "isolated")
    if quiet >= settings.split_hold:
        return Decision(Verdict.TAKE, f"last resort{why}: the peer has been silent on every path for {quiet:.3g} s")
    return Decision(Verdict.STAY, f"last resort{why}: waits for {settings.split_hold:g} s of silence on every path")


def _preempt(facts: Facts, peer: PeerFacts | None) -> Decision:
    if reason := impairment(facts):
        return Decision(Verdict.STAY, reason)
    if peer is not None and (facts.healthy_backends or 0) < (peer.healthy_backends or 0):
        return Decision(Verdict.STAY, "the master sees more healthy backends than we do")
    return Decision(Verdict.TAKE, "preempts a master with a lower priority")


def _by_link(settings: Settings, facts: Facts, peer: PeerFacts, silence: Silence) -> Decision:
    if peer.state != "master":
        return Decision(Verdict.TAKE, f"no advert for {silence.adverts:.3g} s, and the peer is {peer.state}")
    if not peer.well:
        return Decision(Verdict.TAKE, f"no advert for {silence.adverts:.3g} s, and the peer isn't well{_because(peer)}")
    if silence.held >= settings.split_hold and facts.reach.is_better_than(peer.reach):
        what = "the gateway" if facts.gateway and peer.gateway is False else "a witness"
        return Decision(Verdict.TAKE, f"no advert, and only we reach {what}")
    return Decision(Verdict.HOLD, "adverts don't come, but the link says that the peer is master and well", "split")


def _because(peer: PeerFacts) -> str:
    return f": {peer.reason[:_MAX_REASON]}" if peer.reason else ""


def _link_word(facts: Facts) -> str:
    if facts.link != "dead":
        return ""
    last = ""
    if facts.peer is not None:
        why = "" if facts.peer.state == "master" else _because(facts.peer)  # its own takeover is no news
        last = f"; its last word was {facts.peer.state}{why}"
    return f", and the link is dead{': ' if facts.link_fault else ''}{facts.link_fault}{last}"
