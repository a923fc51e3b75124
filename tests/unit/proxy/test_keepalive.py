"""Pins which idle connection is used, and which are kept."""

import pytest

from pyproxy.balance.backend import Backend
from pyproxy.config.runtime import Keepalive as KeepaliveConfig
from pyproxy.config.runtime import Route
from pyproxy.proxy.attempt import Attempt
from pyproxy.proxy.keepalive import WAITING_MAX, Keepalive, idle_seconds
from tests.unit.proxy.planes import Stage, fake_time, make_backend, make_config, make_pool

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def stack(max_idle: int = 3) -> Keepalive[object]:
    """Make an empty stack."""
    return Keepalive(KeepaliveConfig(max_idle=max_idle, idle=30.0, max_requests=100))


def test_the_last_one_used_is_used_first() -> None:
    """So that the others can grow old and go."""
    idle = stack()
    first, second = object(), object()
    assert idle.put(first)
    assert idle.put(second)
    assert [idle.take(), idle.take(), idle.take()] == [second, first, None]


def test_only_so_many_are_kept() -> None:
    """One more must be closed by whoever brought it; with max_idle 0 none is kept."""
    idle = stack(1)
    kept, other = object(), object()
    assert idle.put(kept)
    assert not idle.put(other)
    assert len(idle) == 1
    assert idle.take() is kept
    assert not stack(0).put(object())


def test_a_lost_one_is_forgotten() -> None:
    """Wherever it lies; one that isn't there is no error."""
    idle = stack()
    connections = [object(), object(), object()]
    for connection in connections:
        idle.put(connection)
    idle.discard(connections[1])
    idle.discard(object())
    assert [idle.take(), idle.take(), idle.take()] == [connections[2], connections[0], None]


def test_all_can_be_given_up() -> None:
    """The caller gets them to close them."""
    idle = stack()
    connections = [object(), object()]
    for connection in connections:
        idle.put(connection)
    assert idle.clear() == connections
    assert len(idle) == 0
    assert idle.take() is None


def test_the_backend_s_own_word() -> None:
    """Ours ends safely before the backend's; never later than configured."""
    assert idle_seconds(4.0, 5.0) == 4.0
    assert idle_seconds(30.0, 5.0) == 4.0
    assert idle_seconds(4.0, 1.0) == 0.5
    assert idle_seconds(4.0, float("inf")) == 4.0


def test_it_lives_as_long_as_one_of_its_backends() -> None:
    """Pools share it: the first that goes leaves the connections to the others."""
    idle = stack()
    idle.users = 2
    connection = object()
    idle.put(connection)
    assert idle.release() == []
    assert idle.release() == [connection]
    assert not idle.put(connection)


def attempt_at(now: float) -> Attempt:
    """An attempt that began then."""
    return Attempt(Backend("web", make_backend("a")), now)


def test_who_has_overtaken_gives_way() -> None:
    """Once for each that waits, and not before it has waited for a while."""
    idle = stack()
    idle.await_first(attempt_at(10.0))
    assert not idle.gives_way(sent=10.001, now=10.01), "not yet"
    assert not idle.gives_way(sent=9.0, now=10.1), "it was sent before"
    assert idle.gives_way(sent=10.001, now=10.1)
    assert not idle.gives_way(sent=10.001, now=10.1), "one has given way"


def test_nobody_gives_way_to_who_is_only_slow() -> None:
    """A younger one has its answer: the node has taken the older one too."""
    idle = stack()
    older, younger = attempt_at(10.0), attempt_at(10.1)
    idle.await_first(older)
    idle.await_first(younger)
    younger.header_time = 0.1
    assert not idle.gives_way(sent=10.05, now=11.0)
    ended = attempt_at(12.0)
    idle.await_first(ended)
    ended.is_over = True
    assert not idle.gives_way(sent=12.5, now=13.0)


def test_what_has_been_idle_gives_way() -> None:
    """Those for longest, one for each; who finds none is told of, now and then again, so that other workers help."""
    idle = stack()
    connections = [object(), object(), object()]
    since = dict(zip(connections, (5.0, 6.0, 10.09), strict=True))
    for connection in connections:
        idle.put(connection)
    for _ in range(4):
        idle.await_first(attempt_at(10.0))
    looks = [
        (10.1, connections[:2], [10.0, 10.0]),
        (10.2, [connections[2]], []),
        (10.34, [], []),
        (10.36, [], [10.0] * 3),
    ]
    for now, found, untold in looks:
        assert idle.find_idle(now, lambda connection, moment: since[connection] <= moment) == (found, untold)


def test_who_still_waits_is_given_way_to_again() -> None:
    """Another worker's connection was before it; a quarter of a second later the next one gives way."""
    idle = stack()
    idle.await_first(attempt_at(10.0))
    assert idle.gives_way(sent=10.1, now=10.2)
    assert not idle.gives_way(sent=10.1, now=10.4)
    assert idle.gives_way(sent=10.1, now=10.5)


def test_strangers_are_noted_while_they_are_told_of() -> None:
    """A check or another worker's request: what has overtaken it isn't kept, for half a second from the last word."""
    idle = stack()
    idle.note_strangers([9.9, 9.8], 10.0)
    assert not idle.gives_way(sent=9.7, now=10.0), "it was sent before"
    assert idle.gives_way(sent=9.95, now=10.0)
    idle.note_strangers([9.9], 10.4)
    assert idle.gives_way(sent=9.95, now=10.8)
    assert not idle.gives_way(sent=9.95, now=10.8), "the other one was told of for the last time at 10.0"
    idle.note_strangers([19.0 + number / 10_000 for number in range(10_000)], 20.0)
    assert len(idle.waiting) <= WAITING_MAX


def test_nobody_gives_way_to_a_stranger_that_is_only_slow() -> None:
    """It began clearly before one of ours that has its answer; another one may be without a process."""
    idle = stack()
    ours = attempt_at(10.0)
    idle.await_first(ours)
    ours.header_time = 0.1
    idle.note_strangers([9.8, 9.95], 11.0)
    assert idle.gives_way(sent=10.5, now=11.0)
    assert not idle.gives_way(sent=10.5, now=11.0)


GET = b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n"


def test_pools_share_an_address() -> None:
    """With the same settings; what one has left idle serves the other, and is then the other's."""
    other = KeepaliveConfig(max_idle=5, idle=30.0, max_requests=1000)
    pools = [make_pool(name, (make_backend("a"),)) for name in ("one", "two")]
    pools.append(make_pool("own", (make_backend("a"),), keepalive=other))
    routes = tuple(Route(name, None, name) for name in ("one", "two", "own"))
    with fake_time():
        stage = Stage(make_config(*pools, routes=routes))
        origin = stage.start(GET % b"one")
        stage.answer(origin, OK)
        stage.ask(GET % b"two")
        assert stage.plane.upstreams()[0].backend.pool == "two"
        stage.answer(origin, OK)
        assert stage.ends == [(200, "--")] * 2
        stage.plane.update_pools([{"name": "one", "unit": 1, "backends": []}])
        assert not origin.is_closing()
        stage.start(GET % b"own")
        stage.wait(0.1)
        stage.plane.give_way("10.0.0.1:8080", [stage.plane.now])
        stage.wait(0.05)
        assert origin.is_closing()


@pytest.mark.parametrize(("hint", "seconds"), [("timeout=2", 1.0), ("timeout=9, max=0", 0.0), ("timeout=99", 30.0)])
def test_a_hint_shortens_the_idle_time(hint: str, seconds: float) -> None:
    """And with no request left the connection isn't kept."""
    with fake_time():
        stage = Stage()
        origin = stage.start(GET % b"a")
        stage.answer(origin, OK.replace(b"\r\n\r\n", b"\r\nKeep-Alive: %b\r\n\r\n" % hint.encode(), 1))
        assert b"Keep-Alive" not in stage.got
        if seconds:
            stage.wait(seconds - 0.2)
            assert not origin.is_closing()
        stage.wait(0.4)
        assert origin.is_closing()


def test_an_idle_one_gives_way_to_a_new_one_that_waits() -> None:
    """A prefork node with one process and two requests: the idle connection goes, so that the other is taken."""
    with fake_time():
        stage = Stage()
        second = stage.plane.connect()
        stage.ask(GET % b"a")
        second.receive(GET % b"a")
        stage.plane.run()
        first, waits = stage.accept(), stage.accept()
        stage.answer(first, OK)
        assert not first.is_closing()
        stage.wait(0.1)
        assert first.is_closing()
        assert not waits.is_closing()
