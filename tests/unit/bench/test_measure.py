"""What a round reads by itself: the access log of whoever is measured."""

import os
from pathlib import Path

import pytest

from bench import measure, stage
from bench.contenders import Running


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Make an empty log."""
    path = tmp_path / "access.log"
    path.touch()
    return path


def test_lines_are_counted_after_the_log_was_emptied(log: Path) -> None:
    """By someone who appends."""
    with log.open("ab", buffering=0) as file:
        file.write(b"before\n" * 3)
        measure.empty(log)
        assert measure.count_lines(log) == 0
        file.write(b"after\n" * 2)
    assert measure.count_lines(log) == 2


def test_lines_are_counted_behind_a_hole(log: Path) -> None:
    """Someone who doesn't append goes on where he was; what is before takes no room and no time."""
    with log.open("wb", buffering=0) as file:
        file.write(b"before\n")
        file.seek(8 * 1024**3)
        measure.empty(log)
        file.write(b"after\n" * 2)
    assert log.stat().st_size > 8 * 1024**3
    assert measure.count_lines(log) == 2
    os.truncate(log, 1024**3)
    assert measure.count_lines(log) == 0, "nothing but a hole"


def test_who_does_not_log_is_found_out(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """He would win for nothing; what each connection left unfinished needs no line."""
    monkeypatch.setattr(measure, "LOG_SECONDS", 0.0)
    log.write_bytes(b"a line\n" * 8)
    measure.check_log(Running("nginx", 0, 0, log), 10.0, 4)
    measure.check_log(Running("bare pair", 0, 0, None), 10.0, 4)
    with pytest.raises(stage.StageError, match="8 lines in the access log for 20 requests"):
        measure.check_log(Running("nginx", 0, 0, log), 20.0, 4)
