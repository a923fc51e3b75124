"""
What the admin API asks of the program to change it, and the shapes of what it says about changes.

Must not know how a change is kept or how workers hear of it: it is handed something that satisfies ``Changes``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypedDict

from pyproxy.config.model_pool import Backend
from pyproxy.errors import PyproxyError

#: Called when nobody else can change anything any more: raises if the change must not be made after all.
Guard = Callable[[], None]


class NotThere(PyproxyError):
    """The pool or the backend that is to be changed; the text names it."""


class Conflict(PyproxyError):
    """The change doesn't go together with what there is; the text says why."""


class Impossible(PyproxyError):
    """The change can't be made here; the text says why, and what can be done instead."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Who changes something, why, and for how many seconds."""

    by: str
    reason: str | None = None
    seconds: float | None = None
    pinned: bool = False


class OverrideView(TypedDict):
    """A value that is in force instead of the configured one; times in RFC 3339."""

    target: str
    value: Any
    replaced: Any
    by: str
    reason: str | None
    at: str
    expires: str | None
    pinned: bool


class InForce(TypedDict):
    """
    The configuration as it is in force; ``sources`` says of each value in it where it comes from.

    Its keys are paths such as ``pools.web.backends[0].weight``; what isn't among them is a default. One of a whole
    backend stands for all of its values that have none of their own.
    """

    config: dict[str, Any]
    sources: dict[str, str]


class Changes(Protocol):
    """
    The program as the admin API changes it.

    Each change is kept and in force in every worker when the call returns. Else it raises: ``NotThere``,
    ``Conflict``, ``Impossible``, or ``Unavailable`` if it can't be kept or a worker doesn't take it.
    """

    async def patch(self, pool: str, backend: str, values: Mapping[str, Any], origin: Origin, guard: Guard) -> None:
        """Change ``state``, ``weight``, ``max_conns`` of a backend; None is the configured value again."""
        ...

    async def add(self, pool: str, backend: Backend, origin: Origin, guard: Guard) -> None:
        """Add a backend."""
        ...

    async def remove(self, pool: str, backend: str, origin: Origin, guard: Guard, *, force: bool) -> None:
        """Remove a backend; without ``force`` only if nothing is in flight on it."""
        ...

    def overrides(self) -> list[OverrideView]:
        """Give all that was changed and isn't as configured, the oldest first."""
        ...

    def config(self) -> InForce:
        """Give the configuration in force, secrets masked."""
        ...
