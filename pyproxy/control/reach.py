"""
Whether another user may run this very program: its Python, its own files and what it imports.

Must not know what it runs. A clone or a Python in somebody's home, of mode 0700, is closed to everybody else; the
system then says no more than "permission denied", and of a file that everybody may read.
"""

import os
import stat
import subprocess
import sys
from pathlib import Path

from pyproxy.control.files import owner_name
from pyproxy.control.startup import Credentials
from pyproxy.control.worker import worker_environ

_TRIAL_SECONDS = 20.0


def closed_to(credentials: Credentials) -> str:
    """Say which folder or file is closed to a user, "" if none is. Only root can ask that."""
    for path, bits in _needed().items():
        found = path.stat()
        if _lacks(found, bits, credentials) and not _can_start(credentials):
            what = "folder" if stat.S_ISDIR(found.st_mode) else "file"
            mode, owner = stat.S_IMODE(found.st_mode), owner_name(found.st_uid)
            return (
                f"the {what} {path} is closed to it (mode {mode:04o}, owner {owner}); install pyproxy and its Python "
                f"where everybody may read them, or open it with chmod o+{'x' if bits == stat.S_IXOTH else 'rx'}"
            )
    return ""


def _needed() -> dict[Path, int]:
    """Give each path that a worker goes through, from the root on, and what it needs there, as bits of others."""
    needed: dict[Path, int] = {}
    listed = stat.S_IROTH | stat.S_IXOTH
    for target, bits in (
        (Path(sys.executable), stat.S_IXOTH),
        (Path(os.__file__).parent, listed),
        (Path(__file__).parents[1], listed),
        *((Path(entry), listed) for entry in sys.path if entry and Path(entry).is_dir()),
    ):
        for path in (target.absolute(), target.resolve()):
            for folder in reversed(path.parents):
                needed[folder] = needed.get(folder, 0) | stat.S_IXOTH
            needed[path] = needed.get(path, 0) | bits
    return needed


def _lacks(found: os.stat_result, bits: int, credentials: Credentials) -> bool:
    """Whether the mode of a path denies it; an access control list may say otherwise."""
    if credentials.uid == 0:
        return False
    if found.st_uid == credentials.uid:
        bits <<= 6
    elif found.st_gid in (credentials.gid, *credentials.groups):
        bits <<= 3
    return found.st_mode & bits != bits


def _can_start(credentials: Credentials) -> bool:
    """Try it, as modes are not all there is."""
    try:
        trial = subprocess.run(
            [sys.executable, "-P", "-c", "import pyproxy.worker.main"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=worker_environ(os.environ),
            user=credentials.uid,
            group=credentials.gid,
            extra_groups=list(credentials.groups),
            timeout=_TRIAL_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return trial.returncode == 0
