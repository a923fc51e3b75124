"""Pins that the OpenAPI document names every resource, and that its shapes are the real ones."""

import json
from typing import Any

import pytest

from pyproxy.admin.openapi import document
from tests.unit.admin.asking import Client


def operations() -> set[tuple[str, str]]:
    """Method and path of all that is in the document."""
    paths: dict[str, dict[str, Any]] = document()["paths"]
    return {(method.upper(), path) for path, item in paths.items() for method in item if method != "parameters"}


def test_every_resource_is_in_the_document_and_no_other() -> None:
    """A new one can't be forgotten."""
    routes = {(route.method, route.resource.canonical) for route in Client().app.router.routes() if route.resource}
    assert operations() == {route for route in routes if route[0] != "HEAD"}


async def test_it_is_served_as_json() -> None:
    """As a whole, with a tag."""
    assert await Client().json("/api/v1/openapi.json") == json.loads(json.dumps(document()))


@pytest.mark.parametrize("path", ["/api/v1/pools/web/backends/a", "/api/v1/pools/web", "/api/v1/status"])
async def test_an_answer_has_what_the_document_says(path: str) -> None:
    """Every property, and none that isn't there."""
    template = path.replace("/pools/web", "/pools/{pool}").replace("/backends/a", "/backends/{backend}")
    answer = document()["paths"][template]["get"]["responses"]["200"]
    schema = answer["content"]["application/json"]["schema"]
    assert set((await Client().json(path)).keys()) == set(schema["properties"]) == set(schema["required"])


def test_a_change_is_described_as_it_is_read() -> None:
    """With its bounds and words."""
    properties = document()["components"]["schemas"]["BackendChange"]["properties"]
    assert {"state", "weight", "max_conns", "reason", "expires", "pinned"} == set(properties)
    assert properties["weight"]["anyOf"][0] == {"type": "integer", "minimum": 0, "maximum": 256}
    assert properties["state"]["anyOf"][0]["enum"] == ["ready", "drain", "maint"]
