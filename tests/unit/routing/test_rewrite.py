"""Pins what a route changes: headers, variables, the prefix of a target, and that no client breaks a line with it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyproxy.config.runtime import VARIABLES, HeaderChanges
from pyproxy.routing.rewrite import Template, Variables, make_rewrite, strip_prefix
from pyproxy.routing.target import routing_path


def variables(target: bytes = b"/a%20b//c?d=/e", host: bytes = b"WWW.Example.com.:80") -> Variables:
    """Make the variables of a request."""
    return Variables(host, target, b"https", b"192.0.2.1", b"id-1")


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("plain", b"plain"),
        ("$host", b"www.example.com"),
        ("$request_uri", b"/a%20b//c?d=/e"),
        ("$uri", b"/a%20b/c"),
        ("$scheme", b"https"),
        ("$client_ip", b"192.0.2.1"),
        ("$request_id", b"id-1"),
        ("$scheme://$host$request_uri", b"https://www.example.com/a%20b//c?d=/e"),
        ("$host-$host", b"www.example.com-www.example.com"),
        ("<$uri>", b"</a%20b/c>"),
        ("$5 $ $$ 5$", b"$5 $ $$ 5$"),
        ("$_host", b"$_host"),
        ("$$host", b"$www.example.com"),
        ("caf\xe9", b"caf\xc3\xa9"),
    ],
)
def test_template(text: str, rendered: bytes) -> None:
    """Each variable stands for what it is called; a dollar that no letter follows is itself."""
    assert Template(text).render(variables()) == rendered


def test_a_name_ends_where_the_letters_do() -> None:
    """A longer name is another one, and nobody is left guessing which was meant."""
    with pytest.raises(ValueError, match="unknown variable \\$hostname"):
        Template("$hostname")
    assert Template("$host-name").render(variables()) == b"www.example.com-name"


@pytest.mark.parametrize(
    ("target", "request_uri", "uri"),
    [
        (b"/", b"/", b"/"),
        (b"/a/b//c/?d", b"/a/b//c/?d", b"/a/b/c/"),
        (b"/a%2Fb%3F%25%41", b"/a%2Fb%3F%25%41", b"/a/b%3F%25A"),
        (b"*", b"/", b"/"),
        (b"/caf\xc3\xa9", b"/caf%C3%A9", b"/caf%C3%A9"),
        (b"/%0d%0aSet-Cookie:%20x", b"/%0d%0aSet-Cookie:%20x", b"/%0D%0ASet-Cookie:%20x"),
        (b"/a\r\nX: y", b"/a%0D%0AX:%20y", b"/a%0D%0AX:%20y"),
        (b'/"<>', b'/"<>', b"/%22%3C%3E"),
    ],
)
def test_target_variables(target: bytes, request_uri: bytes, uri: bytes) -> None:
    """$request_uri is path and query as they are forwarded, $uri the path that is compared, encoded again."""
    assert Template("$request_uri").render(variables(target)) == request_uri
    assert Template("$uri").render(variables(target)) == uri


VISIBLE = frozenset(range(0x21, 0x7F))


@given(st.sampled_from(VARIABLES), st.one_of(st.binary(), st.binary().map(lambda data: b"http://h/" + data)))
def test_no_target_ends_a_line(name: str, target: bytes) -> None:
    """Whatever the bytes of a target, no variable gets a control byte, a blank or a byte above ASCII from it."""
    assert set(Template(f"${name}").render(variables(target))) <= VISIBLE


@pytest.mark.parametrize(
    ("to", "target", "location"),
    [
        ("$uri", b"//evil.example/x", b"/evil.example/x"),
        ("$request_uri", b"//evil.example/x?//", b"/evil.example/x?//"),
        ("$request_uri", b"/\\/evil.example//x", b"/evil.example//x"),
        ("$uri", b"/%2Fevil.example", b"/evil.example"),
        ("/$uri", b"/evil.example", b"/evil.example"),
        ("$uri", b"/a//b", b"/a/b"),
        ("//cdn.example$uri", b"/a", b"//cdn.example/a"),
        ("https://$host$request_uri", b"//a", b"https://www.example.com//a"),
        ("/new", b"//a", b"/new"),
    ],
)
def test_location(to: str, target: bytes, location: bytes) -> None:
    """A redirect to a path stays with this host, whatever path was asked for."""
    assert Template(to).render_location(variables(target)) == location


LINES = [b"Host: h\r\n", b"X-Tier: b\r\n", b"Accept: */*\r\n", b"x-tier: c\r\n", b"X-Tier-Two: d\r\n"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (HeaderChanges(remove=("x-TIER",)), [b"Host: h\r\n", b"Accept: */*\r\n", b"X-Tier-Two: d\r\n"]),
        (
            HeaderChanges((("X-Tier", "a"), ("host", "$client_ip"))),
            [b"Accept: */*\r\n", b"X-Tier-Two: d\r\n", b"X-Tier: a\r\n", b"host: 192.0.2.1\r\n"],
        ),
        (HeaderChanges((("X-New", "$uri"),), ("Absent",)), [*LINES, b"X-New: /a%20b/c\r\n"]),
        (HeaderChanges((("X-Tier", "a"),), ("X-Tier", "X-Tier-Two")), [LINES[0], LINES[2], b"X-Tier: a\r\n"]),
    ],
)
def test_rewrite(changes: HeaderChanges, expected: list[bytes]) -> None:
    """In any spelling, all fields of that name; what is set replaces what was there, and wins over remove."""
    rewrite = make_rewrite(changes)
    assert rewrite is not None
    before = list(LINES)
    assert rewrite.apply(LINES, variables()) == expected
    assert before == LINES, "the given lines stay: another attempt may need them"


def test_nothing_to_rewrite() -> None:
    """A route that changes nothing costs nothing."""
    assert make_rewrite(HeaderChanges()) is None


@pytest.mark.parametrize(
    ("target", "prefix", "expected"),
    [
        (b"/api/x", b"/api", b"/x"),
        (b"/api/x", b"/api/", b"/x"),
        (b"/api", b"/api", b"/"),
        (b"/api/", b"/api", b"/"),
        (b"/api?a=/b", b"/api/", b"/?a=/b"),
        (b"/api/x?", b"/api", b"/x?"),
        (b"/x", b"/", b"/x"),
        (b"*", b"/", b"*"),
        (b"/a/b/c/d", b"/a/b", b"/c/d"),
        (b"/api//x//y", b"/api", b"/x//y"),
        (b"//api//x", b"/api", b"/x"),
        # what stays as it came
        (b"/api/a%2Fb%41%zz", b"/api", b"/a%2Fb%41%zz"),
        (b"/%61pi/%62", b"/api", b"/%62"),
        (b"/caf%C3%A9/x", b"/caf\xc3\xa9", b"/x"),
        (b"/api/\xe9", b"/api", b"/\xe9"),
        (b"/api/.x/..y/...", b"/api", b"/.x/..y/..."),
        (b"/50%25/x", b"/50%", b"/x"),
        # what has to be written anew
        (b"/api%2Fx", b"/api", b"/x"),
        (b"/a%2Fb/c%2Fd", b"/a/b", b"/c/d"),
        (b"/api%2F%3F%25%23%20", b"/api", b"/%3F%25%23%20"),
    ],
)
def test_strip_prefix(target: bytes, prefix: bytes, expected: bytes) -> None:
    """Taken off at a segment boundary; the rest as it came, unless it doesn't say what was compared."""
    assert strip_prefix(target, prefix) == expected


SEGMENTS = [b"a", b"%61", b"b", b"", b"a%2Fb", b"%2f", b"%252e", b"\xff", b"%", b"%3F"]


def paths(*segments: bytes) -> st.SearchStrategy[bytes]:
    """Make paths of some segments."""
    return st.lists(st.sampled_from(segments), min_size=1, max_size=6).map(lambda chosen: b"/" + b"/".join(chosen))


@given(
    paths(*SEGMENTS),
    st.sampled_from([b"", b"?", b"?a=/../b%2F?c"]),
    st.integers(0, 6),
    st.booleans(),
)
def test_what_is_left_means_what_was_compared(written: bytes, query: bytes, depth: int, slash: bool) -> None:
    """The path behind the prefix is exactly the compared path without it; the query stays."""
    path = routing_path(written)
    prefix = b"/".join(path.split(b"/")[: depth + 1])
    closing = b"/" if slash and path.startswith(prefix + b"/") else b""
    stripped = strip_prefix(written + query, prefix + closing)
    key = (prefix + closing).removesuffix(b"/")
    assert routing_path(stripped) == (path[len(key) :] or b"/")
    assert stripped.startswith(b"/")
    assert stripped.endswith(query)
    assert stripped.count(b"?") == query.count(b"?")


@given(paths(*SEGMENTS))
def test_what_is_left_is_spelled_as_the_client_did(rest: bytes) -> None:
    """Without dots, what stands behind the prefix stays to the byte, but for slashes in front that name a host."""
    assert strip_prefix(b"/%61pi" + rest, b"/api") == b"/" + rest.lstrip(b"/")
