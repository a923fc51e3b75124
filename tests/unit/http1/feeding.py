"""
Feed bytes to a reader in every way that a network may cut them, and make what comes out comparable.

Must not know what any fixture means.
"""

from collections.abc import Iterator
from typing import Any

from pyproxy.config.runtime import Limits
from pyproxy.errors import ExchangeError
from pyproxy.http1.head import END, Head, RequestHead, ResponseHead
from pyproxy.http1.limits import HeadLimits
from pyproxy.http1.reader import Event
from pyproxy.http1.request import RequestReader
from pyproxy.http1.response import ResponseReader

LIMITS = Limits(request_line=8192, headers=32 * 1024, header_count=100, body=None, connections=0)


def every_cut(raw: bytes) -> Iterator[list[bytes]]:
    """Give the bytes whole, byte by byte, and cut in two at each place."""
    yield [raw]
    yield [raw[at : at + 1] for at in range(len(raw))]
    for at in range(1, len(raw)):
        yield [raw[:at], raw[at:]]


def normal(events: list[Event]) -> list[Any]:
    """Join neighbouring body events, and make heads and errors comparable."""
    result: list[Any] = []
    for event in events:
        if isinstance(event, bytes):
            assert event, "an empty body event"
            if result and isinstance(result[-1], bytes):
                result[-1] += event
                continue
            result.append(event)
        elif isinstance(event, (RequestHead, ResponseHead)):
            slots = {name: getattr(event, name) for name in (*Head.__slots__, *type(event).__slots__)}
            result.append({name: value for name, value in slots.items() if name != "problem"})
        elif isinstance(event, ExchangeError):
            result.append(type(event))
        else:
            assert event is END
            result.append(END)
    return result


def read_requests(segments: list[bytes], limits: Limits = LIMITS) -> tuple[list[Event], bytes]:
    """Feed segments as a caller does: not after an error, not while suspended; give events and what was kept."""
    reader = RequestReader(HeadLimits(limits))
    events: list[Event] = []
    kept = b""
    for segment in segments:
        if reader.suspended:
            kept += segment
        elif not (events and isinstance(events[-1], ExchangeError)):
            events += reader.feed(segment)
            kept = reader.rest
    return events, kept


def read_response(segments: list[bytes], *, head_only: bool = False) -> tuple[list[Event], ResponseReader]:
    """Feed segments of the answer to one request, the end not included."""
    reader = ResponseReader()
    reader.begin(head_only=head_only)
    events: list[Event] = []
    for segment in segments:
        if not (events and isinstance(events[-1], ExchangeError)):
            events += reader.feed(segment)
    return events, reader


def only_head(raw: bytes, limits: Limits = LIMITS) -> RequestHead:
    """Read one request without a body."""
    events, _ = read_requests([raw], limits)
    assert len(events) == 1, events
    assert isinstance(events[0], RequestHead), events
    return events[0]


def refusal(raw: bytes, limits: Limits = LIMITS) -> ExchangeError:
    """Read what is refused: the error is the last event."""
    events, _ = read_requests([raw], limits)
    assert events, "nothing came of it"
    assert isinstance(events[-1], ExchangeError), events
    return events[-1]


def request(*lines: str | bytes, start: str = "GET / HTTP/1.1", host: str = "Host: a", body: bytes = b"") -> bytes:
    """Write a request; ``host`` may be empty."""
    head = [start, *([host] if host else []), *lines]
    return b"\r\n".join(line.encode("latin-1") if isinstance(line, str) else line for line in head) + b"\r\n\r\n" + body


def response(*lines: str, start: str = "HTTP/1.1 200 OK", body: bytes = b"") -> bytes:
    """Write a response."""
    return "\r\n".join([start, *lines]).encode("latin-1") + b"\r\n\r\n" + body
