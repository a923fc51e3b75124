"""
What failover needs beside its section: the keys it names, what the two files have in common, a place for its state.

Must not know the speaker. Unlike the other settings it is read only by who runs the program or checks the file: an
operator who may ask the program needn't be allowed to read the keys.
"""

import contextlib
import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyproxy.config.compile_failover import compile_failover, parse_key
from pyproxy.config.model import Config
from pyproxy.config.model_failover import Failover
from pyproxy.control.drift import Sections, make_sections
from pyproxy.control.startup import StartError

MIN_LINK_KEY_BYTES = 16
_ZERO = "00000000"  # an IPv4 address in /proc
RUN = Path("/run/pyproxy")


@dataclass(frozen=True, slots=True)
class PairSettings:
    """
    ``speaker`` is the section as plain data, ``link_key`` and ``hmac_keys`` what its key files hold.

    ``sections`` are what the other machine's file is compared with. ``directory`` is where the speaker keeps its state.
    """

    speaker: dict[str, Any]
    link_key: bytes | None
    hmac_keys: tuple[tuple[int, bytes], ...]
    sections: Sections
    host: str
    directory: Path
    log_level: str = "info"

    def __repr__(self) -> str:
        return f"<PairSettings vrid {self.speaker['vrid']} on {self.host}>"  # the keys stay out of logs

    @property
    def addresses(self) -> tuple[str, ...]:
        """The virtual addresses, without their prefixes."""
        return tuple(vip["address"] for vip in self.speaker["virtual_ips"])

    @property
    def told(self) -> dict[str, Any]:
        """The section as a simulation needs it: of each command the program alone, a password may be in the rest."""
        whole = self.speaker
        fence, vip = whole["fence"], whole["vip_exec"]
        return whole | {
            "guards": [guard | {"run": guard["run"][:1]} for guard in whole["guards"]],
            "notify": {state: words and words[:1] for state, words in whole["notify"].items()},
            "fence": fence and fence[:1],
            "vip_exec": vip and vip | {"run": vip["run"][:1]},
        }

    def keys(self) -> dict[str, Any]:
        """Write the keys as the speaker takes them."""
        link = self.link_key.hex() if self.link_key is not None else None
        return {"link": link, "hmac": [[number, key.hex()] for number, key in self.hmac_keys]}


def make_pair_settings(config: Config) -> PairSettings | None:
    """Read what failover needs, None without it; ``StartError`` for a key file that is no good."""
    failover = config.failover
    if failover is None:
        return None
    link_key = _read_link_key(failover)
    hmac_keys = failover.auth_hmac.keys.items() if failover.auth_hmac is not None else ()
    return PairSettings(
        compile_failover(failover),
        link_key,
        tuple((number, _read_key(file, f"auth_hmac.keys.{number}")) for number, file in hmac_keys),
        make_sections(config, link_key, _read_secret) if link_key is not None else {},
        socket.gethostname(),
        _directory(failover.vrid, config.state_dir),
        config.log_level,
    )


def machine_warnings(settings: PairSettings) -> list[str]:
    """Say what of this machine can hardly be meant: an interface that isn't there, a key that everybody can read."""
    speaker, found = settings.speaker, []
    name = speaker["interface"]
    if name not in (known for _, known in socket.if_nameindex()):
        found.append(f"failover.interface: there is no interface {name} on this machine")
    elif speaker["gateway"] == "auto" and not speaker["witnesses"] and not _has_default_route(name):
        found.append(
            f"failover.gateway: no default route leads through {name}, so auto asks nobody, and without witnesses "
            "nothing tells this machine whether it is cut off"
        )
    keys = [("auth_hmac.keys", file) for _, file in (speaker["auth_hmac"] or {"keys": ()})["keys"]]
    if speaker["link"] is not None:
        keys.insert(0, ("link.key_file", speaker["link"]["key_file"]))
    for key, file in keys:
        with contextlib.suppress(OSError):  # it has been read, so it has just gone
            if Path(file).stat().st_mode & stat.S_IROTH:
                found.append(f"failover.{key}: everybody on this machine may read {file}; chmod o-r it")
    return found


def _has_default_route(interface: str) -> bool:
    """Look in the kernel's tables; a machine that hides them is believed to have one."""
    try:
        v4 = [line.split() for line in Path("/proc/net/route").read_text().splitlines()[1:]]
    except OSError:
        return True
    v6: list[list[str]] = []
    with contextlib.suppress(OSError):  # a kernel without IPv6
        v6 = [line.split() for line in Path("/proc/net/ipv6_route").read_text().splitlines()]
    # Name, destination, gateway, flags, …, mask; and destination, length, source, length, gateway, …, name.
    return any(row[0] == interface and row[1] == row[7] == _ZERO and row[2] != _ZERO for row in v4) or any(
        row[9] == interface and row[1] == "00" and row[4].strip("0") for row in v6
    )


def make_directory(path: Path) -> None:
    """Make the speaker's directory, for nobody else's eyes."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.chmod(0o700)
    except OSError as error:
        raise StartError(f"failover: can't use {path}: {error.strerror}") from error


def _directory(vrid: int, state_dir: str | None) -> Path:
    """Choose a place that is empty after a boot, or one that stays if there is none."""
    parent = RUN if RUN.exists() else RUN.parent
    if not os.access(parent, os.W_OK | os.X_OK) and state_dir is not None:
        return Path(state_dir) / f"vrid-{vrid}"
    return RUN / f"vrid-{vrid}"


def _read_link_key(failover: Failover) -> bytes | None:
    if failover.link is None:
        return None
    key = _read_key(failover.link.key_file, "link.key_file")
    if len(key) < MIN_LINK_KEY_BYTES:
        problem = f"{failover.link.key_file} must hold a key of at least {MIN_LINK_KEY_BYTES} bytes"
        raise StartError(f"failover.link.key_file: {problem}", exit_code=2)
    return key


def _read_key(file: str, name: str) -> bytes:
    try:
        return parse_key(Path(file).read_bytes())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise StartError(f"failover.{name}: can't use {file}: {reason}", exit_code=2) from error


def _read_secret(file: str) -> bytes | None:
    try:
        return Path(file).read_bytes().strip()
    except OSError:
        return None
