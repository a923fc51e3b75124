"""The moment in which no new connection begins: nobody is refused, and who had begun is served."""

import socket
from collections.abc import Iterator

import pytest

from pyproxy.control import syn_block


@pytest.fixture(params=[socket.AF_INET, socket.AF_INET6])
def listener(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    """A listening socket of either family, blocked by nobody yet."""
    with socket.socket(request.param) as sock:
        sock.bind(("127.0.0.1" if request.param == socket.AF_INET else "::1", 0))
        sock.listen(16)
        yield sock


def begin(listener: socket.socket) -> socket.socket:
    """Send a SYN, and don't wait for what comes of it."""
    client = socket.socket(listener.family)
    client.setblocking(False)
    client.connect_ex(listener.getsockname())
    return client


def test_a_connection_that_begins_meanwhile_comes_later(listener: socket.socket) -> None:
    """It is neither refused nor lost: its first packet is sent again."""
    syn_block.block([listener])
    with begin(listener) as client:
        listener.settimeout(0.2)
        with pytest.raises(TimeoutError):
            listener.accept()
        syn_block.unblock([listener])
        listener.settimeout(10)
        accepted, _ = listener.accept()
        accepted.close()
        assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


def test_a_connection_that_stands_is_served_meanwhile(listener: socket.socket) -> None:
    """Whether somebody has accepted it yet or not; it is counted until then."""
    with socket.create_connection(listener.getsockname()[:2]) as client:
        syn_block.block([listener])
        assert syn_block.queued([listener]) == 1
        client.sendall(b"hello")
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.recv(5) == b"hello"
            assert syn_block.queued([listener]) == 0
    syn_block.unblock([listener])


def test_twice_is_once_and_closed_is_nothing(listener: socket.socket) -> None:
    """The end of a hand-over doesn't know how far it came."""
    syn_block.block([listener])
    syn_block.block([listener])
    syn_block.unblock([listener])
    syn_block.unblock([listener])
    listener.close()
    syn_block.unblock([listener])
    assert (syn_block.queued([listener]), syn_block.half_open([listener])) == (0, 0)


def test_without_anybody_there_is_nobody_half_open(listener: socket.socket) -> None:
    """The kernel is asked, and says so; a connection that stands isn't half open."""
    assert syn_block.half_open([listener]) == 0
    with socket.create_connection(listener.getsockname()[:2]):
        assert syn_block.half_open([listener]) == 0
