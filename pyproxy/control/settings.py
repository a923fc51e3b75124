"""
What the supervisor runs on, made from a checked configuration.

Must not know how the file was read, and imports nothing heavy: ``pyproxy -t`` comes by here too.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pyproxy.config.compile import compile_config
from pyproxy.config.model import Admin, Config
from pyproxy.config.model_pool import MIN_STICKY_SECRET
from pyproxy.config.runtime import join_address
from pyproxy.config.source import Path
from pyproxy.control.cpus import usable_cpus
from pyproxy.control.pair_settings import PairSettings
from pyproxy.control.startup import read_secrets, read_token


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

    ``shown`` is the file with all defaults, for people: secrets are masked. ``origins`` says by path where the values
    that are in the file come from, ``variables`` which of the environment they took: workers don't see these.
    ``pair`` is there with failover, for who runs the program.
    """

    plain: dict[str, Any] = field(repr=False)  # has secrets
    file: str
    admin: AdminSettings | None
    state_dir: str | None = None
    shown: Mapping[str, Any] = field(default_factory=dict)
    origins: Mapping[Path, str] = field(default_factory=dict)
    pair: PairSettings | None = None
    variables: frozenset[str] = frozenset()


def make_settings(config: Config, file: str) -> Settings:
    """Compile a configuration and read its secrets; raises ``StartError`` if one of their files is no good."""
    admin = make_admin(config.admin) if config.admin else None
    plain = compile_config(config, _read_sticky_secrets(config), cpus=usable_cpus())
    shown = config.model_dump(mode="json")
    return Settings(plain, file, admin, config.state_dir, shown, config.origins, variables=config.variables)


def _read_sticky_secrets(config: Config) -> dict[str, tuple[str, ...]]:
    return {
        name: read_secrets(f"pools.{name}.sticky.secret_file", pool.sticky.secret_file, MIN_STICKY_SECRET)
        for name, pool in config.pools.items()
        if pool.sticky is not None and pool.sticky.secret_file is not None
    }


def make_admin(admin: Admin) -> AdminSettings:
    """Read the token of the admin API, and no other secret: those who may ask need not be able to read all."""
    token = read_token(admin.token.get_secret_value() if admin.token else None, admin.token_file)
    return AdminSettings(admin.bind.host, admin.bind.port, admin.bind.path, token)
