"""The less busy of two random backends. Must not know how fast they are: who is slow gets busy."""

from pyproxy.balance.backend import Backend
from pyproxy.balance.policies.two_choices import TwoChoices


class RandomChoice(TwoChoices):
    """Busy is what is in flight for a backend's weight; idle backends share by weight."""

    __slots__ = ()

    def scores(self, key: bytes, now: float) -> dict[Backend, float]:
        """Count what is in flight, at the average weight."""
        return {backend: backend.active * self._mean_weight / backend.weight for backend in self._backends}

    def _is_better(self, second: Backend, first: Backend, now: float) -> bool:
        return second.active * first.weight < first.active * second.weight
