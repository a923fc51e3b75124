"""A program in a namespace: started, watched by its log, ended. Knows nothing of what it does."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from tests.lab.namespaces import DEADLINE

# /run is the machine's own: two programs that would share a pid file or a state file don't meet. The program dies with
# the test process, whatever that one dies of.
_ENTER = 'mount --bind "$0" /run && exec setpriv --pdeathsig KILL -- "$@"'


def await_true(condition: Callable[[], object], what: Callable[[], str] | str, seconds: float = DEADLINE) -> None:
    """Wait until a condition holds; ``what`` says what was waited for when it doesn't."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise AssertionError(what if isinstance(what, str) else what())
        time.sleep(0.01)


def hold(condition: Callable[[], object], seconds: float, what: Callable[[], str] | str) -> None:
    """See that a condition holds, and goes on to hold for some time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        assert condition(), what if isinstance(what, str) else what()
        time.sleep(0.01)


class Process:
    """One process and its children; they are a session of their own, so that a signal can reach all of them."""

    def __init__(
        self,
        namespace: str,
        run: Path,
        log: Path,
        command: Sequence[str],
        *,
        pass_fds: Sequence[int] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.log_file = log
        run.mkdir(exist_ok=True)
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                ["ip", "netns", "exec", namespace, "sh", "-c", _ENTER, str(run), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                pass_fds=pass_fds,
                env={**os.environ, **(env or {})},
            )

    def __repr__(self) -> str:
        return f"<Process {self.pid} {self.log_file.name} {'running' if self.is_running else 'ended'}>"

    @property
    def pid(self) -> int:
        """The id of the process, and of its session."""
        return self._popen.pid

    @property
    def is_running(self) -> bool:
        """Whether it hasn't ended."""
        return self._popen.poll() is None

    @property
    def log(self) -> str:
        """What it has said so far."""
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    def await_log(self, pattern: str, start: int = 0, seconds: float = DEADLINE) -> int:
        """Wait until the log from ``start`` on has the pattern; where the match ends."""
        found: list[int] = []

        def is_there() -> bool:
            match = re.compile(pattern).search(self.log, start)
            found[:] = [match.end()] if match else []
            return bool(found) or not self.is_running

        await_true(is_there, lambda: f"{pattern!r} is not in the log:\n{self.log}", seconds)
        assert found, f"it ended without {pattern!r}:\n{self.log}"
        return found[0]

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process alone."""
        self._popen.send_signal(number)

    def send_all(self, number: signal.Signals) -> None:
        """Send a signal to the process and its children at once."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def terminate(self) -> int:
        """Let it stop by itself; its exit code."""
        self._popen.terminate()
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self!r} doesn't stop:\n{self.log}") from None

    def wait(self) -> int:
        """Wait until it has ended; its exit code."""
        code: int = self._popen.wait(DEADLINE)
        return code

    def kill(self) -> None:
        """End it and its children, as a power cut would."""
        self.send_all(signal.SIGKILL)
        self._popen.wait(DEADLINE)
