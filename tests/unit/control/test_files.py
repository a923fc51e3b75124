"""Pins that nothing is read or written through what somebody else has put in its place."""

import os
import stat
from pathlib import Path

import pytest

from pyproxy.control.files import (
    MAX_SMALL_BYTES,
    create_new,
    everybody_may_read,
    open_for_append,
    others_may_write,
    read_own,
    read_small,
)

OTHER = 54321


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file that isn't to be touched."""
    file = tmp_path / "victim"
    file.write_text("precious")
    return file


@pytest.fixture
def _theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every link that is looked at be another user's; only root could really make one."""
    real = os.fstat

    def fstat(fd: int) -> os.stat_result:
        found = list(real(fd))
        found[4] = OTHER
        return os.stat_result(found)

    monkeypatch.setattr(os, "fstat", fstat)


def test_a_new_file_is_really_new(tmp_path: Path, victim: Path) -> None:
    """A link in its place is removed, not followed."""
    (tmp_path / "new").symlink_to(victim)
    fd = create_new(tmp_path / "new", 0o600)
    os.write(fd, b"mine")
    os.close(fd)
    assert victim.read_text() == "precious"
    assert not (tmp_path / "new").is_symlink()
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600


def test_a_log_may_be_a_link_of_our_own(tmp_path: Path, victim: Path) -> None:
    """As in a container, where it leads to stdout; relative ones and several in a row are followed too."""
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to(victim)
    fd = open_for_append(str(tmp_path / "one"), 0o640)
    os.write(fd, b" line")
    assert os.get_blocking(fd)
    os.close(fd)
    assert victim.read_text() == "precious line"


@pytest.mark.usefixtures("_theirs")
def test_a_log_is_not_written_through_somebody_elses_link(tmp_path: Path, victim: Path) -> None:
    """It could lead to any file of root's."""
    (tmp_path / "log").symlink_to(victim)
    with pytest.raises(OSError, match="it is a link that"):
        open_for_append(str(tmp_path / "log"), 0o640)
    assert victim.read_text() == "precious"


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    """With the system's own error."""
    (tmp_path / "log").symlink_to("log")
    with pytest.raises(OSError, match="symbolic links"):
        open_for_append(str(tmp_path / "log"), 0o640)


def test_what_proc_leads_to_can_be_a_log() -> None:
    """/dev/stdout is a link to a link that has no path."""
    reader, writer = os.pipe()
    fd = open_for_append(f"/proc/self/fd/{writer}", 0o640)
    os.write(fd, b"line")
    assert os.read(reader, 100) == b"line"
    for descriptor in (reader, writer, fd):
        os.close(descriptor)


def test_a_file_of_ours_is_believed_if_nobody_else_can_have_made_it(tmp_path: Path, victim: Path) -> None:
    """Not a link, not what everybody may write, not a pipe; none at all is None."""
    assert read_own(tmp_path / "none") is None
    assert read_own(victim) == b"precious"
    victim.chmod(0o666)
    with pytest.raises(ValueError, match="mode 0666"):
        read_own(victim)
    (tmp_path / "link").symlink_to(victim)
    with pytest.raises(ValueError, match="it is a link"):
        read_own(tmp_path / "link")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="not a regular file"):
        read_own(tmp_path / "pipe")


@pytest.mark.usefixtures("_theirs")
def test_a_file_of_somebody_else_is_not_believed(victim: Path) -> None:
    """It says who made it."""
    with pytest.raises(ValueError, match=f"it belongs to user {OTHER}"):
        read_own(victim)


def test_a_secret_is_a_small_regular_file(tmp_path: Path) -> None:
    """Nobody waits for the writer of a pipe, and no disk is read into memory."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        read_small(str(tmp_path / "pipe"))
    (tmp_path / "large").write_bytes(bytes(MAX_SMALL_BYTES + 1))
    with pytest.raises(OSError, match="larger than 64 KiB"):
        read_small(str(tmp_path / "large"))


@pytest.mark.parametrize(
    ("mode", "is_open"), [(0o755, False), (0o775, False), (0o777, True), (0o757, True), (0o1777, False)]
)
def test_who_else_may_write_to_a_directory(tmp_path: Path, mode: int, is_open: bool) -> None:
    """Our own group isn't somebody else, and the sticky bit keeps others from replacing what is ours."""
    os.chown(tmp_path, -1, os.getegid())
    tmp_path.chmod(mode)
    text = others_may_write(tmp_path)
    assert bool(text) == is_open
    if is_open:
        assert f"mode {mode:04o}" in text


def test_a_secret_that_everybody_may_read_is_told(victim: Path) -> None:
    """A group may have it in common."""
    victim.chmod(0o640)
    assert everybody_may_read(str(victim)) == ""
    victim.chmod(0o644)
    assert "chmod o-r" in everybody_may_read(str(victim))
