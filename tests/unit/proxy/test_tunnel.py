"""Pins tunnels: bytes both ways, halves that end alone, backpressure, inactivity, and the counters afterwards."""

import pytest

from tests.fakes import FakeTransport
from tests.unit.proxy.planes import Stage

UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
RST = ConnectionResetError("reset")


def tunnel(early: bytes = b"", late: bytes = b"") -> tuple[Stage, FakeTransport]:
    """Open a tunnel; bytes may come right behind the heads."""
    stage = Stage()
    origin = stage.start(UPGRADE + early)
    stage.answer(origin, SWITCHED + late)
    assert stage.got == SWITCHED + late
    return stage, origin


def test_bytes_pass_both_ways() -> None:
    """Whatever they are, HTTP or not."""
    stage, origin = tunnel()
    before = len(origin.sent)
    stage.ask(b"\x81\x00GET / HTTP/1.1\r\n\r\n")
    assert origin.sent[before:] == b"\x81\x00GET / HTTP/1.1\r\n\r\n"
    stage.answer(origin, b"HTTP/1.1 200 OK\r\n\r\n")
    assert stage.got == b"HTTP/1.1 200 OK\r\n\r\n"
    assert stage.ends == []


def test_bytes_that_came_too_early_are_the_first() -> None:
    """What the client sent before the 101, and what the backend sent with it."""
    stage, origin = tunnel(early=b"first", late=b"hello")
    stage.ask(b"second")
    assert origin.sent.endswith(b"\r\n\r\nfirstsecond")


def test_bytes_while_the_answer_is_awaited() -> None:
    """Whatever comes before the 101 is kept, in order, and not read as a request."""
    stage = Stage()
    origin = stage.start(UPGRADE + b"one")
    stage.ask(b"two")
    assert not stage.client.is_reading()
    stage.answer(origin, SWITCHED)
    assert origin.sent.endswith(b"\r\n\r\nonetwo")
    assert stage.client.is_reading()


@pytest.mark.parametrize("client_first", [True, False])
def test_half_close(client_first: bool) -> None:
    """One half ends, the other goes on; both ended is a good end."""
    stage, origin = tunnel()
    first, second = (stage.client, origin) if client_first else (origin, stage.client)
    first.receive(b"bye", None)
    stage.plane.run()
    assert second.sent.endswith(b"bye")
    assert second.is_eof_sent
    assert not first.is_closing()
    assert not second.is_closing()
    second.receive(b"more", None)
    stage.plane.run()
    assert first.sent.endswith(b"more")
    assert stage.ends == [(101, "--")]
    assert first.is_lost
    assert second.is_lost


@pytest.mark.parametrize(("is_client", "end"), [(True, "CD"), (False, "SD")])
def test_a_reset_ends_both(is_client: bool, end: str) -> None:
    """The side that is gone is named."""
    stage, origin = tunnel()
    (stage.client if is_client else origin).receive(RST)
    stage.plane.run()
    assert stage.ends == [(101, end)]
    assert stage.client.is_lost
    assert origin.is_lost


def test_inactivity() -> None:
    """Any byte in any direction keeps it; timeouts.tunnel of silence ends it."""
    stage, origin = tunnel()
    for _ in range(3):
        stage.wait(39.0)
        stage.ask(b"x")
        stage.wait(39.0)
        stage.answer(origin, b"y")
    assert stage.ends == []
    stage.wait(40.3)
    assert stage.ends == [(101, "cD")]
    assert stage.client.is_lost
    assert origin.is_lost


@pytest.mark.parametrize("is_client", [True, False])
def test_backpressure(is_client: bool) -> None:
    """Who doesn't read stops the other, and starts it again."""
    stage, origin = tunnel()
    slow, fast = (stage.client, origin) if is_client else (origin, stage.client)
    slow.window = 0
    fast.receive(*[b"x" * 60_000] * 10)
    stage.plane.run()
    assert not fast.is_reading()
    assert slow.peak_buffer_bytes < 200_000
    slow.open_window()
    stage.plane.run()
    assert fast.is_reading()
    assert slow.sent.endswith(b"x" * 600_000)


def test_counters() -> None:
    """A tunnel is active until it ends, and known to be one, its answer counts as 101, its bytes go into the log."""
    stage, origin = tunnel()
    stage.answer(origin, b"12345")
    row, layout = stage.plane.row, stage.plane.layout
    assert row[layout.backend_active(0)] == 1
    assert row[layout.backend_tunnel(0)] == int(stage.plane.now * 1000)
    stage.answer(origin, None)
    stage.leave()
    assert row[layout.backend_active(0)] == row[layout.backend_tunnel(0)] == 0
    assert row[layout.codes("http", "web")] == 1
    assert row[layout.backend_codes(0)] == 1
    (record,) = stage.plane.finished
    assert (record.status, record.bytes_sent) == (101, 5)


def test_draining_lets_it_live_until_the_grace_ends() -> None:
    """A tunnel goes on while the program stops, up to the grace."""
    stage, origin = tunnel()
    stage.plane.drain()
    stage.ask(b"still")
    assert origin.sent.endswith(b"still")
    stage.plane.abandon()
    stage.plane.run()
    assert stage.ends == [(101, "PD")]
    assert stage.plane.connections == 0


def test_a_tunnels_connection_is_never_used_again() -> None:
    """Whatever state it is left in."""
    stage, origin = tunnel()
    origin.receive(None)
    stage.leave()
    assert stage.plane.upstreams() == []
    assert not stage.plane.sweeper.watched


def test_repr() -> None:
    """Logs say which halves are open."""
    stage, _ = tunnel()
    assert repr(stage.leg.tunnel) == "<Tunnel client open, backend open>"
    stage.leave()
    assert repr(stage.leg.tunnel) == "<Tunnel client ended, backend open>"
