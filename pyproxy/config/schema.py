"""
Views of the model itself: which keys there are, which section a key opens, and the JSON Schema for editors.

Must not know any file.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from pydantic.fields import FieldInfo

from pyproxy.config.model import Config
from pyproxy.config.section import Section
from pyproxy.config.source import Path
from pyproxy.config.unavailable import UNAVAILABLE
from pyproxy.config.values import Scalar


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the file: its path with ``*`` and ``[]`` for any, the section that has it, and its field."""

    path: str
    owner: type[Section]
    name: str
    field: FieldInfo

    @property
    def section(self) -> type[Section] | None:
        """The section that the key opens, None for a value."""
        return find_section(self.field.annotation)

    @property
    def refusals(self) -> list[str]:
        """What can't be used yet of it."""
        return [entry.text for entry in UNAVAILABLE if entry.path == self.path]


def find_section(annotation: Any) -> type[Section] | None:
    """Give the section inside an annotation such as ``dict[str, Pool]``; a field has at most one."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    found = (find_section(arg) for arg in get_args(annotation))
    return next((section for section in found if section), None)


def find_scalar(field: FieldInfo) -> Scalar | None:
    """Give the scalar that a field holds; for lists and mappings the one of their items."""
    if field.annotation is None:
        return None
    found = [item for item in field.metadata if isinstance(item, Scalar)]
    return found[0] if found else _inner_scalar(field.annotation)


def _inner_scalar(annotation: Any) -> Scalar | None:
    for item in getattr(annotation, "__metadata__", ()):
        if isinstance(item, Scalar):
            return item
    found = (_inner_scalar(arg) for arg in reversed(get_args(annotation)))
    return next((scalar for scalar in found if scalar), None)


def iter_keys(section: type[Section] = Config, prefix: str = "") -> Iterator[Key]:
    """Yield every key below a section, each section's keys before those of its own sections."""
    keys = [
        Key(f"{prefix}.{name}" if prefix else name, section, name, field)
        for name, field in section.model_fields.items()
    ]
    yield from keys
    for key in keys:
        if key.section:
            yield from iter_keys(key.section, key.path + section_step(key.field))


def section_step(field: FieldInfo) -> str:
    """Give what stands in a pattern between a key and the section it opens: ``[]``, ``.*`` or nothing."""
    return _container(field.annotation)


def _container(annotation: Any) -> str:
    origin = get_origin(annotation)
    if origin in (dict, tuple):
        return ".*" if origin is dict else "[]"
    inner = [arg for arg in get_args(annotation) if find_section(arg)]
    return _container(inner[0]) if inner else ""


def section_at(path: Path) -> type[Section] | None:
    """Give the section at a path in a file, None if the model has none there."""
    section: type[Section] | None = Config
    is_container = False
    for part in path:
        if is_container:
            is_container = False
        elif section is None or part not in section.model_fields:
            return None
        else:
            annotation = section.model_fields[str(part)].annotation
            section, is_container = find_section(annotation), bool(_container(annotation))
    return None if is_container else section


def json_schema() -> dict[str, Any]:
    """Describe what a user may write as JSON Schema (2020-12), defaults as they would be written."""
    schema = Config.model_json_schema()
    definitions = schema["$defs"]
    for key in iter_keys():
        owner = schema if key.owner is Config else definitions[key.owner.__name__]
        described = owner["properties"][key.name]
        described.pop("title", None)
        if "default" in described:
            described["default"] = shown_default(key.field)
        if key.refusals:
            described["description"] += f" ({'; '.join(key.refusals)})"
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "pyproxy lb.yml"}


def shown_default(field: FieldInfo) -> Any:
    """Give a field's default as a user would write it."""
    default = field.default
    scalar = find_scalar(field)
    if _container(field.annotation) == "[]" and scalar not in field.metadata:
        return [scalar.show(item) if scalar else item for item in default]
    return scalar.show(default) if scalar and default is not None else default
