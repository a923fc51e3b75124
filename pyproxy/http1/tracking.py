"""
Where in the bytes that are fed a request begins: httptools doesn't tell.

It is needed seldom: for request lines that the parser refuses and we don't, for the exact version of a request that was
pipelined or came in pieces, and for where a chunked body begins. Then the complete messages of the feed are counted
off, by the ends of their heads and by their lengths; behind a chunked one counting begins anew. Must not know what a
head means.
"""

import re
from typing import Final

from pyproxy.http1.head import RequestHead
from pyproxy.http1.reader import MessageReader
from pyproxy.http1.request_line import version_at

_BLANKS: Final = re.compile(rb"[\r\n]*")
_HEAD_END: Final = b"\r\n\r\n"
#: The most of it that can have come before the last byte did.
_TAIL_BYTES: Final = len(_HEAD_END) - 1


class TrackingReader(MessageReader):
    """What RequestReader knows of the bytes that the parser was fed."""

    __slots__ = ("_at", "_begun", "_past", "_said", "_walked")

    def __init__(self) -> None:
        super().__init__()
        self._begun = b""  # bytes up to the end of this feed in which it does
        self._at = 0  # up to here they are counted off; -1 if the head that goes on in them began before
        self._walked = 0  # so many events are counted off
        self._past = b""  # of an incomplete head: its request line as far as it has come, or behind that the last bytes
        self._said = -1  # the version in that line

    def _find_start(self) -> int:
        """Give where in ``_begun`` the message begins that is being read, -1 if it began before."""
        self._walk(len(self._events))
        return self._at

    def _find_head_end(self) -> int:
        """Give where in ``_begun`` the body begins whose head was reported last."""
        self._walk(len(self._events) - 1)
        return self._begun.index(_HEAD_END, max(0, self._at)) + len(_HEAD_END)

    def _walk(self, count: int) -> None:
        """Count off the messages of so many events, and blank lines in front of the next one."""
        begun, at = self._begun, self._at
        while self._walked < count:
            event = self._events[self._walked]
            self._walked += 1
            if type(event) is RequestHead:
                end = begun.index(_HEAD_END, self._skip_blanks(at))
                at = end + len(_HEAD_END) + (event.content_length or 0)
        self._at = self._skip_blanks(at) if at >= 0 else at

    def _skip_blanks(self, at: int) -> int:
        found = _BLANKS.match(self._begun, at) if at >= 0 else None
        return found.end() if found is not None else 0

    def _keep_past(self) -> None:
        """Keep what the rest of an incomplete head may have to be read with."""
        begun, start = self._begun, self._find_start()
        if start < 0:
            self._past = begun[-_TAIL_BYTES:] if self._said >= 0 else b""
        elif start == len(begun):
            self._past = begun[-1:]  # a blank, or nothing
        elif begun.find(b"\n", start) < 0:
            self._past = begun[start:]
        else:
            self._past = begun[-_TAIL_BYTES:]
            self._said = version_at(begun, start)

    def _begin_anew(self, data: bytes) -> bytes:
        """Take it that these bytes begin with a message."""
        self._begun = data
        self._at = 0
        self._walked = len(self._events)
        return data
