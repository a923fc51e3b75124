"""
YAML text to a tree of nodes that know their line and column.

Must not know what the nodes mean: no environment, no types, no keys.

The tree is built from libyaml's events, not by ``yaml.compose``, whose recursion in C has no limit: a file
of brackets would end the process. Aliases become a second reference to the same node; how often the
references may be followed is the limit of whoever walks the tree.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml
from yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    DocumentStartEvent,
    Event,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceStartEvent,
)

from pyproxy.config.mistakes import find_mistake, find_odd_indents, is_foreign
from pyproxy.errors import Problem

MAX_DEPTH = 32
FOREIGN = "this looks like a file of nginx or HAProxy: see docs/migration.md#the-words"

_NOT_YAML = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TOO_DEEP = "exceeded maximum nesting depth"  # libyaml's own limit, 1000, which looks ahead of ours
_HINT_REACH = 500  # characters to both sides of a problem
_HINTS = (
    (re.compile(r"\[[0-9A-Fa-f:.]*\]:[0-9]|[\[,] *::"), "quote an IPv6 address"),
    (re.compile(r"[{\[].*\$\{"), "quote ${...} inside { } and [ ]"),
)


class UnreadableError(Exception):
    """The text isn't one YAML document; nothing more can be said about it."""

    def __init__(self, line: int, column: int, text: str, *more: tuple[int, int, str]) -> None:
        """Keep the problem, line and column counted from 1, and further ones."""
        super().__init__(text)
        places = ((line, column, text), *more)
        self.problems = [Problem(at_line, at_column, "", said) for at_line, at_column, said in places]


@dataclass(slots=True, eq=False)
class Node:
    """A scalar with its text, a sequence with its items, or a mapping with key, value, key... in items."""

    kind: str
    line: int
    column: int
    tag: str | None = None
    text: str = ""
    is_plain: bool = False
    items: list["Node"] = field(default_factory=list)

    def pairs(self) -> Iterator[tuple["Node", "Node"]]:
        """Keys and values of a mapping."""
        return zip(self.items[::2], self.items[1::2], strict=True)


def parse_tree(text: str) -> Node | None:
    """
    Read the one document in the text; None if there is none.

    Raises ``UnreadableError`` at the first thing that isn't YAML, and for a second document, an unknown
    alias or nesting deeper than ``MAX_DEPTH``.
    """
    if bad := _NOT_YAML.search(text):
        before = text[: bad.start()]
        line, column = before.count("\n") + 1, bad.start() - before.rfind("\n")
        raise UnreadableError(line, column, f"character U+{ord(bad[0]):04X} is not allowed")
    if odd := find_odd_indents(text):
        first, *more = [(item.line + 1, item.column + 1, item.text) for item in odd]
        raise UnreadableError(*first, *more)
    builder = _Builder()
    try:
        for event in yaml.parse(text, yaml.CSafeLoader):
            builder.handle_event(event)
    except yaml.MarkedYAMLError as error:
        raise _unreadable(error, text) from None
    return builder.root


class _Builder:
    """The nodes whose end has not been seen yet, and the anchors so far."""

    def __init__(self) -> None:
        self.root: Node | None = None
        self.open: list[Node] = []
        self.anchors: dict[str, Node] = {}

    def handle_event(self, event: Event) -> None:
        if isinstance(event, CollectionEndEvent):
            self.open.pop()
        elif isinstance(event, DocumentStartEvent) and self.root is not None:
            raise _at(event, "only one document is allowed in the file")
        elif isinstance(event, AliasEvent):
            self._attach(self._anchored(event))
        elif isinstance(event, NodeEvent):
            self._begin(event)

    def _begin(self, event: NodeEvent) -> None:
        node = _node(event)
        self._attach(node)
        if event.anchor is not None:
            self.anchors[event.anchor] = node
        if node.kind != "scalar":
            if len(self.open) == MAX_DEPTH:
                raise _at(event, f"nested more than {MAX_DEPTH} levels deep")
            self.open.append(node)

    def _attach(self, node: Node) -> None:
        if self.open:
            self.open[-1].items.append(node)
        else:
            self.root = node

    def _anchored(self, event: AliasEvent) -> Node:
        node = self.anchors.get(event.anchor or "")
        if node is None:
            raise _at(event, f"unknown alias *{event.anchor}; quote the value if the * belongs to it")
        if node in self.open:
            raise _at(event, f"alias *{event.anchor} contains itself")
        return node


def _node(event: NodeEvent) -> Node:
    line, column = _place(event)
    if isinstance(event, ScalarEvent):
        is_plain = event.implicit[0] and event.tag is None
        return Node("scalar", line, column, event.tag, event.value, is_plain)
    if isinstance(event, SequenceStartEvent):
        return Node("sequence", line, column, event.tag)
    if isinstance(event, MappingStartEvent):
        return Node("mapping", line, column, event.tag)
    raise TypeError(f"no node begins with {event!r}")


def _at(event: Event, text: str) -> UnreadableError:
    return UnreadableError(*_place(event), text)


def _place(event: Event) -> tuple[int, int]:
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


def _unreadable(error: yaml.MarkedYAMLError, text: str) -> UnreadableError:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line, mark.column) if mark else (0, 0)
    problem = error.problem or error.context or "unknown error"
    if problem == _TOO_DEEP:
        return UnreadableError(line + 1, column + 1, f"nested more than {MAX_DEPTH} levels deep")
    lines = [*text.split("\n"), ""]  # what is missing at the end is missed behind it
    shown = lines[line] if line < len(lines) else ""
    context = (error.context_mark.line, error.context_mark.column) if error.context_mark else None
    found = find_mistake(lines, line, column, problem, context)
    # Near the problem only: on a line of a million brackets each of them would be a place to search from.
    near = shown[max(column - _HINT_REACH, 0) : column + _HINT_REACH]
    hints = [hint for pattern, hint in _HINTS if pattern.search(near)]
    if is_foreign(text):
        hints.append(FOREIGN)
    return UnreadableError(found.line + 1, found.column + 1, "; ".join([found.text, *hints]))
