"""Pins what becomes of requests, waiting or in flight, when the health of backends changes."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import pytest

from pyproxy.config.runtime import Backend, Pool, Queue
from pyproxy.proxy.explain import explain
from tests.unit.proxy.planes import Stage, fake_time, make_backend, make_config, make_pool

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf"


@pytest.fixture(autouse=True)
def _time() -> Iterator[None]:
    with fake_time():
        yield


class Place(Stage):
    """A stage whose pool hears of flips."""

    def __init__(self, *backends: Backend, **pool: Any) -> None:
        self.pool: Pool = make_pool("web", backends, **pool)
        config = make_config(self.pool)
        self.members = {backend.name: backend for backend in config.pools[0].backends}
        super().__init__(config)

    def flip(self, **health: str) -> None:
        """Change how backends stand, by name."""
        for name, state in health.items():
            self.members[name] = replace(self.members[name], health=state)
        backends = [asdict(backend) for backend in self.members.values()]
        self.plane.update_pools([{"name": "web", "unit": 1, "backends": backends}])
        self.plane.run()


def one(health: str = "up", **pool: Any) -> Place:
    """A pool of one backend."""
    return Place(make_backend("a", health=health), **pool)


def test_nobody_is_up() -> None:
    """SC, a 503, at once."""
    place = one("down")
    place.ask(GET)
    assert place.ends == [(503, "SC")]
    place.flip(a="up")
    place.answer(place.start(GET), OK)
    assert place.ends[-1] == (200, "--")


def test_try_all() -> None:
    """Nobody is up, and somebody is asked all the same."""
    place = one("down", when_all_down="try_all")
    place.answer(place.start(GET), OK)
    assert place.ends == [(200, "--")]


def test_waiting_for_the_first_check() -> None:
    """The request is sent as soon as somebody is up."""
    place = one("checking")
    place.ask(GET)
    assert place.ends == []
    assert len(place.plane.pools["web"].line) == 1
    place.wait(0.8)
    place.flip(a="up")
    place.answer(place.accept(), OK)
    assert place.ends == [(200, "--")]
    assert place.plane.row[place.plane.layout.queued("web")] == 0


def test_a_check_that_takes_too_long() -> None:
    """After a second it is a 503, however long the queue would let it wait."""
    place = one("checking", queue=Queue(3, 0.2))
    place.ask(GET)
    place.wait(0.9)
    assert place.ends == []
    place.wait(0.3)
    assert place.ends == [(503, "SC")]


def test_a_check_that_fails() -> None:
    """Nobody is left to wait for."""
    place = Place(make_backend("a", health="checking"), make_backend("b", health="checking"))
    place.ask(GET)
    place.flip(a="down")
    assert place.ends == []
    place.flip(b="down")
    assert place.ends == [(503, "SC")]


def test_no_place_to_wait() -> None:
    """The size of the queue holds here too."""
    place = one("checking", queue=Queue(0, 5.0))
    place.ask(GET)
    assert place.ends == [(503, "PQ")]


def test_who_waits_for_the_check_then_waits_for_room() -> None:
    """With the patience of the queue, from when it came."""
    place = Place(make_backend("a", health="checking", max_conns=1))
    place.ask(GET)
    other = place.plane.connect()
    other.receive(GET)
    place.wait(0.5)
    place.flip(a="up")
    place.accept()
    place.wait(4.4)
    assert place.ends == []
    place.wait(0.3)
    assert place.ends == [(503, "sQ")]


def test_idle_connections_to_a_backend_that_is_down_are_closed() -> None:
    """Its machine may be gone without a word."""
    place = one()
    origin = place.start(GET)
    place.answer(origin, OK)
    assert not origin.is_closing()
    place.flip(a="down")
    assert origin.is_closing()
    place.flip(a="up")
    place.answer(place.start(GET), OK)
    assert place.ends == [(200, "--")] * 2


def test_private_idle_connections_are_closed_too() -> None:
    """Those that began with a PROXY header."""
    place = one(send_proxy="v1")
    origin = place.start(GET)
    place.answer(origin, OK)
    place.flip(a="down")
    assert origin.is_closing()


def test_in_flight_goes_on() -> None:
    """Unless ``on_down`` says otherwise; the connection is an ordinary one afterwards."""
    place = one()
    origin = place.start(POST)
    place.flip(a="down")
    place.answer(origin, OK)
    assert place.ends == [(200, "--")]


@pytest.mark.parametrize(
    ("request_bytes", "answer", "end"),
    [(POST, None, (502, "SH")), (GET, HALF, (200, "SD")), (UPGRADE, SWITCH, (101, "SD"))],
)
def test_reset(request_bytes: bytes, answer: bytes | None, end: tuple[int, str]) -> None:
    """As if the backend had reset the connection: before the answer, in the middle of it, in a tunnel."""
    place = one(on_down="reset")
    origin = place.start(request_bytes)
    if answer is not None:
        place.answer(origin, answer)
    place.flip(a="checking")
    assert place.ends == []
    place.flip(a="down")
    assert place.ends == [end]
    assert origin.is_closing()
    assert place.plane.row[place.plane.layout.backend_active(0)] == 0


def test_reset_is_tried_elsewhere_if_that_is_safe() -> None:
    """A GET without an answer, and whatever was only connecting."""
    place = Place(make_backend("a"), make_backend("b", port=81), on_down="reset")
    place.start(GET)
    place.flip(a="down")
    place.answer(place.accept(), OK)
    dialling = Place(make_backend("a"), make_backend("b", port=81), on_down="reset")
    dialling.ask(POST)
    dialling.flip(a="down")
    dialling.answer(dialling.accept(), OK)
    for each in (place, dialling):
        assert each.ends == [(200, "--")]
        assert [attempt.backend for attempt in each.plane.finished[0].attempts] == [b"a", b"b"]


def test_the_error_is_passed_on_when_nobody_is_left() -> None:
    """What happened says more than that nothing is available any more."""
    place = one(on_down="reset")
    place.start(GET)
    place.flip(a="down")
    assert place.ends == [(502, "SH")]


def test_reset_touches_nobody_else() -> None:
    """Neither the other backends nor one that had been down before."""
    place = Place(make_backend("a"), make_backend("b", port=81), on_down="reset")
    origin = place.start(GET)
    place.flip(b="down")
    place.flip(b="checking")
    place.answer(origin, OK)
    assert place.ends == [(200, "--")]


def test_explained() -> None:
    """Waiting isn't a refusal."""
    question = {"method": "GET", "url": "http://a/", "headers": [], "sender": "192.0.2.1"}
    place = one("checking")
    answer = explain(place.plane, question)
    assert (answer["refused"], answer["backend"], answer["backends"][0]["reason"]) == (None, None, "checking")
    place.flip(a="down")
    answer = explain(place.plane, question)
    assert (answer["refused"]["status"], answer["backends"][0]["reason"]) == (503, "down")
