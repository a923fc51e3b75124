"""Failures of live traffic, and slow start, with real nodes: who is passed over, when, and who comes back how."""

import asyncio
import json
import os
import signal
from collections import Counter
from functools import partial
from typing import Any

from tests.integration.access_log import parse
from tests.integration.client import get, post
from tests.integration.conftest import Connect, StartNginx, StartOrigin, StartProgram
from tests.integration.origin import OK, Origin, hang, reply, reset_at_once, serve
from tests.integration.program import Program
from tests.integration.test_health import ALL, answers, ask, health, members, pids, until

REQUEST = get("app.test")
FREE = {"attempts": 2, "budget": "100%", "min": 1000}
LONG = {"consecutive": 3, "eject": "1h", "max_eject": "1h"}
UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"


def configure(*nodes: Any, workers: int = 1, **pool: Any) -> dict[str, Any]:
    """One pool of these nodes or origins."""
    listed = [{"name": node.name, "address": f"127.0.0.1:{node.port}"} for node in nodes]
    return {"pools": {"web": {"backends": listed, "retry": FREE, "outlier": LONG, **pool}}, "workers": workers}


async def until_ejected(program: Program, connect_to: Connect, name: str) -> None:
    """Ask until a node is passed over; the next request finds every worker knowing that."""
    client = await connect_to(program.port)
    while not members(program)[name]["ejected"]:
        await client.ask(REQUEST)
    client.close()
    await until(lambda: reason(program, name).startswith("ejected for another"), "told")


def reason(program: Program, name: str) -> str:
    """Why a worker wouldn't pick a node now."""
    status, answer = program.change("POST", "/api/v1/explain", {"method": "GET", "url": "http://app.test/"})
    assert status == 200
    found: str | None = next(row["reason"] for row in answer["backends"] if row["name"] == name)
    return found or ""


async def test_a_node_that_is_killed_under_wrk(wrk: str, start_nginx: StartNginx, start_program: StartProgram) -> None:
    """With 64 connections, no checks and the usual budget: every request is answered, and it comes back by itself."""
    a, b, c = (start_nginx(name) for name in "abc")
    quick = {"eject": "500ms", "max_eject": "1s"}
    program = start_program(configure(a, b, c, workers=2, outlier=quick, retry={}))
    process = await asyncio.create_subprocess_exec(
        *(wrk, "-t1", "-c64", "-d6s", f"http://127.0.0.1:{program.port}/"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    await until(lambda: program.metric("pyproxy_backend_requests_total", backend="b") > 500, "traffic")
    for pid in pids(b):
        os.kill(pid, signal.SIGKILL)
    await until(lambda: program.metric("pyproxy_backend_ejections_total", backend="b") > 0, "ejected")
    assert program.says("web/b is passed over for 0.5 s: ")
    assert program.says("failures in a row, the last: the backend ")
    b.stop()
    b.start()
    served = program.metric("pyproxy_backend_requests_total", backend="b")
    output = (await process.communicate())[0].decode()
    assert process.returncode == 0, output
    assert "Non-2xx" not in output, output
    assert "Socket errors" not in output, output
    assert program.metric("pyproxy_backend_requests_total", backend="b") > served
    assert program.says("web/b is no longer passed over, after")
    assert {name for name, backend in members(program).items() if backend["ejected"]} == set()
    await program.settled()
    lines = [parse(line) for line in program.log.raw_lines()]
    failed = [line for line in lines if "-" in line.us and line.end == "--"]
    assert failed
    assert {(line.ua[0], line.tries, line.status) for line in failed} == {("b", 2, 200)}
    program.stop()


async def test_passed_over_as_long_as_it_is_said(
    start_origin: StartOrigin, start_program: StartProgram, connect_to: Connect
) -> None:
    """It gets nothing; the API, the metrics, ``status`` and ``explain`` tell; a ready by the operator ends it."""
    bad, good = start_origin(name="bad"), start_origin(name="good")
    program = start_program(configure(bad, good, workers=2))
    bad.play(reset_at_once)
    await until_ejected(program, connect_to, "bad")
    total = members(program)["bad"]["total"]
    assert await answers(program, connect_to) == {(200, "good")}
    shown = members(program)["bad"]
    assert (shown["total"], shown["health"], shown["available"]) == (total, "up", False)
    assert 0 < shown["ejected_for"] <= 3600
    assert program.metric("pyproxy_backend_ejections_total", backend="bad") == 1
    assert program.metric("pyproxy_backend_ejections_total", backend="good") == 0
    assert "ejected for 3.6e+03 s" in program.run_verb("status")[1]
    assert program.stderr.count("web/bad is passed over for") == 1

    bad.play(serve())
    assert program.change("PATCH", f"{ALL}/bad", {"state": "ready"})[1]["available"] is True
    assert await answers(program, connect_to) == {(200, "good"), (200, "bad")}
    assert program.says("web/bad is no longer passed over")


async def test_gateway_errors_count(
    start_origin: StartOrigin, start_program: StartProgram, connect_to: Connect
) -> None:
    """
    A 503 passes as it is, and ejects its node if two clients got it for two paths; one client with one page doesn't.

    An answer in between begins the count anew.
    """
    bad, good = start_origin(name="bad"), start_origin(name="good")
    program = start_program(configure(bad, good))

    bad.play(
        reply(UNAVAILABLE, UNAVAILABLE, OK, UNAVAILABLE, UNAVAILABLE, OK, then="close"), reply(*[UNAVAILABLE] * 99)
    )
    client = await connect_to(program.port)
    seen = Counter([(await client.ask(REQUEST)).status for _ in range(12)])
    assert seen == {200: 8, 503: 4}
    assert members(program)["bad"]["ejected"] is False
    for _ in range(20):
        await client.ask(REQUEST)
    assert members(program)["bad"]["ejected"] is False, "one client and one path"
    while not members(program)["bad"]["ejected"]:
        for path in ("/a", "/b"):
            other = await connect_to(program.port, source="127.0.0.2")
            await other.ask(get("app.test", path))
            other.close()
    assert program.says("failures in a row, the last: the backend answered 503")


async def test_a_client_that_leaves_is_nothing_against_the_node(
    start_origin: StartOrigin, start_program: StartProgram, connect_to: Connect
) -> None:
    """While it waits for the head; and a POST that failed on the node is not sent again."""
    slow, good = start_origin(name="slow"), start_origin(name="good")
    program = start_program(configure(slow, good))
    slow.play(hang)
    for number in range(20):
        client = await connect_to(program.port)
        await client.send(REQUEST)
        await until(partial(_have_got, number + 1, slow, good), f"request {number}")
        client.close()
        await program.settled()
    assert program.metric("pyproxy_terminations_total", end="CH") >= 10
    assert members(program)["slow"]["ejected"] is False

    slow.play(reset_at_once)
    before = len(slow.requests)
    statuses = [await _post(program, connect_to) for _ in range(8)]
    await until(lambda: members(program)["slow"]["ejected"], "ejected")
    assert statuses.count(502) == len(slow.requests) - before >= 3
    assert len(good.requests) - 10 == statuses.count(200)


def _have_got(count: int, *origins: Origin) -> bool:
    return sum(len(origin.requests) for origin in origins) >= count


async def _post(program: Program, connect_to: Connect) -> int:
    client = await connect_to(program.port)
    answer = await client.ask(post("app.test", b"body"))
    client.close()
    return answer.status


async def test_the_last_one_stays(start_origin: StartOrigin, start_program: StartProgram, connect_to: Connect) -> None:
    """Whatever fails on it; and one that is passed over comes back when the other one is taken out."""
    a, b = start_origin(name="a"), start_origin(name="b")
    program = start_program(configure(a, b))
    a.play(reset_at_once)
    await until_ejected(program, connect_to, "a")
    await b.close()
    client = await connect_to(program.port)
    statuses = {(await client.ask(REQUEST)).status for _ in range(10)}
    assert statuses == {502}
    assert members(program)["b"]["ejected"] is False
    assert program.says("web/b can't be spared")
    a.play(serve())
    assert program.change("PATCH", f"{ALL}/b", {"state": "maint"})[0] == 200
    assert await answers(program, connect_to) == {(200, "a")}
    assert program.says("too few others are available")


async def test_a_check_that_passes_ends_it(
    start_origin: StartOrigin, start_program: StartProgram, connect_to: Connect
) -> None:
    """Which began after the ejection; and a worker that starts meanwhile knows of the ejection."""
    a, b, check = start_origin(name="a"), start_origin(name="b"), start_origin(name="check")
    checks = {"interval": "1h", "timeout": "1h", "port": check.port}
    program = start_program(configure(a, b, health=checks))
    await until(lambda: health(program) == {"a": "up", "b": "up"}, "up")
    a.play(reset_at_once)
    await until_ejected(program, connect_to, "a")
    (worker,) = program.workers()
    os.kill(worker, signal.SIGKILL)
    await until(lambda: program.workers() not in ([worker], [None]) and program.is_ready(), "started again")
    assert reason(program, "a").startswith("ejected for")
    assert await answers(program, connect_to) == {(200, "b")}


async def shares(program: Program, connect_to: Connect, count: int) -> Counter[str]:
    """Count who answers."""
    return Counter([(await ask(program, connect_to))[1] for _ in range(count)])


async def test_slow_start(start_origin: StartOrigin, start_program: StartProgram, connect_to: Connect) -> None:
    """A tenth of its share after ready, also from a worker that starts meanwhile; none of it at the start."""
    a, b = start_origin(name="a"), start_origin(name="b")
    program = start_program(configure(a, b, slow_start="1h"))
    assert await shares(program, connect_to, 22) == {"a": 11, "b": 11}
    program.change("PATCH", f"{ALL}/b", {"state": "drain"})
    answer = program.change("PATCH", f"{ALL}/b", {"state": "ready"})[1]
    assert (answer["weight"], answer["available"]) == (1, True)
    assert 3590 < answer["slow_start"] <= 3600
    assert members(program)["a"]["slow_start"] is None
    assert await shares(program, connect_to, 22) == {"a": 20, "b": 2}
    (worker,) = program.workers()
    os.kill(worker, signal.SIGKILL)
    await until(lambda: program.workers() not in ([worker], [None]) and program.is_ready(), "started again")
    assert await shares(program, connect_to, 22) == {"a": 20, "b": 2}
    code, out, _ = program.run_verb("explain", "GET", "http://app.test/")
    assert (code, "slow start, 3.6e+03 s left" in out) == (0, True), out


async def test_slow_start_comes_to_an_end(
    start_origin: StartOrigin, start_program: StartProgram, connect_to: Connect
) -> None:
    """After down and up; when the time is over the shares are as ever."""
    a, b, check = start_origin(name="a"), start_origin(name="b"), start_origin(name="check")
    checks = {"interval": "200ms", "timeout": "10s", "rise": 1, "fall": 1, "port": check.port}
    program = start_program(configure(a, b, health=checks, slow_start="2s"))
    await until(lambda: health(program) == {"a": "up", "b": "up"}, "up")
    assert {backend["slow_start"] for backend in members(program).values()} == {None}
    await check.close()
    await until(lambda: health(program) == {"a": "down", "b": "down"}, "down")
    again = start_origin(check.port, name="check")
    await until(lambda: health(program) == {"a": "up", "b": "up"}, "up again")
    assert any(backend["slow_start"] for backend in members(program).values())
    await until(lambda: not any(backend["slow_start"] for backend in members(program).values()), "over")
    await asyncio.sleep(0.2)  # the worker's last step
    assert await shares(program, connect_to, 20) == {"a": 10, "b": 10}
    assert again.requests
    assert json.loads(program.admin("/api/v1/pools")[1])[0]["available"] == 2
