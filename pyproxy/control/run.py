"""
Run the program in the foreground: from a checked configuration to an exit code.

Must not know the command line.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace

import uvloop
from setproctitle import setproctitle

from pyproxy.config.model import Config
from pyproxy.control.pair_settings import make_pair_settings
from pyproxy.control.settings import Settings, make_settings
from pyproxy.control.supervisor import Supervisor
from pyproxy.control.worker import Program
from pyproxy.observe.logging_setup import configure_logging, log_stray_output

_log = logging.getLogger(__name__)


def run(config: Config, file: str, warnings: Sequence[str] = ()) -> int:
    """Run until stopped and return the exit code; raises ``StartError`` if it can't start. ``warnings`` are logged."""
    configure_logging(config.log_level, "supervisor")
    log_stray_output()
    for warning in warnings:
        _log.warning("%s", warning)
    setproctitle("pyproxy: supervisor")
    return run_settings(replace(make_settings(config, file), pair=make_pair_settings(config)))


def run_settings(settings: Settings, program: Program | None = None, speaker: Program | None = None) -> int:
    """Run a supervisor in an event loop of its own; ``program`` and ``speaker`` replace what its children run."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_supervise(settings, program, speaker))


async def _supervise(settings: Settings, program: Program | None, speaker: Program | None) -> int:
    return await Supervisor(settings, program, speaker).run()
