"""
What survives a speaker that dies: one small file that says whether it was master, read by the one that follows.

Must not know the machine. The file is in a directory that only we may write, on a file system that a restart of the
machine empties; times are of CLOCK_BOOTTIME, so that neither a restart nor a set clock makes an old file look fresh.
"""

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

NAME = "state"


@dataclass(frozen=True, slots=True)
class Saved:
    """The state at a moment: ``at`` is when it was written, ``since`` when it began, both by CLOCK_BOOTTIME."""

    state: str
    since: float
    at: float
    pid: int
    digest: str  # of the settings


def write(directory: Path, saved: Saved) -> None:
    """Write the file; whoever reads it sees the old one or the new one, whole."""
    temporary = directory / f"{NAME}.{saved.pid}"
    temporary.write_text(json.dumps(asdict(saved)))
    temporary.replace(directory / NAME)


def read(directory: Path) -> Saved | None:
    """Read the file; None if there is none that can be read."""
    try:
        data = json.loads((directory / NAME).read_text())
        saved = Saved(
            state=str(data["state"]),
            since=float(data["since"]),
            at=float(data["at"]),
            pid=int(data["pid"]),
            digest=str(data["digest"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return saved


def remove(directory: Path) -> None:
    """Remove the file: there is nothing to adopt."""
    with contextlib.suppress(OSError):
        (directory / NAME).unlink()


def refusal(saved: Saved | None, digest: str, now: float, freshness: float) -> str:
    """
    Say why the state of the one before can't be adopted, "" if it can.

    >>> refusal(Saved("master", 1.0, 9.0, 7, "abc"), "abc", 10.0, 3.6)
    ''
    """
    if saved is None:
        return "there is no saved state"
    if saved.state != "master":
        return f"it was {saved.state}"
    if saved.digest != digest:
        return "its settings were other ones"
    age = now - saved.at
    if not 0 <= age <= freshness:
        return f"its state is {age:.3g} s old, at most {freshness:.3g} s would do"
    return ""
