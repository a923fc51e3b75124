"""The supervisor over fake workers: binds, starts, watches, stops, with real processes and sockets."""

import errno
import os
import re
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyproxy.config.runtime import Listener
from pyproxy.control.listeners import BACKLOG, open_listeners
from pyproxy.control.startup import Credentials, StartError
from pyproxy.control.worker import Program
from tests.integration.ports import Ports
from tests.integration.supervised import DEADLINE, Supervised, answered, ask, is_running, until

Start = Callable[..., Supervised]


@pytest.fixture
def make(tmp_path_factory: pytest.TempPathFactory, ports: Ports) -> Iterator[Start]:
    """Make programs; all of them are gone when the test is."""
    made: list[Supervised] = []

    def start(behaviour: str = "serve", **config: Any) -> Supervised:
        made.append(Supervised(tmp_path_factory.mktemp("supervised"), ports, behaviour, **config))
        return made[-1]

    yield start
    for program in made:
        program.kill()


def test_start_serve_and_stop(make: Start) -> None:
    """The program binds, starts its workers, says so, serves, and ends with code 0 on SIGTERM."""
    program = make(workers=2).start()
    until(lambda: all(worker["state"] == "ready" for worker in program.workers()), "both ready")
    pids = [program.pid(0), program.pid(1)]
    assert {ask(program.port)[1] for _ in range(50)} <= set(pids)
    program.send(signal.SIGTERM)
    assert program.wait() == 0
    assert not any(is_running(pid) for pid in pids)
    for line in program.stderr.splitlines():
        assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (info|warning|debug) supervisor: .+", line), line
    for text in ("limit of open files: ", f"listening on 127.0.0.1:{program.port} (main)", "stopped"):
        assert text in program.stderr


def test_workers_have_their_own_group_and_environment(make: Start) -> None:
    """A worker leads its process group, has the allocator settings, and no descriptor beyond its own."""
    program = make().start()
    pid = program.pid()
    assert os.getpgid(pid) == pid
    environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    assert b"MALLOC_ARENA_MAX=2" in environ
    targets = [str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    # The channel, one listening socket, and the two of asyncio's own pair.
    assert sum(target.startswith("socket:") for target in targets) == 4
    assert sum("scoreboard" in target for target in targets) == 1
    assert sum("access.log" in target for target in targets) == 1


def test_ctrl_c_is_the_supervisors_alone(make: Start) -> None:
    """SIGINT to the whole group of the terminal: the workers are drained, not interrupted."""
    program = make().start()
    os.killpg(program.process.pid, signal.SIGINT)
    assert program.wait() == 0
    assert "ended: exit status 0" in program.stderr
    assert "Traceback" not in program.stderr


def test_a_killed_worker_is_replaced_and_no_total_falls(make: Start) -> None:
    """After kill -9: another process in the slot, one restart counted, totals as before, gauges zeroed."""
    program = make().start()
    before = [ask(program.port) for _ in range(5)]
    total = 'pyproxy_connections_total{listener="main"}'
    assert program.metric(total) == 5
    assert program.metric('pyproxy_connections{listener="main"}') == 7
    os.kill(before[0][1], signal.SIGKILL)
    until(lambda: "ended: signal SIGKILL" in program.stderr, "the death is logged")
    assert program.metric(total) == 5
    until(program.is_ready, "ready again")
    assert ask(program.port)[1] == program.pid() != before[0][1]
    assert program.metric(total) == 6
    assert program.metric('pyproxy_connections{listener="main"}') == 7  # the new worker's own
    assert program.metric("pyproxy_worker_restarts_total") == 1


def test_queued_connections_survive_their_worker(make: Start) -> None:
    """What waits on a slot's socket when its worker is killed is served by the next one."""
    program = make().start()
    pid = program.pid()
    os.kill(pid, signal.SIGSTOP)
    waiting = [socket.create_connection(("127.0.0.1", program.port), timeout=DEADLINE) for _ in range(20)]
    for sock in waiting:
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
    os.kill(pid, signal.SIGKILL)
    answers = [answered(sock) for sock in waiting]
    for sock in waiting:
        sock.close()
    assert {answer[1] for answer in answers} == {program.pid()} != {pid}


def test_a_second_program_on_the_same_port_fails(make: Start) -> None:
    """It says what is wrong in one line, ends with code 1, and takes no connection from the first."""
    first = make().start()
    second = make()
    second.config["listeners"] = first.config["listeners"]
    second.spawn()
    assert second.wait() == 1
    said = second.stderr
    expected = f"pyproxy: can't listen on 127.0.0.1:{first.port} (main): the address is already in use"
    assert any(line.startswith(expected) for line in said.splitlines())
    assert {ask(first.port)[1] for _ in range(20)} == {first.pid()}


def test_an_admin_port_in_use_is_one_line(make: Start) -> None:
    """The admin socket is bound before any worker is started."""
    first = make().start()
    second = make()
    second.config["admin"] = first.config["admin"]
    second.spawn()
    assert second.wait() == 1
    assert f"can't listen on 127.0.0.1:{first.admin_port} (admin)" in second.stderr
    assert "worker" not in second.stderr


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [("failing", "the reason"), ("exiting", "exit status 3"), ("hanging", "not ready after 0.3 s")],
)
def test_workers_that_never_work_end_the_program(make: Start, behaviour: str, reason: str) -> None:
    """After three tries the program gives up with the last reason, exit code 1."""
    program = make(behaviour)
    if behaviour == "hanging":
        program.ready_timeout = 0.3
    program.spawn()
    assert program.wait() == 1
    assert f"critical supervisor: no worker can be started: {reason}" in program.stderr
    assert program.stderr.count("ended: ") == 3


def test_a_worker_that_is_not_ready_takes_no_traffic(make: Start) -> None:
    """Until a worker is ready /readyz is 503 and the status says starting; SIGTERM ends it even then."""
    program = make("hanging").spawn()
    until(lambda: "admin API on" in program.stderr, "admin")
    until(lambda: program.workers()[0]["pid"], "started")
    assert program.get("/readyz")[0] == 503
    assert program.get("/healthz")[0] == 200
    assert program.workers()[0]["state"] == "starting"
    program.send(signal.SIGTERM)
    assert program.wait() == 0


def test_a_worker_that_closes_its_channel_is_replaced(make: Start) -> None:
    """Whom we can't tell anything any more would never drain: it is killed, also when the program stops."""
    program = make("deaf").start()
    pid = program.pid()
    until(lambda: "closed its channel but lives" in program.stderr, "noticed")
    until(lambda: not is_running(pid), "killed")
    until(program.is_ready, "replaced")
    program.send(signal.SIGTERM)
    assert program.wait() == 0


def test_a_stubborn_worker_is_killed_when_the_grace_is_over(make: Start) -> None:
    """While it drains /readyz is 503 and new clients are refused; then it is killed; the code is 0."""
    program = make("stubborn", shutdown_grace="100ms").start()
    pid = program.pid()
    program.send(signal.SIGTERM)
    until(lambda: program.get("/readyz")[0] == 503, "not ready any more")
    assert program.workers()[0]["state"] == "draining"
    assert program.get("/healthz")[0] == 200
    assert program.wait() == 0
    assert "has not ended in time, killing it" in program.stderr
    assert not is_running(pid)


def test_a_second_signal_stops_at_once(make: Start) -> None:
    """Whoever presses Ctrl-C again doesn't want to wait; that is exit code 1."""
    program = make("stubborn", shutdown_grace="1h").start()
    pid = program.pid()
    program.send(signal.SIGTERM)
    until(lambda: program.get("/readyz")[0] == 503, "stopping")
    program.send(signal.SIGINT)
    assert program.wait() == 1
    assert not is_running(pid)


def test_workers_end_when_the_supervisor_is_killed(make: Start) -> None:
    """Nothing is left running, whatever happened to the supervisor."""
    program = make(workers=2).start()
    until(lambda: all(worker["state"] == "ready" for worker in program.workers()), "both ready")
    pids = [program.pid(0), program.pid(1)]
    program.send(signal.SIGKILL)
    program.wait()
    until(lambda: not any(is_running(pid) for pid in pids), "workers gone")


def test_sigusr1_reopens_the_log(make: Start) -> None:
    """After a rotation new lines go to a new file of the same name, also from workers started later."""
    program = make().start()
    path, old = program.directory / "access.log", program.directory / "access.log.1"
    ask(program.port)
    path.rename(old)
    program.send(signal.SIGUSR1)
    until(lambda: "reopened" in program.stderr, "reopened")
    until(lambda: [ask(program.port), path.read_text()][1], "lines in the new file")
    size = old.stat().st_size
    os.kill(program.pid(), signal.SIGKILL)
    until(lambda: program.metric("pyproxy_worker_restarts_total") == 1 and program.is_ready(), "replaced")
    _, pid = ask(program.port)
    assert str(pid) in path.read_text()
    assert old.stat().st_size == size


def test_a_log_that_cannot_be_reopened_goes_on_in_the_old_file(make: Start) -> None:
    """A rotation that went wrong costs no line."""
    program = make().start()
    ask(program.port)
    path, old = program.directory / "access.log", program.directory / "access.log.1"
    path.rename(old)
    path.mkdir()
    program.send(signal.SIGUSR1)
    until(lambda: "the log goes on in the old file" in program.stderr, "refused")
    ask(program.port)
    assert len(old.read_text().splitlines()) == 2


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR2])
def test_signals_to_come_are_a_warning(make: Start, number: signal.Signals) -> None:
    """A reload of an older script's making doesn't end the program."""
    program = make().start()
    program.send(number)
    until(lambda: "is not available yet in this version" in program.stderr, "told")
    assert f"warning supervisor: {number.name}: " in program.stderr
    assert ask(program.port)[1] == program.pid()


@pytest.mark.parametrize("to", ["stdout", "off"])
def test_logs_that_are_no_files(make: Start, to: str) -> None:
    """Without a path there is nothing to reopen, and SIGUSR1 is no error."""
    program = make(access_log={"to": to}).start()
    program.send(signal.SIGUSR1)
    assert ask(program.port)[1] == program.pid()
    program.send(signal.SIGTERM)
    assert program.wait() == 0
    assert "reopened" not in program.stderr


def test_without_an_admin_section_it_runs_too(make: Start) -> None:
    """``admin: null`` means no API, and nothing else."""
    program = make(admin=None).spawn()
    until(lambda: "is ready" in program.stderr, "ready")
    assert ask(program.port)[0] == 0
    with pytest.raises(ConnectionRefusedError):
        program.get("/healthz")
    program.send(signal.SIGTERM)
    assert program.wait() == 0


# ---- listening sockets


def close_all(opened: list[Any]) -> None:
    """Close what was opened."""
    for listener in opened:
        listener.close()


def test_one_socket_a_slot_shares_the_port(ports: Ports) -> None:
    """Each slot has its own listening socket on the one address, with the long backlog."""
    opened = open_listeners([Listener("a", "127.0.0.1", ports.take())], slots=3)
    names = {sock.getsockname() for sock in opened[0].sockets}
    assert len(opened[0].sockets) == 3
    assert len(names) == 1
    assert all(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) for sock in opened[0].sockets)
    assert BACKLOG == 4096
    close_all(opened)


def test_port_0_is_one_port_for_all_slots() -> None:
    """The address tells the port that was taken."""
    opened = open_listeners([Listener("a", "127.0.0.1", 0)], slots=2)
    (port,) = {sock.getsockname()[1] for sock in opened[0].sockets}
    assert opened[0].address == f"127.0.0.1:{port}"
    close_all(opened)


def test_both_families_share_a_port(ports: Ports) -> None:
    """[::] is IPv6 only, so 0.0.0.0 with the same port is another listener."""
    port = ports.take()
    opened = open_listeners([Listener("six", "::", port), Listener("four", "0.0.0.0", port)], slots=2)
    assert [listener.address for listener in opened] == [f"[::]:{port}", f"0.0.0.0:{port}"]
    close_all(opened)


def test_a_listener_of_the_same_user_is_noticed(ports: Ports) -> None:
    """SO_REUSEPORT would let us in beside a socket that has it too; the probe prevents it."""
    port = ports.take()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        with pytest.raises(StartError, match="already in use"):
            open_listeners([Listener("a", "127.0.0.1", port)], slots=1)


def test_all_or_nothing(ports: Ports) -> None:
    """When the second listener fails the first is closed again."""
    good, bad = ports.take(), ports.take()
    with socket.create_server(("127.0.0.1", bad)):
        with pytest.raises(StartError):
            open_listeners([Listener("a", "127.0.0.1", good), Listener("b", "127.0.0.1", bad)], slots=2)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", good))


def test_an_address_of_another_machine_is_named() -> None:
    """The line has the address, the listener's name and what is wrong."""
    with pytest.raises(StartError, match=r"192\.0\.2\.1:80 \(far\): this machine doesn't have that address"):
        open_listeners([Listener("far", "192.0.2.1", 80)], slots=1)


def test_a_privileged_port_needs_rights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without root the line says what would help."""

    def refuse(_sock: socket.socket, _address: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(StartError, match="a port below 1024 needs root or CAP_NET_BIND_SERVICE"):
        open_listeners([Listener("a", "127.0.0.1", 80)], slots=1)


# ---- user


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("bash"), reason="needs root and bash")
def test_a_worker_runs_as_its_user_and_groups() -> None:
    """User, group and supplementary groups are the given ones, none of the starter's."""
    ours, theirs = socket.socketpair()
    shell = ("bash", "-c", "{ id -u; id -g; id -G; } >&$0")
    program = Program(command=shell, credentials=Credentials(4321, 4322, (4322, 4323)))
    with theirs:
        process = program.spawn(theirs.fileno())
    with ours, ours.makefile() as answer:
        assert answer.read().splitlines() == ["4321", "4322", "4322 4323"]
    assert process.wait(DEADLINE) == 0


def test_only_the_channel_is_inherited() -> None:
    """Of all that is open here a worker program gets its channel and the three standard descriptors."""
    code = "import os, sys; os.write(int(sys.argv[1]), ' '.join(os.listdir('/proc/self/fd')).encode())"
    ours, theirs = socket.socketpair()
    kept = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(kept, True)
    with ours:
        with theirs:
            number = theirs.fileno()
            process = Program(command=(sys.executable, "-c", code)).spawn(number)
        assert process.wait(DEADLINE) == 0
        found = {int(name) for name in ours.recv(4096).split()}
    os.close(kept)
    # One more is the directory itself, being listed.
    assert {0, 1, 2, number} <= found
    assert len(found) == 5
