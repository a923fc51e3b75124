"""
The OpenAPI document of the admin API, made from the models that read requests and the shapes of the answers.

Must not know the program: it describes, and is served as it is.
"""

from collections.abc import Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

from pydantic import BaseModel

from pyproxy import __version__
from pyproxy.admin import events
from pyproxy.admin.body import ExplainBody
from pyproxy.admin.change_body import BackendChange, HandoverBody, NewBackend
from pyproxy.admin.changes import OverrideView
from pyproxy.admin.control import BackendView, ConfigView, ExplanationView, PoolView, StatusView
from pyproxy.admin.pair import DiffView, HandoverView, PairView

Schema = dict[str, Any]

_SCALARS: Mapping[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean", NoneType: "null"}
_NAME = {"type": "string", "pattern": r"^[A-Za-z0-9._:\[\]-]{1,64}$"}
_ERRORS = {
    400: "It is not JSON, or no proper request.",
    401: "It has no valid token.",
    403: "It is a write by a page of another site; or there is no token, and its Host is a name.",
    404: "There is no such pool or backend, or no other machine.",
    408: "The body did not come in time.",
    409: "The name is taken, something is in flight, or the other machine isn't fit.",
    412: "It has been changed meanwhile.",
    413: "The body is larger than 64 KiB.",
    415: "It is not application/json.",
    422: "It has values that can't be.",
    503: "The program can't do that at the moment.",
}
_ALWAYS = (401, 403)
_WRITE = (400, 408, 412, 413, 415, 422, 503)
_TAG = {"ETag": {"required": True, "schema": {"type": "string"}}}


@cache
def document() -> Schema:
    """Give the whole document."""
    bodies = {
        "BackendChange": _body(BackendChange),
        "NewBackend": _body(NewBackend),
        "Explain": _body(ExplainBody),
        "Handover": _body(HandoverBody),
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "pyproxy", "version": __version__, "description": "Look at the running program, change it."},
        "security": [{}, {"token": []}],
        "paths": _paths(),
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": bodies | {"Error": _error(), "Event": _schema(events.EventView)},
            "parameters": {
                "Pool": {"name": "pool", "in": "path", "required": True, "schema": _NAME},
                "Backend": {"name": "backend", "in": "path", "required": True, "schema": _NAME},
                "IfMatch": {"name": "If-Match", "in": "header", "schema": {"type": "string"}},
            },
        },
    }


def _paths() -> Schema:
    pool, backend = _parameter("Pool"), _parameter("Backend")
    listed = {"type": "array", "items": _schema(BackendView)}
    config = _object(
        get_type_hints(ConfigView),
        {
            "config": {"type": "object"},
            "sources": {"type": "object", "additionalProperties": {"type": "string"}},
            "overrides": {"type": "array", "items": _schema(OverrideView)},
        },
    )
    return {
        "/healthz": {"get": _operation("Whether the program lives.", {200: {"type": "object"}}, (), tagged=False)},
        "/readyz": {
            "get": _operation("Whether it should get traffic.", {200: {"type": "object"}}, (503,), tagged=False)
        },
        "/metrics": {"get": _metrics()},
        "/api/v1/status": {"get": _operation("The program and its workers.", {200: _schema(StatusView)})},
        "/api/v1/config": {"get": _operation("What is in force, and where it comes from.", {200: config})},
        "/api/v1/events": {"get": _events()},
        "/api/v1/openapi.json": {"get": _operation("This document.", {200: {"type": "object"}})},
        "/api/v1/explain": {
            "post": _operation(
                "What would become of a request.", {200: _schema(ExplanationView)}, _WRITE, "Explain", tagged=False
            )
        },
        **_pair_paths(),
        "/api/v1/pools": {
            "get": _operation("All pools.", {200: {"type": "array", "items": _schema(PoolView)}}),
        },
        "/api/v1/pools/{pool}": {
            "parameters": [pool],
            "get": _operation("One pool.", {200: _schema(PoolView)}, (404,)),
        },
        "/api/v1/pools/{pool}/backends": {
            "parameters": [pool],
            "get": _operation("The backends of a pool.", {200: listed}, (404,)),
            "post": _operation(
                "Add a backend.", {201: _schema(BackendView)}, (404, 409, *_WRITE), "NewBackend", _parameter("IfMatch")
            ),
        },
        "/api/v1/pools/{pool}/backends/{backend}": {
            "parameters": [pool, backend],
            "get": _operation("One backend.", {200: _schema(BackendView)}, (404,)),
            "patch": _operation(
                "Change a backend; 202: something is still in flight after `wait`.",
                {200: _schema(BackendView), 202: _schema(BackendView)},
                (404, *_WRITE),
                "BackendChange",
                _parameter("IfMatch"),
                _query("wait", {"type": "string", "pattern": r"^[0-9]{1,3}(\.[0-9]{1,3})?(ms|s)$"}),
            ),
            "delete": _operation(
                "Remove a backend.",
                {204: None},
                (400, 404, 409, 412, 422, 503),
                None,
                _parameter("IfMatch"),
                _query("force", {"enum": ["true", "false"]}),
            ),
        },
    }


def _pair_paths() -> Schema:
    failed = (404, 503)
    hand = _operation(
        "Give the addresses to the other machine.", {200: _schema(HandoverView)}, (409, *failed, *_WRITE), "Handover"
    )
    hand["requestBody"]["required"] = False
    return {
        "/api/v1/peer": {"get": _operation("This machine and the other one.", {200: _schema(PairView)}, failed)},
        "/api/v1/peer/diff": {"get": _operation("How their files differ.", {200: _schema(DiffView)}, failed)},
        "/api/v1/peer/facts": {"get": _operation("What a simulation needs.", {200: {"type": "object"}}, failed)},
        "/api/v1/peer/handover": {"post": hand},
    }


def _operation(
    summary: str,
    answers: Mapping[int, Schema | None],
    errors: tuple[int, ...] = (),
    body: str | None = None,
    *parameters: Schema,
    tagged: bool = True,
) -> Schema:
    responses: Schema = {}
    for status, schema in answers.items():
        responses[str(status)] = {"description": "Done."}
        if schema is not None:
            headers = {"headers": _TAG} if tagged else {}
            responses[str(status)] |= {"content": {"application/json": {"schema": schema}}, **headers}
    for status in (*_ALWAYS, *errors):
        responses[str(status)] = {"description": _ERRORS[status], "content": _json_of("Error")}
    result: Schema = {"summary": summary, "responses": responses}
    if parameters:
        result["parameters"] = list(parameters)
    if body is not None:
        result["requestBody"] = {"required": True, "content": _json_of(body)}
    return result


def _metrics() -> Schema:
    result = _operation("All metrics as Prometheus text.", {}, ())
    text = {"text/plain": {"schema": {"type": "string"}}}
    result["responses"]["200"] = {"description": "Done.", "content": text}
    return result


def _events() -> Schema:
    seconds = _query("for", {"type": "string", "pattern": r"^[0-9]{1,3}(\.[0-9]{1,3})?(ms|s|m)$"})
    header = {"name": "Last-Event-ID", "in": "header", "schema": {"type": "string"}}
    text = (
        "What happens, as server-sent events: the newest only, or those after the id `after` (`0`: all that are kept), "
        "for the time `for`. The data of each is an Event; ids come back in `Last-Event-ID`."
    )
    result = _operation(text, {}, (422, 503), None, header, _query("after", {"type": "string"}), seconds)
    data = {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": {"$ref": "#/components/schemas/Event"},
    }
    item = {"type": "object", "properties": {"id": {"type": "string"}, "data": data}, "required": ["data"]}
    content = {events.CONTENT_TYPE: {"schema": item}}
    result["responses"]["200"] = {"description": "It goes on until either side ends it.", "content": content}
    return result


def _json_of(name: str) -> Schema:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}


def _parameter(name: str) -> Schema:
    return {"$ref": f"#/components/parameters/{name}"}


def _query(name: str, schema: Schema) -> Schema:
    return {"name": name, "in": "query", "schema": schema}


def _error() -> Schema:
    detail = {"type": "array", "items": {"type": "string"}}
    return {"type": "object", "properties": {"error": {"type": "string"}, "detail": detail}, "required": ["error"]}


def _body(model: type[BaseModel]) -> Schema:
    return model.model_json_schema(by_alias=True)


def _object(hints: Mapping[str, Any], more: Mapping[str, Schema] | None = None) -> Schema:
    properties = {name: _schema(hint) for name, hint in hints.items()} | dict(more or {})
    return {"type": "object", "properties": properties, "required": list(properties)}


def _schema(hint: Any) -> Schema:
    """Describe the type of an answer's part."""
    if is_typeddict(hint):
        return _object(get_type_hints(hint))
    if hint in _SCALARS:
        return {"type": _SCALARS[hint]}
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is list:
        return {"type": "array", "items": _schema(arguments[0])}
    if origin in (Union, UnionType):
        return {"anyOf": [_schema(argument) for argument in arguments]}
    return {}
