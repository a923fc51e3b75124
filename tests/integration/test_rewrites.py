"""What routes change in a message on the running program: the target, headers of requests and of answers."""

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.client import RawClient, chunked, get, post, unique_source
from tests.integration.conftest import Connect, StartOrigin
from tests.integration.origin import Origin, reply, serve
from tests.integration.ports import Ports
from tests.integration.program import Program, lend, run_until_stopped
from tests.integration.wire import Message

SECRET = "Bearer s3cret"
REQUESTS = {
    "set": {
        "X-Client": "$client_ip",
        "X-Uri": "<$uri>",
        "X-Request-Uri": "$request_uri",
        "X-Host": "$host",
        "X-Scheme": "$scheme",
        "X-Id": "$request_id",
        "X-Price": "5$ $5 $$host",
        "Authorization": SECRET,
    },
    "remove": ["Cookie", "x-forwarded-port", "User-Agent", "X-Internal"],
}
RESPONSES = {
    "set": {
        "Strict-Transport-Security": "max-age=1",
        "X-Id": "$request_id",
        "X-Uri": "$uri",
        "Cache-Control": "no-store",
    },
    "remove": ["Server", "x-powered-by", "Set-Cookie"],
}


def route(host: str, pool: str = "web", **rest: Any) -> dict[str, Any]:
    """Make a route for one host."""
    return {"host": host, "pool": pool, **rest}


ROUTES = [
    route("strip.test", path="/api/", strip_prefix=True),
    route("strip.test", path="/a b/ä", strip_prefix=True),
    route("strip.test"),
    route("set.test", request_headers=REQUESTS),
    route(
        "inner.test",
        path="/in/",
        strip_prefix=True,
        request_headers={"set": {"Host": "inner.example:8080", "X-Uri": "$uri", "X-Host": "$host"}},
    ),
    route(
        "ours.test",
        request_headers={
            "set": {"X-Forwarded-For": "$client_ip", "X-Request-Id": "mine", "X-Forwarded-Proto": "https"},
            "remove": ["X-Forwarded-Host", "Forwarded", "X-Real-IP"],
        },
    ),
    route("resp.test", response_headers=RESPONSES),
    route("resp.test", "dead", path="/dead/", response_headers=RESPONSES),
    route("resp.test", path="/small/", body_limit=10, response_headers=RESPONSES),
    route("resp.test", path="/nobody/", allow=["192.0.2.1"], response_headers=RESPONSES),
    {
        "host": "resp.test",
        "path": "/away/",
        "redirect": {"to": "/there"},
        "response_headers": {"set": {"X-Id": "$request_id"}, "remove": ["Date"]},
    },
    route("web.test"),
]


class Rewriting(Program):
    """A program with all the routes above."""

    def __init__(self, directory: Path, ports: Ports) -> None:
        self.origin_port = ports.take()
        config = {
            "trusted_proxies": ["127.9.0.0/16"],
            "routes": ROUTES,
            "pools": {
                "web": {"backends": [{"name": "a", "address": f"127.0.0.1:{self.origin_port}"}]},
                "dead": {"backends": [{"name": "closed", "address": f"127.0.0.1:{ports.take()}"}]},
            },
        }
        super().__init__(directory, ports, config)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, ports: Ports) -> Iterator[Rewriting]:
    """One program for all tests here."""
    yield from run_until_stopped(Rewriting(tmp_path_factory.mktemp("rewriting"), ports))


@pytest.fixture
async def program(running: Rewriting) -> AsyncIterator[Rewriting]:
    """The program; when the test's clients and origins are gone, nothing may be left in flight."""
    async for lent in lend(running):
        yield lent


@pytest.fixture
async def origin(program: Rewriting, start_origin: StartOrigin) -> Origin:
    """The backend of pool ``web``."""
    return start_origin(program.origin_port)


@pytest.fixture
async def client(program: Rewriting, connect_to: Connect) -> RawClient:
    """A connection from who isn't trusted."""
    return await connect_to(program.port)


@pytest.fixture
async def behind(program: Rewriting, connect_to: Connect) -> RawClient:
    """A connection from a trusted proxy."""
    return await connect_to(program.port, source=unique_source(trusted=True))


# ---- strip_prefix

STRIPPED = {
    "/api": "/",
    "/api/": "/",
    "/api?x=1": "/?x=1",
    "/api?": "/?",
    "/api/x%20y/?q=%2F/../": "/x%20y/?q=%2F/../",
    "/api/a%2Fb": "/a%2Fb",
    "/api/%3Fx;a=b": "/%3Fx;a=b",
    "/api/api/x": "/api/x",
    "/api/%": "/%",
    "/api/%e4%FF%01": "/%e4%FF%01",
    "/%61pi/x": "/x",
    "/%61%70%69": "/",
    "/api%2Fx%2Fy": "/x/y",
    "/x/../api/y%20z": "/y%20z",
    "/./api/y": "/y",
    "/api/x/../y%3F?z": "/y%3F?z",
    "/api/../api/x": "/x",
    "/a%20b/%C3%A4/c": "/c",
    "/a%20b/%c3%a4": "/",
    # what the route doesn't take arrives as it came, but for dots
    "/apix": "/apix",
    "/API/x": "/API/x",
    "//api/x": "/x",
    "/api/../x": "/x",
    "/a%20b/x": "/a%20b/x",
    "/a%2520b/%C3%A4/x": "/a%2520b/%C3%A4/x",
}


async def test_the_prefix_is_taken_off(program: Rewriting, origin: Origin, client: RawClient) -> None:
    """The route's own path and nothing else; the rest is as the client wrote it, and so is the log."""
    found = {target: (await client.ask(get("strip.test", target))).body.decode() for target in STRIPPED}
    assert found == STRIPPED
    logged = [line.request for line in await program.log.await_lines(len(STRIPPED), client.source)]
    assert logged == [f"GET {target} HTTP/1.1" for target in STRIPPED]


async def test_the_prefix_of_an_absolute_target(origin: Origin, client: RawClient) -> None:
    """Whatever form the backend is asked in, it is the stripped path."""
    for asked, got in (("/api/x?y", "/x?y"), ("/api", "/"), ("/api?y", "/?y"), ("?y", "/?y")):
        answer = await client.ask(get("strip.test", f"http://strip.test{asked}"))
        assert answer.body.decode().removeprefix("http://strip.test") in {got, asked if asked == "?y" else got}
    assert {request.get("host") for request in origin.requests} == {b"strip.test"}


async def test_a_body_behind_a_stripped_target(origin: Origin, client: RawClient) -> None:
    """Framing stays what it was, in both ways to say how long a body is."""
    assert (await client.ask(post("strip.test", b"abc", target="/api/x"))).body == b"/x"
    head = get("strip.test", "/api/y", "Transfer-Encoding: chunked", method="PUT")
    assert (await client.ask(head + chunked(b"ab", b"c"))).body == b"/y"
    assert (await client.ask(get("strip.test", "/api/z"))).body == b"/z"
    assert [request.body for request in origin.requests] == [b"abc", b"abc", b""]
    assert [request.get("content-length") for request in origin.requests] == [b"3", None, None]


# ---- request headers


async def test_headers_are_set_for_the_backend(program: Rewriting, origin: Origin, client: RawClient) -> None:
    """Each variable says what it stands for; what is removed is gone, ours too; the rest is there once."""
    came = ["Cookie: a", "cookie: b", "USER-AGENT: x", "X-Internal: 1", "Accept: */*"]
    await client.ask(get("Set.TEST:8080", "/a%20b/../%C3%A4%3F?q=%0d", *came))
    (request,) = origin.requests
    got = dict(request.headers)
    assert len(got) == len(request.headers), "a header came twice"
    got.pop(b"connection", None)
    request_id = got.pop(b"x-request-id")
    assert got == {
        b"host": b"Set.TEST:8080",
        b"accept": b"*/*",
        b"x-forwarded-for": client.source.encode(),
        b"x-forwarded-proto": b"http",
        b"x-forwarded-host": b"Set.TEST:8080",
        b"x-client": client.source.encode(),
        b"x-uri": b"</%C3%A4%3F>",
        b"x-request-uri": b"/%C3%A4%3F?q=%0d",
        b"x-host": b"set.test",
        b"x-scheme": b"http",
        b"x-id": request_id,
        b"x-price": b"5$ $5 $set.test",
        b"authorization": SECRET.encode(),
    }
    (line,) = await program.log.await_lines(1, client.source)
    assert line.id.encode() == request_id


async def test_variables_behind_a_trusted_proxy(origin: Origin, behind: RawClient) -> None:
    """Client and scheme are whom the proxy names, the id is the one that came."""
    named = ["X-Forwarded-For: 2001:DB8::7", "X-Forwarded-Proto: HTTPS", "X-Request-Id: Id.1"]
    await behind.ask(get("set.test", "/", *named))
    await behind.ask(get("set.test", "/", "X-Forwarded-Proto: javascript", "X-Forwarded-For: $host"))
    first, second = ([request.get(name) for name in ("x-client", "x-scheme", "x-id")] for request in origin.requests)
    assert first == [b"2001:DB8::7", b"https", b"Id.1"]
    assert second[:2] == [behind.source.encode(), b"http"]


@pytest.mark.parametrize(
    "headers",
    [
        ["Authorization: 6.6.6.6"],
        ["AUTHORIZATION: 6.6.6.6", "authorization: 6.6.6.6", "Authorization:6.6.6.6"],
        ["Authorization: 6.6.6.6", "Connection: Authorization"],
        ["Connection: Authorization, close, X-Client"],
        ["Authorization_: 6.6.6.6", "X_Client: 6.6.6.6", "X-Client: 6.6.6.6"],
        ["X-Client: 6.6.6.6", "X-Internal: 6.6.6.6", "x-internal: 6.6.6.6", "Connection: x-internal"],
        ["Cookie: 6.6.6.6", "Connection: Host", "Connection: X-Request-Id"],
        ["Transfer-Encoding: chunked", "Connection: Transfer-Encoding", "X-Client: 6.6.6.6"],
    ],
    ids=str,
)
async def test_a_client_cannot_forge_what_the_route_sets(headers: list[str], origin: Origin, client: RawClient) -> None:
    """Sent once, often, in any case, or named in Connection: the backend gets what the operator wrote, once."""
    body = chunked(b"6") if "Transfer-Encoding: chunked" in headers else b""
    assert (await client.ask(get("set.test", "/", *headers, method="PUT") + body)).status == 200
    (request,) = origin.requests
    assert b"6.6.6.6" not in request.raw
    assert (request.get("authorization"), request.get("x-client")) == (SECRET.encode(), client.source.encode())
    assert (request.get("host"), request.all("cookie")) == (b"set.test", [])
    assert len(request.all("x-request-id")) == 1
    assert request.body == (b"6" if body else b"")


async def test_another_host_for_the_backend(origin: Origin, client: RawClient) -> None:
    """Host is replaced, ``$host`` and ``$uri`` are still the client's, and X-Forwarded-Host tells of it."""
    await client.ask(get("Inner.test:81", "/in/%41/x"))
    (request,) = origin.requests
    assert request.raw.startswith(b"GET /%41/x HTTP/1.1\r\nHost: ") or request.get("host")
    assert (request.get("host"), request.get("x-forwarded-host")) == (b"inner.example:8080", b"Inner.test:81")
    assert (request.get("x-uri"), request.get("x-host")) == (b"/in/A/x", b"inner.test")


async def test_our_own_headers_are_the_routes_to_change(origin: Origin, behind: RawClient) -> None:
    """X-Forwarded-* and X-Request-Id as well, also those of a trusted sender, which would be kept."""
    came = [
        "X-Forwarded-For: 203.0.113.9",
        "X-Forwarded-Host: h",
        "X-Real-IP: 1",
        "Forwarded: for=1",
        "X-Request-Id: i",
    ]
    await behind.ask(get("ours.test", "/", *came))
    (request,) = origin.requests
    assert request.get("x-forwarded-for") == b"203.0.113.9"
    assert (request.get("x-forwarded-proto"), request.get("x-request-id")) == (b"https", b"mine")
    assert not {b"x-forwarded-host", b"forwarded", b"x-real-ip"} & request.names()
    assert request.get("x-forwarded-port") is not None


async def test_what_frames_a_message_survives_the_changes(origin: Origin, client: RawClient) -> None:
    """Length, chunks, Expect, TE and an upgrade are as on a route that changes nothing."""
    await client.ask(post("set.test", b"abc", "Expect: 100-continue"))
    await client.ask(get("set.test", "/", "Transfer-Encoding: chunked", method="POST") + chunked(b"d"))
    await client.ask(get("set.test", "/", "TE: trailers", "Connection: TE"))
    await client.ask(get("set.test", "/", "Connection: Upgrade, X-Uri", "Upgrade: websocket", "Keep-Alive: 6"))
    length, chunks, trailers, upgrade = origin.requests
    assert (length.body, length.get("content-length"), length.get("expect")) == (b"abc", b"3", b"100-continue")
    assert (chunks.body, chunks.get("transfer-encoding"), chunks.get("content-length")) == (b"d", b"chunked", None)
    assert (trailers.get("te"), (trailers.get("connection") or b"").lower()) == (b"trailers", b"te")
    assert (upgrade.get("upgrade"), (upgrade.get("connection") or b"").lower()) == (b"websocket", b"upgrade")
    assert b"keep-alive" not in upgrade.names()


# ---- response headers

BACKEND = (
    b"Server: x/1\r\nserver: y\r\nX-Powered-By: z\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nx-id: forged\r\nX-Kept: 1\r\n"
)


def check_rewritten(answer: Message) -> None:
    """Check what the route says about an answer's headers."""
    assert answer.get("strict-transport-security") == b"max-age=1"
    assert answer.get("cache-control") == b"no-store"
    assert re.fullmatch(rb"[A-Za-z0-9._-]{8,}", answer.get("x-id") or b"")
    assert not {b"server", b"x-powered-by", b"set-cookie"} & answer.names()


async def test_headers_of_an_answer(program: Rewriting, origin: Origin, client: RawClient) -> None:
    """A backend's own are replaced or gone however often they came; framing and the rest are its."""
    origin.play(serve(BACKEND))
    answers = [await client.ask(get("resp.test", "/x", method=method)) for method in ("GET", "HEAD", "PUT")]
    for answer in answers:
        check_rewritten(answer)
        assert (answer.get("x-kept"), answer.get("content-length"), answer.get("x-uri")) == (b"1", b"2", b"/x")
    ids = [line.id.encode() for line in await program.log.await_lines(3, client.source)]
    assert [answer.get("x-id") for answer in answers] == ids == [r.get("x-request-id") for r in origin.requests]
    untouched = await client.ask(get("web.test", "/x"))
    assert (len(untouched.all("server")), len(untouched.all("set-cookie"))) == (2, 2)


@pytest.mark.parametrize(
    ("start", "rest", "body"),
    [
        (b"304 Not Modified", b"\r\n", b""),
        (b"204 No Content", b"\r\n", b""),
        (b"500 Oops", b"Content-Length: 1\r\n\r\nx", b"x"),
        (b"200 OK", b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", b"x"),
        (b"200 OK", b"Connection: close\r\n\r\nx", b"x"),
    ],
)
async def test_every_kind_of_answer_is_changed(
    start: bytes, rest: bytes, body: bytes, origin: Origin, client: RawClient
) -> None:
    """Whatever the status and however its end is known."""
    origin.play(reply(b"HTTP/1.1 " + start + b"\r\n" + BACKEND + rest, then="close"))
    answer = await client.ask(get("resp.test"))
    check_rewritten(answer)
    assert answer.raw.startswith(b"HTTP/1.1 " + start + b"\r\n")
    assert answer.body == body


async def test_an_accepted_upgrade_is_changed(origin: Origin, client: RawClient) -> None:
    """A 101 is the answer to its request like any other; what it agrees on stays."""
    answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n" + BACKEND
    origin.play(reply(answer + b"\r\n", then="close"))
    got = await client.ask(get("resp.test", "/", "Connection: upgrade", "Upgrade: x"))
    assert (got.status, got.get("upgrade")) == (101, b"x")
    check_rewritten(got)


async def test_our_own_answers_are_changed(program: Rewriting, origin: Origin, connect_to: Connect) -> None:
    """502, 413 and 403 on the route have its headers, like an answer of the backend's; a 400 has no route."""
    asked = {
        502: get("resp.test", "/dead/"),
        413: post("resp.test", b"x" * 11, target="/small/"),
        403: get("resp.test", "/nobody/"),
    }
    for status, raw in asked.items():
        client = await connect_to(program.port)
        answer = await client.ask(raw)
        check_rewritten(answer)
        assert (answer.status, answer.get("content-length")) == (status, b"%d" % len(answer.body))
        (line,) = await program.log.await_lines(1, client.source)
        assert answer.get("x-id") == line.id.encode()
    answer = await (await connect_to(program.port)).ask(b"GET / HTTP/1.1\r\nHost: resp.test\r\nX : 1\r\n\r\n")
    assert (answer.status, answer.get("x-id")) == (400, None)


async def test_a_redirect_is_changed(client: RawClient) -> None:
    """Its headers too are the route's."""
    answer = await client.ask(get("resp.test", "/away/", "X-Request-Id: mine"))
    assert (answer.get("location"), answer.get("x-id"), answer.get("date")) == (b"/there", b"mine", None)
    assert answer.get("content-length") == b"%d" % len(answer.body)
