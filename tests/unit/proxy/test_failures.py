"""Pins which ends of an attempt count as a backend's failures, when they are reported, and what changes then."""

import errno
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from typing import Any

import pytest

from pyproxy.config.runtime import Backend, Outlier, Queue, Retry
from pyproxy.errors import DialFailed
from pyproxy.proxy.attempt import Attempt
from tests.unit.proxy.planes import Stage, fake_time, make_backend, make_config, make_pool

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf"
HALF_UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 8\r\n\r\nhalf"
UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"


@pytest.fixture(autouse=True)
def _time() -> Iterator[None]:
    with fake_time():
        yield


class Place(Stage):
    """A stage that notes what the supervisor is told; its pool ejects after three failures and tries nothing twice."""

    def __init__(self, *backends: Backend, **pool: Any) -> None:
        settings = {"outlier": Outlier(3, 10.0, 60.0, 1), "retry": Retry(1, frozenset(), 0.2, 3), **pool}
        config = make_config(make_pool("web", backends, **settings))
        self.configs = {backend.name: backend for backend in config.pools[0].backends}
        super().__init__(config)
        self.told: list[dict[str, Any]] = []
        self.plane._report = self.told.append
        self.backend = self.plane.pools["web"].pool.backends[0]

    def tell(self, **changes: dict[str, Any]) -> None:
        """Let the supervisor change members, by name."""
        for name, values in changes.items():
            self.configs[name] = replace(self.configs[name], **values)
        backends = [asdict(backend) for backend in self.configs.values()]
        self.plane.update_pools([{"name": "web", "unit": 1, "backends": backends}])
        self.plane.run()

    def fail(self, count: int = 1) -> None:
        """Let so many requests find the connection refused."""
        for _ in range(count):
            self.come()
            self.refuse()

    def come(self, raw: bytes = GET) -> None:
        """Let a client of its own ask."""
        self.client = self.plane.connect()
        self.ask(raw)


def refused(place: Place) -> None:
    """Nobody listens."""
    place.fail()


def no_connection_in_time(place: Place) -> None:
    """The connection isn't there in time."""
    place.come()
    place.wait(3.2)


def answered(*items: bytes | Exception | None, raw: bytes = GET) -> Callable[[Place], None]:
    """The backend sends this on a new connection."""

    def play(place: Place) -> None:
        place.come(raw)
        place.answer(place.accept(), *items)

    return play


def no_answer_in_time(place: Place) -> None:
    """Connected, and then nothing."""
    place.come()
    place.accept()
    place.wait(20.2)


def stalled(place: Place) -> None:
    """It stops in the middle of a body."""
    answered(HALF)(place)
    place.wait(15.2)


COUNTED = {
    "refused": refused,
    "connect timeout": no_connection_in_time,
    "reset": answered(ConnectionResetError()),
    "closed": answered(None),
    "half a head": answered(b"HTTP/1.1 2", None),
    "no head": answered(b"what\r\n\r\n"),
    "response timeout": no_answer_in_time,
    "503": answered(UNAVAILABLE, None),
    "half a 503": answered(HALF_UNAVAILABLE, None),
    "truncated": answered(HALF, None),
    "stalled": stalled,
}


@pytest.mark.parametrize("play", COUNTED.values(), ids=COUNTED.keys())
def test_what_counts(play: Callable[[Place], None]) -> None:
    """Once each; with the third in a row the supervisor is told, with what happened last."""
    place = Place()
    for number in range(1, 4):
        play(place)
        assert place.backend.failures == number
        assert len(place.told) == (number == 3)
    (message,) = place.told
    last = message.pop("last")
    answers = message.pop("answers", None)
    assert (answers is not None) == ("503" in last)
    assert answers is None or (answers["count"], len(answers["clients"]), len(answers["paths"])) == (3, 1, 1)
    assert message == {"type": "failing", "pool": "web", "seat": 0, "failures": 3}
    assert last.startswith(("the backend ", "not HTTP: what")), last


def client_leaves(*answer: bytes) -> Callable[[Place], None]:
    """The client goes while it waits, or in the middle of an answer."""

    def play(place: Place) -> None:
        place.come()
        origin = place.accept()
        if answer:
            place.answer(origin, *answer)
        place.leave(ConnectionResetError())

    return play


def client_leaves_the_dial(place: Place) -> None:
    """The client goes before there is a connection."""
    place.come()
    place.leave(ConnectionResetError())


def client_is_slow(place: Place) -> None:
    """The client's body doesn't come."""
    place.come(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
    place.accept()
    place.wait(13.0)


def grace_ends(place: Place) -> None:
    """We stop."""
    place.come()
    place.accept()
    place.plane.abandon()
    place.plane.run()


def hindered(number: int) -> Callable[[Place], None]:
    """We have none left of something."""

    def play(place: Place) -> None:
        place.come()
        place.refuse(OSError(number, "we have none left"))

    return play


NOT_COUNTED = {
    "client left, waiting": client_leaves(),
    "client left, in the body": client_leaves(HALF),
    "client left, connecting": client_leaves_the_dial,
    "client's body": client_is_slow,
    "grace": grace_ends,
    "descriptors": hindered(errno.EMFILE),
    "ports": hindered(errno.EADDRNOTAVAIL),
}


@pytest.mark.parametrize("play", NOT_COUNTED.values(), ids=NOT_COUNTED.keys())
def test_what_does_not_count(play: Callable[[Place], None]) -> None:
    """What the client or we have done is nothing against the backend."""
    place = Place()
    place.fail(2)
    place.told.clear()
    for _ in range(3):
        play(place)
    assert place.backend.failures in (0, 2)
    assert place.told == []


def test_a_kept_connection_may_be_reset() -> None:
    """All backends that reload do that; a new connection that is reset counts."""
    place = Place()
    place.come()
    origin = place.accept()
    place.answer(origin, OK)
    place.come()
    assert len(place.loop.dials) == 0
    place.answer(origin, ConnectionResetError())
    assert (place.ends[-1], place.backend.failures) == ((502, "SH"), 0)
    answered(ConnectionResetError())(place)
    assert place.backend.failures == 1


@pytest.mark.parametrize(
    "play",
    [answered(OK, None), answered(NOT_FOUND, None), answered(SWITCH, raw=UPGRADE), client_leaves(HALF)],
    ids=["200", "404", "101", "a stream that the client ends"],
)
def test_an_answer_begins_the_count_anew(play: Callable[[Place], None]) -> None:
    """Any that isn't a gateway's."""
    place = Place()
    place.fail(2)
    play(place)
    assert place.backend.failures == 0
    place.fail(2)
    assert place.told == []


def test_what_goes_on_is_told_every_second() -> None:
    """It may be the last one and can't be spared now, but later."""
    place = Place()
    place.fail(8)
    assert [message["failures"] for message in place.told] == [3]
    place.wait(1.2)
    place.fail(2)
    assert [message["failures"] for message in place.told] == [3, 9]


def test_retries_count_as_well() -> None:
    """Every attempt is one, though no client notices; also an answer that is not passed on."""
    place = Place(make_backend("a"), make_backend("b", port=81), retry=Retry(2, frozenset({"connect", "503"}), 1.0, 9))
    place.come()
    place.refuse()
    kept = place.accept()
    place.answer(kept, OK)
    place.come()
    place.answer(place.accept(), UNAVAILABLE)
    place.answer(kept, OK)
    assert place.ends == [(200, "--")] * 2
    assert place.backend.failures == 2


def test_without_outlier_nothing_is_counted() -> None:
    """The pool has it turned off."""
    place = Place(outlier=None)
    place.fail(5)
    assert (place.backend.failures, place.told) == (0, [])


def test_an_ejection_and_its_end() -> None:
    """It gets nothing, what it has goes on, even with ``on_down: reset``; then it counts from the beginning."""
    place = Place(make_backend("a"), make_backend("b", port=81), on_down="reset")
    origin = place.start(GET)
    place.backend.failures = 3
    place.tell(a={"ejected": True})
    assert [backend.name for backend in place.plane.pools["web"].pool.eligible] == ["b"]
    place.answer(origin, OK)
    assert place.ends == [(200, "--")]
    place.tell(a={"ejected": False})
    assert place.backend.failures == 0
    assert len(place.plane.pools["web"].pool.eligible) == 2


def test_idle_connections_of_an_ejected_backend_are_closed() -> None:
    """As with one that is down: its machine may be gone without a word."""
    place = Place(make_backend("a"), make_backend("b", port=81))
    origin = place.start(GET)
    place.answer(origin, OK)
    place.tell(a={"ejected": True})
    assert origin.is_closing()


def test_what_began_before_it_came_back_says_nothing() -> None:
    """Requests that hang since then, and time out only now; nor does what fails while it is passed over or down."""
    place = Place(make_backend("a"), make_backend("b", port=81, weight=0))
    for _ in range(4):
        place.come()
        place.accept()
    place.wait(1.0)
    place.tell(a={"ejected": True})
    place.wait(1.0)
    place.tell(a={"ejected": False})
    place.wait(18.5)
    assert place.ends == [(504, "sH")] * 4
    assert (place.backend.failures, place.told) == (0, [])
    for change in ({"ejected": True}, {"ejected": False, "health": "down"}):
        place.tell(a={"ejected": False, "health": "up"})
        place.wait(0.2)
        place.come()
        origin = place.accept()
        place.tell(a=change)
        place.answer(origin, ConnectionResetError())
        assert place.backend.failures == 0
    assert place.told == []


def test_who_has_left_is_not_reported() -> None:
    """The seat may be another one's by now."""
    place = Place(make_backend("a"), make_backend("b", port=81))
    left = place.backend
    del place.configs["a"]
    place.tell()
    for backend in (left, place.plane.pools["web"].pool.backends[0]):
        backend.failures = 9
        place.plane.pools["web"].count_failure(Attempt(backend, place.plane.now), DialFailed())
    assert [message["seat"] for message in place.told] == [1]


def test_those_who_wait_hear_of_it() -> None:
    """One that is passed over makes no room; one that comes back does."""
    place = Place(make_backend("a", max_conns=1), make_backend("b", port=81, max_conns=1), queue=Queue(3, 5.0))
    place.tell(a={"ejected": True})
    place.come()
    place.accept()
    place.come()
    assert len(place.plane.pools["web"].line) == 1
    place.tell(a={"ejected": False})
    assert len(place.plane.pools["web"].line) == 0
    place.answer(place.accept(), OK)
    assert place.ends == [(200, "--")]


def test_slow_start_goes_on_with_time() -> None:
    """The weight and the limit grow by themselves, and those who wait get the room; also in a worker that starts."""
    place = Place(make_backend("a", max_conns=4, rising=990.0), slow_start=20.0, queue=Queue(3, 50.0))
    pool = place.plane.pools["web"].pool
    assert (pool.is_rising, place.backend.max_conns) == (True, 3)
    for _ in range(4):
        place.come()
    assert len(place.plane.pools["web"].line) == 1
    for _ in range(3):
        place.accept()
    place.wait(8.0)
    assert (len(place.plane.pools["web"].line), place.backend.max_conns) == (0, 4)
    place.wait(3.0)
    assert (pool.is_rising, pool.unit, place.backend.weight) == (False, 1, 1)
    place.tell(a={"rising": place.loop.now})
    assert (pool.is_rising, place.backend.max_conns) == (True, 1)
    place.wait(20.2)
    assert (pool.is_rising, place.backend.max_conns) == (False, 4)


def test_answers_are_told_with_their_clients_and_paths() -> None:
    """Two of each at most, without the query; an answer in between begins a new row of them as well."""
    place = Place()
    for target in (b"/a?1", b"/a?2"):
        answered(UNAVAILABLE, None, raw=GET.replace(b"/", target, 1))(place)
    assert len(place.backend.gateway_answers.paths) == 1
    answered(OK, None)(place)
    place.fail(1)
    assert place.backend.gateway_answers is None
    for number in range(4):
        place.client = place.plane.connect((f"192.0.2.{number}", 50_000))
        place.ask(GET.replace(b"/", b"/%d" % number, 1))
        place.answer(place.accept(), UNAVAILABLE, None)
    (message,) = place.told
    assert message["failures"] == 3
    assert (message["answers"]["count"], len(message["answers"]["clients"]), len(message["answers"]["paths"])) == (
        2,
        2,
        2,
    )
    answers = place.backend.gateway_answers
    assert answers is not None
    assert (answers.count, len(answers.clients), len(answers.paths)) == (4, 2, 2)
