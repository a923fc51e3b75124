"""Commands run in the speaker's runner: in order, within their time, with all that they start."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from pyproxy.failover.jobs import Jobs, Result, start_runner

PATIENCE = 30.0
#: A command that is known beforehand, as all have to be, and does what the environment says.
SH = ("sh", "-c", 'eval "$PYPROXY_SCRIPT"')
NOWHERE = ("/nowhere/command",)


class Line:
    """A runner and the speaker's end of it."""

    def __init__(self, directory: Path) -> None:
        self.lost = asyncio.Event()
        sock, self.process = start_runner(str(directory / "lock"), [SH, NOWHERE])
        self.jobs = Jobs(sock, self.lost.set)

    def sh(self, script: str, timeout: float = PATIENCE, queue: str = "") -> Awaitable[Result]:
        """Run a shell script."""
        return self.jobs.run(SH, timeout, {"PYPROXY_SCRIPT": script}, queue)


MakeLine = Callable[[], Line]


@pytest.fixture
async def make_line(tmp_path: Path) -> AsyncIterator[MakeLine]:
    """Make runners, which are let go at the end."""
    lines: list[Line] = []

    def make() -> Line:
        lines.append(Line(tmp_path))
        return lines[-1]

    yield make
    for line in lines:
        line.jobs.close()
        await asyncio.to_thread(line.process.wait, PATIENCE)


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that another process does."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether a process is there and isn't a zombie."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


async def test_a_command_ends_with_its_code_and_output(make_line: MakeLine) -> None:
    """Both streams, and the beginning of a long one."""
    line = make_line()
    assert await line.sh("echo out; echo err >&2; exit 3") == Result(3, "out\nerr\n")
    result = await line.sh("yes | head -c 1000000")
    assert (result.code, len(result.output)) == (0, 4096)


async def test_a_command_hears_of_its_environment(make_line: MakeLine) -> None:
    """Beside the one that the speaker has."""
    environ = {"PYPROXY_SCRIPT": "echo $PYPROXY_WHY $HOME", "PYPROXY_WHY": "because"}
    result = await make_line().jobs.run(SH, PATIENCE, environ)
    assert result.output.split() == ["because", os.environ["HOME"]]


@pytest.mark.parametrize(
    ("argv", "environ"),
    [(("sh", "-c", "id"), {}), ((*SH, "more"), {}), (SH, {"PYPROXY_SCRIPT": "id", "LD_PRELOAD": "x.so"})],
)
async def test_nothing_else_is_run_than_what_it_was_told_first(
    make_line: MakeLine, argv: tuple[str, ...], environ: dict[str, str]
) -> None:
    """Whoever gets hold of the speaker can't have commands of his own run with the privileges that it gave up."""
    line = make_line()
    refused = Result(None, "", "isn't among the configured commands")
    assert await line.jobs.run(argv, PATIENCE, environ) == refused
    line.jobs._wire.send({"type": "allow", "commands": [list(argv)]})
    assert await line.jobs.run(argv, PATIENCE, environ) == refused
    assert (await line.sh("true")).is_ok


async def test_what_cannot_be_started_says_so(make_line: MakeLine) -> None:
    """Instead of an exit code."""
    result = await make_line().jobs.run(NOWHERE, PATIENCE)
    assert result == Result(None, "", "can't be started: No such file or directory")


async def test_at_its_deadline_a_command_dies_with_all_that_it_started(make_line: MakeLine, tmp_path: Path) -> None:
    """Its children too, which would go on alone."""
    file = tmp_path / "pid"
    result = await make_line().sh(f"sleep 1000 & echo $! > {file}; wait", timeout=0.3)
    assert (result.is_ok, result.failure) == (False, "killed after 0.3 s")
    await until(lambda: not is_alive(int(file.read_text())))


async def test_a_command_may_leave_something_in_the_background(make_line: MakeLine, tmp_path: Path) -> None:
    """A service that was started holds the pipe; the command has ended all the same, and the service lives."""
    file = tmp_path / "pid"
    assert (await make_line().sh(f"sleep 1000 & echo $! > {file}")).is_ok
    pid = int(file.read_text())
    assert is_alive(pid)
    os.kill(pid, signal.SIGKILL)


async def test_those_of_a_queue_never_overlap_and_others_pass(make_line: MakeLine, tmp_path: Path) -> None:
    """Strictly one after another, in their order; a guard doesn't wait for a slow notification."""
    line, trace = make_line(), tmp_path / "trace"
    slow = [
        asyncio.ensure_future(line.sh(f"echo {number} >> {trace}; sleep 0.1; echo {number} >> {trace}", queue="q"))
        for number in range(3)
    ]
    assert (await line.sh("true")).is_ok
    assert not slow[-1].done()
    await asyncio.gather(*slow)
    assert trace.read_text().split() == ["0", "0", "1", "1", "2", "2"]


async def test_without_the_speaker_the_queue_is_worked_off_and_the_rest_ends(
    make_line: MakeLine, tmp_path: Path
) -> None:
    """What tells of a release still runs, a guard doesn't; the next runner waits with its queue until then."""
    first, trace = make_line(), tmp_path / "trace"
    guard = tmp_path / "guard"
    started = tmp_path / "started"
    waiting = [
        asyncio.ensure_future(first.sh(f"echo $$ > {guard}; exec sleep 1000")),
        asyncio.ensure_future(first.sh(f"touch {started}; sleep 0.5; echo one >> {trace}", queue="q")),
        asyncio.ensure_future(first.sh(f"echo two >> {trace}", queue="q")),
    ]
    await until(lambda: guard.exists() and guard.read_text() and started.exists())
    first.jobs.close()
    assert {result.failure for result in await asyncio.gather(*waiting)} == {"the runner is gone"}
    second = make_line()
    assert (await second.sh(f"echo three >> {trace}", queue="q")).is_ok
    assert trace.read_text().split() == ["one", "two", "three"]
    assert not is_alive(int(guard.read_text()))


async def test_signals_for_the_whole_service_are_not_for_the_runner(make_line: MakeLine) -> None:
    """It ends with the speaker; but its commands can be ended as any process can."""
    line = make_line()
    runner = (await line.sh("echo $PPID")).output.strip()
    for _ in range(2):
        os.kill(int(runner), signal.SIGTERM)
    assert (await line.sh("true")).is_ok
    assert (await line.sh("kill -TERM $$; sleep 1000")).code == -signal.SIGTERM


async def test_a_lost_runner_is_told_and_fails_what_it_had(make_line: MakeLine) -> None:
    """Nothing waits for an answer that can't come."""
    line = make_line()
    runner = int((await line.sh("echo $PPID")).output)
    waiting = asyncio.ensure_future(line.sh("exec sleep 3"))
    await asyncio.sleep(0)
    os.kill(runner, signal.SIGKILL)
    assert (await waiting).failure == "the runner is gone"
    await line.lost.wait()
    assert (await line.sh("true")).failure == "the runner is gone"
