"""Backends that are names: what a program does while a real name server's answers come, change and fail."""

import asyncio
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import dns.rcode
import pytest

from tests.integration.client import get
from tests.integration.conftest import Connect, StartOrigin, StartProgram
from tests.integration.dns_server import DnsServer
from tests.integration.ports import Ports
from tests.integration.program import Program
from tests.integration.wire import DEADLINE

REQUEST = get("app.test")


@pytest.fixture
def server(ports: Ports) -> Iterator[DnsServer]:
    """A name server without records."""
    server = DnsServer(ports.take()).start()
    yield server
    server.stop()


def configure(server: DnsServer, *backends: dict[str, Any], **config: Any) -> dict[str, Any]:
    """One pool of these backends."""
    return {"dns": {"servers": [server.address]}, "pools": {"web": {"backends": list(backends)}}, **config}


def members(program: Program) -> dict[str, dict[str, Any]]:
    """The backends as the admin API shows them, by name."""
    found = json.loads(program.admin("/api/v1/pools/web/backends")[1])
    return {backend["name"]: backend for backend in found}


async def until(condition: Callable[[], object], what: str) -> None:
    """Wait until the condition holds."""
    until = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < until, what
        await asyncio.sleep(0.02)


async def until_all(ask: Callable[[], Awaitable[str]], name: str) -> None:
    """Ask until another origin has answered ten times in a row."""
    until = time.monotonic() + DEADLINE
    row = 0
    while row < 10:
        assert time.monotonic() < until, f"never only {name}"
        row = row + 1 if await ask() == name else 0
        await asyncio.sleep(0.01)


def asker(program: Program, connect_to: Connect) -> Callable[[], Awaitable[str]]:
    """Ask on a connection of its own, and tell which origin has answered; anything but 200 is a failure."""

    async def ask() -> str:
        client = await connect_to(program.port)
        answer = await client.ask(REQUEST)
        client.close()
        assert answer.status == 200
        return (answer.get("x-origin") or b"").decode()

    return ask


async def test_an_address_that_changes_under_traffic(
    server: DnsServer, start_program: StartProgram, start_origin: StartOrigin, connect_to: Connect
) -> None:
    """
    Requests move to the new address and none fails, in flight ones end where they began.

    The name and its counters stay, and a worker that starts later begins with what holds then.
    """
    old = start_origin(name="old")
    new = start_origin(old.port, "127.0.0.2", name="new")
    server.put("app.test", "A", "127.0.0.1")
    program = start_program(configure(server, {"name": "app", "address": f"app.test:{old.port}"}, workers=2))
    ask = asker(program, connect_to)
    assert await ask() == "old"
    slow = await connect_to(program.port)
    await slow.send(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 4\r\n\r\nbo")
    await until(lambda: members(program)["app"]["active"] == 1, "the slow request is in flight")
    server.put("app.test", "A", "127.0.0.2")
    await until_all(ask, "new")
    assert members(program)["app"]["address"] == f"127.0.0.2:{old.port}"
    assert members(program)["app"]["total"] == len(old.requests) + 1 + len(new.requests)
    await slow.send(b"dy")
    assert (await slow.read_response()).get("x-origin") == b"old"

    pids = program.workers()
    os.kill(pids[0], signal.SIGKILL)
    await until(lambda: program.is_ready() and None not in program.workers() and program.workers() != pids, "respawn")
    assert {await ask() for _ in range(20)} == {"new"}


async def test_what_is_in_flight_on_the_old_address_is_not_in_the_way(
    server: DnsServer, start_program: StartProgram, start_origin: StartOrigin, connect_to: Connect
) -> None:
    """
    With room for one request an address is full, and the next address of the name is not.

    What the name has counted is shown on, while the old one still serves and after, and when it is back.
    """
    old = start_origin(name="old")
    new = start_origin(old.port, "127.0.0.2", name="new")
    server.put("app.test", "A", "127.0.0.1")
    backend = {"name": "app", "address": f"app.test:{old.port}", "max_conns": 1}
    program = start_program(configure(server, backend, workers=2))
    ask = asker(program, connect_to)
    shown = [0]

    def is_at(host: str) -> bool:
        """Whether the address has changed; what is shown on the way is noted."""
        app = members(program)["app"]
        shown.append(app["total"])
        return bool(app["address"] == f"{host}:{old.port}")

    for _ in range(3):
        assert await ask() == "old"
    slow = await connect_to(program.port)
    await slow.send(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 4\r\n\r\nbo")
    await until(lambda: members(program)["app"]["active"] == 1, "the slow request is in flight")
    server.put("app.test", "A", "127.0.0.2")
    await until(lambda: is_at("127.0.0.2"), "the new address")
    assert [await ask() for _ in range(5)] == ["new"] * 5
    app = members(program)["app"]
    assert (app["active"], app["total"], app["max_conns"]) == (1, 9, 1)
    await slow.send(b"dy")
    assert (await slow.read_response()).get("x-origin") == b"old"
    server.put("app.test", "A", "127.0.0.1")
    await until(lambda: is_at("127.0.0.1"), "the old address again")
    await until_all(ask, "old")
    assert shown == sorted(shown)
    await until(lambda: members(program)["app"]["active"] == 0, "idle")
    served = len(old.requests) + len(new.requests)
    assert members(program)["app"]["total"] == served
    assert program.metric("pyproxy_backend_requests_total", backend="app") == served
    assert program.metric("pyproxy_backend_response_seconds_count", backend="app") == served


async def test_a_name_with_several_addresses(
    server: DnsServer, start_program: StartProgram, start_origin: StartOrigin, connect_to: Connect
) -> None:
    """Each is a backend; together they get what the name gets, and one that is gone gets nothing any more."""
    fixed = start_origin(name="fixed")
    for number in (2, 3, 4):
        start_origin(fixed.port, f"127.0.0.{number}", name=f"app{number}")
    server.put("app.test", "A", *(f"127.0.0.{number}" for number in (4, 2, 3)))
    program = start_program(
        configure(
            server,
            {"name": "fixed", "address": f"127.0.0.1:{fixed.port}", "weight": 1},
            {"name": "app", "address": f"app.test:{fixed.port}", "weight": 2},
        )
    )
    ask = asker(program, connect_to)
    counted = Counter([await ask() for _ in range(90)])
    assert counted == {"fixed": 30, "app2": 20, "app3": 20, "app4": 20}
    found = members(program)
    assert set(found) == {"fixed", *(f"app[127.0.0.{number}:{fixed.port}]" for number in (2, 3, 4))}
    assert [backend["weight"] for backend in found.values()] == [1, 0.667, 0.667, 0.667]
    name = f"app[127.0.0.3:{fixed.port}]"
    assert program.metric("pyproxy_backend_requests_total", backend=name) == 20

    server.put("app.test", "A", "127.0.0.2", "127.0.0.4")
    await until(lambda: name not in members(program), "one address less")
    await until(lambda: program.metric("pyproxy_backend_active") == 0, "idle")
    assert set(Counter([await ask() for _ in range(20)])) == {"fixed", "app2", "app4"}


async def test_a_service(
    server: DnsServer, start_program: StartProgram, start_origin: StartOrigin, connect_to: Connect
) -> None:
    """SRV records say where, how much and in which order; the last resort is used when nothing else is left."""
    heavy, light, spare = (start_origin(name=name) for name in ("heavy", "light", "spare"))
    for origin in (heavy, light, spare):
        server.put(f"{origin.name}.test", "A", "127.0.0.1")
    last = f"20 1 {spare.port} spare.test."
    server.put("_http._tcp.test", "SRV", f"10 3 {heavy.port} heavy.test.", f"10 1 {light.port} light.test.", last)
    program = start_program(configure(server, {"name": "app", "address": "_http._tcp.test", "srv": True}))
    ask = asker(program, connect_to)
    assert Counter([await ask() for _ in range(40)]) == {"heavy": 30, "light": 10}
    assert members(program)[f"app[127.0.0.1:{spare.port}]"]["backup"] is True
    server.put("_http._tcp.test", "SRV", last)
    await until_all(ask, "spare")


async def test_the_last_good_answer_is_kept(
    server: DnsServer, start_program: StartProgram, start_origin: StartOrigin, connect_to: Connect
) -> None:
    """Whatever a name server does wrong, traffic goes on; the log says it once, and the next answer counts."""
    old = start_origin(name="old")
    start_origin(old.port, "127.0.0.2", name="new")
    server.put("app.test", "A", "127.0.0.1")
    program = start_program(configure(server, {"name": "app", "address": f"app.test:{old.port}"}))
    ask = asker(program, connect_to)
    server.remove("app.test")
    await until(lambda: "can't look up app.test (web/app)" in program.stderr, "the failure is said")
    assert program.says(f"it stays 127.0.0.1:{old.port}")
    server.failure = dns.rcode.SERVFAIL
    asked = server.asked.total()
    await until(lambda: server.asked.total() > asked, "asked again")
    assert {await ask() for _ in range(10)} == {"old"}
    # Once each: that the name is gone, and that the server fails.
    assert program.stderr.count("can't look up") <= 2
    server.failure = None
    server.put("app.test", "A", "127.0.0.2")
    await until_all(ask, "new")


async def test_a_start_without_dns(
    server: DnsServer, start_program: StartProgram, start_origin: StartOrigin, connect_to: Connect
) -> None:
    """The program serves what it can, answers 503 for the rest, and takes the name in when it is answered."""
    origin = start_origin(name="late")
    server.is_silent = True
    program = start_program(configure(server, {"name": "app", "address": f"app.test:{origin.port}"}))
    client = await connect_to(program.port)
    assert (await client.ask(REQUEST)).status == 503
    shown = members(program)["app"]
    assert (shown["address"], shown["available"]) == (f"app.test:{origin.port}", False)
    server.put("app.test", "A", "127.0.0.1")
    server.is_silent = False
    await until(lambda: members(program)["app"]["available"], "the name is answered")
    assert (await client.ask(REQUEST)).get("x-origin") == b"late"
    first, second = await program.log.await_lines(2, client.source)
    assert (first.status, first.end, first.ua) == (503, "SC", ["-"])
    assert (second.status, second.ua) == (200, ["app"])
