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


@pytest.mark.parametrize(("is_client", "end"), [(True, "CD"), (False, "SD")])
def test_last_words_arrive(is_client: bool, end: str) -> None:
    """What a side said before it was gone passes on, although writing to it failed before it was read."""
    stage, origin = tunnel()
    gone, there = (stage.client, origin) if is_client else (origin, stage.client)
    gone.window = 0
    there.receive(b"x")
    stage.plane.run()
    gone.receive(b"bye", RST)
    stage.plane.run()
    assert there.sent.endswith(b"bye")
    assert stage.ends == [(101, end)]
    assert there.is_lost


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 4\r\n\r\nbody", b"Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"]
)
@pytest.mark.parametrize("early", [b"", b"first"])
def test_an_upgrade_with_a_body(framing: bytes, early: bytes) -> None:
    """The body passes first; what comes behind it waits for the answer and belongs to the tunnel."""
    stage = Stage()
    head = UPGRADE.replace(b"GET", b"POST")[:-2]
    origin = stage.start(head + framing + early)
    body = framing.partition(b"\r\n\r\n")[2]
    assert origin.sent.endswith(b"Upgrade: x\r\n\r\n" + body)
    stage.answer(origin, SWITCHED)
    stage.ask(b"second")
    assert origin.sent.endswith(body + early + b"second")


def test_an_upgrade_with_a_body_that_is_declined() -> None:
    """What comes behind the body is the next request."""
    stage = Stage()
    head = UPGRADE.replace(b"GET", b"POST")[:-2]
    origin = stage.start(head + b"Content-Length: 4\r\n\r\nbody" + b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b"/next" not in origin.sent
    stage.answer(origin, b"HTTP/1.1 409 Conflict\r\nContent-Length: 0\r\n\r\n")
    assert b"GET /next " in origin.sent


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 4\r\n\r\nbo", b"Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n"]
)
def test_a_101_before_the_body_is_complete(framing: bytes) -> None:
    """Nobody could tell the rest of the body from the tunnel's bytes: 502."""
    stage = Stage()
    origin = stage.start(UPGRADE.replace(b"GET", b"POST")[:-2] + framing)
    stage.answer(origin, SWITCHED)
    assert stage.ends == [(502, "PH")]
    assert stage.leg.tunnel is None


@pytest.mark.parametrize("named", [b"h2c", b"x, y", b"y, x", b"xx", b"", b"x\xa0", b"\xa0x", b"x/1", b", ,"], ids=repr)
def test_a_101_to_what_was_not_offered(named: bytes) -> None:
    """One of the protocols that were offered must be named, and no other: 502, and nothing passes."""
    stage = Stage()
    origin = stage.start(UPGRADE.replace(b"Upgrade: x", b"Upgrade: x, z") + b"PRI")
    stage.answer(origin, SWITCHED.replace(b"Upgrade: x", b"Upgrade: " + named))
    assert stage.ends == [(502, "PH")]
    assert not origin.sent.endswith(b"PRI")
    assert origin.is_lost


@pytest.mark.parametrize("named", [b"x", b"X", b"z", b" z ,"])
def test_a_101_to_what_was_offered(named: bytes) -> None:
    """In any spelling of case."""
    stage = Stage()
    origin = stage.start(UPGRADE.replace(b"Upgrade: x", b"Upgrade: x, z"))
    stage.answer(origin, SWITCHED.replace(b"Upgrade: x", b"Upgrade: " + named))
    assert stage.leg.tunnel is not None


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
