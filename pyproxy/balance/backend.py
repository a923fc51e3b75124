"""One address of a pool as a worker knows it: facts and counters that outlive a change of the configuration."""

from collections import OrderedDict
from typing import Any

from pyproxy.balance.latency import Latency
from pyproxy.config.runtime import Backend as BackendConfig


class Columns:
    """Where a backend's counters are in the row of the scoreboard that a worker writes."""

    __slots__ = ("active", "codes", "errors", "response", "total", "tunnel")

    def __init__(
        self, active: int = 0, total: int = 0, errors: int = 0, codes: int = 0, response: int = 0, tunnel: int = 0
    ) -> None:
        self.active = active
        self.total = total
        self.errors = errors
        self.codes = codes
        self.response = response
        self.tunnel = tunnel


class Backend:
    """
    A backend's runtime state; ``weight`` counts in its pool's unit, ``max_conns`` 0 is no limit.

    ``state`` is what the operator wants (ready, drain, maint), ``health`` what probes say (up, down, checking).
    ``active`` counts the attempts in flight in this worker. ``keepalive`` belongs to the byte path, which puts it
    here so that a pick leads to it without another lookup; nothing here looks inside. ``latency`` is there if the
    pool's policy asks for it. ``label`` is the name for log lines. ``tunnels`` are the attempts that became tunnels,
    each with its begin, the oldest first.

    ``full_weight`` and ``full_max_conns`` are what it has when no slow start is on; ``rising`` is when that began.
    ``failures`` counts those in a row of attempts that began after ``counts_from``; ``reported`` is when it was told
    last that there are many. ``gateway_answers`` are those of them that were answers of its own, valid while there are
    failures at all; it belongs to the byte path. ``ejected`` says that it is passed over for them. ``is_own`` says that
    it is a listener of this very program.
    """

    __slots__ = (
        *("active", "address", "backup", "columns", "health", "host", "keepalive", "label", "latency", "max_conns"),
        *("name", "path", "pool", "port", "state", "tunnels", "weight"),
        *("counts_from", "ejected", "failures", "full_max_conns", "full_weight", "gateway_answers", "is_own"),
        *("reported", "rising", "seat"),
    )

    def __init__(
        self, pool: str, config: BackendConfig, *, keepalive: Any = None, columns: Columns | None = None
    ) -> None:
        self.pool = pool
        self.name = config.name
        self.label = config.name.encode()
        self.host = config.host
        self.port = config.port
        self.path = config.path
        self.seat = config.seat
        self.address = config.address.encode()
        self.weight = config.weight
        self.backup = config.backup
        self.max_conns = config.max_conns
        self.is_own = config.is_own
        self.state = config.state
        self.health = config.health
        self.active = 0
        self.keepalive = keepalive
        self.columns = columns or Columns()
        self.latency: Latency | None = None
        self.full_weight = config.weight
        self.full_max_conns = config.max_conns
        self.rising = config.rising
        self.ejected = config.ejected
        self.failures = 0
        self.gateway_answers: Any = None
        self.counts_from = 0.0
        self.reported = float("-inf")
        # The first of an ordinary dict that is emptied from its beginning is found in linear time.
        self.tunnels: OrderedDict[Any, int] = OrderedDict()

    def update(self, config: BackendConfig, now: float) -> bool:
        """Go by what has changed; return whether it is to get nothing from now on for a reason of its own."""
        self.full_weight = config.weight
        self.backup = config.backup
        self.full_max_conns = config.max_conns
        self.state = config.state
        self.rising = config.rising
        has_gone_down = config.health == "down" and self.health != "down"
        is_newly_ejected = config.ejected and not self.ejected
        if (config.health, config.ejected) != (self.health, self.ejected):
            self.failures = 0
            self.counts_from = now  # what began before, and hangs still, says nothing about the time since
        self.health = config.health
        self.ejected = config.ejected
        return has_gone_down or is_newly_ejected

    def __repr__(self) -> str:
        facts = f"{self.health} {self.state}{' ejected' * self.ejected} weight {self.weight} {self.active} active"
        return f"<Backend {self.pool}/{self.name} {self.address.decode()} {facts}>"
