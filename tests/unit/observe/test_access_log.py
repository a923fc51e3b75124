"""The access log: a writer that never stalls its caller."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyproxy.observe.access_log import LineWriter


def _threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "access-log"]


@pytest.fixture(autouse=True)
def _no_thread_left() -> Iterator[None]:
    before = len(_threads())
    yield
    assert len(_threads()) == before


def _open(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)


def test_lines_arrive_whole_and_in_order(tmp_path: Path) -> None:
    """A file gets every line once, in the order of the writes, over many batches."""
    lines = [b"line %d %s\n" % (number, b"x" * (number % 300)) for number in range(5000)]
    writer = LineWriter(_open(tmp_path / "log"))
    for line in lines:
        writer.write(line)
    writer.close(10)
    assert (tmp_path / "log").read_bytes() == b"".join(lines)
    assert writer.dropped == 0


def test_a_pipe_gets_whole_lines_in_each_piece() -> None:
    """Pieces for a pipe end at a line's end, so two workers on one pipe can't mix their lines."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_DIRECT)  # packet mode: each read is one write
    lines = [b"line %d %s\n" % (number, b"x" * (number * 7 % 900)) for number in range(400)]
    long_line = b"y" * 10_000 + b"\n"
    writer = LineWriter(write_end)
    for line in (*lines, long_line):
        writer.write(line)
    writer.flush()
    received: list[bytes] = []
    while len(b"".join(received)) < len(b"".join(lines)):
        received.append(os.read(read_end, 65536))
    assert all(piece.endswith(b"\n") or b"y" in piece for piece in received)
    while not b"".join(received).endswith(long_line):
        received.append(os.read(read_end, 65536))
    assert b"".join(received) == b"".join((*lines, long_line))
    writer.close(10)
    os.close(read_end)


def test_a_blocked_pipe_costs_lines_and_nothing_else() -> None:
    """
    With nobody reading, writes return, memory is bounded, and every line is either in the pipe or counted.

    A writer that waited would hang here until the test's timeout.
    """
    read_end, write_end = os.pipe()
    writer = LineWriter(write_end, max_pending_bytes=256 * 1024)
    line = b"x" * 199 + b"\n"
    total = 20_000
    for _ in range(total):
        writer.write(line)
    assert writer.dropped > 0
    writer.close(0.2)
    received = b""
    while piece := os.read(read_end, 65536):
        received += piece
    os.close(read_end)
    assert received == line * (len(received) // len(line))
    assert received
    assert writer.dropped == total - received.count(b"\n")


def test_a_pipe_that_is_read_again_gets_later_lines() -> None:
    """Being blocked for a while is not for ever: when the reader comes back, so do the lines."""
    read_end, write_end = os.pipe()
    writer = LineWriter(write_end, max_pending_bytes=128 * 1024)
    while not writer.dropped:
        writer.write(b"early %s\n" % (b"x" * 100))
    text = b""
    while b"late\n" not in text:
        text = text[-10:] + os.read(read_end, 65536)
        writer.write(b"late\n")
        writer.flush()
    writer.close(0)
    os.close(read_end)


def test_a_reader_that_went_away_is_counted() -> None:
    """A broken pipe drops the lines and leaves the thread alive for the next ones."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    writer = LineWriter(write_end)
    for _ in range(3):
        writer.write(b"one\n")
        writer.flush()
    writer.close(10)
    assert writer.dropped == 3


def test_a_full_disk_is_counted() -> None:
    """ENOSPC drops the lines of the batch; nothing is raised anywhere."""
    writer = LineWriter(os.open("/dev/full", os.O_WRONLY))
    writer.write(b"one\n")
    writer.write(b"two\n")
    writer.flush()
    writer.write(b"three\n")
    writer.close(10)
    assert writer.dropped == 3


def test_a_line_torn_by_a_full_disk_does_not_spoil_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When space comes back, the new lines start on a line of their own."""
    real_write = os.write
    answers: list[int | OSError] = [6, OSError(28, "No space left on device")]

    def full_after_six_bytes(fd: int, data: bytes) -> int:
        if not answers:
            return real_write(fd, data)
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return real_write(fd, data[:answer])

    monkeypatch.setattr("pyproxy.observe.access_log.os.write", full_after_six_bytes)
    writer = LineWriter(_open(tmp_path / "log"))
    writer.write(b"one\n")
    writer.write(b"two\n")
    writer.flush()
    writer.write(b"three\n")
    writer.close(10)
    assert (tmp_path / "log").read_bytes() == b"one\ntw\nthree\n"
    assert writer.dropped == 1


def test_reopen_sends_later_lines_to_the_new_file(tmp_path: Path) -> None:
    """Rotation loses no line: what was written before goes to the old file, which is closed after it."""
    old = _open(tmp_path / "old")
    writer = LineWriter(old)
    writer.write(b"before\n")
    writer.reopen(_open(tmp_path / "new"))
    writer.write(b"after\n")
    writer.close(10)
    assert (tmp_path / "old").read_bytes() == b"before\n"
    assert (tmp_path / "new").read_bytes() == b"after\n"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(old)


def test_close_gives_every_descriptor_back_from_a_blocked_pipe(tmp_path: Path) -> None:
    """A reopen that waits behind a blocked pipe is still carried out, and both descriptors are closed."""
    read_end, write_end = os.pipe()
    writer = LineWriter(write_end)
    while os.fstat(write_end) and not writer.dropped:
        writer.write(b"x" * 200 + b"\n")
    fresh = _open(tmp_path / "new")
    writer.reopen(fresh)
    writer.close(0)
    os.close(read_end)
    for fd in (write_end, fresh):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
