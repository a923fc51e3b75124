"""
The failover section as frozen objects, made from plain data: what the speaker runs on.

Must not know YAML, pydantic or any file: the supervisor reads the file and the keys that it names, and hands both
down in the start message.

Plain data has the names and the nesting of the classes below, with lists for tuples. It is the section of lb.yml
with every default filled in, except that addresses are taken apart, ``preempt`` is told by two keys, and keys are a
list of pairs because their order counts::

    {"interface": "eth0", "virtual_ips": [{"address": "192.168.0.10", "prefix": 32}], "vrid": 51, "priority": 100,
     "advert_interval": 1.0, "down_adverts": 3, "preempt": False, "preempt_delay": 0.0, "version": 3, "peers": [],
     "checksum": "auto", "lease": "auto", "startup_delay": 0.0, "link_up_delay": 0.0,
     "garp": {"repeat": 5, "delay": 5.0, "refresh": 10.0}, "gateway": "auto",
     "witnesses": [{"host": "router.example.com", "port": 443}],
     "link": {"bind": {"host": "10.1.0.1", "port": 9901}, "peer": {"host": "10.1.0.2", "port": 9901},
              "key_file": "/etc/pyproxy/link.key", "interval": 0.25, "dead_after": 4},
     "split_hold": 45.0,
     "guards": [{"run": ["true"], "timeout": 2.0, "interval": 5.0, "on_fail": "refuse"}],
     "notify": {"master": ["logger", "master"], "backup": None, "fault": None}, "notify_timeout": 30.0,
     "vip_backend": "netlink", "vip_exec": None, "release_when": {"no_worker": 0.5, "no_backend": False},
     "track": [{"run": None, "endpoint": {"host": "127.0.0.1", "port": 80}, "url": "http://127.0.0.1/", "path": "/",
                "interval": 2.0, "timeout": 1.0, "rise": 2, "fall": 3, "on_fail": "release", "by": 50}],
     "track_interfaces": ["eth1"],
     "auth_hmac": {"mode": "permissive", "replay": "time", "keys": [[1, "/etc/pyproxy/vrrp-1.key"]]}, "fence": None}

Seconds are floats.
"""

from dataclasses import dataclass
from typing import Any

Command = tuple[str, ...]


@dataclass(frozen=True, slots=True, order=True)
class VirtualIp:
    """An address that moves between the machines; IPv4 or IPv6 in its short form."""

    address: str
    prefix: int

    @property
    def family(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.address else 4

    def __str__(self) -> str:
        return f"{self.address}/{self.prefix}"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Host (an IP address, of a witness also a name) and port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Garp:
    """Announcements of the addresses: ``repeat`` at once, as many again after ``delay``, one every ``refresh``."""

    repeat: int
    delay: float  # 0 = no second burst
    refresh: float  # 0 = none


@dataclass(frozen=True, slots=True)
class Link:
    """The channel to the other machine."""

    bind: Endpoint
    peer: Endpoint
    key_file: str
    interval: float
    dead_after: int  # missed messages

    @property
    def ends(self) -> tuple[Endpoint, Endpoint, str]:
        """What can't change while the link is there."""
        return self.bind, self.peer, self.key_file

    @property
    def dead_time(self) -> float:
        """Seconds without a message after which the link is dead."""
        return self.interval * self.dead_after


@dataclass(frozen=True, slots=True)
class Guard:
    """A command that tells whether this machine may become master."""

    run: Command
    timeout: float
    interval: float
    on_fail: str  # refuse | last_resort


@dataclass(frozen=True, slots=True)
class Track:
    """A check of the service itself: a command, a connection, or with ``url`` a request for ``path`` over one."""

    run: Command | None
    endpoint: Endpoint | None
    url: str
    path: str
    interval: float
    timeout: float
    rise: int
    fall: int
    on_fail: str  # release | lower
    by: int  # of the priority, with lower


@dataclass(frozen=True, slots=True)
class Notify:
    """Commands to run on a change of state."""

    master: Command | None
    backup: Command | None
    fault: Command | None


@dataclass(frozen=True, slots=True)
class VipExec:
    """The command of the ``exec`` backend: called with ``add``, ``remove`` or ``check`` and the addresses."""

    run: Command
    timeout: float
    interval: float  # between two checks; 0 = none


@dataclass(frozen=True, slots=True)
class ReleaseWhen:
    """What makes a master give the addresses away."""

    no_worker: float
    no_backend: bool


@dataclass(frozen=True, slots=True)
class AuthHmac:
    """Signatures of adverts; ``keys`` are pairs of id and file, the first one signs."""

    mode: str  # receive-only | permissive | enforce
    replay: str  # time | monotonic
    keys: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole section."""

    interface: str
    virtual_ips: tuple[VirtualIp, ...]
    vrid: int
    priority: int
    advert_interval: float
    down_adverts: int
    preempt: bool
    preempt_delay: float  # 0 = at once
    version: int
    peers: tuple[str, ...]  # empty = multicast
    checksum: str  # auto | pseudo | rfc9568
    lease: str | float  # auto | off | seconds
    startup_delay: float
    link_up_delay: float
    garp: Garp
    gateway: str  # auto | off | address
    witnesses: tuple[Endpoint, ...]
    link: Link | None
    split_hold: float
    guards: tuple[Guard, ...]
    notify: Notify
    notify_timeout: float
    vip_backend: str  # netlink | exec | none
    vip_exec: VipExec | None
    release_when: ReleaseWhen
    track: tuple[Track, ...]
    track_interfaces: tuple[str, ...]
    auth_hmac: AuthHmac | None
    fence: Command | None

    @property
    def families(self) -> tuple[int, ...]:
        """The IP families of the addresses, 4 before 6: one VRRP instance each."""
        return tuple(sorted({vip.family for vip in self.virtual_ips}))

    def addresses(self, family: int) -> tuple[str, ...]:
        """Addresses of one family in the order of the file, which is their order in an advert."""
        return tuple(vip.address for vip in self.virtual_ips if vip.family == family)

    def peers_of(self, family: int) -> tuple[str, ...]:
        """Unicast peers of one family; empty is multicast."""
        return tuple(peer for peer in self.peers if (":" in peer) == (family == 6))


def from_plain(data: dict[str, Any]) -> Settings:
    """
    Make the settings from plain data.

    The data comes from ``compile_failover`` and is trusted: a missing or unknown key is a bug and raises
    ``KeyError`` or ``TypeError``.
    """
    return Settings(
        **{
            **data,
            "virtual_ips": tuple(VirtualIp(**item) for item in data["virtual_ips"]),
            "peers": tuple(data["peers"]),
            "garp": Garp(**data["garp"]),
            "witnesses": tuple(Endpoint(**item) for item in data["witnesses"]),
            "link": _link(data["link"]),
            "guards": tuple(Guard(**{**item, "run": tuple(item["run"])}) for item in data["guards"]),
            "notify": Notify(**{state: _command(run) for state, run in data["notify"].items()}),
            "vip_exec": _vip_exec(data["vip_exec"]),
            "release_when": ReleaseWhen(**data["release_when"]),
            "track": tuple(_track(item) for item in data["track"]),
            "track_interfaces": tuple(data["track_interfaces"]),
            "auth_hmac": _auth_hmac(data["auth_hmac"]),
            "fence": _command(data["fence"]),
        }
    )


def _command(words: list[str] | None) -> Command | None:
    return None if words is None else tuple(words)


def _link(data: dict[str, Any] | None) -> Link | None:
    if data is None:
        return None
    return Link(**{**data, "bind": Endpoint(**data["bind"]), "peer": Endpoint(**data["peer"])})


def _track(data: dict[str, Any]) -> Track:
    endpoint = data["endpoint"]
    return Track(**{**data, "run": _command(data["run"]), "endpoint": endpoint and Endpoint(**endpoint)})


def _vip_exec(data: dict[str, Any] | None) -> VipExec | None:
    return None if data is None else VipExec(**{**data, "run": tuple(data["run"])})


def _auth_hmac(data: dict[str, Any] | None) -> AuthHmac | None:
    if data is None:
        return None
    return AuthHmac(**{**data, "keys": tuple((number, file) for number, file in data["keys"])})
