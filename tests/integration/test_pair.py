"""Two programs with a link between them: what one is told, the other does; who hands over fails nobody."""

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from tests.integration.client import get
from tests.integration.conftest import Connect, StartOrigin
from tests.integration.paired import Machine
from tests.integration.ports import Ports
from tests.integration.supervised import is_running, until

A = "/api/v1/pools/web/backends/a"
HANDOVER = "/api/v1/peer/handover"


class Both:
    """The two machines; the first begins as master."""

    def __init__(self, directory: Path, ports: Ports) -> None:
        links = ports.take(), ports.take()
        self.one = Machine(directory / "lb1", ports, links, 110)
        self.two = Machine(directory / "lb2", ports, links[::-1], 90)

    def start(self, **config: Any) -> tuple[Machine, Machine]:
        """Start both, and wait until they hear each other."""
        for machine, state in ((self.one, "master"), (self.two, "backup")):
            machine.config.update(config)
            machine.spawn()
            machine.until_state(state)
        for machine in (self.one, self.two):
            machine.until_linked()
        until(lambda: self.one.peer["peer"]["state"] == "backup", "the peer isn't known")
        return self.one, self.two


@pytest.fixture
def both(tmp_path: Path, ports: Ports) -> Iterator[Both]:
    """Two machines that have not begun."""
    both = Both(tmp_path, ports)
    yield both
    for machine in (both.one, both.two):
        with contextlib.suppress(AttributeError):  # not every test starts both
            machine.kill()


def test_a_drain_on_one_is_a_drain_on_both(both: Both) -> None:
    """With who did it where; taken back on the other machine, it is over on both."""
    one, two = both.start()
    assert one.ask("PATCH", A, {"state": "drain", "reason": "disk"})[0] == 200
    until(lambda: two.backends == {"a": "drain"}, "not drained there")
    (override,) = two.ask("GET", "/api/v1/config")[1]["overrides"]
    assert (override["by"], override["reason"]) == ("127.0.0.1 on lb1", "disk")
    assert two.ask("PATCH", A, {"state": "ready"})[0] == 200
    until(lambda: one.backends == {"a": "ready"}, "still drained")


def test_what_was_changed_while_the_other_was_away_is_made_good(both: Both) -> None:
    """Each tells all it knows when there is a link again, also after a kill."""
    one, two = both.start()
    two.kill()
    until(lambda: one.peer["peer"]["link"] == "down", "the link lives")
    assert one.ask("PATCH", A, {"state": "drain"})[0] == 200
    assert one.ask("POST", "/api/v1/pools/web/backends", {"name": "b", "address": "127.0.0.1:10"})[0] == 201
    two.spawn()
    two.until_state("backup")
    until(lambda: two.backends == {"a": "drain", "b": "ready"}, "it has not heard of it")
    two.kill()
    two.spawn()
    two.until_state("backup")
    assert two.backends == {"a": "drain", "b": "ready"}


def test_files_that_differ_are_drift_and_shown(both: Both) -> None:
    """On both, by section; and what there is of the other's has no place here is kept."""
    backends = [{"name": "a", "address": "127.0.0.1:9"}, {"name": "c", "address": "127.0.0.1:11"}]
    both.two.config["pools"] = {"web": {"backends": backends}}
    one, two = both.start()
    for machine in (one, two):
        # Of the two listeners each has a port of its own here.
        machine.until_drift("listeners", "pools.web")
    status, answer = one.ask("GET", "/api/v1/peer/diff")
    assert (status, answer["drift"]) == (200, ["listeners", "pools.web"])
    assert "--- lb2 (peer): pools.web\n+++ lb1: pools.web" in answer["diff"]
    assert "-    address: 127.0.0.1:11" in answer["diff"] or "-  - address: 127.0.0.1:11" in answer["diff"]
    assert two.ask("PATCH", "/api/v1/pools/web/backends/c", {"state": "drain"})[0] == 200
    until(lambda: one.peer["kept"] == ["web/c/state"], "not kept")
    assert one.backends == {"a": "ready"}
    assert "pyproxy_peer_drift 2" in one.ask("GET", "/metrics")[1]


def test_a_handover_is_refused_with_the_reason(both: Both) -> None:
    """Nobody's connections are touched; a backup has nothing to give."""
    both.two.failover["interface"] = "fault"
    for machine, state in ((both.one, "master"), (both.two, "fault")):
        machine.spawn().until_state(state)
    one, two = both.one, both.two
    until(lambda: one.peer["peer"]["state"] == "fault", "the peer isn't known")
    assert one.ask("POST", HANDOVER, {}) == (409, {"error": "the other machine is fault"})
    assert two.ask("POST", HANDOVER, {})[0] == 409
    assert two.ask("GET", "/readyz")[0] == 503
    assert (one.state, one.peer["handover"]) == ("master", False)
    assert 'pyproxy_peer_state{state="fault"} 1' in two.ask("GET", "/metrics")[1]


class Load:
    """Clients that connect anew for each request, all the time; nobody may be failed."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.stop = threading.Event()
        self.failed: list[str] = []
        self.served = 0
        self.longest = 0.0
        self.threads = [threading.Thread(target=self.run) for _ in range(4)]

    def run(self) -> None:
        while not self.stop.is_set():
            began = time.monotonic()
            connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
            try:
                connection.request("GET", "/")
                status = connection.getresponse().status
                if status != 200:
                    self.failed.append(str(status))
                self.served += 1
            except OSError as error:
                self.failed.append(repr(error))
            finally:
                connection.close()
            self.longest = max(self.longest, time.monotonic() - began)
            time.sleep(0.002)

    def __enter__(self) -> "Load":
        for thread in self.threads:
            thread.start()
        until(lambda: self.served > 20, "nobody is served")
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()


async def test_a_handover_fails_no_request(both: Both, start_origin: StartOrigin, connect_to: Connect) -> None:
    """Idle connections are closed, new clients are served all the time, and the other machine has the address after."""
    origin = start_origin()
    one, two = both.start(pools={"web": {"backends": [{"name": "a", "address": f"127.0.0.1:{origin.port}"}]}})
    idle = await connect_to(one.port)
    assert (await idle.ask(get("h"))).status == 200
    served = 0

    def hand_over() -> tuple[int, Any]:
        nonlocal served
        with Load(one.port) as load:
            result = one.ask("POST", HANDOVER, {"reason": "kernel"})
            served = load.served
            until(lambda: load.served > served + 20, "nobody is served any more")
        assert load.failed == []
        return result

    status, answer = await asyncio.to_thread(hand_over)
    assert (status, answer["state"], answer["reset"]) == (200, "backup", 0)
    await idle.expect_eof()
    await asyncio.to_thread(two.until_state, "master")
    assert two.peer["reason"] == "the peer released the addresses"
    kept = await connect_to(one.port)  # connections are kept again
    for _ in range(2):
        assert (await kept.ask(get("h"))).get("connection") is None


async def test_sigterm_hands_over_first(both: Both, start_origin: StartOrigin) -> None:
    """The other machine has the address before this one refuses anybody."""
    origin = start_origin()
    one, two = both.start(pools={"web": {"backends": [{"name": "a", "address": f"127.0.0.1:{origin.port}"}]}})
    one.process.send_signal(signal.SIGTERM)
    await asyncio.to_thread(two.until_state, "master")
    assert await asyncio.to_thread(one.process.wait, 15) == 0
    assert "handed over after" in one.stderr
    assert "ERROR" not in one.stderr


def test_sigterm_without_another_machine_stops_all_the_same(both: Both) -> None:
    """Nobody to hand over to is no reason to stay."""
    one = both.one.spawn().until_state("master")
    one.process.send_signal(signal.SIGTERM)
    assert one.process.wait(15) == 0
    assert "aren't handed over, they are released: there is no link" in one.stderr


def speaker_of(machine: Machine) -> int:
    """The process id of a machine's speaker, by its log."""
    words = machine.stderr.split("the speaker is ready (pid ")
    return int(words[-1].split(")")[0])


def test_a_speaker_that_dies_is_started_again_and_told_everything(both: Both) -> None:
    """Settings, facts, and with the link anew all changes."""
    one, two = both.start()
    before = speaker_of(two)
    os.kill(before, signal.SIGKILL)
    until(lambda: speaker_of(two) != before, "there is no new one")
    assert not is_running(before)
    two.until_state("backup")
    until(lambda: two.ask("GET", "/api/v1/peer/facts")[1]["facts"]["told"]["ready_workers"] == 1, "it knows nothing")
    until(lambda: one.peer["peer"]["link"] == two.peer["peer"]["link"] == "up", "no link")
    assert one.ask("PATCH", A, {"state": "maint"})[0] == 200
    until(lambda: two.backends == {"a": "maint"}, "not told")
    assert "pyproxy_peer_speaker_restarts_total 1" in two.ask("GET", "/metrics")[1]


def test_a_dead_worker_is_told_at_once(both: Both) -> None:
    """The speaker times what follows; it has to know first."""
    one = both.one.spawn().until_state("master")

    def told() -> list[int]:
        found: list[int] = one.ask("GET", "/api/v1/peer/facts")[1]["facts"]["ready_workers"]
        return found

    until(lambda: told()[-1:] == [1], "no worker")
    before = len(told())
    (worker,) = one.ask("GET", "/api/v1/status")[1]["workers"]
    os.kill(worker["pid"], signal.SIGKILL)
    until(lambda: told()[-1:] == [1] and len(told()) > before, "no worker again")
    assert 0 in told()[before:]


def test_a_speaker_that_can_not_work_is_a_reason_not_to_start(both: Both) -> None:
    """The operator is told why, and gets an exit code."""
    both.one.failover["interface"] = "failing"
    one = both.one.spawn()
    assert one.process.wait(30) == 1
    assert "the speaker can't be started: CAP_NET_RAW is missing" in one.stderr


def test_a_key_that_can_not_be_read_is_a_bad_file(both: Both) -> None:
    """Before anything is started."""
    (both.one.directory / "key").write_text("short")
    one = both.one.spawn()
    assert one.process.wait(15) == 2
    assert "failover.link.key_file" in one.stderr
    assert "at least 16 bytes" in one.stderr
