"""
What the machine wants done: small frozen objects that come back from ``Machine.handle``.

Must not know how anything is done. Commands are carried out in their order, and each holds all that its execution
needs.
"""

from dataclasses import dataclass

from pyproxy.failover.events import State
from pyproxy.failover.settings import VirtualIp


@dataclass(frozen=True, slots=True)
class SendAdvert:
    """Send one advert with this priority in every family, IPv4 first, to the group or to every unicast peer."""

    priority: int


@dataclass(frozen=True, slots=True)
class AddVips:
    """Add these addresses, or renew those that are there; ``lifetime`` in seconds, None is for ever."""

    vips: tuple[VirtualIp, ...]
    lifetime: int | None


@dataclass(frozen=True, slots=True)
class RemoveVips:
    """Remove these addresses if they are there."""

    vips: tuple[VirtualIp, ...]


@dataclass(frozen=True, slots=True)
class RenewLease:
    """Renew the lifetime of these addresses; an address that is gone is the VIP watch's matter."""

    vips: tuple[VirtualIp, ...]
    lifetime: int


@dataclass(frozen=True, slots=True)
class Announce:
    """Announce these addresses ``repeat`` times, back to back: gratuitous ARP and unsolicited neighbour adverts."""

    vips: tuple[VirtualIp, ...]
    repeat: int


@dataclass(frozen=True, slots=True)
class AnnounceSelf:
    """Announce the interface's own addresses once, so that a unicast peer finds us without asking."""


@dataclass(frozen=True, slots=True)
class ProbeVips:
    """Ask on the wire who has these addresses, for at most 200 ms; answer with ``ProbeDone``."""

    vips: tuple[VirtualIp, ...]


@dataclass(frozen=True, slots=True)
class Fence:
    """Run ``settings.fence``, killed after ``timeout`` seconds; answer with ``FenceDone``."""

    command: tuple[str, ...]
    holder: str  # hardware address of the machine that still answers, empty if unknown
    timeout: float


@dataclass(frozen=True, slots=True)
class TellLink:
    """Tell the other machine our state over the link, now and not at its next interval."""


@dataclass(frozen=True, slots=True)
class Notify:
    """
    The state has changed: journal it, tell the supervisor, run the notify command of ``state`` if there is one.

    One comes for every change of state and for nothing else.
    """

    state: State
    before: State
    reason: str


@dataclass(frozen=True, slots=True)
class Alarm:
    """An alarm begins or ends; only changes are told."""

    name: str
    on: bool
    text: str


@dataclass(frozen=True, slots=True)
class BeginHandover:
    """Drain: no new connections, finish what is in flight; then ``DrainDone``. We stay master until then."""


@dataclass(frozen=True, slots=True)
class RefuseHandover:
    """The handover doesn't happen, or doesn't go on; what was drained for it is taken up again."""

    reason: str


@dataclass(frozen=True, slots=True)
class EndHandover:
    """The addresses are released for the other machine, which has been told."""


Command = (
    SendAdvert
    | AddVips
    | RemoveVips
    | RenewLease
    | Announce
    | AnnounceSelf
    | ProbeVips
    | Fence
    | TellLink
    | Notify
    | Alarm
    | BeginHandover
    | RefuseHandover
    | EndHandover
)
