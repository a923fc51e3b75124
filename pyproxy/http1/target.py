"""
Host, and the request target in the one form that backends get: origin-form without dot segments, or ``*``.

Must not know routes; these are compared with what is made here, so that nobody matches one path and is sent another
(RFC 9112, section 3.2; RFC 3986, section 5.2.4).
"""

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from pyproxy.errors import BadRequest, ExchangeError
from pyproxy.http1.head import RequestHead

#: A host is a name or address with an optional port; anything else confuses somebody behind us. Percent-encoding, which
#: RFC 3986 allows, is compared by some and decoded by others.
_LABEL: Final = rb"[A-Za-z0-9_~!$&'()*+;=-]+"
_HOST: Final = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|%b(?:\.%b)*\.?)(?::[0-9]{0,5})?" % (_LABEL, _LABEL))
#: Hosts that are well-formed (a lookup costs 0.03 µs, a look at the bytes 0.4), and targets that are forwarded as they
#: came, up to so many.
_GOOD_HOSTS: Final[set[bytes]] = set()
_GOOD_TARGETS: Final[set[bytes]] = set()
_GOOD_MAX: Final = 1024
_GOOD_BYTES_MAX: Final = 255
_DEFAULT_PORTS: Final = {b"http": b":80", b"https": b":443"}
#: Numbers, because CPython looks for bytes in bytes only after an exception (0.2 µs more).
_BACKSLASH: Final = ord("\\")
_NUL: Final = 0
_NUMBER_SIGN: Final = ord("#")
_PERCENT: Final = ord("%")
_DOTS: Final = frozenset({b".", b".."})
_HIGH: Final = re.compile(rb"[\x80-\xff]")


def find_target_problem(head: RequestHead) -> ExchangeError | None:
    """Check Host, and bring the target into the form in which it is matched and forwarded."""
    host = head.host
    if host is None:
        if head.version == 11:
            return BadRequest("no Host")
    elif host and host not in _GOOD_HOSTS and not _is_good_host(host):
        return BadRequest("bad Host")
    return None if head.target in _GOOD_TARGETS else _check_target(head)


def _is_good_host(host: bytes) -> bool:
    is_good = _HOST.fullmatch(host) is not None
    if is_good and len(_GOOD_HOSTS) < _GOOD_MAX and len(host) <= _GOOD_BYTES_MAX:
        _GOOD_HOSTS.add(host)
    return is_good


def _check_target(head: RequestHead) -> ExchangeError | None:
    """Check the target's form against the method and Host (RFC 9112, sections 3.2 and 3.3)."""
    target = head.target
    if _NUMBER_SIGN in target:
        return BadRequest("fragment in the request target")
    if target.startswith(b"/"):
        if is_clean(target):
            if len(_GOOD_TARGETS) < _GOOD_MAX and len(target) <= _GOOD_BYTES_MAX:
                _GOOD_TARGETS.add(target)
            return None
    elif head.method == b"CONNECT":
        return None
    elif target == b"*":
        return None if head.method == b"OPTIONS" else BadRequest("'*' as target")
    else:
        problem = _check_authority(head, target)
        if problem is not None:
            return problem
    try:
        head.target = forwarded_target(target, head.method)
    except BadRequest as error:
        return error
    return None


def _check_authority(head: RequestHead, target: bytes) -> ExchangeError | None:
    """Check the host of an absolute-form, which stands in for a missing Host and else must be the same."""
    scheme, authority, _ = split_absolute(target)
    port = _DEFAULT_PORTS.get(scheme)
    if port is None or not authority or not _is_good_host(authority):
        return BadRequest("bad request target")
    if head.host is None:
        head.host = authority
    elif _without_port(authority, port) != _without_port(head.host, port):
        return BadRequest("Host differs from the request target")
    return None


def _without_port(host: bytes, port: bytes) -> bytes:
    """Give a host to be compared: a scheme's default port says nothing (RFC 9110, section 4.2.3)."""
    return host.lower().removesuffix(port).removesuffix(b":")


def encode_high(target: bytes) -> bytes:
    r"""
    Percent-encode what no target may have as it is, bytes above ASCII.

    >>> encode_high(b"/caf\xc3\xa9?\xff")
    b'/caf%C3%A9?%FF'
    """
    return _HIGH.sub(_encode, target)


def _encode(byte: re.Match[bytes]) -> bytes:
    return b"%%%02X" % byte[0][0]


def split_absolute(target: bytes) -> tuple[bytes, bytes, bytes]:
    """
    Take an absolute-form apart into scheme, authority, and the rest; without one there is no authority.

    >>> split_absolute(b"http://h:80/a?b"), split_absolute(b"HTTP://h?b"), split_absolute(b"http://h")
    ((b'http', b'h:80', b'/a?b'), (b'http', b'h', b'?b'), (b'http', b'h', b''))
    """
    scheme, _, rest = target.partition(b"://")
    authority = rest.replace(b"?", b"/", 1).partition(b"/")[0]
    return scheme.lower(), authority, rest[len(authority) :]


def forwarded_target(target: bytes, method: bytes) -> bytes:
    """
    Give what a backend is asked for; a path that could mean another one to somebody raises ``BadRequest``.

    >>> forwarded_target(b"//a/./b/../c?d=/../", b"GET"), forwarded_target(b"http://h?x", b"GET")
    (b'/a/c?d=/../', b'/?x')
    >>> forwarded_target(b"http://h", b"OPTIONS"), forwarded_target(b"/%41%2Fb//c", b"GET")
    (b'*', b'/%41%2Fb//c')
    """
    if not target.startswith(b"/"):
        if target == b"*":
            return target
        target = split_absolute(target)[2]
        if not target and method == b"OPTIONS":
            return b"*"  # RFC 9112, section 3.2.4
        if not target.startswith(b"/"):
            target = b"/" + target
    path, mark, query = target.partition(b"?")
    return clean_path(path) + mark + query


def clean_path(path: bytes) -> bytes:
    """
    Remove dot segments, and all slashes in front but one.

    ``BadRequest`` is raised for what a backend may take for a dot segment or a slash though it isn't written as one.
    """
    if _BACKSLASH in path:
        raise BadRequest("backslash in the path")
    if _PERCENT in path:
        _check_encoded(path)
    if path.find(b"/.") >= 0:
        path = _without_dot_segments(path)
    return b"/" + path.lstrip(b"/") if path.startswith(b"//") else path


def is_clean(target: bytes) -> bool:
    """Whether a target in origin-form is forwarded just as it is; only looks, and may say no too often."""
    path = target.partition(b"?")[0]
    return not (_PERCENT in path or _BACKSLASH in path or path.find(b"//") >= 0 or path.find(b"/.") >= 0)


def _check_encoded(path: bytes) -> None:
    for segment in path.split(b"/"):
        if _PERCENT not in segment:
            continue
        decoded = unquote_to_bytes(segment)
        if _NUL in decoded:
            raise BadRequest("encoded NUL in the path")
        if _BACKSLASH in decoded:
            raise BadRequest("encoded backslash in the path")
        if not _DOTS.isdisjoint(decoded.split(b"/")):
            raise BadRequest("encoded dot segment in the path")


def _without_dot_segments(path: bytes) -> bytes:
    """Apply RFC 3986, section 5.2.4, to a path that begins with a slash."""
    output: list[bytes] = []
    segments = path.split(b"/")[1:]
    for segment in segments:
        if segment == b"..":
            del output[-1:]
        elif segment != b".":
            output.append(segment)
    if segments[-1] in _DOTS:
        output.append(b"")
    return b"/" + b"/".join(output)
