"""Upgrades: tunnels with half-close either way, what is not tunnelled, and how tunnels end and are logged."""

import asyncio

import pytest

from tests.integration.client import RawClient, chunked, get, post
from tests.integration.conftest import Connect, StartOrigin, StartProgram
from tests.integration.origin import OK, Origin, OriginConnection, reply, serve
from tests.integration.shared import SharedProgram
from tests.integration.wire import End

SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
UPGRADE = ("Connection: Upgrade", "Upgrade: echo")


async def _echo(connection: OriginConnection) -> None:
    """Switch, then send back what comes until the other half ends; then say goodbye and end too."""
    await connection.request()
    await connection.send(SWITCHING)
    while await connection.fill():
        await connection.send(await connection.read(len(connection.unread())))
    await connection.send(b"bye")
    connection.half_close()


async def _tunnel(client: RawClient, host: str = "solo.test") -> None:
    answer = await client.ask(get(host, "/chat", *UPGRADE))
    assert answer.status == 101
    assert (answer.get("connection") or b"").lower() == b"upgrade"
    assert answer.get("upgrade") == b"echo"


async def test_echo_and_half_close_by_the_client(proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """
    Bytes go both ways.

    The client ends its half, the backend's last words still arrive, then all is closed.
    """
    origin.play(_echo)
    client = await connect()
    await _tunnel(client)
    request = origin.requests[0]
    assert (request.get("upgrade"), (request.get("connection") or b"").lower()) == (b"echo", b"upgrade")
    for number in range(100):
        await client.send(b"message %d\n" % number)
        assert await client.read_until(b"\n") == b"message %d\n" % number
    client.half_close()
    assert await client.read(3) == b"bye"
    await client.expect_eof()
    (line,) = await proxy.log.await_lines(1, client.source)
    assert (line.request, line.status, line.end, line.us) == ("GET /chat HTTP/1.1", 101, "--", ["101"])
    assert line.bytes == sum(len(b"message %d\n" % number) for number in range(100)) + 3


async def test_half_close_by_the_backend(proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """The backend ends its half; what the client sends afterwards still arrives there."""

    async def script(connection: OriginConnection) -> None:
        await connection.request()
        await connection.send(SWITCHING + b"last words")
        connection.half_close()
        assert await connection.read_rest() == b"still here"

    origin.play(script)
    client = await connect()
    await _tunnel(client)
    assert await client.read(10) == b"last words"
    await client.expect_eof()
    await client.send(b"still ")
    await asyncio.sleep(0.05)
    await client.send(b"here")
    client.half_close()
    assert await origin.connections[0].ended() is End.EOF
    (line,) = await proxy.log.await_lines(1, client.source)
    assert (line.status, line.end) == (101, "--")


async def test_bytes_behind_either_head_are_not_lost(connect: Connect, origin: Origin) -> None:
    """What comes in one segment behind the upgrade, or behind the 101, belongs to the tunnel."""

    async def script(connection: OriginConnection) -> None:
        await connection.request()
        await connection.send(SWITCHING + b"welcome")
        assert await connection.read(5) == b"early"
        await connection.send(b"thanks")
        await connection.read_rest()

    origin.play(script)
    client = await connect()
    await client.send(get("solo.test", "/", *UPGRADE) + b"early")
    assert (await client.read_response()).status == 101
    assert await client.read(13) == b"welcomethanks"


async def test_much_data_both_ways_at_once(connect: Connect, origin: Origin) -> None:
    """Megabytes in both directions at once neither mix nor stall."""
    size = 8 * 1024 * 1024
    up, down = b"u" * size, b"d" * size
    arrived = bytearray()

    async def script(connection: OriginConnection) -> None:
        await connection.request()
        await connection.send(SWITCHING)
        sender = asyncio.create_task(connection.send(down))
        arrived.extend(await connection.read(size))
        await sender
        connection.half_close()

    origin.play(script)
    client = await connect()
    await _tunnel(client)
    sender = asyncio.create_task(client.send(up))
    assert await client.read(size) == down
    await sender
    client.half_close()
    await client.expect_eof()
    assert arrived == up


async def test_tunnel_counts_as_active(proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """An open tunnel is an exchange in flight, and is none any more when it ends."""
    origin.play(_echo)
    client = await connect()
    await _tunnel(client)
    await proxy.await_metric("pyproxy_backend_active", 1, pool="solo")
    client.half_close()
    await proxy.await_metric("pyproxy_backend_active", 0, pool="solo")


@pytest.mark.parametrize("leave", ["close", "reset"])
async def test_client_leaves_a_tunnel(leave: str, proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """A client that goes away altogether takes the backend's connection with it."""
    origin.play(_echo)
    client = await connect()
    await _tunnel(client)
    await client.send(b"x")
    await client.read(1)
    client.reset() if leave == "reset" else client.close()
    (line,) = await proxy.log.await_lines(1, client.source)
    assert (line.status, line.end) in {(101, "--"), (101, "CD")}
    await origin.connections[0].ended()


async def test_backend_resets_a_tunnel(proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """A backend that resets ends the client's connection."""
    origin.play(reply(SWITCHING + b"x", then="reset"))
    client = await connect()
    await client.send(get("solo.test", "/", *UPGRADE))
    await client.read_rest()
    assert client.received.startswith(b"HTTP/1.1 101 ")
    (line,) = await proxy.log.await_lines(1, client.source)
    assert (line.status, line.end) == (101, "SD")


async def test_tunnel_without_activity_ends(proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """timeouts.tunnel is inactivity: a busy tunnel lives on, a silent one is closed on both sides."""
    origin.play(_echo)
    client = await connect()
    await _tunnel(client, "hasty.test")
    for _ in range(8):
        await client.send(b"x")
        assert await client.read(1) == b"x"
        await asyncio.sleep(0.06)
    await client.read_rest()
    await origin.connections[0].ended()
    (line,) = await proxy.log.await_lines(1, client.source)
    assert (line.status, line.bytes) == (101, 8)


async def test_refused_upgrade_is_an_ordinary_exchange(proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """A backend that answers an upgrade with 200 has declined: both connections go on."""
    client = await connect()
    answer = await client.ask(get("solo.test", "/1", *UPGRADE))
    assert (answer.status, answer.body) == (200, b"/1")
    assert (await client.ask(get("solo.test", "/2"))).body == b"/2"
    assert [line.end for line in await proxy.log.await_lines(2, client.source)] == ["--", "--"]
    assert len(origin.connections) == 1


async def test_requests_behind_a_refused_upgrade(connect: Connect, origin: Origin) -> None:
    """What was pipelined behind a declined upgrade is read as requests."""
    client = await connect()
    await client.send(get("solo.test", "/1", *UPGRADE) + get("solo.test", "/2") + get("solo.test", "/3"))
    assert [answer.body for answer in await client.responses(3)] == [b"/1", b"/2", b"/3"]
    assert (await client.ask(get("solo.test", "/4"))).body == b"/4"
    assert len(origin.requests) == 4


@pytest.mark.parametrize(
    "headers",
    [
        ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"),
        ("Connection: Upgrade", "Upgrade: h2c"),
        ("Connection: upgrade,http2-settings", "Upgrade: H2C", "HTTP2-Settings: AAM"),
    ],
    ids=["as-curl", "no-settings", "upper-case"],
)
async def test_h2c_is_served_as_1_1(headers: tuple[str, ...], connect: Connect, origin: Origin) -> None:
    """``Upgrade: h2c`` and its settings are removed; the request is an ordinary one."""
    client = await connect()
    answer = await client.ask(get("solo.test", "/1", *headers))
    assert (answer.status, answer.body) == (200, b"/1")
    request = origin.requests[0]
    assert request.all("upgrade") == request.all("http2-settings") == []
    assert b"upgrade" not in (request.get("connection") or b"").lower()
    assert (await client.ask(get("solo.test", "/2"))).body == b"/2"


def _with_body(body: bytes, framing: str, *headers: str) -> bytes:
    """Build an upload that is framed in one of two ways."""
    if framing == "chunked":
        return get("solo.test", "/up", *headers, "Transfer-Encoding: chunked", method="POST") + chunked(
            body[:3], body[3:]
        )
    return post("solo.test", body, *headers, target="/up")


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("size", [25, 3_000_000])
@pytest.mark.parametrize("protocol", ["h2c", "H2C", "h2c, h2c"])
async def test_h2c_with_a_body_is_served_as_1_1(
    protocol: str, size: int, framing: str, connect_to: Connect, start_program: StartProgram, start_origin: StartOrigin
) -> None:
    """As Java's client and curl send uploads: nothing is offered, the body is whole and never a request."""
    origin = start_origin()
    program = start_program({"pools": {"web": {"backends": [{"address": f"127.0.0.1:{origin.port}"}]}}})
    client = await connect_to(program.port)
    body = (get("solo.test", "/smuggled") * (size // 25 + 1))[:size]
    offer = ("Connection: Upgrade, HTTP2-Settings", f"Upgrade: {protocol}", "HTTP2-Settings: AAMAAABk")
    for _ in range(2):
        assert (await client.ask(_with_body(body, framing, *offer))).body == b"/up"
    for request in origin.requests:
        assert (request.target, request.body) == (b"/up", body)
        assert request.all("upgrade") == request.all("http2-settings") == []
    assert len(origin.requests) == 2


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("size", [13, 3_000_000])
async def test_an_upgrade_with_a_body(
    size: int, framing: str, connect_to: Connect, start_program: StartProgram, start_origin: StartOrigin
) -> None:
    """As ``docker exec`` does it: the body passes first, then the tunnel opens, with what came too early in front."""

    async def script(connection: OriginConnection) -> None:
        request = await connection.request()
        assert request.body == b"b" * size
        await connection.send(SWITCHING)
        for _ in range(2):
            await connection.send(await connection.read(5))
        connection.half_close()

    origin = start_origin()
    origin.play(script)
    program = start_program({"pools": {"web": {"backends": [{"address": f"127.0.0.1:{origin.port}"}]}}})
    client = await connect_to(program.port)
    await client.send(_with_body(b"b" * size, framing, *UPGRADE) + b"early")
    assert (await client.read_response()).status == 101
    assert await client.read(5) == b"early"
    await client.send(b"later")
    assert await client.read(5) == b"later"
    await client.expect_eof()


async def test_an_upgrade_with_a_body_that_is_declined(connect: Connect, origin: Origin) -> None:
    """The next request follows on the same connection."""
    client = await connect()
    for framing in ("length", "chunked"):
        await client.send(_with_body(b"body", framing, *UPGRADE) + get("solo.test", "/next"))
        first, second = await client.responses(2)
        assert (first.body, second.body) == (b"/up", b"/next")
    assert [request.body for request in origin.requests] == [b"body", b"", b"body", b""]


@pytest.mark.parametrize("named", ["h2c", "other", "echo, other", "echo\xa0"])
async def test_101_to_another_protocol(named: str, proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """A tunnel opens only for what was offered: 502, and not a byte passes."""
    origin.play(reply(SWITCHING.replace(b"echo", named.encode("latin-1")), then="hang"))
    client = await connect()
    await client.send(get("once.test", "/", *UPGRADE) + b"PRI * HTTP/2.0\r\n\r\n")
    assert (await client.read_response()).status == 502
    assert b"PRI" not in origin.received
    line = await proxy.log.await_line(client.source)
    assert (line.status, line.end) == (502, "PH")


@pytest.mark.parametrize("named", ["h2c\xa0", "\xa0h2c", "h2c\x85"])
async def test_a_protocol_that_is_no_token_opens_nothing(named: str, connect: Connect, origin: Origin) -> None:
    """Somebody may read h2c there; whatever it answers, no tunnel opens."""
    origin.play(reply(SWITCHING.replace(b"echo", b"h2c"), then="hang"))
    client = await connect()
    answer = await client.ask(get("once.test", "/", "Connection: Upgrade", f"Upgrade: {named}") + b"PRI")
    assert answer.status in {400, 502}
    assert b"PRI" not in origin.received


@pytest.mark.parametrize(
    ("headers", "version"),
    [(("Upgrade: echo",), "1.1"), (("Connection: Upgrade",), "1.1"), (UPGRADE, "1.0")],
    ids=["not-named-in-connection", "no-upgrade", "1.0"],
)
async def test_what_is_no_upgrade(headers: tuple[str, ...], version: str, connect: Connect, origin: Origin) -> None:
    """Without both headers, or from HTTP/1.0, nothing is offered to the backend."""
    client = await connect()
    assert (await client.ask(get("solo.test", "/", *headers, version=version))).status == 200
    request = origin.requests[0]
    assert request.all("upgrade") == []
    assert b"upgrade" not in (request.get("connection") or b"").lower()


async def test_101_to_a_declined_offer(proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """A backend that switches although it was offered nothing (only h2c was) is a bad one: 502 PH."""
    origin.play(reply(SWITCHING, then="hang"))
    client = await connect()
    answer = await client.ask(get("once.test", "/", "Connection: Upgrade", "Upgrade: h2c"))
    assert answer.status == 502
    (line,) = await proxy.log.await_lines(1, client.source)
    assert (line.status, line.end) == (502, "PH")


async def test_upgrade_refused_by_error_status(connect: Connect, origin: Origin) -> None:
    """A 4xx to an upgrade with a body of its own is passed on whole."""
    origin.play(reply(OK.replace(b"200 OK", b"426 Upgrade Required")), serve())
    client = await connect()
    answer = await client.ask(get("solo.test", "/", *UPGRADE))
    assert (answer.status, answer.body) == (426, b"ok")


async def test_tunnel_outlives_the_other_timeouts(proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """The response and idle timeouts (300 ms here) don't apply to a tunnel that is alive."""
    origin.play(_echo)
    client = await connect()
    await _tunnel(client, "hasty.test")
    for _ in range(5):
        await asyncio.sleep(0.15)
        await client.send(b"x")
        assert await client.read(1) == b"x"
    client.half_close()
    assert await client.read(3) == b"bye"
    await proxy.log.await_lines(1, client.source)
