"""What a verb has to say. Must not know any verb."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Result:
    """What to print; with a ``problem`` the verb has failed. A ``code`` is the exit code, whatever is printed."""

    text: str
    problem: str = ""
    code: int | None = None
