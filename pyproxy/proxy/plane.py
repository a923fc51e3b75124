"""
What all connections of a worker share: the configuration in force, the counters, the log, the sweeper.

Must not know how a configuration arrives or where listening sockets come from: that is ``worker``.
"""

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final, cast

from pyproxy.balance.backend import Backend
from pyproxy.clock import monotonic, wall
from pyproxy.config.runtime import Keepalive as KeepaliveConfig
from pyproxy.config.runtime import RuntimeConfig, members_from_plain
from pyproxy.errors import ExchangeError, Internal, UpstreamError
from pyproxy.http1.limits import HeadLimits
from pyproxy.http1.writer import http_date
from pyproxy.observe.access_log import LineWriter
from pyproxy.observe.histogram import WIDTH, bucket_of
from pyproxy.observe.logging_setup import dropped_lines
from pyproxy.observe.metrics import ENDS, Layout
from pyproxy.proxy.attempt import Attempt
from pyproxy.proxy.deadlines import Sweeper
from pyproxy.proxy.downstream import Downstream
from pyproxy.proxy.exchange import Exchange
from pyproxy.proxy.flow import Leg
from pyproxy.proxy.keepalive import WAIT_SECONDS, Keepalive
from pyproxy.proxy.lingering import Lingering
from pyproxy.proxy.log_lines import combined, escape, json_line
from pyproxy.proxy.served import ServedListener, ServedPool, ServedRoute
from pyproxy.proxy.splice import SPLICE_BYTES, AnswerSplice, BodySplice, Pipe, Pipes
from pyproxy.proxy.tunnel import Tunnel
from pyproxy.proxy.upstream import Dial, Upstream
from pyproxy.routing.networks import Networks
from pyproxy.routing.table import RouteTable

#: Connections of one worker that linger at a time: after an answer to a request, and after "too many connections".
LINGERING_MAX: Final = 256
REFUSED_MAX: Final = 32

_log = logging.getLogger("worker")

#: So many failed exchanges a second have a line of their own in the program's log.
TOLD_A_SECOND: Final = 10


def _request_ids() -> Iterator[bytes]:
    """Draw 32 hexadecimal digits at a time from the system, 256 draws at once: 0.1 µs each against 0.5."""
    while True:
        block = os.urandom(16 * 256).hex().encode()
        for start in range(0, len(block), 32):
            yield block[start : start + 32]


class DataPlane:
    """
    See the module's docstring.

    ``rows`` are all workers' counters, of which ``slot`` is ours. ``report`` gets what the supervisor is to hear of.
    """

    def __init__(
        self,
        config: RuntimeConfig,
        layout: Layout,
        rows: list[memoryview],
        slot: int,
        log_fd: int | None,
        report: Callable[[dict[str, Any]], None] = lambda _message: None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.now = monotonic()  # when the present callback began; whoever is called by the loop sets it
        self.config = config
        self.limits = config.limits
        self.head_limits = HeadLimits(config.limits)
        self.client = config.client
        self.trusted_proxies = Networks(config.trusted_proxies)
        self.slot = slot
        self.rows = rows
        self.error_pages = {page.status: page for page in config.error_pages}
        self.listeners = {listener.name: ServedListener(listener, layout) for listener in config.listeners}
        self._report = report
        self.draining = False
        self.keeps_clients = True  # whether a client's connection may carry another request
        self.pins = 0  # clients' logins that hold for a backend's connection
        self.lingering = Lingering(LINGERING_MAX)
        self.refused = Lingering(REFUSED_MAX)
        self.pipes = Pipes()
        self.splice_bytes = SPLICE_BYTES
        # How many requests a client's connection may carry; without a keepalive time there is no second one.
        self.max_requests = config.client.max_requests if config.client.keepalive else 1
        # counters
        self._layout = layout
        self.row = rows[slot]
        self.bytes_in_column = layout.bytes_in
        self.bytes_out_column = layout.bytes_out
        self.duration_columns = {pool: layout.duration(pool) for pool in ("", *layout.pools)}
        self.end_columns = {end: layout.end(end) for end in ENDS}
        self._connection_columns = [listener.connections_column for listener in self.listeners.values()]
        # log
        self._logs_json = config.access_log.format == "json"
        self._epoch = wall() - self.now  # of the monotonic clock; looked at again with every sweep
        self.log_writer = LineWriter(log_fd) if log_fd is not None else None
        self._told = 0  # failed exchanges of the present second
        self.make_request_id = _request_ids().__next__
        self.date = http_date(wall())
        self._next_second = self.now + 1.0
        self.sweeper = Sweeper(self.loop, monotonic, self._on_tick)
        self.watch = self.sweeper.watch
        self.unwatch = self.sweeper.unwatch
        # Pools that speak in the same way to the same address share its idle connections.
        self._keepalives: dict[tuple[bytes, KeepaliveConfig], Keepalive[Upstream]] = {}
        self.pools = {pool.name: ServedPool(self, pool, layout) for pool in config.pools}
        self._rising = [served for served in self.pools.values() if served.pool.is_rising]
        self.is_sticky = any(served.sticky is not None for served in self.pools.values())
        routes = [ServedRoute(route, n, self.pools, config.limits.body) for n, route in enumerate(config.routes)]
        self.routes = RouteTable(config.routes, routes)

    def __repr__(self) -> str:
        return f"<DataPlane {self.config.digest} {len(self.sweeper.watched)} watched>"

    # what the legs and exchanges ask for

    def is_over_connection_limit(self) -> bool:
        """Whether all workers together have more connections than allowed, the newest included."""
        limit = self.limits.connections
        if not limit:
            return False
        return sum(row[column] for row in self.rows for column in self._connection_columns) > limit

    def make_upstream(self, backend: Backend, keepalive: Keepalive[Upstream]) -> Upstream:
        """Make the protocol of a new connection to a backend."""
        return Upstream(self, backend, keepalive, self.pools[backend.pool].timeouts.idle)

    def find_keepalive(self, address: bytes, config: KeepaliveConfig) -> Keepalive[Upstream]:
        """Give a backend the idle connections of its address, which it shares with all that have the same settings."""
        key = address, config
        found = self._keepalives.get(key)
        if found is None or not found.users:
            found = self._keepalives[key] = Keepalive(config, address)
        found.users += 1
        return found

    def await_first(self, keepalive: Keepalive[Upstream], attempt: Attempt) -> None:
        """Take it that an attempt waits for a new connection, to which idle ones give way if it takes long."""
        keepalive.await_first(attempt)
        self._look_later(keepalive)

    def _look_later(self, keepalive: Keepalive[Upstream]) -> None:
        if not keepalive.is_watched:
            keepalive.is_watched = True
            self.loop.call_later(WAIT_SECONDS, self._look, keepalive)

    def _look(self, keepalive: Keepalive[Upstream]) -> None:
        """Close idle connections in favour of who has waited for long enough; ask the other workers if need be."""
        keepalive.is_watched = False
        self.now = monotonic()
        idle, untold = keepalive.find_idle(self.now, Upstream.is_idle_since)
        for upstream in idle:
            upstream.close()
        if untold:
            self._note_strangers(keepalive.address, untold, but=keepalive)
            if len(self.rows) > 1:
                self._report({"type": "waiting", "address": keepalive.address.decode(), "since": untold})
        if keepalive.waiting:
            self._look_later(keepalive)

    def give_way(self, address: str, since: list[float]) -> None:
        """Let idle connections to an address give way to checks, or to requests of another worker, that wait."""
        self.now = monotonic()
        self._note_strangers(address.encode(), since)

    def _note_strangers(self, address: bytes, since: list[float], but: Keepalive[Upstream] | None = None) -> None:
        for keepalive in self._keepalives.values():
            if keepalive.address == address and keepalive is not but:
                keepalive.note_strangers(since, self.now)
                self._look_later(keepalive)

    def dial(self, exchange: Exchange, backend: Backend, keepalive: Keepalive[Upstream], timeout: float) -> Dial:
        """Begin a connection for an exchange, which hears of the result."""
        return Dial(self, exchange, backend, keepalive, timeout)

    def count_in_flight(self, backend: Backend) -> int:
        """Count what is in flight on a backend, over all workers."""
        column = backend.columns.active
        return sum([row[column] for row in self.rows])

    def report_failing(self, backend: Backend, error: ExchangeError) -> None:
        """Tell the supervisor of a backend whose failures in a row are too many; ``error`` is the last one."""
        message = {"pool": backend.pool, "seat": backend.seat, "failures": backend.failures}
        if backend.gateway_answers is not None:
            message["answers"] = backend.gateway_answers.plain()
        self._report({"type": "failing", **message, "last": escape(error.why).decode()})

    def splice_answer(self, exchange: Exchange, upstream: Upstream, first: list[bytes]) -> AnswerSplice | None:
        """Let the rest of an answer pass inside the kernel, behind these first bytes; None if it can't."""
        lent = self._lend(upstream, exchange.downstream) if self._is_tcp(exchange, upstream) else None
        if lent is None:
            return None
        data = b"".join(first)
        self.row[self.bytes_out_column] += len(data)
        return AnswerSplice(exchange, *lent, upstream, data)

    def splice_body(self, exchange: Exchange, upstream: Upstream, data: bytes) -> BodySplice | None:
        """Let the rest of a request's body pass inside the kernel, behind these bytes of it; None if it can't."""
        lent = self._lend(exchange.downstream, upstream) if self._is_tcp(exchange, upstream) else None
        return BodySplice(exchange, *lent, upstream, data) if lent is not None else None

    def _is_tcp(self, exchange: Exchange, upstream: Upstream) -> bool:
        return not exchange.downstream.listener.is_unix and not upstream.backend.path

    def _lend(self, source: Leg, sink: Leg) -> tuple[Pipe, int, int] | None:
        """Give a pipe and descriptors for both ends; None if there are none to be had, or the sink isn't ready."""
        if not source.is_open or not sink.is_open or sink.unsent_bytes:
            return None
        opened: list[int] = []
        pipe = None
        try:
            pipe = self.pipes.take()
            if pipe is None:
                return None
            for leg in (source, sink):
                opened.append(os.dup(leg.fileno()))  # noqa: PERF401 - known, for if the next one fails
        except OSError:  # out of descriptors, or of memory for pipes: copying needs neither
            for descriptor in opened:
                os.close(descriptor)
            if pipe is not None:
                self.pipes.give_back(pipe)
            return None
        return pipe, opened[0], opened[1]

    def open_tunnel(self, exchange: Exchange) -> None:
        """Join the two legs of an exchange that was answered with 101."""
        upstream, served = exchange.upstream, exchange.served
        assert upstream is not None
        assert served is not None
        exchange.attempts[-1].tunnelled(self.row, self.now)
        tunnel = Tunnel(exchange, exchange.downstream, upstream, served.timeouts.tunnel)
        upstream.open_tunnel(tunnel)
        exchange.downstream.open_tunnel(tunnel)
        if upstream.reader.rest:
            tunnel.from_backend(upstream.reader.rest)

    def record(self, exchange: Exchange) -> None:
        """Count a finished exchange and write its line into the access log."""
        row, pool, duration = self.row, exchange.pool, exchange.duration
        row[exchange.downstream.listener.codes[pool] + exchange.status // 100 - 1] += 1
        histogram = self.duration_columns[pool]
        row[histogram + bucket_of(duration)] += 1
        row[histogram + WIDTH - 1] += int(duration * 1e9)
        row[self.end_columns[exchange.end]] += 1
        self.log(exchange)

    def tell_fault(self, exchange: Exchange, error: ExchangeError) -> None:
        """Tell in the program's log what a client or a backend did wrong, whether or not there is an access log."""
        self._told += 1
        if self._told > TOLD_A_SECOND:
            return
        is_backend = isinstance(error, UpstreamError)
        who = f"{exchange.pool}/{exchange.attempts[-1].on.name}" if is_backend else exchange.client.decode()
        level = logging.WARNING if is_backend else logging.INFO
        _log.log(level, "%s: %s (id=%s)", who, escape(error.why).decode(), exchange.request_id.decode())

    def log(self, exchange: Exchange) -> None:
        """Write the access log line of a finished exchange."""
        if self.log_writer is not None:
            now = self._epoch + self.now
            self.log_writer.write(json_line(exchange, now) if self._logs_json else combined(exchange, now))

    def contain(self, exchange: Exchange, step: Callable[[Any], None], argument: Any) -> None:
        """Take a step of an exchange from outside its legs' callbacks: what goes wrong costs this exchange only."""
        try:
            step(argument)
        except Exception:
            self.crash(exchange)

    def crash(self, exchange: Exchange | None) -> None:
        """Contain an exception of ours, once, with its traceback: it costs its own exchange only."""
        _log.exception("internal error in %r", exchange)
        if exchange is None:
            return
        if exchange.finished and exchange.downstream.exchange is not None:
            exchange = exchange.downstream.exchange  # the end of one begins the next: that's the one that failed
        try:
            exchange.break_off(Internal(note=type(sys.exc_info()[1]).__name__.encode()))
        except Exception:
            _log.exception("ending %r failed", exchange)
        if exchange.downstream.exchange is exchange:
            exchange.downstream.abort()

    # what the worker asks for

    def accept(self, listener: str) -> Callable[[], asyncio.BaseProtocol]:
        """Give the protocol factory of a listener."""
        served = self.listeners[listener]
        return cast(Callable[[], asyncio.BaseProtocol], lambda: Downstream(self, served))

    def update_pools(self, pools: list[dict[str, Any]]) -> None:
        """
        Change who is in which pool, and how they stand (plain data).

        Requests in flight on a backend that left, went down or was ejected go on, unless ``on_down`` says otherwise.
        """
        self.now = monotonic()
        for data in pools:
            served = self.pools[data["name"]]
            gone, fallen = served.update(members_from_plain(data["backends"]), data["unit"])
            for backend in gone:
                for upstream in backend.keepalive.release():
                    upstream.close()
            self._keepalives = {key: found for key, found in self._keepalives.items() if found.users}
            for backend in fallen:
                # Behind a machine that lost its power they look open for as long as nothing is sent.
                for upstream in backend.keepalive.clear():
                    upstream.close()
            if (gone or fallen) and (served.send_proxy is not None or self.pins):
                self._close_own({*gone, *fallen})
            if served.resets:
                self._reset({backend for backend in fallen if backend.health == "down"})

        self._rising = [served for served in self.pools.values() if served.pool.is_rising]

    def take_seen(self) -> dict[str, dict[str, list[int]]]:
        """Give the sticky clients that came back since the last call, by pool and backend; only what isn't empty."""
        seen = {name: served.sticky.take_seen() for name, served in self.pools.items() if served.sticky is not None}
        return {name: backends for name, backends in seen.items() if backends}

    def _close_own(self, backends: set[Backend]) -> None:
        """Close the connections that belong to one client each."""
        for watched in list(self.sweeper.watched):
            if isinstance(watched, Downstream):
                watched.forget(backends)

    def _reset(self, backends: set[Backend]) -> None:
        """End what is in flight on these, as if they had reset every connection."""
        if not backends:
            return
        for watched in list(self.sweeper.watched):
            if isinstance(watched, (Upstream, Dial)) and watched.backend in backends:
                watched.backend_down()

    def drain(self) -> None:
        """Stop keeping connections: idle ones close now, the others after their answer."""
        self.draining = True
        self.yield_clients()
        for served in self.pools.values():
            for backend in served.pool.backends:
                for upstream in backend.keepalive.clear():
                    upstream.close()

    def yield_clients(self) -> list[Downstream]:
        """
        Keep no client's connection: idle ones close now, the others, and new ones, after one answer.

        Return those that are there now; ``keep_clients`` ends it.
        """
        self.now = monotonic()
        self.keeps_clients = False
        clients = [watched for watched in self.sweeper.watched if isinstance(watched, Downstream)]
        for client in clients:
            client.drain()
        return clients

    def keep_clients(self) -> None:
        """Keep connections again, unless the plane is draining."""
        self.keeps_clients = not self.draining

    def are_gone(self, clients: list[Downstream]) -> bool:
        """Whether none of these connections is there any more."""
        return not any(client in self.sweeper.watched for client in clients)

    def reset_clients(self) -> None:
        """End everything that is still going on, with a RST: the address is about to be somebody else's."""
        self.now = monotonic()
        for watched in list(self.sweeper.watched):
            if isinstance(watched, Downstream):
                watched.abandon()
                watched.reset()

    def abandon(self) -> None:
        """End everything that is still going on."""
        for watched in list(self.sweeper.watched):
            if isinstance(watched, Downstream):
                watched.abandon()

    @property
    def connections(self) -> int:
        """Client connections of this worker, with those that only linger."""
        counted = sum(self.row[column] for column in self._connection_columns)
        return counted + len(self.lingering) + len(self.refused)

    def close(self, timeout: float) -> None:
        """Stop the sweeper and write what is left of the log for at most ``timeout`` seconds."""
        self.sweeper.close()
        if self.log_writer is not None:
            self.log_writer.close(timeout)

    def _on_tick(self, now: float, lag: float) -> None:
        self.now = now
        self._epoch = wall() - now
        self.row[self._layout.loop_lag_ns] = int(lag * 1e9)
        lost = dropped_lines()
        if self.log_writer is not None:
            self.log_writer.flush()
            lost += self.log_writer.dropped
        self.row[self._layout.lines_dropped] = lost
        for served in self._rising:
            served.pool.rise(now)  # a line that waits looks for room by itself
        if now >= self._next_second:
            self._next_second = now + 1.0
            self.date = http_date(wall())
            if self._told > TOLD_A_SECOND:
                _log.info("%d more requests failed; the access log has them", self._told - TOLD_A_SECOND)
            self._told = 0
            for served in self.pools.values():
                served.budget.advance()
