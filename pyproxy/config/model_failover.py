"""
The model of the failover section of lb.yml: two machines that share virtual addresses by VRRP.

Must not know the rest of the file, nor how VRRP works.
"""

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field

from pyproxy.config.addresses import Endpoint, InterfaceAddress, Ip, Witness
from pyproxy.config.section import Section
from pyproxy.config.values import (
    DAY,
    FilePath,
    Items,
    Scalar,
    Text,
    duration,
    parse_duration,
    show_duration,
    text,
    whole,
)

_DURATION_OR = {"type": ["string", "number", "boolean"]}


def _parse_preempt(value: Any) -> bool | float:
    if isinstance(value, bool):
        return value
    try:
        return parse_duration(value)
    except ValueError:
        raise ValueError("must be true, false or a delay such as 60s") from None


def _parse_lease(value: Any) -> str | float:
    if value in ("auto", "off"):
        return str(value)
    try:
        return float(duration(1, 3600).parse(value))
    except ValueError:
        raise ValueError("must be auto, off or a duration of at least 1s") from None


def _parse_interval(value: Any) -> str | float:
    if value == "auto":
        return "auto"
    try:
        return float(duration(0.01, 60).parse(value))
    except ValueError:
        raise ValueError("must be auto or a duration from 10ms to 60s") from None


def _show(value: Any) -> Any:
    return show_duration(value) if isinstance(value, float) else value


def _gateway(value: str) -> str:
    if value in ("auto", "off"):
        return value
    try:
        return Ip.__metadata__[0].parse(value)  # type: ignore[attr-defined, no-any-return]
    except ValueError:
        raise ValueError("must be auto, off or an IP address") from None


def _http_url(value: str) -> str:
    url = urlsplit(value)
    try:
        is_good = url.scheme == "http" and bool(url.hostname) and url.username is None and url.port != 0
    except ValueError:
        is_good = False
    if not is_good or url.fragment or not value.isascii() or " " in value:
        raise ValueError("must be a URL such as http://127.0.0.1:8080/health")
    return value


Command = Annotated[Items[Text], Field(min_length=1, max_length=256)]
InterfaceName = Annotated[str, text("interface", r"[!-.0-~]{1,15}", "must be an interface such as eth0")]
KeyId = Annotated[int, whole(1, 255)]


class Garp(Section):
    """Announcements of the virtual addresses after a takeover: gratuitous ARP, neighbour adverts."""

    repeat: int = Field(5, ge=1, le=100, description="Announcements in one burst.")
    delay: Annotated[float, duration(0)] = Field(5.0, description="Time until the second burst; 0 sends none.")
    refresh: Annotated[float, duration(0)] = Field(
        10.0, description="Time between single announcements while master; 0 sends none."
    )


class Link(Section):
    """The authenticated channel between the two machines; give it another network than the addresses'."""

    bind: Endpoint = Field(description="Address of this machine on the link.")
    peer: Endpoint = Field(description="Address of the other machine on the link.")
    key_file: FilePath = Field(description="File with the shared key, the same on both.")
    interval: Annotated[str | float, Scalar("auto | duration", _parse_interval, _show, _DURATION_OR)] = Field(
        "auto",
        description="Time between two messages; `auto` is 250ms, or less if the adverts are so frequent that the link "
        "would count as dead later than the master.",
    )
    dead_after: int = Field(4, ge=1, le=255, description="Missed messages before the link counts as dead.")


class Guard(Section):
    """A command that tells whether this machine is fit to become master."""

    run: Command = Field(description="The command, as a list of words; exit code 0 is fit.")
    timeout: Annotated[float, duration()] = Field(2.0, description="Time that it may take.")
    interval: Annotated[float, duration(0.1)] = Field(5.0, description="Time between two runs.")
    on_fail: Literal["refuse", "last_resort"] = Field(
        "refuse",
        description="`refuse` keeps the machine out; `last_resort` lets it take over when the peer is "
        "silent on "
        "every path for `split_hold`.",
    )


class Track(Section):
    """A check of the service that the addresses are for, on the master and on the backup: one of run, tcp and http."""

    run: Command | None = Field(None, description="A command, as a list of words; exit code 0 is well.")
    tcp: Witness | None = Field(None, description="`host:port` that must accept a connection.")
    http: Annotated[str, text("http://host:port/path", check=_http_url)] | None = Field(
        None, description="URL whose answer must have a status from 200 to 399; without TLS."
    )
    interval: Annotated[float, duration(0.1)] = Field(2.0, description="Time between two runs.")
    timeout: Annotated[float, duration()] = Field(1.0, description="Time that one may take.")
    rise: int = Field(2, ge=1, le=100, description="Successes in succession until it is well again.")
    fall: int = Field(3, ge=1, le=100, description="Failures in succession until it fails.")
    on_fail: Literal["release", "lower"] = Field(
        "release",
        description="`release` gives the addresses to the other machine if its checks pass; `lower` lowers the "
        "priority, which moves them where `preempt` is on.",
    )
    by: int = Field(50, ge=1, le=254, description="By how much `lower` lowers the priority, which stays at least 1.")


class Notify(Section):
    """Commands to run on a change of state, strictly one after another."""

    master: Command | None = Field(None, description="Run on becoming master, as a list of words.")
    backup: Command | None = Field(None, description="Run on becoming backup.")
    fault: Command | None = Field(None, description="Run on a fault.")


class VipExec(Section):
    """The command that moves the addresses where the kernel can't, such as in a cloud."""

    run: Command = Field(
        description="The command, as a list of words. It gets `add`, `remove` or `check` and the addresses as further "
        "arguments; exit code 0 is done, or for `check` that the addresses are here."
    )
    timeout: Annotated[float, duration()] = Field(30.0, description="Time that it may take; then it is killed.")
    interval: Annotated[float, duration(0)] = Field(
        10.0, description="Time between two checks while master; 0 checks never."
    )


class ReleaseWhen(Section):
    """What makes a master give the addresses away."""

    no_worker: Annotated[float, duration(0)] = Field(0.5, description="No worker was ready for that long.")
    no_backend: bool = Field(
        False, description="No backend is healthy; never to a peer that sees no more healthy ones than we do."
    )


class AuthHmac(Section):
    """Authentication of adverts, as keepalived 2.4 and later does it."""

    mode: Literal["receive-only", "permissive", "enforce"] = Field(
        "receive-only",
        description="`receive-only` checks, `permissive` also signs, `enforce` refuses unsigned ones.",
    )
    replay: Literal["time", "monotonic"] = Field(
        "time",
        description="What an old advert is known by: `time` by its age, which needs clocks that agree within some "
        "seconds; `monotonic` only by a later one before it.",
    )
    keys: dict[KeyId, FilePath] = Field(
        min_length=1,
        max_length=255,
        description="Key id from 1 to 255 and the file that holds the key, as text or `hex:…`. The first one signs, "
        "all of them are accepted.",
    )


class Failover(Section):
    """Two machines, one address: this one's part in the pair."""

    interface: InterfaceName = Field(description="Network interface of the virtual addresses.")
    virtual_ips: Annotated[Items[InterfaceAddress], Field(min_length=1, max_length=64)] = Field(
        description="Addresses that move, with prefix length; the same on both machines."
    )
    vrid: int = Field(ge=1, le=255, description="Virtual router id, the same on both machines.")
    priority: int = Field(100, ge=1, le=255, description="The higher one becomes master; 255 owns the address.")
    advert_interval: Annotated[float, duration(0.01, 40)] = Field(
        1.0, description="Time between two adverts; a backup adopts the master's."
    )
    down_adverts: int = Field(3, ge=1, le=255, description="Missed adverts before the master counts as dead.")
    preempt: Annotated[bool | float, Scalar("true | false | duration", _parse_preempt, _show, _DURATION_OR)] = Field(
        False, description="Whether, or after which delay, a higher priority takes the addresses back."
    )
    version: Annotated[int, whole(2, 3)] = Field(3, description="VRRP version, 2 or 3.")
    peers: Items[Ip] = Field((), max_length=16, description="Unicast addresses of the peer; empty is multicast.")
    checksum: Literal["auto", "pseudo", "rfc9568"] = Field(
        "auto", description="Checksum to send; both kinds are accepted. `auto` does as the peer does."
    )
    lease: Annotated[str | float, Scalar("auto | off | duration", _parse_lease, _show, _DURATION_OR)] = Field(
        "auto", description="Lifetime of the addresses in the kernel, renewed while the speaker lives."
    )
    startup_delay: Annotated[float, duration(0)] = Field(0.0, description="Time before anything is claimed.")
    link_up_delay: Annotated[float, duration(0)] = Field(0.0, description="Time to wait after the link came up.")
    garp: Garp = Field(default_factory=Garp, description="Announcements after a takeover.")
    gateway: Annotated[str, text("auto | off | IP address", check=_gateway)] = Field(
        "auto", description="Address probed as a witness; `auto` is the default route's gateway."
    )
    witnesses: Items[Witness] = Field(
        (), max_length=16, description="Further `host:port` that only a connected machine reaches."
    )
    link: Link | None = Field(None, description="The channel to the other machine; null is none.")
    split_hold: Annotated[float, duration(0)] = Field(
        45.0, description="How long the link's word that the peer is master outweighs missing adverts."
    )
    guards: Items[Guard] = Field((), max_length=16, description="Commands that tell whether it may become master.")
    track: Items[Track] = Field((), max_length=16, description="Checks of the service itself.")
    track_interfaces: Items[InterfaceName] = Field(
        (), max_length=16, description="Further interfaces without which the other machine is the better master."
    )
    notify: Notify = Field(default_factory=Notify, description="Commands to run on a change of state.")
    notify_timeout: Annotated[float, duration(most=DAY)] = Field(
        30.0, description="Time after which such a command is killed."
    )
    vip_backend: Literal["netlink", "exec", "none"] = Field(
        "netlink", description="What moves the addresses: the kernel, a command (clouds), or nothing."
    )
    vip_exec: VipExec | None = Field(None, description="The command of `vip_backend: exec`, which needs it.")
    release_when: ReleaseWhen = Field(
        default_factory=ReleaseWhen, description="What makes a master give the addresses away."
    )
    auth_hmac: AuthHmac | None = Field(None, description="Authentication of adverts; null is none.")
    fence: Command | None = Field(
        None,
        description="Command run before claiming when the link is dead but the old machine still answers.",
    )
