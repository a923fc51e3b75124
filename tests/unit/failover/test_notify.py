"""Which command runs on which change, and what it is told."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import cast

import pytest

from pyproxy.failover.jobs import Jobs, Result
from pyproxy.failover.notify import Notifier, notify_environ
from tests.unit.failover.settings import settings, vips

COMMANDS = {"master": ["up"], "backup": ["down"], "fault": None}


class FakeJobs:
    """Takes down what is to be run."""

    def __init__(self, result: Result) -> None:
        self.asked: list[tuple[list[str], float, str, str]] = []
        self._result = result

    async def run(self, argv: Sequence[str], timeout: float, environ: Mapping[str, str], queue: str) -> Result:
        """End at once."""
        self.asked.append((list(argv), timeout, environ["PYPROXY_STATE"], queue))
        return self._result


async def turn() -> None:
    """Let what was begun go on."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_changes_run_their_commands_in_order() -> None:
    """All in one queue; a state without a command is passed over."""
    jobs = FakeJobs(Result(0, ""))
    notifier = Notifier(settings(notify=COMMANDS), cast(Jobs, jobs))
    for state in ("backup", "master", "fault", "init", "backup"):
        notifier.changed(state, "init", "why")
    await turn()
    assert jobs.asked == [
        (["down"], 30.0, "backup", "notify"),
        (["up"], 30.0, "master", "notify"),
        (["down"], 30.0, "backup", "notify"),
    ]


async def test_a_failing_command_is_an_error_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """With its own words; it changes nothing else."""
    notifier = Notifier(settings(notify=COMMANDS), cast(Jobs, FakeJobs(Result(1, "no disk"))))
    notifier.changed("master", "backup", "why")
    await turn()
    assert [record.getMessage() for record in caplog.records] == ["notify.master: exit status 1: no disk"]


async def test_without_a_runner_nothing_is_run() -> None:
    """Which is so where no command is configured."""
    Notifier(settings(), None).changed("master", "backup", "why")


def test_a_command_is_told_everything() -> None:
    """In variables that begin alike."""
    chosen = settings(virtual_ips=vips("10.9.0.100", "fd09::100"))
    assert notify_environ(chosen, "master", "backup", "no advert") == {
        "PYPROXY_STATE": "master",
        "PYPROXY_PREVIOUS": "backup",
        "PYPROXY_REASON": "no advert",
        "PYPROXY_INTERFACE": "eth0",
        "PYPROXY_VIPS": "10.9.0.100/32 fd09::100/128",
        "PYPROXY_VRID": "51",
        "PYPROXY_PRIORITY": "100",
    }
