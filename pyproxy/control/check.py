"""
What ``pyproxy -t`` looks at beyond the file: what this machine would need to have when the program starts.

Must not change anything: no file is made, no socket is bound. What is missing is a ``StartError``.
"""

import pwd
from pathlib import Path

from pyproxy.config.runtime import RuntimeConfig
from pyproxy.control.startup import StartError
from pyproxy.control.unix_sockets import find_owner


def check_machine(config: RuntimeConfig, state_dir: str | None = None) -> None:
    """Look for the users, groups and directories that the configuration names."""
    if config.user is not None:
        try:
            pwd.getpwnam(config.user)
        except KeyError:
            raise StartError(f"user: there is no user {config.user!r} on this machine") from None
    for listener in config.listeners:
        if listener.path:
            _check_directory(f"can't listen on {listener.address}", listener.path)
        if listener.owner is not None:
            try:
                find_owner(listener.owner)
            except StartError as error:
                raise StartError(f"can't listen on {listener.address}: {error}") from error
    if state_dir is not None:
        _check_directory(f"state_dir: can't use {state_dir}", state_dir)
        if Path(state_dir).exists() and not Path(state_dir).is_dir():
            raise StartError(f"state_dir: can't use {state_dir}: it is no directory")
    log = config.access_log.to
    if log not in ("stdout", "off"):
        _check_directory(f"access_log.to: can't open {log}", log)
        if Path(log).is_dir():
            raise StartError(f"access_log.to: can't open {log}: it is a directory")


def _check_directory(what: str, path: str) -> None:
    directory = Path(path).parent
    if not directory.is_dir():
        raise StartError(f"{what}: there is no directory {directory}")
