"""Pins the words for a failed bind; the binding itself is tested with sockets in tests/integration."""

import errno

import pytest

from pyproxy.config.runtime import Listener
from pyproxy.control.listeners import explain, open_listeners
from pyproxy.control.startup import StartError


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


def test_a_unix_listener_whose_owner_is_unknown() -> None:
    """A unix listener goes the way of unix sockets, whose line is as complete as that of a port."""
    with pytest.raises(StartError, match="can't listen on unix:/no-such-directory/x: there is no user 'no-such-user'"):
        open_listeners([Listener("http", "", 0, path="/no-such-directory/x", owner="no-such-user")], slots=1)
