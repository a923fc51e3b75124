"""Pins how a worker is started, its environment and its command line, and when it counts as hung."""

import os
import sys
from typing import Any

import pytest

from pyproxy.control import worker
from pyproxy.control.worker import Program, Worker, worker_environ
from pyproxy.pulse import HUNG


def test_allocator_settings_are_given_but_not_imposed() -> None:
    """Every worker gets malloc thresholds; an operator who set his own keeps them."""
    environ = worker_environ({"MALLOC_ARENA_MAX": "8", "LD_PRELOAD": "jemalloc.so"})
    assert environ["MALLOC_ARENA_MAX"] == "8"
    assert int(environ["MALLOC_MMAP_THRESHOLD_"]) == 64 * 1024**2
    assert int(environ["MALLOC_TRIM_THRESHOLD_"]) == 128 * 1024**2
    assert environ["LD_PRELOAD"] == "jemalloc.so"


def test_the_environment_finds_this_package() -> None:
    """A worker of a source tree loads the very package that started it, and the operator's path stays."""
    environ = worker_environ({"PYTHONPATH": os.pathsep.join(["a", "b"])})
    first, *rest = environ["PYTHONPATH"].split(os.pathsep)
    assert worker.__file__.startswith(first + os.sep)
    assert rest == ["a", "b"]
    assert os.pathsep not in worker_environ({})["PYTHONPATH"]


def test_a_worker_does_not_see_what_the_file_takes() -> None:
    """It may be the admin token, and a worker is who reads what strangers send."""
    environ = worker_environ({"ADMIN_TOKEN": "sesame", "LANG": "C"}, {"ADMIN_TOKEN"})
    assert "ADMIN_TOKEN" not in environ
    assert environ["LANG"] == "C"


def test_the_worker_program_does_not_look_into_the_current_directory() -> None:
    """A file socket.py where the operator stands must not become part of a worker that runs as root."""
    assert list(Program().command) == [sys.executable, "-P", "-m", "pyproxy.worker"]


class SilentChild:
    """A process that stopped answering, and that the kernel can't end yet: it waits for a disk."""

    pid, started, silence = 1000, 0.0, HUNG
    is_killed = False

    def __init__(self, _name: str, _spawn: Any, on_message: Any, _on_end: Any) -> None:
        self.say = on_message

    def kill(self) -> None:
        self.is_killed = True


async def test_one_that_was_killed_keeps_no_other_from_being_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """It hangs until it is killed; it takes no traffic, however long its end is in coming."""
    monkeypatch.setattr(worker, "Child", SilentChild)
    stuck = Worker(0, Program(environ={}), lambda _w: None, lambda _w, _m: None, lambda _w: None)
    stuck._child.say({"type": "ready"})  # type: ignore[attr-defined]
    assert stuck.is_hung
    stuck.kill()
    assert not stuck.is_hung
    assert not stuck.is_serving
