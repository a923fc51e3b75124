"""
The error pages of lb.yml: files that are read with the configuration, so that a bad one is a problem there.

Must not know when a page is sent.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISREG
from typing import Annotated, Any

from pyproxy.config.source import Source
from pyproxy.config.values import Scalar, parse_text

MAX_PAGE_BYTES = 1024**2
MAX_PAGES_BYTES = 8 * 1024**2  # each worker keeps all of them, and gets them in one message

_CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".htm": "text/html; charset=utf-8",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
}


@dataclass(frozen=True, slots=True)
class ErrorPage:
    """The file of one error answer; the model knows its path, the content comes with ``read_pages``."""

    path: str
    body: bytes = field(default=b"", repr=False)

    def __str__(self) -> str:
        return self.path

    @property
    def content_type(self) -> str:
        """What the file's suffix says that it holds."""
        return _CONTENT_TYPES.get(Path(self.path).suffix.lower(), "application/octet-stream")


def _parse_page(value: Any) -> ErrorPage:
    path = parse_text(value)
    if not path.startswith("/"):
        raise ValueError("must be a full path, such as /etc/pyproxy/503.html")
    return ErrorPage(path)


Page = Annotated[ErrorPage, Scalar("file", _parse_page, str, {"type": "string", "pattern": "^/"})]


def read_pages(source: Source) -> dict[str, bytes]:
    """Read every error page of the file, by path; one that can't be used is reported at its key's value."""
    written = source.data.get("error_pages") if isinstance(source.data, dict) else None
    found: dict[str, bytes] = {}
    for status, value in written.items() if isinstance(written, dict) else []:
        place = ("error_pages", status)
        if not isinstance(value, str) or value in found:
            continue
        try:
            found[value] = _read(_parse_page(value).path)
        except _Unusable as error:
            source.report(place, str(error))
        except ValueError:
            continue  # told with the types
    # Each status counts: workers are sent a page for every one of them.
    used = [value for value in (written or {}).values() if isinstance(value, str)] if isinstance(written, dict) else []
    if sum(len(found.get(value, b"")) for value in used) > MAX_PAGES_BYTES:
        source.report(("error_pages",), "are larger than 8 MiB together")
    return found


class _Unusable(Exception):
    """A file that can't be an error page; the text says why."""


def _read(path: str) -> bytes:
    try:
        with open(path, "rb", opener=_open_at_once) as stream:
            if not S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise _Unusable("is not a regular file")
            content = stream.read(MAX_PAGE_BYTES + 1)
    except OSError as error:
        raise _Unusable(f"can't be read: {error.strerror}") from error
    if len(content) > MAX_PAGE_BYTES:
        raise _Unusable("is larger than 1 MiB")
    return content


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting, as one would for the writer of a named pipe."""
    return os.open(path, flags | os.O_NONBLOCK)
