"""The objects that workers run on."""

import subprocess
import sys
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from pyproxy.config.runtime import (
    Backend,
    Dns,
    ErrorPage,
    HeaderChanges,
    Health,
    Listener,
    Outlier,
    Pool,
    Queue,
    Redirect,
    Retry,
    Route,
    RuntimeConfig,
    Sticky,
    from_plain,
)


def plain() -> dict[str, Any]:
    """Plain data in the documented shape."""
    return {
        "digest": "0123456789ab",
        "workers": 2,
        "user": None,
        "shutdown_grace": 30.0,
        "log_level": "info",
        "listeners": [
            {
                "name": "http",
                "host": "::",
                "port": 80,
                "path": "",
                "mode": None,
                "owner": None,
                "proxy_protocol": False,
            },
            {
                "name": "local",
                "host": "",
                "port": 0,
                "path": "/run/lb.sock",
                "mode": 0o660,
                "owner": "www:adm",
                "proxy_protocol": True,
            },
        ],
        "trusted_proxies": ["10.0.0.0/8"],
        "routes": [
            {
                "host": None,
                "path": "/api/",
                "listeners": ["http"],
                "methods": ["GET"],
                "headers": [["X-A", "b"]],
                "allow": ["10.0.0.0/8"],
                "pool": "web",
                "strip_prefix": True,
                "body_limit": 5,
                "request_headers": {"set": [["X-B", "$host"]], "remove": ["X-C"]},
                "response_headers": {"set": [], "remove": []},
                "redirect": None,
            },
            {
                "host": "*.example.com",
                "path": None,
                "listeners": None,
                "methods": None,
                "headers": None,
                "allow": None,
                "pool": None,
                "strip_prefix": False,
                "body_limit": None,
                "request_headers": {"set": [], "remove": []},
                "response_headers": {"set": [], "remove": []},
                "redirect": {"to": "/", "status": 308},
            },
        ],
        "pools": [
            {
                "name": "web",
                "policy": "hash",
                "hash": "uri",
                "unit": 2,
                "backends": [
                    {
                        "name": "a",
                        "host": "10.0.0.3",
                        "port": 8080,
                        "path": "",
                        "lookup": "",
                        "weight": 1,
                        "backup": False,
                        "max_conns": 0,
                        "seat": 5,
                        "state": "drain",
                        "health": "down",
                        "ejected": True,
                        "rising": 12.5,
                    }
                ],
                "timeouts": {"connect": 3.0, "response": 60.0, "idle": 61.0, "tunnel": 3600.0},
                "retry": {"attempts": 2, "on": ["connect", "reset"], "budget": 0.2, "min": 3},
                "keepalive": {"max_idle": 64, "idle": 30.0, "max_requests": 1000},
                "queue": {"size": 128, "timeout": 5.0},
                "send_proxy": "v2",
                "health": {
                    "type": "tcp",
                    "path": "/",
                    "host": None,
                    "expect": [[200, 399]],
                    "body": None,
                    "interval": 2.0,
                    "timeout": 1.0,
                    "rise": 2,
                    "fall": 3,
                    "port": None,
                },
                "on_down": "reset",
                "when_all_down": "try_all",
                "outlier": {"consecutive": 4, "eject": 3.0, "max_eject": 9.0, "min_available": 2},
                "slow_start": 30.0,
                "sticky": {
                    "cookie": "SRV",
                    "secrets": ["new secret", "old secret"],
                    "max_age": 60.0,
                    "secure": True,
                    "samesite": "strict",
                    "path": "/app",
                    "domain": "example.com",
                },
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
        "error_pages": [{"status": 503, "content_type": "text/plain; charset=utf-8", "body": "\xe4"}],
        "dns": {"servers": ["10.0.0.2:53"]},
        "access_log": {"to": "stdout", "format": "combined"},
    }


def test_plain_data_becomes_objects() -> None:
    """Every list is a tuple, every mapping an object, and the values are what was sent."""
    config = from_plain(plain())
    assert isinstance(config, RuntimeConfig)
    assert config.listeners == (
        Listener("http", "::", 80),
        Listener("local", "", 0, "/run/lb.sock", 0o660, "www:adm", proxy_protocol=True),
    )
    assert config.routes == (
        Route(
            None,
            "/api/",
            "web",
            listeners=("http",),
            methods=("GET",),
            headers=(("X-A", "b"),),
            allow=("10.0.0.0/8",),
            strip_prefix=True,
            body_limit=5,
            request_headers=HeaderChanges((("X-B", "$host"),), ("X-C",)),
        ),
        Route("*.example.com", None, None, redirect=Redirect("/", 308)),
    )
    assert config.error_pages == (ErrorPage(503, "text/plain; charset=utf-8", b"\xe4"),)
    assert config.dns == Dns(("10.0.0.2:53",))
    assert config.trusted_proxies == ("10.0.0.0/8",)
    pool = config.pools[0]
    assert isinstance(pool, Pool)
    assert pool.sticky == Sticky(
        "SRV", ("new secret", "old secret"), 60.0, secure=True, samesite="strict", path="/app", domain="example.com"
    )
    assert "secret" not in repr(config)
    assert pool.backends == (
        Backend("a", "10.0.0.3", 8080, 1, False, 0, seat=5, state="drain", health="down", ejected=True, rising=12.5),
    )
    assert pool.health == Health("tcp", "/", None, ((200, 399),), None, 2.0, 1.0, 2, 3, None)
    assert (pool.on_down, pool.when_all_down) == ("reset", "try_all")
    assert (pool.outlier, pool.slow_start) == (Outlier(4, 3.0, 9.0, 2), 30.0)
    assert (pool.policy, pool.hash, pool.queue, pool.send_proxy, pool.unit) == ("hash", "uri", Queue(128, 5.0), "v2", 2)
    assert pool.retry == Retry(2, frozenset({"connect", "reset"}), 0.2, 3)
    assert (pool.timeouts.idle, config.client.write_timeout, config.limits.body) == (61.0, 62.0, None)


def test_addresses_are_shown_as_they_are_written() -> None:
    """IPv6 has its brackets, a unix socket its prefix, a SRV name no port."""
    config = from_plain(plain())
    assert [item.address for item in config.listeners] == ["[::]:80", "unix:/run/lb.sock"]
    assert config.pools[0].backends[0].address == "10.0.0.3:8080"
    assert Backend("a", "", 0, 1, False, 0, path="/run/a.sock").address == "unix:/run/a.sock"
    assert Backend("a", "app", 0, 1, False, 0, lookup="srv").address == "app"
    assert Backend("a", "app", 80, 1, False, 0, lookup="address").address == "app:80"


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
