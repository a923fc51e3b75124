"""
Requests per second, from totals that are looked at once a second.

Must not know what is counted; time is an argument.
"""

from collections import deque
from collections.abc import Hashable, Mapping

SPAN = 10.0


class Rates:
    """The growth of some totals over the last ``SPAN`` seconds; they may come and go."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, Mapping[Hashable, int]]] = deque()

    def __repr__(self) -> str:
        return f"<Rates {len(self._samples)} samples>"

    def record(self, now: float, totals: Mapping[Hashable, int]) -> None:
        """Add a sample; ones that are no longer needed go."""
        self._samples.append((now, totals))
        # One sample as old as the span is kept: it is what the newest is compared with.
        while len(self._samples) > 1 and self._samples[1][0] <= now - SPAN:
            self._samples.popleft()

    def rate(self, name: Hashable) -> float:
        """
        Growth per second between the oldest and the newest sample, 0 with fewer than two.

        One that came later is told by the samples that it is in; one that began anew never counts backwards.

        >>> rates = Rates()
        >>> for second in range(30):
        ...     rates.record(float(second), {"web1": 5 * second})
        >>> rates.rate("web1")
        5.0
        """
        samples = [(time, totals[name]) for time, totals in self._samples if name in totals]
        if len(samples) < 2:
            return 0.0
        (begin, old), (end, new) = samples[0], samples[-1]
        return max(new - old, 0) / (end - begin) if end > begin else 0.0
