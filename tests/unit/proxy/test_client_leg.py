"""Pins the PROXY protocol on both sides of the byte path, and what belongs to one client alone."""

import pytest

from pyproxy.config.runtime import Listener
from tests.unit.proxy.planes import Stage, make_backend, make_config, make_pool

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
HEADER = b"PROXY TCP4 203.0.113.7 198.51.100.1 40000 443\r\n"
PROXIED = (Listener("http", "192.0.2.9", 80, proxy_protocol=True),)


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_a_proxy_header_names_the_client(step: int) -> None:
    """In the log and to the backend, however the bytes are cut."""
    stage = Stage(make_config(listeners=PROXIED))
    raw = HEADER + GET
    for start in range(0, len(raw), step):
        stage.ask(raw[start : start + step])
    origin = stage.accept()
    sent = bytes(origin.sent)
    assert b"X-Forwarded-For: 203.0.113.7\r\n" in sent
    assert b"X-Forwarded-Port: 443\r\n" in sent
    stage.answer(origin, OK)
    assert stage.plane.lines[0].startswith(b"203.0.113.7 ")


def test_it_counts_for_the_whole_connection() -> None:
    """And comes once only: in front of the second request it is no HTTP."""
    stage = Stage(make_config(listeners=PROXIED))
    origin = stage.start(HEADER + GET)
    stage.answer(origin, OK)
    stage.ask(GET)
    assert bytes(origin.sent).count(b"X-Forwarded-For: 203.0.113.7\r\n") == 2
    stage.answer(origin, OK)
    stage.ask(HEADER + GET)
    assert stage.ends[-1] == (400, "PR")


@pytest.mark.parametrize("raw", [GET, b"PROXY TCP4 1.2.3.4\r\n" + GET, b"\r\n\r\n\x00\r\nQUIT\nxxxxxxxxxxxxxx"])
def test_without_a_proper_header_there_is_no_service(raw: bytes) -> None:
    """400, a line in the log, and nothing reaches a backend."""
    stage = Stage(make_config(listeners=PROXIED))
    stage.ask(raw)
    assert stage.ends == [(400, "PR")]
    assert stage.got.startswith(b"HTTP/1.1 400 ")
    assert not stage.loop.dials


def test_a_health_check_of_the_sender_keeps_its_own_address() -> None:
    """UNKNOWN, or LOCAL in version 2, says nothing of a client."""
    stage = Stage(make_config(listeners=PROXIED))
    origin = stage.start(b"PROXY UNKNOWN\r\n" + GET)
    assert b"X-Forwarded-For: 192.0.2.1\r\n" in bytes(origin.sent)


def test_the_header_must_come_in_time() -> None:
    """Who connects and says nothing is let go like any other."""
    stage = Stage(make_config(listeners=PROXIED))
    stage.ask(HEADER[:20])
    stage.wait(10.3)
    assert stage.client.is_lost


def test_trust_is_a_matter_of_the_client_that_the_header_names() -> None:
    """A sender on the other side of the load balancer in front isn't believed just because that one is."""
    stage = Stage(make_config(listeners=PROXIED, trusted_proxies=("192.0.2.0/24",)))
    origin = stage.start(HEADER + b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n")
    assert b"X-Forwarded-For: 203.0.113.7\r\n" in bytes(origin.sent)


@pytest.mark.parametrize(
    ("version", "start"),
    [("v1", b"PROXY TCP4 192.0.2.1 192.0.2.9 50000 80\r\n"), ("v2", b"\r\n\r\n\0\r\nQUIT\n\x21\x11")],
)
def test_send_proxy_begins_the_connection(version: str, start: bytes) -> None:
    """Once, before the first request."""
    stage = Stage(make_config(make_pool(send_proxy=version)))
    origin = stage.start(GET)
    assert bytes(origin.sent).startswith(start)
    stage.answer(origin, OK)
    stage.ask(GET)
    assert bytes(origin.sent).count(start) == 1
    assert bytes(origin.sent).count(b"GET / HTTP/1.1") == 2


def test_such_a_connection_serves_its_own_client_only() -> None:
    """Another client gets another one, and with its client it goes."""
    stage = Stage(make_config(make_pool(send_proxy="v1")))
    origin = stage.start(GET)
    stage.answer(origin, OK)
    other = stage.plane.connect(("192.0.2.2", 50_001))
    other.receive(GET)
    stage.plane.run()
    second = stage.accept()
    assert bytes(second.sent).startswith(b"PROXY TCP4 192.0.2.2 ")
    assert not origin.is_lost
    stage.leave()
    assert origin.is_lost
    assert not second.is_lost


def test_a_pick_of_another_backend_closes_it() -> None:
    """One connection a client, whatever the number of backends."""
    backends = (make_backend("a", port=8001), make_backend("b", port=8002))
    stage = Stage(make_config(make_pool("web", backends, send_proxy="v1")))
    first = stage.start(GET)
    stage.answer(first, OK)
    stage.ask(GET)
    assert first.is_lost
    stage.answer(stage.accept(), OK)
    assert stage.ends == [(200, "--")] * 2


def test_a_proxied_client_is_told_on() -> None:
    """What came in goes out."""
    stage = Stage(make_config(make_pool(send_proxy="v1"), listeners=PROXIED))
    origin = stage.start(HEADER + GET)
    assert bytes(origin.sent).startswith(HEADER)


def test_a_unix_client_has_no_address() -> None:
    """It is called as nginx calls it, and no port is told."""
    stage = Stage(make_config(listeners=(Listener("http", "", 0, path="/run/x.sock"),)))
    origin = stage.start(GET)
    sent = bytes(origin.sent)
    assert b"X-Forwarded-For: unix:\r\n" in sent
    assert b"X-Forwarded-Port" not in sent


def test_a_backend_that_leaves_takes_private_connections_with_it() -> None:
    """Nobody will use them any more."""
    stage = Stage(make_config(make_pool(send_proxy="v1")))
    origin = stage.start(GET)
    stage.answer(origin, OK)
    stage.plane.update_pools([{"name": "web", "unit": 1, "backends": []}])
    stage.plane.run()
    assert origin.is_lost
