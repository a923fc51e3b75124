"""
Run the program in the foreground: from a checked configuration to an exit code.

Must not know the command line.
"""

import asyncio

import uvloop
from setproctitle import setproctitle

from pyproxy.config.model import Config
from pyproxy.control.settings import Settings, make_settings
from pyproxy.control.supervisor import Supervisor
from pyproxy.control.worker import Program
from pyproxy.observe.logging_setup import configure_logging


def run(config: Config, file: str) -> int:
    """Run until stopped and return the exit code; raises ``StartError`` if it can't start."""
    configure_logging(config.log_level, "supervisor")
    setproctitle("pyproxy: supervisor")
    return run_settings(make_settings(config, file))


def run_settings(settings: Settings, program: Program | None = None) -> int:
    """Run a supervisor in an event loop of its own; ``program`` replaces the worker program."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_supervise(settings, program))


async def _supervise(settings: Settings, program: Program | None) -> int:
    return await Supervisor(settings, program).run()
