"""
Files that a program with privileges reads and writes in places that others may write to as well.

Must not know what is in them. Who may write to a directory can put a link there that leads to a file of ours: what is
written is therefore never written through a link of somebody else's, and a new file is really new.
"""

import errno
import os
import pwd
import stat
from pathlib import Path

MAX_SMALL_BYTES = 64 * 1024

_OURS = os.O_NOFOLLOW | os.O_NONBLOCK
_MOST_LINKS = 8
_OTHERS_WRITE = stat.S_IWOTH | stat.S_IWGRP


def read_small(file: str) -> bytes:
    """Read a secret or the like: a regular file, waiting for nobody; raises ``OSError``, also if it is large."""
    with open(file, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        content = stream.read(MAX_SMALL_BYTES + 1)
    if len(content) > MAX_SMALL_BYTES:
        raise OSError(errno.EFBIG, "it is larger than 64 KiB")
    return content


def read_own(path: Path) -> bytes | None:
    """
    Read a file that only we write, None if there is none.

    Raises ``ValueError`` if somebody else made it, or may have: what stands in it isn't to be believed.
    """
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | _OURS)) as stream:
            found = os.fstat(stream.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise ValueError("it is not a regular file")
            if found.st_uid not in (0, os.geteuid()) or found.st_mode & stat.S_IWOTH:
                raise ValueError(f"it belongs to {owner_name(found.st_uid)}, mode {stat.S_IMODE(found.st_mode):04o}")
            return stream.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ValueError("it is a link") from error
        raise


def create_new(path: Path, mode: int) -> int:
    """Make a file that isn't there for writing; what a program that died left in its place is removed."""
    path.unlink(missing_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)


def open_for_append(file: str, mode: int) -> int:
    """
    Open a log; a link is followed only if root or we ourselves made it.

    O_NONBLOCK only for the opening: a named pipe that nobody reads is an error then, not a wait.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
    path = Path(file)
    for _ in range(_MOST_LINKS):
        try:
            fd = os.open(path, flags, mode)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            path, flags = _follow(path, flags)
        else:
            os.set_blocking(fd, True)
            return fd
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def _follow(path: Path, flags: int) -> tuple[Path, int]:
    """Tell where a link leads that is ours or root's; what it is can't change between the looks at it."""
    link = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(link)
        if found.st_uid not in (0, os.geteuid()):
            raise OSError(errno.EPERM, f"it is a link that {owner_name(found.st_uid)} made")
        if found.st_dev == Path("/proc").stat().st_dev:
            return path, flags & ~os.O_NOFOLLOW  # /dev/stdout ends there, at a link that has no path to follow
        return path.parent / os.readlink("", dir_fd=link), flags
    finally:
        os.close(link)


def others_may_write(directory: Path) -> str:
    """
    Say who else may put files into a directory, "" if nobody may.

    The sticky bit is enough: what is ours there can't be replaced by others.
    """
    found = directory.stat()
    if found.st_uid not in (0, os.geteuid()):
        return f"{directory} belongs to {owner_name(found.st_uid)}"
    writers = found.st_mode & _OTHERS_WRITE
    if found.st_gid in (0, os.getegid()):
        writers &= ~stat.S_IWGRP
    if not writers or found.st_mode & stat.S_ISVTX:
        return ""
    return f"{directory} is writable by others (mode {stat.S_IMODE(found.st_mode):04o})"


def everybody_may_read(file: str) -> str:
    """Say that a secret is none, "" if it is one."""
    mode = Path(file).stat().st_mode
    return f"everybody on this machine may read {file}; chmod o-r it" if mode & stat.S_IROTH else ""


def owner_name(uid: int) -> str:
    """Name a user."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
