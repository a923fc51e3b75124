"""
What the supervisor runs on, made from a checked configuration.

Must not know how the file was read, and imports nothing heavy: ``pyproxy -t`` comes by here too.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pyproxy.config.compile import compile_config
from pyproxy.config.model import Admin, Config
from pyproxy.config.runtime import join_address
from pyproxy.control.pair_settings import PairSettings
from pyproxy.control.startup import read_token


@dataclass(frozen=True, slots=True)
class AdminSettings:
    """Where the admin API listens, an IP address and port or a socket's path, and its token."""

    host: str = ""
    port: int = 0
    path: str = ""
    token: str | None = None

    def __repr__(self) -> str:
        return f"<AdminSettings {self.address}>"  # the token stays out of logs

    @property
    def address(self) -> str:
        """The configured address as text."""
        return f"unix:{self.path}" if self.path else join_address(self.host, self.port)


@dataclass(frozen=True, slots=True)
class Settings:
    """
    ``plain`` is the compiled configuration, ``file`` its origin; without ``admin`` there is no API.

    ``shown`` is the file with all defaults, for people: secrets are masked. ``pair`` is there with failover, for who
    runs the program.
    """

    plain: dict[str, Any]
    file: str
    admin: AdminSettings | None
    state_dir: str | None = None
    shown: Mapping[str, Any] = field(default_factory=dict)
    pair: PairSettings | None = None


def make_settings(config: Config, file: str) -> Settings:
    """Compile a configuration and read its token; raises ``StartError`` if the token's file is no good."""
    admin = make_admin_settings(config.admin)
    return Settings(compile_config(config), file, admin, config.state_dir, config.model_dump(mode="json"))


def make_admin_settings(admin: Admin | None) -> AdminSettings | None:
    """Read the token of the admin API; None without one."""
    if admin is None:
        return None
    token = read_token(admin.token.get_secret_value() if admin.token else None, admin.token_file)
    return AdminSettings(admin.bind.host, admin.bind.port, admin.bind.path, token)
