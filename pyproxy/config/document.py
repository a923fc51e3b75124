"""
Write docs/configuration.md from the model: ``python -m pyproxy.config.document`` in the repository's root.

Must not know anything that isn't in the model, but for the preface on how the file is read.
"""

from collections.abc import Iterator, Sequence
from inspect import cleandoc
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Le
from pydantic.fields import FieldInfo

from pyproxy.config.model import Config
from pyproxy.config.schema import Key, iter_keys, section_step, shown_default
from pyproxy.config.section import Section
from pyproxy.config.unavailable import NOT_YET
from pyproxy.config.values import FalseIsNone, Scalar

TARGET = Path("docs/configuration.md")

_PREFACE = """\
# Configuration

<!-- Written by `python -m pyproxy.config.document` from pyproxy/config; change the descriptions there. -->

The smallest file that works, everything else has a default:

```yaml
listeners:
  - bind: 0.0.0.0:80
pools:
  web:
    backends:
      - address: 192.168.0.11:80
      - address: 192.168.0.12:80
```

`pyproxy -c lb.yml -t` checks a file and prints every problem with its line and column; `pyproxy --schema`
prints the JSON Schema, with which an editor completes and checks while you type. Ready examples are in
`config/`. Without `-c` the file is `$PYPROXY_CONFIG`, then `./lb.yml`, then `/etc/pyproxy/lb.yml`.

## How the file is read

- **YAML 1.2**: only `true` and `false` are booleans; `on`, `off`, `yes` and `no` are texts. Octal numbers are
  written `0o660`. Anchors and aliases work, merge keys (`<<`) and tags of one's own don't. One document in
  UTF-8, at most 8 MiB.
- **Problems** are told all at once. An unknown key, a duplicate key and a wrong type are problems, and so
  is a key marked *not available yet* below: it is refused, never ignored.
- **Environment**: `${NAME}` in a value takes the environment variable, `${NAME:-default}` has a default for
  one that is not set or empty. The value stays one value, whatever is in it. Without quotes it may be a
  number, `true`, `false` or `null`; within quotes it is a text. Inside `{ }` and `[ ]` it must be quoted.
- **Durations**: `250ms`, `2s`, `5m`, `1h`, or a number of seconds. **Sizes**: `512`, `32KiB`, `1MiB`, `1GiB`.
- **Addresses**: `host:port`, `[v6]:port` or `unix:/path`. YAML needs quotes around one that begins with `[`.
- **Names**: 1 to 64 of letters, digits and `. _ : [ ] -`.

In the headings `[]` stands for each item of a list and `NAME` for a name of your own.
"""


def render() -> str:
    """Give the whole page."""
    return "\n".join([_PREFACE, *_sections(Config, "")])


def _sections(section: type[Section], path: str) -> Iterator[str]:
    """Yield a section, then those inside it, each with all that it has inside."""
    keys = [key for key in iter_keys(section, path) if key.path.rpartition(".")[0] == path]
    yield _section(section, path, keys)
    for key in keys:
        if key.section is not None:
            yield from _sections(key.section, key.path + section_step(key.field))


def _section(section: type[Section], path: str, keys: list[Key]) -> str:
    title = f"`{path.replace('*', 'NAME')}`" if path else "The file"
    lines = [f"## {title}", "", cleandoc(section.__doc__ or "")]
    if _is_refused(path):
        lines += ["", f"**The whole section is {NOT_YET}.**"]
    lines += ["", "| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    lines += [_row(key) for key in keys]
    return "\n".join([*lines, ""])


def _is_refused(path: str) -> bool:
    """Whether the key that opens a section, or one above it, can't be used yet."""
    refused = {key.path for key in iter_keys() if NOT_YET in key.refusals}
    return any(path == item or path.startswith((f"{item}.", f"{item}[")) for item in refused)


def _row(key: Key) -> str:
    marks = [f"**{text[0].upper()}{text[1:]}.**" for text in key.refusals]
    meaning = " ".join([key.field.description or "", *marks])
    cells = (f"`{key.name}`", _type(key.field), _default(key), meaning)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _default(key: Key) -> str:
    if key.field.is_required():
        return "**required**"
    if key.field.default_factory is dict:
        return "`{}`"
    if key.field.default_factory is not None:
        return "as below" if key.section else ""
    return f"`{_yaml(shown_default(key.field))}`"


def _yaml(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_yaml, value))}]"
    return str(value)


def _type(field: FieldInfo) -> str:
    text = _type_of(field.annotation, field.metadata)
    if type(None) not in get_args(field.annotation):
        return text
    return f"{text} or {'false' if any(isinstance(item, FalseIsNone) for item in field.metadata) else 'null'}"


def _type_of(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    if own := getattr(annotation, "__metadata__", ()):
        return _type_of(annotation.__origin__, [*metadata, *own])
    scalar = next((item for item in metadata if isinstance(item, Scalar)), None)
    arguments = [item for item in get_args(annotation) if item is not type(None)]
    origin = get_origin(annotation)
    if scalar:
        return scalar.label
    if origin is Literal:
        return " | ".join(map(str, arguments))
    if origin is dict:
        return f"mapping of {_type_of(arguments[0])} to {_type_of(arguments[1])}"
    if origin is tuple:
        return f"list of {_type_of(arguments[0])}"
    if arguments:
        return _type_of(arguments[0], metadata)
    return _plain_type(annotation, metadata)


def _plain_type(annotation: type, metadata: Sequence[Any]) -> str:
    if annotation is bool:
        return "true | false"
    if annotation is not int:
        return "section"
    parts = [part for item in metadata for part in getattr(item, "metadata", [item])]
    least = next(part.ge for part in parts if isinstance(part, Ge))
    most = next(part.le for part in parts if isinstance(part, Le))
    return f"number, {least} to {most}"


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
