"""Pins the scoreboard's layout, the mapping of a row, and the Prometheus text."""

import mmap
import os
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pyproxy.observe.histogram import WIDTH
from pyproxy.observe.metrics import CLASSES, ENDS, Layout, map_row, render

LISTENERS = ["http", "[::]:8080"]
POOLS = ["web", "api"]
SEATS = {("web", "web1"): 0, ("web", "web2"): 2, ("api", "web1"): 1}


def columns_of(layout: Layout) -> list[tuple[str, int, int]]:
    """Every named thing of the layout with its first column and width."""
    found = [("bytes_in", layout.bytes_in, 1), ("bytes_out", layout.bytes_out, 1)]
    found += [("lines_dropped", layout.lines_dropped, 1), ("loop_lag_ns", layout.loop_lag_ns, 1)]
    found += [(f"end {code}", layout.end(code), 1) for code in ENDS]
    found.append(("duration none", layout.duration(""), WIDTH))
    for listener in LISTENERS:
        found.append((f"connections {listener}", layout.connections(listener), 1))
        found.append((f"connections_total {listener}", layout.connections_total(listener), 1))
        found += [(f"codes {listener} {pool}", layout.codes(listener, pool), 5) for pool in ("", *POOLS)]
    for pool in POOLS:
        found.append((f"duration {pool}", layout.duration(pool), WIDTH))
        found.append((f"retries {pool}", layout.retries(pool), 1))
        found.append((f"queued {pool}", layout.queued(pool), 1))
        found.append((f"queue_head {pool}", layout.queue_head(pool), 1))
    return found + [column for seat in range(layout.seats) for column in columns_of_seat(layout, seat)]


def columns_of_seat(layout: Layout, seat: int) -> list[tuple[str, int, int]]:
    """Every named thing of a seat with its first column and width."""
    return [
        (f"codes of seat {seat}", layout.backend_codes(seat), 5),
        (f"response of seat {seat}", layout.backend_response(seat), WIDTH),
        (f"active of seat {seat}", layout.backend_active(seat), 1),
        (f"total of seat {seat}", layout.backend_total(seat), 1),
        (f"errors of seat {seat}", layout.backend_errors(seat), 1),
        (f"tunnel of seat {seat}", layout.backend_tunnel(seat), 1),
    ]


def test_columns_do_not_overlap() -> None:
    """No two counters share a column and all lie within the row."""
    layout = Layout(LISTENERS, POOLS, 4)
    taken: dict[int, str] = {}
    for name, base, width in columns_of(layout):
        for column in range(base, base + width):
            assert column not in taken, (name, taken.get(column))
            assert 0 <= column < layout.size
            taken[column] = name


def test_rows_are_whole_cache_lines() -> None:
    """Two workers never write to the same cache line, whatever the number of counters."""
    for seats in range(12):
        assert Layout(["http"], ["web"], seats).size % 8 == 0


def test_a_seat_is_exactly_the_columns_of_its_counters() -> None:
    """Who zeroes a seat for the next backend misses none of its counters and touches nobody else's."""
    layout = Layout(LISTENERS, POOLS, 4)
    own = [column for _, base, width in columns_of_seat(layout, 2) for column in range(base, base + width)]
    assert list(layout.seat(2)) == own


def test_only_the_columns_of_taken_seats_are_in_use() -> None:
    """Seats lie behind everything else in the order of their numbers, so what is in use is the beginning of a row."""
    layout = Layout(LISTENERS, POOLS, 4)
    for used in range(layout.seats + 1):
        border = layout.columns_for(used)
        for name, base, width in columns_of(layout):
            seat = int(name.rpartition(" ")[2]) if " of seat " in name else -1
            assert (base + width <= border) if seat < used else (base >= border), (name, used)
    assert layout.columns_for(4) <= layout.size


def test_the_same_inputs_give_the_same_layout() -> None:
    """Supervisor and worker compute the layout each for itself and must agree."""
    assert columns_of(Layout(LISTENERS, POOLS, 4)) == columns_of(Layout(tuple(LISTENERS), tuple(POOLS), 4))


def test_gauges_are_what_goes_down() -> None:
    """Connections, what is in flight or waits, since when, and the loop's lag are gauges; nothing else is."""
    layout = Layout(LISTENERS, POOLS, 4)
    expected = {layout.loop_lag_ns, *(layout.connections(name) for name in LISTENERS)}
    expected |= {layout.queued(pool) for pool in POOLS} | {layout.queue_head(pool) for pool in POOLS}
    expected |= {layout.backend_active(seat) for seat in range(4)} | {layout.backend_tunnel(seat) for seat in range(4)}
    assert layout.gauges == expected


def test_unknown_names_are_an_error() -> None:
    """A counter of a pool that isn't there is a bug that must show, not column 0."""
    layout = Layout(LISTENERS, POOLS, 4)
    with pytest.raises(KeyError):
        layout.codes("http", "nowhere")
    with pytest.raises(KeyError):
        layout.end("XX")
    for seat in (-1, 4):
        with pytest.raises(IndexError):
            layout.backend_active(seat)


@pytest.fixture
def memory() -> Iterator[int]:
    """A file of three rows of eight columns, as the scoreboard makes it."""
    fd = os.memfd_create("rows", os.MFD_CLOEXEC)
    os.ftruncate(fd, 3 * 8 * 8)
    yield fd
    os.close(fd)


def test_map_row_shows_one_row_and_writes_through(memory: int) -> None:
    """A worker sees its own row only, and what it writes is in the shared memory at the row's place."""
    row = map_row(memory, 1, 8)
    assert len(row) == 8
    row[0], row[7] = 5, -6
    with mmap.mmap(memory, 0) as shared:
        items = memoryview(shared).cast("q")
        assert list(items) == [0] * 8 + [5, 0, 0, 0, 0, 0, 0, -6] + [0] * 8
        items.release()
    row.release()


def test_map_row_outlives_the_descriptor() -> None:
    """The mapping stays when the descriptor that it was made from is closed."""
    fd = os.memfd_create("rows", os.MFD_CLOEXEC)
    os.ftruncate(fd, 64)
    row = map_row(fd, 0, 8)
    os.close(fd)
    row[3] += 1
    assert row[3] == 1


def rendered(layout: Layout, totals: list[int]) -> str:
    """Render with fixed facts."""
    return render(
        layout,
        totals,
        digest="0123456789ab",
        restarts=4,
        loop_lags={0: 0.0015, 1: 0.0},
        states={("web", "web1"): ("drain", "up"), ("web", "web2"): ("ready", "down")},
        seats=SEATS,
    )


def samples(text: str) -> dict[tuple[str, tuple[str, ...]], float]:
    """Read a text with prometheus_client: (name, label values in order of appearance) to value."""
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_every_counter_reaches_its_sample() -> None:
    """Each column holds another value and comes out under the right name and labels."""
    layout = Layout(LISTENERS, POOLS, 4)
    totals = [1000 + column for column in range(layout.size)]
    read = samples(rendered(layout, totals))
    for index, code in enumerate(CLASSES):
        for pool in ("", *POOLS):
            key = ("pyproxy_requests_total", ("[::]:8080", pool, code))
            assert read[key] == totals[layout.codes("[::]:8080", pool) + index]
        answers = ("pyproxy_backend_requests_total", ("api", "web1", code))
        assert read[answers] == totals[layout.backend_codes(1) + index]
    one = {
        ("pyproxy_retries_total", ("api",)): layout.retries("api"),
        ("pyproxy_queue_length", ("api",)): layout.queued("api"),
        ("pyproxy_terminations_total", ("cD",)): layout.end("cD"),
        ("pyproxy_backend_active", ("web", "web2")): layout.backend_active(2),
        ("pyproxy_backend_errors_total", ("web", "web2")): layout.backend_errors(2),
        ("pyproxy_connections", ("http",)): layout.connections("http"),
        ("pyproxy_connections_total", ("http",)): layout.connections_total("http"),
        ("pyproxy_bytes_total", ("in",)): layout.bytes_in,
        ("pyproxy_bytes_total", ("out",)): layout.bytes_out,
        ("pyproxy_log_lines_dropped_total", ()): layout.lines_dropped,
    }
    for sample, column in one.items():
        assert read[sample] == totals[column], sample
    base = layout.backend_response(2)
    assert read["pyproxy_backend_response_seconds_count", ("web", "web2")] == sum(totals[base : base + WIDTH - 1])
    assert read["pyproxy_request_duration_seconds_bucket", ("api", "0.0005")] == totals[layout.duration("api")]


def test_facts_that_are_no_counters() -> None:
    """Digest, restarts, lag of each worker, health and admin state are written as the contract names them."""
    layout = Layout(LISTENERS, POOLS, 4)
    read = samples(rendered(layout, [0] * layout.size))
    assert read["pyproxy_config_info", ("0123456789ab",)] == 1
    assert read["pyproxy_worker_restarts_total", ()] == 4
    assert read["pyproxy_loop_lag_seconds", ("0",)] == 0.0015
    assert read["pyproxy_backend_up", ("web", "web1")] == 1
    assert read["pyproxy_backend_up", ("web", "web2")] == 0
    states = [read["pyproxy_backend_state", ("web", "web1", state)] for state in ("ready", "drain", "maint")]
    assert states == [0, 1, 0]


def test_columns_that_are_not_in_use_are_not_needed() -> None:
    """The supervisor sums only what is in use, and that is enough for the text."""
    layout = Layout(LISTENERS, POOLS, 4)
    read = samples(rendered(layout, [1] * layout.columns_for(3)))
    assert read["pyproxy_backend_active", ("web", "web2")] == 1


def test_types_are_declared() -> None:
    """Counters, gauges and histograms are typed, each family once, and the text ends with a newline."""
    layout = Layout(LISTENERS, POOLS, 4)
    text = rendered(layout, [0] * layout.size)
    assert text.endswith("\n")
    declared = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(declared) == len(set(declared))
    kinds = {family.name: family.type for family in text_string_to_metric_families(text)}
    assert kinds["pyproxy_requests"] == "counter"
    assert kinds["pyproxy_backend_response_seconds"] == "histogram"
    assert kinds["pyproxy_backend_active"] == "gauge"
    assert "unknown" not in kinds.values()
