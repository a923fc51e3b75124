"""
Make the bytes of heads, chunks and our own short answers; framing is always written anew (RFC 9112, section 6).

Pure: no parser, no socket; the date is an argument.
"""

from email.utils import formatdate
from http import HTTPStatus
from typing import Final

from pyproxy.http1.head import LENGTH, NO_BODY, RequestHead, ResponseHead

LAST_CHUNK: Final = b"0\r\n\r\n"
_CONTROLS: Final = bytes([*range(9), *range(10, 32), 127])
#: By status: the reason phrase that came with it first, and the line that they make. Backends choose the phrases,
#: but hardly ever differ.
_REASONS: Final[list[bytes | None]] = [None] * 600
_STATUS_LINES: Final[list[bytes]] = [b""] * 600


def http_date(wall: float) -> bytes:
    """
    Format seconds since the epoch for a ``Date`` field (RFC 9110, section 5.6.7).

    >>> http_date(784111777)
    b'Sun, 06 Nov 1994 08:49:37 GMT'
    """
    return formatdate(wall, usegmt=True).encode()


def request_head(head: RequestHead, forwarded: bytes, request_id: bytes) -> bytes:
    """Write the head that a backend gets; ``forwarded`` is ready-made lines."""
    return b"%b %b HTTP/1.1\r\nHost: %b\r\n%b%bX-Request-Id: %b\r\n%b\r\n" % (
        head.method,
        head.target,
        head.host or b"",
        b"".join(head.lines),
        forwarded,
        request_id,
        _request_tail(head),
    )


def changed_request_head(head: RequestHead, lines: list[bytes]) -> bytes:
    """Write the head that a backend gets with other lines; Host is one of these."""
    return b"%b %b HTTP/1.1\r\n%b%b\r\n" % (head.method, head.target, b"".join(lines), _request_tail(head))


def _request_tail(head: RequestHead) -> bytes:
    """Write what is between us and the backend: framing, and what Connection lists."""
    tail = b""
    if head.chunked:
        tail = b"Transfer-Encoding: chunked\r\n"
    elif head.content_length is not None:
        tail = b"Content-Length: %d\r\n" % head.content_length
    if head.expect is not None and head.version == 11:
        tail += b"Expect: %b\r\n" % head.expect
    if head.upgrade is not None:
        tail += b"Connection: upgrade\r\nUpgrade: %b\r\n" % head.upgrade
    elif head.te_trailers:
        tail += b"Connection: TE\r\nTE: trailers\r\n"
    return tail


def response_head(head: ResponseHead, *, version: int, keep: bool, trailers: bool) -> bytes:
    """
    Write the head that the client gets; a body without a known length is chunked for HTTP/1.1.

    ``version`` is the client's, ``keep`` whether its connection stays open, ``trailers`` whether it takes them.
    """
    tail = b"" if keep else b"Connection: close\r\n"
    if keep and version == 10:
        tail = b"Connection: keep-alive\r\n"
    framing = head.framing
    if framing is LENGTH or framing is NO_BODY:
        if head.content_length is not None and head.status != 204:
            tail += b"Content-Length: %d\r\n" % head.content_length
    elif version == 11:
        tail += b"Transfer-Encoding: chunked\r\n"
        if trailers and head.trailer is not None:
            tail += b"Trailer: %b\r\n" % head.trailer
    if head.upgrade is not None and head.status == 426:  # without it nobody knows what is required
        tail += b"Connection: upgrade\r\nUpgrade: %b\r\n" % head.upgrade
    return b"%b%b%b\r\n" % (_status_line(head.status, head.reason), b"".join(head.lines), tail)


def interim_head(head: ResponseHead) -> bytes:
    """Write a 1xx head; a 101 carries the protocol that was agreed on."""
    tail = b""
    if head.status == 101:
        tail = b"Connection: upgrade\r\nUpgrade: %b\r\n" % (head.upgrade or b"")
    return b"%b%b%b\r\n" % (_status_line(head.status, head.reason), b"".join(head.lines), tail)


def chunk(data: bytes) -> list[bytes]:
    """Frame a piece of a chunked body (RFC 9112, section 7.1); the piece itself is not copied."""
    return [b"%x\r\n" % len(data), data, b"\r\n"]


def last_chunk(trailers: list[bytes]) -> bytes:
    """End a chunked body, with trailer lines if there are any."""
    return b"0\r\n%b\r\n" % b"".join(trailers) if trailers else LAST_CHUNK


def own_response(status: int, lines: list[bytes], content: bytes, *, version: int, keep: bool, body: bool) -> bytes:
    """
    Write one of our own answers, all at once.

    ``lines`` are ready-made without framing; with ``body`` False, as for HEAD, the content is only announced.
    """
    tail = b"" if keep else b"Connection: close\r\n"
    if keep and version == 10:
        tail = b"Connection: keep-alive\r\n"
    return b"%b%bContent-Length: %d\r\n%b\r\n%b" % (
        _status_line(status, HTTPStatus(status).phrase.encode()),
        b"".join(lines),
        len(content),
        tail,
        content if body else b"",
    )


def _status_line(status: int, reason: bytes) -> bytes:
    if _REASONS[status] == reason:
        return _STATUS_LINES[status]
    # Of all that comes from a backend the parser lets control characters pass here alone.
    line = b"HTTP/1.1 %d %b\r\n" % (status, reason.translate(None, _CONTROLS))
    if _REASONS[status] is None:
        _REASONS[status] = reason
        _STATUS_LINES[status] = line
    return line
