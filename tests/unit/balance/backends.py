"""Backends and pools for tests, and a world of clients and backends in which time passes without anybody waiting."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from heapq import heappop, heappush

from pyproxy.balance.backend import Backend
from pyproxy.balance.policies.policy import Policy
from pyproxy.balance.pool import Pool
from pyproxy.config.runtime import Backend as BackendConfig

NAMES = ("round_robin", "least_conn", "random", "ewma", "hash")


def backend(name: str, weight: int = 1, *, backup: bool = False, max_conns: int = 0) -> Backend:
    """Make a backend."""
    return Backend("web", BackendConfig(name, "10.0.0.1", 80, weight, backup, max_conns))


def backends(weights: Iterable[int]) -> list[Backend]:
    """Make a backend for each weight, named by its index."""
    return [backend(str(index), weight) for index, weight in enumerate(weights)]


def pool_of(policy: str, members: Sequence[Backend], *, offset: int = 0, unit: int = 1) -> Pool:
    """Make a pool."""
    return Pool("web", policy, members, offset=offset, unit=unit)


def policy_of(pool: Pool) -> Policy:
    """Give the policy of a pool that has one."""
    assert pool.policy is not None
    return pool.policy


def key_of(number: int) -> bytes:
    """Make one of many keys, such as a client's address."""
    return b"10.%d.%d.%d" % (number >> 16 & 255, number >> 8 & 255, number & 255)


def shares(pool: Pool, count: int) -> Counter[str]:
    """Count the picks of idle backends, each for a key of its own."""
    picks = [pool.pick((), key_of(number)) for number in range(count)]
    return Counter([pick.name for pick in picks if pick is not None])


class World:
    """
    Clients that ask again as soon as they are answered, and backends that take ``seconds(backend, now)`` each.

    ``sent`` counts the requests a backend has got, ``took`` has how long each answered one had to wait.
    """

    def __init__(self, pool: Pool, clients: int, seconds: Callable[[Backend, float], float]) -> None:
        self.pool = pool
        self.now = 0.0
        self.sent: Counter[str] = Counter()
        self.took: list[float] = []
        self._seconds = seconds
        self._asked = 0
        self._under_way: list[tuple[float, int, float, Backend]] = []  # (end, number, start, backend)
        for _ in range(clients):
            self._ask()

    def run(self, answers: int) -> None:
        """Let so many answers come."""
        for _ in range(answers):
            self.now, _, started, on = heappop(self._under_way)
            on.active -= 1
            self.pool.active -= 1
            self.took.append(self.now - started)
            if on.latency is not None:
                on.latency.record(self.now - started, self.now)
            self._ask()

    def _ask(self) -> None:
        self._asked += 1
        on = self.pool.pick((), key_of(self._asked), self.now)
        assert on is not None
        on.active += 1
        self.pool.active += 1
        self.sent[on.name] += 1
        heappush(self._under_way, (self.now + self._seconds(on, self.now), self._asked, self.now, on))
