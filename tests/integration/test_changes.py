"""Changes at run time through the real program: every worker goes by them when the answer comes, and they stay."""

import asyncio
import json
import os
import pwd
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.client import RawClient, get
from tests.integration.conftest import Connect, StartNginx, StartOrigin, StartProgram
from tests.integration.dns_server import DnsServer
from tests.integration.nginx import Nginx
from tests.integration.origin import Origin, OriginConnection
from tests.integration.ports import Ports
from tests.integration.program import Program
from tests.integration.supervised import until
from tests.integration.wire import DEADLINE

ALL = "/api/v1/pools/web/backends"
A = f"{ALL}/n1"
WORKERS = 2


def _config(nodes: list[Nginx], **more: Any) -> dict[str, Any]:
    backends = [{"name": node.name, "address": node.address} for node in nodes]
    return {"workers": WORKERS, "pools": {"web": {"backends": backends}}, **more}


@pytest.fixture
def server(ports: Ports) -> Iterator[DnsServer]:
    """A name server without records."""
    server = DnsServer(ports.take()).start()
    yield server
    server.stop()


@pytest.fixture
def nodes(start_nginx: StartNginx) -> list[Nginx]:
    """Two nodes."""
    return [start_nginx("n1"), start_nginx("n2")]


async def _served(program: Program, connect_to: Connect, count: int = 30) -> Counter[bytes | None]:
    """Who answers so many requests, each on a connection of its own, so that every worker is met."""
    found: Counter[bytes | None] = Counter()
    for _ in range(count):
        client = await connect_to(program.port)
        found[(await client.ask(get("h"))).get("x-node")] += 1
        client.close()
    return found


def _backend(program: Program, name: str = "n1") -> Any:
    return json.loads(program.admin(f"/api/v1/pools/web/backends/{name}")[1])


@pytest.mark.parametrize("state", ["drain", "maint"])
async def test_a_drained_node_gets_nothing_new(
    state: str, nodes: list[Nginx], start_program: StartProgram, connect_to: Connect
) -> None:
    """From the answer on, in every worker; ``ready`` brings it back."""
    program = start_program(_config(nodes))
    status, answer = program.change("PATCH", A, {"state": state, "reason": "new kernel"})
    assert (status, answer["state"], answer["available"]) == (200, state, False)
    assert await _served(program, connect_to) == {b"n2": 30}
    assert program.metric("pyproxy_backend_state", backend="n1", state=state) == 1
    assert program.metric("pyproxy_override_age_seconds", target="web/n1/state") >= 0
    (override,) = json.loads(program.admin("/api/v1/config")[1])["overrides"]
    assert (override["target"], override["value"], override["replaced"]) == ("web/n1/state", state, "ready")
    assert (override["by"], override["reason"]) == ("127.0.0.1", "new kernel")
    status, answer = program.change("PATCH", A, {"state": "ready"})
    assert (status, answer["state"], answer["available"]) == (200, "ready", True)
    assert json.loads(program.admin("/api/v1/config")[1])["overrides"] == []
    assert (await _served(program, connect_to))[b"n1"] > 5


async def test_weight_and_max_conns(nodes: list[Nginx], start_program: StartProgram, connect_to: Connect) -> None:
    """A weight of 0 gets nothing; null is what the file says."""
    program = start_program(_config(nodes))
    status, answer = program.change("PATCH", A, {"weight": 0, "max_conns": 7})
    assert (status, answer["weight"], answer["max_conns"]) == (200, 0, 7)
    assert await _served(program, connect_to) == {b"n2": 30}
    status, answer = program.change("PATCH", A, {"weight": None, "max_conns": None})
    assert (answer["weight"], answer["max_conns"]) == (1, 0)
    assert (await _served(program, connect_to))[b"n1"] > 5


async def test_all_drained_is_503(nodes: list[Nginx], start_program: StartProgram, connect_to: Connect) -> None:
    """Whoever drains every node gets what he asked for, and explain says why."""
    program = start_program(_config(nodes))
    for node, state in zip(nodes, ("drain", "maint"), strict=True):
        program.change("PATCH", f"/api/v1/pools/web/backends/{node.name}", {"state": state})
    client = await connect_to(program.port)
    assert (await client.ask(get("h"))).status == 503
    _, answer = program.change("POST", "/api/v1/explain", {"method": "GET", "url": "http://h/"})
    assert [backend["reason"] for backend in answer["backends"]] == ["drained", "maint"]


def _slow_origin(ports: Ports, start_origin: StartOrigin) -> tuple[Origin, asyncio.Event]:
    """Start a backend that answers when the event is set."""
    release = asyncio.Event()

    async def slow(connection: OriginConnection) -> None:
        await connection.request()
        await release.wait()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await connection.read_rest()

    origin = start_origin(ports.take())
    origin.play(slow)
    return origin, release


async def test_what_is_in_flight_goes_on(
    ports: Ports, start_origin: StartOrigin, start_program: StartProgram, connect_to: Connect
) -> None:
    """A wait ends with 202 while a request is in flight, with 200 when it has ended, which it does in peace."""
    origin, release = _slow_origin(ports, start_origin)
    backends = [{"name": "n1", "address": f"127.0.0.1:{origin.port}"}]
    program = start_program({"workers": WORKERS, "pools": {"web": {"backends": backends}}})
    client: RawClient = await connect_to(program.port)
    asking = asyncio.create_task(client.ask(get("h")))
    await asyncio.wait_for(origin.arrived.wait(), DEADLINE)
    change = program.change
    status, answer = await asyncio.to_thread(change, "PATCH", f"{A}?wait=100ms", {"state": "maint"})
    assert (status, answer["active"], answer["state"]) == (202, 1, "maint")
    waiting = asyncio.create_task(asyncio.to_thread(change, "PATCH", f"{A}?wait=30s", {"state": "drain"}))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    release.set()
    assert (await asking).body == b"ok"
    status, answer = await waiting
    assert (status, answer["active"]) == (200, 0)


async def test_a_change_survives_kill_9(
    nodes: list[Nginx], start_program: StartProgram, connect_to: Connect, tmp_path: Path
) -> None:
    """Drained stays drained, in workers started again and in a program started again."""
    state = {"state_dir": str(tmp_path / "state")}
    program = start_program(_config(nodes, **state))
    assert program.change("PATCH", A, {"state": "drain"})[0] == 200
    for pid in program.workers():
        os.kill(pid, signal.SIGKILL)
    until = time.monotonic() + DEADLINE
    while program.metric("pyproxy_worker_restarts_total") < WORKERS or not program.is_ready():
        assert time.monotonic() < until
        await asyncio.sleep(0.02)
    assert await _served(program, connect_to, 10) == {b"n2": 10}
    program.kill()
    program.start()
    assert _backend(program)["state"] == "drain"
    assert await _served(program, connect_to, 10) == {b"n2": 10}
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


async def test_without_a_state_dir_a_restart_forgets(nodes: list[Nginx], start_program: StartProgram) -> None:
    """As ``state_dir: null`` says."""
    program = start_program(_config(nodes))
    program.change("PATCH", A, {"state": "drain"})
    program.stop()
    program.start()
    assert _backend(program)["state"] == "ready"


async def test_the_file_wins_when_it_changes(nodes: list[Nginx], start_program: StartProgram, tmp_path: Path) -> None:
    """A weight that the file has changed meanwhile is the file's; a pinned one stays, as does the state."""
    program = start_program(_config(nodes, state_dir=str(tmp_path)))
    program.change("PATCH", A, {"weight": 9, "state": "drain"})
    program.change("PATCH", "/api/v1/pools/web/backends/n2", {"weight": 9, "pinned": True})
    program.stop()
    for backend in program.config["pools"]["web"]["backends"]:
        backend["weight"] = 2
    program.start()
    assert (_backend(program)["weight"], _backend(program)["state"]) == (2, "drain")
    assert _backend(program, "n2")["weight"] == 9
    assert program.says("web/n1/weight is as the configuration has it: weight 9 by 127.0.0.1 is overruled")


async def test_what_expires_is_over_by_itself(
    nodes: list[Nginx], start_program: StartProgram, connect_to: Connect, tmp_path: Path
) -> None:
    """When the time is up the node is as configured again, and the journal knows."""
    program = start_program(_config(nodes, state_dir=str(tmp_path)))
    program.change("PATCH", A, {"state": "maint", "expires": "300ms"})
    until = time.monotonic() + DEADLINE
    while _backend(program)["state"] != "ready":
        assert time.monotonic() < until
        await asyncio.sleep(0.02)
    assert (await _served(program, connect_to))[b"n1"] > 5
    assert json.loads((tmp_path / "overrides.json").read_text())["overrides"] == []


@pytest.mark.parametrize("content", [b'{"version": 1, "overri', b"", b'{"version": 2, "overrides": []}'])
async def test_a_bad_journal_is_put_aside(
    content: bytes, nodes: list[Nginx], start_program: StartProgram, tmp_path: Path
) -> None:
    """The program starts, says so, and keeps the file for whoever wants to look."""
    (tmp_path / "overrides.json").write_bytes(content)
    program = start_program(_config(nodes, state_dir=str(tmp_path)))
    assert program.says("overrides.json can't be used: it ")
    assert (tmp_path / "overrides.json.bad-1").read_bytes() == content
    assert program.change("PATCH", A, {"state": "drain"})[0] == 200


async def test_a_full_disk_changes_nothing(nodes: list[Nginx], start_program: StartProgram, tmp_path: Path) -> None:
    """What can't be kept isn't done either."""
    program = start_program(_config(nodes, state_dir=str(tmp_path)))
    (tmp_path / "overrides.json.new").mkdir()
    status, answer = program.change("PATCH", A, {"state": "drain"})
    assert (status, _backend(program)["state"]) == (503, "ready")
    assert "can't be kept in state_dir" in answer["error"]


async def test_a_worker_that_hangs(nodes: list[Nginx], start_program: StartProgram) -> None:
    """Unless another one is there in its place in time, the answer says that the change is not in force everywhere."""
    program = start_program(_config(nodes))
    pid = program.workers()[1]
    os.kill(pid, signal.SIGSTOP)
    status, answer = await asyncio.to_thread(program.change, "PATCH", A, {"state": "drain"})
    assert _backend(program)["state"] == "drain"
    assert status == 200 or (status == 503 and answer["error"].startswith("not taken in time by worker 1"))
    until(lambda: pid not in program.workers(), "another worker takes its place")
    assert program.change("PATCH", A, {"state": "maint"})[0] == 200


async def test_the_verbs(nodes: list[Nginx], start_program: StartProgram) -> None:
    """What an operator types, what it prints, and the exit codes."""
    program = start_program(_config(nodes))
    run = program.run_verb
    assert run("drain", "web/n1", "--wait", "5s", "--reason", "disk") == (
        0,
        "web/n1: drain, weight 1, 0 in flight\n",
        "",
    )
    code, out, _ = run("status")
    assert code == 0
    assert "web (round_robin, 1 of 2 available)" in out
    assert any("n1" in line and "drain" in line for line in out.splitlines())
    assert run("maint", "web/n1", "--expires", "30m")[0] == 0
    (override,) = json.loads(program.admin("/api/v1/config")[1])["overrides"]
    assert override["value"] == "maint"
    assert override["expires"] is not None
    assert run("ready", "web/n1")[1] == "web/n1: ready, weight 1, 0 in flight\n"
    assert run("weight", "web/n1", "3")[1] == "web/n1: ready, weight 3, 0 in flight\n"
    assert json.loads(run("weight", "web/n1", "4", "--json")[1])["weight"] == 4
    assert run("weight", "web/n1", "999") == (
        2,
        "",
        "pyproxy: the request is not valid\n  weight: must be at most 256\n",
    )
    assert run("drain", "web/nope") == (1, "", "pyproxy: no backend 'nope' in pool 'web'\n")
    assert run("drain", "web")[0] == 2
    assert run("add", "web", "n3", nodes[1].address, "--weight", "2")[1] == "web/n3: ready, weight 2, 0 in flight\n"
    assert run("remove", "web/n3") == (0, "web/n3: removed\n", "")
    assert run("remove", "web/n3")[0] == 1


async def test_added_and_removed(
    nodes: list[Nginx], start_program: StartProgram, connect_to: Connect, tmp_path: Path
) -> None:
    """A node comes and goes without the file, and is there after a restart; one of the file too."""
    program = start_program(_config(nodes[:1], state_dir=str(tmp_path)))
    new = {"name": "n2", "address": nodes[1].address}
    status, answer = program.change("POST", ALL, new)
    assert (status, answer["origin"], answer["available"]) == (201, "runtime", True)
    assert (await _served(program, connect_to))[b"n2"] > 5
    assert program.change("POST", ALL, new)[0] == 409
    assert program.change("DELETE", A)[0] == 204
    assert await _served(program, connect_to) == {b"n2": 30}
    program.kill()
    program.start()
    assert await _served(program, connect_to, 10) == {b"n2": 10}
    assert program.change("POST", ALL, {"name": "n1", "address": nodes[0].address})[1]["origin"] == "config"
    assert program.change("DELETE", f"{ALL}/n2")[0] == 204
    assert json.loads(program.admin("/api/v1/config")[1])["overrides"] == []
    assert await _served(program, connect_to, 10) == {b"n1": 10}


async def test_what_is_busy_is_not_removed(
    ports: Ports, nodes: list[Nginx], start_origin: StartOrigin, start_program: StartProgram, connect_to: Connect
) -> None:
    """409, and it goes on as before, as healthy as it was; by force it is gone, what is in flight ends in peace."""
    origin, release = _slow_origin(ports, start_origin)
    backends = [{"name": "n1", "address": f"127.0.0.1:{origin.port}"}]
    checked = {"type": "tcp", "port": nodes[0].port, "interval": "1h"}
    program = start_program({"workers": WORKERS, "pools": {"web": {"backends": backends, "health": checked}}})
    client = await connect_to(program.port)
    asking = asyncio.create_task(client.ask(get("h")))
    await asyncio.wait_for(origin.arrived.wait(), DEADLINE)
    before = _backend(program)
    status, answer = program.change("DELETE", A)
    assert (status, answer["error"].partition(";")[0]) == (409, "1 in flight on 'n1'")
    assert _backend(program) == before
    assert before["available"]
    assert before["last_check"]["ok"]
    assert program.change("DELETE", f"{A}?force=true")[0] == 204
    assert program.admin(A)[0] == 404
    release.set()
    assert (await asking).body == b"ok"
    assert (await client.ask(get("h"))).status == 503


async def test_a_name_is_changed_as_a_whole(
    server: DnsServer, nodes: list[Nginx], start_program: StartProgram, connect_to: Connect
) -> None:
    """All its addresses go by it; one of them can't be changed on its own. Names can be added and removed too."""
    server.put("app.test", "A", "127.0.0.2", "127.0.0.3")
    server.put("more.test", "A", nodes[1].host)
    backends = [
        {"name": "app", "address": f"app.test:{nodes[0].port}", "weight": 4},
        {"name": "n2", "address": nodes[1].address},
    ]
    program = start_program({"pools": {"web": {"backends": backends}}, "dns": {"servers": [server.address]}})
    member = f"app[127.0.0.2:{nodes[0].port}]"
    status, answer = program.change("PATCH", f"{ALL}/{member}", {"state": "drain"})
    assert status == 422
    assert answer["detail"] == [f"{member!r} is one of the addresses of 'app', which come and go: change 'app'"]
    status, answer = program.change("PATCH", f"{ALL}/app", {"state": "drain", "weight": 2})
    assert (status, answer["name"], answer["weight"], answer["state"]) == (200, "app", 2, "drain")
    present = json.loads(program.admin(ALL)[1])
    assert [(item["state"], item["weight"]) for item in present] == [("drain", 1), ("drain", 1), ("ready", 1)]
    assert await _served(program, connect_to, 10) == {b"n2": 10}
    assert program.change("POST", ALL, {"name": "more", "address": f"more.test:{nodes[1].port}"})[0] == 201
    until = time.monotonic() + DEADLINE
    while not _backend(program, "more")["available"]:
        assert time.monotonic() < until
        await asyncio.sleep(0.02)
    assert _backend(program, "more")["origin"] == "runtime"
    assert program.change("DELETE", f"{ALL}/more")[0] == 204
    assert program.change("DELETE", f"{ALL}/app")[0] == 204
    assert [item["name"] for item in json.loads(program.admin(ALL)[1])] == ["n2"]


async def test_twenty_times_around_without_a_failed_request(
    nodes: list[Nginx], start_program: StartProgram, wrk: str, tmp_path: Path
) -> None:
    """drain, wait, remove, add again, ready, under the load of 64 connections."""
    program = start_program(_config(nodes, state_dir=str(tmp_path)))
    command = [wrk, "-t1", "-c64", "-d60s", f"http://127.0.0.1:{program.port}/"]
    load = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)

    def turn() -> None:
        change = program.change
        assert change("PATCH", f"{A}?wait=10s", {"state": "drain"})[0] == 200
        total = _backend(program)["total"]
        assert change("DELETE", A)[0] == 204
        assert change("POST", ALL, {"name": "n1", "address": nodes[0].address})[0] == 201
        assert _backend(program)["total"] >= total
        assert change("PATCH", A, {"state": "ready"})[0] == 200

    for _ in range(20):
        await asyncio.to_thread(turn)
    assert load.returncode is None
    load.send_signal(signal.SIGINT)
    output = (await load.communicate())[0].decode()
    assert "Non-2xx" not in output
    assert "Socket errors" not in output
    assert program.metric("pyproxy_terminations_total", end="SC") == 0
    assert program.metric("pyproxy_requests_total", code="5xx") == 0
    assert program.metric("pyproxy_requests_total", code="2xx") > 100


async def test_over_a_unix_socket_it_is_the_user(
    nodes: list[Nginx], start_program: StartProgram, tmp_path: Path
) -> None:
    """Whoever may open the socket is known by name."""
    path = tmp_path / "admin.sock"
    program = start_program(_config(nodes))
    program.stop()
    program.config["admin"] = {"bind": f"unix:{path}"}
    file = program.directory / "lb.yml"
    file.write_text(json.dumps(program.config))
    process = await asyncio.create_subprocess_exec(*program.command)
    try:
        until = time.monotonic() + DEADLINE
        while program.run_verb("drain", "web/n1")[0] != 0:
            assert time.monotonic() < until
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"GET /api/v1/config HTTP/1.0\r\nHost: anything\r\n\r\n")
        body = (await reader.read()).partition(b"\r\n\r\n")[2]
        writer.close()
        assert json.loads(body)["overrides"][0]["by"] == pwd.getpwuid(os.getuid()).pw_name
    finally:
        process.terminate()
        await process.wait()
