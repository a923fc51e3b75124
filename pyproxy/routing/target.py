"""
The request target and Host as routes see them: in one normal form, whatever the client wrote.

Must not know routes. A target that a reader has let through is in origin-form (``/path?query``), absolute-form
(``http://host/path?query``) or ``*`` (RFC 9112, section 3.2); other bytes do no harm here.
"""

import re
from typing import Final
from urllib.parse import quote_from_bytes, unquote_to_bytes

#: What may stand in a path unencoded beside letters and digits (RFC 3986, section 3.3), and the slash.
_PATH_BYTES: Final = b"/-._~!$&'()*+,;=:@"
_SLASHES: Final = re.compile(rb"/{2,}")
#: Bytes are looked for as numbers: CPython looks for bytes in bytes only after an exception (0.2 µs more).
_COLON: Final = ord(":")
_PERCENT: Final = ord("%")


def host_key(host: bytes) -> bytes:
    """
    Lower-case a Host and take off port and closing dot.

    >>> host_key(b"WWW.Example.com.:8080"), host_key(b"[::1]:80"), host_key(b"[::1]")
    (b'www.example.com', b'[::1]', b'[::1]')
    """
    host = host.lower()
    if _COLON in host and not host.endswith(b"]"):
        host = host.rpartition(b":")[0]
    return host.removesuffix(b".")


def path_key(path: str) -> bytes:
    """
    Give a route's path as what a request's path must begin with: without its closing slash.

    >>> path_key("/api/"), path_key("/")
    (b'/api', b'')
    """
    return path.encode().removesuffix(b"/")


def split_target(target: bytes) -> tuple[bytes, bytes, bytes]:
    """
    Take a target apart into scheme and authority, path, and query with its ``?``.

    >>> split_target(b"/a?b"), split_target(b"http://h?b"), split_target(b"*")
    ((b'', b'/a', b'?b'), (b'http://h', b'/', b'?b'), (b'', b'*', b''))
    """
    path, mark, query = target.partition(b"?")
    origin = b""
    if not path.startswith(b"/"):
        scheme, absolute, rest = path.partition(b"://")
        if absolute:
            authority, _, rest = rest.partition(b"/")
            origin, path = scheme + absolute + authority, b"/" + rest
    return origin, path, mark + query


def routing_path(target: bytes) -> bytes:
    """
    Give the path that routes are compared with: no query, percent-decoded once, slashes merged, dot segments removed.

    Slashes are merged as nginx does: behind a backend that does it too, ``//admin`` must not pass by what was said
    of ``/admin``.

    >>> routing_path(b"/a/%62/../c?x=/d"), routing_path(b"http://h//x"), routing_path(b"/../..")
    (b'/a/c', b'/x', b'/')
    """
    path = target.partition(b"?")[0] if target.startswith(b"/") else split_target(target)[1]
    if _PERCENT in path:
        path = unquote_to_bytes(path)
    if b"//" in path:
        path = _SLASHES.sub(b"/", path)
    if b"/." in path:
        path = _without_dot_segments(path)
    return path


def has_dot_segments(path: bytes) -> bool:
    """Say whether a decoded path is another one without its dot segments."""
    return b"/." in path and not {b".", b".."}.isdisjoint(path.split(b"/"))


def _without_dot_segments(path: bytes) -> bytes:
    """Apply RFC 3986, section 5.2.4, to a path that begins with a slash."""
    output: list[bytes] = []
    segments = path.split(b"/")[1:]
    for segment in segments:
        if segment == b"..":
            del output[-1:]
        elif segment != b".":
            output.append(segment)
    if segments[-1] in {b".", b".."}:
        output.append(b"")
    return b"/" + b"/".join(output)


def encode_path(path: bytes) -> bytes:
    """
    Percent-encode a decoded path, so that decoding it once gives the same path again.

    >>> encode_path(b"/50% off/?")
    b'/50%25%20off/%3F'
    """
    return quote_from_bytes(path, _PATH_BYTES).encode()
