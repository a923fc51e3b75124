"""
The tree of a file to plain values, with the place of each: YAML 1.2 core scalars and the environment.

Must not know which keys exist. Every problem found on the way is kept, none ends the walk but the limits.

The environment is put into a scalar after the text was parsed, so a value from there can't bring structure
with it; a plain scalar gets its type after that. An empty text from the environment stays a text, so that
an empty ``${TOKEN}`` is refused and not taken for null.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pyproxy.config.mistakes import ODD_DASH, ODD_QUOTE, ODD_SPACE, odd_dash, odd_quote, odd_space
from pyproxy.config.runtime import VARIABLES
from pyproxy.config.tree import MAX_DEPTH, Node, UnreadableError
from pyproxy.errors import Problem

MAX_NODES = 500_000  # aliases counted as often as they are used
MAX_ENVIRONMENT_CHARACTERS = 4 * 1024 * 1024

Path = tuple[str | int, ...]

_TAG = "tag:yaml.org,2002:"
_NULL = re.compile(r"|~|null|Null|NULL")
_BOOL = re.compile(r"(true|True|TRUE)|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_MAX_NUMBER_CHARACTERS = 18
_VARIABLE = re.compile(r"\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\})?")
_ODD_ENDS = re.compile(f"^(?:{ODD_SPACE.pattern}|{ODD_QUOTE.pattern})+|(?:{ODD_SPACE.pattern}|{ODD_QUOTE.pattern})+$")
_SHOWN_KEY = re.compile(r"[A-Za-z0-9_.:\[\]-]{1,64}")


class Broken:
    """Stands for a value that couldn't be read; the problem is already told."""

    def __repr__(self) -> str:
        return "<Broken>"


BROKEN = Broken()


@dataclass(slots=True)
class Source:
    """The values of a file, where each of them and its key stand, what it took, and what was wrong so far."""

    data: Any = None
    values: dict[Path, tuple[int, int]] = field(default_factory=dict)
    keys: dict[Path, tuple[int, int]] = field(default_factory=dict)
    broken: set[Path] = field(default_factory=set)
    variables: dict[Path, tuple[str, ...]] = field(default_factory=dict)  # of the environment, in values only
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    _told: set[tuple[Any, ...]] = field(default_factory=set)

    def report(self, path: Path, text: str, *, at_key: bool = False) -> None:
        """Add a problem."""
        self.add(self.problem(path, text, at_key=at_key), path)

    def warn(self, path: Path, text: str, *, at_key: bool = False) -> None:
        """Add what isn't wrong but can hardly be meant."""
        self._tell(self.warnings, self.problem(path, text, at_key=at_key), path)

    def add(self, problem: Problem, path: Path) -> None:
        """Add a problem with a place of its own."""
        self._tell(self.problems, problem, path)

    def _tell(self, to: list[Problem], problem: Problem, path: Path) -> None:
        """Tell once what an alias brings to a second path."""
        missing = None if path in self.values else path[-1:]  # of two keys that aren't there each is told
        told = (problem.line, problem.column, problem.text, missing)
        if told not in self._told:
            self._told.add(told)
            to.append(problem)

    def problem(self, path: Path, text: str, *, at_key: bool = False) -> Problem:
        """Make a problem; a path that isn't in the file stands where the mapping is that lacks it."""
        places = self.keys if at_key else self.values
        place = places.get(path)
        for end in range(len(path), -1, -1):
            place = place or self.values.get(path[:end])
        line, column = place or (1, 1)
        return Problem(line, column, show_path(path), text)

    def is_broken(self, path: Path) -> bool:
        """Whether a value at or above the path couldn't be read."""
        return any(path[:end] in self.broken for end in range(len(path) + 1))


def show_path(path: Path) -> str:
    """
    Write a path as a user reads it; a key with unusual characters is quoted.

    >>> show_path(("pools", "web", "backends", 1, "weight"))
    'pools.web.backends[1].weight'
    """
    parts = []
    for part in path:
        if isinstance(part, int):
            parts.append(f"[{part}]")
            continue
        shown = part if _SHOWN_KEY.fullmatch(part) else ascii(part[:64])
        parts.append(f".{shown}" if parts else shown)
    return "".join(parts)


def read_source(root: Node, environ: Mapping[str, str]) -> Source:
    """
    Turn the tree into values.

    Raises ``UnreadableError`` if the aliases make it too large or too deep.
    """
    source = Source()
    source.data = _Walk(source, environ).value(root, ())
    return source


class _Walk:
    def __init__(self, source: Source, environ: Mapping[str, str]) -> None:
        self.source = source
        self.environ = environ
        self.nodes = 0
        self.environment_characters = 0

    def value(self, node: Node, path: Path) -> Any:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise UnreadableError(node.line, node.column, f"more than {MAX_NODES} values in the file")
        if len(path) > MAX_DEPTH:
            raise UnreadableError(node.line, node.column, f"nested more than {MAX_DEPTH} levels deep")
        self.source.values[path] = (node.line, node.column)
        if node.kind == "scalar":
            return self.scalar(node, path)
        if node.tag not in (None, "!", f"{_TAG}{'map' if node.kind == 'mapping' else 'seq'}"):
            return self.broken(path, f"tag {_show_tag(node.tag)} is not allowed here")
        if node.kind == "sequence":
            return [self.value(item, (*path, index)) for index, item in enumerate(node.items)]
        return self.mapping(node, path)

    def mapping(self, node: Node, path: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.pairs():
            key = self.key(key_node, path)
            if key is None:
                continue
            place = (*path, key)
            if key in result:
                first = self.source.keys[place][0]
                text = f"duplicate key; the first is on line {first}"
                self.source.add(Problem(key_node.line, key_node.column, show_path(place), text), place)
                continue
            self.source.keys[place] = (key_node.line, key_node.column)
            result[key] = self.value(value_node, place)
        return result

    def key(self, node: Node, path: Path) -> str | None:
        """Give the text of a key, whatever type it looks like; None if it can't be used."""
        text: str | None = None
        if node.kind != "scalar":
            problem = "a key must be a text"
        elif node.tag not in (None, "!", f"{_TAG}str"):
            problem = f"tag {_show_tag(node.tag)} is not allowed here"
        elif node.is_plain and node.text == "<<":
            problem = "unknown key <<; merge keys are not supported, write the keys out"
        else:
            text, problem = self.substituted(node.text)
            if not problem and node.is_plain and (odd := _odd_character(node.text)):
                # What is meant is clear, so what it holds is looked at as well.
                self.source.add(Problem(node.line, node.column, show_path(path), odd), path)
                text = _ODD_ENDS.sub("", text)
                return None if _odd_character(text) else text
        if problem:
            self.source.add(Problem(node.line, node.column, show_path(path), problem), path)
            return None
        return text

    def scalar(self, node: Node, path: Path) -> Any:
        text, problem = self.substituted(node.text)
        if node.is_plain and not problem:
            problem = _odd_character(node.text)
        if "\0" in text:  # no name of a file, a user or a host holds one, and the system doesn't take it
            problem = "character U+0000 is not allowed"
        if problem:
            return self.broken(path, problem)
        if names := [match[1] for match in _VARIABLE.finditer(node.text)]:
            self.source.variables[path] = tuple(dict.fromkeys(names))
        is_empty_from_environment = not text and bool(node.text)
        if (node.is_plain and not is_empty_from_environment) or node.tag is not None:
            return self.typed(text, node.tag, path)
        return text

    def typed(self, text: str, tag: str | None, path: Path) -> Any:
        if tag in ("!", f"{_TAG}str"):
            return text
        kind, value = _core_value(text)
        wanted = (tag or "").removeprefix(_TAG)
        if tag is not None and (not tag.startswith(_TAG) or wanted not in ("null", "bool", "int", "float")):
            return self.broken(path, f"tag {_show_tag(tag)} is not allowed here")
        if tag is not None and kind != wanted and (kind, wanted) != ("int", "float"):
            return self.broken(path, f"is not of type {wanted}, as its tag says")
        if kind == "long":
            return self.broken(path, "is too long for a number; quote it if it is a text")
        return value

    def substituted(self, text: str) -> tuple[str, str]:
        """Put the environment in; gives the text and what is wrong, which is empty if nothing is."""
        if "${" not in text:
            return text, ""
        problems: list[str] = []

        def replace(match: re.Match[str]) -> str:
            name, default = match.group(1, 2)
            if name is None:
                problems.append("after ${ there must be NAME} or NAME:-default}")
                return ""
            value = self.environ.get(name)
            if default is not None and not value:
                value = default
            if value is None:
                hint = f"; the variable of a request is ${name}" if name in VARIABLES else ""
                problems.append(f"environment variable {name} is not set{hint}")
            elif not _is_text(value):
                problems.append(f"environment variable {name} is not valid UTF-8")
            return value or ""

        result = _VARIABLE.sub(replace, text)
        self.environment_characters += len(result)
        if self.environment_characters > MAX_ENVIRONMENT_CHARACTERS:
            problems.append("too much text comes from the environment")
        return result, problems[0] if problems else ""

    def broken(self, path: Path, text: str) -> Broken:
        self.source.broken.add(path)
        self.source.report(path, text)
        return BROKEN


def _odd_character(text: str) -> str:
    """Say what is wrong with a plain scalar with a blank that is none, or with such a dash or quote at its ends."""
    if text.isascii():
        return ""
    if dash := ODD_DASH.match(text):
        return odd_dash(dash[0])
    if blank := ODD_SPACE.search(text):
        return f"{odd_space(blank[0])}, or quote the value if it belongs to it"
    quote = ODD_QUOTE.match(text) or ODD_QUOTE.match(text[-1:])
    return f"{odd_quote(quote[0])}, or put the whole value into such quotes" if quote else ""


def _core_value(text: str) -> tuple[str, Any]:
    """Resolve a plain scalar by YAML 1.2's core schema (section 10.3.2); ``long`` is a number too long."""
    if _NULL.fullmatch(text):
        return "null", None
    if match := _BOOL.fullmatch(text):
        return "bool", match[1] is not None
    is_int = _INT.fullmatch(text) is not None
    if not is_int and not _FLOAT.fullmatch(text):
        return "str", text
    if len(text) > _MAX_NUMBER_CHARACTERS:
        return "long", None
    if is_int:
        return "int", int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    return "float", float(re.sub(r"\.(?=[iInN])", "", text))


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _show_tag(tag: str | None) -> str:
    return ascii((tag or "").replace(_TAG, "!!")[:64]).strip("'")
