"""Pins the PROXY protocol on both sides of the byte path, and what belongs to one client alone."""

from dataclasses import asdict, replace
from typing import Any

import pytest

from pyproxy.config.runtime import Keepalive, Listener
from pyproxy.proxy.client_leg import PINS_MAX
from tests.fakes import FakeTransport
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


CHALLENGE = b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n"
LOGIN = b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Negotiate YII=\r\n\r\n"
TWO = (make_backend("a", port=8001), make_backend("b", port=8002))


def logged_in(raw: bytes = GET, answer: bytes = CHALLENGE, **changes: Any) -> tuple[Stage, FakeTransport]:
    """A client whom the first of two nodes has asked for a login."""
    stage = Stage(make_config(make_pool("web", TWO, **changes)))
    origin = stage.start(raw)
    stage.answer(origin, answer)
    return stage, origin


def tell(stage: Stage, *, is_removed: bool = False, **facts: Any) -> None:
    """Let the supervisor change the first node, or take it out."""
    first, second = stage.plane.config.pools[0].backends
    members = [second] if is_removed else [replace(first, **facts), second]
    stage.plane.update_pools([{"name": "web", "unit": 1, "backends": [asdict(member) for member in members]}])
    stage.plane.run()


@pytest.mark.parametrize(("raw", "answer"), [(GET, CHALLENGE), (LOGIN, OK), (LOGIN, CHALLENGE)])
def test_a_login_holds_for_one_client(raw: bytes, answer: bytes) -> None:
    """Whether asked for or sent unasked: the connection is nobody else's, and all that its client asks goes there."""
    stage, origin = logged_in(raw, answer)
    others: list[FakeTransport] = []
    answered: dict[FakeTransport, int] = {}
    for _ in range(3):
        other = stage.plane.connect(("192.0.2.2", 50_001))
        other.receive(GET)
        stage.plane.run()
        others += [stage.accept() for _ in stage.loop.dials]
        for transport in others:
            if transport.sent.count(b"GET / ") > answered.get(transport, 0):
                answered[transport] = transport.sent.count(b"GET / ")
                stage.answer(transport, OK)
        stage.ask(GET)
        stage.answer(origin, OK)
    assert sum(answered.values()) == 3, "other clients have connections of their own"
    assert origin.sent.count(b"GET / ") == 4
    assert stage.plane.pins == 1
    stage.leave()
    assert origin.is_lost
    assert stage.plane.pins == 0


def test_what_keeps_others_short_does_not_end_a_login() -> None:
    """Neither the idle time nor the number of requests, nor that nothing else is kept: it lasts as its client does."""
    stage, origin = logged_in(keepalive=Keepalive(0, 0.5, 1))
    for _ in range(3):
        stage.wait(60.0)
        stage.ask(GET)
        stage.answer(origin, OK)
    assert origin.sent.count(b"GET / ") == 4
    stage.wait(75.3)
    assert origin.is_lost, "with its client"


def test_a_proxy_in_front_has_many_clients() -> None:
    """A login on its connection would be everybody's: the backend's connection ends after each answer."""
    stage = Stage(make_config(make_pool("web", TWO), trusted_proxies=("192.0.2.0/24",)))
    for _ in range(2):
        stage.ask(LOGIN)
        origin = stage.accept()
        stage.answer(origin, OK)
        assert origin.is_lost
    assert stage.ends == [(200, "--")] * 2
    assert stage.plane.pins == 0


def test_logins_are_counted() -> None:
    """One too many isn't kept, for its own client neither."""
    stage = Stage(make_config(make_pool("web", TWO)))
    stage.plane.pins = PINS_MAX
    origin = stage.start(GET)
    stage.answer(origin, CHALLENGE)
    assert origin.is_lost
    stage.leave()
    assert stage.plane.pins == PINS_MAX


def test_a_login_whose_connection_died_begins_anew() -> None:
    """At the same node, on a new connection and never on one that somebody else has used."""
    stage, origin = logged_in()
    other = stage.plane.connect(("192.0.2.2", 50_001))
    for _ in range(2):  # one idle connection to each node
        other.receive(GET)
        stage.plane.run()
        if stage.loop.dials:
            stage.answer(stage.accept(), OK)
    stage.answer(origin, None)
    stage.ask(LOGIN)
    assert stage.loop.dials[0].address[1] == 8001
    stage.answer(stage.accept(), CHALLENGE)
    assert stage.ends[-1] == (401, "--")


def test_a_login_that_broke_unnoticed_is_tried_elsewhere() -> None:
    """As any request that may be sent twice; whoever asks for a login then is whom the client keeps to."""
    stage, origin = logged_in()
    stage.ask(GET)
    stage.answer(origin, ConnectionResetError("reset"))
    second = stage.accept()
    stage.answer(second, CHALLENGE)
    stage.ask(GET)
    stage.answer(second, OK)
    assert second.sent.count(b"GET / ") == 2
    assert stage.plane.pins == 1


def test_a_drained_node_keeps_its_logins() -> None:
    """As it keeps sticky clients."""
    stage, origin = logged_in()
    tell(stage, state="drain")
    stage.ask(GET)
    stage.answer(origin, OK)
    assert stage.ends == [(401, "--"), (200, "--")]


@pytest.mark.parametrize("facts", [{"is_removed": True}, {"health": "down"}, {"ejected": True}, {"state": "maint"}])
def test_a_node_that_is_lost_keeps_none(facts: dict[str, Any]) -> None:
    """Another one serves the client, and nothing is sent to the lost one."""
    stage, origin = logged_in()
    tell(stage, **facts)
    stage.ask(GET)
    assert stage.loop.dials[0].address[1] == 8002
    stage.answer(stage.accept(), OK)
    assert origin.sent.count(b"GET / ") == 1
    assert origin.is_lost or facts == {"state": "maint"}


def test_a_login_in_flight_while_its_node_leaves() -> None:
    """It is answered, and its connection goes with the node."""
    stage, origin = logged_in()
    stage.ask(GET)
    tell(stage, is_removed=True)
    stage.answer(origin, OK)
    assert stage.ends == [(401, "--"), (200, "--")]
    assert origin.is_lost
    assert stage.plane.pins == 0


def test_a_login_asked_for_by_a_node_that_has_left_holds_for_nothing() -> None:
    """Its answer comes, but the client's next request goes to who is left, and nothing is counted as held."""
    stage = Stage(make_config(make_pool("web", TWO)))
    origin = stage.start(GET)
    tell(stage, is_removed=True)
    stage.answer(origin, CHALLENGE)
    assert origin.is_lost
    assert stage.plane.pins == 0
    stage.ask(LOGIN)
    assert stage.loop.dials[0].address[1] == 8002
    stage.answer(stage.accept(), OK)
    assert stage.ends == [(401, "--"), (200, "--")]


def test_a_login_behind_send_proxy() -> None:
    """Its connections are one client's anyhow; with a login the client also keeps to the node."""
    stage, origin = logged_in(send_proxy="v1")
    for _ in range(2):
        stage.ask(GET)
        stage.answer(origin, OK)
    assert origin.sent.count(b"GET / ") == 3
    assert origin.sent.count(b"PROXY ") == 1
