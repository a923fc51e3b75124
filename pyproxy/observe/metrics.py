"""
Which scoreboard column holds which counter, and the Prometheus text made from the columns.

Must not know how the shared memory came about nor who counts: the standard library only, because the
worker and the supervisor both import it.
"""

import mmap
from collections.abc import Iterator, Mapping, Sequence

from pyproxy.observe.histogram import WIDTH, sample_lines

CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx")
ENDS = (
    *("--", "PR", "cR", "CR", "CQ", "CC", "CH", "CD", "cD", "SC", "sC"),
    *("PQ", "sQ", "SH", "sH", "PH", "SD", "sD", "RC", "PD"),
)
STATES = ("ready", "drain", "maint")
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_ITEM = 8  # bytes of an int64
_LINE = 8  # int64s in a cache line
_SEAT_COLUMNS = len(CLASSES) + WIDTH + 4


class Layout:
    """
    Which int64 column of a scoreboard row holds what; the same inputs give the same layout everywhere.

    Backends come and go while the program runs, so their columns have no names: each has a seat, one of ``seats``
    blocks behind all other columns. Who sits where is not known here.
    """

    def __init__(self, listeners: Sequence[str], pools: Sequence[str], seats: int) -> None:
        self.listeners = tuple(listeners)
        self.pools = tuple(pools)
        self.seats = seats
        self._columns: dict[tuple[str, ...], int] = {}
        self._next = 0
        self._gauges: list[int] = []
        for listener in self.listeners:
            self._take_gauge("connections", listener)
            self._take("connections_total", listener)
            for pool in ("", *self.pools):
                self._take("codes", listener, pool, width=len(CLASSES))
        self._take("duration", "", width=WIDTH)
        for pool in self.pools:
            self._take("duration", pool, width=WIDTH)
            self._take("retries", pool)
            self._take_gauge("queued", pool)
            self._take_gauge("queue_head", pool)
        self._end = {code: self._take("end", code) for code in ENDS}
        self.bytes_in = self._take("bytes_in")
        self.bytes_out = self._take("bytes_out")
        self.lines_dropped = self._take("lines_dropped")
        self.loop_lag_ns = self._take_gauge("loop_lag_ns")
        # Whole cache lines: two workers never write to the same one.
        self.size = -(-self.columns_for(seats) // _LINE) * _LINE

    def __repr__(self) -> str:
        return f"<Layout {len(self.listeners)} listeners {len(self.pools)} pools {self.seats} seats>"

    def _take(self, *key: str, width: int = 1) -> int:
        """Reserve ``width`` columns for ``key`` and return the first."""
        column = self._next
        self._columns[key] = column
        self._next += width
        return column

    def _take_gauge(self, *key: str) -> int:
        """Reserve a column for what goes down as well as up."""
        column = self._take(*key)
        self._gauges.append(column)
        return column

    @property
    def gauges(self) -> frozenset[int]:
        """Every column that goes down as well as up."""
        of_seats = (column(seat) for column in (self.backend_active, self.backend_tunnel) for seat in range(self.seats))
        return frozenset((*self._gauges, *of_seats))

    def columns_for(self, seats: int) -> int:
        """How many columns, from the first on, are in use while only the first so many seats are taken."""
        return self._next + seats * _SEAT_COLUMNS

    def connections(self, listener: str) -> int:
        """Gauge: open client connections."""
        return self._columns["connections", listener]

    def connections_total(self, listener: str) -> int:
        """Client connections accepted."""
        return self._columns["connections_total", listener]

    def codes(self, listener: str, pool: str) -> int:
        """Base of five columns, 1xx to 5xx, at ``base + status // 100 - 1``; pool ``""`` is no route."""
        return self._columns["codes", listener, pool]

    def duration(self, pool: str) -> int:
        """Base of a histogram: seconds of whole exchanges; pool ``""`` is no route."""
        return self._columns["duration", pool]

    def retries(self, pool: str) -> int:
        """Attempts beyond the first."""
        return self._columns["retries", pool]

    def queued(self, pool: str) -> int:
        """Gauge: requests that wait for a backend below its ``max_conns``."""
        return self._columns["queued", pool]

    def queue_head(self, pool: str) -> int:
        """Gauge: since when the first of them waits, in monotonic nanoseconds; 0 = nobody waits."""
        return self._columns["queue_head", pool]

    def end(self, code: str) -> int:
        """Exchanges that ended with this termination code, one of ``ENDS``."""
        return self._end[code]

    def seat(self, seat: int) -> range:
        """All columns of a seat."""
        base = self._base(seat)
        return range(base, base + _SEAT_COLUMNS)

    def backend_codes(self, seat: int) -> int:
        """Base of five columns of the backend's own answers, as in ``codes``."""
        return self._base(seat)

    def backend_response(self, seat: int) -> int:
        """Base of a histogram: seconds until the response head."""
        return self._base(seat) + len(CLASSES)

    def backend_active(self, seat: int) -> int:
        """Gauge: exchanges and tunnels in flight on the backend."""
        return self._base(seat) + len(CLASSES) + WIDTH

    def backend_total(self, seat: int) -> int:
        """Attempts begun."""
        return self._base(seat) + len(CLASSES) + WIDTH + 1

    def backend_errors(self, seat: int) -> int:
        """Attempts that failed: no answer, or a gateway error."""
        return self._base(seat) + len(CLASSES) + WIDTH + 2

    def backend_tunnel(self, seat: int) -> int:
        """Gauge: since when the oldest open tunnel is open, in monotonic milliseconds; 0 = there is none."""
        return self._base(seat) + len(CLASSES) + WIDTH + 3

    def _base(self, seat: int) -> int:
        if not 0 <= seat < self.seats:
            raise IndexError(f"there is no seat {seat}")
        return self.columns_for(seat)


def map_row(fd: int, slot: int, columns: int) -> memoryview:
    """
    Map one worker's row of the scoreboard behind ``fd``, writable, as int64 items.

    The view keeps the mapping alive; ``fd`` may be closed afterwards.
    """
    row = columns * _ITEM
    # The whole file, since a mapping can only begin on a page; the slice is all that anyone gets to see.
    mapping = mmap.mmap(fd, 0)
    return memoryview(mapping)[slot * row : (slot + 1) * row].cast("q")


def render(
    layout: Layout,
    totals: Sequence[int],
    *,
    digest: str,
    restarts: int,
    loop_lags: Mapping[int, float],
    states: Mapping[tuple[str, str], tuple[str, str]],
    seats: Mapping[tuple[str, str], int],
) -> str:
    """
    Write the Prometheus text of all metrics that have a source.

    ``totals`` are the summed columns, as far as they are in use, ``digest`` names the configuration in force,
    ``restarts`` counts workers started again, ``loop_lags`` is seconds by worker slot. For each (pool, backend)
    ``states`` says (admin state, health) and ``seats`` where its counters are. Names can't contain a character
    that a label value would have to escape.
    """
    lines: list[str] = []
    lines.extend(_request_lines(layout, totals))
    lines.extend(_backend_lines(layout, totals, seats))
    lines.extend(_state_lines(states))
    lines.extend(_traffic_lines(layout, totals))
    lines += _head("config_info", "gauge", "The configuration in force.")
    lines.append(f'pyproxy_config_info{{digest="{digest}"}} 1')
    lines += _head("worker_restarts_total", "counter", "Workers started again after they ended.")
    lines.append(f"pyproxy_worker_restarts_total {restarts}")
    lines += _head("loop_lag_seconds", "gauge", "How late the worker's event loop last was.")
    lines.extend(f'pyproxy_loop_lag_seconds{{worker="{slot}"}} {lag}' for slot, lag in loop_lags.items())
    lines.append("")
    return "\n".join(lines)


def render_ejections(totals: Mapping[tuple[str, str], int]) -> str:
    """Write the part of the text about backends that live traffic failed on; ``totals`` by (pool, backend)."""
    lines = [*_head("backend_ejections_total", "counter", "How often a backend was passed over for failures in a row.")]
    for (pool, name), total in totals.items():
        lines.append(f'pyproxy_backend_ejections_total{{pool="{pool}",backend="{name}"}} {total}')
    return "\n".join([*lines, ""])


def render_overrides(ages: Mapping[str, float]) -> str:
    """Write the part of the text about what was changed at run time; ``ages`` are seconds by what was changed."""
    lines = [*_head("override_age_seconds", "gauge", "Since when something isn't as the configuration has it.")]
    lines.extend(f'pyproxy_override_age_seconds{{target="{target}"}} {age:.3f}' for target, age in ages.items())
    return "\n".join([*lines, ""])


def _head(name: str, kind: str, text: str) -> tuple[str, str]:
    return f"# HELP pyproxy_{name} {text}", f"# TYPE pyproxy_{name} {kind}"


def _code_lines(name: str, labels: str, totals: Sequence[int], base: int) -> Iterator[str]:
    for offset, code in enumerate(CLASSES):
        yield f'pyproxy_{name}{{{labels},code="{code}"}} {totals[base + offset]}'


def _request_lines(layout: Layout, totals: Sequence[int]) -> Iterator[str]:
    yield from _head("requests_total", "counter", "Requests answered, by listener, pool and class of status.")
    for listener in layout.listeners:
        for pool in ("", *layout.pools):
            labels = f'listener="{listener}",pool="{pool}"'
            yield from _code_lines("requests_total", labels, totals, layout.codes(listener, pool))
    yield from _head("request_duration_seconds", "histogram", "From the request's first byte to its end.")
    for pool in ("", *layout.pools):
        base = layout.duration(pool)
        columns = totals[base : base + WIDTH]
        yield from sample_lines("pyproxy_request_duration_seconds", f'pool="{pool}"', columns)
    yield from _head("retries_total", "counter", "Attempts beyond the first of a request.")
    for pool in layout.pools:
        yield f'pyproxy_retries_total{{pool="{pool}"}} {totals[layout.retries(pool)]}'
    yield from _head("queue_length", "gauge", "Requests that wait for a backend below its max_conns.")
    for pool in layout.pools:
        yield f'pyproxy_queue_length{{pool="{pool}"}} {totals[layout.queued(pool)]}'
    yield from _head("terminations_total", "counter", "Requests by the way they ended.")
    for code in ENDS:
        yield f'pyproxy_terminations_total{{end="{code}"}} {totals[layout.end(code)]}'


def _backend_lines(layout: Layout, totals: Sequence[int], seats: Mapping[tuple[str, str], int]) -> Iterator[str]:
    backends = [(f'pool="{pool}",backend="{name}"', seat) for (pool, name), seat in seats.items()]
    yield from _head("backend_requests_total", "counter", "Answers of a backend, by class of status.")
    for labels, seat in backends:
        yield from _code_lines("backend_requests_total", labels, totals, layout.backend_codes(seat))
    yield from _head("backend_response_seconds", "histogram", "From an attempt's begin to the response head.")
    for labels, seat in backends:
        base = layout.backend_response(seat)
        columns = totals[base : base + WIDTH]
        yield from sample_lines("pyproxy_backend_response_seconds", labels, columns)
    yield from _head("backend_errors_total", "counter", "Attempts that failed: no answer, a broken one, or 502 to 504.")
    for labels, seat in backends:
        yield f"pyproxy_backend_errors_total{{{labels}}} {totals[layout.backend_errors(seat)]}"
    yield from _head("backend_active", "gauge", "Requests and tunnels in flight on a backend.")
    for labels, seat in backends:
        yield f"pyproxy_backend_active{{{labels}}} {totals[layout.backend_active(seat)]}"


def _state_lines(states: Mapping[tuple[str, str], tuple[str, str]]) -> Iterator[str]:
    yield from _head("backend_up", "gauge", "1 while the health of a backend is up.")
    for (pool, name), (_, health) in states.items():
        yield f'pyproxy_backend_up{{pool="{pool}",backend="{name}"}} {int(health == "up")}'
    yield from _head("backend_state", "gauge", "1 for the admin state that a backend is in.")
    for (pool, name), (state, _) in states.items():
        for candidate in STATES:
            labels = f'pool="{pool}",backend="{name}",state="{candidate}"'
            yield f"pyproxy_backend_state{{{labels}}} {int(candidate == state)}"


def _traffic_lines(layout: Layout, totals: Sequence[int]) -> Iterator[str]:
    yield from _head("connections", "gauge", "Open client connections.")
    for listener in layout.listeners:
        yield f'pyproxy_connections{{listener="{listener}"}} {totals[layout.connections(listener)]}'
    yield from _head("connections_total", "counter", "Client connections accepted.")
    for listener in layout.listeners:
        value = totals[layout.connections_total(listener)]
        yield f'pyproxy_connections_total{{listener="{listener}"}} {value}'
    yield from _head("bytes_total", "counter", "Bytes received from (in) and sent to (out) clients.")
    yield f'pyproxy_bytes_total{{direction="in"}} {totals[layout.bytes_in]}'
    yield f'pyproxy_bytes_total{{direction="out"}} {totals[layout.bytes_out]}'
    yield from _head("log_lines_dropped_total", "counter", "Log lines dropped because their reader was too slow.")
    yield f"pyproxy_log_lines_dropped_total {totals[layout.lines_dropped]}"
