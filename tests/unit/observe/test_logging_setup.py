"""Pins the form of the operational log."""

import io
import logging
import re
import sys
from collections.abc import Iterator

import pytest

from pyproxy.observe.logging_setup import LineFormatter, configure_logging


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


def test_a_traceback_follows_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    """An exception is logged with where it came from."""
    configure_logging("info", "worker 1")
    try:
        int("no")
    except ValueError:
        logging.getLogger("x").exception("failed")
    first, *rest = capsys.readouterr().err.splitlines()
    assert first.endswith("error worker 1: failed")
    assert rest[0].startswith("Traceback")
    assert rest[-1].startswith("ValueError: ")


def test_the_level_is_a_floor_and_configuring_again_replaces(capsys: pytest.CaptureFixture[str]) -> None:
    """Less than the level is not written, and nothing is written twice."""
    configure_logging("debug", "one")
    configure_logging("warning", "two")
    logging.getLogger("x").info("quiet")
    logging.getLogger("x").warning("loud")
    assert re.fullmatch(r"\S+Z warning two: loud\n", capsys.readouterr().err)


def test_a_closed_stderr_is_no_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """When nobody reads any more, logging says nothing and raises nothing."""
    closed = io.StringIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", closed)
        configure_logging("info", "x")
    closed.close()
    logging.getLogger("x").info("into the void")
    assert capsys.readouterr().err == ""
