"""Active checks with real nodes: what a program does while they die, hang, refuse and come back."""

import asyncio
import http.client
import json
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.integration.client import get
from tests.integration.conftest import Connect, StartNginx, StartOrigin, StartProgram
from tests.integration.dns_server import DnsServer
from tests.integration.nginx import Nginx
from tests.integration.origin import OK, OriginConnection
from tests.integration.ports import Ports
from tests.integration.program import Program
from tests.integration.wire import DEADLINE, End

ALL = "/api/v1/pools/web/backends"
REQUEST = get("app.test")
QUICK = {"interval": "200ms", "timeout": "500ms", "rise": 2, "fall": 2}


def configure(*backends: Any, health: dict[str, Any] | None = None, **pool: Any) -> dict[str, Any]:
    """One pool of these nodes or addresses, checked often."""
    listed = [
        {"name": item.name, "address": f"127.0.0.1:{item.port}"} if not isinstance(item, dict) else item
        for item in backends
    ]
    return {"pools": {"web": {"backends": listed, "health": {**QUICK, **(health or {})}, **pool}}, "workers": 2}


def members(program: Program) -> dict[str, dict[str, Any]]:
    """The backends as the admin API shows them, by name."""
    found = json.loads(program.admin("/api/v1/pools/web/backends")[1])
    return {backend["name"]: backend for backend in found}


def health(program: Program) -> dict[str, str]:
    """How each backend stands."""
    return {name: backend["health"] for name, backend in members(program).items()}


async def until(condition: Callable[[], object], what: str) -> None:
    """Wait until the condition holds."""
    until = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < until, what
        await asyncio.sleep(0.02)


async def until_health(program: Program, **wanted: str) -> None:
    """Wait until the backends stand like this, in the API, in the metrics and in the workers."""
    until_time = time.monotonic() + DEADLINE
    while (found := health(program)) != wanted:
        assert time.monotonic() < until_time, f"{found}, not {wanted}\n{program.stderr}"
        await asyncio.sleep(0.02)
    for name, state in wanted.items():
        assert program.metric("pyproxy_backend_up", backend=name) == (state == "up")
    await asyncio.sleep(0.1)  # the message to the workers is on its way


async def ask(program: Program, connect_to: Connect) -> tuple[int, str]:
    """Ask on a connection of its own: the status, and which node has answered."""
    client = await connect_to(program.port)
    answer = await client.ask(REQUEST)
    client.close()
    return answer.status, (answer.get("x-node") or answer.get("x-origin") or b"").decode()


async def answers(program: Program, connect_to: Connect, count: int = 20) -> set[tuple[int, str]]:
    """Ask several times, over all workers."""
    return {await ask(program, connect_to) for _ in range(count)}


def pids(node: Nginx) -> list[int]:
    """The master of a node and its worker."""
    master = int((node.directory / "nginx.pid").read_text())
    return [master, *map(int, Path(f"/proc/{master}/task/{master}/children").read_text().split())]


@asynccontextmanager
async def load(program: Program, connect_to: Connect, count: int = 8) -> AsyncIterator[Counter[int]]:
    """Keep asking on kept connections while something happens; the statuses are counted."""
    seen: Counter[int] = Counter()

    async def loop() -> None:
        client = await connect_to(program.port)
        while True:
            seen[(await client.ask(REQUEST)).status] += 1
            await asyncio.sleep(0.002)

    tasks = [asyncio.create_task(loop()) for _ in range(count)]
    try:
        yield seen
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(end, asyncio.CancelledError) for end in ended), ended


async def test_a_node_that_is_killed_goes_and_comes_back(
    start_nginx: StartNginx, start_program: StartProgram, connect_to: Connect
) -> None:
    """Under traffic no GET fails; it is down after ``fall`` checks, and up again after ``rise``."""
    a, b = start_nginx("a"), start_nginx("b")
    # The budget counts the requests of ten seconds, and this doesn't run for that long.
    program = start_program(configure(a, b, retry={"budget": "100%"}))
    await until_health(program, a="up", b="up")
    assert await answers(program, connect_to) == {(200, "a"), (200, "b")}
    async with load(program, connect_to) as seen:
        await asyncio.sleep(0.2)
        for pid in pids(b):
            os.kill(pid, signal.SIGKILL)
        await until_health(program, a="up", b="down")
        total = members(program)["b"]["total"]
        await asyncio.sleep(0.3)
        assert members(program)["b"]["total"] == total, "who is down gets nothing"
    assert set(seen) == {200}
    assert program.says(f"web/b ({b.address}) is down: L4 refused")
    shown = members(program)["b"]
    assert (shown["available"], shown["last_check"]["ok"], shown["last_check"]["detail"]) == (
        False,
        False,
        "L4 refused",
    )
    assert program.admin("/readyz")[0] == 200

    b.stop()
    b.start()
    await until_health(program, a="up", b="up")
    assert await answers(program, connect_to) == {(200, "a"), (200, "b")}
    assert program.stderr.count("web/b (") == 3, "one line a flip"


async def test_a_node_that_hangs(start_nginx: StartNginx, start_program: StartProgram, connect_to: Connect) -> None:
    """Stopped, the kernel still accepts: out within fall x (interval + timeout), requests don't wait for it then."""
    a, b = start_nginx("a"), start_nginx("b")
    program = start_program(configure(a, b, on_down="reset", timeouts={"response": "10s"}))
    await until_health(program, a="up", b="up")
    stopped = pids(b)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    begin = time.monotonic()
    try:
        waiting = [asyncio.create_task(ask(program, connect_to)) for _ in range(6)]
        await until(lambda: health(program)["b"] == "down", "down")
        assert time.monotonic() - begin < 2 * (0.2 + 0.5) + 0.5
        assert members(program)["b"]["last_check"]["detail"] == "L7 timeout"
        # Those that it had are tried elsewhere.
        assert set(await asyncio.gather(*waiting)) == {(200, "a")}
        assert await answers(program, connect_to) == {(200, "a")}
        assert time.monotonic() - begin < 5
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    await until_health(program, a="up", b="up")


async def test_in_flight_goes_on_by_default(
    start_origin: StartOrigin, start_program: StartProgram, connect_to: Connect
) -> None:
    """A node that fails its checks may still finish what it has."""
    origin, check = start_origin(name="a"), start_origin(name="check")
    program = start_program(configure(origin, health={"port": check.port}))
    await until_health(program, a="up")
    slow = await connect_to(program.port)
    await slow.send(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 4\r\n\r\nbo")
    await until(lambda: members(program)["a"]["active"] == 1, "in flight")
    check.play(_unavailable)
    await until_health(program, a="down")
    assert members(program)["a"]["last_check"]["detail"] == "L7 503, expected 200-399"
    assert await ask(program, connect_to) == (503, "")
    await slow.send(b"dy")
    assert (await slow.read_response()).status == 200


async def test_nobody_is_up(start_nginx: StartNginx, start_program: StartProgram, connect_to: Connect) -> None:
    """503 with ``fail``; with ``try_all`` they are tried, and a check that is wrong costs nothing."""
    node = start_nginx("a", server="location /up { return 503; }")
    checked = configure(node, health={"path": "/up"})
    program = start_program(checked)
    await until_health(program, a="down")
    assert await answers(program, connect_to) == {(503, "")}
    again = start_program(configure(node, health={"path": "/up"}, when_all_down="try_all"))
    await until_health(again, a="down")
    assert await answers(again, connect_to) == {(200, "a")}
    assert members(again)["a"]["available"] is False


async def test_requests_wait_for_the_first_check(
    start_origin: StartOrigin, start_program: StartProgram, connect_to: Connect
) -> None:
    """Not a 503, as long as it takes less than a second; after that one."""
    origin, check = start_origin(name="a"), start_origin(name="check")
    check.play(_later(0.4))
    slow = start_origin(name="slow")
    slow.play(_later(3.0))
    program = start_program(configure(origin, health={"port": check.port, "timeout": "5s", "interval": "5s"}))
    begin = time.monotonic()
    assert set(await asyncio.gather(*(ask(program, connect_to) for _ in range(5)))) == {(200, "a")}
    assert time.monotonic() - begin < 1.0

    program = start_program(configure(origin, health={"port": slow.port, "timeout": "5s", "interval": "5s"}))
    assert health(program) == {"a": "checking"}
    begin = time.monotonic()
    assert await ask(program, connect_to) == (503, "")
    assert 0.9 < time.monotonic() - begin < 1.6
    await until(program.log.lines, "logged")
    assert [(line.status, line.end, line.ua) for line in program.log.lines()] == [(503, "SC", ["-"])]


async def test_a_worker_that_starts_later_knows(
    start_nginx: StartNginx, start_program: StartProgram, connect_to: Connect
) -> None:
    """How all stand comes with its start message: what the checks say, and what the operator wants."""
    a, b, c = start_nginx("a"), start_nginx("b", server="location /up { return 503; }"), start_nginx("c")
    program = start_program(configure(a, b, c, health={"path": "/up", "expect": 200}))
    await until_health(program, a="up", b="down", c="up")
    assert program.change("PATCH", f"{ALL}/c", {"state": "drain"})[1]["health"] == "up", "who is drained is checked"
    before = program.workers()
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    await until(lambda: program.is_ready() and not {None, *before} & set(program.workers()), "respawn")
    assert await answers(program, connect_to) == {(200, "a")}


async def test_the_operator_and_the_checks_together(
    start_nginx: StartNginx, start_program: StartProgram, connect_to: Connect
) -> None:
    """In maintenance a node isn't checked; ``ready`` brings it back when a check has passed, also after kill -9."""
    logged = "location /up { access_log checks.log times; return 200; }"
    a, b = start_nginx("a"), start_nginx("b", server=logged)
    program = start_program(configure(a, b, health={"path": "/up", "expect": "200,404"}, retry={"budget": "100%"}))

    def change(**values: Any) -> tuple[str, str, bool]:
        status, shown = program.change("PATCH", f"{ALL}/b", values)
        assert status == 200, shown
        return shown["state"], shown["health"], shown["available"]

    def checks() -> int:
        return len((b.directory / "checks.log").read_text().splitlines())

    await until_health(program, a="up", b="up")
    async with load(program, connect_to) as seen:
        assert change(state="maint") == ("maint", "checking", False)
        assert members(program)["b"]["last_check"] is None
        assert await answers(program, connect_to) == {(200, "a")}
        count = checks()
        await asyncio.sleep(0.6)
        assert checks() == count, "nobody asks a node that is worked on"

        assert change(state="ready")[0] == "ready"
        await until_health(program, a="up", b="up")
        assert checks() > count
        assert await answers(program, connect_to) == {(200, "a"), (200, "b")}

        for pid in pids(b):
            os.kill(pid, signal.SIGKILL)
        await until_health(program, a="up", b="down")
        assert change(weight=3, max_conns=50) == ("ready", "down", False), "a change is no reason to believe in it"
        assert change(state="maint") == ("maint", "checking", False)
        assert change(state="ready")[0] == "ready"
        await until_health(program, a="up", b="down")
        b.stop()
        b.start()
        await until_health(program, a="up", b="up")
        assert await answers(program, connect_to) == {(200, "a"), (200, "b")}
    assert set(seen) == {200}


async def test_a_node_that_is_added_is_checked(
    start_nginx: StartNginx, start_origin: StartOrigin, start_program: StartProgram, connect_to: Connect
) -> None:
    """It gets requests when it is up; one that goes in the middle of its first check leaves nothing behind."""
    a, b, slow = start_nginx("a"), start_nginx("b"), start_origin(name="slow")
    slow.play(_hang)
    program = start_program(configure(a, health={"timeout": "10s"}))
    await until_health(program, a="up")
    assert program.change("POST", ALL, {"name": "b", "address": b.address})[0] == 201
    await until_health(program, a="up", b="up")
    assert await answers(program, connect_to) == {(200, "a"), (200, "b")}

    status, shown = program.change("POST", ALL, {"name": "c", "address": f"127.0.0.1:{slow.port}"})
    assert (status, shown["health"], shown["available"]) == (201, "checking", False)
    await asyncio.wait_for(slow.arrived.wait(), DEADLINE)
    assert health(program)["c"] == "checking"
    assert await answers(program, connect_to) == {(200, "a"), (200, "b")}
    assert program.change("DELETE", f"{ALL}/c")[0] == 204
    assert program.change("DELETE", f"{ALL}/b")[0] == 204
    b.stop()
    await asyncio.sleep(0.6)
    assert health(program) == {"a": "up"}
    assert "is down" not in program.stderr
    assert await answers(program, connect_to) == {(200, "a")}


async def test_explain_says_why(start_nginx: StartNginx, start_program: StartProgram, ports: Ports) -> None:
    """The reason that the last check found."""
    node = start_nginx("a")
    gone = {"name": "gone", "address": f"127.0.0.1:{ports.take()}"}
    program = start_program(configure(node, gone))
    await until_health(program, a="up", gone="down")
    reasons = {row["name"]: row["reason"] for row in _explain(program)["backends"]}
    assert reasons == {"a": None, "gone": "down: L4 refused"}


async def test_unix_socket_and_proxy_header(
    start_nginx: StartNginx, start_program: StartProgram, connect_to: Connect, tmp_path: Path
) -> None:
    """A check goes where the requests go, and begins as they do."""
    path = tmp_path / "node.sock"
    for version in ("v1", "v2"):
        path.unlink(missing_ok=True)
        node = start_nginx("a", server=f"listen unix:{path} proxy_protocol; location /up {{ return 200 fine; }}")
        backend = {"name": "a", "address": f"unix:{path}"}
        program = start_program(configure(backend, health={"path": "/up", "body": "ine"}, send_proxy=version))
        await until_health(program, a="up")
        assert members(program)["a"]["last_check"]["detail"] == "L7 200"
        assert await ask(program, connect_to) == (200, "a")
        node.stop()
        await until_health(program, a="down")


async def test_each_address_of_a_name_is_checked(
    start_nginx: StartNginx, start_program: StartProgram, connect_to: Connect, ports: Ports
) -> None:
    """One of them is down, which is no matter of the others."""
    server = DnsServer(ports.take()).start()
    try:
        node = start_nginx("a")
        server.put("app.test", "A", "127.0.0.1", "127.0.0.2")
        config = configure({"name": "app", "address": f"app.test:{node.port}"})
        program = start_program({**config, "dns": {"servers": [server.address]}})
        up, down = f"app[127.0.0.1:{node.port}]", f"app[127.0.0.2:{node.port}]"
        await until_health(program, **{up: "up", down: "down"})
        assert await answers(program, connect_to) == {(200, "a")}
        server.put("app.test", "A", "127.0.0.1")
        await until_health(program, app="up")
        assert await answers(program, connect_to) == {(200, "a")}
    finally:
        server.stop()


async def test_tcp_checks(start_program: StartProgram, ports: Ports) -> None:
    """Whoever accepts is up, whatever he says."""
    port = ports.take()
    listener = socket.create_server(("127.0.0.1", port))
    program = start_program(configure({"name": "a", "address": f"127.0.0.1:{port}"}, health={"type": "tcp"}))
    await until_health(program, a="up")
    assert members(program)["a"]["last_check"]["detail"] == "L4 connected"
    listener.close()
    await until_health(program, a="down")


async def test_on_down_reset_cuts_what_is_in_flight(
    start_origin: StartOrigin, start_program: StartProgram, connect_to: Connect
) -> None:
    """An answer that had begun is cut, and a POST that had not been answered gets a 502 and isn't sent twice."""
    origin, check = start_origin(name="a"), start_origin(name="check")
    origin.play(_half_an_answer)
    program = start_program(configure(origin, health={"port": check.port}, on_down="reset"))
    await until_health(program, a="up")
    half = await connect_to(program.port)
    await half.send(REQUEST)
    post = await connect_to(program.port)
    await post.send(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 4\r\n\r\nbo")
    await until(lambda: members(program)["a"]["active"] == 2, "in flight")
    check.play(_unavailable)
    assert (await post.read_response()).status == 502
    assert (await half.read_rest()).endswith(b"half")
    assert half.end is not End.OPEN
    await until(lambda: members(program)["a"]["active"] == 0, "idle")
    await until(lambda: len(program.log.lines()) == 2, "logged")
    assert sorted((line.status, line.end) for line in program.log.lines()) == [(200, "SD"), (502, "SH")]


def _explain(program: Program) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", program.admin_port, timeout=DEADLINE)
    try:
        question = {"method": "GET", "url": "http://app.test/"}
        connection.request("POST", "/api/v1/explain", json.dumps(question), {"Content-Type": "application/json"})
        answer: dict[str, Any] = json.loads(connection.getresponse().read())
        return answer
    finally:
        connection.close()


async def _unavailable(connection: OriginConnection) -> None:
    await connection.request()
    await connection.send(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
    await connection.read_rest()


async def _half_an_answer(connection: OriginConnection) -> None:
    request = await connection.request_head()
    if request.method == b"GET":
        await connection.send(OK.replace(b"2\r\n\r\nok", b"8\r\n\r\nhalf"))
    await connection.read_rest()


async def _hang(connection: OriginConnection) -> None:
    await connection.request()
    await connection.read_rest()


def _later(seconds: float) -> Any:
    async def script(connection: OriginConnection) -> None:
        await connection.request()
        await asyncio.sleep(seconds)
        await connection.send(OK)
        await connection.read_rest()

    return script


async def test_a_node_takes_itself_out(start_program: StartProgram, start_origin: StartOrigin) -> None:
    """By a header in answers to checks: nothing new until it says otherwise, and the operator's word still holds."""
    word = [b"drain"]

    async def script(connection: OriginConnection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nX-LB-State: %b\r\nContent-Length: 0\r\n\r\n" % word[0])

    node, other = start_origin(), start_origin()
    node.play(script)
    backends = [
        {"name": name, "address": f"127.0.0.1:{origin.port}"} for name, origin in (("node", node), ("other", other))
    ]
    program = start_program(configure(*backends, health={"steer": True, "interval": "100ms"}))

    def state() -> tuple[str, bool, bool]:
        found = members(program)["node"]
        return found["state"], found["steered"], found["available"]

    for said in ("drain", "maint"):
        word[0] = said.encode()
        await until(lambda: state() == (said, True, False), said)  # noqa: B023 - called at once
    word[0] = b"nonsense"
    await until(lambda: "says X-LB-State: 'nonsense'" in program.stderr, "nonsense")
    assert state() == ("maint", True, False)
    word[0] = b"ready"
    await until(lambda: state() == ("ready", False, True), "ready")
    program.change("PATCH", f"{ALL}/node", {"state": "drain"})
    assert state() == ("drain", False, False)
