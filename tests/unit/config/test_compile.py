"""The model to plain data and on to what a worker runs on."""

import os
from dataclasses import fields
from typing import Any

import orjson
import pytest

from pyproxy.config import runtime
from pyproxy.config.compile import compile_config, digest
from pyproxy.config.load import load_text
from pyproxy.config.runtime import from_plain

TEXT = """\
workers: 3
user: www-data
shutdown_grace: 5
log_level: debug
listeners:
  - {name: http, bind: 0.0.0.0:80}
  - {bind: "[0::0]:81"}
trusted_proxies: [10.0.0.0/8, "::1"]
routes:
  - {host: WWW.Example.com:80, path: /api/, pool: api}
  - {pool: web}
pools:
  web:
    backends:
      - {name: web1, address: 10.0.0.1:80, weight: 3}
      - {address: "[FD00::1]:80", backup: true}
    retry: {attempts: 3, on: [reset, connect, 503, reset], budget: 12.5%, min: 0}
    timeouts: {connect: 250ms}
  api:
    backends: [{address: 10.0.0.2:80}]
limits: {body: 1MiB}
access_log: {to: /var/log/x.log, format: json}
admin: {token: hunter2}
"""


def compiled(text: str) -> dict[str, Any]:
    """Load and compile a text."""
    return compile_config(load_text(text, "f", {}))


def test_plain_data() -> None:
    """Names, units and order are those that runtime.py documents."""
    data = compiled(TEXT)
    assert data["workers"] == 3
    assert data["user"] == "www-data"
    assert data["shutdown_grace"] == 5.0
    assert isinstance(data["shutdown_grace"], float)
    assert data["listeners"] == [
        {"name": "http", "host": "0.0.0.0", "port": 80},
        {"name": "[::]:81", "host": "::", "port": 81},
    ]
    assert data["trusted_proxies"] == ["10.0.0.0/8", "::1/128"]
    assert data["routes"] == [
        {"host": "www.example.com", "path": "/api/", "pool": "api"},
        {"host": None, "path": None, "pool": "web"},
    ]
    web = data["pools"][0]
    assert [pool["name"] for pool in data["pools"]] == ["web", "api"]
    assert web["backends"] == [
        {"name": "web1", "host": "10.0.0.1", "port": 80, "weight": 3, "backup": False, "max_conns": 0},
        {"name": "[fd00::1]:80", "host": "fd00::1", "port": 80, "weight": 1, "backup": True, "max_conns": 0},
    ]
    assert web["retry"] == {"attempts": 3, "on": ["503", "connect", "reset"], "budget": 0.125, "min": 0}
    assert web["timeouts"] == {"connect": 0.25, "response": 60.0, "idle": 60.0, "tunnel": 3600.0}
    assert data["limits"]["body"] == 1024**2
    assert data["access_log"] == {"to": "/var/log/x.log", "format": "json"}


def test_plain_data_crosses_the_channel_unchanged() -> None:
    """JSON there and back is the same, and a worker's objects come out of it."""
    data = compiled(TEXT)
    received = orjson.loads(orjson.dumps(data))
    assert received == data
    config = from_plain(received)
    assert config == from_plain(data)
    assert {item.name for item in fields(config)} == set(data)
    assert config.pools[0].retry.on == frozenset({"503", "connect", "reset"})


def test_secrets_stay_behind() -> None:
    """Workers don't need the admin section, so they don't get it."""
    assert b"hunter2" not in orjson.dumps(compiled(TEXT))


def test_one_pool_needs_no_routes() -> None:
    """The one route takes everything."""
    text = "listeners: [{bind: '0.0.0.0:80'}]\npools: {web: {backends: [{address: '10.0.0.1:80'}]}}\n"
    assert compiled(text)["routes"] == [{"host": None, "path": None, "pool": "web"}]
    assert compiled(text + "routes: []")["routes"] == [{"host": None, "path": None, "pool": "web"}]


def test_auto_workers_are_the_usable_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted are the CPUs that this process may use, not those of the machine."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(5 + pid)))
    assert compiled(TEXT.replace("workers: 3", "workers: auto"))["workers"] == 5


def test_the_digest_names_the_content() -> None:
    """Comments and order of keys don't change it, a value does; it is 12 hex digits."""
    first = compiled(TEXT)["digest"]
    assert compiled("# a comment\n" + TEXT)["digest"] == first
    assert compiled(TEXT.replace("weight: 3", "weight: 4"))["digest"] != first
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert len(first) == 12
    assert int(first, 16) >= 0


def test_the_documented_shape_is_the_real_one() -> None:
    """The example in runtime.py's docstring has exactly the keys that compile writes."""
    documented = eval(str(runtime.__doc__).split("::\n\n", 1)[1].split("\n\nSeconds")[0].strip())

    def shape(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: shape(item) for key, item in value.items()}
        return [shape(value[0])] if isinstance(value, list) and value and isinstance(value[0], dict) else None

    assert shape(compiled(TEXT)) == shape(documented)
