"""
``pyproxy vipd``: a speaker without a proxy, for a machine that serves with another program.

Must not know workers, pools or listeners: of the file only ``failover``, ``admin`` and ``log_level`` count.
"""

import asyncio
import contextlib
import logging
import signal
from dataclasses import replace
from pathlib import Path

import uvloop
from setproctitle import setproctitle

from pyproxy.admin.app import make_pair_app
from pyproxy.config.load import load_with_warnings
from pyproxy.config.model import SpeakerConfig
from pyproxy.control.admin_socket import open_admin
from pyproxy.control.check import check_speaker
from pyproxy.control.pair import Facts, Hooks, Pair
from pyproxy.control.pair_settings import PairSettings, lock_instance, make_pair_settings
from pyproxy.control.settings import AdminSettings, make_admin
from pyproxy.control.speaker import speaker_program
from pyproxy.control.worker import Program
from pyproxy.observe.logging_setup import configure_logging, log_stray_output

_log = logging.getLogger(__name__)


def run_alone(file: str) -> int:
    """Run until stopped and return the exit code; ``ConfigError`` and ``StartError`` say why it can't start."""
    loaded = load_with_warnings(file, SpeakerConfig, check_speaker)
    config = loaded.config
    configure_logging(config.log_level, "supervisor")
    log_stray_output()
    for warning in loaded.warnings:
        _log.warning("%s", warning.line_in(file))
    setproctitle("pyproxy: vipd")
    pair = make_pair_settings(config)
    assert pair is not None
    # Nothing of it is compared but the section itself: the rest of the file counts for nothing here.
    pair = replace(pair, sections={name: pair.sections[name] for name in pair.sections if name == "failover"})
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        admin = make_admin(config.admin) if config.admin is not None else None
        return runner.run(_run(pair, admin, str(Path(file).absolute())))


async def _run(pair: PairSettings, admin: AdminSettings | None, file: str) -> int:
    return await Alone(pair, admin, file).run()


class Alone:
    """The program; made inside a running event loop, then ``run`` once. Satisfies ``admin.control.Basics``."""

    def __init__(
        self, pair: PairSettings, admin: AdminSettings | None, file: str, speaker: Program | None = None
    ) -> None:
        self._file = file
        self._admin = admin
        self._stopped = asyncio.Event()
        self._exit_code = 0
        self._settings = pair
        self._pair = Pair(pair, speaker or speaker_program(), Hooks(self._handle_hopeless))

    def __repr__(self) -> str:
        return f"<Alone {self._file} {self._pair!r}>"

    def is_ready(self) -> bool:
        return self._pair.state != "fault" and not self._stopped.is_set()

    def metrics(self) -> str:
        return self._pair.metrics()

    async def run(self) -> int:
        """Run until stopped, and return the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._handle_stop, number)
        async with contextlib.AsyncExitStack() as cleanup:
            cleanup.callback(lock_instance(self._settings).close)
            if self._admin is not None:
                await open_admin(self._admin, make_pair_app(self, self._admin.token, self._pair), cleanup)
            cleanup.push_async_callback(self._pair.close)
            self._pair.set_facts(Facts())
            self._pair.start()
            await self._stopped.wait()
            await self._pair.leave(0.0, "the program stops")
        _log.info("stopped")
        return self._exit_code

    def _handle_stop(self, number: signal.Signals) -> None:
        _log.info("%s: stopping", number.name)
        self._stopped.set()

    def _handle_hopeless(self, reason: str) -> None:
        _log.critical("the speaker can't be started: %s", reason)
        self._exit_code = 1
        self._stopped.set()
