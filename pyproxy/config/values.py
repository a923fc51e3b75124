"""
The scalars of lb.yml other than addresses: durations, sizes, percentages, names, texts and secrets.

Must not know which key uses them, nor where in a file they stand.

A parser takes whatever YAML made of the scalar and returns the value or raises ``ValueError`` with a
short text for the user. ``Scalar`` ties a parser to a pydantic field and says in the JSON Schema what a
user writes.
"""

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Annotated, Any, TypeVar

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, SecretStr, Strict
from pydantic_core import CoreSchema, core_schema

_Number = TypeVar("_Number", int, float)

_NAME = r"[A-Za-z0-9._:\[\]-]{1,64}"
_FIELD_NAME = r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}"  # RFC 9110 5.6.2
_NUMBER = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)(ms|s|m|h)?")
_SIZE = re.compile(r"([0-9]{1,15})(KiB|MiB|GiB)?")
_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)%")
_VISIBLE = re.compile(r"[!-~]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}
_BYTES = {"KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, None: 1}
_MAX_SUGGESTED = 64  # characters and words: the search costs their product

Check = Callable[[str], str]

DAY = 86400.0
YEAR = 365 * DAY


@dataclass(frozen=True, slots=True, eq=False)
class Scalar:
    """How one kind of scalar is read, shown again, described in the JSON Schema and called in the docs."""

    label: str
    parse: Callable[[Any], Any]
    show: Callable[[Any], Any] = str
    schema: dict[str, Any] = field(default_factory=lambda: {"type": "string"})

    def __get_pydantic_core_schema__(self, _source: Any, _handler: Any) -> CoreSchema:
        """Make ``parse`` the whole validation of the field."""
        shown = core_schema.plain_serializer_function_ser_schema(self.show)
        return core_schema.no_info_plain_validator_function(self.parse, serialization=shown)

    def __get_pydantic_json_schema__(self, _schema: Any, _handler: Any) -> dict[str, Any]:
        """Describe what a user writes, not what it becomes."""
        return dict(self.schema)


@dataclass(frozen=True, slots=True)
class FalseIsNone:
    """A section that is turned off by ``false``; the model holds None then."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Exchange False for None on the way in and back on the way out."""
        shown = core_schema.wrap_serializer_function_ser_schema(_show_none_as_false)
        return core_schema.no_info_before_validator_function(_false_to_none, handler(source), serialization=shown)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Describe what a user writes: the section or false."""
        described = handler(schema)
        described["anyOf"] = [
            {"const": False} if option == {"type": "null"} else option for option in described["anyOf"]
        ]
        return described


def _false_to_none(value: Any) -> Any:
    if isinstance(value, dict):
        return value
    if value is False:
        return None
    raise ValueError("must be false or a mapping")


def _show_none_as_false(value: Any, show: Callable[[Any], Any]) -> Any:
    return False if value is None else show(value)


def parse_duration(value: Any) -> float:
    """
    Read a duration as seconds.

    >>> parse_duration("250ms"), parse_duration("1h"), parse_duration(3)
    (0.25, 3600.0, 3.0)
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf:
        return float(value)
    if isinstance(value, str) and (match := _NUMBER.fullmatch(value)):
        return round(float(match[1]) * _SECONDS[match[2]], 9)
    raise ValueError("must be a duration such as 250ms, 2s, 5m or 1h, or a number of seconds")


def show_duration(seconds: float) -> str:
    """
    Write seconds with the largest unit that gives a whole number; minutes from 5m on.

    >>> show_duration(0.25), show_duration(90.0), show_duration(3600.0), show_duration(0.0)
    ('250ms', '90s', '1h', '0s')
    """
    for unit, from_count in (("h", 1), ("m", 5), ("s", 1), ("ms", 1)):
        count = round(seconds / _SECONDS[unit], 6)
        if count >= from_count and count == int(count):
            return f"{int(count)}{unit}"
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"


def parse_size(value: Any) -> int:
    """
    Read a size as bytes.

    >>> parse_size(512), parse_size("32KiB"), parse_size("1MiB")
    (512, 32768, 1048576)
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        return int(match[1]) * _BYTES[match[2]]
    raise ValueError("must be a size such as 512, 32KiB, 1MiB or 2GiB")


def show_size(size_bytes: int) -> str:
    """
    Write bytes with the largest unit that gives a whole number.

    >>> show_size(8192), show_size(1000)
    ('8KiB', '1000')
    """
    for unit in ("GiB", "MiB", "KiB"):
        if size_bytes and size_bytes % _BYTES[unit] == 0:
            return f"{size_bytes // _BYTES[unit]}{unit}"
    return str(size_bytes)


def parse_percent(value: Any) -> float:
    """
    Read a percentage as a share.

    >>> parse_percent("20%")
    0.2
    """
    match = _PERCENT.fullmatch(value) if isinstance(value, str) else None
    if match is None or float(match[1]) > 100:
        raise ValueError("must be a percentage from 0% to 100%, such as 20%")
    return float(match[1]) / 100


def show_percent(share: float) -> str:
    """Write a share as a percentage."""
    return f"{round(share * 100, 6):g}%"


def duration(least: float = 0.001, most: float = DAY) -> Scalar:
    """Describe a duration in seconds between two bounds, both allowed."""

    def parse(value: Any) -> float:
        return _bounded(parse_duration(value), least, most, show_duration)

    pattern = r"^[0-9]+(\.[0-9]+)?(ms|s|m|h)?$"
    return Scalar(
        f"duration, {show_duration(least)} to {show_duration(most)}",
        parse,
        show_duration,
        {"type": ["string", "number"], "pattern": pattern},
    )


def size(least: int = 1, most: int = 1024**4) -> Scalar:
    """Describe a size in bytes between two bounds, both allowed."""

    def parse(value: Any) -> int:
        return _bounded(parse_size(value), least, most, show_size)

    pattern = "^[0-9]+(KiB|MiB|GiB)?$"
    return Scalar(
        f"size, {show_size(least)} to {show_size(most)}",
        parse,
        show_size,
        {"type": ["string", "integer"], "pattern": pattern},
    )


def _bounded(value: _Number, least: _Number, most: _Number, show: Callable[[_Number], str]) -> _Number:
    if value < least:
        raise ValueError(f"must be at least {show(least)}")
    if value > most:
        raise ValueError(f"must be at most {show(most)}")
    return value


def one_of(*choices: str | bool) -> Scalar:
    """Describe a choice among words; ``True`` and ``False`` may be among them."""
    words = [str(choice).lower() if isinstance(choice, bool) else choice for choice in choices]

    def parse(value: Any) -> Any:
        for choice in choices:
            if value == choice and isinstance(value, type(choice)):
                return choice
        raise ValueError(f"must be one of {', '.join(words)}" + did_you_mean(value, words))

    return Scalar(" | ".join(words), parse, lambda value: value, {"enum": list(choices)})


def did_you_mean(value: Any, known: Iterable[str], cutoff: float = 0.6) -> str:
    """
    Suggest the nearest known word, as the end of a sentence; empty if nothing is as near as ``cutoff`` (1 is equal).

    >>> did_you_mean("wieght", ["weight", "name"])
    '; did you mean weight?'
    """
    words = list(known)
    if not isinstance(value, str) or len(value) > _MAX_SUGGESTED or len(words) > _MAX_SUGGESTED:
        return ""
    near = get_close_matches(value.lower(), words, n=1, cutoff=cutoff)
    return f"; did you mean {near[0]}?" if near else ""


def text(
    label: str, pattern: str | None = None, problem: str = "", *, most: int = 4096, check: Check | None = None
) -> Scalar:
    """
    Describe a text of 1 to ``most`` characters without control characters.

    ``pattern`` must match the whole text, else ``problem`` is told; ``check`` may raise ``ValueError`` or
    return the text in its normal form.
    """
    compiled = re.compile(pattern) if pattern else None

    def parse(value: Any) -> str:
        plain = parse_text(value, most)
        if compiled and not compiled.fullmatch(plain):
            raise ValueError(problem)
        return check(plain) if check else plain

    schema: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": most}
    if pattern:
        schema["pattern"] = f"^{pattern}$"
    return Scalar(label, parse, str, schema)


def parse_text(value: Any, most: int = 4096) -> str:
    """Accept a text of 1 to ``most`` characters without control characters."""
    if isinstance(value, bool | int | float):
        raise ValueError("must be a text; quote it")  # noqa: TRY004 (pydantic catches ValueError only)
    if not isinstance(value, str):
        raise ValueError("must be a text")  # noqa: TRY004
    if not value:
        raise ValueError("must not be empty")
    if len(value) > most:
        raise ValueError(f"must be at most {most} characters long")
    if _CONTROL.search(value):
        raise ValueError("must not contain control characters")
    return value


def parse_secret(value: Any, least: int = 1) -> SecretStr:
    """Accept a text of at least so many characters, never to be shown again."""
    plain = parse_text(value)
    if len(plain) < least:
        raise ValueError(f"must be at least {least} characters long")
    return SecretStr(plain)


def _parse_token(value: Any) -> SecretStr:
    secret = parse_secret(value)
    if not _VISIBLE.fullmatch(secret.get_secret_value()):
        raise ValueError("must consist of visible ASCII characters without spaces")
    return secret


def _parse_mode(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 0o777:
        raise ValueError("must be a file mode from 0o000 to 0o777, such as 0o660")
    return value


def whole(least: int, most: int) -> Scalar:
    """Describe a whole number that also may be written as a text, as the key of a mapping always is."""

    def parse(value: Any) -> int:
        if isinstance(value, str) and value.isdecimal() and len(value) <= len(str(most)):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError(f"must be a number from {least} to {most}")
        return value

    return Scalar("number", parse, str, {"type": ["string", "integer"]})


_SECRET_SCHEMA = {"type": "string", "minLength": 1, "format": "password", "writeOnly": True}

T = TypeVar("T")
Items = Annotated[tuple[T, ...], Strict(False)]  # a YAML list becomes a tuple, its items stay strict
Name = Annotated[str, text("name", _NAME, "must be 1 to 64 letters, digits or . _ : [ ] -", most=64)]
FieldName = Annotated[str, text("name", _FIELD_NAME, "must be letters, digits and hyphens", most=256)]
Text = Annotated[str, text("text")]
FilePath = Annotated[str, text("file")]
FileMode = Annotated[int, Scalar("file mode", _parse_mode, oct, {"type": "integer"})]
Percent = Annotated[float, Scalar("percentage", parse_percent, show_percent)]
Token = Annotated[SecretStr, Scalar("secret", _parse_token, str, _SECRET_SCHEMA)]
