"""
What reading a request and reading a response have in common: bodies, and how far a parser is trusted.

Must not know what a head means. Theory of operation::

    feed(data) ──> parser ──> on_* callbacks ──> events, in the order of the bytes
         └───────> plain body (length known, or until the connection ends): no parser at all

A body whose length is known passes as the bytes that arrived, counted but not parsed, from the second feed
on; the parser, which still believes in the middle of that body, is then replaced. A chunked body is parsed;
what one feed makes of it is one event. httptools puts no bound on chunk extensions and trailers, so bytes
that don't move the body forward are counted and refused beyond ``OVERHEAD_MAX_BYTES``.
"""

from typing import Any, Final

from pyproxy.errors import ExchangeError
from pyproxy.http1.head import END

#: Chunk extensions and trailer fields may take this much in a row.
OVERHEAD_MAX_BYTES: Final = 64 * 1024

Event = Any  # RequestHead | ResponseHead | bytes | End | ExchangeError


class MessageReader:
    """The shared half of RequestReader and ResponseReader."""

    __slots__ = ("_chunks", "_events", "_failed", "_length", "_overhead", "_remaining", "_seen")

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._failed = False
        self._chunks: list[bytes] = []
        self._length = 0  # of the body being parsed, when it is known
        self._seen = 0  # how much of it the parser has given out
        self._remaining = 0  # of a body that bypasses the parser
        self._overhead = 0

    @property
    def remaining(self) -> int:
        """How many bytes of a body are to come of which only the number matters."""
        return self._remaining

    def on_body(self, body: bytes) -> None:
        """Collect a piece; several of one feed become one event."""
        self._chunks.append(body)
        self._seen += len(body)

    def _flush_body(self) -> None:
        chunks = self._chunks
        if chunks:
            self._events.append(chunks[0] if len(chunks) == 1 else b"".join(chunks))
            self._chunks = []

    def _fail(self, error: ExchangeError) -> None:
        """Report the first error; what comes after it is not looked at any more."""
        if not self._failed:
            self._failed = True
            self._flush_body()
            self._events.append(error)

    def _bypass_parser(self) -> bool:
        """Whether the rest of the body needs no parser; after True the parser must not be fed again."""
        if not self._length:
            return False
        self._remaining = self._length - self._seen
        self._length = 0
        return True

    def _count_overhead(self, fed: int) -> bool:
        """Count bytes of a chunked body since the last feed that gave any body; False when it is too much."""
        self._overhead = 0 if self._chunks else self._overhead + fed
        return self._overhead <= OVERHEAD_MAX_BYTES

    def _take_plain(self, data: bytes) -> bytes:
        """Give out what belongs to the plain body; the caller handles the end and what lies behind it."""
        count = len(data)
        if count <= self._remaining:
            self._remaining -= count
            return data
        body = data[: self._remaining]
        self._remaining = 0
        return body


__all__ = ["END", "Event", "MessageReader"]
