"""Pins the words for a failed bind; the binding itself is tested with sockets in tests/integration."""

import errno

import pytest

from pyproxy.control.listeners import explain


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EADDRINUSE, "already in use by another program"),
        (errno.EACCES, "below 1024 needs root or CAP_NET_BIND_SERVICE"),
        (errno.EADDRNOTAVAIL, "doesn't have that address"),
        (errno.EAFNOSUPPORT, "doesn't support that kind of address"),
        (errno.ENOENT, "No such file or directory"),
    ],
)
def test_a_failed_bind_is_explained(number: int, words: str) -> None:
    """What an operator can do something about is said in his words, the rest in the system's."""
    assert words in explain(OSError(number, "raw"))


def test_an_error_without_a_number_says_what_it_has() -> None:
    """Python's own errors carry only a text."""
    assert explain(OSError("unix path too long")) == "unix path too long"
