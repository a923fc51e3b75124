"""Pins which route a request takes: hosts, paths, their normal forms, and which route wins."""

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyproxy.config.runtime import Route
from pyproxy.routing import table
from pyproxy.routing.table import RouteTable, host_key, routing_path


def make(*routes: tuple[str | None, str | None, str]) -> RouteTable[str]:
    """Make a table whose values are the pools' names."""
    return RouteTable([Route(*route) for route in routes], {route[2]: route[2] for route in routes})


def test_doctests() -> None:
    """The examples in the documentation are true."""
    assert doctest.testmod(table).failed == 0


PRECEDENCE = make(
    (None, None, "any"),
    (None, "/api", "api"),
    ("a.example", "/api/v2/", "a-v2"),
    ("a.example", "/api", "a-api"),
    ("b.example", None, "b"),
    ("b.example", "/", "never: the same as none, and later"),
    (None, "/api/v2/deep", "deep"),
)


@pytest.mark.parametrize(
    ("host", "target", "expected"),
    [
        (b"a.example", b"/api/v2/x", "a-v2"),
        (b"a.example", b"/api/v2", "a-v2"),
        (b"a.example", b"/api/v20", "a-api"),
        (b"a.example", b"/api/v2/deep", "a-v2"),
        (b"a.example", b"/api", "a-api"),
        (b"a.example", b"/apix", "any"),
        (b"a.example", b"/", "any"),
        (b"b.example", b"/api/v2/deep", "b"),
        (b"b.example", b"/", "b"),
        (b"c.example", b"/api/v2/deep/er", "deep"),
        (b"c.example", b"/api/v2", "api"),
        (b"c.example", b"/x", "any"),
        (None, b"/api", "api"),
        (b"", b"/api", "api"),
        (b"x.a.example", b"/api", "api"),
    ],
)
def test_precedence(host: bytes | None, target: bytes, expected: str) -> None:
    """Exact host before none, then the longest path, then file order; if none fits, the next class of hosts."""
    assert PRECEDENCE.match(host, target) == expected


def test_nothing_fits() -> None:
    """Without a route for everything there may be none."""
    routes = make(("a.example", None, "a"), (None, "/api", "api"))
    assert routes.match(b"b.example", b"/") is None
    assert make().match(b"a", b"/") is None


@pytest.mark.parametrize("path", ["/api", "/api/"])
@pytest.mark.parametrize(
    ("target", "fits"),
    [
        (b"/api", True), (b"/api/", True), (b"/api/x", True), (b"/api?x=1", True), (b"/api/?x", True),
        (b"/apix", False), (b"/ap", False), (b"/", False), (b"/API", False), (b"/x/api", False), (b"/api;v=1", False),
        (b"/?/api", False), (b"*", False), (b"/%61pi", True), (b"/x/../api", True), (b"/api/..", False),
        (b"/api/../api", True), (b"/./api", True), (b"//api", False), (b"http://h/api", True), (b"http://h", False),
        (b"http://h?/api", False), (b"/api%2Fx", True), (b"/%2e%2e/api", True), (b"/api/%2e%2e/x", False),
        (b"/api%00", False),
    ],
)  # fmt: skip
def test_segment_boundaries(path: str, target: bytes, fits: bool) -> None:
    """A prefix ends where a segment does; a closing slash in the file makes no difference."""
    assert (make((None, path, "api")).match(b"h", target) == "api") is fits


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/", b"/"), (b"/a/b", b"/a/b"), (b"/a?b=/../c", b"/a"), (b"/a/./b", b"/a/b"), (b"/a/b/..", b"/a/"),
        (b"/a/b/.", b"/a/b/"), (b"/..", b"/"), (b"/../../a", b"/a"), (b"/a/../../b", b"/b"), (b"/%41", b"/A"),
        (b"/%", b"/%"), (b"/%zz", b"/%zz"), (b"/%2541", b"/%41"), (b"/...", b"/..."), (b"/.a/..b", b"/.a/..b"),
        (b"/a//b", b"/a//b"), (b"/a%2e%2e/b", b"/a../b"), (b"/%2e%2e%2fb", b"/b"), (b"http://h", b"/"),
        (b"http://h/a/../b?c", b"/b"), (b"http://h?x", b"/"), (b"*", b"*"),
    ],
)  # fmt: skip
def test_routing_path(target: bytes, path: bytes) -> None:
    """Decoded once, dots taken out after that, slashes left alone (RFC 3986, section 5.2.4)."""
    assert routing_path(target) == path


@given(st.lists(st.sampled_from([b"a", b"..", b".", b"", b"%2e", b"%2E%2e", b"%2f", b"b"]), max_size=8))
def test_no_dot_segment_is_left(segments: list[bytes]) -> None:
    """However the dots are written, a routing path has none and begins with a slash."""
    path = routing_path(b"/" + b"/".join(segments))
    assert path.startswith(b"/")
    assert not {b".", b".."} & set(path.split(b"/"))


@pytest.mark.parametrize(
    ("host", "key"),
    [
        (b"www.example.com", b"www.example.com"), (b"WWW.Example.COM", b"www.example.com"), (b"a:80", b"a"),
        (b"a.", b"a"), (b"a.:8080", b"a"), (b"a:", b"a"), (b"[::1]", b"[::1]"), (b"[::1]:80", b"[::1]"),
        (b"[FE80::1]", b"[fe80::1]"), (b"10.0.0.1:80", b"10.0.0.1"), (b"", b""),
    ],
)  # fmt: skip
def test_host_key(host: bytes, key: bytes) -> None:
    """Port, case and closing dot don't matter; the colons of an IPv6 address aren't a port."""
    assert host_key(host) == key
    assert make((key.decode(), None, "it"), (None, None, "other")).match(host, b"/") == ("it" if key else "other")


def test_a_single_route_takes_everything() -> None:
    """One route without host and path needs no look at the request, whatever its target is."""
    for path in (None, "/"):
        routes = make((None, path, "web"))
        for target in (b"/", b"*", b"/a/../..", b"http://x/", b"/%zz"):
            assert routes.match(None, target) == "web"


def test_a_single_route_with_a_condition_is_no_such_route() -> None:
    """One route with a host or a path doesn't take everything."""
    assert make(("a", None, "web")).match(b"b", b"/") is None
    assert make((None, "/a", "web")).match(b"b", b"/") is None


def test_paths_of_the_file_are_normalised_too() -> None:
    """A route's path is compared in the same form as the request's."""
    assert make((None, "/caf%C3%A9/../x", "x")).match(b"h", b"/x/y") == "x"


def test_many_routes() -> None:
    """Ten thousand routes: each finds its own."""
    routes = [(f"h{index % 100}", f"/p{index}", str(index)) for index in range(10_000)]
    big = make(*routes, (None, None, "rest"))
    for index in range(0, 10_000, 7):
        assert big.match(b"H%d:80" % (index % 100), b"/p%d/x" % index) == str(index)
        assert big.match(b"h%d" % ((index + 1) % 100), b"/p%d" % index) == "rest"


SEGMENTS = st.lists(st.sampled_from(["a", "b", "ab"]), max_size=3).map(lambda parts: "/" + "/".join(parts))


@given(
    routes=st.lists(st.tuples(st.sampled_from([None, "h", "i"]), st.one_of(st.none(), SEGMENTS)), max_size=6),
    host=st.sampled_from([b"h", b"i", b"j", None]),
    path=SEGMENTS,
)
def test_the_table_agrees_with_a_plain_search(
    routes: list[tuple[str | None, str | None]], host: bytes | None, path: str
) -> None:
    """What the lengths and dicts give is what going through all routes by the contract's rule gives."""

    def fits(route_host: str | None, route_path: str | None) -> bool:
        prefix = (route_path or "/").rstrip("/")
        on_boundary = path == prefix or path.startswith(prefix + "/")
        return (route_host is None or (host or b"").decode() == route_host) and on_boundary

    best = [
        (route_host is None, -len((route_path or "").rstrip("/")), index)
        for index, (route_host, route_path) in enumerate(routes)
        if fits(route_host, route_path)
    ]
    expected = str(min(best)[2]) if best else None
    numbered = [(*route, str(index)) for index, route in enumerate(routes)]
    assert make(*numbered).match(host, path.encode()) == expected
