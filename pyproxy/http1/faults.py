"""
What is wrong with a message that the parser refused, in plain words and with a piece of it.

Pure, and asked only once a message is refused. The parser says briefly what it expected, and not where; so the line is
looked for in what was read last. Of a field only the name is ever quoted: its value may be a secret. What is quoted
is as it came: whoever writes it down escapes it.
"""

import re
from typing import Final

from pyproxy.errors import excerpt

_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_NUMBERS: Final = re.compile(rb"[0-9, \t+-]*")
_LENGTH: Final = b"content-length"
#: How TLS begins: a record of an alert or a handshake, of version 3.
_TLS: Final = (b"\x15\x03", b"\x16\x03")

_WORDS: Final = {
    "Chunk size overflow": "the size of a chunk is too large",
    "Content-Length can't be present with Transfer-Encoding": "both Transfer-Encoding and Content-Length",
    "Content-Length overflow": "Content-Length is too large",
    "Duplicate Content-Length": "two Content-Length fields",
    "Expected CRLF after version": "the request line doesn't end in CRLF",
    "Expected HTTP/, RTSP/ or ICE/": "not HTTP",
    "Expected LF after chunk data": "a chunk is longer than its size says",
    "Invalid `Transfer-Encoding` header value": "Transfer-Encoding names chunked twice, or not as the last coding",
    "Invalid char in url path": "the target has a character that must be percent-encoded",
    "Invalid character in Content-Length": "Content-Length is no number",
    "Invalid character in chunk size": "the size of a chunk is no hexadecimal number",
    "Invalid characters in url": "the target is neither a path nor a URL",
    "Invalid header token": "a header line is malformed",
    "Invalid header value char": "a control character in a field's value",
    "Invalid method encountered": "the method is unknown or malformed",
    "Invalid response status": "the status has more than three digits",
    "Invalid status code": "the status has fewer than three digits",
    "Missing expected CR after chunk data": "a chunk is longer than its size says",
    "Missing expected CR after chunk size": "the size of a chunk ends in LF without CR",
    "Missing expected CR after header value": "a header line ends in LF without CR",
    "Missing expected CR after response line": "the status line ends in LF without CR",
    "Missing expected LF after header value": "a CR inside a header line",
    "Request has invalid `Transfer-Encoding`": "Transfer-Encoding doesn't end in chunked",
    "Transfer-Encoding can't be present with Content-Length": "both Content-Length and Transfer-Encoding",
    "Unexpected space after start line": "the first header line begins with a blank",
    "Unexpected whitespace after header value": "a header line begins with a blank (an obsolete folded line)",
}
#: Texts about the first line, which is what is quoted then.
_FIRST_LINE: Final = frozenset(
    {
        "Expected CRLF after version",
        "Expected HTTP/, RTSP/ or ICE/",
        "Invalid char in url path",
        "Invalid characters in url",
        "Invalid method encountered",
        "Invalid response status",
        "Invalid status code",
    }
)
_LENGTHS: Final = frozenset(
    {"Content-Length overflow", "Duplicate Content-Length", "Invalid character in Content-Length"}
)


def explain_fault(text: str, data: bytes, *, begins: bool, is_request: bool) -> tuple[str, bytes]:
    r"""
    Give the reason for the parser's ``text``, and what to quote; ``data`` is what was read of a head, or empty.

    ``begins`` says that it begins with the message's first line.

    >>> head = b"GET / HTTP/1.1\r\nHost: x\r\nSome Header: y\r\n\r\n"
    >>> explain_fault("Invalid header token", head, begins=True, is_request=True)
    ("a field's name has a character that may not be there", b'Some Header')
    """
    words = _WORDS.get(text, text)
    if begins and data.startswith(_TLS):
        return "TLS where plain HTTP is spoken", b""
    if text in _FIRST_LINE:
        return words, first_line(data) if begins else b""
    lines = data.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    if text in _LENGTHS:
        return words, excerpt(b", ".join(_find_lengths(lines)))
    if text == "Invalid header token":
        return _find_bad_name(lines, is_request=is_request) or (words, b"")
    if text == "Invalid header value char":
        found = [name for name, _, value in (line.partition(b":") for line in lines) if _CONTROL.search(value)]
        return words, excerpt(found[0]) if found else b""
    return words, b""


def first_line(data: bytes) -> bytes:
    r"""
    Give what a message begins with, for the log.

    >>> first_line(b"\r\nGET /a b HTTP/1.1\r\nHost: x")
    b'GET /a b HTTP/1.1'
    """
    return excerpt(data.lstrip(b"\r\n").partition(b"\n")[0].rstrip(b"\r"))


def _find_bad_name(lines: list[bytes], *, is_request: bool) -> tuple[str, bytes] | None:
    """Find the first header line without a valid name, None if what was read last has none."""
    for line in lines:
        name, colon, _ = line.partition(b":")
        valid = _NAME.match(name)
        if not colon and line:
            # A client's may be a piece of a cookie or a password that was broken in two.
            return "a header line without a colon", excerpt(line if not is_request else valid[0] if valid else b"")
        if line and not name:
            return "a header line without a name", b""
        if line and (valid is None or valid[0] != name):
            return "a field's name has a character that may not be there", excerpt(name)
    return None


def _find_lengths(lines: list[bytes]) -> list[bytes]:
    """Give what the Content-Length fields say, as far as it looks like numbers."""
    values = [value.strip() for name, _, value in (line.partition(b":") for line in lines) if name.lower() == _LENGTH]
    return [value for value in values if _NUMBERS.fullmatch(value)]
