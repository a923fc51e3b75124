"""One address of a pool as a worker knows it: facts and counters that outlive a change of the configuration."""

from typing import Any

from pyproxy.config.runtime import Backend as BackendConfig


class Backend:
    """
    A backend's runtime state.

    ``active`` counts the attempts in flight in this worker. ``keepalive`` and ``columns`` belong to the byte
    path, which puts them here so that a pick leads to them without another lookup; nothing here looks inside.
    """

    __slots__ = ("active", "address", "backup", "columns", "host", "keepalive", "name", "pool", "port", "weight")

    def __init__(self, pool: str, config: BackendConfig, *, keepalive: Any = None, columns: Any = None) -> None:
        self.pool = pool
        self.name = config.name
        self.host = config.host
        self.port = config.port
        self.address = config.address.encode()
        self.weight = config.weight
        self.backup = config.backup
        self.active = 0
        self.keepalive = keepalive
        self.columns = columns

    def __repr__(self) -> str:
        return f"<Backend {self.pool}/{self.name} {self.address.decode()} weight {self.weight} {self.active} active>"
