"""
The failover pair as the admin API shows and commands it.

Must not know the speaker or the link: it is handed something that satisfies ``Pair``. The shapes are those of the
JSON that goes out; fields are added, never renamed. Times are RFC 3339, ages and spans seconds.
"""

from typing import Any, Literal, Protocol, TypedDict

from pyproxy.admin.changes import Origin

PairState = Literal["init", "backup", "master", "fault"]


class LinkView(TypedDict):
    """How the link is; ``refused`` counts what was refused on it, by reason, ``fault`` says why it isn't up."""

    state: Literal["none", "up", "dead"]
    heard_age: float | None
    speaking: bool
    refused: dict[str, int]
    fault: str


class PeerMachineView(TypedDict):
    """The other machine: what it said last over the link, ``None`` where it didn't or there is no link."""

    address: str | None
    state: str | None
    heard: str | None
    config_digest: str | None
    healthy_backends: int | None
    link: Literal["up", "down"]
    well: bool | None
    reason: str
    priority: int | None
    released: bool
    gateway: bool | None
    witnesses: bool | None
    advert_age: float | None


class GuardView(TypedDict):
    """What a guard, track or witness said last, and how many seconds ago; ``ok`` is None before the first verdict."""

    name: str
    ok: bool | None
    detail: str
    at: str | None
    age: float | None


TransitionView = TypedDict("TransitionView", {"at": str, "from": str, "to": str, "reason": str})


class AlarmView(TypedDict):
    """Something that an operator should look at, for as long as it is so."""

    name: str
    text: str
    since: str


class PairView(TypedDict):
    """
    The part of this machine in the pair, and what it knows of the other.

    ``drift`` names the sections of the file that differ, ``kept`` the other machine's changes at run time that have
    no place here. ``handover`` is whether one is on its way. ``dropped`` counts adverts that were dropped, by reason.
    ``age`` is how many seconds ago the speaker said all this, None if it never did.
    """

    state: PairState
    since: str
    reason: str
    priority: int
    vrid: int
    virtual_ips: list[str]
    vip_present: bool
    last_advert: str | None
    peer: PeerMachineView
    drift: list[str]
    guards: list[GuardView]
    tracks: list[GuardView]
    transitions: list[TransitionView]
    dual_master_seconds: float
    alarms: list[AlarmView]
    link: LinkView | None
    gateway: bool | None
    witnesses: bool | None
    witness_states: list[GuardView]
    config_digest: str | None
    kept: list[str]
    handover: bool
    dropped: dict[str, int]
    age: float | None


class HandoverView(TypedDict):
    """A hand-over that is done: how long it took, and how many connections were reset at the end of the grace."""

    state: str
    duration: float
    reset: int


class DiffView(TypedDict):
    """The sections that differ, and a unified diff of them, the other machine's first."""

    drift: list[str]
    diff: str


class Pair(Protocol):
    """
    The pair as this machine sees it.

    What can't be answered raises ``Unavailable``, a hand-over that is refused ``Conflict``.
    """

    def view(self) -> PairView:
        """Describe the pair."""
        ...

    async def handover(self, origin: Origin) -> HandoverView:
        """Give the addresses to the other machine, when nothing is in flight any more or the grace is over."""
        ...

    async def diff(self) -> DiffView:
        """Compare the configuration with the other machine's."""
        ...

    def facts(self) -> dict[str, Any]:
        """Give what a simulation needs: settings, facts, and the other machine's settings."""
        ...
