"""
The keys of lb.yml whose feature this version doesn't have yet: refused by name, never ignored.

Must not know how such a feature will work. Who builds one deletes its line here.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pyproxy.config.source import Path, Source

_YET = "available yet in this version"
NOT_YET = f"not {_YET}"


@dataclass(frozen=True, slots=True)
class Unavailable:
    """
    A key, or some values of it, that can't be used yet.

    ``path`` has ``*`` for any key of a mapping and ``[]`` for any item of a list; ``is_used`` is asked about
    the value as it was written.
    """

    path: str
    is_used: Callable[[Any], bool] = lambda value: value is not None
    text: str = NOT_YET


UNAVAILABLE = (
    Unavailable("listeners[].tls"),
    Unavailable("pools.*.tls"),
)


def check_available(source: Source) -> None:
    """Report every key in the file whose feature isn't there yet."""
    for entry in UNAVAILABLE:
        for path, value in _find(source.data, split_pattern(entry.path), ()):
            if not source.is_broken(path) and entry.is_used(value):
                source.report(path, entry.text)


def split_pattern(pattern: str) -> list[str]:
    """
    Split a pattern into its steps.

    >>> split_pattern("pools.*.backends[].address")
    ['pools', '*', 'backends', '[]', 'address']
    """
    return pattern.replace("[]", ".[]").split(".")


def _find(value: Any, steps: list[str], path: Path) -> Iterator[tuple[Path, Any]]:
    """Yield path and value of everything in the file that the pattern fits."""
    if not steps:
        yield path, value
    elif steps[0] == "[]" and isinstance(value, list):
        for index, item in enumerate(value):
            yield from _find(item, steps[1:], (*path, index))
    elif steps[0] == "*" and isinstance(value, dict):
        for key, item in value.items():
            yield from _find(item, steps[1:], (*path, key))
    elif isinstance(value, dict) and steps[0] in value:
        yield from _find(value[steps[0]], steps[1:], (*path, steps[0]))
