"""
Change a message as a route says: headers set and taken away, with variables, and where a redirect leads.

Must not know which message it is. Whatever a client sends, no variable can end a line: the target is written in
visible ASCII, and the other values have been checked by those who read them.
"""

import re
from urllib.parse import unquote_to_bytes

from pyproxy.config.runtime import VARIABLES, HeaderChanges
from pyproxy.routing.target import encode_path, host_key, routing_path

_VARIABLE = re.compile(r"\$([A-Za-z][A-Za-z_]*)")
_NOT_VISIBLE = re.compile(rb"[^!-~]")
_SLASHES = re.compile(rb"[/\\]{2,}")


class Variables:
    """
    What variables stand for in one request.

    ``host`` is as it came; ``target`` is what a backend would be asked for, before a route changes it: the path that
    was compared, and no other spelling of it that one of the two might read in another way.
    """

    __slots__ = ("_client_ip", "_host", "_request_id", "_scheme", "_target")

    def __init__(self, host: bytes, target: bytes, scheme: bytes, client_ip: bytes, request_id: bytes) -> None:
        self._host = host
        self._target = target
        self._scheme = scheme
        self._client_ip = client_ip
        self._request_id = request_id

    def value(self, name: str) -> bytes:
        """Give a variable's value, worked out now: most requests need none of them."""
        if name == "host":
            return host_key(self._host)
        if name == "request_uri":
            return self._request_uri()
        if name == "uri":
            path = routing_path(self._target)
            return encode_path(path) if path.startswith(b"/") else b"/"
        if name == "scheme":
            return self._scheme
        return self._client_ip if name == "client_ip" else self._request_id

    def _request_uri(self) -> bytes:
        """Give path and query, but for bytes that a header can't hold; ``*`` has no path."""
        target = self._target if self._target.startswith(b"/") else b"/"
        return _NOT_VISIBLE.sub(_escape, target)


def _escape(byte: re.Match[bytes]) -> bytes:
    return b"%%%02X" % byte[0][0]


class Template:
    """
    A text in which ``$name`` is a variable; a ``$`` that no letter follows is itself.

    >>> Template("https://$host/?to=$uri&cost=$5").render(Variables(b"A:80", b"/x?y", b"http", b"::1", b"1"))
    b'https://a/?to=/x&cost=$5'
    """

    __slots__ = ("_constant", "_names", "_texts")

    def __init__(self, text: str) -> None:
        parts = _VARIABLE.split(text)  # text, name, text, name, ..., text
        self._texts = [part.encode() for part in parts[::2]]
        self._names = parts[1::2]
        unknown = set(self._names) - set(VARIABLES)
        if unknown:
            raise ValueError(f"unknown variable ${min(unknown)}")
        self._constant = self._texts[0]

    def render(self, variables: Variables) -> bytes:
        """Write the text with the variables' values."""
        if not self._names:
            return self._constant
        parts = [self._constant]
        for index, name in enumerate(self._names, 1):
            parts.append(variables.value(name))
            parts.append(self._texts[index])
        return b"".join(parts)

    def render_location(self, variables: Variables) -> bytes:
        r"""
        Write it as where a redirect leads.

        A client that asks for ``//other.example`` must not be led away by ``$uri`` at the beginning: to a browser
        ``//`` and ``/\`` begin a host.
        """
        location = self.render(variables)
        if location.startswith((b"//", b"/\\")) and not self._constant.startswith(b"//"):
            location = _SLASHES.sub(b"/", location, count=1)
        return location


class HeaderRewrite:
    """The changes to the headers of one direction."""

    __slots__ = ("_gone", "_set")

    def __init__(self, changes: HeaderChanges) -> None:
        self._set = [(b"%b: " % name.encode(), Template(value)) for name, value in changes.set]
        names = [*changes.remove, *(name for name, _ in changes.set)]
        self._gone = frozenset(name.lower().encode() for name in names)

    def apply(self, lines: list[bytes], variables: Variables) -> list[bytes]:
        r"""Give ready lines ``b"Name: value\r\n"`` as they are to be sent; the given list stays as it is."""
        gone = self._gone
        changed = [line for line in lines if line.partition(b":")[0].lower() not in gone]
        for start, template in self._set:
            changed.append(start + template.render(variables) + b"\r\n")
        return changed


def make_rewrite(changes: HeaderChanges) -> HeaderRewrite | None:
    """Make the changes of a route; None if there is nothing to do."""
    return HeaderRewrite(changes) if changes.set or changes.remove else None


def strip_prefix(target: bytes, prefix: bytes) -> bytes:
    """
    Take a route's path off a target that the route fits; the query stays.

    What is left stays as the client wrote it, but begins with one slash: two would name a host. Only where the
    written segments aren't those that were compared (a second or an encoded slash within the prefix) it is written anew
    from the path that was.

    >>> strip_prefix(b"/api/a%2Fb?c", b"/api/"), strip_prefix(b"/api", b"/api"), strip_prefix(b"/api%2fb", b"/api")
    (b'/a%2Fb?c', b'/', b'/b')
    """
    prefix = prefix.removesuffix(b"/")
    if not prefix:
        return target
    path, mark, query = target.partition(b"?")
    end = _end_of_segments(path, prefix.count(b"/"))
    is_as_compared = unquote_to_bytes(path[:end]) == prefix
    rest = path[end:] if is_as_compared else encode_path(routing_path(path)[len(prefix) :])
    return b"/" + rest.lstrip(b"/") + mark + query


def _end_of_segments(path: bytes, count: int) -> int:
    """Find where the first so many segments of a path end."""
    end = 0
    for _ in range(count):
        end = path.find(b"/", end + 1)
        if end < 0:
            return len(path)
    return end
