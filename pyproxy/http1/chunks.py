"""
Where a chunked body ends in the bytes that are fed: httptools doesn't tell.

Pure. Whether the body is well-formed is the parser's to say: it gets every byte, and refuses what isn't counted right
here.
"""

import re
from typing import Final

_DIGITS: Final = re.compile(rb"[0-9A-Fa-f]*")
#: Behind leading zeros the parser lets fewer digits pass.
_DIGITS_MAX: Final = 17
_EMPTY_LINE: Final = b"\n\r\n"


class ChunkCounter:
    r"""
    Count off chunks, whose data is skipped and not looked at.

    >>> ChunkCounter().find_end(b"3\r\nabc\r\n0\r\nX: y\r\n\r\nGET /")
    19
    """

    __slots__ = ("_line", "_skipped", "_tail")

    def __init__(self) -> None:
        self._skipped = 0  # so many bytes come before the next line with a size
        self._line = b""  # what has come of it
        self._tail = b""  # behind the last chunk: the last bytes that have come

    def find_end(self, data: bytes) -> int:
        """Give where in the next bytes the body ends, -1 if it goes on; nothing is asked behind the end."""
        at, size = self._skipped, len(data)
        while at < size and not self._tail:
            end = data.find(b"\n", at)
            line = self._line + data[at : end if end >= 0 else size]
            if end < 0:
                self._line = line.lstrip(b"0")[:_DIGITS_MAX] or b"0"
                self._skipped = 0
                return -1
            self._line = b""
            chunk = int(b"0" + _read_digits(line), 16)
            at = end + 1
            if chunk:
                at += chunk + len(b"\r\n")
            else:
                self._tail = b"\n"
        if self._tail:
            return self._find_empty_line(data, at)
        self._skipped = at - size
        return -1

    def _find_empty_line(self, data: bytes, at: int) -> int:
        """Look for the end of the trailers, behind the last chunk's line or in a later feed."""
        before = len(self._tail)
        trailers = self._tail + data[at:]
        found = trailers.find(_EMPTY_LINE)
        self._tail = trailers[-len(_EMPTY_LINE) :]
        self._skipped = 0
        return found + len(_EMPTY_LINE) - before + at if found >= 0 else -1


def _read_digits(line: bytes) -> bytes:
    found = _DIGITS.match(line)
    return found[0] if found is not None else b""
