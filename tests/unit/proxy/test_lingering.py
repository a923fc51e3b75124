"""How many connections linger, and who gives way; what lingering is for is in test_downstream."""

from typing import cast

from pyproxy.proxy.downstream import Downstream
from pyproxy.proxy.lingering import Lingering


class _Client:
    """Counts how often it was told to give way."""

    def __init__(self) -> None:
        self.given_way = 0

    def give_way(self) -> None:
        self.given_way += 1


def _clients(number: int) -> list[Downstream]:
    return [cast(Downstream, _Client()) for _ in range(number)]


def _given_way(clients: list[Downstream]) -> list[int]:
    return [cast(_Client, client).given_way for client in clients]


def test_the_oldest_gives_way() -> None:
    """There are never more than allowed, and who came first goes first, once."""
    lingering, clients = Lingering(2), _clients(5)
    for client in clients:
        lingering.add(client)
        assert len(lingering) <= 2
    assert _given_way(clients) == [1, 1, 1, 0, 0]
    assert repr(lingering) == "<Lingering 2 of 2>"


def test_who_has_ended_makes_room() -> None:
    """A connection that ended by itself costs nobody else its time; one that isn't known does no harm."""
    lingering, (first, second, third) = Lingering(2), _clients(3)
    lingering.add(first)
    lingering.add(second)
    lingering.discard(first)
    lingering.discard(third)
    lingering.add(third)
    assert _given_way([first, second, third]) == [0, 0, 0]
