"""`pyproxy vipd`: a speaker without a proxy, with what monitoring and an operator ask."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.paired import KEY
from tests.integration.ports import Ports
from tests.integration.supervised import ROOT, until

#: The program with a fake speaker in place of the real one, which needs privileges.
PROGRAM = """
import sys
from pathlib import Path
from pyproxy.control import alone, pair_settings
from pyproxy.control.worker import Program, worker_environ
speaker = Program((sys.executable, "-m", "tests.integration.fake_speaker"), worker_environ({"PYTHONPATH": sys.argv[2]}))
alone.speaker_program = lambda: speaker
pair_settings.RUN = Path(sys.argv[1]).parent / "run"
from pyproxy.cli.main import main
raise SystemExit(main(["-c", sys.argv[1], *sys.argv[3:]]))
"""


class Alone:
    """One run, in a directory of its own."""

    def __init__(self, directory: Path, ports: Ports, **failover: Any) -> None:
        self.file = directory / "vipd.yml"
        (directory / "run").mkdir()
        (directory / "key").write_text(KEY)
        link = {
            "bind": f"127.0.0.1:{ports.take()}",
            "peer": f"127.0.0.1:{ports.take()}",
            "key_file": str(directory / "key"),
        }
        content = {
            "admin": {"bind": f"unix:{directory}/admin"},
            "failover": {
                "interface": "eth0",
                "virtual_ips": ["192.0.2.10/32"],
                "vrid": 51,
                "priority": 110,
                "link": link,
                **failover,
            },
        }
        self.file.write_text(json.dumps(content))

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run the command to its end."""
        return subprocess.run(
            self.command(*arguments), cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
        )

    def command(self, *arguments: str) -> list[str]:
        """What is run."""
        return [sys.executable, "-c", PROGRAM, str(self.file), str(ROOT), *arguments]


@pytest.fixture
def alone(tmp_path: Path, ports: Ports) -> Alone:
    """A file that has no listeners and no pools."""
    return Alone(tmp_path, ports)


def test_it_runs_shows_itself_and_gives_the_addresses_away(alone: Alone) -> None:
    """It needs nothing but its section; what belongs to a proxy isn't there."""
    process = subprocess.Popen(alone.command("vipd"), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        until(lambda: "state      master" in alone.run("peer").stdout, "it doesn't become master")
        view = json.loads(alone.run("peer", "--json").stdout)
        assert (view["vrid"], view["virtual_ips"], view["drift"]) == (51, ["192.0.2.10/32"], [])
        checked = alone.run("peer", "--check")
        assert (checked.returncode, checked.stdout.partition(" - ")[0]) == (1, "PYPROXY WARNING")
        refused = alone.run("peer", "handover")
        assert (refused.returncode, "there is no link" in refused.stderr) == (1, True)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        _, errors = process.communicate()
    assert "stopped" in errors


def test_a_file_without_failover_is_refused(alone: Alone) -> None:
    """By the place where it is missing; a proxy's file must still have a proxy's keys."""
    assert alone.run("-t").returncode == 2
    assert alone.run("-t", "vipd").returncode == 0
    alone.file.write_text("log_level: info")
    result = alone.run("vipd")
    assert (result.returncode, "failover: is missing" in result.stderr) == (2, True)


def test_a_speaker_that_can_not_work_ends_it(tmp_path: Path, ports: Ports) -> None:
    """With the reason and an exit code."""
    result = Alone(tmp_path, ports, interface="failing").run("vipd")
    assert result.returncode == 1
    assert "the speaker can't be started: CAP_NET_RAW is missing" in result.stderr
