"""The model to plain data and on to what a worker runs on."""

import sys
from dataclasses import fields
from pathlib import Path
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
  - {name: local, bind: "unix:/run/lb.sock", mode: 0o660, owner: "www:adm", proxy_protocol: true}
trusted_proxies: [10.0.0.0/8, "::1", "unix:"]
routes:
  - host: WWW.Example.com:80
    path: /api/
    listeners: [http, local]
    methods: [GET, PUT]
    headers: {X-Canary: "1"}
    allow: [10.0.0.0/8, "::1"]
    pool: api
    strip_prefix: true
    body_limit: 1MiB
    request_headers: {set: {X-Host: $host, Host: a.b}, remove: [X-Evil]}
    response_headers: {set: {X-Frame: deny}, remove: [Server]}
  - {host: "*.Example.com", redirect: {to: "https://$host$request_uri", status: 301}}
  - {pool: web}
pools:
  web:
    backends:
      - {name: web1, address: 10.0.0.1:80, weight: 3}
      - {address: "[FD00::1]:80", backup: true}
    retry: {attempts: 3, on: [reset, connect, 503, reset], budget: 12.5%, min: 0}
    health: {expect: "200-299,404", body: fine, interval: 500ms, rise: 1, port: 81}
    on_down: reset
    when_all_down: try_all
    sticky: {secret: [swordfish, hunter1x], max_age: 2h, samesite: none, domain: example.com}
    timeouts: {connect: 250ms}
    outlier: {consecutive: 2, eject: 1s, max_eject: 8s, min_available: 3}
    slow_start: 1m
  api:
    policy: hash
    hash: cookie:USER
    outlier: false
    queue: {size: 7, timeout: 250ms}
    send_proxy: v1
    backends:
      - {name: file, address: "unix:/run/app.sock", max_conns: 9}
      - {address: App.internal:80}
      - {address: _http._tcp.app.internal, srv: true}
error_pages: {503: "PAGE", 404: "PAGE"}
dns: {servers: [10.0.0.2, "[fd00::2]:54"]}
limits: {body: 1MiB}
access_log: {to: /var/log/x.log, format: json}
admin: {token: hunter2}
"""
TCP = {"path": "", "mode": None, "owner": None, "proxy_protocol": False}
BACKEND = {"path": "", "lookup": "", "weight": 1, "backup": False, "max_conns": 0, "state": "ready", "health": "up"}
BACKEND |= {"ejected": False, "rising": 0.0}
NO_CHANGES: dict[str, Any] = {"set": [], "remove": []}
EVERYTHING = {
    "host": None,
    "path": None,
    "listeners": None,
    "methods": None,
    "headers": None,
    "allow": None,
    "pool": "web",
    "strip_prefix": False,
    "body_limit": None,
    "request_headers": NO_CHANGES,
    "response_headers": NO_CHANGES,
    "redirect": None,
}


@pytest.fixture(autouse=True)
def _page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the configuration an error page that isn't UTF-8."""
    page = tmp_path / "page.html"
    page.write_bytes(bytes(range(256)))
    monkeypatch.setattr(sys.modules[__name__], "TEXT", TEXT.replace("PAGE", str(page)))


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
        {**TCP, "name": "http", "host": "0.0.0.0", "port": 80},
        {**TCP, "name": "[::]:81", "host": "::", "port": 81},
        {
            "name": "local",
            "host": "",
            "port": 0,
            "path": "/run/lb.sock",
            "mode": 0o660,
            "owner": "www:adm",
            "proxy_protocol": True,
        },
    ]
    assert data["trusted_proxies"] == ["10.0.0.0/8", "::1/128", "unix:"]
    assert data["dns"] == {"servers": ["10.0.0.2:53", "[fd00::2]:54"]}
    web, api = data["pools"]
    assert (web["name"], api["name"]) == ("web", "api")
    assert web["backends"] == [
        {**BACKEND, "name": "web1", "host": "10.0.0.1", "port": 80, "weight": 3, "seat": 0},
        {**BACKEND, "name": "[fd00::1]:80", "host": "fd00::1", "port": 80, "backup": True, "seat": 1},
    ]
    assert (web["hash"], web["send_proxy"], web["unit"]) == (None, None, 1)
    assert web["health"] == {
        "type": "http",
        "path": "/",
        "host": None,
        "expect": [[200, 299], [404, 404]],
        "body": "fine",
        "interval": 0.5,
        "timeout": 1.0,
        "rise": 1,
        "fall": 3,
        "port": 81,
        "steer": False,
    }
    assert (web["on_down"], web["when_all_down"]) == ("reset", "try_all")
    assert web["sticky"] == {
        "cookie": "SRV",
        "secrets": ["swordfish", "hunter1x"],
        "max_age": 7200.0,
        "secure": None,
        "samesite": "none",
        "path": "/",
        "domain": "example.com",
    }
    assert api["sticky"] is None
    assert (api["health"], api["on_down"], api["when_all_down"]) == (None, "keep", "fail")
    assert web["outlier"] == {"consecutive": 2, "eject": 1.0, "max_eject": 8.0, "min_available": 3}
    assert (web["slow_start"], api["outlier"], api["slow_start"]) == (60.0, None, 0.0)
    assert web["queue"] == {"size": 128, "timeout": 5.0}
    assert web["retry"] == {
        "attempts": 3,
        "on": ["503", "connect", "reset"],
        "budget": 0.125,
        "min": 0,
        "timeout": 60.0,
    }
    assert web["timeouts"] == {"connect": 0.25, "response": 60.0, "idle": 60.0, "tunnel": 3600.0}
    assert data["limits"]["body"] == 1024**2
    assert data["access_log"] == {"to": "/var/log/x.log", "format": "json"}


def test_plain_routes() -> None:
    """Each has every key; what says nothing is None, headers are pairs in their order."""
    first, second, last = compiled(TEXT)["routes"]
    assert first == {
        "host": "www.example.com",
        "path": "/api/",
        "listeners": ["http", "local"],
        "methods": ["GET", "PUT"],
        "headers": [["X-Canary", "1"]],
        "allow": ["10.0.0.0/8", "::1/128"],
        "pool": "api",
        "strip_prefix": True,
        "body_limit": 1024**2,
        "request_headers": {"set": [["X-Host", "$host"], ["Host", "a.b"]], "remove": ["X-Evil"]},
        "response_headers": {"set": [["X-Frame", "deny"]], "remove": ["Server"]},
        "redirect": None,
    }
    redirect = {"to": "https://$host$request_uri", "status": 301}
    assert second == {**EVERYTHING, "host": "*.example.com", "pool": None, "redirect": redirect}
    assert last == EVERYTHING


def test_plain_backends_that_are_not_ip_addresses() -> None:
    """A unix socket has a path, a name says how it is looked up; seats go on through the pools."""
    api = compiled(TEXT)["pools"][1]
    assert api["backends"] == [
        {**BACKEND, "name": "file", "host": "", "port": 0, "path": "/run/app.sock", "max_conns": 9, "seat": 2},
        {**BACKEND, "name": "app.internal:80", "host": "app.internal", "port": 80, "lookup": "address", "seat": 3},
        {
            **BACKEND,
            "name": "_http._tcp.app.internal",
            "host": "_http._tcp.app.internal",
            "port": 0,
            "lookup": "srv",
            "seat": 4,
        },
    ]
    assert (api["policy"], api["hash"], api["send_proxy"]) == ("hash", "cookie:USER", "v1")
    assert api["queue"] == {"size": 7, "timeout": 0.25}
    shown = [item.address for item in from_plain(compiled(TEXT)).pools[1].backends]
    assert shown == ["unix:/run/app.sock", "app.internal:80", "_http._tcp.app.internal"]


def test_error_pages_arrive_byte_by_byte() -> None:
    """Also those that aren't text; they are in the order of their status."""
    data = orjson.loads(orjson.dumps(compiled(TEXT)))
    pages = from_plain(data).error_pages
    assert [page.status for page in pages] == [404, 503]
    assert {page.body for page in pages} == {bytes(range(256))}
    assert {page.content_type for page in pages} == {"text/html; charset=utf-8"}


def test_a_changed_error_page_is_another_configuration(tmp_path: Path) -> None:
    """The digest looks at what the file holds, so that a reload sees it."""
    first = compiled(TEXT)["digest"]
    (tmp_path / "page.html").write_text("Back soon.")
    assert compiled(TEXT)["digest"] != first


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


def test_the_secrets_of_a_file_are_handed_in() -> None:
    """They are as if they stood in the configuration, for the digest too."""
    inline = "secret: [swordfish, hunter1x]"
    elsewhere = load_text(TEXT.replace(inline, "secret_file: /run/secret"), "f", {})
    data = compile_config(elsewhere, {"web": ("swordfish", "hunter1x")})
    assert data == compiled(TEXT)
    assert compile_config(elsewhere, {"web": ("swordfish",)})["digest"] != data["digest"]


def test_one_pool_needs_no_routes() -> None:
    """The one route takes everything."""
    text = "listeners: [{bind: '0.0.0.0:80'}]\npools: {web: {backends: [{address: '10.0.0.1:80'}]}}\n"
    assert compiled(text)["routes"] == [EVERYTHING]
    assert compiled(text + "routes: []")["routes"] == [EVERYTHING]


def test_auto_workers_are_the_usable_cpus() -> None:
    """As many as the caller counted."""
    config = load_text(TEXT.replace("workers: 3", "workers: auto"), "f", {})
    assert compile_config(config, cpus=5)["workers"] == 5


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
