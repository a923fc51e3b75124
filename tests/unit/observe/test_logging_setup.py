"""Pins the form of the operational log."""

import logging
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from types import SimpleNamespace

import pytest

from pyproxy.observe.logging_setup import (
    MAX_PENDING_BYTES,
    LineFormatter,
    LineHandler,
    configure_logging,
    dropped_lines,
    log_stray_output,
)


def record(text: str, *args: object, level: int = logging.INFO) -> logging.LogRecord:
    """A record of 2026-11-22T16:00:00.123 UTC."""
    made = logging.LogRecord("any", level, __file__, 1, text, args, None)
    made.created, made.msecs = 1795363200.123, 123.0
    return made


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Leave logging as it was."""
    root = logging.getLogger()
    handlers, level, raises = root.handlers[:], root.level, logging.raiseExceptions
    yield
    root.handlers[:], logging.raiseExceptions = handlers, raises
    root.setLevel(level)


def test_a_line_has_time_level_name_and_text() -> None:
    """The form that log collectors parse."""
    line = LineFormatter("supervisor").format(record("%s %d", "worker", 3, level=logging.WARNING))
    assert line == "2026-11-22T16:00:00.123Z warning supervisor: worker 3"


def test_a_message_cannot_forge_a_line() -> None:
    """Line breaks in what is quoted are written as escapes."""
    line = LineFormatter("worker 0").format(record("%s", "a\r\nb"))
    assert line.endswith("worker 0: a\\r\\nb")


def logged(capfd: pytest.CaptureFixture[str]) -> str:
    """What has been written to stderr, once all of it has."""
    for handler in logging.getLogger().handlers:
        handler.close()
    return capfd.readouterr().err


def test_a_traceback_follows_its_line(capfd: pytest.CaptureFixture[str]) -> None:
    """An exception is logged with where it came from."""
    configure_logging("info", "worker 1")
    try:
        int("no")
    except ValueError:
        logging.getLogger("x").exception("failed")
    first, *rest = logged(capfd).splitlines()
    assert first.endswith("error worker 1: failed")
    assert rest[0].startswith("Traceback")
    assert rest[-1].startswith("ValueError: ")


def test_a_line_that_can_not_be_written_costs_nothing_else(capfd: pytest.CaptureFixture[str]) -> None:
    """Who logs goes on with its work, and what it wanted to say can be guessed."""
    configure_logging("info", "supervisor")
    logging.getLogger().info("%d workers", "two")
    logging.getLogger().info("next")
    first, second = logged(capfd).splitlines()
    assert "'%d workers'" in first
    assert second.endswith("supervisor: next")


def test_the_level_is_a_floor_and_configuring_again_replaces(capfd: pytest.CaptureFixture[str]) -> None:
    """Less than the level is not written, and nothing is written twice."""
    configure_logging("debug", "one")
    configure_logging("warning", "two")
    logging.getLogger("x").info("quiet")
    logging.getLogger("x").warning("loud")
    assert re.fullmatch(r"\S+Z warning two: loud\n", logged(capfd))


def test_a_closed_stderr_is_no_error(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Without stderr, nothing is written to whatever has its number now, and nothing is raised."""
    monkeypatch.setattr(sys, "__stderr__", None)
    configure_logging("info", "x")
    logging.getLogger("x").info("into the void")
    assert logged(capfd) == ""


def test_a_reader_that_hangs_holds_nobody_up() -> None:
    """With a pipe that is full and stays so, lines are dropped and counted; closing gives up after a moment."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(4096))
    os.set_blocking(writer, True)  # as stderr is: nobody else's descriptor is made non-blocking
    handler = LineHandler(writer)
    logging.getLogger().handlers[:] = [handler]
    for _ in range(100):
        handler.emit(record("x" * 10_000))
    assert dropped_lines() >= 100 - MAX_PENDING_BYTES // 10_000
    handler.close()
    assert dropped_lines() == 100
    os.close(reader)


def test_what_python_itself_would_write_is_logged_too(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An error in a finaliser or a thread can't block the process on stderr."""
    monkeypatch.setattr(sys, "unraisablehook", None)
    monkeypatch.setattr(threading, "excepthook", None)
    try:
        log_stray_output()
        hook, thread_hook = sys.unraisablehook, threading.excepthook
    finally:
        logging.captureWarnings(capture=False)
    error = ValueError("lost")
    hook(SimpleNamespace(err_msg=None, object="thing", exc_value=error))
    thread_hook(SimpleNamespace(exc_value=error))  # type: ignore[arg-type]
    assert "'thing'" in caplog.text
    assert caplog.text.count("ValueError: lost") == 2
