"""
One program for a virtual router on an interface: a lock that a second one finds taken.

Must not know what the program does. Two of them would take the link and the state from each other, and each would
remove the addresses of the other. The kernel releases the lock with the process, however that ends.
"""

import fcntl
import os
from pathlib import Path

from pyproxy.control.startup import StartError

NAME = "lock"


class InstanceLock:
    """Hold the lock of a directory until ``close``; ``StartError`` names the process that has it, and ``what`` of."""

    def __init__(self, directory: Path, what: str) -> None:
        path = directory / NAME
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StartError(f"failover: can't use {path}: {error.strerror}") from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._fd, 32, 0).decode(errors="replace").strip()
            self.close()
            who = f"pid {holder}" if holder.isdigit() else "another process"
            raise StartError(f"failover: {what} is already run by {who}") from None
        self._note()

    def __repr__(self) -> str:
        return f"<InstanceLock fd {self._fd}>"

    def close(self) -> None:
        """Let another one have it."""
        os.close(self._fd)

    def _note(self) -> None:
        """Write down who has it; where no byte can be written the lock holds without a name."""
        try:
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)
        except OSError:
            pass
