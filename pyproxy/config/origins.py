"""
Where in the file each value stands, and which of them the environment had a part in.

Must not know the model: what isn't in the file is a default, and not listed.
"""

from pathlib import PurePath
from typing import Any

from pyproxy.config.source import Path, Source


def find_origins(source: Source, file: str) -> dict[Path, str]:
    """Give the place of each value that has none inside, such as ``lb.yml:14`` or ``lb.yml:14, environment HOST``."""
    name = PurePath(file).name
    origins: dict[Path, str] = {}
    waiting: list[tuple[Path, Any]] = [((), source.data)]
    while waiting:
        path, value = waiting.pop()
        inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        if inside and value:
            waiting.extend([((*path, key), item) for key, item in inside])
        else:
            line, _ = source.values[path]
            variables = "".join(f", environment {variable}" for variable in source.variables.get(path, ()))
            origins[path] = f"{name}:{line}{variables}"
    return origins
