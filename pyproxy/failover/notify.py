"""
The operator's commands for a change of state, strictly one after another and in the order of the changes.

Must not know why a state changed. What a command finds in its environment::

    PYPROXY_STATE      master, backup or fault          PYPROXY_PREVIOUS   the state before
    PYPROXY_REASON     why, in words                    PYPROXY_INTERFACE  eth0
    PYPROXY_VIPS       10.0.0.9/32 fd00::9/128          PYPROXY_VRID       51
    PYPROXY_PRIORITY   100
"""

import asyncio
import logging
from collections.abc import Sequence

from pyproxy.failover.jobs import Jobs
from pyproxy.failover.settings import Settings

QUEUE = "notify"

_log = logging.getLogger(__name__)


def notify_environ(settings: Settings, state: str, previous: str, reason: str) -> dict[str, str]:
    """Make what is told to a command through its environment."""
    return {
        "PYPROXY_STATE": state,
        "PYPROXY_PREVIOUS": previous,
        "PYPROXY_REASON": reason,
        "PYPROXY_INTERFACE": settings.interface,
        "PYPROXY_VIPS": " ".join(map(str, settings.virtual_ips)),
        "PYPROXY_VRID": str(settings.vrid),
        "PYPROXY_PRIORITY": str(settings.priority),
    }


class Notifier:
    """Run what the settings want run; without ``jobs`` there is nothing to run."""

    def __init__(self, settings: Settings, jobs: Jobs | None) -> None:
        self.settings = settings
        self._jobs = jobs
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Notifier {len(self._tasks)} to run>"

    def changed(self, state: str, previous: str, reason: str) -> None:
        """Tell of a change of state; the command runs when those before it have ended."""
        notify = self.settings.notify
        run = {"master": notify.master, "backup": notify.backup, "fault": notify.fault}.get(state)
        if run is None or self._jobs is None:
            return
        task = asyncio.ensure_future(
            self._run(self._jobs, run, state, notify_environ(self.settings, state, previous, reason))
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, jobs: Jobs, run: Sequence[str], state: str, environ: dict[str, str]) -> None:
        result = await jobs.run(run, self.settings.notify_timeout, environ, QUEUE)
        if not result.is_ok:
            _log.error("notify.%s: %s", state, result.detail)
