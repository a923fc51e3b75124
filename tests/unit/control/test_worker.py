"""Pins how a worker is started, and when it counts as hung; its process is imagined."""

import os
import sys

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


class FakeChild:
    """A process that has been silent for long, and can't be ended."""

    def __init__(self, *_arguments: object) -> None:
        self.pid, self.started, self.silence, self.is_killed = 1000, 0.0, HUNG, False

    def kill(self) -> None:
        self.is_killed = True


async def test_one_that_was_killed_is_not_to_be_killed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may wait for a disk for ever; it serves nobody, but the turn of the next one that hangs must come."""
    monkeypatch.setattr(worker, "Child", FakeChild)
    hanging = Worker(0, Program(environ={}), lambda _: None, lambda _, __: None, lambda _: None)
    assert not hanging.is_hung
    hanging._on_message({"type": "ready"})
    assert hanging.is_hung
    hanging.kill()
    assert not hanging.is_hung
    assert not hanging.is_serving
