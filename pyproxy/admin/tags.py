"""
ETags, and the condition that a write may make of them.

A backend's tag stands for what can be set, not for what is counted: a script that read a backend may change it as long
as nobody else has, however busy it is meanwhile.
"""

import re
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import orjson
from aiohttp import hdrs, web

from pyproxy.admin.changes import Guard

_SETTINGS = ("name", "address", "weight", "backup", "max_conns", "state", "origin")
_TAG = re.compile(r'(?:W/)?"[^"]*"')


def tag_of(data: Any) -> str:
    """Give the tag of a JSON value; in backends, and in lists and pools of them, only what can be set counts."""
    return f'"{sha256(orjson.dumps(_settings(data))).hexdigest()[:16]}"'


def must_match(request: web.Request, data: Any) -> None:
    """Refuse a write with 412 whose ``If-Match`` is for something else than this."""
    wanted = request.headers.getall(hdrs.IF_MATCH, [])
    if wanted and not _is_among(tag_of(data), ", ".join(wanted)):
        raise web.HTTPPreconditionFailed(text="it has been changed meanwhile")


def guard_of(request: web.Request, look: Any) -> Guard:
    """Make the guard of a write; ``look`` gives what there is at that moment."""
    return lambda: must_match(request, look())


def _is_among(tag: str, wanted: str) -> bool:
    return wanted.strip() == "*" or tag in _TAG.findall(wanted)


def _settings(data: Any) -> Any:
    if isinstance(data, Sequence) and not isinstance(data, str):
        return [_settings(item) for item in data]
    if isinstance(data, dict) and data.keys() >= {"name", "policy", "backends"}:
        return {"name": data["name"], "policy": data["policy"], "backends": _settings(data["backends"])}
    if isinstance(data, dict) and "origin" in data:
        return {name: data[name] for name in _SETTINGS}
    return data
