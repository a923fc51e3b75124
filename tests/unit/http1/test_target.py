"""Pins the one form in which targets are matched and forwarded, and what could mean another path to somebody."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyproxy.errors import BadRequest
from pyproxy.http1.target import encode_high, forwarded_target, is_clean, split_absolute
from pyproxy.routing.rewrite import strip_prefix
from pyproxy.routing.target import routing_path
from tests.unit.http1.feeding import read_requests


@pytest.mark.parametrize(
    ("target", "forwarded"),
    [
        (b"/", b"/"), (b"/a/b", b"/a/b"), (b"/a?b=/../c", b"/a?b=/../c"), (b"/a/./b", b"/a/b"), (b"/a/b/..", b"/a/"),
        (b"/a/b/.", b"/a/b/"), (b"/..", b"/"), (b"/../../a", b"/a"), (b"/a/../../b", b"/b"), (b"/.?x", b"/?x"),
        (b"/...", b"/..."), (b"/.a/..b/c./d..", b"/.a/..b/c./d.."), (b"/a//b", b"/a//b"), (b"//a", b"/a"),
        (b"///a//", b"/a//"), (b"/..//a", b"/a"), (b"//../a", b"/a"), (b"/admin//../x", b"/admin/x"),
        (b"/%41%2Fb%2e", b"/%41%2Fb%2e"), (b"/%2ea/%2e%2e%2e/b%2F.c", b"/%2ea/%2e%2e%2e/b%2F.c"),
        (b"/%252e%252e/x", b"/%252e%252e/x"), (b"/%/%zz", b"/%/%zz"), (b"/a;x/..;/b", b"/a;x/..;/b"),
        (b"/?\\", b"/?\\"), (b"/?%5c%00%2e%2e/..%2f", b"/?%5c%00%2e%2e/..%2f"), (b"/a/%zz/../b", b"/a/b"),
        (b"http://h", b"/"), (b"http://h/a/../b?c", b"/b?c"), (b"http://h?x=://y/z", b"/?x=://y/z"),
        (b"HTTPS://h:1//a", b"/a"), (b"*", b"*"),
    ],
)  # fmt: skip
def test_forwarded_target(target: bytes, forwarded: bytes) -> None:
    """As it came, without scheme and host, dot segments, and slashes in front that would begin a host."""
    assert forwarded_target(target, b"GET") == forwarded
    assert forwarded_target(forwarded, b"GET") == forwarded


@pytest.mark.parametrize(
    "path",
    [
        b"/a\\b", b"/\\", b"/a%5Cb", b"/%5c", b"/a%00", b"/%2e%2e", b"/%2E", b"/.%2e/x", b"/%2e./x", b"/admin/%2e%2e/x",
        b"/admin/..%2fx", b"/admin/..%2F", b"/x%2f..", b"/x%2F../y", b"/x%2f.%2fy", b"/%2f..", b"/x/..%2f..%2fy",
        b"/a/%2e%2e/../x", b"/a%5c/../x",
    ],
)  # fmt: skip
def test_paths_that_could_mean_another(path: bytes) -> None:
    """Decoded or read as Windows does, these would lead elsewhere: nobody means well with them."""
    for target in (path, path + b"?q", b"http://h" + path):
        with pytest.raises(BadRequest):
            forwarded_target(target, b"GET")
    assert not is_clean(path)


def test_asterisk_form() -> None:
    """OPTIONS of a whole server is asked for with a star (RFC 9112, section 3.2.4)."""
    assert forwarded_target(b"http://h", b"OPTIONS") == b"*"
    assert forwarded_target(b"http://h/", b"OPTIONS") == b"/"
    assert forwarded_target(b"http://h?x", b"OPTIONS") == b"/?x"


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        (b"http://h:80/a?b", (b"http", b"h:80", b"/a?b")),
        (b"HTTP://h", (b"http", b"h", b"")),
        (b"http://h?b=://c/d", (b"http", b"h", b"?b=://c/d")),
        (b"http:///x", (b"http", b"", b"/x")),
        (b"a:80", (b"a:80", b"", b"")),
    ],
)
def test_split_absolute(target: bytes, parts: tuple[bytes, bytes, bytes]) -> None:
    """The authority ends where path or query begins."""
    assert split_absolute(target) == parts


def test_encode_high() -> None:
    """Only bytes above ASCII, and nothing twice."""
    assert encode_high(b"/%C3\xc3\xa9?\x80~") == b"/%C3%C3%A9?%80~"


PIECES = [b"a", b".", b"..", b"", b"%2e", b"%2F", b"%2f", b"\\", b"%5c", b"%00", b";", b"\xc3", b"%", b"%25", b"..;"]
PATHS = st.lists(st.sampled_from([*PIECES, b"/"]), max_size=10).map(lambda pieces: b"/" + b"".join(pieces))


@given(PATHS)
def test_what_is_matched_is_what_is_forwarded(path: bytes) -> None:
    """Whatever passes has one meaning: a backend that decodes, merges slashes or removes dots sees what routes saw."""
    events, _ = read_requests([b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path])
    assert len(events) == 1
    if isinstance(events[0], BadRequest):
        return
    target = events[0].target
    assert target.isascii()
    assert target.startswith(b"/")
    assert not target.startswith(b"//")
    matched = routing_path(target)
    assert not {b".", b".."} & set(matched.split(b"/"))
    assert not {b".", b".."} & set(target.split(b"/"))
    assert b"\\" not in matched
    assert b"\0" not in matched
    assert events[0].received == path


@given(PATHS, st.integers(1, 3), st.booleans())
def test_what_is_left_of_a_path_needs_no_second_look(path: bytes, depth: int, slash: bool) -> None:
    """Taking a prefix off what passed makes nothing that wouldn't have passed."""
    try:
        target = forwarded_target(encode_high(path), b"GET")
    except BadRequest:
        return
    prefix = b"/".join(routing_path(target).split(b"/")[: depth + 1]) + (b"/" if slash else b"")
    stripped = strip_prefix(target, prefix)
    assert forwarded_target(stripped, b"GET") == stripped
