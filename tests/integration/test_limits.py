"""Limits over all connections, and the JSON form of the access log."""

import asyncio
import json
import re
from contextlib import suppress
from typing import Any

from tests.integration.client import get, post, unique_source
from tests.integration.conftest import Connect, StartOrigin, StartProgram
from tests.integration.origin import OK, reply, reset_at_once, serve
from tests.integration.program import Program
from tests.integration.test_refusals import check_refusal
from tests.integration.wire import DEADLINE, Wire


def _one_pool(port: int, **config: Any) -> dict[str, Any]:
    return {"pools": {"web": {"backends": [{"name": "a", "address": f"127.0.0.1:{port}"}]}}, **config}


async def test_connection_limit(start_program: StartProgram, start_origin: StartOrigin, connect_to: Connect) -> None:
    """The connection over limits.connections is answered 503 RC; when one ends there is room again."""
    origin = start_origin()
    program = start_program(_one_pool(origin.port, limits={"connections": 2}))
    first, second = [await connect_to(program.port) for _ in range(2)]
    for client in (first, second):
        assert (await client.ask(get("h"))).status == 200
    third = await connect_to(program.port)
    await third.send(get("h"))
    check_refusal(await third.read_response(), 503)
    await third.read_rest()
    (line,) = await program.log.await_lines(1, third.source)
    assert (line.status, line.end, line.tries) == (503, "RC", 0)
    assert (await first.ask(get("h"))).status == 200
    second.close()
    third.close()
    await program.await_metric("pyproxy_connections", 1)
    fourth = await connect_to(program.port)
    assert (await fourth.ask(get("h"))).status == 200
    assert len(origin.requests) == 4


async def test_refused_connections_are_let_go(
    start_program: StartProgram, start_origin: StartOrigin, connect_to: Connect
) -> None:
    """Those over the limit lose their connection though they stay and send; who is within it is served meanwhile."""
    origin = start_origin()
    program = start_program(_one_pool(origin.port, limits={"connections": 2}))
    first, second = [await connect_to(program.port) for _ in range(2)]
    assert (await first.ask(get("h"))).status == 200
    refused = [await connect_to(program.port) for _ in range(50)]
    for client in refused:
        check_refusal(await client.read_response(), 503)
    assert program.metric("pyproxy_connections") == 2
    second.close()
    await program.await_metric("pyproxy_connections", 1)
    third = await connect_to(program.port)
    assert (await third.ask(get("h"))).status == 200
    async with asyncio.timeout(DEADLINE):
        for client in refused:
            await _send_until_refused(client)


async def _send_until_refused(client: Wire) -> None:
    """Send a byte now and then for as long as the other side takes it."""
    with suppress(OSError):
        while True:
            await client.send(b"x")
            await asyncio.sleep(0.05)


async def test_json_log(start_program: StartProgram, start_origin: StartOrigin, connect_to: Connect) -> None:
    """Each line of the JSON log is an object with the contract's names and the exchange's values."""
    origin = start_origin()
    origin.play(reply(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), then="close"), reset_at_once)
    program = start_program(_one_pool(origin.port, access_log={"format": "json"}))
    client = await connect_to(program.port)
    await client.ask(get("h", "/x?y", 'User-Agent: a"b', "Referer: r", "X-Request-Id: one"))
    await client.ask(post("h", b"body", "X-Request-Id: two"))
    await client.send(b"G@T / HTTP/1.1\r\n\r\n")
    await client.read_rest()
    client.close()
    first, second, third = await _objects(program, 3)
    assert first | {"time": "", "duration": 0, "upstream_connect_time": 0, "upstream_header_time": 0} == {
        "time": "",
        "client": client.source,
        "method": "GET",
        "target": "/x?y",
        "protocol": "HTTP/1.1",
        "status": 200,
        "bytes": 2,
        "duration": 0,
        "listener": "main",
        "pool": "web",
        "backend": ["a"],
        "attempts": 1,
        "upstream_status": [200],
        "upstream_connect_time": 0,
        "upstream_header_time": 0,
        "end": "--",
        "request_id": "one",
        "referer": "r",
        "user_agent": first["user_agent"],
        "host": "h",
        "why": None,
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}(Z|\+00:00)", first["time"])
    assert (second["status"], second["end"], second["request_id"], second["method"]) == (
        502,
        "SH",
        "two",
        "POST",
    )
    assert (third["status"], third["end"], third["method"], third["target"]) == (400, "PR", "-", "-")


async def _objects(program: Program, number: int) -> list[dict[str, Any]]:
    """Wait for so many lines and decode them."""
    await program.await_metric("pyproxy_terminations_total", number)
    program.stop()
    lines = program.log.raw_lines()
    assert len(lines) == number
    return [json.loads(line) for line in lines]


async def test_log_to_stdout(start_program: StartProgram, start_origin: StartOrigin, connect_to: Connect) -> None:
    """The default is stdout, and nothing else is written there."""
    origin = start_origin()
    program = start_program(_one_pool(origin.port, access_log={"to": "stdout"}))
    client = await connect_to(program.port)
    await client.ask(get("h", "/out"))
    program.stop()
    (line,) = program.stdout.splitlines()
    assert line.startswith(f"{client.source} - - [")
    assert '"GET /out HTTP/1.1" 200 4' in line


async def test_log_off(start_program: StartProgram, start_origin: StartOrigin, connect_to: Connect) -> None:
    """``off`` writes nothing, anywhere."""
    origin = start_origin()
    program = start_program(_one_pool(origin.port, access_log={"to": "off"}))
    await (await connect_to(program.port)).ask(get("h"))
    program.stop()
    assert program.stdout == ""
    assert not program.log.path.exists()


async def test_escapes_in_the_log(start_program: StartProgram, start_origin: StartOrigin, connect_to: Connect) -> None:
    """What a client sends can't break a line of the log or fake another."""
    origin = start_origin()
    program = start_program(_one_pool(origin.port))
    source = unique_source()
    client = await connect_to(program.port, source=source)
    await client.ask(get("h", '/"\\', 'User-Agent: "x" \xff\\ \t', 'Referer: a" 200 1 "'))
    (line,) = await program.log.await_lines(1, source)
    assert line.request == "GET /\\x22\\x5C HTTP/1.1"
    assert line.agent.startswith("\\x22x\\x22 \\xFF\\x5C")
    assert line.referer == "a\\x22 200 1 \\x22"


async def test_bytes_and_totals_are_counted(
    start_program: StartProgram, start_origin: StartOrigin, connect_to: Connect
) -> None:
    """The metrics after a known exchange are known numbers."""
    origin = start_origin()
    origin.play(serve(body=b"x" * 100))
    program = start_program(_one_pool(origin.port))
    client = await connect_to(program.port)
    request = post("h", b"y" * 50)
    answer = await client.ask(request)
    await client.ask(get("h", method="TRACE"))
    await program.await_metric("pyproxy_terminations_total", 2)
    assert program.metric("pyproxy_requests_total", listener="main", pool="web", code="2xx") == 1
    assert program.metric("pyproxy_requests_total", listener="main", code="4xx") == 1
    assert program.metric("pyproxy_backend_requests_total", pool="web", backend="a", code="2xx") == 1
    assert program.metric("pyproxy_terminations_total", end="--") == 1
    assert program.metric("pyproxy_terminations_total", end="PR") == 1
    assert program.metric("pyproxy_connections_total", listener="main") == 1
    await program.await_metric("pyproxy_connections", 1)
    assert program.metric("pyproxy_request_duration_seconds_count", pool="web") == 1
    assert program.metric("pyproxy_backend_response_seconds_count", pool="web", backend="a") == 1
    incoming = len(request) + len(get("h", method="TRACE"))
    assert program.metric("pyproxy_bytes_total", direction="in") == incoming
    assert program.metric("pyproxy_bytes_total", direction="out") == len(client.received)
    assert len(answer.body) == 100
