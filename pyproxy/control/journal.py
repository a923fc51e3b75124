"""
The file in ``state_dir`` in which overrides survive a restart.

Must not know what an override means. It is one JSON file, written whole: into a new file, which is brought to the
disk and then takes the old one's name. Whenever the program or the machine dies, the file is the old one or the new
one. One that can't be read is put aside, never overwritten, and the program starts without it.

With another machine beside this one (failover.link), what both know of each other's changes is in the file as well,
and makes it one of version 2. Either version is read.
"""

import asyncio
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson

from pyproxy.control.files import create_new, read_own
from pyproxy.control.overrides import Override, from_plain, to_plain
from pyproxy.control.startup import StartError

NAME = "overrides.json"
VERSION = 1
VERSION_OF_PAIR = 2

_MODE = 0o600

_log = logging.getLogger(__name__)


class Journal:
    """The overrides on disk; without a directory they are in memory only."""

    def __init__(self, directory: str | None) -> None:
        self._path = Path(directory) / NAME if directory is not None else None
        self.replica: Any = None  # what the file that was loaded had of the pair's changes

    def __repr__(self) -> str:
        return f"<Journal {self._path}>"

    def load(self) -> list[Override]:
        """Read what there is, nothing if the file is no good; raises ``StartError`` if the directory can't be used."""
        if self._path is None:
            return []
        directory = self._path.parent
        try:
            directory.mkdir(mode=0o700, exist_ok=True)
            if not os.access(directory, os.W_OK | os.X_OK):
                raise StartError(f"can't use {directory}: it is not writable", key="state_dir")
            content = read_own(self._path)
            overrides, self.replica = _read(content) if content is not None else ([], None)
        except OSError as error:
            raise StartError(f"can't use {directory}: {error.strerror}", key="state_dir") from error
        except ValueError as error:
            self._put_aside(str(error))
            return []
        return overrides

    async def save(self, overrides: Iterable[Override], replica: Any = None) -> None:
        """Bring them to the disk; raises ``OSError`` if that fails, and the old ones stay."""
        if self._path is not None:
            await asyncio.to_thread(write_durably, self._path, _write(overrides, replica))

    def _put_aside(self, problem: str) -> None:
        assert self._path is not None
        for number in range(1, 1000):
            aside = self._path.with_name(f"{NAME}.bad-{number}")
            if not os.path.lexists(aside):
                break
        try:
            self._path.rename(aside)
        except OSError as error:
            raise StartError(f"can't put {self._path} aside: {error.strerror}", key="state_dir") from error
        _log.error(
            "%s can't be used: %s; it is kept as %s, and nothing that was changed at run time is in force",
            self._path,
            problem,
            aside.name,
        )


def write_durably(path: Path, content: bytes) -> None:
    """Replace a file so that whatever happens it has its old or its new content, whole."""
    new = path.with_name(f"{path.name}.new")
    fd = create_new(new, _MODE)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(fd, rest) :]
        os.fsync(fd)
    finally:
        os.close(fd)
    os.replace(new, path)  # noqa: PTH105 - all steps are calls of os, as the tests that kill within them want it
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _write(overrides: Iterable[Override], replica: Any) -> bytes:
    data: dict[str, Any] = {"version": VERSION, "overrides": [to_plain(item) for item in overrides]}
    if replica is not None:
        data = {**data, "version": VERSION_OF_PAIR, "replica": replica}
    return orjson.dumps(data, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _read(content: bytes) -> tuple[list[Override], Any]:
    try:
        data: Any = orjson.loads(content)
    except ValueError:
        raise ValueError("it is not JSON, or was cut short") from None
    if not isinstance(data, dict) or "version" not in data:
        raise ValueError("it is not a journal of overrides")
    if data["version"] not in (VERSION, VERSION_OF_PAIR):
        raise ValueError(f"it has version {data['version']}, this program writes {VERSION} and {VERSION_OF_PAIR}")
    wanted = {"version", "overrides"} | ({"replica"} if data["version"] == VERSION_OF_PAIR else set())
    if data.keys() != wanted or not isinstance(data["overrides"], list):
        raise ValueError("it is not a journal of overrides")
    return [from_plain(item) for item in data["overrides"]], data.get("replica")
