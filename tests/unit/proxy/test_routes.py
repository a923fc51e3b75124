"""Pins what a route does to an exchange: whom it lets in, where it leads, what it changes on the way."""

from typing import Any

import pytest

from pyproxy.config.runtime import ErrorPage, HeaderChanges, Listener, Redirect, Route
from tests.unit.proxy.planes import FakePlane, Stage, make_backend, make_config, make_pool

OK = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 2\r\n\r\nok"


def routed(*, pool: str | None = "web", **changes: Any) -> Stage:
    """Put a route with these changes before everything."""
    return Stage(make_config(routes=(Route(None, changes.pop("path", None), pool, **changes),)))


def get(target: bytes = b"/", *fields: bytes, host: bytes = b"www.example.com:8080") -> bytes:
    """Write a request."""
    lines = b"".join(field + b"\r\n" for field in fields)
    return b"GET %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (target, host, lines)


def test_allow_lets_networks_in_and_nobody_else() -> None:
    """403, and the connection stays usable."""
    stage = routed(allow=("192.0.2.0/28",))
    stage.start(get())
    stage = routed(allow=("198.51.100.0/24",))
    stage.ask(get())
    stage.ask(get())
    assert stage.ends == [(403, "PR")] * 2
    assert stage.got.count(b"HTTP/1.1 403 Forbidden\r\n") == 2
    assert not stage.client.has_ended


def test_allow_looks_at_the_client_behind_a_trusted_proxy() -> None:
    """Not at the proxy."""
    route = Route(None, None, "web", allow=("203.0.113.7/32",))
    stage = Stage(make_config(routes=(route,), trusted_proxies=("192.0.2.0/24",)))
    stage.ask(get(b"/", b"X-Forwarded-For: 203.0.113.8"))
    assert stage.ends == [(403, "PR")]
    stage.start(get(b"/", b"X-Forwarded-For: 203.0.113.7"))


def test_redirect() -> None:
    """With the request's own words, without asking a backend, and the connection goes on."""
    stage = routed(pool=None, redirect=Redirect("https://$host$request_uri", 308))
    stage.ask(get(b"/a?b=c") + get(b"/d"))
    assert stage.ends == [(308, "PR")] * 2
    got = stage.got
    assert b"Location: https://www.example.com/a?b=c\r\n" in got
    assert b"Location: https://www.example.com/d\r\n" in got
    assert not stage.loop.dials


def test_redirect_of_head_has_no_body() -> None:
    """The length is told all the same."""
    stage = routed(pool=None, redirect=Redirect("/b", 301))
    stage.ask(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert stage.got.endswith(b"\r\n\r\n")
    assert stage.plane.finished[0].bytes_sent == 0


def test_strip_prefix() -> None:
    """The backend is asked for the rest; the log shows what the client asked for."""
    stage = routed(path="/api/", strip_prefix=True)
    origin = stage.start(get(b"/api/x%20y?z"))
    assert bytes(origin.sent).startswith(b"GET /x%20y?z HTTP/1.1\r\nHost: www.example.com:8080\r\n")
    stage.answer(origin, OK)
    assert b'"GET /api/x%20y?z HTTP/1.1"' in stage.plane.lines[0]


@pytest.mark.parametrize("target", [b"/api/x/", b"/api/"])
def test_what_is_left_behind_a_prefix_is_checked_again(target: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path that a backend could read as another one is refused, whoever wrote it; nobody is asked."""
    monkeypatch.setattr("pyproxy.proxy.forwarding.strip_prefix", lambda target, _: target + b"..%2fsecret")
    stage = routed(path="/api/", strip_prefix=True)
    stage.ask(get(target))
    assert stage.ends == [(400, "PR")]
    assert not stage.loop.dials


def test_request_headers() -> None:
    """What is set replaces what came and what we would have said; the framing stays ours."""
    changes = HeaderChanges(
        (("Host", "internal"), ("X-Forwarded-Proto", "https"), ("X-Client", "$client_ip")), ("cookie", "X-Request-Id")
    )
    stage = routed(request_headers=changes)
    request = b"POST / HTTP/1.1\r\nHost: a\r\nCookie: s\r\nX-Client: forged\r\nContent-Length: 2\r\n\r\nhi"
    origin = stage.start(request)
    sent = bytes(origin.sent)
    fields = sent.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    assert sorted(fields) == [
        *(b"Content-Length: 2", b"Host: internal", b"X-Client: 192.0.2.1", b"X-Forwarded-For: 192.0.2.1"),
        *(b"X-Forwarded-Host: a", b"X-Forwarded-Port: 80", b"X-Forwarded-Proto: https"),
    ]
    assert sent.endswith(b"\r\n\r\nhi")


def test_response_headers() -> None:
    """Also those of our own answers on that route."""
    changes = HeaderChanges((("Strict-Transport-Security", "max-age=1"),), ("Server",))
    stage = routed(response_headers=changes)
    origin = stage.start(get())
    stage.answer(origin, OK)
    assert stage.got == b"HTTP/1.1 200 OK\r\nStrict-Transport-Security: max-age=1\r\nContent-Length: 2\r\n\r\nok"
    stage.answer(origin, None)
    stage.ask(get())
    stage.refuse()
    assert stage.ends[-1] == (502, "SC")
    assert b"Strict-Transport-Security: max-age=1\r\n" in stage.got


@pytest.mark.parametrize(("limit", "size", "status"), [(5, 5, 200), (5, 6, 413), (20_000, 15_000, 200)])
def test_body_limit_of_the_route(limit: int, size: int, status: int) -> None:
    """It goes before the global one, in both directions."""
    config = make_config(routes=(Route(None, None, "web", body_limit=limit),))
    stage = Stage(config)
    stage.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
    if status == 200:
        stage.answer(stage.accept(), OK)
    assert stage.ends == [(status, "--" if status == 200 else "PR")]


def test_error_page() -> None:
    """The operator's own words."""
    page = ErrorPage(404, "text/html; charset=utf-8", b"<h1>Nothing here</h1>")
    stage = Stage(make_config(routes=(Route("other", None, "web"),), error_pages=(page,)))
    stage.ask(get())
    got = stage.got
    assert b"Content-Type: text/html; charset=utf-8\r\nContent-Length: 21\r\n" in got
    assert got.endswith(b"<h1>Nothing here</h1>")


def test_hash_keeps_a_client_on_its_backend() -> None:
    """The same header leads to the same backend, whoever sends it."""
    backends = tuple(make_backend(name, port=8000 + number) for number, name in enumerate("abcdefgh"))
    pool = make_pool("web", backends, policy="hash", hash="header:X-User")
    ports = set()
    for peer in ("192.0.2.1", "192.0.2.2", "192.0.2.3"):
        stage = Stage(make_config(pool))
        stage.client = stage.plane.connect((peer, 50_000))
        stage.ask(get(b"/", b"X-User: ann"))
        ports.add(stage.loop.dials[0].address[1])
    assert len(ports) == 1


def test_a_listener_may_be_a_condition() -> None:
    """The same request goes elsewhere by another door."""
    listeners = (Listener("http", "192.0.2.9", 80), Listener("inner", "192.0.2.9", 8080))
    routes = (Route(None, None, "web"), Route(None, None, "inner", listeners=("inner",)))
    plane = FakePlane(make_config(make_pool("web"), make_pool("inner"), listeners=listeners, routes=routes))
    for listener in ("http", "inner"):
        plane.connect(listener=listener).receive(get())
        plane.run()
        while plane.fake_loop.dials:
            plane.fake_loop.dials[0].refuse()
            plane.run()
    assert [exchange.pool for exchange in plane.finished] == ["web", "inner"]


@pytest.mark.parametrize(("trusted", "pool"), [((), "web"), (("192.0.2.0/24",), "secure")])
def test_what_a_proxy_says_is_a_condition_only_if_it_is_trusted(trusted: tuple[str, ...], pool: str) -> None:
    """Anyone can write X-Forwarded-Proto."""
    routes = (Route(None, None, "web"), Route(None, None, "secure", headers=(("X-Forwarded-Proto", "https"),)))
    stage = Stage(make_config(make_pool("web"), make_pool("secure"), routes=routes, trusted_proxies=trusted))
    stage.start(get(b"/", b"X-Forwarded-Proto: https"))
    stage.leave()
    assert [exchange.pool for exchange in stage.plane.finished] == [pool]


def test_a_field_named_in_connection_is_no_condition() -> None:
    """It was meant for us, whichever it is."""
    names = (b"X-Canary", b"X-Forwarded-Proto")
    for name in names:
        routes = (Route(None, None, "web"), Route(None, None, "other", headers=((name.decode(), "1"),)))
        trusted = ("192.0.2.0/24",)
        stage = Stage(make_config(make_pool("web"), make_pool("other"), routes=routes, trusted_proxies=trusted))
        stage.start(get(b"/", b"%b: 1" % name, b"Connection: %b" % name))
        stage.leave()
        assert [exchange.pool for exchange in stage.plane.finished] == ["web"]
