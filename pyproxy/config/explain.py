"""
What pydantic found wrong, in the words of lb.yml.

Must not know the rules themselves: texts and places only. A value is never repeated, it may be a secret.
"""

import re
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from pyproxy.config.foreign import MIGRATION, foreign_hint
from pyproxy.config.schema import section_at
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
        return "unknown key" + (_suggestion(path, _SLIP) or foreign_hint(path[-1]) or _suggestion(path))
    if kind == "value_error":
        return str(context["error"]) + _habit(found["input"])
    if kind == "literal_error":
        return choice(found["input"], str(context["expected"])) + _habit(found["input"])
    if kind == "model_type" and not path and isinstance(found["input"], str):
        return "must be a mapping; there are neither blocks with { } nor lines with ; as in nginx: see " + FOREIGN_FILE
    text = TEXTS[kind].format(**context) if kind in TEXTS else f"is not valid: {found['msg']}"
    if kind == "model_type" and found["input"] is True:
        return f"{text}; {{}} is one with all defaults"
    if kind == "bool_type" and found["input"] in ("on", "off", "yes", "no"):
        return f"{text}; {found['input']} is a text in YAML 1.2"
    return text + _habit(found["input"])


def _habit(value: Any) -> str:
    """Name what is usual in nginx and not in YAML."""
    return "; no ; ends a value in YAML" if isinstance(value, str) and value.rstrip().endswith(";") else ""


def _suggestion(path: Path, cutoff: float = 0.6) -> str:
    section = section_at(path[:-1])
    return did_you_mean(path[-1], section.model_fields, cutoff) if section else ""


def choice(value: Any, expected: str) -> str:
    """Name the words that a value may be."""
    words = [word for word in _LITERAL.findall(expected) if word != "or"]
    return f"must be one of {', '.join(words)}" + did_you_mean(value, words)
