"""The ready examples in config/."""

from pathlib import Path

import pytest

from pyproxy.config.compile import compile_config
from pyproxy.config.load import load_config, load_with_warnings
from pyproxy.config.runtime import Redirect, from_plain

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted(set((ROOT / "config").glob("*.yml")) - {ROOT / "config" / "prometheus-alerts.yml"})


def test_there_are_examples() -> None:
    """The tests below look at something."""
    assert {"lb.yml", "minimal.yml", "routes.yml", "two-apps.yml", "failover.yml"} <= {item.name for item in EXAMPLES}


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_an_example_loads(file: Path) -> None:
    """Without a problem, without anything in the environment, down to what a worker runs on."""
    config = from_plain(compile_config(load_config(file)))
    assert config.listeners
    assert {route.pool for route in config.routes if route.pool} == {pool.name for pool in config.pools}


def test_two_apps_shows_what_it_says() -> None:
    """Hosts, paths, weights, a backup and the JSON log."""
    config = from_plain(compile_config(load_config(ROOT / "config" / "two-apps.yml")))
    assert {route.host for route in config.routes} == {"shop.example.com", "blog.example.com"}
    assert [item.weight for item in config.pools[0].backends] == [3, 1, 1]
    assert [item.backup for item in config.pools[0].backends] == [False, False, True]
    assert (config.access_log.to, config.access_log.format) == ("/var/log/pyproxy/access.log", "json")


def test_lb_shows_what_it_says() -> None:
    """The limit of a backend and the queue behind it."""
    (pool,) = from_plain(compile_config(load_config(ROOT / "config" / "lb.yml"))).pools
    assert [item.max_conns for item in pool.backends] == [200, 100, 100]
    assert (pool.queue.size, pool.queue.timeout) == (128, 5.0)


def test_routes_shows_what_it_says() -> None:
    """A redirect, a canary, who may come in, headers and prefixes; names to look up and a unix socket."""
    config = from_plain(compile_config(load_config(ROOT / "config" / "routes.yml")))
    to_www, canary, api, internal, _shop, uploads, to_https, wildcard = config.routes
    assert to_www.redirect == Redirect("https://www.example.com$request_uri", 308)
    assert to_https.headers == (("X-Forwarded-Proto", "http"),)
    assert to_https.redirect == Redirect("https://$host$request_uri", 308)
    assert (canary.headers, canary.pool) == ((("X-Canary", "1"),), "canary")
    assert (api.path, api.strip_prefix, api.pool) == ("/api/", True, "api")
    assert internal.allow == ("10.0.0.0/8", "fd00::/8")
    assert (uploads.methods, uploads.body_limit) == (("POST", "PUT"), 256 * 1024**2)
    assert (wildcard.host, wildcard.request_headers.set) == ("*.example.com", (("X-Tenant", "$host"),))
    policies = {pool.name: (pool.policy, pool.hash) for pool in config.pools}
    assert policies["api"] == ("least_conn", None)
    assert policies["tenants"] == ("hash", "cookie:SESSION")
    assert [item.lookup for pool in config.pools for item in pool.backends if item.lookup] == ["address", "srv"]
    assert [item.path for pool in config.pools for item in pool.backends if item.path] == ["/run/shop/admin.sock"]


def test_failover_shows_what_makes_sense() -> None:
    """A link on another network, and nothing that ``pyproxy -t`` warns of."""
    loaded = load_with_warnings(ROOT / "config" / "failover.yml")
    assert loaded.warnings == ()
    assert loaded.config.failover is not None
    assert loaded.config.failover.link is not None
