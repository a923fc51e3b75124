"""Pins that a virtual router is run once, and that who comes second is told by whom."""

import os
from pathlib import Path

import pytest

from pyproxy.control.instance_lock import NAME, InstanceLock
from pyproxy.control.startup import StartError


def test_the_second_is_refused_and_told_who_has_it(tmp_path: Path) -> None:
    """The one who started it by mistake finds the other by its process id."""
    first = InstanceLock(tmp_path, "vrid 51 on eth0")
    with pytest.raises(StartError, match=f"^failover: vrid 51 on eth0 is already run by pid {os.getpid()}$"):
        InstanceLock(tmp_path, "vrid 51 on eth0")
    first.close()
    InstanceLock(tmp_path, "vrid 51 on eth0").close()


def test_what_a_dead_one_left_keeps_nobody_out(tmp_path: Path) -> None:
    """The file says nothing, the kernel does."""
    (tmp_path / NAME).write_text("123456\n")
    lock = InstanceLock(tmp_path, "vrid 51 on eth0")
    assert (tmp_path / NAME).read_text() == f"{os.getpid()}\n"
    lock.close()


def test_on_a_full_file_system_it_holds_without_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full /run must not keep the pair from starting."""

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    first = InstanceLock(tmp_path, "vrid 51 on eth0")
    with pytest.raises(StartError, match="is already run by another process"):
        InstanceLock(tmp_path, "vrid 51 on eth0")
    first.close()


def test_a_place_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    """With its path."""
    with pytest.raises(StartError, match=r"can't use .*missing/lock: No such file"):
        InstanceLock(tmp_path / "missing", "vrid 51 on eth0")
