"""
What the machine hears: small frozen objects that the speaker hands to ``Machine.handle``.

Must not know what follows from an event.
"""

from dataclasses import dataclass
from enum import StrEnum

from pyproxy.failover.packet import Advert
from pyproxy.failover.settings import Settings


class State(StrEnum):
    """Where the machine is; the words of the API."""

    INIT = "init"
    BACKUP = "backup"
    MASTER = "master"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Start:
    """
    The sockets are open. ``adopt``: this process follows one that was master a moment ago.

    Adopting is right only if the saved state is fresh, the addresses are present and a first drain of the receive
    sockets brought no foreign advert.
    """

    adopt: bool = False


@dataclass(frozen=True, slots=True)
class Stop:
    """Give the addresses away and take no further part; what was in flight is already drained or reset."""

    reason: str = "stopped"


@dataclass(frozen=True, slots=True)
class AdvertHeard:
    """A valid advert that is for us and not from us, with its source address (no zone)."""

    advert: Advert
    source: str


@dataclass(frozen=True, slots=True)
class PacketDropped:
    """An advert that isn't valid. Nothing follows from it, which is the point."""

    reason: str


@dataclass(frozen=True, slots=True)
class Tick:
    """``next_deadline`` has come. Every packet that waits in the receive sockets was handled before this."""


@dataclass(frozen=True, slots=True)
class FactsChanged:
    """Something in ``Machine.facts`` is different from the last time."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """
    The whole machine was suspended for some seconds (CLOCK_BOOTTIME ran ahead of CLOCK_MONOTONIC).

    Comes before the receive sockets are drained, so that what waits there is seen in its light.
    """

    seconds: float


@dataclass(frozen=True, slots=True)
class HandoverRequested:
    """The operator wants the other machine to become master; ``reason`` is what that one will say of it."""

    reason: str = "handed over"


@dataclass(frozen=True, slots=True)
class DrainDone:
    """After ``BeginHandover``: nothing is in flight any more, or its grace is over."""


@dataclass(frozen=True, slots=True)
class ProbeDone:
    """After ``ProbeVips``: the hardware address of another machine that answered for an address, or None."""

    holder: str | None


@dataclass(frozen=True, slots=True)
class FenceDone:
    """After ``Fence``: whether its command exited with 0 in time."""

    ok: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class VipsFailed:
    """The addresses can't be added, or don't stay although they were added again."""

    detail: str


@dataclass(frozen=True, slots=True)
class ConflictSeen:
    """Another machine answers, or announces itself, for one of the addresses while we are master."""

    address: str
    holder: str


@dataclass(frozen=True, slots=True)
class Reconfigured:
    """New settings; interface, vrid, version and families are as before."""

    settings: Settings


Event = (
    Start
    | Stop
    | AdvertHeard
    | PacketDropped
    | Tick
    | FactsChanged
    | Resumed
    | HandoverRequested
    | DrainDone
    | ProbeDone
    | FenceDone
    | VipsFailed
    | ConflictSeen
    | Reconfigured
)
