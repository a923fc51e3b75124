"""
What comes in with a write: a JSON body, read and checked, every problem with it told at once.

Must not know what is done with it.
"""

import asyncio
import json
import re
from collections import Counter
from ipaddress import ip_address
from itertools import accumulate
from typing import Annotated, Any, TypeVar

import orjson
from aiohttp import web
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from pyproxy.admin.control import Question
from pyproxy.config.addresses import is_ip
from pyproxy.config.explain import TEXTS, choice, is_consequence
from pyproxy.config.values import did_you_mean

UNIX_SENDER = "unix:"
LOCAL_SENDER = "127.0.0.1"

MAX_NESTING = 32
BODY_SECONDS = 10.0

_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
_ABSOLUTE = re.compile(r"https?://[^/?#@]+([/?#].*)?", re.IGNORECASE)
_UNSENT = re.compile(r"[\x00-\x20\x7f]")

_TEXTS = TEXTS | {
    "string_type": "must be a text",
    "tuple_type": "must be [name, value]",
    "too_long": "must be [name, value]",
    "model_type": "must be an object",
}

#: Nobody means more than this, and each that is wrong is a line of the answer.
_KEYS_MAX = 64
_HEADERS_MAX = 500
_LINES_MAX = 20

Body = TypeVar("Body", bound=BaseModel)


class InvalidBody(web.HTTPUnprocessableEntity):
    """A body that is JSON but not what is wanted; ``detail`` has a line for each problem."""

    def __init__(self, detail: list[str]) -> None:
        super().__init__(text="the request is not valid")
        self.detail = detail


def _method(value: str) -> str:
    if not _TOKEN.fullmatch(value):
        raise ValueError("must be a method, such as GET")
    return value


def _url(value: str) -> str:
    if _UNSENT.search(value):
        raise ValueError("must not have blanks or control characters; in a URL a blank is %20")
    if not value.startswith("/") and not _ABSOLUTE.fullmatch(value):
        raise ValueError("must be http://HOST/PATH, https://HOST/PATH, or a path that begins with /")
    return value


def _header_name(value: str) -> str:
    if not _TOKEN.fullmatch(value):
        raise ValueError("must be a header's name")
    return value


def _header_value(value: str) -> str:
    if not _VALUE.fullmatch(value):
        raise ValueError("must not have control characters")
    return value


def _sender(value: str) -> str:
    if value == UNIX_SENDER:
        return value
    if not is_ip(value) or "%" in value:
        raise ValueError("must be an IP address, or unix: for a unix socket")
    return str(ip_address(value))


def _pairs(value: Any) -> Any:
    """Make a mapping a list of pairs; JSON has no tuples."""
    if isinstance(value, dict):
        value = list(value.items())
    if isinstance(value, list) and len(value) > _HEADERS_MAX:
        raise ValueError(f"must be at most {_HEADERS_MAX}")
    if isinstance(value, list):
        return [tuple(item) if isinstance(item, list) else item for item in value]
    raise ValueError("must be a mapping, or a list of [name, value]")


Header = tuple[Annotated[str, AfterValidator(_header_name)], Annotated[str, AfterValidator(_header_value)]]


class ExplainBody(BaseModel):
    """What ``POST /api/v1/explain`` takes."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    method: Annotated[str, AfterValidator(_method)]
    url: Annotated[str, AfterValidator(_url)]
    headers: Annotated[list[Header], BeforeValidator(_pairs)] = Field(default_factory=list)
    sender: Annotated[str, AfterValidator(_sender)] = Field(LOCAL_SENDER, alias="from")

    @model_validator(mode="after")
    def _has_host(self) -> "ExplainBody":
        if self.url.startswith("/") and not any(name.lower() == "host" for name, _ in self.headers):
            raise ValueError("url: must name a host, such as http://www.example.com/, unless headers have Host")
        return self

    def question(self) -> Question:
        """Give it as the program takes it."""
        return {"method": self.method, "url": self.url, "headers": self.headers, "sender": self.sender}


async def read_body(request: web.Request, model: type[Body]) -> Body:
    """
    Read and check a body; what is wrong is 400, 413, 415 or 422.

    Only ``application/json`` is read: a page of another site can't send that without asking first.
    """
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="Content-Type must be application/json")
    try:
        async with asyncio.timeout(BODY_SECONDS):
            content = parse_json(await request.read())
    except TimeoutError as error:
        raise web.HTTPRequestTimeout(text="the body did not come in time") from error
    if isinstance(content, dict) and len(content) > _KEYS_MAX:
        raise InvalidBody([f"must have at most {_KEYS_MAX} keys"])
    try:
        return model.model_validate(content)
    except ValidationError as error:
        problems = [found for found in error.errors(include_url=False) if not is_consequence(found)]
        lines = [_line(found, model) for found in problems[:_LINES_MAX]]
        more = len(problems) - len(lines)
        raise InvalidBody([*lines, f"and {more} more"] if more else lines) from error


def parse_json(body: bytes) -> Any:
    """
    Read JSON that says each thing once (RFC 8259, section 4); all else is a 400.

    orjson takes the last of two equal keys, so what somebody before us has looked at could be another value than the
    one that counts here.
    """
    try:
        content = orjson.loads(body)
        if _nesting(body) > MAX_NESTING:
            raise web.HTTPBadRequest(text=f"the body is nested more than {MAX_NESTING} levels deep")
        json.loads(body, object_pairs_hook=_refuse_twice, parse_int=str, parse_float=str)
    except ValueError as error:
        raise web.HTTPBadRequest(text=f"the body is not JSON: {error}") from error
    return content


def _nesting(body: bytes) -> int:
    """Count the levels of brackets in JSON."""
    return max(accumulate((_STEPS[byte] for byte in _STRING.sub(b"", body) if byte in _STEPS), initial=0))


def _refuse_twice(pairs: list[tuple[str, Any]]) -> None:
    twice = next((name for name, count in Counter(name for name, _ in pairs).items() if count > 1), None)
    if twice is not None:
        raise ValueError(f"the key {twice[:64]!r} is there twice")


def _line(found: ErrorDetails, model: type[BaseModel]) -> str:
    """Say where and what, as the problems of lb.yml are told."""
    loc = found["loc"]
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).removeprefix(".")
    kind = found["type"]
    if kind == "extra_forbidden":
        known = [field.alias or name for name, field in model.model_fields.items()]
        text = "unknown key" + did_you_mean(loc[-1], known)
    elif kind == "value_error":
        text = str(found["ctx"]["error"])
    elif kind == "literal_error":
        text = choice(found["input"], str(found["ctx"]["expected"]))
    else:
        text = _TEXTS.get(kind, found["msg"]).format(**found.get("ctx", {}))
    return f"{place}: {text}" if place else text
