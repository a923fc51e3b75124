"""
How slow a backend has been of late: a moving average that believes bad news at once and good news slowly.

Must not know the clock: the time is an argument. After Finagle's peak EWMA: a sample above the average replaces it,
one below draws it down with the time constant ``TAU``. Without samples the value that counts falls as well, so
that a backend which was slow is tried again, and after ``FORGOTTEN`` nothing is known of it any more.
"""

from math import exp
from typing import Final

TAU: Final = 10.0
FORGOTTEN: Final = 6 * TAU
#: A refusal counts as an answer that took at least so long: else who fails quickly would look like the best.
FAILURE: Final = 1.0


class Latency:
    """
    The moving average of one backend, in seconds; ``average`` is what it was when something was recorded last.

    >>> latency = Latency()
    >>> latency.record(0.2, now=5.0)
    >>> latency.at(5.0), round(latency.at(15.0), 3), latency.at(65.0)
    (0.2, 0.074, 0.0)
    """

    __slots__ = ("_recorded", "average")

    def __init__(self) -> None:
        self.average = 0.0
        self._recorded = 0.0  # when

    def __repr__(self) -> str:
        return f"<Latency {self.average * 1000:.3f} ms>"

    def record(self, seconds: float, now: float) -> None:
        """Count an answer whose head took so long."""
        average = self.average
        if seconds < average:
            kept = exp(min(0.0, self._recorded - now) / TAU)
            seconds += (average - seconds) * kept
        self.average = seconds
        self._recorded = now

    def record_failure(self, seconds: float, now: float) -> None:
        """Count an attempt that ended after so long without an answer."""
        self.record(max(seconds, FAILURE), now)

    def at(self, now: float) -> float:
        """Give the value that counts now, 0 if nothing is known."""
        age = now - self._recorded
        if age >= FORGOTTEN:
            return 0.0
        return self.average * exp(-age / TAU) if age > 0.0 else self.average
