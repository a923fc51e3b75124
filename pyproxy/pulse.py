"""
Signs of life of another process: how long it owes one, and whether that is its own fault.

Must not know who asks, or what follows.

A process that is alive may still do nothing: stopped, caught in a loop, waiting for ever for a lock or a disk. One that
merely gets no processor looks the same to whoever waits for its answer, but must not be killed for it: what takes its
place would get none either. So not every second counts::

    no thread of it wants a processor   it sleeps or is stopped, though a question waits: the whole time counts
    one is runnable, or runs            what it used of the processors counts, the time it waited for one doesn't

and of a pause of the one who asks at most ``MAX_STEP`` counts: the answer may lie there, unread.
"""

from dataclasses import dataclass
from os import sysconf
from pathlib import Path

EVERY = 0.25  # seconds between two questions, or two looks at one who owes an answer
MAX_STEP = 2 * EVERY
SILENT = 1.0  # seconds after which it doesn't count as ready
HUNG = 2.0  # seconds after which it is replaced

_RUNNABLE = "R"
_STATE, _USER_TIME, _SYSTEM_TIME = 0, 11, 12  # fields of /proc/PID/stat behind the name, see proc(5)


@dataclass(frozen=True, slots=True)
class Sight:
    """A process at a moment; ``cpu`` is the seconds of processor time that all its threads have used."""

    is_runnable: bool
    cpu: float


def look(pid: int) -> Sight | None:
    """Look at a process; None if it is gone, or can't be looked at."""
    process = Path("/proc") / str(pid)
    try:
        fields = _fields(process)
        states = [_fields(thread)[_STATE] for thread in (process / "task").iterdir()]
    except (OSError, IndexError):
        return None
    ticks = int(fields[_USER_TIME]) + int(fields[_SYSTEM_TIME])
    return Sight(_RUNNABLE in states, ticks / sysconf("SC_CLK_TCK"))


def _fields(directory: Path) -> list[str]:
    """Read what comes behind the name, which may hold spaces and parentheses."""
    return (directory / "stat").read_text(errors="replace").rpartition(")")[2].split()


class Silence:
    """
    The seconds that count of the time since a process was heard.

        >>> silence = Silence(0.0)
        >>> silence.watch(0.4, Sight(is_runnable=False, cpu=1.0)), silence.watch(0.8, Sight(is_runnable=True, cpu=1.0))
        (0.4, 0.4)
    """

    __slots__ = ("_at", "_cpu", "seconds")

    def __init__(self, now: float) -> None:
        self.seconds = 0.0
        self._at = now
        self._cpu: float | None = None

    def __repr__(self) -> str:
        return f"<Silence {self.seconds:.3g} s>"

    def end(self, now: float) -> None:
        """Begin anew: it was heard."""
        self.seconds, self._at, self._cpu = 0.0, now, None

    def watch(self, now: float, sight: Sight | None) -> float:
        """Add what counts of the time since the last look, and give the sum; of a process out of sight none does."""
        step, self._at = min(now - self._at, MAX_STEP), now
        if sight is None:
            return self.seconds
        before, self._cpu = self._cpu, sight.cpu
        if sight.is_runnable:
            step = min(step, sight.cpu - before) if before is not None else 0.0
        self.seconds += step
        return self.seconds
