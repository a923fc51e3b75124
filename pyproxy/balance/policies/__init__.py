"""How a pool picks: one small file for each policy."""

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from pyproxy.balance.backend import Backend
from pyproxy.balance.policies.round_robin import RoundRobin


class Policy(Protocol):
    """What a pool asks of a policy; it is made anew whenever the eligible backends change."""

    def pick(self) -> Backend:
        """Choose one of the backends that the policy was made with."""
        ...


POLICIES: Final[dict[str, Callable[[Sequence[Backend], int], Policy]]] = {"round_robin": RoundRobin}
