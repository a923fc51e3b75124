"""How a pool picks: one small file for each policy."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pyproxy.balance.policies.consistent_hash import ConsistentHash
from pyproxy.balance.policies.ewma import Ewma
from pyproxy.balance.policies.least_conn import LeastConn
from pyproxy.balance.policies.policy import Policy
from pyproxy.balance.policies.random_choice import RandomChoice
from pyproxy.balance.policies.round_robin import RoundRobin

if TYPE_CHECKING:
    from pyproxy.balance.pool import Pool


def _turn(pool: "Pool") -> int:
    """Say where an order begins: where the pool's last policy had come to, else at the worker's own place."""
    previous = pool.policy
    if isinstance(previous, (RoundRobin, LeastConn)):
        if previous.backends == pool.eligible:
            # Only weights have changed, perhaps in one of many steps: from the beginning, light ones would never come.
            return previous.place_among([backend.weight for backend in pool.eligible])
        return previous.turn % len(pool.eligible)
    return pool.offset


#: What a name in the file stands for; called whenever the eligible backends of a pool change, which are never none.
POLICIES: Final[dict[str, Callable[["Pool"], Policy]]] = {
    "round_robin": lambda pool: RoundRobin(pool.eligible, _turn(pool)),
    "least_conn": lambda pool: LeastConn(pool.eligible, _turn(pool), pool.random),
    "random": lambda pool: RandomChoice(pool.eligible, pool.random),
    "ewma": lambda pool: Ewma(pool.eligible, pool.random),
    "hash": lambda pool: ConsistentHash(pool, pool.policy),
}
