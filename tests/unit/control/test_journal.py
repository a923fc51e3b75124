"""Pins that the journal is the old one or the new one, whenever the program dies, and never lost."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pyproxy.control.journal import NAME, Journal, write_durably
from pyproxy.control.overrides import Note, Override
from pyproxy.control.startup import StartError

OLD, NEW = b'{"old": 1}\n', b'{"new": "' + b"x" * 40 + b'"}\n'
ONE = Override("web", "a", "weight", 7, 1, Note("me", "why not", 1.5, 2.5))

#: Dies in the n-th call of one of these, before it or after it; a write may have done a part of its work.
KILL = """
import os, sys
from pathlib import Path
from pyproxy.control import journal
path, content, fatal, part = Path(sys.argv[1]), sys.argv[2].encode(), int(sys.argv[3]), int(sys.argv[4])
calls = 0
def deadly(real):
    def call(*arguments, **named):
        global calls
        calls += 1
        if calls == fatal:
            if real is write and part:
                write(arguments[0], bytes(arguments[1])[:part])
            elif part:
                real(*arguments, **named)
            os._exit(9)
        return real(*arguments, **named)
    return call
write = os.write
for name in ("open", "write", "fsync", "close", "replace"):
    setattr(os, name, deadly(getattr(os, name)))
journal.write_durably(path, content)
sys.stdout.write("done")
sys.stdout.flush()
os._exit(0)
"""


def die(path: Path, call: int, part: int) -> bool:
    """Write in a process that dies in a call; return whether it came to the end instead."""
    command = [sys.executable, "-c", KILL, str(path), NEW.decode(), str(call), str(part)]
    result = subprocess.run(command, capture_output=True, check=False)
    assert result.returncode in (0, 9), result.stderr
    return result.stdout == b"done"


@pytest.mark.parametrize("part", [0, 1, len(NEW) // 2, len(NEW) - 1])
def test_whenever_it_dies_the_file_is_whole(tmp_path: Path, part: int) -> None:
    """Each step may be the last one; the next write works whatever was left behind."""
    path = tmp_path / NAME
    seen = set()
    for call in range(1, 20):
        write_durably(path, OLD)
        is_done = die(path, call, part)
        seen.add(path.read_bytes())
        assert seen <= {OLD, NEW}
        if is_done:
            break
    assert is_done
    assert seen == {OLD, NEW}
    assert path.read_bytes() == NEW


def test_a_short_write_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may take less than it was given."""
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data)[:3]))
    write_durably(tmp_path / NAME, NEW)
    assert (tmp_path / NAME).read_bytes() == NEW


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    """By another program, from a directory that it makes itself; nobody else may read why things were done."""
    journal = Journal(str(tmp_path / "state"))
    assert journal.load() == []
    asyncio.run(journal.save([ONE]))
    assert Journal(str(tmp_path / "state")).load() == [ONE]
    assert (tmp_path / "state" / NAME).stat().st_mode & 0o777 == 0o600


def test_without_a_directory_nothing_is_kept() -> None:
    """And nothing fails."""
    asyncio.run(Journal(None).save([ONE]))
    assert Journal(None).load() == []


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "it is not JSON, or was cut short"),
        (b'{"version": 1, "overrides": [', "it is not JSON, or was cut short"),
        (b"[]", "it is not a journal of overrides"),
        (b'{"version": 1}', "it is not a journal of overrides"),
        (b'{"version": 7, "overrides": []}', "it has version 7, this program writes 1"),
        (b'{"version": 1, "overrides": [{}]}', "an override has other keys than it should"),
    ],
)
def test_a_bad_file_is_put_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes, problem: str
) -> None:
    """Every one of them, each under another name, and the log says which and why."""
    for number in (1, 2):
        (tmp_path / NAME).write_bytes(content)
        caplog.clear()
        assert Journal(str(tmp_path)).load() == []
        assert problem in caplog.text
        assert f"kept as {NAME}.bad-{number}" in caplog.text
        assert (tmp_path / f"{NAME}.bad-{number}").read_bytes() == content
        assert not (tmp_path / NAME).exists()


def test_every_cut_is_noticed(tmp_path: Path) -> None:
    """A file that was truncated anywhere is not taken for a shorter one."""
    asyncio.run(Journal(str(tmp_path)).save([ONE, ONE]))
    content = (tmp_path / NAME).read_bytes()
    for length in range(len(content) - 1):
        (tmp_path / NAME).write_bytes(content[:length])
        assert Journal(str(tmp_path)).load() == []
        (tmp_path / f"{NAME}.bad-1").unlink()


@pytest.mark.parametrize("place", ["missing/state", "file"])
def test_a_directory_that_cannot_be_used(tmp_path: Path, place: str) -> None:
    """It is told before anything starts."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match="state_dir: can't use"):
        Journal(str(tmp_path / place)).load()


def test_what_is_written_can_be_read_by_people(tmp_path: Path) -> None:
    """Who, why and until when are in the file by name."""
    asyncio.run(Journal(str(tmp_path)).save([ONE]))
    (item,) = json.loads((tmp_path / NAME).read_text())["overrides"]
    assert (item["by"], item["reason"], item["expires"], item["replaced"]) == ("me", "why not", 2.5, 1)
