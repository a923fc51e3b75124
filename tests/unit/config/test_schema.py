"""The JSON Schema and the views of the model."""

import re
from pathlib import Path
from typing import Any

import pytest

from pyproxy.config.model import Config
from pyproxy.config.model_pool import Backend, Pool
from pyproxy.config.schema import iter_keys, json_schema, section_at
from pyproxy.config.source import read_source
from pyproxy.config.tree import parse_tree

CONFIG = Path(__file__).parents[3] / "config"
EXAMPLES = sorted(set(CONFIG.glob("*.yml")) - {CONFIG / "prometheus-alerts.yml"})
TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}


def is_type(value: Any, name: str) -> bool:
    """Tell a JSON type, in which a boolean is no number."""
    return isinstance(value, TYPES[name]) and (not isinstance(value, bool) or name == "boolean")


def errors(value: Any, schema: dict[str, Any], root: dict[str, Any], path: str = "") -> list[str]:
    """Check a value against the part of JSON Schema that ours uses; the paths where it doesn't fit."""
    if "$ref" in schema:
        return errors(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root, path)
    if "anyOf" in schema:
        return [] if any(not errors(value, item, root) for item in schema["anyOf"]) else [path]
    names = schema.get("type", [])
    if names and not any(is_type(value, name) for name in ([names] if isinstance(names, str) else names)):
        return [path]
    if ("enum" in schema and value not in schema["enum"]) or ("const" in schema and value != schema["const"]):
        return [path]
    if isinstance(value, str) and "pattern" in schema and not re.search(schema["pattern"], value):
        return [path]
    if isinstance(value, int) and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        return [path]
    found = []
    if isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            found += errors(item, schema["items"], root, f"{path}[{index}]")
    if isinstance(value, dict):
        found += [f"{path}.{name} missing" for name in schema.get("required", []) if name not in value]
        for key, item in value.items():
            found += errors(item, member(key, schema), root, f"{path}.{key}")
    return found


def member(key: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Give the schema of one key of a mapping; one that fits nothing for an unknown key."""
    if key in schema.get("properties", {}):
        found = schema["properties"][key]
    else:
        patterns = schema.get("patternProperties", {})
        found = next((item for pattern, item in patterns.items() if re.search(pattern, key)), None)
        if found is None:
            found = schema.get("additionalProperties", True)
    if isinstance(found, bool):
        return {} if found else {"enum": []}
    return dict(found)


def values(text: str) -> Any:
    """Give the values of a YAML text."""
    root = parse_tree(text)
    assert root is not None
    return read_source(root, {}).data


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_examples_satisfy_the_schema(file: Path) -> None:
    """What loads is valid for an editor too."""
    schema = json_schema()
    assert errors(values(file.read_text()), schema, schema) == []


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ("wokers: 1", ".wokers"),
        ("workers: many", ".workers"),
        ("shutdown_grace: soon", ".shutdown_grace"),
        ("limits: {body: 1KB}", ".limits.body"),
        ("client: {max_requests: '1'}", ".client.max_requests"),
        ("log_level: loud", ".log_level"),
        ("routes: {}", ".routes"),
    ],
)
def test_the_schema_refuses_what_the_program_refuses(change: str, path: str) -> None:
    """An editor marks the same key."""
    schema = json_schema()
    text = next(file for file in EXAMPLES if file.name == "minimal.yml").read_text()
    assert errors(values(text), schema, schema) == []
    assert errors(values(text + change), schema, schema) == [path]


def test_the_schema_describes_what_a_user_writes() -> None:
    """Durations and sizes are texts or numbers, defaults are as in the contract, secrets are marked."""
    schema = json_schema()
    properties, definitions = schema["properties"], schema["$defs"]
    assert properties["shutdown_grace"]["type"] == ["string", "number"]
    assert properties["shutdown_grace"]["default"] == "30s"
    assert definitions["Limits"]["properties"]["headers"]["type"] == ["string", "integer"]
    assert definitions["Limits"]["properties"]["headers"]["default"] == "32KiB"
    assert definitions["Retry"]["properties"]["budget"]["default"] == "20%"
    assert definitions["Retry"]["properties"]["on"]["default"] == ["connect", "reset"]
    assert definitions["Admin"]["properties"]["bind"]["default"] == "127.0.0.1:9900"
    assert definitions["Admin"]["properties"]["token"]["anyOf"][0]["format"] == "password"
    assert {"const": False} in definitions["Pool"]["properties"]["outlier"]["anyOf"]
    assert sorted(schema["required"]) == ["listeners", "pools"]
    assert schema["additionalProperties"] is False


def test_what_is_not_there_yet_is_marked() -> None:
    """An editor tells it before the program refuses it."""
    pool = json_schema()["$defs"]["Pool"]["properties"]
    assert pool["tls"]["description"].endswith("(not available yet in this version)")
    assert "available yet" not in pool["retry"]["description"]


def test_every_default_fits_its_own_schema() -> None:
    """A default that the program would refuse is a bug in the model."""
    schema = json_schema()
    for key in iter_keys():
        owner = schema if key.owner is Config else schema["$defs"][key.owner.__name__]
        described = owner["properties"][key.name]
        if "default" in described:
            assert errors(described["default"], described, schema) == [], key.path


def test_sections_are_found_by_path() -> None:
    """The section at a place in a file, for suggestions; none inside what has free keys."""
    assert section_at(()) is Config
    assert section_at(("pools", "web")) is Pool
    assert section_at(("pools", "web", "backends", 0)) is Backend
    assert section_at(("pools",)) is None
    assert section_at(("pools", "web", "backends", 0, "weight")) is None
    assert section_at(("nothing", "here")) is None
