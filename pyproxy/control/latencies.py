"""
How long backends have taken of late, from histograms that only grow.

Must not know who is measured nor where the histograms are; time is an argument.

A few snapshots of all histograms are kept, ``EVERY`` seconds apart. What has grown since the oldest of them is the last
minute: at most ``SPAN`` and one step. A thousand backends are about 1.5 MB.
"""

from array import array
from collections import deque
from collections.abc import Hashable, Iterable, Mapping, Sequence

from pyproxy.admin.control import LatencyView
from pyproxy.observe.histogram import BUCKETS, quantile

EVERY = 10.0
SPAN = 60.0

_SHARES = (0.5, 0.95, 0.99)


class Latencies:
    """The growth of some histograms over about the last ``SPAN`` seconds; they may come and go."""

    def __init__(self) -> None:
        self._snapshots: deque[tuple[float, Mapping[Hashable, array[int]]]] = deque()

    def __repr__(self) -> str:
        return f"<Latencies {len(self._snapshots)} snapshots>"

    def is_due(self, now: float) -> bool:
        """Whether it is time for another snapshot."""
        return not self._snapshots or now >= self._snapshots[-1][0] + EVERY

    def record(self, now: float, histograms: Mapping[Hashable, Sequence[int]]) -> None:
        """Take a snapshot; each histogram is its ``BUCKETS`` counts. Snapshots that are no longer needed go."""
        self._snapshots.append((now, {name: array("q", counts) for name, counts in histograms.items()}))
        # One as old as the span is kept: it is what the present is compared with.
        while len(self._snapshots) > 1 and self._snapshots[1][0] <= now - SPAN:
            self._snapshots.popleft()

    def view(self, present: Iterable[tuple[Hashable, Sequence[int]]]) -> LatencyView | None:
        """
        Describe what these have counted of late, together; None if that is nothing.

        A histogram is compared with the oldest snapshot that it is in. One that is in none is too young to be told.
        """
        total = [0] * BUCKETS
        for name, counts in present:
            old = next((snapshot[name] for _, snapshot in self._snapshots if name in snapshot), None)
            if old is not None:
                # One that began anew in between never counts backwards.
                total = [sum_ + max(new - was, 0) for sum_, new, was in zip(total, counts, old, strict=True)]
        if not any(total):
            return None
        p50, p95, p99 = (round(quantile(total, share) * 1000, 3) for share in _SHARES)
        return {"p50": p50, "p95": p95, "p99": p99}
