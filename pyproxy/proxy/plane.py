"""
What all connections of a worker share: the configuration in force, the counters, the log, the sweeper.

Must not know how a configuration arrives or where listening sockets come from: that is ``worker``.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Iterator
from typing import cast

from pyproxy.balance.backend import Backend, Columns
from pyproxy.balance.pool import Pool
from pyproxy.clock import monotonic, wall
from pyproxy.config.runtime import Listener, RuntimeConfig
from pyproxy.config.runtime import Pool as PoolConfig
from pyproxy.errors import Internal
from pyproxy.http1.writer import http_date
from pyproxy.observe.access_log import FORMATS, LineWriter
from pyproxy.observe.metrics import ENDS, Layout
from pyproxy.proxy.deadlines import Sweeper
from pyproxy.proxy.downstream import Downstream
from pyproxy.proxy.exchange import Exchange
from pyproxy.proxy.keepalive import Keepalive
from pyproxy.proxy.retry import RetryBudget
from pyproxy.proxy.tunnel import Tunnel
from pyproxy.proxy.upstream import Dial, Upstream
from pyproxy.routing.forwarded import TrustedProxies
from pyproxy.routing.table import RouteTable

_log = logging.getLogger("worker")


def _columns(layout: Layout, pool: str, backend: str) -> Columns:
    return Columns(
        active=layout.backend_active(pool, backend),
        total=layout.backend_total(pool, backend),
        errors=layout.backend_errors(pool, backend),
        codes=layout.backend_codes(pool, backend),
        response=layout.backend_response(pool, backend),
    )


class ServedPool:
    """A pool with what the byte path needs beside it."""

    __slots__ = ("budget", "name", "pool", "retries_column", "retry", "timeouts")

    def __init__(self, config: PoolConfig, layout: Layout, slot: int) -> None:
        self.name = config.name
        self.timeouts = config.timeouts
        self.retry = config.retry
        self.budget = RetryBudget(config.retry)
        self.retries_column = layout.retries(config.name)
        backends = [
            Backend(
                config.name,
                backend,
                keepalive=Keepalive[Upstream](config.keepalive),
                columns=_columns(layout, config.name, backend.name),
            )
            for backend in config.backends
        ]
        self.pool = Pool(config.name, config.policy, backends, offset=slot)


class ServedListener:
    """A listener's name and where its counters are; ``codes`` by pool, "" for none."""

    __slots__ = ("codes", "connections_column", "connections_total_column", "name")

    def __init__(self, config: Listener, layout: Layout) -> None:
        self.name = config.name
        self.codes = {pool: layout.codes(config.name, pool) for pool in ("", *layout.pools)}
        self.connections_column = layout.connections(config.name)
        self.connections_total_column = layout.connections_total(config.name)


def _request_ids() -> Iterator[bytes]:
    """Draw 32 hexadecimal digits at a time from the system, 256 draws at once: 0.1 µs each against 0.5."""
    while True:
        block = os.urandom(16 * 256).hex().encode()
        for start in range(0, len(block), 32):
            yield block[start : start + 32]


class DataPlane:
    """See the module's docstring. ``rows`` are all workers' counters, of which ``slot`` is ours."""

    def __init__(
        self,
        config: RuntimeConfig,
        layout: Layout,
        rows: list[memoryview],
        slot: int,
        log_fd: int | None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.now = monotonic()  # when the present callback began; whoever is called by the loop sets it
        self.config = config
        self.limits = config.limits
        self.client = config.client
        self.trusted_proxies = TrustedProxies(config.trusted_proxies)
        self.pools = {pool.name: ServedPool(pool, layout, slot) for pool in config.pools}
        self.routes = RouteTable(config.routes, self.pools)
        self.listeners = {listener.name: ServedListener(listener, layout) for listener in config.listeners}
        self.draining = False
        # How many requests a client's connection may carry; without a keepalive time there is no second one.
        self.max_requests = config.client.max_requests if config.client.keepalive else 1
        # counters
        self._rows = rows
        self._layout = layout
        self.row = rows[slot]
        self.bytes_in_column = layout.bytes_in
        self.bytes_out_column = layout.bytes_out
        self.duration_columns = {pool: layout.duration(pool) for pool in ("", *layout.pools)}
        self.end_columns = {end: layout.end(end) for end in ENDS}
        self._connection_columns = [listener.connections_column for listener in self.listeners.values()]
        # log
        self._format = FORMATS[config.access_log.format]
        self.log_writer = LineWriter(log_fd) if log_fd is not None else None
        self.make_request_id = _request_ids().__next__
        self.date = http_date(wall())
        self._next_second = self.now + 1.0
        self.sweeper = Sweeper(self.loop, monotonic, self._on_tick)
        self.watch = self.sweeper.watched.add
        self.unwatch = self.sweeper.watched.discard

    def __repr__(self) -> str:
        return f"<DataPlane {self.config.digest} {len(self.sweeper.watched)} watched>"

    # what the legs and exchanges ask for

    def is_over_connection_limit(self) -> bool:
        """Whether all workers together have more connections than allowed, the newest included."""
        limit = self.limits.connections
        if not limit:
            return False
        return sum(row[column] for row in self._rows for column in self._connection_columns) > limit

    def make_upstream(self, backend: Backend) -> Upstream:
        """Make the protocol of a new connection to a backend."""
        return Upstream(self, backend, self.pools[backend.pool].timeouts.idle)

    def dial(self, exchange: Exchange, backend: Backend, timeout: float) -> Dial:
        """Begin a connection for an exchange, which hears of the result."""
        return Dial(self, exchange, backend, timeout)

    def open_tunnel(self, exchange: Exchange) -> None:
        """Join the two legs of an exchange that was answered with 101."""
        upstream, served = exchange.upstream, exchange.served
        assert upstream is not None
        assert served is not None
        tunnel = Tunnel(exchange, exchange.downstream, upstream, served.timeouts.tunnel)
        upstream.open_tunnel(tunnel)
        exchange.downstream.open_tunnel(tunnel)
        if upstream.reader.rest:
            tunnel.from_backend(upstream.reader.rest)

    def log(self, exchange: Exchange) -> None:
        """Write the access log line of a finished exchange."""
        if self.log_writer is not None:
            self.log_writer.write(self._format(exchange, wall()))

    def crash(self, exchange: Exchange | None) -> None:
        """Contain an exception of ours, once, with its traceback: it costs its own exchange only."""
        _log.exception("internal error in %r", exchange)
        if exchange is None:
            return
        try:
            exchange.break_off(Internal())
        except Exception:
            _log.exception("ending %r failed", exchange)
        if exchange.downstream.exchange is exchange:
            exchange.downstream.abort()

    # what the worker asks for

    def accept(self, listener: str) -> Callable[[], asyncio.BaseProtocol]:
        """Give the protocol factory of a listener."""
        served = self.listeners[listener]
        return cast(Callable[[], asyncio.BaseProtocol], lambda: Downstream(self, served))

    def drain(self) -> None:
        """Stop keeping connections: idle ones close now, the others after their answer."""
        self.draining = True
        for watched in list(self.sweeper.watched):
            if isinstance(watched, Downstream):
                watched.drain()
        for served in self.pools.values():
            for backend in served.pool.backends:
                for upstream in backend.keepalive.clear():
                    upstream.close()

    def abandon(self) -> None:
        """End everything that is still going on."""
        for watched in list(self.sweeper.watched):
            if isinstance(watched, Downstream):
                watched.abandon()

    @property
    def connections(self) -> int:
        """Client connections of this worker."""
        return sum(self.row[column] for column in self._connection_columns)

    def close(self, timeout: float) -> None:
        """Stop the sweeper and write what is left of the log for at most ``timeout`` seconds."""
        self.sweeper.close()
        if self.log_writer is not None:
            self.log_writer.close(timeout)

    def _on_tick(self, now: float, lag: float) -> None:
        self.now = now
        self.row[self._layout.loop_lag_ns] = int(lag * 1e9)
        if self.log_writer is not None:
            self.log_writer.flush()
            self.row[self._layout.lines_dropped] = self.log_writer.dropped
        if now >= self._next_second:
            self._next_second = now + 1.0
            self.date = http_date(wall())
            for served in self.pools.values():
                served.budget.advance()
