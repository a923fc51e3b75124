"""How large a body a route takes, and the pages of refusals, on the running program."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.client import RawClient, chunked, get, post
from tests.integration.conftest import Connect, StartOrigin
from tests.integration.origin import Origin, reply
from tests.integration.ports import Ports
from tests.integration.program import Program, lend, run_until_stopped
from tests.integration.wire import DEADLINE

LIMIT = 1000  # of bodies, globally
HEADER_BYTES = 4096
PAGES = {
    400: ("bad.html", "<p>What?\n"),
    403: ("no.json", '{"no": true}'),
    404: ("lost.txt", "Lost \u2014 \xe4\r\n"),
    413: ("large.BIN", "\0\1\2"),
    431: ("long.htm", ""),
    502: ("gone.html", "<p>Gone\n" + "x" * 300_000),
}
TYPES = {
    400: b"text/html; charset=utf-8",
    403: b"application/json",
    404: b"text/plain; charset=utf-8",
    413: b"application/octet-stream",
    431: b"text/html; charset=utf-8",
    502: b"text/html; charset=utf-8",
}


def page(status: int) -> bytes:
    """Give the page of a status."""
    return PAGES[status][1].encode()


def route(host: str, pool: str = "web", **rest: Any) -> dict[str, Any]:
    """Make a route for one host."""
    return {"host": host, "pool": pool, **rest}


ROUTES = [
    route("small.test", body_limit=10),
    route("large.test", body_limit=5000),
    route("web.test"),
    route("dead.test", "dead"),
    route("nobody.test", allow=["192.0.2.1"]),
]


class Refusing(Program):
    """A program with all the routes above, and error pages of each kind."""

    def __init__(self, directory: Path, ports: Ports) -> None:
        self.origin_port = ports.take()
        for name, text in PAGES.values():
            (directory / name).write_text(text, newline="")
        config = {
            "routes": ROUTES,
            "pools": {
                "web": {"backends": [{"name": "a", "address": f"127.0.0.1:{self.origin_port}"}]},
                "dead": {"backends": [{"name": "closed", "address": f"127.0.0.1:{ports.take()}"}]},
            },
            "limits": {"body": LIMIT, "headers": HEADER_BYTES},
            "error_pages": {status: str(directory / name) for status, (name, _) in PAGES.items()},
        }
        super().__init__(directory, ports, config)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, ports: Ports) -> Iterator[Refusing]:
    """One program for all tests here."""
    yield from run_until_stopped(Refusing(tmp_path_factory.mktemp("refusing"), ports))


@pytest.fixture
async def program(running: Refusing) -> AsyncIterator[Refusing]:
    """The program; when the test's clients and origins are gone, nothing may be left in flight."""
    async for lent in lend(running):
        yield lent


@pytest.fixture
async def origin(program: Refusing, start_origin: StartOrigin) -> Origin:
    """The backend of pool ``web``."""
    return start_origin(program.origin_port)


@pytest.fixture
async def client(program: Refusing, connect_to: Connect) -> RawClient:
    """A connection from who isn't trusted."""
    return await connect_to(program.port)


# ---- body_limit


@pytest.mark.parametrize(("host", "limit"), [("web.test", LIMIT), ("small.test", 10), ("large.test", 5000)])
async def test_body_limits(host: str, limit: int, program: Refusing, origin: Origin, connect_to: Connect) -> None:
    """The route's replaces the global one, whether it is larger or smaller: up to it passes, one byte more doesn't."""
    client = await connect_to(program.port)
    head = get(host, "/", "Transfer-Encoding: chunked", method="POST")
    half = limit // 2
    assert (await client.ask(post(host, b"x" * limit))).status == 200
    assert (await client.ask(head + chunked(b"x" * half, b"y" * (limit - half)))).status == 200
    assert [len(request.body) for request in origin.requests] == [limit, limit]
    too_large = {
        "length": post(host, b"x" * (limit + 1)),
        "expect": get(host, "/", f"Content-Length: {limit + 1}", "Expect: 100-continue", method="POST"),
        "chunks": head + chunked(b"x" * half, b"y" * (limit - half), b"z"),
        "begun": head + b"%x\r\n" % (limit + 1) + b"x" * (limit + 1),
    }
    for name, raw in too_large.items():
        client = await connect_to(program.port)
        await client.send(raw)
        answer = await client.read_response()
        assert (answer.status, answer.get("connection"), answer.body) == (413, b"close", page(413)), name
        await client.expect_eof()
        (line,) = await program.log.await_lines(1, client.source)
        assert (line.status, line.end) == (413, "PR"), name
    assert max(len(request.body) for request in origin.requests) == limit
    assert (await (await connect_to(program.port)).ask(post(host, b"x"))).status == 200


async def test_a_chunked_body_that_grows_too_large_spoils_no_connection(
    program: Refusing, origin: Origin, connect_to: Connect
) -> None:
    """The backend sees its request cut short, and what follows comes on another connection."""
    client = await connect_to(program.port)
    await client.send(get("small.test", "/", "Transfer-Encoding: chunked", method="POST") + b"5\r\nhello\r\n")
    connection = await origin.connection()
    async with asyncio.timeout(DEADLINE):
        while b"hello" not in connection.received:
            await asyncio.sleep(0.005)
    await client.send(b"6\r\n world\r\n0\r\n\r\n" + get("web.test", "/smuggled"))
    assert (await client.read_response()).status == 413
    await client.expect_eof()
    await connection.ended()
    assert not bytes(connection.received).endswith(b"0\r\n\r\n")
    assert (await (await connect_to(program.port)).ask(get("web.test", "/next"))).body == b"/next"
    assert [request.target for request in origin.requests] == [b"/next"]


# ---- error pages

REFUSED = {
    400: b"GET / HTTP/1.1\r\nHost: web.test\r\nX : 1\r\n\r\n",
    403: get("nobody.test"),
    404: get("nowhere.test"),
    413: post("web.test", b"x" * (LIMIT + 1)),
    431: get("web.test", "/", "X: " + "x" * HEADER_BYTES),
    502: get("dead.test"),
}


@pytest.mark.parametrize("status", PAGES)
async def test_error_pages(status: int, program: Refusing, connect_to: Connect) -> None:
    """The file's bytes under the status itself, typed by its suffix, before a route is known as well as after."""
    client = await connect_to(program.port)
    answer = await client.ask(REFUSED[status])
    assert (answer.status, answer.body, answer.get("content-type")) == (status, page(status), TYPES[status])
    assert answer.get("content-length") == b"%d" % len(page(status))
    assert answer.names() <= {b"date", b"content-type", b"content-length", b"connection"}
    (line,) = await program.log.await_lines(1, client.source)
    assert (line.status, line.bytes) == (status, len(page(status)))
    if status in {403, 404, 502}:
        assert answer.get("connection") is None
        assert (await client.ask(REFUSED[status])).body == page(status)
    else:
        assert answer.get("connection") == b"close"
        await client.expect_eof()


async def test_error_pages_of_head(program: Refusing, client: RawClient) -> None:
    """The page is only announced, however large, and the connection goes on."""
    for status in (403, 404, 502):
        answer = await client.ask(REFUSED[status].replace(b"GET", b"HEAD"))
        assert (answer.status, answer.get("content-type")) == (status, TYPES[status])
        assert answer.get("content-length") == b"%d" % len(page(status))
    assert (await client.ask(REFUSED[404])).body == page(404)
    assert [line.bytes for line in await program.log.await_lines(4, client.source)] == [0, 0, 0, len(page(404))]


async def test_large_pages_in_a_pipeline(client: RawClient) -> None:
    """A client that asks for twenty before it reads gets them all, whole and in order."""
    await client.send(REFUSED[502] * 20 + REFUSED[404])
    answers = await client.responses(21)
    assert [answer.status for answer in answers] == [502] * 20 + [404]
    assert {answer.body for answer in answers[:20]} == {page(502)}


async def test_a_backends_own_errors_are_its_own(origin: Origin, client: RawClient) -> None:
    """Error pages are for what we refuse."""
    answer = b"HTTP/1.1 %d No\r\nContent-Length: 4\r\n\r\nmine"
    origin.play(reply(answer % 404, answer % 502, answer % 413))
    assert [(await client.ask(get("web.test"))).body for _ in range(3)] == [b"mine"] * 3


async def test_a_refusal_without_a_page(client: RawClient) -> None:
    """It has its short line, and its Allow."""
    answer = await client.ask(get("web.test", method="TRACE"))
    assert (answer.status, answer.get("content-type")) == (405, b"text/plain; charset=utf-8")
    assert b"GET" in (answer.get("allow") or b"")
