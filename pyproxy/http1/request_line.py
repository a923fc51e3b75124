"""
The request lines that httptools refuses and we don't: other methods than it knows, bytes above ASCII in the target.

Such a line is taken apart here, and the parser gets one of the same meaning that it can read. Its framing of a request
depends on no method but CONNECT (RFC 9112, section 6.3), so any other one can stand in. Must not know fields.
"""

import re
from typing import Final

import httptools

from pyproxy.errors import BadRequest, ExchangeError, MethodUnsupported, VersionUnsupported
from pyproxy.http1.head import RequestHead
from pyproxy.http1.target import encode_high

_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_TARGET: Final = rb"[!-~\x80-\xff]+"
_LINE: Final = re.compile(rb"(%b) (%b) ([A-Z]+/[0-9]\.[0-9])" % (_TOKEN, _TARGET))
_BEGINNING: Final = re.compile(rb"%b(?: (?:%b(?: [A-Z]*(?:/[0-9.]*)?\r?)?)?)?" % (_TOKEN, _TARGET))
#: What the parser lets pass, with more blanks than there should be.
_READ: Final = re.compile(rb"[^ \r\n]+ +[^ \r\n]+ +(HTTP/1\.[01])\r\n")
_VERSIONS: Final = {b"HTTP/1.1": 11, b"HTTP/1.0": 10}
#: Whoever writes one of these in another case doesn't mean another method, and a backend may not tell them apart.
_WELL_KNOWN: Final = frozenset(
    b"GET HEAD POST PUT DELETE CONNECT OPTIONS TRACE PATCH QUERY PURGE "
    b"PROPFIND PROPPATCH MKCOL COPY MOVE LOCK UNLOCK REPORT SEARCH".split()
)
_METHOD_REFUSALS: Final = frozenset(
    {
        "Invalid method encountered",
        "Expected space after method",
        "Invalid method for HTTP/x.x request",
        "Expected HTTP/2 Connection Preface",  # behind any line with the method PRI,
        "Pause on PRI/Upgrade",  # and behind the preface itself
    }
)


class RequestLine:
    """A line that the parser doesn't get to see."""

    __slots__ = ("method", "target", "version")

    def __init__(self, method: bytes, target: bytes, version: bytes) -> None:
        self.method = method
        self.target = target
        self.version = version

    def __repr__(self) -> str:
        return f"<RequestLine {self.method!r} {self.target!r} {self.version.decode()}>"

    def stand_in(self) -> bytes:
        """Write the line that the parser gets."""
        return b"GET %b %b\r\n" % (encode_high(self.target), self.version)

    def name(self, head: RequestHead) -> None:
        """Tell a head what the client wrote."""
        head.method = self.method
        head.received = self.target


def is_line_refused(error: httptools.HttpParserError) -> bool:
    """Whether the parser stumbled over what we may be able to read."""
    return str(error) in _METHOD_REFUSALS or isinstance(error, httptools.HttpParserInvalidURLError)


def may_become_line(beginning: bytes) -> bool:
    """Whether a request line may begin like this."""
    return _BEGINNING.fullmatch(beginning) is not None


def read_line(line: bytes) -> RequestLine | ExchangeError | None:
    """Take a line apart, without its CRLF: None if it makes no sense, an error to answer with if it isn't ours."""
    found = _LINE.fullmatch(line)
    if found is None:
        return None
    method, target, version = found.groups()
    if version not in _VERSIONS:
        return VersionUnsupported()
    upper = method.upper()
    if method != upper and upper in _WELL_KNOWN:
        error: ExchangeError = MethodUnsupported(f"method {method.decode()} instead of {upper.decode()}")
    elif method == b"CONNECT":
        error = BadRequest("bad request target")
    else:
        return RequestLine(method, target, version)
    error.head = RequestHead(target)
    error.head.method = method
    error.head.version = _VERSIONS[version]
    return error


def version_at(data: bytes, start: int) -> int:
    """Give the version of a whole line that the parser has read, 0 for one that isn't ours."""
    found = _READ.match(data, start)
    return 0 if found is None else _VERSIONS[found[1]]
