"""
What of the configuration serves traffic, with what the byte path needs beside it: listeners, routes, pools.

Must not know connections or exchanges.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pyproxy.balance.backend import Backend, Columns
from pyproxy.balance.pool import Pool
from pyproxy.config.runtime import Backend as BackendConfig
from pyproxy.config.runtime import Listener, Route
from pyproxy.config.runtime import Pool as PoolConfig
from pyproxy.errors import ExchangeError
from pyproxy.observe.metrics import Layout
from pyproxy.proxy.attempt import Attempt, GatewayAnswers
from pyproxy.proxy.retry import RetryBudget
from pyproxy.proxy.sticky import ServedSticky
from pyproxy.proxy.waiting import WaitingLine
from pyproxy.routing.hash_key import make_hash_key
from pyproxy.routing.networks import Networks
from pyproxy.routing.rewrite import Template, make_rewrite

if TYPE_CHECKING:
    from pyproxy.proxy.exchange import Exchange
    from pyproxy.proxy.plane import DataPlane


#: Failures that go on are reported so often.
REPORT_SECONDS: Final = 1.0


def columns_of(layout: Layout, seat: int) -> Columns:
    """Give the places of a backend's counters."""
    return Columns(
        active=layout.backend_active(seat),
        total=layout.backend_total(seat),
        errors=layout.backend_errors(seat),
        codes=layout.backend_codes(seat),
        response=layout.backend_response(seat),
        tunnel=layout.backend_tunnel(seat),
    )


class ServedListener:
    """A listener's name and where its counters are; ``codes`` by pool, "" for none."""

    __slots__ = ("codes", "connections_column", "connections_total_column", "is_unix", "name", "port", "proxy_protocol")

    def __init__(self, config: Listener, layout: Layout) -> None:
        self.name = config.name
        self.port = config.port
        self.is_unix = bool(config.path)
        self.proxy_protocol = config.proxy_protocol
        self.codes = {pool: layout.codes(config.name, pool) for pool in ("", *layout.pools)}
        self.connections_column = layout.connections(config.name)
        self.connections_total_column = layout.connections_total(config.name)


class ServedPool:
    """A pool of the configuration, its policy at work, and those who wait for it."""

    __slots__ = (
        "_keepalive",
        "_layout",
        "budget",
        "hash_key",
        "line",
        "name",
        "pool",
        "private_keepalive",
        "resets",
        "retries_column",
        "retry",
        "send_proxy",
        "sticky",
        "timeouts",
        *("_plane", "outlier"),
    )

    def __init__(self, plane: "DataPlane", config: PoolConfig, layout: Layout) -> None:
        self.name = config.name
        self.timeouts = config.timeouts
        self.retry = config.retry
        self.budget = RetryBudget(config.retry)
        self.retries_column = layout.retries(config.name)
        self.hash_key = make_hash_key(config.hash) if config.hash is not None else None
        self.send_proxy = config.send_proxy
        self.resets = config.on_down == "reset"
        self.outlier = config.outlier
        self._plane = plane
        # A connection that began with a PROXY header is its client's own, who never needs a second one.
        self.private_keepalive = replace(config.keepalive, max_idle=min(1, config.keepalive.max_idle))
        self._keepalive = config.keepalive
        self._layout = layout
        self.pool = Pool(
            config.name,
            config.policy,
            [self._make(backend) for backend in config.backends],
            offset=plane.slot,
            unit=config.unit,
            tries_all=config.when_all_down == "try_all",
            in_flight=plane.count_in_flight,
        )
        self.pool.start_slowly(config.slow_start, plane.now)
        self.sticky = ServedSticky(config.sticky, self.pool) if config.sticky is not None else None
        self.line = WaitingLine(plane, self, config.queue, layout.queued(config.name), layout.queue_head(config.name))

    def pick(self, exchange: "Exchange") -> Backend | None:
        """
        Give the backend for an exchange's next attempt; None if there is none, or none yet.

        Nobody overtakes those who wait, but a request that was served already and is tried again: its place is
        free. Nor is anybody refused for the sake of another worker's queue, which may hang, while there is room. Who
        sticks to a backend that gets no other clients takes nothing from those who wait.
        """
        if exchange.attempts:
            return self.pick_another(exchange)
        own = exchange.own()
        if self.must_wait() and (own is None or not self.is_apart(own)):
            return None
        return self.pool.pick((), exchange.key, exchange.plane.now, own)

    def pick_another(self, exchange: "Exchange") -> Backend | None:
        """Give the backend for the next attempt of a request that has met some, or has waited in the line."""
        tried, unreachable = exchange.tried(), exchange.unreachable()
        return self.pool.pick(tried, exchange.key, exchange.plane.now, exchange.own(), unreachable)

    def pick_spare(self, exchange: "Exchange") -> Backend | None:
        """Give a backup for a request that would be refused otherwise, for want of room on the primary backends."""
        return self.pool.pick_spare(exchange.tried(), exchange.key, exchange.plane.now)

    def has_another(self, exchange: "Exchange") -> bool:
        """Whether there is anybody for the next attempt, now or when there is room."""
        return self.pool.has_another(exchange.unreachable(), exchange.own())

    def is_apart(self, own: Backend) -> bool:
        """Whether a backend serves only those who stick to it, and has room for one."""
        return own not in self.pool.eligible and self.pool.can_serve(own)

    def must_wait(self) -> bool:
        """Whether a newcomer has to go to the end of the line."""
        line = self.line
        return self.pool.is_limited and line.count() > 0 and (len(line) > 0 or not line.is_full())

    def update(self, configs: tuple[BackendConfig, ...], unit: int) -> tuple[list[Backend], list[Backend]]:
        """
        Change who is in the pool, and return those who left it, and those who stay but went down or were ejected.

        A backend whose name, address and seat stay is the same backend, with its connections and its past.
        """
        present = {backend.name: backend for backend in self.pool.backends}
        members, fallen = [], []
        for config in configs:
            backend = present.get(config.name)
            if backend is not None and self._is_same(backend, config):
                if backend.update(config, self._plane.now):
                    fallen.append(backend)
                del present[config.name]
            else:
                backend = self._make(config)
            members.append(backend)
        self.pool.replace(members, unit, self._plane.now)
        if self.sticky is not None:
            self.sticky.tokens.rebuild(members)
        self.line.handle_members()
        return list(present.values()), fallen

    def count_failure(self, attempt: Attempt, error: ExchangeError) -> None:
        """
        Count what an attempt failed of among its backend's failures in a row, and report when these are too many.

        What began before the backend came back doesn't count, nor does what we end ourselves since it is down.
        """
        if self._is_counted(attempt, error):
            self._count(attempt.on, error)

    def count_gateway_answer(self, attempt: Attempt, error: ExchangeError, client: bytes, target: bytes) -> None:
        """Do the same for a 502 to 504 of the backend's own, of which it matters who got it for what."""
        if self._is_counted(attempt, error):
            backend = attempt.on
            answers: GatewayAnswers | None = backend.gateway_answers if backend.failures else None
            if answers is None:
                answers = backend.gateway_answers = GatewayAnswers()
            answers.note(client, target)
            self._count(backend, error)

    def _is_counted(self, attempt: Attempt, error: ExchangeError) -> bool:
        backend = attempt.on
        if self.outlier is None or not error.blames_backend or backend.ejected or backend.health == "down":
            return False
        if attempt.started < backend.counts_from:
            return False
        if not backend.failures:
            backend.gateway_answers = None  # of an earlier row
        return True

    def _count(self, backend: Backend, error: ExchangeError) -> None:
        outlier = self.outlier
        assert outlier is not None
        backend.failures += 1
        now = self._plane.now
        # Told again until it answers: it may be the last one that is left, and not for long.
        is_due = backend.failures >= outlier.consecutive and now - backend.reported >= REPORT_SECONDS
        if is_due and backend in self.pool.backends:
            backend.reported = now
            self._plane.report_failing(backend, error)

    def _make(self, config: BackendConfig) -> Backend:
        return Backend(
            self.name,
            config,
            keepalive=self._plane.find_keepalive(config.address.encode(), self._keepalive),
            columns=columns_of(self._layout, config.seat),
        )

    def _is_same(self, backend: Backend, config: BackendConfig) -> bool:
        same_address = backend.address == config.address.encode()
        return same_address and backend.columns.active == self._layout.backend_active(config.seat)


class ServedRoute:
    """A route of the configuration, ready to be applied."""

    __slots__ = (
        "allow",
        "body_limit",
        "config",
        "index",
        "pool",
        "prefix",
        "redirect",
        "redirect_status",
        "request_rewrite",
        "response_rewrite",
    )

    def __init__(self, config: Route, index: int, pools: Mapping[str, ServedPool], body_limit: int | None) -> None:
        self.config = config
        self.index = index  # in the file
        self.pool = pools[config.pool] if config.pool is not None else None
        self.allow = Networks(config.allow) if config.allow is not None else None
        self.body_limit = config.body_limit if config.body_limit is not None else body_limit
        self.prefix = config.path.encode() if config.strip_prefix and config.path is not None else None
        self.request_rewrite = make_rewrite(config.request_headers)
        self.response_rewrite = make_rewrite(config.response_headers)
        self.redirect = Template(config.redirect.to) if config.redirect is not None else None
        self.redirect_status = config.redirect.status if config.redirect is not None else 0
