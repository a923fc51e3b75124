"""
What pydantic found wrong, in the words of lb.yml.

Must not know the rules themselves: texts and places only. A value is never repeated, it may be a secret.
"""

import re
from functools import cache
from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from pyproxy.config.foreign import MIGRATION, foreign_hint
from pyproxy.config.schema import iter_keys, section_at
from pyproxy.config.source import Path, Source
from pyproxy.config.values import did_you_mean

#: By pydantic's name for the problem.
TEXTS = {
    "missing": "is missing",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "bool_type": "must be true or false",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "tuple_type": "must be a list",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "too_long": "must have at most {max_length} entries",
    "too_short": "must not be empty",
}
FOREIGN_FILE = f"{MIGRATION}#the-words"
#: So near to a key of its section a word is that key mistyped, whatever it means to nginx: ``backend`` in a pool.
_SLIP = 0.85
_MOST_PLACES = 3  # of a key that stands in the wrong one: more are no help
_LITERAL = re.compile(r"[^', ]+")


def explain(error: ValidationError, source: Source) -> None:
    """Report each of pydantic's findings, but none about a value that couldn't be read in the first place."""
    for found in error.errors(include_url=False, include_input=True):
        if is_consequence(found):
            continue
        path = _path(found["loc"], source)
        if not source.is_broken(path):
            source.report(path, _text(found, path), at_key=_is_about_key(found))


def is_consequence(found: ErrorDetails) -> bool:
    """Whether it only follows from another problem: a name's default, or a list whose items are all wrong."""
    return found["type"] == "default_factory_not_called" or (found["type"] == "too_short" and bool(found["input"]))


def _is_about_key(found: ErrorDetails) -> bool:
    return found["type"] == "extra_forbidden" or found["loc"][-1:] == ("[key]",)


def _path(loc: tuple[str | int, ...], source: Source) -> Path:
    """Cut off what pydantic adds to a place beyond what is in the file; a missing key is kept."""
    end = len(loc)
    while end and loc[:end] not in source.values and loc[: end - 1] not in source.values:
        end -= 1
    if loc[-1:] == ("[key]",):
        end = len(loc) - 1
    return loc[:end]


def _text(found: ErrorDetails, path: Path) -> str:
    kind, context = found["type"], found.get("ctx", {})
    if kind == "extra_forbidden":
        return "unknown key" + _instead_of(path)
    if kind == "value_error":
        return str(context["error"]) + _habit(found["input"])
    if kind == "literal_error":
        return choice(found["input"], str(context["expected"])) + _habit(found["input"])
    text = TEXTS[kind].format(**context) if kind in TEXTS else f"is not valid: {found['msg']}"
    return text + (_hint(kind, found["input"], path) or _habit(found["input"]))


def _hint(kind: str, value: Any, path: Path) -> str:
    """Say what was most likely meant, as the end of a sentence; empty if nobody knows."""
    if kind == "model_type":
        return _hint_at_section(value, path)
    if kind == "tuple_type" and value is not None:
        return "; each entry begins with -" if isinstance(value, dict) else "; write it in [ ]"
    if kind == "bool_type" and value in ("on", "off", "yes", "no"):
        return f"; {value} is a text in YAML 1.2"
    return "; what stands in quotes is a text" if kind == "int_type" and _is_digits(value) else ""


def _is_digits(value: Any) -> bool:
    return isinstance(value, str) and value.isascii() and value.isdigit()


def _hint_at_section(value: Any, path: Path) -> str:
    """Say what to write where a section is wanted and something else stands."""
    if not path:
        is_text = isinstance(value, str)
        return f"; what a file of nginx or HAProxy becomes: see {FOREIGN_FILE}" if is_text else ""
    section, owner = section_at(path), section_at(path[:-1])
    if value is True:
        return "; {} is one with all defaults"
    if value is False or value in ("off", "no", "none"):
        field = owner.model_fields.get(str(path[-1])) if owner else None
        return "; null turns it off" if field and type(None) in get_args(field.annotation) else ""
    if section is None or not isinstance(value, str):
        return ""
    if value.partition(":")[0] in section.model_fields:
        return "; there must be a space behind the colon of a key"
    required = [name for name, field in section.model_fields.items() if field.is_required()]
    return f"; write {{{required[0]}: ...}}" if len(required) == 1 else ""


def _habit(value: Any) -> str:
    """Name what is usual in nginx and not in YAML."""
    return "; no ; ends a value in YAML" if isinstance(value, str) and value.rstrip().endswith(";") else ""


def _instead_of(path: Path) -> str:
    """Say what an unknown key could be: one that is mistyped, theirs, ours elsewhere, one that is like it."""
    section, key = section_at(path[:-1]), str(path[-1])
    known = section.model_fields if section else {}
    slip = did_you_mean(key, known, _SLIP)
    return slip or foreign_hint(key) or _elsewhere(key) or did_you_mean(key, known)


def _elsewhere(key: str) -> str:
    """Name the sections that have such a key: a wrong indent puts it into another one."""
    places = _places().get(key, ())
    return f"; it is a key of {' and '.join(places)}" if 0 < len(places) <= _MOST_PLACES else ""


@cache
def _places() -> dict[str, list[str]]:
    """Give the sections that have a key, by its name."""
    places: dict[str, list[str]] = {}
    for item in iter_keys():
        section = item.path.rpartition(".")[0].replace("*", "NAME")
        places.setdefault(item.name, []).append(section or "the whole file")
    return places


def choice(value: Any, expected: str) -> str:
    """Name the words that a value may be."""
    words = [word for word in _LITERAL.findall(expected) if word != "or"]
    return f"must be one of {', '.join(words)}" + did_you_mean(value, words)
