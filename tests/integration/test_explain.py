"""Explain on the running program: what is said is what is done, by whichever way it is asked."""

import http.client
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pyproxy.admin.control import AskedView, CandidateView, ExplanationView, RedirectView, RefusalView, RouteView
from tests.integration.client import RawClient, get
from tests.integration.conftest import Connect, StartOrigin, StartProgram
from tests.integration.origin import hang
from tests.integration.ports import Ports
from tests.integration.program import PYTHON, Program
from tests.integration.supervised import until
from tests.integration.wire import DEADLINE

TOKEN = "s3cret-for-explain"
TRUSTED, STRANGER = "127.9.1.1", "127.77.1.1"


def ask(program: Program, question: dict[str, Any], **headers: str) -> tuple[int, Any]:
    """POST a question to the admin API: status and JSON of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", program.admin_port, timeout=DEADLINE)
    try:
        headers = {"Content-Type": "application/json", **headers}
        connection.request("POST", "/api/v1/explain", json.dumps(question), headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def explain(program: Program, url: str, sender: str = STRANGER, method: str = "GET", *headers: str) -> Any:
    """Ask for a good answer; headers are lines."""
    pairs = [line.split(": ", 1) for line in headers]
    status, answer = ask(program, {"method": method, "url": url, "headers": pairs, "from": sender})
    assert status == 200, answer
    return answer


def command(program: Program, *arguments: str) -> tuple[int, str, str]:
    """Run the command beside the program: exit code, stdout, stderr."""
    file = program.directory / "lb.yml"
    done = subprocess.run(
        [PYTHON, "-P", "-m", "pyproxy", "-c", str(file), *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def config(ports: Ports, *origins: int) -> dict[str, Any]:
    """Two listeners, the routes below, and a pool for each policy that has nothing to draw."""
    taken = origins or [ports.take() for _ in "abc"]
    backends = [{"name": name, "address": f"127.0.0.1:{port}"} for name, port in zip("abc", taken, strict=True)]
    return {
        "trusted_proxies": ["127.9.0.0/16"],
        "listeners": [{"name": name, "bind": f"127.0.0.1:{ports.take()}"} for name in ("main", "second")],
        "routes": ROUTES,
        "pools": {
            "turns": {"backends": [{**backends[0], "weight": 2}, backends[1]]},
            "least": {"policy": "least_conn", "backends": backends},
            "users": {"policy": "hash", "hash": "header:X-User", "backends": backends},
            "clients": {"policy": "hash", "hash": "client_ip", "backends": backends},
            "none": {"backends": [{**backends[0], "weight": 0}]},
        },
    }


ROUTES: list[dict[str, Any]] = [
    {"host": "turns.test", "pool": "turns"},
    {"host": "least.test", "pool": "least"},
    {"host": "users.test", "pool": "users"},
    {"host": "clients.test", "pool": "clients"},
    {"host": "none.test", "pool": "none"},
    {"host": "*.wild.test", "path": "/a/", "methods": ["POST"], "pool": "turns"},
    {"host": "*.wild.test", "path": "/a/", "headers": {"X-Canary": "1"}, "pool": "least"},
    {"host": "*.deep.wild.test", "listeners": ["second"], "pool": "users"},
    {"host": "*.wild.test", "pool": "users", "allow": ["127.9.0.0/16", "203.0.113.0/24"]},
    {"host": "away.test", "redirect": {"to": "$scheme://new.test$request_uri?$client_ip", "status": 307}},
    {"host": "small.test", "pool": "turns", "body_limit": 4},
]

REQUESTS: list[tuple[str, str, tuple[str, ...]]] = [
    *[("GET", "http://turns.test/", ())] * 4,
    *[("GET", "http://least.test/", ())] * 2,
    *[("GET", "http://users.test/", (f"X-User: {user}",)) for user in range(6)],
    ("GET", "http://users.test/", ()),
    ("GET", "http://clients.test/x", ()),
    ("GET", "http://clients.test/", ("X-Forwarded-For: 203.0.113.9",)),
    ("GET", "http://none.test/", ()),
    ("POST", "http://x.wild.test/a/b", ()),
    ("GET", "http://x.wild.test/a/b", ("X-Canary: 1",)),
    ("GET", "http://x.wild.test/a/b", ()),
    ("GET", "http://x.wild.test/%61/../a/b", ("x-canary: 1",)),
    ("GET", "http://x.deep.wild.test/", ()),
    ("GET", "http://x.wild.test/", ("X-Forwarded-For: 203.0.113.9",)),
    ("GET", "http://x.wild.test/", ("X-Forwarded-For: 198.51.100.1",)),
    ("GET", "http://wild.test/", ()),
    ("GET", "http://away.test:80/a%20b", ()),
    ("GET", "http://away.test/", ("X-Forwarded-Proto: https", "X-Forwarded-For: 203.0.113.9")),
    ("POST", "http://small.test/", ("Content-Length: 5",)),
    ("POST", "http://small.test/", ("Content-Length: 0",)),
    ("TRACE", "http://turns.test/", ()),
    ("GET", "http://turns.test/", ("Content-Length: 1", "Content-Length: 2")),
    ("GET", "http://turns.test/", ("X: " + "x" * 40_000,)),
    ("GET", "http://turns.test/" + "x" * 9_000, ()),
    ("GET", "http://tu{rns.test/", ()),
    ("GET", "http://nobody.test/", ()),
]


def port_of(program: Program, listener: str) -> int:
    """Find a listener's port in the configuration."""
    (bind,) = [item["bind"] for item in program.config["listeners"] if item["name"] == listener]
    return int(bind.rpartition(":")[2])


async def do(client: RawClient, method: str, url: str, headers: tuple[str, ...]) -> dict[str, Any]:
    """Send a request, and say of its answer what an explanation says."""
    host, slash, rest = url.removeprefix("http://").partition("/")
    answer = await client.ask(get(host, slash + rest, *headers, method=method))
    fields = {name: value.decode() for name, value in answer.headers}
    backend, location = fields.get(b"x-origin"), fields.get(b"location")
    return {
        "backend": backend,
        "redirect": {"status": answer.status, "location": location} if location is not None else None,
        "refused": answer.status if backend is None and location is None else None,
    }


@pytest.mark.parametrize("source", [TRUSTED, STRANGER])
@pytest.mark.parametrize("listener", ["main", "second"])
async def test_what_is_said_is_done(
    start_program: StartProgram,
    start_origin: StartOrigin,
    connect_to: Connect,
    ports: Ports,
    source: str,
    listener: str,
) -> None:
    """Each request ends as was told before: served by that backend, redirected to there, refused with that status."""
    program = start_program(config(ports, *(start_origin(name=name).port for name in "abc")))
    port = port_of(program, listener)
    ends = set()
    for method, url, headers in REQUESTS:
        host, slash, rest = url.removeprefix("http://").partition("/")
        asked = f"http://{host.partition(':')[0]}:{port}{slash}{rest}"
        answer = explain(program, asked, source, method, f"Host: {host}", *headers)
        done = await do(await connect_to(port, source=source), method, url, headers)
        refused = answer["refused"]
        said = {
            "backend": answer["backend"],
            "redirect": answer["redirect"],
            "refused": refused["status"] if refused is not None else None,
        }
        assert said == done, (method, url[:60], headers)
        assert answer["listener"] == listener
        ends.add(done["backend"] or done["refused"] or done["redirect"]["status"])
    assert ends >= {"a", "b", "c", 307, 400, 404, 405, 413, 414, 431, 503}


async def test_the_answer_has_the_documented_shape(start_program: StartProgram, ports: Ports) -> None:
    """Every field of the views, no other, in each part."""
    program = start_program(config(ports))
    served = explain(program, "http://least.test/")
    assert served.keys() == ExplanationView.__annotations__.keys()
    assert served["request"].keys() == AskedView.__annotations__.keys()
    assert all(row.keys() == RouteView.__annotations__.keys() for row in served["routes"])
    assert len(served["backends"]) == 3
    assert all(row.keys() == CandidateView.__annotations__.keys() for row in served["backends"])
    assert explain(program, "http://x.test/")["refused"].keys() == RefusalView.__annotations__.keys()
    assert explain(program, "http://away.test/")["redirect"].keys() == RedirectView.__annotations__.keys()


async def test_a_request_that_would_wait(
    start_program: StartProgram, start_origin: StartOrigin, connect_to: Connect
) -> None:
    """Requests in flight in any worker count; whoever waits is counted, and a full queue refuses."""
    origin = start_origin()
    origin.play(hang)
    backend = {"name": "a", "address": f"127.0.0.1:{origin.port}", "max_conns": 2}
    program = start_program({"pools": {"web": {"backends": [backend], "queue": {"size": 1, "timeout": "30s"}}}})
    assert explain(program, "http://x/")["backend"] == "a"
    clients = [await connect_to(program.port) for _ in range(3)]
    for number, client in enumerate(clients[:2]):
        await client.send(get("x"))
        await origin.connection(number)
    answer = explain(program, "http://x/")
    assert (answer["pool"], answer["backend"], answer["refused"], answer["queued"]) == ("web", None, None, 0)
    assert answer["backends"][0]["active"] == 2
    assert answer["backends"][0]["reason"] == "at max_conns (2 of 2)"
    await clients[2].send(get("x"))
    await program.await_metric("pyproxy_queue_length", 1, pool="web")
    answer = explain(program, "http://x/")
    assert (answer["queued"], answer["refused"]["status"]) == (1, 503)
    code, out, _ = command(program, "explain", "GET", "http://x/")
    assert code == 0
    assert "pool      web (round_robin, 1 waiting)\n" in out
    assert "result    refused with 503: " in out
    for client in clients:
        client.close()
    await program.await_metric("pyproxy_backend_active", 0, pool="web")


async def test_a_worker_that_hangs(start_program: StartProgram, ports: Ports) -> None:
    """The API goes on and says so, until another worker is there in its place."""
    program = start_program(config(ports))
    (worker,) = program.workers()
    os.kill(worker, signal.SIGSTOP)
    question = {"method": "GET", "url": "http://turns.test/"}
    first = ask(program, question)
    assert first[0] == 503
    assert first[1]["error"] in ("worker 0 did not answer within 2 s", "worker 0 ended before it answered")
    until(lambda: ask(program, question)[0] == 200, "another worker answers")
    assert program.workers() != [worker]


async def test_the_command(start_program: StartProgram, ports: Ports) -> None:
    """It finds the program by the file's admin section; --json is the very answer of the API."""
    program = start_program(config(ports))
    question = ("explain", "GET", "http://x.wild.test/a/b", "-H", "X-Forwarded-For: 203.0.113.9", "--from", "127.9.0.1")
    code, out, errors = command(program, *question)
    assert (code, errors) == (0, "")
    assert [line.split("  ")[-1] for line in out.splitlines() if "routes[" in line] == [
        "method GET is not in POST",
        "header X-Canary is absent",
        "chosen",
    ]
    assert "result    served by users/" in out
    code, out, _ = command(program, *question, "--json")
    assert code == 0
    answer = explain(program, question[2], "127.9.0.1", "GET", "X-Forwarded-For: 203.0.113.9")
    assert json.loads(out) == answer


async def test_the_command_over_a_unix_socket(start_program: StartProgram, ports: Ports, tmp_path: Path) -> None:
    """With a token from a file; one that isn't the program's is told apart from none."""
    (tmp_path / "token").write_text(TOKEN + "\n")
    admin = {"bind": f"unix:{tmp_path}/admin.sock", "token_file": str(tmp_path / "token")}
    program = UnixProgram(tmp_path, ports, {**config(ports), "admin": admin})
    try:
        program.start()
        code, out, errors = command(program, "explain", "GET", "http://turns.test/")
        assert (code, errors) == (0, "")
        assert "result    served by turns/a\n" in out
        (tmp_path / "token").write_text("another")
        code, _, errors = command(program, "explain", "GET", "http://turns.test/")
        assert (code, errors) == (
            1,
            "pyproxy: the running program has another token than the file (admin.token, admin.token_file)\n",
        )
    finally:
        program.kill()
    code, _, errors = command(program, "explain", "GET", "http://turns.test/")
    assert (code, errors) == (
        1,
        f"pyproxy: pyproxy is not running: nothing answers on unix:{tmp_path}/admin.sock (admin.bind)\n",
    )


class UnixProgram(Program):
    """A program whose admin API is not on a port."""

    def is_ready(self) -> bool:
        return "is ready" in self.stderr


async def test_a_bad_question(start_program: StartProgram, ports: Ports) -> None:
    """The API's details are the command's, which calls it bad usage."""
    program = start_program(config(ports))
    detail = [
        "url: must be http://HOST/PATH, https://HOST/PATH, or a path that begins with /",
        "from: must be an IP address, or unix: for a unix socket",
    ]
    answer = ask(program, {"method": "GET", "url": "x", "from": "y"})
    assert answer == (422, {"error": "the request is not valid", "detail": detail})
    code, out, errors = command(program, "explain", "GET", "x", "--from", "y")
    assert (code, out) == (2, "")
    assert errors.splitlines() == ["pyproxy: the request is not valid", *(f"  {line}" for line in detail)]
    assert ask(program, {}, Origin="http://evil.example")[0] == 403
    assert ask(program, {"url": "x" * 70_000})[0] == 413
    program.check_stderr()
