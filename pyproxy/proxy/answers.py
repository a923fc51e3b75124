"""
The answers that are ours: refusals, with an error page if there is one, and redirects.

Pure. Must not know the exchange that is answered: what it needs of it are arguments.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from pyproxy.config.runtime import ErrorPage
from pyproxy.errors import ExchangeError, MethodNotAllowed
from pyproxy.http1.writer import own_response
from pyproxy.proxy.outcome import error_text
from pyproxy.routing.rewrite import HeaderRewrite, Variables

_PLAIN_TEXT: Final = "text/plain; charset=utf-8"


class Answer:
    """Status, header lines and content of an answer."""

    __slots__ = ("content", "lines", "status")

    def __init__(self, status: int, lines: list[bytes], content: bytes) -> None:
        self.status = status
        self.lines = lines
        self.content = content

    def render(self, *, version: int, keep: bool, body: bool) -> bytes:
        """Write it for a client's version; without ``body``, as for HEAD, the content is only announced."""
        return own_response(self.status, self.lines, self.content, version=version, keep=keep, body=body)

    def change(self, rewrite: HeaderRewrite, variables: Variables) -> None:
        """Apply the route's changes to the headers of answers."""
        self.lines = rewrite.apply(self.lines, variables)


def refuse(error: ExchangeError, pages: Mapping[int, ErrorPage], date: bytes) -> Answer:
    """Answer with an error: the operator's page for that status, or a short line that names no software."""
    page = pages.get(error.status)
    content_type = page.content_type if page is not None else _PLAIN_TEXT
    lines = [b"Date: %b\r\n" % date, b"Content-Type: %b\r\n" % content_type.encode()]
    if isinstance(error, MethodNotAllowed):
        lines.append(b"Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n")
    content = page.body if page is not None else f"{error_text(error)}\n".encode()
    return Answer(error.status, lines, content)


def redirect(status: int, location: bytes, date: bytes) -> Answer:
    """Answer with a redirect (RFC 9110, section 15.4)."""
    lines = [
        b"Date: %b\r\n" % date,
        b"Content-Type: %b\r\n" % _PLAIN_TEXT.encode(),
        b"Location: %b\r\n" % location,
    ]
    return Answer(status, lines, f"{status} {HTTPStatus(status).phrase}\n".encode())
