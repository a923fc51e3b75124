"""The model is the contract: its keys, its defaults, what it accepts."""

from typing import Any

import orjson
import pytest

from pyproxy.config.load import load_text
from pyproxy.config.model import Config
from pyproxy.config.pages import ErrorPage
from pyproxy.config.schema import iter_keys
from pyproxy.config.section import Section
from pyproxy.config.source import read_source
from pyproxy.config.tree import parse_tree
from pyproxy.errors import ConfigError

# A page of that name isn't on every machine; any file will do.
PAGE = __file__
# Every key of the contract with the value that is shown there, or one that it allows where that is null.
CONTRACT = """\
workers: auto
user: www-data
state_dir: /var/lib/pyproxy
shutdown_grace: 30s
listeners:
  - {name: http, bind: 0.0.0.0:80, proxy_protocol: false}
  - name: https
    bind: "[::]:443"
    tls:
      certificates: [{cert: a.pem, key: a.key}]
      min_version: "1.2"
      client_ca: null
      client_header: X-Client-Cert
  - {name: local, bind: unix:/run/lb.sock, mode: 0o660, owner: user:group}
trusted_proxies: [10.0.0.0/8, "::1", "unix:"]
routes:
  - host: www.example.com
    path: /api/
    listeners: [http]
    methods: [GET, HEAD]
    headers: {X-Canary: "1"}
    allow: [10.0.0.0/8]
    pool: api
    strip_prefix: false
    body_limit: 1MiB
    request_headers: {set: {X-Url: "$scheme://$host$request_uri", X-Old: "${OLD:-none}"}, remove: [X-Evil]}
    response_headers: {set: {}, remove: []}
    redirect: null
  - {host: "*.example.com", redirect: {to: "https://$host$request_uri", status: 308}}
  - pool: web
pools:
  web:
    policy: hash
    hash: cookie:SESSION
    backends:
      - {name: web1, address: 192.168.0.11:80, weight: 1, backup: false, max_conns: 0}
      - {name: web2, address: app.internal:80}
      - {name: web4, address: _http._tcp.app.internal, srv: true}
      - {name: web3, address: unix:/run/app.sock}
    tls: {verify: true, ca: null, sni: null, cert: null, key: null}
    sticky:
      {cookie: SRV, secret: [newsecret, oldsecret], secret_file: null, max_age: 0, secure: auto,
       samesite: lax, path: /, domain: null}
    health:
      {type: http, path: /, host: null, expect: 200-399, body: null, interval: 2s, timeout: 1s, rise: 2,
       fall: 3, port: null, steer: false}
    on_down: keep
    outlier: {consecutive: 5, eject: 10s, max_eject: 120s, min_available: 1}
    slow_start: 0s
    retry: {attempts: 2, "on": [connect, reset, timeout, 502, 503, "504"], budget: 20%, min: 3, timeout: null}
    timeouts: {connect: 3s, response: 60s, idle: 60s, tunnel: 1h}
    keepalive: {max_idle: 64, idle: 4s, max_requests: 1000}
    queue: {size: 128, timeout: 5s}
    send_proxy: v2
    when_all_down: fail
  api:
    backends: [{address: "[fd00::1]:80"}]
    outlier: false
client: {header_timeout: 10s, body_timeout: 60s, keepalive: 75s, max_requests: 1000, write_timeout: 60s}
limits: {request_line: 8KiB, headers: 32KiB, header_count: 100, body: null, connections: 0}
error_pages: {503: "PAGE"}
dns: {servers: []}
access_log: {to: stdout, format: combined}
log_level: info
admin: {bind: 127.0.0.1:9900, token: null, token_file: null}
failover:
  interface: eth0
  virtual_ips: [192.168.0.10/32]
  vrid: 51
  priority: 100
  advert_interval: 1s
  down_adverts: 3
  preempt: false
  version: 3
  peers: []
  checksum: auto
  lease: auto
  startup_delay: 0s
  link_up_delay: 0s
  garp: {repeat: 5, delay: 5s, refresh: 10s}
  gateway: auto
  witnesses: ["10.1.0.1:53"]
  link: {bind: 10.1.0.1:9901, peer: 10.1.0.2:9901, key_file: /etc/link.key, interval: 250ms, dead_after: 4}
  split_hold: 45s
  guards: [{run: [grep, -q, UpToDate/UpToDate, /proc/drbd], timeout: 2s, interval: 5s, on_fail: refuse}]
  track: [{run: null, tcp: null, http: "http://127.0.0.1/", interval: 2s, timeout: 1s, rise: 2, fall: 3,
           on_fail: release, by: 50}]
  track_interfaces: []
  notify: {master: [/bin/true], backup: null, fault: null}
  notify_timeout: 30s
  vip_backend: exec
  vip_exec: {run: [/bin/move], timeout: 30s, interval: 10s}
  release_when: {no_worker: 500ms, no_backend: false}
  auth_hmac: {mode: receive-only, replay: time, keys: {1: /etc/key}}
  fence: null
""".replace("PAGE", PAGE)


def read(text: str) -> Any:
    """Give the values of a YAML text."""
    root = parse_tree(text)
    assert root is not None
    return read_source(root, {}).data


def test_the_whole_contract_is_known() -> None:
    """Only what isn't available yet is refused, no key and no value of the contract."""
    with pytest.raises(ConfigError) as caught:
        load_text(CONTRACT, "f", {})
    assert [item.text for item in caught.value.problems if " yet" not in item.text] == []


def test_the_contract_names_every_key_of_the_model() -> None:
    """A key that isn't in the contract's example above would be one of our own."""
    written: set[str] = set()

    def walk(value: Any, path: str) -> None:
        for item in value if isinstance(value, list) else []:
            walk(item, f"{path}[]")
        for key, item in value.items() if isinstance(value, dict) else []:
            free = "*" if path == "pools" else key
            below = f"{path}.{free}" if path else free
            written.add(below)
            walk(item, below)

    walk(read(CONTRACT), "")
    assert {key.path for key in iter_keys()} <= written


def test_values_of_the_contract_arrive() -> None:
    """A sample of each kind of scalar, as the program sees it."""
    config = Config.model_validate(read(CONTRACT))
    web, failover = config.pools["web"], config.failover
    assert config.listeners[2].mode == 0o660
    assert config.error_pages == {503: ErrorPage(PAGE)}
    assert config.routes[0].request_headers.set["X-Old"] == "none"
    assert web.health is not None
    assert web.health.expect == ((200, 399),)
    assert web.retry.on == ("connect", "reset", "timeout", "502", "503", "504")
    assert web.sticky is not None
    assert web.sticky.secret is not None
    assert [item.get_secret_value() for item in web.sticky.secret] == ["newsecret", "oldsecret"]
    assert config.pools["api"].outlier is None
    assert failover is not None
    assert failover.link is not None
    assert (failover.link.interval, failover.gateway, failover.preempt) == (0.25, "auto", False)


def test_what_is_shown_can_be_loaded_again() -> None:
    """The configuration in force is shown as a user would write it, but for its secrets."""
    data = read(CONTRACT)
    del data["pools"]["web"]["sticky"]
    config = Config.model_validate(data)
    shown = config.model_dump(mode="json")
    assert shown["shutdown_grace"] == "30s"
    assert shown["error_pages"] == {"503": PAGE}
    assert shown["pools"]["api"]["outlier"] is False
    again = {**shown, "listeners": [{**item, "mode": None} for item in shown["listeners"]]}
    assert Config.model_validate(again).pools == config.pools


def test_defaults_are_the_contract_s() -> None:
    """What is left out means what the contract shows."""
    config = Config.model_validate(
        read("listeners: [{bind: '0.0.0.0:80'}]\npools: {web: {backends: [{address: '10.0.0.1:80'}]}}")
    )
    expected = Config.model_validate(
        {
            **read(CONTRACT),
            "user": None,
            "state_dir": None,
            "listeners": [{"name": "0.0.0.0:80", "bind": "0.0.0.0:80", "proxy_protocol": False, "tls": None}],
            "trusted_proxies": [],
            "routes": [],
            "error_pages": {},
            "failover": None,
            "pools": {
                "web": {
                    **{
                        key: value
                        for key, value in read(CONTRACT)["pools"]["web"].items()
                        if key not in ("tls", "sticky", "health", "policy", "hash", "send_proxy")
                    },
                    "retry": {"attempts": 2, "on": ["connect", "reset"], "budget": "20%", "min": 3, "timeout": None},
                    "backends": [
                        {
                            "name": "10.0.0.1:80",
                            "address": "10.0.0.1:80",
                            "weight": 1,
                            "srv": False,
                            "backup": False,
                            "max_conns": 0,
                        }
                    ],
                }
            },
        }
    )
    assert config == expected


def test_every_key_and_section_has_its_prose() -> None:
    """The descriptions are the manual; none may be left out."""
    sections: set[type[Section]] = {Config}
    for key in iter_keys():
        assert key.field.description, key.path
        assert key.field.description.endswith("."), key.path
        sections |= {key.section} if key.section else set()
    assert all(section.__doc__ for section in sections)


def test_the_model_is_frozen() -> None:
    """A configuration is swapped as a whole, never changed."""
    config = Config.model_validate(
        read("listeners: [{bind: '0.0.0.0:80'}]\npools: {web: {backends: [{address: '10.0.0.1:80'}]}}")
    )
    with pytest.raises(ValueError, match="frozen"):
        config.workers = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("user", "a b", "must be the name of a user"),
        ("trusted_proxies", ["10.0.0.1/8"], "must be a network; did you mean 10.0.0.0/8?"),
        ("trusted_proxies", ["x"], "must be an address or network"),
        ("error_pages", {"200": PAGE}, "must be a number from 400 to 599"),
        ("error_pages", {"503": "503.html"}, "must be a full path"),
        ("dns.servers", ["ns.example.com"], "must be an IP address"),
        ("dns.servers", ["10.0.0.2"] * 9, "must have at most 8 entries"),
        ("listeners.2.owner", "a:b:c", "must be user or user:group"),
        ("listeners.2.mode", 0o1000, "must be a file mode"),
        ("listeners.1.tls.min_version", "1.1", "must be 1.2 or 1.3"),
        ("routes.0.host", "a*b", "must have its *"),
        ("routes.0.path", "api", "must begin with /"),
        ("routes.0.methods", ["get"], "must be a method in capitals"),
        ("routes.0.allow", [], "must not be empty"),
        ("routes.0.request_headers.set", {"X-A": "$hots"}, "unknown variable $hots"),
        ("routes.0.request_headers.set", {"X-A": "a\nb"}, "must not contain control characters"),
        ("routes.0.request_headers.set", {"Connection": "x"}, "is a header that only the proxy itself"),
        ("routes.0.request_headers.remove", ["TE"], "is a header that only the proxy itself"),
        ("routes.0.response_headers.remove", ["proxy-authenticate"], "is a header that only the proxy itself"),
        ("routes.0.response_headers.set", {"content-LENGTH": "0"}, "is a header that only the proxy itself"),
        ("routes.0.request_headers.set", {"X A": "x"}, "must be letters, digits and hyphens"),
        ("routes.0.headers", {"X-A": " b"}, "must not begin or end with a space"),
        ("routes.0.headers", {}, "must not be empty"),
        ("routes.0.body_limit", 0, "must be at least 1"),
        ("routes.1.redirect.to", "www.example.com", "must begin with /, http://, https:// or a variable"),
        ("routes.1.redirect.to", "https://", "must begin with /, http://, https:// or a variable"),
        ("routes.1.redirect.to", "ftp://a", "must begin with /, http://, https:// or a variable"),
        ("routes.1.redirect.to", "$1", "must begin with /, http://, https:// or a variable"),
        ("routes.1.redirect.to", "/a b", "must begin with /, http://, https:// or a variable"),
        ("routes.1.redirect.to", "/ä", "must begin with /, http://, https:// or a variable"),
        ("routes.1.redirect.to", "$hst/x", "unknown variable $hst"),
        ("routes.1.redirect.to", "$host$request_uri", "would be a path beside the one that was asked for; did you"),
        ("routes.1.redirect.status", 200, "must be one of 301, 302, 303, 307, 308"),
        ("pools.web.hash", "ip", "must be client_ip, uri, header:NAME or cookie:NAME"),
        ("pools.web.health.expect", "600", "must be status codes"),
        ("pools.web.health.expect", "399-200", "must be status codes"),
        ("pools.web.health.path", "x", "must begin with /"),
        ("pools.web.health.host", "a b", "must be a host without spaces"),
        ("pools.web.sticky.secret", "short", "must be at least 8 characters long"),
        ("pools.web.sticky.secret", ["newsecret", "oldsecret", "third"], "must be a secret, or a list"),
        ("pools.web.sticky.secure", "yes", "must be one of auto, true, false"),
        ("pools.web.sticky.path", "/a;Domain=x", "must begin with / and have no spaces or semicolons"),
        ("pools.web.sticky.domain", "a.b; Secure", "must be a host name"),
        ("pools.web.outlier", None, "must be false or a mapping"),
        ("pools.web.retry.on", ["500"], "must be one of connect, reset, timeout, 502, 503, 504"),
        ("pools.web.retry.on", "connect", "must be a list"),
        ("pools.web.retry.budget", 20, "must be a percentage"),
        ("access_log.to", "stdotu", "must be stdout, off or a path"),
        ("admin.token", "a b", "must consist of visible ASCII characters"),
        ("failover.virtual_ips", ["eth0"], "must be an address with its prefix length"),
        ("failover.preempt", "soon", "must be true, false or a delay"),
        ("failover.lease", "0s", "must be auto, off or a duration of at least 1s"),
        ("failover.gateway", "router", "must be auto, off or an IP address"),
        ("failover.version", 4, "must be a number from 2 to 3"),
        ("failover.advert_interval", "41s", "must be at most 40s"),
        ("failover.auth_hmac.keys", {"256": "/a"}, "must be a number from 1 to 255"),
        ("failover.link.bind", "host:1", "must be an IP address and port"),
        ("failover.witnesses", ["unix:/a"], "must be host:port"),
    ],
)
def test_values_that_are_refused(path: str, value: Any, problem: str) -> None:
    """A bad value is one problem, also where the feature isn't there yet."""
    data = read(CONTRACT)
    *parents, last = path.split(".")
    target = data
    for step in parents:
        target = target[int(step)] if isinstance(target, list) else target[step]
    target[last] = value
    with pytest.raises(ConfigError) as caught:
        load_text(orjson.dumps(data).decode(), "f", {})
    found = [item for item in caught.value.problems if " yet" not in item.text]
    assert len(found) == 1
    assert found[0].text.startswith(problem)
    assert found[0].path.startswith(path.replace(".0", "[0]").replace(".1", "[1]").replace(".2", "[2]"))
