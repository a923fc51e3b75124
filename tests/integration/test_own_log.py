"""What the program says of itself: it waits for no reader, warns at the start, and refuses with file and line."""

import http.client
import json
import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.integration.conftest import StartProgram
from tests.integration.ports import Ports
from tests.integration.program import PYTHON, STARTUP, Program
from tests.integration.wire import DEADLINE

POOLS = {"web": {"backends": [{"name": "a", "address": "127.0.0.1:9"}]}}


def _fill(pipe: int) -> None:
    os.set_blocking(pipe, False)
    with suppress(BlockingIOError):
        while True:
            os.write(pipe, bytes(4096))
    os.set_blocking(pipe, True)


async def test_a_reader_that_hangs_holds_up_neither_supervisor_nor_workers(tmp_path: Path, ports: Ports) -> None:
    """Stderr is a full pipe from the first line on: it starts, answers, replaces a worker, counts and stops."""
    program = Program(tmp_path, ports, {"pools": POOLS, "log_level": "debug"})
    (tmp_path / "lb.yml").write_text(json.dumps(program.config))
    reader, writer = os.pipe()
    _fill(writer)
    with subprocess.Popen(program.command, stdout=subprocess.DEVNULL, stderr=writer) as process:
        os.close(writer)
        try:
            until = time.monotonic() + STARTUP
            while not program.is_ready():
                assert time.monotonic() < until
                time.sleep(0.02)
            (first,) = program.workers()
            os.kill(first, signal.SIGKILL)
            while not program.is_ready() or program.workers() == [first]:
                assert time.monotonic() < until
                time.sleep(0.02)
            process.terminate()
            assert process.wait(DEADLINE) == 0
        finally:
            process.kill()
            os.close(reader)


def _refused(directory: Path, config: dict[str, Any], *arguments: str) -> list[str]:
    """Run with a file that can't be used; the lines on stderr, without the folder."""
    (directory / "lb.yml").write_text(json.dumps(config, indent=1))
    command = [PYTHON, "-P", "-m", "pyproxy", "-c", "lb.yml", *arguments]
    result = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, timeout=STARTUP, check=False, env={**os.environ}
    )
    assert result.returncode == 2, result.stderr
    return result.stderr.splitlines()


def test_the_start_refuses_in_the_words_of_the_check(tmp_path: Path, ports: Ports) -> None:
    """All at once: what is wrong in the file and what is missing on the machine, with line and column."""
    pool = {"backends": [{"address": "http://127.0.0.1:9"}], "sticky": {"secret_file": "/no-such/key"}}
    config = {
        "user": "no-such-user",
        "state_dir": "/no-such/state",
        "listeners": [{"bind": f"127.0.0.1:{ports.take()}"}],
        "pools": {"web": pool},
        "admin": {"bind": f"127.0.0.1:{ports.take()}", "token_file": "/no-such/token"},
        "access_log": {"to": "/no-such/log"},
    }
    told = _refused(tmp_path, config, "-t")
    assert _refused(tmp_path, config) == told
    assert [line.split(": ")[1] for line in told] == [
        "user",
        "state_dir",
        "pools.web.backends[0].address",
        "pools.web.sticky.secret_file",
        "admin.token_file",
        "access_log.to",
    ]
    assert all(line.startswith("lb.yml:") for line in told)


def test_a_link_in_the_state_dir_leads_nowhere(tmp_path: Path, start_program: StartProgram) -> None:
    """A change at run time doesn't write through it, and the start warns of who could have put it there."""
    state, victim = tmp_path / "state", tmp_path / "victim"
    state.mkdir()
    state.chmod(0o777)
    victim.write_text("precious")
    (state / "overrides.json.new").symlink_to(victim)
    program = start_program({"pools": POOLS, "state_dir": str(state)})
    assert program.change("PATCH", "/api/v1/pools/web/backends/a", {"state": "drain"})[0] == 200
    assert victim.read_text() == "precious"
    assert json.loads((state / "overrides.json").read_text())["overrides"]
    assert program.says(f"{state} is writable by others (mode 0777)")


def test_a_backend_that_is_our_own_listener_is_warned_of(start_program: StartProgram, ports: Ports) -> None:
    """By the check, at the start, and when it comes at run time."""
    own = ports.take()
    listeners = [{"name": "chain", "bind": f"0.0.0.0:{own}"}]
    backends = [{"name": "self", "address": f"localhost:{own}"}, {"name": "far", "address": "127.0.0.1:9"}]
    program = start_program({"listeners": listeners, "pools": {"web": {"backends": backends}}})
    code, _, errors = program.run_verb("-t")
    assert code == 0
    assert "pools.web.backends[0].address: warning: is our own listener chain" in errors
    assert program.stderr.count("is our own listener chain") == 1
    added = {"name": "late", "address": f"127.0.0.2:{own}"}
    assert program.change("POST", "/api/v1/pools/web/backends", added)[0] == 201
    assert program.says(f"backend late (127.0.0.2:{own}) is our own listener chain")


def test_a_request_that_comes_back_again_and_again_ends(start_program: StartProgram, ports: Ports) -> None:
    """After few turns, over several workers and kept connections; nobody but ourselves is sent the count."""
    own = ports.take()
    listeners = [{"name": "round", "bind": f"127.0.0.1:{own}"}]
    pools = {"web": {"backends": [{"name": "self", "address": f"127.0.0.1:{own}"}]}}
    program = start_program({"workers": 2, "listeners": listeners, "pools": pools, "log_level": "error"})
    for count in range(1, 7):
        connection = http.client.HTTPConnection("127.0.0.1", own, timeout=DEADLINE)
        connection.request("GET", "/")
        assert connection.getresponse().status == 508
        connection.close()
        assert program.metric("pyproxy_requests_total") <= 10 * count
