"""
The body of one request on its way to a backend: counted, framed, and kept while there is nobody to send it to.

Pure; made only for a request that has a body. Must not know the client nor the backend.
"""

from pyproxy.errors import BodyTooLarge
from pyproxy.http1.head import RequestHead
from pyproxy.http1.writer import chunk, last_chunk
from pyproxy.proxy import refusals


class RequestBody:
    """
    ``is_consumed`` says that bytes of it are gone, so that the request can't be sent to another backend.

    ``whole`` is the body if it came at once.
    """

    __slots__ = ("_held", "_is_chunked", "_limit", "_size", "is_consumed", "is_whole")

    def __init__(self, head: RequestHead, limit: int | None, whole: bytes | None = None) -> None:
        self._is_chunked = head.chunked
        self._limit = limit
        self._size = head.content_length or 0  # announced, or come so far
        self._held: list[bytes] = []
        self.is_consumed = False
        self.is_whole = whole is not None
        if whole is not None:
            self.count(whole)
            self._held.append(whole)

    def __repr__(self) -> str:
        return f"<RequestBody {self._size} bytes {len(self._held)} pieces held>"

    @property
    def is_too_large(self) -> bool:
        """Whether it is, or will be, over the limit."""
        return self._limit is not None and self._size > self._limit

    def refuse(self) -> BodyTooLarge:
        """Say how much over the limit it is."""
        return refusals.body_too_large(self._size, self._limit or 0)

    def count(self, data: bytes) -> None:
        """Count a piece; a body whose size was announced has been counted already."""
        if self._is_chunked:
            self._size += len(data)

    def hold(self, data: bytes) -> None:
        """Keep a piece until there is a connection."""
        self._held.append(data)

    def frame(self, data: bytes) -> list[bytes]:
        """Make of a piece what the backend is sent of it."""
        self.is_consumed = True
        return chunk(data) if self._is_chunked else [data]

    def release(self) -> list[bytes]:
        """Give what was kept, framed, with the end if that has come."""
        out: list[bytes] = []
        for data in self._held:
            out += self.frame(data)
        self._held.clear()
        if self.is_whole:
            out += self.end()
        return out

    def end(self) -> list[bytes]:
        """Note that it is complete, and give what tells the backend so."""
        self.is_whole = True
        return [last_chunk([])] if self._is_chunked else []
