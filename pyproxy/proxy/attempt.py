"""
One try of an exchange on one backend: what the access log shows of it, and the backend's counters.

Must not know connections. ``begin`` and ``end`` come in pairs, so what goes up comes down.
"""

from typing import Any, Final

from xxhash import xxh32_intdigest

from pyproxy.balance.backend import Backend
from pyproxy.errors import ConnectionReset, ExchangeError
from pyproxy.observe.histogram import WIDTH, bucket_of

GATEWAY_ERRORS: Final = frozenset({502, 503, 504})


class GatewayAnswers:
    """
    Answers of 502 to 504 that a backend gave in a row, and to whom.

    Two clients and two paths, as hashes, are all that the decision needs: memory doesn't grow with the answers.
    """

    __slots__ = ("clients", "count", "paths")

    def __init__(self) -> None:
        self.count = 0
        self.clients: set[int] = set()
        self.paths: set[int] = set()

    def note(self, client: bytes, target: bytes) -> None:
        """Count one that came to this client for this target, whose query doesn't matter."""
        self.count += 1
        if len(self.clients) < 2:
            self.clients.add(xxh32_intdigest(client))
        if len(self.paths) < 2:
            self.paths.add(xxh32_intdigest(target.partition(b"?")[0]))

    def plain(self) -> dict[str, Any]:
        """Give it as plain data."""
        return {"count": self.count, "clients": sorted(self.clients), "paths": sorted(self.paths)}


class Attempt:
    """
    ``backend`` is its name, ``status`` 0 is no answer.

    Times are seconds, from ``started`` on, None for what did not happen. ``is_unreachable`` says that no connection
    came to be, so that nothing was sent; ``counts`` that it is one of ``retry.attempts``.
    """

    __slots__ = (
        *("backend", "connect_time", "counts", "duration", "header_time", "is_over", "is_unreachable", "on"),
        *("started", "status"),
    )

    def __init__(self, on: Backend, started: float) -> None:
        self.on = on
        self.backend = on.label
        self.started = started
        self.status = 0
        self.connect_time: float | None = None
        self.header_time: float | None = None
        self.duration = 0.0
        self.counts = True
        self.is_unreachable = False
        self.is_over = False

    def begin(self, row: memoryview) -> None:
        """Count the attempt as active."""
        backend = self.on
        backend.active += 1
        row[backend.columns.active] += 1
        row[backend.columns.total] += 1

    def answered(self, row: memoryview, status: int, now: float) -> None:
        """Count an answer by its class, and the time that it took."""
        self.status = status
        self.header_time = taken = now - self.started
        columns = self.on.columns
        row[columns.codes + status // 100 - 1] += 1
        row[columns.response + bucket_of(taken)] += 1
        row[columns.response + WIDTH - 1] += int(taken * 1e9)
        latency = self.on.latency
        if latency is not None and status not in GATEWAY_ERRORS:
            latency.record(taken, now)
        if status == 101:
            self.on.failures = 0  # a tunnel may end in a week

    def was_closed_as_idle(self, error: ExchangeError) -> bool:
        """
        Whether what it failed of may say nothing against the backend: the connection had been kept, and broke.

        A backend may close such a one at any time (RFC 9112, 9.5), as all do that reload. A new one will tell.
        """
        return self.connect_time is None and isinstance(error, ConnectionReset)

    def tunnelled(self, row: memoryview, now: float) -> None:
        """Note that the attempt has become a tunnel, which may last for hours."""
        backend = self.on
        backend.tunnels[self] = int(now * 1000)
        row[backend.columns.tunnel] = next(iter(backend.tunnels.values()))

    def end(self, row: memoryview, now: float, *, failed: bool) -> None:
        """Count the attempt as over; ``failed`` without an answer, or with a broken one."""
        backend = self.on
        self.is_over = True
        self.duration = now - self.started
        if failed or self.status in GATEWAY_ERRORS:
            row[backend.columns.errors] += 1
            if backend.latency is not None:
                backend.latency.record_failure(self.duration, now)
        elif self.status > 101:
            backend.failures = 0  # here and not with the head: one answer after the other may be cut short
        if backend.tunnels and backend.tunnels.pop(self, None) is not None:
            row[backend.columns.tunnel] = next(iter(backend.tunnels.values()), 0)
        backend.active -= 1
        row[backend.columns.active] -= 1  # last: a seat on which nothing is in flight may be given away
