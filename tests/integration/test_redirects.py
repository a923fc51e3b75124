"""Redirects on the running program, and that nothing a client sends can lead away or end a line."""

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest

from tests.integration.client import RawClient, get, post, unique_source
from tests.integration.conftest import Connect, StartOrigin
from tests.integration.origin import Origin
from tests.integration.ports import Ports
from tests.integration.program import Program, lend, run_until_stopped
from tests.integration.wire import Message

STATUSES = (301, 302, 303, 307, 308)
SHOWN = {"X-Uri": "<$uri>", "X-Request-Uri": "$request_uri", "X-Host": "$host", "X-Id": "$request_id"}
LEADS = {
    "uri.test": "$uri",
    "request-uri.test": "$request_uri",
    "root.test": "/$uri",
    "host-uri.test": "https://$host$uri",
    "host-request-uri.test": "https://$host$request_uri",
    "query.test": "/login?next=$request_uri",
}


def lead(host: str | None, to: str, status: int = 302, **rest: Any) -> dict[str, Any]:
    """Make a route that redirects."""
    return {"host": host, "redirect": {"to": to, "status": status}, **rest}


ROUTES = [
    {"host": "web.test", "pool": "web"},
    {"host": "strip.test", "path": "/api/", "strip_prefix": True, "pool": "web"},
    {"host": "set.test", "request_headers": {"set": SHOWN}, "pool": "web"},
    {"host": "resp.test", "response_headers": {"set": SHOWN}, "pool": "web"},
    *(lead(host, to) for host, to in LEADS.items()),
    *(lead("status.test", "https://new.test$request_uri", status, path=f"/{status}/") for status in STATUSES),
    lead("all.test", "$scheme://$host/moved$uri?$request_uri&$client_ip&$request_id&$5"),
    lead(None, "https://$host$uri", path="/reflect/"),
]


class Redirecting(Program):
    """A program with all the routes above."""

    def __init__(self, directory: Path, ports: Ports) -> None:
        self.origin_port, self.port6 = ports.take(), ports.take()
        config = {
            "trusted_proxies": ["127.9.0.0/16"],
            "routes": ROUTES,
            "pools": {"web": {"backends": [{"name": "a", "address": f"127.0.0.1:{self.origin_port}"}]}},
        }
        super().__init__(directory, ports, config)
        self.config["listeners"].append({"name": "six", "bind": f"[::1]:{self.port6}"})


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, ports: Ports) -> Iterator[Redirecting]:
    """One program for all tests here."""
    yield from run_until_stopped(Redirecting(tmp_path_factory.mktemp("redirecting"), ports))


@pytest.fixture
async def program(running: Redirecting) -> AsyncIterator[Redirecting]:
    """The program; when the test's clients and origins are gone, nothing may be left in flight."""
    async for lent in lend(running):
        yield lent


@pytest.fixture
async def origin(program: Redirecting, start_origin: StartOrigin) -> Origin:
    """The backend of pool ``web``."""
    return start_origin(program.origin_port)


@pytest.fixture
async def client(program: Redirecting, connect_to: Connect) -> RawClient:
    """A connection from who isn't trusted."""
    return await connect_to(program.port)


@pytest.fixture
async def behind(program: Redirecting, connect_to: Connect) -> RawClient:
    """A connection from a trusted proxy."""
    return await connect_to(program.port, source=unique_source(trusted=True))


# ---- redirects


async def test_a_redirect_with_every_variable(program: Redirecting, client: RawClient, behind: RawClient) -> None:
    """Each stands for the same as in a header."""
    target = "/a%20b/./%C3%A4?q=1"
    direct = await client.ask(get("ALL.test:81", target, "X-Request-Id: i"))
    location = f"http://all.test/moved/a%20b/%C3%A4?/a%20b/%C3%A4?q=1&{client.source}&i&$5"
    assert direct.get("location") == location.encode()
    named = ["X-Forwarded-For: 2001:db8::7, 127.9.1.1", "X-Forwarded-Proto: https", "X-Request-Id: j"]
    trusted = await behind.ask(get("all.test", "/", *named))
    assert trusted.get("location") == b"https://all.test/moved/?/&2001:db8::7&j&$5"
    (line,) = await program.log.await_lines(1, client.source)
    assert (line.request, line.status, line.end) == (f"GET {target} HTTP/1.1", 302, "PR")
    assert (line.tries, line.ua, line.us, line.bytes, line.id) == (0, ["-"], ["-"], len(direct.body), "i")


async def test_the_client_of_a_redirect_over_ipv6(program: Redirecting, connect_to: Connect) -> None:
    """The address is written as text without brackets."""
    client = await connect_to(program.port6, host="::1")
    location = (await client.ask(get("all.test", "/", "X-Request-Id: i"))).get("location")
    assert location == b"http://all.test/moved/?/&::1&i&$5"


async def test_after_a_redirect_the_connection_goes_on(program: Redirecting, origin: Origin, client: RawClient) -> None:
    """Every status, GET and HEAD, in a pipeline with what a backend answers; counted as without a pool."""
    before = program.metric("pyproxy_requests_total", listener="main", pool="", code="3xx")
    ended = program.metric("pyproxy_terminations_total", end="PR")
    raw = [get("status.test", f"/{status}/?x") for status in STATUSES]
    await client.send(b"".join(raw) + get("web.test", "/mid") + raw[0].replace(b"GET", b"HEAD") + raw[1])
    answers = await client.responses(6)
    assert [answer.status for answer in answers] == [*STATUSES, 200]
    assert [answer.get("location") for answer in answers[:5]] == [b"https://new.test/%d/?x" % s for s in STATUSES]
    head = await client.read_response(bodiless=True)
    last = await client.read_response()
    assert (head.status, last.status, answers[5].body) == (301, 302, b"/mid")
    assert head.get("content-length") == b"%d" % len(answers[0].body)
    assert {answer.get("connection") for answer in [*answers, head, last]} == {None}
    await program.await_metric("pyproxy_requests_total", before + 7, listener="main", pool="", code="3xx")
    await program.await_metric("pyproxy_terminations_total", ended + 7, end="PR")
    lines = await program.log.await_lines(8, client.source)
    assert [line.bytes for line in lines] == [len(answer.body) for answer in [*answers, head, last]]


async def test_redirects_of_http_1_0(program: Redirecting, connect_to: Connect) -> None:
    """The connection closes, unless the client asked for more."""
    closing, staying = await connect_to(program.port), await connect_to(program.port)
    answer = await closing.ask(get("status.test", "/301/", version="1.0"))
    assert (answer.status, answer.get("connection")) == (301, b"close")
    await closing.expect_eof()
    raw = get("status.test", "/301/", "Connection: keep-alive", version="1.0")
    for _ in range(2):
        answer = await staying.ask(raw)
        assert (answer.status, (answer.get("connection") or b"").lower()) == (301, b"keep-alive")


async def test_the_body_of_a_redirected_request(program: Redirecting, origin: Origin, connect_to: Connect) -> None:
    """A large upload reads its answer whole before the connection ends; a small one is never taken for a request."""
    large, small = await connect_to(program.port), await connect_to(program.port)
    await large.send(get("status.test", "/307/", "Content-Length: 2000000", method="PUT"))
    await large.send(b"x" * 2_000_000)
    assert (await large.read_response()).status == 307
    await large.expect_eof()
    answer = await small.ask(post("status.test", get("web.test", "/smuggled"), target="/307/"))
    assert answer.status == 307
    if answer.get("connection") == b"close":
        await small.expect_eof()
    else:
        assert (await small.ask(get("web.test", "/next"))).body == b"/next"
    assert b"/smuggled" not in origin.received


# ---- injection

TARGETS = [
    *("/%0d%0aX-Evil:%201", "/%250d%250aX-Evil:%201", "/%0aX-Evil:1", "/%0dX-Evil:1", "/%E5%98%8A%E5%98%8DX-Evil:1"),
    *(
        "/?%0d%0aX-Evil:%201",
        "/?\\..",
        "/%01%7f%1b",
        "/%20%09",
        "/%e2%80%a8",
        "/a%0d%0a%0d%0a<script>",
        "/%FF",
        "/%",
        "/\xff",
    ),
    *("//evil.example", "//evil.example/%2f", "///evil.example"),
    *("/%2fevil.example", "/%2f%2fevil.example", "/.//evil.example", "/..//evil.example"),
    *("/x/..//evil.example", "/%09/evil.example", "/;//evil.example", "/@evil.example"),
    "http://HOST/x/..//evil.example",
    *("http://HOST//evil.example", "http://HOST", "http://HOST?@evil.example"),
    *("https://HOST//evil.example?x", "HTTP://HOST/%2f/evil.example"),
]
#: What isn't a request at all.
REFUSED = [
    *("/%00%7f%1b", "//evil.example/%2f..", "/\\evil.example", "/\\/evil.example", "/%5cevil.example"),
    *("/%2e%2e//evil.example", "/x/../\\evil.example", "/%2e/%5c%5cevil.example", "/%2e%2e%2f/evil.example"),
    "http://HOST/\\evil.example",
    *("/\r\nX-Evil:1", "/\nX-Evil:1", "/\tevil.example", "/\x7f", "\\\\evil.example", ".evil.example"),
    *("@evil.example", ":80@evil.example", "evil.example/", "http://evil.example/", "http://HOST@evil.example/"),
    *("http://HOST\\@evil.example/", "http:///evil.example", "http:/evil.example", "javascript://HOST/"),
]
OWN = {b"date", b"content-type", b"content-length", b"location"}
VISIBLE = re.compile(rb"/[!-~]*")


@pytest.mark.parametrize("host", LEADS)
async def test_no_target_leads_away_or_ends_a_line(host: str, client: RawClient) -> None:
    """Whatever is asked for, a redirect has its own headers, visible ASCII, and leads to where it was written to."""
    for target in TARGETS:
        answer = await client.ask(get(host, target.replace("HOST", host), "X-Request-Id: i\tj"))
        assert answer.status == 302, (target, answer.raw)
        assert answer.names() == OWN, (target, answer.raw)
        location = answer.get("location") or b""
        assert re.fullmatch(rb"[!-~]+", location), (target, location)
        assert b"evil" not in answer.body.lower()
        assert host_seen(location.decode(), host) == host, (target, location)
        if LEADS[host].startswith("https:"):
            assert location.startswith(b"https://%b/" % host.encode()), (target, location)


def host_seen(location: str, host: str) -> str:
    """Say where a browser goes: to it a backslash is a slash, and more than two before a host are as good as two."""
    seen = re.sub(r"^(https?:)?//+", r"\1//", location.replace("\\", "/"))
    return urlsplit(urljoin(f"http://{host}/", seen)).netloc


async def test_what_is_no_target_leads_nowhere(program: Redirecting, connect_to: Connect) -> None:
    """Line ends, foreign authorities and other schemes are refused before there is a route."""
    for target in REFUSED:
        answer = await (await connect_to(program.port)).ask(get("uri.test", target.replace("HOST", "uri.test")))
        assert answer.status in {400, 505}, (target, answer.raw)
        assert answer.get("location") is None


async def test_no_target_ends_a_line_for_a_backend(origin: Origin, client: RawClient) -> None:
    """Nor in what a backend is told, in the headers of the answer, or in a target that was stripped."""
    plain = await client.ask(get("resp.test"))
    await client.ask(get("set.test"))
    sent = origin.requests[-1].names()
    for target in TARGETS:
        answer = await client.ask(get("set.test", target.replace("HOST", "set.test")))
        request = origin.requests[-1]
        assert (answer.status, request.names()) == (200, sent), target
        check_shown(request)
        answer = await client.ask(get("resp.test", target.replace("HOST", "resp.test")))
        assert (answer.status, answer.names()) == (200, plain.names()), target
        check_shown(answer)
        whole = target.replace("HOST", "strip.test/api") if "HOST" in target else f"/api{target}"
        stripped = await client.ask(get("strip.test", whole))
        if stripped.status == 200:  # else it leads out of the route by its dots
            assert re.fullmatch(rb"(?i:https?://strip\.test)?/[!-~]*", stripped.body), target
    assert b"x-evil" not in set().union(*(request.names() for request in origin.requests))


def check_shown(message: Message) -> None:
    """Check that the headers of SHOWN are one line each, and visible."""
    assert VISIBLE.fullmatch(message.get("x-request-uri") or b"")
    assert VISIBLE.fullmatch((message.get("x-uri") or b"").strip(b"<>"))
    assert re.fullmatch(rb"[a-z.]+", message.get("x-host") or b"")


HOSTS = [
    *("a%0d%0aX-Evil:1", "a%250d%250aX-Evil:1", "evil.example/", "evil.example\\", "a@evil.example", "a b", "a\tb"),
    *("a?b", "a#b", "a,b", "\xe4", '"', "<script>", "a:80:90", "[::1", "::1", "..", ".", ":80", ".:80", ""),
]


@pytest.mark.parametrize("host", HOSTS)
async def test_no_host_ends_a_line(host: str, client: RawClient) -> None:
    """
    A Host is refused, or it is in the location as a host and nothing else.

    ``https:///x`` leads to a host x, to a browser: nobody may be sent there.
    """
    answer = await client.ask(get(host, "/reflect/x"))
    if answer.status != 400:
        assert answer.names() == OWN
        assert re.fullmatch(rb"https://[^/\\@?#\s]+/reflect/x", answer.get("location") or b"")


async def test_who_named_no_host(program: Redirecting, connect_to: Connect) -> None:
    """HTTP/1.0 knows none: the client is sent to the address that it came to."""
    four, six = await connect_to(program.port), await connect_to(program.port6, host="::1")
    for client, host in ((four, b"127.0.0.1"), (six, b"[::1]")):
        answer = await client.ask(b"GET /reflect/x HTTP/1.0\r\n\r\n")
        assert answer.get("location") == b"https://%b/reflect/x" % host
