"""
What failover needs beside its section: the keys it names, what the two files have in common, a place for its state.

Must not know the speaker. Unlike the other settings it is read only by who runs the program or checks the file: an
operator who may ask the program needn't be allowed to read the keys.
"""

import errno
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyproxy.config.compile_failover import compile_failover, parse_key
from pyproxy.config.model import Config
from pyproxy.config.model_failover import Failover
from pyproxy.control.drift import Sections, make_sections
from pyproxy.control.files import read_small
from pyproxy.control.instance_lock import InstanceLock
from pyproxy.control.startup import StartError

MIN_LINK_KEY_BYTES = 16
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
            "track": [item | {"run": item["run"] and item["run"][:1]} for item in whole["track"]],
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
        _directory(f"vrid-{failover.vrid}-{failover.interface}", config.state_dir),
        config.log_level,
    )


def lock_instance(settings: PairSettings) -> InstanceLock:
    """See that no other program runs the same virtual router; ``StartError`` says which one does."""
    make_directory(settings.directory)
    return InstanceLock(settings.directory, f"vrid {settings.speaker['vrid']} on {settings.speaker['interface']}")


def make_directory(path: Path) -> None:
    """Make the speaker's directory, for nobody else's eyes."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if os.fstat(directory).st_uid != os.geteuid():
                raise OSError(errno.EPERM, "it belongs to somebody else")
            os.fchmod(directory, 0o700)
        finally:
            os.close(directory)
    except OSError as error:
        raise StartError(f"can't use {path}: {error.strerror}", key="failover") from error


def _directory(name: str, state_dir: str | None) -> Path:
    """Choose a place that is empty after a boot, or one that stays if there is none."""
    parent = RUN if RUN.exists() else RUN.parent
    if not os.access(parent, os.W_OK | os.X_OK) and state_dir is not None:
        return Path(state_dir) / name
    return RUN / name


def _read_link_key(failover: Failover) -> bytes | None:
    if failover.link is None:
        return None
    key = _read_key(failover.link.key_file, "link.key_file")
    if len(key) < MIN_LINK_KEY_BYTES:
        problem = f"{failover.link.key_file} must hold a key of at least {MIN_LINK_KEY_BYTES} bytes"
        raise StartError(problem, exit_code=2, key="failover.link.key_file")
    return key


def _read_key(file: str, name: str) -> bytes:
    try:
        return parse_key(read_small(file))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise StartError(f"can't use {file}: {reason}", exit_code=2, key=f"failover.{name}") from error


def _read_secret(file: str) -> bytes | None:
    try:
        return read_small(file).strip()
    except OSError:
        return None
