"""What a pool asks of a policy. Knows nothing of limits or of who was tried: that is ``is_open``."""

from collections.abc import Callable, Sequence

from pyproxy.balance.backend import Backend

IsOpen = Callable[[Backend], bool]


class Policy:
    """
    A way to pick; made anew whenever the eligible backends change, of one or more with a weight of at least 1.

    A class of its own and no Protocol: compiled, a call goes through one table.
    """

    __slots__ = ()

    def pick(self, key: bytes, now: float, is_open: IsOpen | None = None) -> Backend | None:
        """Choose a backend; with ``is_open`` one for which it is true, None if there is none."""
        raise NotImplementedError

    def peek(self, key: bytes, now: float, is_open: IsOpen | None = None) -> Backend | None:
        """Give what ``pick`` would return now; asking changes nothing."""
        raise NotImplementedError

    def charge(self, backend: Backend) -> None:
        """
        Take it that a backend has got a request that was not picked here: its client sticks to it.

        Nothing to do for a policy that goes by what is in flight, or by the key.
        """

    def scores(self, key: bytes, now: float) -> dict[Backend, float]:
        """Say for each backend how it stands, lower is better; what the number means is the policy's matter."""
        raise NotImplementedError


def mean_weight(backends: Sequence[Backend]) -> float:
    """Give the average weight: what is counted relative to it is the same in every unit of weights."""
    return sum([backend.weight for backend in backends]) / len(backends)
