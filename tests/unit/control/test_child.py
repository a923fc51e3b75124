"""Pins the words for a child's end; its life is for integration tests."""

import doctest
import signal

import pytest

from pyproxy.control import child
from pyproxy.control.child import describe_exit


def test_doctest() -> None:
    """The examples in the documentation are true."""
    assert doctest.testmod(child).failed == 0


@pytest.mark.parametrize(
    ("returncode", "text"),
    [
        (0, "exit status 0"),
        (1, "exit status 1"),
        (-signal.SIGSEGV, "signal SIGSEGV"),
        (-64, "signal SIGRTMAX"),
    ],
)
def test_the_end_is_told_by_status_or_name(returncode: int, text: str) -> None:
    """An operator reads SIGKILL, not -9."""
    assert describe_exit(returncode) == text


def test_an_unknown_signal_is_told_by_number() -> None:
    """A number without a name must not fail in the middle of reaping."""
    assert describe_exit(-200) == "signal 200"
