"""Connections that serve many requests: keep-alive on both sides, pipelining, HTTP/1.0, and when they end."""

import asyncio

import pytest

from tests.integration.client import chunked, get, post
from tests.integration.conftest import Connect
from tests.integration.origin import OK, Origin, OriginConnection, hang, reply, serve
from tests.integration.shared import SharedProgram
from tests.integration.wire import End


async def test_one_connection_on_each_side(proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """Requests one after the other use one connection downstream and one upstream."""
    client = await connect()
    for number in range(20):
        assert (await client.ask(get("solo.test", f"/{number}"))).body == b"/%d" % number
    assert len(origin.connections) == 1
    assert [line.end for line in await proxy.log.await_lines(20, client.source)] == ["--"] * 20


async def test_clients_share_upstream_connections(connect: Connect, origin: Origin) -> None:
    """An upstream connection that one client's request left idle serves another client's."""
    for _ in range(5):
        assert (await (await connect()).ask(get("solo.test"))).status == 200
    assert len(origin.connections) == 1


@pytest.mark.parametrize(
    ("headers", "version", "stays"),
    [
        ([], "1.1", True),
        (["Connection: keep-alive"], "1.1", True),
        (["Connection: close"], "1.1", False),
        (["Connection: Close"], "1.1", False),
        (["Connection: x, close"], "1.1", False),
        (["Connection: keep-alive, close"], "1.1", False),
        (["Connection: keep-alive", "Connection: close"], "1.1", False),
        ([], "1.0", False),
        (["Connection: keep-alive"], "1.0", True),
        (["Connection: Keep-Alive"], "1.0", True),
        (["Connection: close"], "1.0", False),
    ],
    ids=str,
)
async def test_who_keeps_the_connection(
    headers: list[str], version: str, stays: bool, connect: Connect, origin: Origin
) -> None:
    """The client's version and Connection decide; the answer says what becomes of the connection."""
    client = await connect()
    answer = await client.ask(get("solo.test", "/", *headers, version=version))
    assert answer.start[0] == b"HTTP/1.1"
    if stays:
        assert (answer.get("connection") or b"").lower() == (b"keep-alive" if version == "1.0" else b"")
        assert (await client.ask(get("solo.test", "/next"))).body == b"/next"
    else:
        assert answer.get("connection") == b"close"
        await client.expect_eof()
    assert len(origin.connections) == 1, "the upstream connection doesn't care"


async def test_1_0_without_host(proxy: SharedProgram, connect: Connect) -> None:
    """HTTP/1.0 may leave Host out: the request is routed as one that names no host."""
    client = await connect()
    assert (await client.ask(b"GET / HTTP/1.0\r\n\r\n")).status == 404
    (line,) = await proxy.log.await_lines(1, client.source)
    assert (line.request, line.end) == ("GET / HTTP/1.0", "PR")


async def test_upstream_is_asked_in_1_1(connect: Connect, origin: Origin) -> None:
    """The backend's connection has its own version and persistence."""
    await (await connect()).ask(get("solo.test", "/", "Connection: close", version="1.0"))
    request = origin.requests[0]
    assert request.start[2] == b"HTTP/1.1"
    assert b"close" not in (request.get("connection") or b"")


async def test_fifty_in_one_segment(proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """Fifty pipelined requests are answered fifty times, in order."""
    client = await connect()
    await client.send(b"".join(get("solo.test", f"/{number}") for number in range(50)))
    answers = await client.responses(50)
    assert [answer.body for answer in answers] == [b"/%d" % number for number in range(50)]
    lines = await proxy.log.await_lines(50, client.source)
    assert [line.request for line in lines] == [f"GET /{number} HTTP/1.1" for number in range(50)]


async def test_pipeline_over_backends_of_different_speed(connect: Connect, origin: Origin, other: Origin) -> None:
    """Answers come in the order of the requests, although a later one's backend would have been faster."""

    async def slow(connection: OriginConnection) -> None:
        while True:
            request = await connection.request()
            await asyncio.sleep(0.05)
            await connection.send(OK.replace(b"ok", request.target))

    origin.play(slow)
    client = await connect()
    await client.send(b"".join(get("pair.test", f"/{number}") for number in range(8)))
    answers = [await client.read_response() for _ in range(8)]
    assert [answer.body for answer in answers] == [b"/%d" % number for number in range(8)]
    assert origin.requests
    assert other.requests


async def test_pipeline_with_refusals_in_between(proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """Our own answers take their place in the order."""
    client = await connect()
    hosts = ["solo.test", "nowhere.test", "dead.test", "solo.test", "empty.test", "solo.test"]
    await client.send(b"".join(get(host) for host in hosts))
    statuses = [answer.status for answer in await client.responses(6)]
    assert statuses == [200, 404, 502, 200, 503, 200]
    assert [line.status for line in await proxy.log.await_lines(6, client.source)] == statuses
    assert len(origin.requests) == 3


async def test_pipeline_of_bodies_and_heads(connect: Connect, origin: Origin) -> None:
    """Uploads in both framings, HEADs and GETs follow each other in one segment and are told apart."""
    client = await connect()
    chunks = get("solo.test", "/2", "Transfer-Encoding: chunked", method="POST") + chunked(b"one", b"two")
    await client.send(
        post("solo.test", get("solo.test", "/no"), target="/1")
        + chunks
        + get("solo.test", "/33", method="HEAD")
        + get("solo.test", "/4")
    )
    first, second = await client.responses(2)
    third = await client.read_response(bodiless=True)
    fourth = await client.read_response()
    assert [first.body, second.body, third.get("content-length"), fourth.body] == [b"/1", b"/2", b"3", b"/4"]
    assert [request.body for request in origin.requests] == [get("solo.test", "/no"), b"onetwo", b"", b""]


async def test_pipeline_split_at_every_byte(connect: Connect, origin: Origin) -> None:
    """Three requests, cut in two at each place, give the same three answers."""
    raw = get("solo.test", "/1") + post("solo.test", b"body", target="/2") + get("solo.test", "/3")
    client = await connect()
    for at in range(1, len(raw)):
        await client.send(raw[:at])
        await asyncio.sleep(0.001)
        await client.send(raw[at:])
        assert [answer.body for answer in await client.responses(3)] == [b"/1", b"/2", b"/3"]
    assert {request.body for request in origin.requests} == {b"", b"body"}


async def test_pipeline_byte_by_byte(connect: Connect, origin: Origin) -> None:
    """The same three requests in segments of one byte."""
    client = await connect()
    await client.drip(get("solo.test", "/1") + post("solo.test", b"body", target="/2") + get("solo.test", "/3"))
    assert [answer.body for answer in await client.responses(3)] == [b"/1", b"/2", b"/3"]
    assert len(origin.requests) == 3


async def test_pipeline_ends_with_connection_close(proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """Nothing behind a request that said close is served."""
    client = await connect()
    await client.send(get("solo.test", "/1") + get("solo.test", "/2", "Connection: close") + get("solo.test", "/3"))
    assert [answer.body for answer in await client.responses(2)] == [b"/1", b"/2"]
    await client.expect_closed()
    await proxy.log.await_lines(2, client.source)
    assert [request.target for request in origin.requests] == [b"/1", b"/2"]


async def test_a_flood_of_requests_is_held_back(connect: Connect, origin: Origin) -> None:
    """A client that pipelines without reading is not read without bound; when it reads, all is answered."""
    body = b"x" * 16384
    origin.play(serve(body=body))
    client = await connect(receive_buffer=4096)
    sender = asyncio.create_task(client.send(get("solo.test") * 500))
    await origin.request()
    for _ in range(500):
        assert (await client.read_response()).body == body
    await sender
    assert len(origin.requests) == 500


async def test_client_max_requests(hasty: SharedProgram, connect_hasty: Connect, hasty_origin: Origin) -> None:
    """The last request that a connection may carry is answered with close, and the connection ends."""
    client = await connect_hasty()
    answers = [await client.ask(get("solo.test")) for _ in range(3)]
    assert [answer.get("connection") for answer in answers] == [None, None, b"close"]
    await client.expect_eof()
    assert len(hasty_origin.requests) == 3
    assert len(await hasty.log.await_lines(3, client.source)) == 3


async def test_upstream_max_requests(connect: Connect, origin: Origin) -> None:
    """An upstream connection serves keepalive.max_requests and no more."""
    client = await connect()
    for _ in range(5):
        assert (await client.ask(get("two-each.test"))).status == 200
    assert [len(connection.requests) for connection in origin.connections] == [2, 2, 1]
    await origin.connections[0].ended()


async def test_upstream_idle_timeout(connect: Connect, origin: Origin) -> None:
    """An upstream connection that is idle for longer than keepalive.idle is closed."""
    client = await connect()
    assert (await client.ask(get("brief.test"))).status == 200
    await origin.connections[0].ended()
    assert (await client.ask(get("brief.test"))).status == 200
    assert len(origin.connections) == 2


async def test_downstream_idle_timeout(hasty: SharedProgram, connect_hasty: Connect, hasty_origin: Origin) -> None:
    """An idle keep-alive connection of a client just closes: no answer, no log line."""
    client = await connect_hasty()
    assert (await client.ask(get("solo.test"))).status == 200
    await client.expect_eof()
    assert len(await hasty.log.await_lines(1, client.source)) == 1
    assert len(hasty_origin.requests) == 1


async def test_connection_without_a_request_ends(hasty: SharedProgram, connect_hasty: Connect) -> None:
    """A client that connects and says nothing is let go of, in whatever way, without a backend's attempt."""
    client = await connect_hasty()
    await client.read_rest()
    assert client.end is End.EOF
    await hasty.settled()


async def test_backend_says_close(connect: Connect, origin: Origin) -> None:
    """A backend's ``Connection: close`` ends its connection, not the client's."""
    origin.play(reply(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), then="hang"), serve())
    client = await connect()
    first = await client.ask(get("solo.test"))
    assert (first.body, first.get("connection")) == (b"ok", None)
    await origin.connections[0].ended()
    assert (await client.ask(get("solo.test", "/next"))).body == b"/next"
    assert len(origin.connections) == 2


async def test_stale_connection_is_replaced(proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """A backend that closes its idle connection costs nobody a request."""
    origin.play(reply(OK, then="close"), serve())
    client = await connect()
    assert (await client.ask(get("solo.test"))).body == b"ok"
    await origin.connections[0].ended()
    assert (await client.ask(post("solo.test", b"x", target="/next"))).body == b"/next"
    assert [line.tries for line in await proxy.log.await_lines(2, client.source)] == [1, 1]


async def test_concurrent_requests_use_connections_of_their_own(connect: Connect, origin: Origin) -> None:
    """An upstream connection carries one exchange at a time."""
    origin.play(hang, hang, serve())
    stuck = [await connect() for _ in range(2)]
    for client in stuck:
        await client.send(get("solo.test"))
        await origin.request()
    assert (await (await connect()).ask(get("solo.test", "/free"))).body == b"/free"
    assert len(origin.connections) == 3


@pytest.mark.parametrize("value", ["close", "keep-alive", "upgrade"])
async def test_proxy_connection_means_nothing(value: str, connect: Connect, origin: Origin) -> None:
    """The header that never was a standard leaves the connection usable or closed, never stuck."""
    client = await connect()
    answer = await client.ask(get("solo.test", "/1", f"Proxy-Connection: {value}", "Upgrade: x"))
    assert answer.body == b"/1"
    if answer.get("connection") == b"close":
        await client.expect_eof()
    else:
        assert (await client.ask(get("solo.test", "/2"))).body == b"/2"
    assert origin.requests[0].all("upgrade") == []


async def test_proxy_connection_of_a_backend_means_nothing(connect: Connect, origin: Origin) -> None:
    """The same header from a backend doesn't spoil the next request."""
    origin.play(reply(OK.replace(b"\r\n\r\n", b"\r\nProxy-Connection: close\r\n\r\n"), then="serve"), serve())
    client = await connect()
    assert (await client.ask(get("solo.test"))).body == b"ok"
    assert (await client.ask(get("solo.test", "/next"))).body == b"/next"
