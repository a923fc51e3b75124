"""
What has to be right before the first worker starts: descriptors, the user, the access log.

Must not know sockets or processes. Everything here that fails is a ``StartError``, whose text is the one
line that the user gets.
"""

import grp
import logging
import os
import pwd
import re
import resource
from dataclasses import dataclass

from pyproxy.control.files import open_for_append, read_small
from pyproxy.errors import PyproxyError

LOG_MODE = 0o640

_VISIBLE = re.compile(r"[!-~]+")  # what a token may consist of, in the file of the configuration as well

_MOST_SECRETS = 2  # the new and the old one

# Beside connections a process has listening sockets, the channel, the scoreboard, the log, the loop's own.
_SPARE_DESCRIPTORS = 64
# Without a configured limit: fewer descriptors than this end in refused clients on a busy day.
_LOW_DESCRIPTORS = 4096

_log = logging.getLogger(__name__)


class StartError(PyproxyError):
    """
    A reason not to start, as the line for the user; ``exit_code`` is 2 when the configuration is wrong.

    ``key`` is the one of lb.yml that it is about, and ``text`` the line without it.
    """

    def __init__(self, text: str, exit_code: int = 1, *, key: str = "") -> None:
        super().__init__(f"{key}: {text}" if key else text)
        self.exit_code = exit_code
        self.text = text


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a worker runs as."""

    uid: int
    gid: int
    groups: tuple[int, ...]


def raise_nofile(connections: int) -> None:
    """Raise the soft limit of open files to the hard one, say both, and warn if ``connections`` need more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    raised = soft
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            raised = hard
        except (OSError, ValueError) as error:
            _log.warning("the limit of open files stays at %d: %s", soft, error)
    _log.info("limit of open files: %d (was %d, hard limit %d)", raised, soft, hard)
    # A client's connection and the backend's: two each.
    needed = 2 * connections + _SPARE_DESCRIPTORS if connections else _LOW_DESCRIPTORS
    if raised != resource.RLIM_INFINITY and raised < needed:
        wanted = f"limits.connections: {connections}" if connections else "a busy proxy"
        _log.warning("open files are limited to %d; %s may need %d", raised, wanted, needed)


def find_credentials(user: str | None, *, only_root: bool = True) -> Credentials | None:
    """
    Look up the user that workers run as; None means that they run as who started the program.

    Who isn't root can't start workers as another user, which is an error with ``only_root``.
    """
    if user is None:
        return None
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise StartError(f"there is no user {user!r} on this machine", key="user") from None
    if os.geteuid() != 0:
        if os.geteuid() == entry.pw_uid or not only_root:
            return None
        raise StartError(f"only root can start workers as {user!r}", key="user")
    groups = {entry.pw_gid, *(group.gr_gid for group in grp.getgrall() if user in group.gr_mem)}
    return Credentials(entry.pw_uid, entry.pw_gid, tuple(sorted(groups)))


def open_access_log(to: str) -> int | None:
    """Open what ``access_log.to`` names for appending; return a descriptor of our own, None for ``off``."""
    if to == "off":
        return None
    try:
        return os.dup(1) if to == "stdout" else open_for_append(to, LOG_MODE)
    except OSError as error:
        raise StartError(f"can't open {to}: {error.strerror}", key="access_log.to") from error


def read_token(token: str | None, token_file: str | None) -> str | None:
    """Get the admin token from the configuration or from its file, without the newline at the file's end."""
    if token_file is None:
        return token
    text = _read_secret("admin.token_file", token_file)
    if not _VISIBLE.fullmatch(text):
        problem = "must be one line of visible ASCII characters without spaces"
        raise StartError(f"{token_file} {problem}", exit_code=2, key="admin.token_file")
    return text


def read_secrets(key: str, file: str, least: int) -> tuple[str, ...]:
    """Get one secret, or the new and the old one, from the lines of a file; ``least`` characters each."""
    secrets = tuple(_read_secret(key, file).splitlines())
    if len(secrets) > _MOST_SECRETS:
        raise StartError(f"{file} must have one line, or a second one with the old secret", exit_code=2, key=key)
    if any(len(secret) < least or not secret.isprintable() for secret in secrets):
        raise StartError(f"each line of {file} must have at least {least} printable characters", exit_code=2, key=key)
    return secrets


def _read_secret(key: str, file: str) -> str:
    """Read a file that must hold something, without the newline at its end."""
    try:
        text = read_small(file).decode().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise StartError(f"can't read {file}: {reason}", exit_code=2, key=key) from error
    if not text.strip():
        raise StartError(f"{file} is empty", exit_code=2, key=key)
    return text
