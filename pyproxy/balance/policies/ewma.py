"""
The one of two random backends where an answer is to be expected sooner. Must not know how latency is averaged.

Theory of operation. What is expected is the latency times what is in flight with the new request, at the average
weight: latency · (active · mean / weight + 1). An idle backend's weight is not in it, it has had its say in the draw;
otherwise the heavier of two equal idle backends would always win.

Latency decays while nothing is heard of a backend, so that one which was slow, or is new, is tried again: idle, it is
taken as soon as it seems the better one. With answers outstanding silence is no good sign any more. Such a backend is
taken for as fast as the other one at best, or as it last was if that was faster: one that hangs then gets its share
of what is in flight, as with the least busy policy, and not all requests.
"""

from collections.abc import Sequence
from random import Random

from pyproxy.balance.backend import Backend
from pyproxy.balance.latency import Latency
from pyproxy.balance.policies.two_choices import TwoChoices


def _latency(backend: Backend, now: float) -> float:
    latency = backend.latency
    return latency.at(now) if latency is not None else 0.0


class Ewma(TwoChoices):
    """Pick from ``backends``, each of which gets a latency to be recorded if it has none."""

    __slots__ = ()

    def __init__(self, backends: Sequence[Backend], random: Random) -> None:
        super().__init__(backends, random)
        for backend in backends:
            if backend.latency is None:
                backend.latency = Latency()

    def scores(self, key: bytes, now: float) -> dict[Backend, float]:
        """Give the seconds to be expected, beside a backend of average latency; 0 where nothing is known."""
        latencies = [_latency(backend, now) for backend in self._backends]
        mean = sum(latencies) / len(latencies)
        return {
            backend: self._expect(backend, latency, mean)
            for backend, latency in zip(self._backends, latencies, strict=True)
        }

    def _is_better(self, second: Backend, first: Backend, now: float) -> bool:
        present = _latency(first, now)
        latency = _latency(second, now)
        return self._expect(second, latency, present) < self._expect(first, present, latency)

    def _expect(self, backend: Backend, latency: float, others: float) -> float:
        active = backend.active
        if not active:
            return latency
        if latency < others:
            last = backend.latency.average if backend.latency is not None else 0.0
            latency = last if 0.0 < last < others else others
        return (latency or 1.0) * (active * self._mean_weight / backend.weight + 1.0)
