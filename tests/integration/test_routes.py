"""Which route takes a request and who may come in, on the running program with two thousand routes."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.integration.client import RawClient, get, post, unique_source
from tests.integration.conftest import Connect, StartOrigin
from tests.integration.origin import Origin, OriginConnection
from tests.integration.ports import Ports
from tests.integration.program import Program, lend, run_until_stopped
from tests.integration.wire import Message

MANY = 1960  # routes that only have to be told apart; with the others there are two thousand
TENANTS = [f"tenant{number}.test" for number in range(20)]


def lead(name: str, **conditions: Any) -> dict[str, Any]:
    """Make a route that says its name: it redirects to ``/name``."""
    return {**conditions, "redirect": {"to": f"/{name}", "status": 302}}


CLASSES = [
    lead("any", path="/any/"),
    lead("wild", host="*.classes.test"),
    lead("deep", host="*.deep.classes.test"),
    lead("exact", host="www.classes.test"),
    lead("exact-deep", host="www.deep.classes.test", path="/only/"),
    lead("exact-post", host="www.deep.classes.test", path="/", methods=["POST"]),
    lead("deep-path", host="*.deep.classes.test", path="/only/further/"),
    lead("six", host="[::1]"),
]
PATHS = [
    lead("root", host="paths.test"),
    lead("api", host="paths.test", path="/api/"),
    lead("v2", host="paths.test", path="/api/v2"),
    lead("spaced", host="paths.test", path="/api/x y/"),
    lead("umlaut", host="paths.test", path="/ä/"),
]
CONDITIONS = [
    lead("plain", host="cond.test"),
    lead("read", host="cond.test", methods=["GET", "OPTIONS"]),
    lead("canary", host="cond.test", headers={"X-Canary": "1"}),
    lead("joined", host="cond.test", headers={"X-Canary": "1, 2"}),
    lead("second", host="cond.test", listeners=["second", "unix"]),
    lead("user", host="cond.test", headers={"X-Canary": "1", "X-User": "a"}),
    lead("write-canary", host="cond.test", methods=["POST"], headers={"x-canary": "1"}),
    lead("all-three", host="cond.test", methods=["GET"], headers={"X-Canary": "1"}, listeners=["second"]),
    lead("long", host="cond.test", path="/long/"),
]
ALLOWED = [
    {"host": "allow.test", "allow": ["198.51.100.0/24", "2001:db8::/32"], "pool": "web"},
    {"host": "*.test", "path": "/allow/", "pool": "web"},
    {"host": "six.test", "allow": ["::1"], "pool": "web"},
    {"host": "local.test", "allow": ["unix:"], "pool": "web"},
    {"host": "open.test", "pool": "web"},
    lead("come-in", host="away.test", allow=["198.51.100.0/24"]),
]


def many() -> list[dict[str, Any]]:
    """Routes of all kinds: a third by host, a third by path, a third by a header's value."""
    kinds: list[Callable[[int], dict[str, Any]]] = [
        lambda number: {"host": f"n{number}.many.test"},
        lambda number: {"host": "many.test", "path": f"/{'deep/' * (number % 7)}n{number}/"},
        lambda number: {"host": "*.many.test", "path": "/headers/", "headers": {"X-Number": str(number)}},
    ]
    return [lead(f"n{number}", **kinds[number % 3](number)) for number in range(MANY)]


def request_of(number: int) -> bytes:
    """Ask for what ``many`` has under that number."""
    if number % 3 == 0:
        return get(f"N{number}.many.test:80", "/x")
    if number % 3 == 1:
        return get("many.test", f"/{'deep/' * (number % 7)}n{number}?x")
    return get("x.many.test", "/%68eaders/x", f"x-number: {number}")


class Routed(Program):
    """A program with all the routes above, and a pool for each tenant."""

    def __init__(self, directory: Path, ports: Ports) -> None:
        self.second, self.port6, self.origin_port = ports.take(), ports.take(), ports.take()
        self.path = directory / "pyproxy.sock"
        self.tenant_ports = {tenant: ports.take() for tenant in TENANTS}
        origins = {"web": self.origin_port, **self.tenant_ports}
        super().__init__(
            directory,
            ports,
            {
                "trusted_proxies": ["127.9.0.0/16", "unix:"],
                "client": {"max_requests": 100_000},
                "routes": [
                    *CLASSES,
                    *many(),
                    *PATHS,
                    *CONDITIONS,
                    *ALLOWED,
                    *({"host": tenant, "pool": tenant} for tenant in TENANTS),
                ],
                "pools": {
                    pool: {"backends": [{"name": "a", "address": f"127.0.0.1:{port}"}]}
                    for pool, port in origins.items()
                },
            },
        )
        self.config["listeners"] += [
            {"name": "second", "bind": f"127.0.0.1:{self.second}"},
            {"name": "six", "bind": f"[::1]:{self.port6}"},
            {"name": "unix", "bind": f"unix:{self.path}"},
        ]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, ports: Ports) -> Iterator[Routed]:
    """One program for all tests here."""
    yield from run_until_stopped(Routed(tmp_path_factory.mktemp("routed"), ports))


@pytest.fixture
async def program(running: Routed) -> AsyncIterator[Routed]:
    """The program; when the test's clients and origins are gone, nothing may be left in flight."""
    async for lent in lend(running):
        yield lent


@pytest.fixture
async def origin(program: Routed, start_origin: StartOrigin) -> Origin:
    """The backend of pool ``web``."""
    return start_origin(program.origin_port)


@pytest.fixture
async def client(program: Routed, connect_to: Connect) -> RawClient:
    """A connection to the first listener."""
    return await connect_to(program.port)


async def connect_unix(path: Path) -> RawClient:
    """Connect through a unix socket."""
    sock = socket.socket(socket.AF_UNIX)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, str(path))
    return RawClient(sock, "unix:")


def taken(answer: Message) -> str:
    """Name the route that took a request: it redirects there; else the status."""
    return (answer.get("location") or b"/%d" % answer.status)[1:].decode()


# ---- hosts

HOSTS = {
    "exact": "www.classes.test/ WWW.Classes.TEST:8080/any/ www.classes.test./ www.classes.test.:80/",
    "wild": "other.classes.test/ a.b.c.classes.test:1/any/ deep.classes.test/ x.notdeep.classes.test/",
    "deep": "x.deep.classes.test/ x.y.deep.classes.test/ www.deep.classes.test/",
    "deep-path": "x.deep.classes.test/only/further/",
    "exact-deep": "www.deep.classes.test/only/x www.deep.classes.test/only/further/",
    "six": "[::1]:8080/ [::1]/any/",
    "any": "classes.test/any/x 127.0.0.1/any [::2]/any/",
    "404": "classes.test/ xclasses.test/ www.classes.test.evil.example/ [::2]/ 127.0.0.1/",
}


async def test_hosts(client: RawClient) -> None:
    """An exact host before the longest wildcard before none; where none of a class fits, the next one is asked."""

    async def find(place: str) -> str:
        host, slash, path = place.partition("/")
        return taken(await client.ask(get(host, slash + path)))

    for name, places in HOSTS.items():
        assert {place: await find(place) for place in places.split()} == dict.fromkeys(places.split(), name)


async def test_a_method_that_no_route_of_the_exact_host_takes(client: RawClient) -> None:
    """The exact host has one for POST only, so that a GET goes to the wildcard's; on one connection."""
    methods = ("POST", "GET", "POST", "PUT")
    answers = [await client.ask(get("www.deep.classes.test", method=method)) for method in methods]
    assert [taken(answer) for answer in answers] == ["exact-post", "deep", "exact-post", "deep"]


async def test_without_a_host(program: Routed, connect_to: Connect) -> None:
    """HTTP/1.0 without Host, and an empty one, meet the routes for any host and no others."""
    for target, name in (("/any/", "any"), ("/", "404")):
        for raw in (f"GET {target} HTTP/1.0\r\n\r\n", f"GET {target} HTTP/1.1\r\nHost:\r\n\r\n"):
            assert taken(await (await connect_to(program.port)).ask(raw.encode())) == name


async def test_an_absolute_target_names_the_host(program: Routed, connect_to: Connect) -> None:
    """Its authority is what counts where there is no Host; where there is one they are the same, or it is a 400."""
    client = await connect_to(program.port)
    assert taken(await client.ask(get("www.classes.test", "http://WWW.classes.test/any/"))) == "exact"
    assert taken(await client.ask(get("paths.test:81", "http://paths.test:81/api?x"))) == "api"
    assert taken(await client.ask(get("www.classes.test", "http://paths.test/api"))) == "400"
    assert taken(await (await connect_to(program.port)).ask(b"GET http://paths.test/api HTTP/1.0\r\n\r\n")) == "api"


# ---- paths

TARGETS = {
    "root": "/ /apix /ap /API /api;x /x?/api/ /%2561pi /% /api/../x /api/v2/../..",
    "api": "/api /api/ //api /%2fapi /.//api /api? /api?x=/api/v2 /api/v22 /%61pi /api/%zz /x/../api/ /../../api "
    "/./api /api/v2/.. /api/../api /api/%252e%252e/x /api/x /api/x%2520y /api/v2%3F /api/x%20yz",
    "v2": "/api/v2 /api//v2 /api/v2/ /api/v2? /api/%76%32/z /api%2Fv2 /api/v2/./.",
    "spaced": "/api/x%20y /api/x%20y/z /api/x%20y/./",
    "umlaut": "/%C3%A4 /%c3%a4/x",
}


async def test_paths(client: RawClient) -> None:
    """The longest path wins, by whole segments, after decoding once and following the dots."""
    for name, targets in TARGETS.items():
        found = {target: taken(await client.ask(get("paths.test", target))) for target in targets.split()}
        assert found == dict.fromkeys(targets.split(), name)


async def test_options_for_the_whole_server(client: RawClient) -> None:
    """``*`` is no path: the host's route for all of them takes it."""
    assert taken(await client.ask(get("paths.test", "*", method="OPTIONS"))) == "root"


# ---- conditions


@pytest.mark.parametrize(
    ("method", "target", "headers", "name"),
    [
        ("DELETE", "/", [], "plain"),
        ("GET", "/", [], "read"),
        ("OPTIONS", "/", [], "read"),
        ("HEAD", "/", [], "plain"),
        ("GET", "/long", [], "long"),
        ("GET", "/long/x", ["X-Canary: 1", "X-User: a"], "long"),
        ("PUT", "/", ["X-Canary: 1"], "canary"),
        ("GET", "/", ["X-Canary: 1"], "read"),
        ("PUT", "/", ["x-CANARY:  1  "], "canary"),
        ("PUT", "/", ["X-Canary: 2"], "plain"),
        ("PUT", "/", ["X-Canary: 11"], "plain"),
        ("PUT", "/", ["X-Canary:"], "plain"),
        ("PUT", "/", ["X_Canary: 1"], "plain"),
        ("PUT", "/", ["X-Canary-2: 1", "XX-Canary: 1", "X-Other: X-Canary: 1"], "plain"),
        ("PUT", "/", ["X-Canary: 1", "X-Canary: 2"], "joined"),
        ("PUT", "/", ["X-Canary: 1, 2"], "joined"),
        ("PUT", "/", ["X-Canary: 2", "X-Canary: 1"], "plain"),
        ("GET", "/", ["X-Canary: 1", "X-User: a"], "user"),
        ("POST", "/", ["X-Canary: 1", "X-User: a"], "user"),
        ("POST", "/", ["X-Canary: 1", "X-User: A"], "write-canary"),
        ("POST", "/", ["X-User: a"], "plain"),
    ],
)
async def test_conditions(method: str, target: str, headers: list[str], name: str, client: RawClient) -> None:
    """After the path, more conditions win, then the order of the file; a value is compared whole and with its case."""
    assert taken(await client.ask(get("cond.test", target, *headers, method=method))) == name


async def test_listeners(program: Routed, connect_to: Connect) -> None:
    """Only who came in there takes the route; one more condition wins there as well."""
    second, six = await connect_to(program.second), await connect_to(program.port6, host="::1")
    assert taken(await second.ask(get("cond.test", method="PUT"))) == "second"
    assert taken(await second.ask(get("cond.test"))) == "read"  # one condition each: it stands first
    assert taken(await second.ask(get("cond.test", "/", "X-Canary: 1"))) == "all-three"
    assert taken(await six.ask(get("cond.test", method="PUT"))) == "plain"
    with closing(await connect_unix(program.path)) as unix:
        assert taken(await unix.ask(get("cond.test", method="PUT"))) == "second"
        assert taken(await unix.ask(get("cond.test", "/", "X-Canary: 1", "X-User: a"))) == "user"


# ---- many


async def test_every_one_of_two_thousand_routes_is_found(program: Routed, client: RawClient) -> None:
    """One after the other down one connection, in an order that no table has: each takes its own."""
    assert len(program.config["routes"]) > 2000
    numbers = random.Random(3).sample(range(MANY), MANY)
    sending = asyncio.ensure_future(client.send(b"".join(map(request_of, numbers))))
    assert [taken(answer) for answer in await client.responses(MANY)] == [f"n{number}" for number in numbers]
    await sending
    lines = await program.log.await_lines(MANY, client.source)
    assert {(line.status, line.end, line.tries) for line in lines} == {(302, "PR", 0)}


def echo(name: str) -> Callable[[OriginConnection], Awaitable[None]]:
    """Answer with everything that tells one request from another, after a moment now and then."""
    dice = random.Random(name)

    async def script(connection: OriginConnection) -> None:
        while True:
            request = await connection.request()
            said = b" ".join((name.encode(), request.get("host") or b"", request.target, request.body))
            head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(said)
            if dice.random() < 0.1:
                await asyncio.sleep(dice.random() / 50)
            cut = dice.randrange(len(said))
            await connection.send(head + said[:cut])
            await connection.send(said[cut:])

    return script


async def test_hosts_are_never_mixed(program: Routed, start_origin: StartOrigin, connect_to: Connect) -> None:
    """Forty clients, each going to and fro between twenty hosts, some leaving in the middle: to each its own answer."""
    origins = {tenant: start_origin(port, name=tenant) for tenant, port in program.tenant_ports.items()}
    for tenant, origin in origins.items():
        origin.play(echo(tenant))

    async def visit(number: int) -> int:
        dice = random.Random(number)
        client = await connect_to(program.port)
        answered = 0
        for turn in range(25):
            tenant = dice.choice(TENANTS)
            target, body = f"/{number}/{turn}", dice.randbytes(dice.choice((0, 9, 20_000))).hex().encode()
            spelled = dice.choice((tenant, tenant.upper(), f"{tenant}:80"))
            await client.send(post(spelled, body, target=target) if body else get(spelled, target))
            if dice.random() < 0.05:
                client.close()
                client = await connect_to(program.port)
                continue
            answer = await client.read_response()
            assert answer.body == b" ".join((tenant.encode(), spelled.encode(), target.encode(), body))
            answered += 1
        client.close()
        return answered

    before = {tenant: program.metric("pyproxy_requests_total", pool=tenant, code="2xx") for tenant in TENANTS}
    answered = sum(await asyncio.gather(*(visit(number) for number in range(40))))
    assert answered > 800
    await program.settled()
    for tenant, origin in origins.items():
        hosts = {(request.get("host") or b"").lower().removesuffix(b":80") for request in origin.requests}
        assert hosts == {tenant.encode()}
    after = {tenant: program.metric("pyproxy_requests_total", pool=tenant, code="2xx") for tenant in TENANTS}
    assert sum(after.values()) - sum(before.values()) >= answered
    assert all(after[tenant] > before[tenant] for tenant in TENANTS)


# ---- who may come in


@pytest.mark.parametrize(
    ("chain", "status"),
    [
        (["198.51.100.7"], 200),
        (["203.0.113.1, 198.51.100.7"], 200),
        (["198.51.100.7, 203.0.113.1"], 403),
        (["198.51.100.7, 127.9.0.9"], 200),
        (["198.51.100.7", "127.9.0.9,127.9.0.8"], 200),
        (["198.51.100.7", "203.0.113.1"], 403),
        (["198.51.100.7, 203.0.113.1, 127.9.0.9"], 403),
        (["2001:DB8::1"], 200),
        (["2001:db9::1"], 403),
        (["::ffff:198.51.100.7"], 200),
        (["198.51.100.7:4711"], 200),
        (["[2001:db8::1]:4711"], 200),
        (["198.51.100.7, unknown"], 403),
        (["198.51.100.7, "], 200),
        (["198.51.100.7, unix:"], 200),
        (["unix:, 203.0.113.1"], 403),
        ([], 403),
    ],
    ids=str,
)
async def test_the_client_of_a_trusted_proxy(
    chain: list[str], status: int, program: Routed, origin: Origin, connect_to: Connect
) -> None:
    """The chain is read from the right: the first that isn't trusted is who must be allowed."""
    client = await connect_to(program.port, source=unique_source(trusted=True))
    lines = [f"X-Forwarded-For: {part}" for part in chain]
    assert (await client.ask(get("allow.test", "/", *lines))).status == status
    assert len(origin.requests) == (status == 200)


async def test_nobody_lets_himself_in(program: Routed, origin: Origin, client: RawClient) -> None:
    """Forwarding headers of who isn't trusted say nothing, and a route for all hosts doesn't help: 403, and logged."""
    forged = ["X-Forwarded-For: 198.51.100.7", "X-Real-IP: 198.51.100.7", "Forwarded: for=198.51.100.7"]
    before = program.metric("pyproxy_requests_total", listener="main", pool="web", code="4xx")
    for target in ("/", "/allow/"):
        assert (await client.ask(get("allow.test", target, *forged))).status == 403
    assert (await client.ask(get("local.test", "/", "X-Forwarded-For: unix:"))).status == 403
    assert origin.received == b""
    lines = await program.log.await_lines(3, client.source)
    assert {(line.status, line.end, line.tries, line.us[0]) for line in lines} == {(403, "PR", 0, "-")}
    await program.await_metric("pyproxy_requests_total", before + 3, listener="main", pool="web", code="4xx")


async def test_after_a_403_the_connection_goes_on(origin: Origin, client: RawClient) -> None:
    """The answer is short and framed, a HEAD has none of it, and what follows is served."""
    await client.send(get("allow.test") + get("open.test", "/1") + get("allow.test", method="HEAD"))
    refused, served = await client.responses(2)
    head = await client.read_response(bodiless=True)
    assert (refused.status, served.body, head.status) == (403, b"/1", 403)
    assert refused.get("connection") is head.get("connection") is None
    assert head.get("content-length") == refused.get("content-length") == b"%d" % len(refused.body)
    assert (await client.ask(get("open.test", "/2"))).body == b"/2"


async def test_the_body_of_a_refused_request_is_no_request(origin: Origin, client: RawClient) -> None:
    """Whether the connection ends or goes on, what was refused isn't read as what comes next."""
    refused = await client.ask(post("allow.test", get("open.test", "/smuggled")))
    assert refused.status == 403
    if refused.get("connection") == b"close":
        await client.expect_eof()
    else:
        assert (await client.ask(get("open.test", "/next"))).body == b"/next"
    assert [request.target for request in origin.requests] in ([], [b"/next"])


async def test_ipv6_and_unix_clients(program: Routed, origin: Origin, connect_to: Connect) -> None:
    """Each is let in by its own kind of network only."""
    six, four = await connect_to(program.port6, host="::1"), await connect_to(program.port)
    asked = "six.test", "local.test", "open.test"
    assert [(await six.ask(get(host))).status for host in asked] == [200, 403, 200]
    assert [(await four.ask(get(host))).status for host in asked] == [403, 403, 200]
    with closing(await connect_unix(program.path)) as unix:
        assert [(await unix.ask(get(host))).status for host in asked] == [403, 200, 200]
        named = get("local.test", "/", "X-Forwarded-For: 203.0.113.1")
        assert (await unix.ask(named)).status == 403  # unix: is trusted, so this is the client
        assert (await unix.ask(get("six.test", "/", "X-Forwarded-For: ::1"))).status == 200
    assert origin.requests[-1].get("x-forwarded-for") == b"::1, unix:"


async def test_allow_comes_before_a_redirect(program: Routed, connect_to: Connect) -> None:
    """Who may not come in isn't told where to go."""
    client = await connect_to(program.port, source=unique_source(trusted=True))
    assert (await client.ask(get("away.test"))).raw.count(b"come-in") == 0
    assert taken(await client.ask(get("away.test", "/", "X-Forwarded-For: 198.51.100.7"))) == "come-in"
