"""
Requests per second, from totals that are looked at once a second.

Must not know what is counted; time is an argument.
"""

from collections import deque
from collections.abc import Sequence

SPAN = 10.0


class Rates:
    """The growth of some totals over the last ``SPAN`` seconds; each is known by its place in the samples."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, Sequence[int]]] = deque()

    def __repr__(self) -> str:
        return f"<Rates {len(self._samples)} samples>"

    def record(self, now: float, totals: Sequence[int]) -> None:
        """Add a sample; ones that are no longer needed go."""
        self._samples.append((now, totals))
        # One sample as old as the span is kept: it is what the newest is compared with.
        while len(self._samples) > 1 and self._samples[1][0] <= now - SPAN:
            self._samples.popleft()

    def rate(self, place: int) -> float:
        """
        Growth per second between the oldest and the newest sample, 0 with fewer than two.

        >>> rates = Rates()
        >>> for second in range(30):
        ...     rates.record(float(second), [5 * second])
        >>> rates.rate(0)
        5.0
        """
        if len(self._samples) < 2:
            return 0.0
        (begin, old), (end, new) = self._samples[0], self._samples[-1]
        return (new[place] - old[place]) / (end - begin) if end > begin else 0.0
