"""What the gap client saw. Knows nothing of machines and faults; all times are monotonic seconds."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Request:
    """One request: when it was sent and when it ended, how, and who answered."""

    sent: float
    ended: float
    result: str
    machine: str
    node: str

    @classmethod
    def from_line(cls, line: str) -> Self:
        """Read a line that the client wrote."""
        sent, ended, result, machine, node = line.split()
        return cls(float(sent), float(ended), result, machine, node)

    @property
    def ok(self) -> bool:
        """Whether it got a whole answer."""
        return self.result == "ok"


class Record:
    """All requests that have ended, by the time at which they ended: earlier ones, and those of new lines."""

    def __init__(self, lines: Iterable[str], earlier: Iterable[Request] = ()) -> None:
        # The last line may be half written.
        self.requests = [*earlier, *(Request.from_line(line) for line in lines if line.endswith("\n"))]

    def __repr__(self) -> str:
        failed = sum(not request.ok for request in self.requests)
        return f"<Record {len(self.requests)} requests {failed} failed>"

    def answers(self, machine: str | None = None, after: float = 0.0) -> list[Request]:
        """Return the answers after an instant, of one machine or of all."""
        return [
            request
            for request in self.requests
            if request.ok and request.ended > after and machine in (None, request.machine)
        ]

    def failed(self, after: float = 0.0) -> list[Request]:
        """Return the requests that were sent after an instant and got no whole answer."""
        return [request for request in self.requests if not request.ok and request.sent >= after]

    def first_answer(self, machine: str, after: float) -> float | None:
        """Return when a machine answered first after an instant, None if it has not."""
        answers = self.answers(machine, after)
        return answers[0].ended if answers else None

    def largest_gap(self, start: float, end: float) -> float:
        """
        Return the longest time without an answer within a span; no answer at all is the whole span.

            >>> lines = (f"{at} {at} ok a a{chr(10)}" for at in (1.0, 1.25, 3.0))
            >>> Record(lines).largest_gap(0.5, 3.5)
            1.75
        """
        times = [request.ended for request in self.requests if request.ok and start < request.ended < end]
        return max(later - earlier for earlier, later in zip([start, *times], [*times, end], strict=True))

    def machines(self, after: float = 0.0) -> set[str]:
        """Name the machines that answered requests which were sent after an instant."""
        return {request.machine for request in self.answers() if request.sent >= after}
