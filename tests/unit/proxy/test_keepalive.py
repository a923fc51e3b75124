"""Pins which idle connection is used, and which are kept."""

from pyproxy.config.runtime import Keepalive as KeepaliveConfig
from pyproxy.proxy.keepalive import Keepalive


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
