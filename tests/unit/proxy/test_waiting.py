"""Pins who is served when backends are at their ``max_conns``: first come, first served, and nobody for ever."""

import pytest

from pyproxy.config.runtime import Queue
from pyproxy.proxy.waiting import LOOK_SECONDS
from tests.fakes import FakeTransport
from tests.unit.proxy.planes import FakePlane, make_backend, make_config, make_pool

GET = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Place:
    """A pool of one backend that takes one request at a time, and clients that come one after another."""

    def __init__(self, *, size: int = 3, timeout: float = 5.0, max_conns: int = 1) -> None:
        backend = make_backend("a", max_conns=max_conns)
        self.plane = FakePlane(make_config(make_pool("web", (backend,), queue=Queue(size, timeout))))
        self.clients: list[FakeTransport] = []
        self.origins: list[FakeTransport] = []
        self.line = self.plane.pools["web"].line
        # the row of another worker's counters, which nobody writes
        self.other = memoryview(bytearray(self.plane.layout.size * 8)).cast("q")
        self.plane.rows.append(self.other)

    def come(self, request: bytes = GET) -> FakeTransport:
        """Let one more client come and ask for the number of its turn."""
        client = self.plane.connect()
        client.receive(request % len(self.clients))
        self.clients.append(client)
        self.plane.run()
        return client

    def accept(self) -> FakeTransport:
        """Let a dial succeed."""
        origin = self.plane.fake_loop.dials[0].accept()
        self.plane.run()
        self.origins.append(origin)
        return origin

    def served(self) -> list[bytes]:
        """Give the targets that the backend was asked for, in order."""
        asked = b"".join(bytes(origin.sent) for origin in self.origins)
        return [line.split(b" ")[1] for line in asked.split(b"\r\n") if line.endswith(b" HTTP/1.1")]

    def answer(self) -> None:
        """Let the backend answer."""
        self.origins[-1].receive(OK)
        self.plane.run()

    @property
    def ends(self) -> list[tuple[int, str]]:
        """Status and termination code of what has finished."""
        return [(exchange.status, exchange.end) for exchange in self.plane.finished]


def test_served_in_order_of_arrival() -> None:
    """Each answer makes room for the one who has waited longest, on the same connection."""
    place = Place()
    for _ in range(4):
        place.come()
    place.accept()
    assert place.served() == [b"/0"]
    for number in range(4):
        assert len(place.line) == 3 - number
        place.answer()
    assert place.served() == [b"/0", b"/1", b"/2", b"/3"]
    assert place.ends == [(200, "--")] * 4
    assert len(place.origins) == 1


def test_a_full_queue_refuses_the_newest() -> None:
    """PQ, a 503; those who wait go on waiting."""
    place = Place(size=1)
    for _ in range(3):
        place.come()
    assert place.ends == [(503, "PQ")]
    assert place.clients[2].sent.startswith(b"HTTP/1.1 503 ")
    place.accept()
    place.answer()
    place.answer()
    assert place.ends[1:] == [(200, "--")] * 2


def test_the_size_holds_over_all_workers() -> None:
    """What waits in another worker counts."""
    place = Place(size=2)
    place.come()
    place.other[place.plane.layout.queued("web")] = 1
    place.come()
    place.come()
    assert place.ends == [(503, "PQ")]


def test_waiting_has_an_end() -> None:
    """Time is up in order of arrival: sQ, a 503, and later ones still have their own time."""
    place = Place(timeout=5.0)
    place.come()
    place.accept()
    place.come()
    place.plane.fake_loop.advance(3.0)
    place.come()
    place.plane.fake_loop.advance(2.2)
    assert place.ends[-1:] == [(503, "sQ")]
    assert len(place.line) == 1
    place.plane.fake_loop.advance(3.0)
    assert [end for end in place.ends if end[1] == "sQ"] == [(503, "sQ")] * 2
    assert len(place.line) == 0


def test_a_client_that_leaves_gives_up_its_place() -> None:
    """CQ; the next one moves up."""
    place = Place()
    for _ in range(3):
        place.come()
    place.clients[1].receive(None)
    place.plane.run()
    assert place.ends == [(499, "CQ")]
    place.accept()
    place.answer()
    place.answer()
    assert place.served() == [b"/0", b"/2"]


def test_a_body_is_not_read_while_its_request_waits() -> None:
    """What came with the head is kept, what follows stays in the kernel; all of it is sent in the end."""
    place = Place()
    place.come()
    client = place.come(POST[:-2])
    assert not client.is_reading()
    client.receive(b"dy")
    place.accept()
    place.answer()
    assert client.is_reading()
    place.plane.run()
    assert bytes(place.origins[0].sent).endswith(b"\r\n\r\nbody")
    place.answer()
    assert place.ends == [(200, "--")] * 2


def test_a_newcomer_waits_behind_those_who_wait() -> None:
    """Room that was made for the first in the line isn't taken by who happens to come just now."""
    place = Place()
    place.come()
    place.accept()
    place.come()
    place.origins[0].receive(OK)
    newcomer = place.plane.connect()
    newcomer.receive(GET % 9)
    place.plane.run()
    assert place.served() == [b"/0", b"/1"]


def test_room_made_by_another_worker_is_seen_by_looking() -> None:
    """Nobody tells us: the next look finds it."""
    place = Place()
    active = place.plane.layout.backend_active(0)
    place.other[active] = 1
    place.come()
    assert len(place.line) == 1
    place.other[active] = 0
    place.plane.run()
    assert len(place.line) == 1
    place.plane.fake_loop.advance(LOOK_SECONDS)
    assert len(place.line) == 0
    place.accept()
    place.answer()
    assert place.ends == [(200, "--")]


def test_nobody_looks_when_nobody_waits() -> None:
    """An idle worker isn't woken two hundred times a second."""
    place = Place()
    place.come()
    place.come()
    place.accept()
    place.answer()
    place.answer()
    place.plane.fake_loop.advance(LOOK_SECONDS)
    looks = [handle for _, _, handle in place.plane.fake_loop._timers if handle.callback == place.line._look]
    assert not looks


def test_room_is_left_to_a_worker_whose_request_has_waited_longer() -> None:
    """For one look; if it doesn't take the room, we do."""
    place = Place()
    place.come()
    place.accept()
    place.come()
    place.other[place.plane.layout.queue_head("web")] = int((place.plane.now - 1.0) * 1e9)
    place.other[place.plane.layout.queued("web")] = 1
    place.answer()
    assert place.served() == [b"/0"]
    place.plane.fake_loop.advance(LOOK_SECONDS)
    assert place.served() == [b"/0"]
    place.plane.fake_loop.advance(LOOK_SECONDS)
    assert place.served() == [b"/0", b"/1"]


@pytest.mark.parametrize("change", ["gone", "limit"])
def test_a_change_of_the_pool_lets_the_queue_move(change: str) -> None:
    """A higher limit makes room at once; without any backend those who wait get their 503 at once."""
    place = Place()
    place.come()
    place.come()
    place.accept()
    limit = {"name": "a", "host": "10.0.0.1", "port": 8080, "weight": 1, "backup": False, "max_conns": 2}
    members = [limit] if change == "limit" else []
    place.plane.update_pools([{"name": "web", "unit": 1, "backends": members}])
    place.plane.run()
    if change == "limit":
        place.accept()
        assert place.served() == [b"/0", b"/1"]
    else:
        assert place.ends == [(503, "SC")]
        assert len(place.line) == 0


def test_who_waits_for_nobody_but_a_drained_backend_is_refused() -> None:
    """Whatever room it has; what is in flight goes on, and when it is ready again it is the same backend."""
    place = Place()
    place.come()
    place.come()
    place.accept()
    before = place.plane.pools["web"].pool.backends
    member = {"name": "a", "host": "10.0.0.1", "port": 8080, "weight": 1, "backup": False, "max_conns": 2}
    place.plane.update_pools([{"name": "web", "unit": 1, "backends": [member | {"state": "drain"}]}])
    place.plane.run()
    assert place.ends == [(503, "SC")]
    place.plane.update_pools([{"name": "web", "unit": 1, "backends": [member | {"state": "ready"}]}])
    place.come()
    place.accept()
    assert place.served() == [b"/0", b"/2"]
    assert place.plane.pools["web"].pool.backends == before


def test_a_stopping_program_does_not_forget_who_waits() -> None:
    """When the grace is over they are told so: PD."""
    place = Place()
    place.come()
    place.come()
    place.plane.drain()
    place.plane.abandon()
    assert sorted(place.ends) == [(503, "PD")] * 2
    assert place.line.count() == 0


def test_a_queue_elsewhere_is_no_reason_to_refuse_while_there_is_room() -> None:
    """Another worker's line is full and doesn't move: better to overtake it than to refuse."""
    place = Place(size=2)
    place.other[place.plane.layout.queued("web")] = 2
    place.come()
    place.accept()
    place.come()
    assert place.ends == [(503, "PQ")]
    place.answer()
    assert place.served() == [b"/0"]


def test_a_retry_keeps_its_place() -> None:
    """A connection that turns out to be stale costs nobody else's turn, nor a 503 because the line is full."""
    place = Place(size=1)
    place.come()
    place.accept()
    place.answer()
    place.come()
    place.come()
    assert len(place.line) == 1
    place.origins[0].receive(None)
    place.plane.run()
    place.accept()
    assert place.served()[-1] == b"/1"
    place.answer()
    assert place.served()[-1] == b"/2"
    place.answer()
    assert place.ends == [(200, "--")] * 3


def test_who_waits_for_a_100_is_not_called_slow() -> None:
    """A client that announced its body and waits for the word to send it isn't the one that keeps us waiting."""
    place = Place(timeout=60.0)
    place.come()
    place.accept()
    place.come(POST.replace(b"body", b"").replace(b"\r\nContent", b"\r\nExpect: 100-continue\r\nContent"))
    place.plane.fake_loop.advance(13.0)
    assert place.ends == []
    assert len(place.line) == 1


def test_a_client_that_leaves_after_its_whole_body_gives_up_its_place() -> None:
    """Nothing is left to be read but the news that it is gone."""
    place = Place()
    place.come()
    place.come(POST)
    assert len(place.line) == 1
    place.clients[1].receive(None)
    place.plane.run()
    assert place.ends == [(499, "CQ")]
    assert len(place.line) == 0


class Pair(Place):
    """Two backends that take a request each: ``b`` is busy with /0, and /1 is being dialled to ``a``, which refuses."""

    def __init__(self) -> None:
        backends = [make_backend("b", port=8001, max_conns=1), make_backend("a", port=8002, max_conns=1)]
        self.plane = FakePlane(make_config(make_pool("web", tuple(backends), queue=Queue(9, 5.0))))
        self.clients, self.origins = [], []
        self.line = self.plane.pools["web"].line
        self.come()
        self.busy = self.accept()
        self.come()

    def refuse(self) -> None:
        """Let ``a`` refuse."""
        self.plane.fake_loop.dials[0].refuse()
        self.plane.run()


class Overflow(Place):
    """A primary backend that takes one request at a time, beside it an idle backup; /0 is with the primary one."""

    def __init__(self, *, size: int = 9, backup_max_conns: int = 0, backup_weight: int = 1) -> None:
        backup = make_backend("b", port=8002, backup=True, max_conns=backup_max_conns, weight=backup_weight)
        backends = (make_backend("a", port=8001, max_conns=1), backup)
        self.plane = FakePlane(make_config(make_pool("web", backends, queue=Queue(size, 5.0))))
        self.clients, self.origins = [], []
        self.line = self.plane.pools["web"].line
        self.come()
        self.accept()

    def who_served(self) -> list[bytes]:
        """Give the backend of each request that has ended, in order."""
        return [exchange.attempts[-1].backend for exchange in self.plane.finished]


@pytest.mark.parametrize("request_", [GET, POST])
def test_a_backup_is_an_overflow_for_those_whose_time_is_up(request_: bytes) -> None:
    """Not earlier: they wait for a primary backend as long as they may, and aren't refused then."""
    place = Overflow()
    place.come(request_)
    place.plane.fake_loop.advance(4.5)
    assert not place.plane.fake_loop.dials
    place.plane.fake_loop.advance(0.7)
    place.accept()
    place.answer()
    assert (place.ends, place.who_served()) == ([(200, "--")], [b"b"])
    assert place.line.count() == 0
    place.come()
    assert len(place.line) == 1, "a newcomer waits for a primary backend again"


def test_a_backup_is_an_overflow_for_those_who_find_no_place_to_wait() -> None:
    """Who waits goes on waiting for a primary backend."""
    place = Overflow(size=1)
    place.come()
    place.come()
    assert len(place.line) == 1
    place.accept()
    place.answer()
    assert (place.ends, place.who_served()) == ([(200, "--")], [b"b"])
    place.origins[0].receive(OK)
    place.plane.run()
    assert place.served() == [b"/0", b"/1", b"/2"]


@pytest.mark.parametrize("settings", [{"backup_max_conns": 1}, {"backup_weight": 0}])
def test_a_backup_that_can_take_nothing_is_no_overflow(settings: dict[str, int]) -> None:
    """At its limit, or of weight 0: sQ and PQ as without a backup."""
    place = Overflow(size=1, **settings)
    backup = place.plane.pools["web"].pool.backends[1]
    place.plane.row[backup.columns.active] = 1
    place.come()
    place.come()
    place.plane.fake_loop.advance(5.2)
    assert place.ends == [(503, "PQ"), (503, "sQ")]


def test_a_backup_that_cannot_be_reached_is_no_overflow() -> None:
    """The request goes back to the line, and is refused when its time is up once more."""
    place = Overflow()
    place.come()
    place.plane.fake_loop.advance(5.2)
    place.plane.fake_loop.dials[0].refuse()
    place.plane.run()
    assert len(place.line) == 1
    place.plane.fake_loop.advance(5.2)
    assert place.ends == [(503, "sQ")]
    assert place.line.count() == 0


def test_who_was_tried_already_goes_first() -> None:
    """Refused by one backend, it stands before those who came later and wait for the other one as well."""
    place = Pair()
    place.come()
    place.come()
    place.refuse()  # now /1 waits for b, and /2 is being dialled to a
    assert len(place.line) == 2
    place.busy.receive(OK)
    place.plane.run()
    assert place.served() == [b"/0", b"/1"]


def test_who_was_tried_already_keeps_nobody_waiting() -> None:
    """What it can't use is room for those behind it."""
    place = Pair()
    place.refuse()
    assert len(place.line) == 1
    place.come()
    place.plane.fake_loop.advance(LOOK_SECONDS)
    assert [dial.address[1] for dial in place.plane.fake_loop.dials] == [8002]
    assert len(place.line) == 1
