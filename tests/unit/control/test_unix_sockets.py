"""Pins the words for a unix socket that can't be made; the making is tested with sockets in tests/integration."""

import errno

import pytest

from pyproxy.control.startup import StartError
from pyproxy.control.unix_sockets import bind_unix, explain


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EADDRINUSE, "the path is in use by another program"),
        (errno.EEXIST, "the path is taken by something that is no socket"),
        (errno.ENOENT, "there is no directory /run/pyproxy"),
        (errno.ENOTDIR, "there is no directory /run/pyproxy"),
        (errno.EACCES, "permission denied"),
        (errno.EROFS, "Read-only file system"),
    ],
)
def test_what_the_system_says_is_explained(number: int, words: str) -> None:
    """What an operator can do something about is said in his words, the rest in the system's."""
    assert explain(OSError(number, "raw"), "/run/pyproxy/http.sock") == words


def test_an_error_without_a_number_says_what_it_has() -> None:
    """Python's own errors carry only a text."""
    assert explain(OSError("AF_UNIX path too long"), "/run/x.sock") == "AF_UNIX path too long"


@pytest.mark.parametrize(
    ("owner", "reason"),
    [
        ("no-such-user", "there is no user 'no-such-user' on this machine"),
        ("no-such-user:daemon", "there is no user 'no-such-user' on this machine"),
        ("daemon:no-such-group", "there is no group 'no-such-group' on this machine"),
    ],
)
def test_an_unknown_owner_is_told_before_anything_is_bound(owner: str, reason: str) -> None:
    """The line names the socket and whom the machine doesn't know; the missing directory wasn't reached."""
    with pytest.raises(StartError) as caught:
        bind_unix("/no-such-directory/http.sock", 1, 0o660, owner)
    assert str(caught.value) == f"can't listen on unix:/no-such-directory/http.sock: {reason}"
    assert caught.value.exit_code == 1
