"""Pins what all connections of a worker share: counters, the log, dates, request ids, the second's work."""

import os
from pathlib import Path
from unittest.mock import patch

from pyproxy.config.runtime import Listener, Retry
from pyproxy.http1.head import RequestHead
from pyproxy.proxy.exchange import Exchange
from tests.unit.proxy.planes import FakePlane, Stage, make_backend, make_config, make_pool

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


def test_request_ids() -> None:
    """32 hexadecimal digits, never the same."""
    plane = FakePlane()
    ids = {plane.make_request_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(len(each) == 32 and not each.translate(None, b"0123456789abcdef") for each in ids)


def test_connections_are_counted_by_listener() -> None:
    """Each listener has its own gauge and total; together they are the worker's."""
    listeners = (Listener("one", "192.0.2.9", 80), Listener("two", "192.0.2.9", 81))
    plane = FakePlane(make_config(listeners=listeners))
    transports = [plane.connect(listener="one"), plane.connect(listener="two"), plane.connect(listener="two")]
    assert plane.connections == 3
    transports[1].receive(None)
    plane.run()
    layout, row = plane.layout, plane.row
    assert [row[layout.connections(name)] for name in ("one", "two")] == [1, 1]
    assert [row[layout.connections_total(name)] for name in ("one", "two")] == [1, 2]
    assert plane.connections == 2


def test_bytes_are_counted() -> None:
    """As they come from clients and go to them."""
    stage = Stage()
    stage.answer(stage.start(GET), OK)
    row, layout = stage.plane.row, stage.plane.layout
    assert (row[layout.bytes_in], row[layout.bytes_out]) == (len(GET), len(stage.client.sent))


def test_workers_begin_their_round_robin_at_different_places() -> None:
    """The slot is the offset."""
    plane = FakePlane(make_config(make_pool("web", (make_backend("a"), make_backend("b")))))
    pick = plane.pools["web"].pool.pick()
    assert pick is not None
    assert pick.name == "a"


def test_the_budget_moves_on_once_a_second() -> None:
    """Retries of eleven seconds ago are forgotten."""
    retry = Retry(attempts=2, on=frozenset({"connect"}), budget=0.0, min=1)
    plane = FakePlane(make_config(make_pool(retry=retry)))
    budget = plane.pools["web"].budget
    budget.retries += 1
    assert not budget.allows
    plane.fake_loop.advance(8.0)
    assert not budget.allows
    plane.fake_loop.advance(3.5)
    assert budget.allows


def test_the_date_moves_on() -> None:
    """Our own answers carry the second's date, made once a second."""
    plane = FakePlane()
    plane.date = b"old"
    plane.fake_loop.advance(1.2)
    assert plane.date.endswith(b" GMT")


def test_loop_lag_is_a_gauge() -> None:
    """How late the last sweep was, in nanoseconds."""
    plane = FakePlane()
    plane.fake_loop.stall(plane.fake_loop.now + 1.0)
    plane.fake_loop.advance(0.01)
    assert 0.8e9 < plane.row[plane.layout.loop_lag_ns] < 1.1e9
    plane.fake_loop.advance(0.3)
    assert plane.row[plane.layout.loop_lag_ns] < 0.1e9


def test_what_every_worker_sees_is_published(tmp_path: Path) -> None:
    """The shared row follows with the sweep, and with the end."""
    plane = FakePlane()
    transport = plane.connect()
    plane.fake_loop.advance(0.2)
    column = plane.layout.connections("http")
    assert plane.shared_row[column] == 1
    transport.receive(None)
    plane.run()
    plane.close(0.1)
    assert plane.shared_row[column] == 0


def test_the_log_is_written(tmp_path: Path) -> None:
    """A finished exchange is a line in the file when the plane is closed."""
    path = tmp_path / "access.log"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    stage = Stage(log_fd=fd)
    stage.answer(stage.start(GET), OK)
    stage.plane.close(5.0)
    (line,) = path.read_text().splitlines()
    assert '"GET / HTTP/1.1" 200 2 ' in line
    assert " end=-- " in line


def test_repr() -> None:
    """Logs say which configuration it serves."""
    assert repr(FakePlane()) == "<DataPlane 0123456789ab 0 watched>"


def test_what_goes_wrong_in_the_next_exchange_is_the_next_ones() -> None:
    """The end of an answer begins the next request: if that fails, it ends, and its client isn't left waiting."""
    stage = Stage()
    stage.plane.contains_crashes = True
    start = Exchange.start

    def fail_second(self: Exchange, head: RequestHead, body: bytes | None = None) -> None:
        if head.target == b"/2":
            raise RuntimeError("seen by the log only")
        start(self, head, body)

    with patch.object(Exchange, "start", fail_second):
        origin = stage.start(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
        stage.answer(origin, OK)
    assert stage.ends == [(200, "--"), (500, "PH")]
    assert b"HTTP/1.1 500 " in stage.got


def test_a_yielding_plane_serves_and_keeps_nobody() -> None:
    """A connection that is busy ends after its answer, which says so; one that comes later is served once."""
    stage = Stage()
    origin = stage.start(GET)
    clients = stage.plane.yield_clients()
    assert not stage.plane.are_gone(clients)
    stage.answer(origin, OK)
    assert b"connection: close" in stage.got.lower()
    assert stage.plane.are_gone(clients)
    late = stage.plane.connect()
    late.receive(GET)
    stage.plane.run()
    origin.receive(OK)
    stage.plane.run()
    assert b"connection: close" in bytes(late.sent).lower()
    assert stage.ends == [(200, "--"), (200, "--")]
    assert stage.plane.connections == 0


def test_an_idle_connection_is_closed_when_the_plane_yields() -> None:
    """It would last for as long as its client likes."""
    stage = Stage()
    stage.answer(stage.start(GET), OK)
    assert stage.plane.connections == 1
    clients = stage.plane.yield_clients()
    stage.plane.run()
    assert stage.plane.are_gone(clients)
    assert stage.plane.connections == 0


def test_connections_are_kept_again_afterwards() -> None:
    """Unless the plane is draining, which nothing takes back."""
    stage = Stage()
    stage.plane.yield_clients()
    stage.plane.keep_clients()
    stage.answer(stage.start(GET), OK)
    assert b"connection" not in stage.got.lower()
    stage.plane.drain()
    stage.plane.keep_clients()
    assert not stage.plane.keeps_clients


def test_what_is_left_is_reset() -> None:
    """The address is about to be another machine's: a FIN would find nobody there, and the log says what it was."""
    stage = Stage()
    stage.start(GET)
    stage.plane.reset_clients()
    stage.plane.run()
    assert stage.ends == [(503, "PD")]
    assert stage.plane.connections == 0
