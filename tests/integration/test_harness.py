"""The harness against itself: a raw client and a scripted origin, with nothing in between."""

import asyncio

import pytest

from tests.integration.access_log import parse
from tests.integration.client import chunked, get, post, unique_source
from tests.integration.conftest import Connect, StartNginx, StartOrigin
from tests.integration.nginx import require
from tests.integration.origin import OK, close_at_once, drip, early, hang, reply, reset_at_once
from tests.integration.ports import Ports
from tests.integration.shared import BlackHole
from tests.integration.wire import End, Truncated


async def test_origin_answers_with_the_target(start_origin: StartOrigin, connect_to: Connect) -> None:
    """An origin without a script answers each request of a connection and keeps what it read."""
    origin = start_origin(name="n")
    client = await connect_to(origin.port)
    for target in ("/1", "/2"):
        answer = await client.ask(get("h", target))
        assert (answer.status, answer.body, answer.get("x-origin")) == (200, target.encode(), b"n")
    assert origin.received == get("h", "/1") + get("h", "/2")


@pytest.mark.parametrize(
    ("raw", "body", "trailers"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok", (), id="length"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\nok", b"ok", (), id="until-close"),
        pytest.param(b"HTTP/1.1 204 No\r\nContent-Length: 2\r\n\r\n", b"", (), id="204"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"o", b"k", trailers=b"A: b\r\n"),
            b"ok",
            ((b"a", b"b"),),
            id="chunked",
        ),
    ],
)
async def test_reader_knows_each_framing(
    raw: bytes,
    body: bytes,
    trailers: tuple[tuple[bytes, bytes], ...],
    start_origin: StartOrigin,
    connect_to: Connect,
) -> None:
    """The harness's own reader of responses reads every framing, also when it comes byte by byte."""
    origin = start_origin()
    origin.play(reply(raw, then="close"))
    answer = await (await connect_to(origin.port)).ask(get("h"))
    assert (answer.body, answer.trailers) == (body, trailers)
    origin.play(drip(raw))
    client = await connect_to(origin.port)
    await client.send(get("h"))
    head = await client.read_until(b"\r\n\r\n")
    assert head == raw[: len(head)]


@pytest.mark.parametrize(("ending", "expected"), [("close", End.EOF), ("reset", End.RESET)], ids=["close", "reset"])
async def test_truncation_is_seen(ending: str, expected: End, start_origin: StartOrigin, connect_to: Connect) -> None:
    """A body that is cut short is an error that tells FIN from RST."""
    origin = start_origin()
    origin.play(reply(OK[:-1], then=ending))
    client = await connect_to(origin.port)
    with pytest.raises(Truncated) as caught:
        await client.ask(get("h"))
    assert caught.value.end is expected


async def test_until_close_and_reset_is_truncation(start_origin: StartOrigin, connect_to: Connect) -> None:
    """A body without a length is whole only after a FIN."""
    origin = start_origin()
    origin.play(reply(b"HTTP/1.1 200 OK\r\n\r\nok", then="reset"))
    client = await connect_to(origin.port)
    with pytest.raises(Truncated):
        await client.ask(get("h"))


async def test_end_without_an_answer(start_origin: StartOrigin, connect_to: Connect) -> None:
    """Closing and resetting before an answer are told apart; the scripts play connection by connection."""
    origin = start_origin()
    origin.play(close_at_once, reset_at_once, hang)
    for expected in (End.EOF, End.RESET):
        client = await connect_to(origin.port)
        await client.send(get("h"))
        assert (await client.read_rest(), client.end) == (b"", expected)
    client = await connect_to(origin.port)
    await client.send(get("h"))
    await origin.request()
    client.reset()
    assert await (await origin.connection(2)).ended() is End.RESET


@pytest.mark.parametrize("reads_on", [True, False])
async def test_early_answer(reads_on: bool, start_origin: StartOrigin, connect_to: Connect) -> None:
    """An early answer comes before the body was sent."""
    origin = start_origin()
    origin.play(early(OK, reads_on=reads_on))
    client = await connect_to(origin.port)
    await client.send(post("h", b"12345")[:-5])
    assert (await client.read_response()).body == b"ok"


async def test_chunked_request_is_read_whole(start_origin: StartOrigin, connect_to: Connect) -> None:
    """The origin reads a chunked request, body and trailers."""
    origin = start_origin()
    client = await connect_to(origin.port)
    await client.ask(get("h", "/", "Transfer-Encoding: chunked", method="POST") + chunked(b"ab", b"c"))
    assert origin.requests[0].body == b"abc"


async def test_black_hole_lets_nobody_connect(ports: Ports) -> None:
    """Connecting to a full queue neither succeeds nor fails."""
    hole = BlackHole(ports.take())
    try:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.open_connection("127.0.0.1", hole.port), 0.3)
    finally:
        hole.close()


def test_ports_are_handed_out_once(ports: Ports) -> None:
    """No port comes twice, and none that an outgoing connection could take."""
    taken = [ports.take() for _ in range(50)]
    assert len(set(taken)) == 50
    assert max(taken) < 32768


def test_sources_are_unique() -> None:
    """Every client can be told by its address."""
    sources = [unique_source() for _ in range(600)]
    assert len(set(sources)) == 600


def test_combined_line_is_parsed() -> None:
    """A line of the combined format comes apart into typed fields."""
    line = parse(
        '127.0.0.1 - - [22/Nov/2026:16:00:00 +0000] "GET / HTTP/1.1" 502 27 "-" "curl/8" '
        'rt=0.011 ua=a,b us=-,502 ut=0.001,0.010 tries=2 end=SH why="the connection broke" id=abc'
    )
    assert (line.request, line.status, line.bytes, line.ua, line.us) == (
        "GET / HTTP/1.1",
        502,
        27,
        ["a", "b"],
        ["-", "502"],
    )
    assert (line.tries, line.end, line.id, line.rt) == (2, "SH", "abc", 0.011)
    with pytest.raises(AssertionError, match="not a combined line"):
        parse('127.0.0.1 "GET / HTTP/1.1"')


async def test_nginx_serves_stores_and_reflects(start_nginx: StartNginx, connect_to: Connect) -> None:
    """A node says its name and what it saw, takes a PUT and gives it back, on IPv4 and IPv6."""
    node = start_nginx("n1")
    client = await connect_to(node.port)
    answer = await client.ask(get("h", "/x?y", "X-Forwarded-For: 1.2.3.4"))
    assert answer.body == b"n1 GET /x?y\n"
    assert (answer.get("x-node"), answer.get("x-saw-for")) == (b"n1", b"1.2.3.4")
    assert (await client.ask(post("h", b"stored", target="/files/f", method="PUT"))).status == 201
    assert (await client.ask(get("h", "/files/f"))).body == b"stored"
    six = start_nginx("n2", "::1")
    assert (await (await connect_to(six.port, host="::1")).ask(get("h"))).get("x-node") == b"n2"


@pytest.mark.parametrize(("required", "outcome"), [("0", pytest.skip.Exception), ("1", pytest.fail.Exception)])
def test_missing_peer(required: str, outcome: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that isn't there skips the test with the reason, or fails it where peers are required."""
    monkeypatch.setenv("PYPROXY_REQUIRE_PEERS", required)
    with pytest.raises(outcome, match="no-such-peer is not installed"):
        require("no-such-peer")
