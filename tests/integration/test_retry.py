"""When a request is tried again, on which backend, and when it never may be."""

import pytest

from tests.integration.client import get, post
from tests.integration.conftest import Connect
from tests.integration.origin import (
    OK,
    Origin,
    OriginConnection,
    Script,
    close_at_once,
    hang,
    reply,
    reset_at_once,
    serve,
)
from tests.integration.shared import SharedProgram


async def test_refused_connection_goes_to_the_other_backend(
    proxy: SharedProgram, connect: Connect, other: Origin
) -> None:
    """Nothing was sent, so even a POST is tried elsewhere; the log has both attempts."""
    client = await connect()
    for number in range(4):
        assert (await client.ask(post("half.test", b"body", target=f"/{number}"))).status == 200
    assert [request.body for request in other.requests] == [b"body"] * 4
    lines = await proxy.log.await_lines(4, client.source)
    retried = [line for line in lines if line.tries == 2]
    assert retried
    assert {(tuple(line.ua), tuple(line.us)) for line in retried} == {(("closed", "b"), ("-", "200"))}
    assert all(len(line.ut) == 2 and line.end == "--" and line.status == 200 for line in retried)


async def test_connect_timeout_goes_to_the_other_backend(proxy: SharedProgram, connect: Connect, other: Origin) -> None:
    """A connection that doesn't come to be is given up, and the request tried elsewhere."""
    client = await connect()
    for _ in range(4):
        assert (await client.ask(post("around.test", b"body"))).status == 200
    lines = await proxy.log.await_lines(4, client.source)
    assert ["hole", "b"] in [line.ua for line in lines]
    assert len(other.requests) == 4


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "DELETE"])
@pytest.mark.parametrize("script", [reset_at_once, close_at_once], ids=["reset", "close"])
async def test_idempotent_request_is_tried_on_the_other_backend(
    method: str, script: Script, proxy: SharedProgram, connect: Connect, origin: Origin, other: Origin
) -> None:
    """A connection that died before the first byte of the answer: an idempotent request goes elsewhere."""
    origin.play(script)
    client = await connect()
    for _ in range(4):
        answer = await client.ask(get("pair.test", method=method))
        assert (answer.status, answer.get("x-origin")) == (200, b"b")
    retried = [line for line in await proxy.log.await_lines(4, client.source) if line.tries == 2]
    assert len(retried) == len(origin.requests) > 0
    assert len(other.requests) == 4
    for line in retried:
        assert (line.ua, line.us, line.status, line.end) == (["a", "b"], ["-", "200"], 200, "--")


@pytest.mark.parametrize("method", ["POST", "PATCH"])
@pytest.mark.parametrize("body", [b"", b"body"], ids=["empty", "body"])
async def test_post_is_never_sent_twice(
    method: str, body: bytes, proxy: SharedProgram, connect: Connect, origin: Origin, other: Origin
) -> None:
    """What may have had an effect is not repeated: one attempt, 502 SH."""
    origin.play(reset_at_once)
    other.play(reset_at_once)
    client = await connect()
    answer = await client.ask(post("pair.test", body, method=method))
    assert answer.status == 502
    assert len(origin.requests) + len(other.requests) == 1
    (line,) = await proxy.log.await_lines(1, client.source)
    assert (line.status, line.end, line.tries, line.us) == (502, "SH", 1, ["-"])


async def test_put_whose_body_was_sent_is_not_repeated(
    proxy: SharedProgram, connect: Connect, origin: Origin, other: Origin
) -> None:
    """Idempotent, but its body is consumed: it can't be sent again."""
    origin.play(reset_at_once)
    other.play(reset_at_once)
    client = await connect()
    assert (await client.ask(post("pair.test", b"body", method="PUT"))).status == 502
    assert len(origin.requests) + len(other.requests) == 1
    (line,) = await proxy.log.await_lines(1, client.source)
    assert (line.end, line.tries) == ("SH", 1)


async def test_attempts_exhausted(proxy: SharedProgram, connect: Connect, origin: Origin, other: Origin) -> None:
    """When every attempt fails, the client hears of the failure and the log of each attempt."""
    origin.play(reset_at_once)
    other.play(reset_at_once)
    client = await connect()
    assert (await client.ask(get("pair.test"))).status == 502
    (line,) = await proxy.log.await_lines(1, client.source)
    assert (line.status, line.end, line.tries, sorted(line.ua), line.us) == (
        502,
        "SH",
        2,
        ["a", "b"],
        ["-", "-"],
    )
    assert (len(origin.requests), len(other.requests)) == (1, 1)


async def test_only_backend_is_tried_again(proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """Another backend if there is one; else the same again."""
    origin.play(reset_at_once, serve())
    client = await connect()
    assert (await client.ask(get("solo.test"))).status == 200
    (line,) = await proxy.log.await_lines(1, client.source)
    assert (line.ua, line.us) == (["a", "a"], ["-", "200"])


async def test_one_attempt_means_one(proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """``attempts: 1`` tries nothing again."""
    origin.play(reset_at_once, serve())
    client = await connect()
    assert (await client.ask(get("once.test"))).status == 502
    assert len(origin.connections) == 1
    (line,) = await proxy.log.await_lines(1, client.source)
    assert (line.end, line.tries) == ("SH", 1)


async def _close_on_second(connection: OriginConnection) -> None:
    """Serve one request; close the moment a second one arrives, as a backend does whose idle time is up."""
    await connection.request()
    await connection.send(OK)
    await connection.fill(1)
    connection.reset()


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_stale_connection_is_tried_again(
    method: str, proxy: SharedProgram, connect: Connect, origin: Origin
) -> None:
    """An idle connection that dies as the next request reaches it: the request is repeated on a new one."""
    origin.play(_close_on_second, serve())
    client = await connect()
    assert (await client.ask(get("solo.test"))).body == b"ok"
    assert (await client.ask(get("solo.test", "/again", method=method))).body == b"/again"
    _, line = await proxy.log.await_lines(2, client.source)
    assert (line.status, line.end, line.tries, line.us) == (200, "--", 2, ["-", "200"])


async def test_stale_connection_and_a_post(proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """The same with a POST: nobody knows whether it had an effect, so it is 502 and not repeated."""
    origin.play(_close_on_second, serve())
    client = await connect()
    assert (await client.ask(get("solo.test"))).body == b"ok"
    assert (await client.ask(post("solo.test", b"x"))).status == 502
    _, line = await proxy.log.await_lines(2, client.source)
    assert (line.status, line.end, line.tries) == (502, "SH", 1)
    assert len(origin.connections) == 1


async def test_nothing_is_tried_again_after_the_head(
    proxy: SharedProgram, connect: Connect, origin: Origin, other: Origin
) -> None:
    """Once the answer has begun, it is this answer or none."""
    half = OK[:-1]
    origin.play(reply(half, then="reset"))
    other.play(reply(half, then="reset"))
    client = await connect()
    await client.send(get("pair.test"))
    await client.read_rest()
    assert client.received.endswith(b"\r\n\r\no")
    (line,) = await proxy.log.await_lines(1, client.source)
    assert (line.status, line.end, line.tries) == (200, "SD", 1)
    assert len(origin.requests) + len(other.requests) == 1


async def test_retry_on_503(proxy: SharedProgram, connect: Connect, origin: Origin, other: Origin) -> None:
    """With 503 in ``on``, an answer of 503 is dropped for another backend's; the log has both."""
    origin.play(reply(*[OK.replace(b"200 OK", b"503 No")] * 9))
    client = await connect()
    for _ in range(4):
        answer = await client.ask(get("on503.test"))
        assert (answer.status, answer.get("x-origin")) == (200, b"b")
    lines = await proxy.log.await_lines(4, client.source)
    retried = [line for line in lines if line.tries == 2]
    assert retried
    assert all((line.ua, line.us, line.end) == (["a", "b"], ["503", "200"], "--") for line in retried)
    assert len(other.requests) == 4


async def test_503_everywhere_is_passed_on(
    proxy: SharedProgram, connect: Connect, origin: Origin, other: Origin
) -> None:
    """When the last attempt says 503 too, the client gets the backend's own answer."""
    for place in (origin, other):
        place.play(reply(*[OK.replace(b"200 OK", b"503 No").replace(b"ok", place.name.encode() * 2)] * 9))
    client = await connect()
    answer = await client.ask(get("on503.test"))
    assert (answer.status, answer.start[2]) == (503, b"No")
    assert answer.body in {b"aa", b"bb"}
    (line,) = await proxy.log.await_lines(1, client.source)
    assert (line.status, line.tries, line.us, line.end) == (503, 2, ["503", "503"], "--")
    assert (await client.ask(get("solo.test", "/next"))).status in {200, 503}


async def test_503_is_not_tried_again_unless_asked(connect: Connect, origin: Origin, other: Origin) -> None:
    """By default a backend's 503 is its answer."""
    for place in (origin, other):
        place.play(reply(OK.replace(b"200 OK", b"503 No")))
    assert (await (await connect()).ask(get("pair.test"))).status == 503
    assert len(origin.requests) + len(other.requests) == 1


async def test_503_to_a_post_is_its_answer(connect: Connect, origin: Origin, other: Origin) -> None:
    """A POST is not sent twice for a status either."""
    for place in (origin, other):
        place.play(reply(OK.replace(b"200 OK", b"503 No")))
    assert (await (await connect()).ask(post("on503.test", b"x"))).status == 503
    assert len(origin.requests) + len(other.requests) == 1


async def test_retry_on_timeout(proxy: SharedProgram, connect: Connect, origin: Origin, other: Origin) -> None:
    """With ``timeout`` in ``on``, a backend that doesn't answer in time is left for another."""
    origin.play(hang)
    client = await connect()
    for _ in range(4):
        assert (await client.ask(get("on-timeout.test"))).get("x-origin") == b"b"
    retried = [line for line in await proxy.log.await_lines(4, client.source) if line.tries == 2]
    assert len(retried) == len(origin.requests) > 0
    assert all((line.ua, line.us, line.end) == (["a", "b"], ["-", "200"], "--") for line in retried)
    await origin.connections[0].ended()
    assert len(other.requests) == 4


async def test_timeout_is_not_tried_again_unless_asked(proxy: SharedProgram, connect: Connect, origin: Origin) -> None:
    """By default a backend that is late has had its chance: 504 sH."""
    origin.play(hang)
    client = await connect()
    assert (await client.ask(get("hasty.test"))).status == 504
    (line,) = await proxy.log.await_lines(1, client.source)
    assert (line.status, line.end, line.tries, line.us) == (504, "sH", 1, ["-"])


async def test_on_nothing(proxy: SharedProgram, connect: Connect, origin: Origin, other: Origin) -> None:
    """An empty ``on`` tries nothing again, not even a GET."""
    origin.play(reset_at_once)
    other.play(reset_at_once)
    client = await connect()
    assert (await client.ask(get("on-nothing.test"))).status == 502
    (line,) = await proxy.log.await_lines(1, client.source)
    assert line.tries == 1


async def test_budget_stops_a_storm(proxy: SharedProgram, connect: Connect, origin: Origin, other: Origin) -> None:
    """With every backend failing, retries stay within the budget's minimum instead of doubling the load."""
    origin.play(reset_at_once)
    other.play(reset_at_once)
    client = await connect()
    for _ in range(10):
        assert (await client.ask(get("stingy.test"))).status == 502
    lines = await proxy.log.await_lines(10, client.source)
    assert sum(line.tries for line in lines) == len(origin.requests) + len(other.requests) == 11
    await proxy.await_metric("pyproxy_retries_total", 1, pool="stingy")


async def test_backup_is_used_while_nothing_else_is_available(connect: Connect, origin: Origin, other: Origin) -> None:
    """A pool whose regular backend has weight 0 is served by its backup."""
    for _ in range(3):
        assert (await (await connect()).ask(get("spare.test"))).get("x-origin") == b"b"
    assert origin.connections == []
    assert len(other.requests) == 3
