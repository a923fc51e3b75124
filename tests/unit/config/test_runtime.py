"""The objects that workers run on."""

import subprocess
import sys
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from pyproxy.config.runtime import Backend, Listener, Pool, Retry, Route, RuntimeConfig, from_plain


def plain() -> dict[str, Any]:
    """Plain data in the documented shape."""
    return {
        "digest": "0123456789ab",
        "workers": 2,
        "user": None,
        "shutdown_grace": 30.0,
        "log_level": "info",
        "listeners": [{"name": "http", "host": "::", "port": 80}],
        "trusted_proxies": ["10.0.0.0/8"],
        "routes": [{"host": None, "path": "/api/", "pool": "web"}],
        "pools": [
            {
                "name": "web",
                "policy": "round_robin",
                "backends": [
                    {
                        "name": "a",
                        "host": "10.0.0.3",
                        "port": 8080,
                        "weight": 1,
                        "backup": False,
                        "max_conns": 0,
                    }
                ],
                "timeouts": {"connect": 3.0, "response": 60.0, "idle": 61.0, "tunnel": 3600.0},
                "retry": {"attempts": 2, "on": ["connect", "reset"], "budget": 0.2, "min": 3},
                "keepalive": {"max_idle": 64, "idle": 30.0, "max_requests": 1000},
            }
        ],
        "client": {
            "header_timeout": 10.0,
            "body_timeout": 60.0,
            "keepalive": 75.0,
            "write_timeout": 62.0,
            "max_requests": 1000,
        },
        "limits": {
            "request_line": 8192,
            "headers": 32768,
            "header_count": 100,
            "body": None,
            "connections": 0,
        },
        "access_log": {"to": "stdout", "format": "combined"},
    }


def test_plain_data_becomes_objects() -> None:
    """Every list is a tuple, every mapping an object, and the values are what was sent."""
    config = from_plain(plain())
    assert isinstance(config, RuntimeConfig)
    assert config.listeners == (Listener("http", "::", 80),)
    assert config.routes == (Route(None, "/api/", "web"),)
    assert config.trusted_proxies == ("10.0.0.0/8",)
    pool = config.pools[0]
    assert isinstance(pool, Pool)
    assert pool.backends == (Backend("a", "10.0.0.3", 8080, 1, False, 0),)
    assert pool.retry == Retry(2, frozenset({"connect", "reset"}), 0.2, 3)
    assert (pool.timeouts.idle, config.client.write_timeout, config.limits.body) == (61.0, 62.0, None)


def test_addresses_put_brackets_around_ipv6() -> None:
    """An address can be printed and dialled as a user would write it."""
    config = from_plain(plain())
    assert config.listeners[0].address == "[::]:80"
    assert config.pools[0].backends[0].address == "10.0.0.3:8080"


def test_objects_are_frozen() -> None:
    """A worker can't change its configuration by accident."""
    with pytest.raises(FrozenInstanceError):
        from_plain(plain()).workers = 3  # type: ignore[misc]


@pytest.mark.parametrize("change", [{"unknown": 1}, {"pools": [{"name": "x"}]}])
def test_unexpected_data_is_a_bug(change: dict[str, Any]) -> None:
    """Data of another shape raises at once and isn't half understood."""
    with pytest.raises((KeyError, TypeError)):
        from_plain({**plain(), **change})


def test_it_needs_the_standard_library_only() -> None:
    """Workers import this room, and must not pay for pydantic or yaml."""
    code = "import sys, pyproxy.config.runtime; print({'pydantic', 'yaml', 'orjson'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"
