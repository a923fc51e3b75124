"""
Listening unix sockets: their path, mode and owner, and what becomes of the path.

Must not know who accepts on them. A path that a program left behind is taken over; one that answers, and
whatever is no socket, is never touched. Failing is a ``StartError``.
"""

import contextlib
import errno
import grp
import os
import pwd
import socket
import stat
from pathlib import Path

from pyproxy.control.startup import StartError


class UnixSocket:
    """A listening socket and the path that leads to it."""

    __slots__ = ("_identity", "path", "sock")

    def __init__(self, sock: socket.socket, path: str) -> None:
        self.sock = sock
        self.path = path
        self._identity: tuple[int, int] | None = _identity(path)

    def __repr__(self) -> str:
        return f"<UnixSocket {self.path}>"

    def remove_path(self) -> None:
        """
        Remove the path if it still leads to us; somebody else's socket stays.

        To be called before the socket is closed: an open one keeps its inode's number from being given away.
        """
        if self._identity is not None:
            with contextlib.suppress(OSError):
                if _identity(self.path) == self._identity:
                    Path(self.path).unlink()
            self._identity = None


def bind_unix(path: str, backlog: int, mode: int | None = None, owner: str | None = None) -> UnixSocket:
    """
    Listen on a path; ``owner`` is ``user`` or ``user:group``, and what is None is as for any new file.

    Nobody gets in before mode and owner are right: until then the socket doesn't listen.
    """
    try:
        ids = None if owner is None else find_owner(owner)
        _remove_stale(path)
        return _bind(path, backlog, mode, ids)
    except (OSError, StartError) as error:
        reason = explain(error, path) if isinstance(error, OSError) else str(error)
        raise StartError(f"can't listen on unix:{path}: {reason}") from error


def explain(error: OSError, path: str) -> str:
    """Say in an operator's words why there is no socket."""
    match error.errno:
        case errno.EADDRINUSE:
            return "the path is in use by another program"
        case errno.EEXIST:
            return "the path is taken by something that is no socket"
        case errno.ENOENT | errno.ENOTDIR:
            return f"there is no directory {Path(path).parent}"
        case errno.EACCES:
            return "permission denied"
    return os.strerror(error.errno) if error.errno else str(error)


def find_owner(owner: str) -> tuple[int, int]:
    """Look up the numbers of ``user`` or ``user:group``; -1 leaves the group as it is."""
    user, _, group = owner.partition(":")
    try:
        uid = pwd.getpwnam(user).pw_uid
    except KeyError:
        raise StartError(f"there is no user {user!r} on this machine") from None
    try:
        gid = grp.getgrnam(group).gr_gid if group else -1
    except KeyError:
        raise StartError(f"there is no group {group!r} on this machine") from None
    return uid, gid


def _bind(path: str, backlog: int, mode: int | None, ids: tuple[int, int] | None) -> UnixSocket:
    with contextlib.ExitStack() as undo:
        sock = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        _bind_with_mode(sock, path, mode)
        bound = UnixSocket(sock, path)
        undo.callback(bound.remove_path)
        if ids is not None:
            _give_away(path, ids)
        sock.listen(backlog)
        undo.pop_all()
    return bound


def _bind_with_mode(sock: socket.socket, path: str, mode: int | None) -> None:
    """
    Make the path with its mode.

    It gets that of the socket, less the umask. A chmod afterwards would follow a link that the directory's owner
    has put in its place, to a file of root's.
    """
    if mode is None:
        sock.bind(path)
        return
    os.fchmod(sock.fileno(), mode)
    umask = os.umask(0)
    try:
        sock.bind(path)
    finally:
        os.umask(umask)


def _give_away(path: str, ids: tuple[int, int]) -> None:
    """Change the owner of what the path leads to if that is a socket, and of nothing that is put there meanwhile."""
    descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        os.chown(f"/proc/self/fd/{descriptor}", *ids)
    except PermissionError:
        raise StartError("only root can give it to that owner") from None
    finally:
        os.close(descriptor)


def _remove_stale(path: str) -> None:
    """Unlink a socket that a program left behind; one that answers is in use."""
    try:
        if not stat.S_ISSOCK(Path(path).lstat().st_mode):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a full backlog is an answer too
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink(missing_ok=True)
            return
        except BlockingIOError:
            pass
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _identity(path: str) -> tuple[int, int]:
    found = Path(path).lstat()
    return found.st_dev, found.st_ino
