"""
How much of its share a backend has that came back a short while ago: pure arithmetic in steps of a twentieth.

Must not know why it was away. A share grows from a tenth, evenly, so that a cold cache is filled by a few requests and
not by all of them. It is counted in whole twentieths: weights are multiplied by them and stay integers.
"""

from math import ceil
from typing import Final

STEPS: Final = 20
FIRST: Final = 2  # a tenth


def step_at(rising: float, seconds: float, now: float) -> int:
    """
    Give the twentieths that a backend has, whose rise of so many seconds began then; ``rising`` 0 is never.

    >>> [step_at(100.0, 18.0, now) for now in (100.0, 101.0, 117.9, 118.0, 500.0)], step_at(0.0, 18.0, 5.0)
    ([2, 3, 19, 20, 20], 20)
    """
    if not rising or not seconds:
        return STEPS
    gone = int((STEPS - FIRST) * max(now - rising, 0.0) / seconds)
    return min(FIRST + gone, STEPS)


def limit_at(max_conns: int, step: int) -> int:
    """
    Give the limit that goes with a step, 1 at least; 0 stays no limit.

    >>> limit_at(100, FIRST), limit_at(3, FIRST), limit_at(3, STEPS), limit_at(0, FIRST)
    (10, 1, 3, 0)
    """
    return ceil(max_conns * step / STEPS)
