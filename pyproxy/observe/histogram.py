"""
A histogram of durations as plain int64 columns, counted by workers and rendered by the supervisor.

Must not know which histogram it is, nor where the columns lie.

The columns are one count per bucket, the last bucket for everything above the highest bound, and then
the sum in nanoseconds. Buckets are *not* cumulative in memory, so counting is one search and two
additions, which the byte path writes out itself::

    row[base + bucket_of(seconds)] += 1
    row[base + WIDTH - 1] += int(seconds * 1e9)
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Final

# Upper bounds in seconds, inclusive as in Prometheus: fine for a near backend, coarse towards the timeouts. A list: a
# tuple of floats would be made anew for every look at it where that is compiled (1,800 instructions).
BOUNDS: Final = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0]
BUCKETS: Final = len(BOUNDS) + 1
WIDTH: Final = BUCKETS + 1

_LABELS = (*(str(bound) for bound in BOUNDS), "+Inf")


def bucket_of(seconds: float) -> int:
    """
    Find the bucket that counts a duration.

    One bound after the other: most durations are short, and compiled it is a tenth of ``bisect``.

        >>> bucket_of(0.0), bucket_of(0.0005), bucket_of(0.0006), bucket_of(60.5) == BUCKETS - 1
        (0, 0, 1, True)
    """
    bucket = 0
    for bound in BOUNDS:
        if seconds <= bound:
            return bucket
        bucket += 1
    return bucket


def sample_lines(name: str, labels: str, columns: Sequence[int]) -> list[str]:
    """
    Write the ``WIDTH`` columns as Prometheus sample lines; ``labels`` is ``key="value"`` text, not empty.

    The count is the sum of the buckets, so count and ``+Inf`` agree even while workers go on counting.

        >>> for line in sample_lines("x", 'pool="web"', [0] * 15 + [2, 1, 75_500_000_000])[-4:]:
        ...     print(line)
        x_bucket{pool="web",le="60.0"} 2
        x_bucket{pool="web",le="+Inf"} 3
        x_sum{pool="web"} 75.5
        x_count{pool="web"} 3
    """
    cumulative = list(accumulate(columns[:BUCKETS]))
    lines = [
        f'{name}_bucket{{{labels},le="{bound}"}} {count}' for bound, count in zip(_LABELS, cumulative, strict=True)
    ]
    lines.append(f"{name}_sum{{{labels}}} {columns[WIDTH - 1] / 1e9}")
    lines.append(f"{name}_count{{{labels}}} {cumulative[-1]}")
    return lines


def quantile(counts: Sequence[int], share: float) -> float:
    """
    Estimate the duration in seconds that a share of those counted in ``BUCKETS`` buckets didn't exceed.

    Inside a bucket durations are taken to be spread evenly by their logarithm, as the bounds are; the first bucket,
    which begins at 0, evenly. Whatever is above the highest bound counts as that bound. 0 if nothing was counted.

        >>> counts = [0] * BUCKETS
        >>> counts[3], counts[4] = 98, 2
        >>> [round(quantile(counts, share), 6) for share in (0.49, 0.98, 0.99, 1.0)]
        [0.003162, 0.005, 0.007071, 0.01]
    """
    rank = share * sum(counts)
    for bucket, count in enumerate(counts):
        if count and rank <= count:
            return _inside(bucket, max(rank, 0.0) / count)
        rank -= count
    return 0.0


def _inside(bucket: int, fraction: float) -> float:
    if bucket >= len(BOUNDS):
        return BOUNDS[-1]
    if bucket == 0:
        return BOUNDS[0] * fraction
    low, high = BOUNDS[bucket - 1], BOUNDS[bucket]
    return float(low * (high / low) ** fraction)
