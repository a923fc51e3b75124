"""Keys whose feature isn't there yet are refused by name."""

import pytest

from pyproxy.config.load import load_text
from pyproxy.config.schema import iter_keys
from pyproxy.config.unavailable import NOT_YET, UNAVAILABLE
from pyproxy.errors import ConfigError

LISTENER = "{bind: '0.0.0.0:80'}"
BACKEND = "{address: '10.0.0.1:80'}"


def problems(listener: str = "", pool: str = "", backend: str = "", route: str = "", top: str = "") -> list[str]:
    """Load a file with something added in one place; path and text of each problem."""
    text = (
        f"listeners: [{{name: l, bind: '0.0.0.0:80', {listener}}}]\n"
        f"pools: {{web: {{backends: [{{name: b, address: '10.0.0.1:80', {backend}}}], {pool}}}}}\n"
        f"routes: [{{pool: web, {route}}}]\n{top}\n"
    )
    try:
        load_text(text, "f", {})
    except ConfigError as error:
        return [f"{item.path}: {item.text}" for item in error.problems]
    return []


USED = [
    ("top", "state_dir: /var/lib/pyproxy", "state_dir"),
    ("listener", "proxy_protocol: true", "listeners[0].proxy_protocol"),
    ("listener", "tls: {certificates: [{cert: a, key: b}]}", "listeners[0].tls"),
    ("route", "listeners: [l]", "routes[0].listeners"),
    ("route", "methods: [GET]", "routes[0].methods"),
    ("route", "headers: {X-A: b}", "routes[0].headers"),
    ("route", "allow: [10.0.0.0/8]", "routes[0].allow"),
    ("route", "path: /a, strip_prefix: true", "routes[0].strip_prefix"),
    ("route", "body_limit: 1MiB", "routes[0].body_limit"),
    ("route", "request_headers: {set: {X-A: $host}}", "routes[0].request_headers"),
    ("route", "response_headers: {remove: [Server]}", "routes[0].response_headers"),
    ("backend", "max_conns: 10", "pools.web.backends[0].max_conns"),
    ("pool", "tls: {}", "pools.web.tls"),
    ("pool", "sticky: {secret: abcdefgh}", "pools.web.sticky"),
    ("pool", "health: {}", "pools.web.health"),
    ("pool", "outlier: {}", "pools.web.outlier"),
    ("pool", "slow_start: 1s", "pools.web.slow_start"),
    ("pool", "queue: {size: 1}", "pools.web.queue"),
    ("pool", "send_proxy: v2", "pools.web.send_proxy"),
    ("top", "error_pages: {503: /a.html}", "error_pages"),
    ("top", "failover: {interface: eth0, virtual_ips: [10.0.0.9/32], vrid: 1}", "failover"),
]


@pytest.mark.parametrize(("where", "key", "path"), USED)
def test_a_key_whose_feature_is_not_there_is_refused_by_name(where: str, key: str, path: str) -> None:
    """The value is fine, so the one problem is that the feature isn't there."""
    assert problems(**{where: key}) == [f"{path}: {NOT_YET}"]


def test_some_values_are_refused_where_others_work() -> None:
    """The text says what works instead."""
    assert problems(pool="policy: random") == ["pools.web.policy: only round_robin is available yet in this version"]
    assert problems(pool="on_down: reset") == ["pools.web.on_down: only keep is available yet in this version"]
    assert problems(pool="when_all_down: try_all") == [
        "pools.web.when_all_down: only fail is available yet in this version"
    ]
    assert problems(route="host: '*.example.com'") == [f"routes[0].host: wildcard hosts are {NOT_YET}"]
    redirect = "listeners: [{bind: 'unix:/a', name: u, mode: 0o660, owner: 'a:b'}]\n"
    with pytest.raises(ConfigError) as caught:
        load_text(
            redirect + "pools: {web: {backends: [{address: 'app:80'}, {address: 'unix:/b', name: n}]}}",
            "f",
            {},
        )
    assert [f"{item.path}: {item.text}" for item in caught.value.problems] == [
        f"listeners[0].bind: unix sockets are {NOT_YET}",
        f"listeners[0].mode: {NOT_YET}",
        f"listeners[0].owner: {NOT_YET}",
        "pools.web.backends[0].address: host names are not resolved yet; use an IP address",
        f"pools.web.backends[1].address: unix sockets are {NOT_YET}",
    ]


OFF = [
    ("top", "state_dir: null\nerror_pages: {}\nfailover: null"),
    ("listener", "proxy_protocol: false, tls: null, mode: null, owner: null"),
    ("route", "host: null, path: null, listeners: null, methods: null, headers: null, allow: null"),
    ("route", "strip_prefix: false, body_limit: null, redirect: null"),
    ("route", "request_headers: {set: {}, remove: []}, response_headers: {}"),
    ("backend", "max_conns: 0"),
    ("pool", "policy: round_robin, hash: null, tls: null, sticky: null, health: null, on_down: keep"),
    ("pool", "outlier: false, slow_start: 0s, send_proxy: null, when_all_down: fail"),
]


@pytest.mark.parametrize(("where", "keys"), OFF)
def test_an_off_value_is_no_use_of_the_feature(where: str, keys: str) -> None:
    """Whoever writes the default down isn't refused."""
    assert problems(**{where: keys}) == []


def test_every_entry_names_a_key_of_the_model() -> None:
    """A renamed key can't lose its refusal without anyone noticing."""
    known = {key.path for key in iter_keys()}
    assert {entry.path for entry in UNAVAILABLE} <= known
