"""What must hold between the keys of a file."""

from pathlib import Path

import pytest

from pyproxy.config.load import load_text, load_with_warnings
from pyproxy.errors import ConfigError

LISTENERS = "listeners: [{bind: '0.0.0.0:80'}]\n"
POOLS = "pools: {web: {backends: [{address: '10.0.0.1:80'}]}}\n"
TWO_POOLS = "pools: {web: &p {backends: [{address: '10.0.0.1:80'}]}, api: *p}\n"


def problems(text: str) -> list[str]:
    """All problems but those about what isn't available yet, without the file's name."""
    try:
        load_text(text, "f", {})
    except ConfigError as error:
        return [line.removeprefix("f:") for line in error.lines() if " yet" not in line]
    return []


def backends(content: str) -> str:
    """Make a file with these backends on line 2."""
    return LISTENERS + "pools: {web: {backends: [" + content + "]}}\n"


def pool(content: str) -> str:
    """Make a file with one pool that has these keys, from column 14 of line 2 on."""
    return LISTENERS + "pools: {web: {" + content + ", backends: [{address: '10.0.0.1:80'}]}}\n"


def routes(content: str, pools: str = POOLS) -> str:
    """Make a file with these routes on line 3."""
    return LISTENERS + pools + "routes: [" + content + "]\n"


def failover(keys: str) -> str:
    """A file with these keys in its failover section."""
    return LISTENERS + POOLS + f"failover: {{interface: e, vrid: 1, {keys}}}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # names
        (
            "listeners:\n- {bind: '0.0.0.0:80', name: a}\n- {bind: '0.0.0.0:81', name: a}\n" + POOLS,
            ["3:30: listeners[1].name: same name as listeners[0].name"],
        ),
        (
            "listeners:\n- {bind: '[::1]:80'}\n- {bind: '0.0.0.0:81', name: '[::1]:80'}\n" + POOLS,
            ["3:30: listeners[1].name: same name as listeners[0].bind"],
        ),
        (
            backends("{address: '10.0.0.1:80', name: a}, {address: '10.0.0.2:80', name: a}"),
            ["2:92: pools.web.backends[1].name: same name as pools.web.backends[0].name"],
        ),
        (
            backends("{address: '10.0.0.1:80'}, {address: '10.0.0.1:80'}"),
            ["2:62: pools.web.backends[1].address: same name as pools.web.backends[0].address"],
        ),
        (
            backends("{address: 'unix:/a'}"),
            ["2:26: pools.web.backends[0].name: is missing; a unix address needs a name"],
        ),
        (
            "listeners: [{bind: 'unix:/a'}]\n" + POOLS,
            ["1:13: listeners[0].name: is missing; a unix address needs a name"],
        ),
        (
            backends("{address: '" + "a.b." * 20 + "c:80'}"),
            ["2:26: pools.web.backends[0].name: is missing; a long address needs a name"],
        ),
        # binds
        (
            "listeners:\n- {bind: '[::1]:80', name: a}\n- {bind: '[0::1]:80', name: b}\n" + POOLS,
            ["3:10: listeners[1].bind: same address as listeners[0].bind"],
        ),
        (
            "listeners: [{bind: '127.0.0.1:9900'}]\n" + POOLS,
            ["1:20: listeners[0].bind: same address as admin.bind"],
        ),
        (
            "listeners: [{bind: '0.0.0.0:80', mode: 0o660}]\n" + POOLS,
            ["1:40: listeners[0].mode: is for unix sockets only"],
        ),
        # addresses of backends
        (
            backends("{address: app}"),
            ["2:36: pools.web.backends[0].address: must have a port; only one with srv: true has none"],
        ),
        (
            backends("{address: 'app:80', srv: true}"),
            [
                "2:36: pools.web.backends[0].address: must be a name without a port with srv: true; "
                "the SRV records have the ports"
            ],
        ),
        (
            backends("{address: 'unix:/a', name: a, srv: true}"),
            [
                "2:36: pools.web.backends[0].address: must be a name without a port with srv: true; "
                "the SRV records have the ports"
            ],
        ),
        (
            backends("{address: app, srv: true}, {address: app, srv: true}"),
            ["2:63: pools.web.backends[1].address: same name as pools.web.backends[0].address"],
        ),
        # routes
        (LISTENERS + TWO_POOLS, ["1:1: routes: is missing; with more than one pool it says what goes where"]),
        (routes("", TWO_POOLS), ["3:9: routes: is missing; with more than one pool it says what goes where"]),
        (routes("{pool: wbe}"), ["3:17: routes[0].pool: unknown pool; did you mean web?"]),
        (routes("{host: a}"), ["3:10: routes[0].pool: is missing; this or redirect is required"]),
        (
            routes("{pool: web, redirect: {to: /}}"),
            ["3:32: routes[0].redirect: pool and redirect can't be used together"],
        ),
        (
            routes("{pool: web, listeners: ['0.0.0.0:80', htpt]}"),
            ["3:48: routes[0].listeners[1]: unknown listener"],
        ),
        (routes("{pool: web, strip_prefix: true}"), ["3:36: routes[0].strip_prefix: needs a path"]),
        (
            routes("{redirect: {to: /}, path: /a, strip_prefix: true}"),
            ["3:54: routes[0].strip_prefix: is for requests that go to a pool; a redirect sends none"],
        ),
        (
            routes("{redirect: {to: /}, request_headers: {remove: [X-A]}}"),
            ["3:47: routes[0].request_headers: is for requests that go to a pool; a redirect sends none"],
        ),
        (
            routes("{pool: web, request_headers: {remove: [X-A, HOST]}}"),
            ["3:54: routes[0].request_headers.remove[1]: can be set, but not removed"],
        ),
        (
            routes("{pool: web, headers: {X_A: b}}"),
            ["3:32: routes[0].headers.X_A: is never seen; names with _ are dropped"],
        ),
        (
            routes("{pool: web, headers: {X-A: b, x-a: c}}"),
            ["3:40: routes[0].headers.x-a: same name as routes[0].headers.X-A"],
        ),
        (
            routes("{pool: web, request_headers: {set: {X-A: b, x-a: c}}}"),
            ["3:54: routes[0].request_headers.set.x-a: same name as routes[0].request_headers.set.X-A"],
        ),
        (
            routes("{pool: web, response_headers: {set: {X-A: b, x-a: c}}}"),
            ["3:55: routes[0].response_headers.set.x-a: same name as routes[0].response_headers.set.X-A"],
        ),
        (
            routes("{host: A.b:80, path: /x, pool: web}, {host: a.b, path: /x/, pool: api}", TWO_POOLS),
            ["3:47: routes[1]: same host, path and conditions as routes[0]"],
        ),
        (
            routes("{pool: web}, {pool: api, path: /}", TWO_POOLS),
            ["3:23: routes[1]: same host, path and conditions as routes[0]"],
        ),
        (
            routes("{pool: web, methods: [GET, PUT]}, {pool: api, methods: [PUT, GET]}", TWO_POOLS),
            ["3:44: routes[1]: same host, path and conditions as routes[0]"],
        ),
        # one pool
        (pool("policy: hash"), ["2:14: pools.web.hash: is missing; policy hash needs it"]),
        (
            pool("policy: hash, hash: 'header:X_User'"),
            ["2:35: pools.web.hash: is never seen; names with _ are dropped"],
        ),
        (
            pool("health: {type: tcp, path: /up, body: null, port: 81}"),
            ["2:41: pools.web.health.path: is for type http only"],
        ),
        (pool("hash: uri"), ["2:21: pools.web.hash: is for policy hash only"]),
        (pool("tls: {cert: a}"), ["2:20: pools.web.tls: cert and key go together"]),
        (pool("sticky: {}"), ["2:23: pools.web.sticky.secret: is missing; this or secret_file is required"]),
        (
            pool("sticky: {secret: abcdefgh, secret_file: /a}"),
            ["2:55: pools.web.sticky.secret_file: secret and secret_file can't be used together"],
        ),
        (
            pool("sticky: {secret: abcdefgh, samesite: none, secure: false}"),
            ["2:66: pools.web.sticky.secure: browsers drop a cookie with samesite none that isn't secure"],
        ),
        (
            pool("sticky: {secret: abcdefgh, cookie: __Secure-SRV, secure: false, path: /a}"),
            ["2:72: pools.web.sticky.secure: browsers drop a cookie of this name that isn't secure"],
        ),
        (
            pool("sticky: {secret: abcdefgh, cookie: __host-SRV, path: /a, domain: a.com}"),
            [
                "2:68: pools.web.sticky.path: must be / for a cookie of this name, or browsers drop it",
                "2:80: pools.web.sticky.domain: must not be set for a cookie of this name, or browsers drop it",
            ],
        ),
        (
            pool("outlier: {eject: 10m}"),
            ["2:32: pools.web.outlier.eject: max_eject must not be less than eject"],
        ),
        # admin
        (
            LISTENERS + POOLS + "admin: {bind: '0.0.0.0:99'}",
            ["3:15: admin.bind: other than loopback or unix needs a token or token_file"],
        ),
        (
            LISTENERS + POOLS + "admin: {token: a, token_file: /b}",
            ["3:31: admin.token_file: token and token_file can't be used together"],
        ),
        # failover
        (
            LISTENERS
            + POOLS
            + "failover: {interface: e, virtual_ips: [10.0.0.9/32], vrid: 1, version: 2, advert_interval: 0.5}",
            ["3:92: failover.advert_interval: must be whole seconds with version 2"],
        ),
        (
            failover("virtual_ips: [10.0.0.9/32, '::1/128'], version: 2"),
            ["3:62: failover.virtual_ips[1]: must be IPv4 with version 2"],
        ),
        (
            failover("virtual_ips: [10.0.0.9/32], advert_interval: 15ms"),
            ["3:80: failover.advert_interval: must be a multiple of 10ms"],
        ),
        (
            failover("virtual_ips: [10.0.0.9/32, '::1/128', 10.0.0.9/24]"),
            ["3:73: failover.virtual_ips[2]: same address as failover.virtual_ips[0]"],
        ),
        (
            failover("virtual_ips: [10.0.0.9/32], vip_backend: exec"),
            ["3:11: failover.vip_exec: is missing; vip_backend exec needs it"],
        ),
        (
            failover("virtual_ips: [10.0.0.9/32], vip_exec: {run: [/a]}"),
            ["3:73: failover.vip_exec: is for vip_backend exec only"],
        ),
        (
            failover("virtual_ips: [10.0.0.9/32], track: [{run: [a], tcp: 'a:1'}, {}]"),
            [
                "3:71: failover.track[0]: must have one of run, tcp and http",
                "3:95: failover.track[1]: must have one of run, tcp and http",
            ],
        ),
        (
            failover("virtual_ips: [10.0.0.9/32], track: [{run: [a], on_fail: lower}]"),
            [
                "3:91: failover.track[0].on_fail: does nothing with preempt: false, where no priority moves the "
                "addresses"
            ],
        ),
        (failover("virtual_ips: [10.0.0.9/32], preempt: true, track: [{run: [a], on_fail: lower}]"), []),
    ],
)
def test_relations_that_do_not_hold(text: str, expected: list[str]) -> None:
    """Each is one problem, at the key that has to change."""
    assert problems(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        pool("sticky: {secret: abcdefgh, cookie: __Host-SRV}"),
        LISTENERS + POOLS,
        routes(""),
        routes("{pool: web}, {pool: api, path: /api}, {pool: web, host: a.b}", TWO_POOLS),
        routes("{pool: web, methods: [GET]}, {pool: web, headers: {X-A: b}}, {pool: web}"),
        routes("{redirect: {to: 'https://$host$request_uri'}}"),
        routes("{redirect: {to: $scheme://$host/}, strip_prefix: false, request_headers: {set: {}, remove: []}}"),
        routes("{redirect: {to: /}, allow: [10.0.0.0/8], response_headers: {set: {Cache-Control: no-store}}}"),
        routes("{pool: web, request_headers: {set: {Host: a.b, X_A: b}, remove: [X_B]}}"),
        routes("{pool: web, request_headers: {set: {X-A: b}}, response_headers: {set: {X-A: b}, remove: [Host]}}"),
        "listeners: [{bind: 'unix:/a', name: a, mode: 0o660, owner: 'a:b', proxy_protocol: true}]\n" + POOLS,
        "listeners: [{bind: '127.0.0.1:0', name: a}, {bind: '127.0.0.1:0', name: b}]\n" + POOLS,
        "listeners: [{bind: '0.0.0.0:80'}, {bind: '[::]:80'}, {bind: '127.0.0.1:80'}]\n" + POOLS,
        "listeners: [{bind: '127.0.0.1:9900'}]\nadmin: null\n" + POOLS,
        LISTENERS + POOLS + "admin: {bind: '0.0.0.0:99', token: a}",
        LISTENERS + POOLS + "admin: {bind: '[::]:99', token_file: /a}",
        LISTENERS + POOLS + "admin: {bind: '127.0.0.9:99'}",
        LISTENERS + POOLS + "admin: {bind: 'unix:/run/a'}",
        backends("{address: '10.0.0.1:80', name: a}, {address: '10.0.0.1:80', name: b}"),
        backends("{address: app, srv: true}, {address: 'app:80'}, {address: 'unix:/a', name: a}"),
        pool("policy: hash, hash: 'header:X-User'"),
        pool("policy: hash, hash: 'cookie:my_session'"),
        pool("sticky: {secret: [newsecret, oldsecret]}"),
        pool("health: {type: tcp, interval: 1s}"),
        pool("health: {path: /up, expect: 204, body: fine}"),
    ],
)
def test_relations_that_hold(text: str) -> None:
    """What looks alike but isn't the same, and what is complete, is no problem."""
    assert problems(text) == []


HTTPS = "listeners: [{bind: '127.0.0.1:80'}]\ntrusted_proxies: [10.0.0.0/8]\n"
HTTP = "listeners: [{bind: '127.0.0.1:80'}]\n"


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("retry: {on: [connect, timeout]}", ["on"]),
        ("retry: {on: [timeout], timeout: 2s}, timeouts: {response: 2s}", ["timeout"]),
        ("retry: {on: [timeout], timeout: 3s}, timeouts: {response: 2s}", []),
        ("retry: {on: [timeout], timeout: 61s}", []),
        ("retry: {timeout: 1s}", []),
        ("", []),
    ],
)
def test_a_timeout_that_is_never_tried_again_is_warned_of(tmp_path: Path, keys: str, expected: list[str]) -> None:
    """The time of all attempts is by default what the first one may take."""
    file = tmp_path / "lb.yml"
    backend = "backends: [{address: '10.0.0.1:80'}]"
    file.write_text(f"{HTTP}pools: {{web: {{{backend}{', ' if keys else ''}{keys}}}}}\n")
    found = load_with_warnings(file).warnings
    assert [item.path for item in found] == [f"pools.web.retry.{key}" for key in expected]


@pytest.mark.parametrize(
    ("top", "keys", "expected"),
    [
        (HTTP, "samesite: none", ["samesite"]),
        (HTTPS, "samesite: none", ["samesite"]),
        (HTTPS, "samesite: none, secure: auto", ["samesite"]),
        (HTTPS, "samesite: none, secure: true", []),
        (HTTP, "samesite: none, secure: true", ["secure"]),
        (HTTP, "secure: true", ["secure"]),
        (HTTPS, "secure: true", []),
        (HTTPS, "cookie: __Secure-SRV", ["cookie"]),
        (HTTPS, "cookie: __HOST-srv", ["cookie"]),
        (HTTPS, "cookie: __Host-SRV, secure: true", []),
        (HTTP, "samesite: strict", []),
        (HTTP, "samesite: lax, secure: false", []),
        (HTTP, "", []),
    ],
)
def test_a_cookie_that_browsers_will_drop_is_warned_of(
    tmp_path: Path, top: str, keys: str, expected: list[str]
) -> None:
    """Whatever ``secure`` says; it works in a test with curl, and for no user."""
    file = tmp_path / "lb.yml"
    backend = "backends: [{address: '10.0.0.1:80'}]"
    sticky = f"sticky: {{secret: abcdefgh{', ' if keys else ''}{keys}}}"
    file.write_text(f"{top}pools: {{web: {{{backend}, {sticky}}}}}\n")
    found = load_with_warnings(file).warnings
    assert [item.path for item in found] == [f"pools.web.sticky.{key}" for key in expected]
    assert all("browsers drop" in item.text for item in found)
