"""Pins which route a request takes, which route wins, why the others lose, and what the search costs."""

import sys
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyproxy.config.runtime import Route
from pyproxy.http1.head import RequestHead
from pyproxy.routing.table import RouteTable, Verdict
from tests.unit.routing.heads import make_head

EMPTY = RequestHead(b"/")


def route(host: str | None = None, path: str | None = None, **conditions: Any) -> Route:
    """Make a route; ``headers`` as a mapping."""
    if "headers" in conditions:
        conditions["headers"] = tuple(conditions["headers"].items())
    return Route(host, path, "web", **conditions)


def make(*routes: Route) -> RouteTable[int]:
    """Make a table whose values are the indexes of the routes."""
    return RouteTable(routes, range(len(routes)))


def match(
    table: RouteTable[int],
    host: bytes | None = b"h",
    target: bytes = b"/",
    *,
    method: bytes = b"GET",
    listener: str = "http",
    head: RequestHead = EMPTY,
) -> int | None:
    """Ask a table."""
    return table.match(host, target, method, listener, head)


PRECEDENCE = make(
    route(),
    route(None, "/api"),
    route("a.example", "/api/v2/"),
    route("a.example", "/api"),
    route("b.example"),
    route("b.example", "/"),  # never: the same as none, and later
    route(None, "/api/v2/deep"),
)


@pytest.mark.parametrize(
    ("host", "target", "expected"),
    [
        (b"a.example", b"/api/v2/x", 2),
        (b"a.example", b"/api/v2", 2),
        (b"a.example", b"/api/v20", 3),
        (b"a.example", b"/api/v2/deep", 2),
        (b"a.example", b"/api", 3),
        (b"a.example", b"/apix", 0),
        (b"a.example", b"/", 0),
        (b"b.example", b"/api/v2/deep", 4),
        (b"b.example", b"/", 4),
        (b"c.example", b"/api/v2/deep/er", 6),
        (b"c.example", b"/api/v2", 1),
        (b"c.example", b"/x", 0),
        (b"c.example", b"*", 0),
        (None, b"/api", 1),
        (b"", b"/api", 1),
        (b"x.a.example", b"/api", 1),
    ],
)
def test_hosts_and_paths(host: bytes | None, target: bytes, expected: int) -> None:
    """Exact host before none, then the longest path, then file order; if none fits, the next class of hosts."""
    assert match(PRECEDENCE, host, target) == expected


WILDCARDS = make(
    route("*.example.com"),
    route("*.www.example.com", "/deep"),
    route("www.example.com", "/exact"),
    route("*.com", "/com"),
    route(None, "/com/any"),
)


@pytest.mark.parametrize(
    ("host", "target", "expected"),
    [
        (b"a.example.com", b"/", 0),
        (b"A.Example.COM.:80", b"/", 0),
        (b"a.b.c.example.com", b"/", 0),
        (b"example.com", b"/", None),
        (b".example.com", b"/", None),
        (b"aexample.com", b"/", None),
        (b"a.example.com.org", b"/", None),
        (b"a.www.example.com", b"/deep/x", 1),
        (b"a.www.example.com", b"/", 0),
        (b"www.example.com", b"/deep", 0),
        (b"www.example.com", b"/exact", 2),
        (b"www.example.com", b"/exac", 0),
        (b"a.www.example.com", b"/com/any", 0),
        (b"example.com", b"/com/any", 3),
        (b"com", b"/com/any", 4),
        (None, b"/com/any", 4),
        (b"." * 5000 + b"example.com", b"/", 0),
        (b"a." * 5000 + b"example.com", b"/", 0),
    ],
)
def test_wildcards(host: bytes | None, target: bytes, expected: int | None) -> None:
    """Behind the exact host, the longest first, any number of labels but not none, and before no host at all."""
    assert match(WILDCARDS, host, target) == expected


def test_nothing_fits() -> None:
    """Without a route for everything there may be none."""
    routes = make(route("a.example"), route(None, "/api"))
    assert match(routes, b"b.example") is None
    assert match(make()) is None


@pytest.mark.parametrize("path", ["/api", "/api/"])
@pytest.mark.parametrize(
    ("target", "fits"),
    [
        (b"/api", True), (b"/api/", True), (b"/api/x", True), (b"/api?x=1", True), (b"/api/?x", True),
        (b"/apix", False), (b"/ap", False), (b"/", False), (b"/API", False), (b"/x/api", False), (b"/api;v=1", False),
        (b"/?/api", False), (b"*", False), (b"/%61pi", True), (b"//api", True), (b"/api%2Fx", True),
        (b"/api//", True), (b"/api%3F", False),
    ],
)  # fmt: skip
def test_segment_boundaries(path: str, target: bytes, fits: bool) -> None:
    """A prefix ends where a segment does; a closing slash in the file makes no difference."""
    assert (match(make(route(None, path)), target=target) == 0) is fits


@pytest.mark.parametrize(
    ("host", "asked"), [("a.example", b"A.example:80"), ("[::1]", b"[::1]"), ("10.0.0.1", b"10.0.0.1:8080")]
)
def test_host_of_the_file_and_of_the_request(host: str, asked: bytes) -> None:
    """Both are compared in the same form."""
    assert match(make(route(host), route()), asked) == 0
    assert match(make(route(host), route()), b"x" + asked) == 1


def test_a_single_route_takes_everything() -> None:
    """One route without host, path and conditions needs no look at the request, whatever it is."""
    for path in (None, "/"):
        for target in (b"/", b"*", b"/a/../..", b"http://x/", b"/%zz", b""):
            assert match(make(route(None, path)), None, target) == 0


@pytest.mark.parametrize(
    "single",
    [
        route("a"), route("*.a"), route(None, "/a"), route(methods=("PUT",)), route(listeners=("https",)),
        route(headers={"X": "1"}),
    ],
)  # fmt: skip
def test_a_single_route_with_a_condition_does_not(single: Route) -> None:
    """One route that asks for anything doesn't take everything."""
    assert match(make(single)) is None


CONDITIONS = make(
    route(),
    route(methods=("GET", "HEAD")),
    route(listeners=("http", "inner"), methods=("GET",)),
    route(headers={"X-Canary": "1"}),
    route(headers={"x-canary": "1", "X-Tenant": "a"}, methods=("POST",)),
    route(headers={"X-Canary": "2"}),
    route(headers={"X-Canary": "1"}),  # never: the same, and later
    route(listeners=("inner",)),
)


@pytest.mark.parametrize(
    ("method", "listener", "fields", "expected"),
    [
        (b"PUT", "https", [], 0),
        (b"HEAD", "https", [], 1),
        (b"get", "https", [], 0),
        (b"GET", "http", [], 2),
        (b"GET", "inner", [], 2),
        (b"HEAD", "inner", [], 1),
        (b"PUT", "inner", [], 7),
        (b"PUT", "https", ["X-Canary: 1"], 3),
        (b"GET", "https", ["X-Canary: 1"], 1),
        (b"PUT", "https", ["x-CANARY:   1  "], 3),
        (b"PUT", "https", ["X-Canary: 2"], 5),
        (b"PUT", "https", ["X-Canary: 1, 2"], 0),
        (b"PUT", "https", ["X-Canary: 1", "X-Canary: 1"], 0),
        (b"PUT", "https", ["X-Canary:"], 0),
        (b"PUT", "https", ["X_Canary: 1"], 0),
        (b"POST", "http", ["X-Canary: 1", "X-Tenant: a"], 4),
        (b"POST", "http", ["X-Tenant: a", "X-Canary: 1"], 4),
        (b"POST", "http", ["X-Canary: 1", "X-Tenant: A"], 3),
        (b"PUT", "inner", ["X-Canary: 2"], 5),
    ],
)
def test_conditions(method: bytes, listener: str, fields: list[str], expected: int) -> None:
    """More conditions win over fewer whatever they are, then file order; values are exact, names aren't."""
    assert match(CONDITIONS, method=method, listener=listener, head=make_head(*fields)) == expected


def test_file_order_between_routes_that_ask_for_as_much_but_not_for_the_same() -> None:
    """The first in the file wins, whichever kind of condition came first."""
    routes = make(route(methods=("PUT",)), route(listeners=("http",)), route(methods=("GET",)))
    assert match(routes) == 1
    assert match(routes, listener="other") == 2
    assert match(routes, method=b"PUT") == 0


def test_a_header_that_the_reader_keeps() -> None:
    """A redirect of those who came without TLS looks at X-Forwarded-Proto, which doesn't travel as a line."""
    routes = make(route(headers={"X-Forwarded-Proto": "http"}), route())
    assert match(routes, head=make_head("X-Forwarded-Proto: http")) == 0
    assert match(routes, head=make_head("X-Forwarded-Proto: https")) == 1


def test_values_beyond_ascii() -> None:
    """A value of the file is compared as UTF-8."""
    assert match(make(route(headers={"X-City": "K\xf6ln"}), route()), head=make_head("X-City: K\xf6ln")) == 0


def test_a_header_asked_for_twice_with_different_values() -> None:
    """Nothing can be both."""
    routes = make(route(headers={"X-A": "1", "x-a": "2"}), route())
    for fields in (["X-A: 1"], ["X-A: 2"], ["X-A: 1", "X-A: 2"]):
        assert match(routes, head=make_head(*fields)) == 1


def test_conditions_that_fail_lead_to_the_shorter_path_then_to_the_next_host() -> None:
    """Host and path weigh more than conditions, but only if these are met."""
    routes = make(
        route("a.b", "/x/y", methods=("PUT",)),
        route("a.b", "/x", listeners=("inner",)),
        route("*.b", "/x/y", headers={"X-A": "1"}),
        route("*.b", "/x"),
        route(None, "/x/y", methods=("GET",), headers={"X-A": "1"}),
    )
    one = make_head("X-A: 1")
    assert match(routes, b"a.b", b"/x/y", method=b"PUT", listener="inner", head=one) == 0
    assert match(routes, b"a.b", b"/x/y", listener="inner", head=one) == 1
    assert match(routes, b"a.b", b"/x/y", head=one) == 2
    assert match(routes, b"a.b", b"/x/y") == 3
    assert match(routes, b"a.c", b"/x/y", head=one) == 4
    assert match(routes, b"a.c", b"/x/y") is None


# against the contract's rule, taken literally

HOSTS = ["b", "a.b", "*.b", "*.a.b", "c.a.b", None]
PATHS = ["/", "/a", "/a/", "/a/b", "/a/b/a", "/ab", None]
ROUTES = st.lists(
    st.builds(
        Route,
        host=st.sampled_from(HOSTS),
        path=st.sampled_from(PATHS),
        pool=st.just("web"),
        listeners=st.sampled_from([None, ("x",), ("x", "y")]),
        methods=st.sampled_from([None, ("GET",), ("GET", "PUT"), ("PUT",)]),
        headers=st.sampled_from(
            [None, (("X-A", "1"),), (("X-A", "2"),), (("x-b", "1"),), (("X-B", "1"), ("x-a", "1")), (("X_C", "1"),)]
        ),
    ),
    max_size=12,
)
TARGETS = st.sampled_from([b"/", b"/a", b"/a/", b"/a/b?c", b"/a//b/a/b", b"/ab", b"//", b"//a", b"/%61/x", b"*"])
NORMAL = {b"/a/b?c": "/a/b", b"/a//b/a/b": "/a/b/a/b", b"/%61/x": "/a/x", b"//": "/", b"//a": "/a"}


def fits_host(wanted: str | None, host: str | None) -> bool:
    """Say whether a Host, in its normal form, is a route's."""
    if wanted is None:
        return True
    if wanted.startswith("*"):
        return host is not None and host.endswith(wanted[1:])
    return host == wanted


def fits_path(wanted: str | None, path: str) -> bool:
    """Say whether a normal path is below a route's, segment by segment."""
    prefix = (wanted or "/").removesuffix("/").split("/")
    return path.split("/")[: len(prefix)] == prefix or prefix == [""]


def fits_conditions(wanted: Route, method: str, listener: str, headers: Mapping[str, str]) -> bool:
    """Say whether a request has what a route asks for."""
    lower = {name.lower(): value for name, value in headers.items() if "_" not in name}
    return (
        (wanted.listeners is None or listener in wanted.listeners)
        and (wanted.methods is None or method in wanted.methods)
        and all(lower.get(name.lower()) == value for name, value in wanted.headers or ())
    )


def rank(wanted: Route) -> tuple[object, ...]:
    """Say how specific a route is, smaller is more: host class and length, path length, conditions."""
    host_class = (2, 0) if wanted.host is None else (1, -len(wanted.host)) if wanted.host[0] == "*" else (0, 0)
    conditions = (wanted.listeners is not None) + (wanted.methods is not None) + len(wanted.headers or ())
    return host_class, -len((wanted.path or "/").removesuffix("/")), -conditions


@given(
    routes=ROUTES,
    host=st.sampled_from([None, "b", "a.b", "c.a.b", "d.c.a.b", "e.b", "b.a"]),
    target=TARGETS,
    method=st.sampled_from(["GET", "PUT", "HEAD"]),
    listener=st.sampled_from(["x", "y", "z"]),
    headers=st.dictionaries(st.sampled_from(["X-A", "X-B", "X_C"]), st.sampled_from(["1", "2"])),
)
def test_the_table_agrees_with_going_through_all_routes(
    routes: Sequence[Route], host: str | None, target: bytes, method: str, listener: str, headers: dict[str, str]
) -> None:
    """What the dicts give, and the order in which explain tells of it, is what the contract's rule gives."""
    path = NORMAL.get(target, target.decode())
    candidates = sorted(
        (
            index
            for index, each in enumerate(routes)
            if fits_host(each.host, host) and fits_path(each.path, path)
        ),
        key=lambda index: (rank(routes[index]), index),
    )  # fmt: skip
    fitting = [index for index in candidates if fits_conditions(routes[index], method, listener, headers)]
    head = make_head(*(f"{name}: {value}" for name, value in headers.items()))
    asked = (host.upper().encode() + b":80" if host else None, target, method.encode(), listener, head)
    assert make(*routes).match(*asked) == (fitting[0] if fitting else None)
    verdicts = make(*routes).explain(*asked)
    assert [verdict.index for verdict in verdicts] == candidates
    assert [verdict.index for verdict in verdicts if verdict.chosen] == fitting[:1]
    pointing = f"routes[{fitting[0]}]" if fitting else "nowhere"
    for verdict in verdicts:
        assert verdict.chosen or (pointing in (verdict.reason or "")) == (verdict.index in fitting)


# explain


def reasons(*routes: Route, **asked: Any) -> list[str]:
    """Explain a request as texts."""
    host, target = asked.pop("host", b"h"), asked.pop("target", b"/")
    method, listener = asked.pop("method", b"GET"), asked.pop("listener", "http")
    return [str(v) for v in make(*routes).explain(host, target, method, listener, make_head(*asked.pop("fields", [])))]


def test_explain() -> None:
    """Every route whose host and path fit has its verdict; the first condition that isn't met is the reason."""
    routes = [
        route(),
        route(methods=("GET", "HEAD")),
        route(listeners=("https", "inner"), methods=("GET",)),
        route(None, "/api", headers={"X-Canary": "1"}),
        route("h", "/api", headers={"X-Canary": "1", "X-Tenant": "a"}),
        route("other"),
        route(None, "/apis"),
        route(),
    ]
    assert reasons(*routes, target=b"/api/x", method=b"POST", fields=["X-Tenant: b", "x-canary: 1"]) == [
        "<Verdict routes[4] header X-Tenant is 'b'>",
        "<Verdict routes[3] chosen>",
        "<Verdict routes[2] listener http is not in https, inner>",
        "<Verdict routes[1] method POST is not in GET, HEAD>",
        "<Verdict routes[0] less specific than routes[3]>",
        "<Verdict routes[7] less specific than routes[3]>",
    ]
    assert reasons(*routes) == [
        "<Verdict routes[2] listener http is not in https, inner>",
        "<Verdict routes[1] chosen>",
        "<Verdict routes[0] less specific than routes[1]>",
        "<Verdict routes[7] less specific than routes[1]>",
    ]
    assert len(make(*routes)) == 8, "what explain leaves out failed by host or by path"


def test_explain_tells_of_file_order() -> None:
    """Of two routes that are equally specific the later one hears that it is only that."""
    both = [route("h", "/a"), route("h", "/a/"), route(None, "/a")]
    assert reasons(*both, target=b"/a") == [
        "<Verdict routes[0] chosen>",
        "<Verdict routes[1] later in the file than routes[0]>",
        "<Verdict routes[2] less specific than routes[0]>",
    ]


def test_explain_absent_header() -> None:
    """An absent header is called absent, one with a byte that is no text is shown as it is."""
    canary = route(headers={"X-Canary": "1"})
    assert reasons(canary) == ["<Verdict routes[0] header X-Canary is absent>"]
    head = RequestHead(b"/")
    head.lines = [b"X-Canary: \xff\r\n"]
    (verdict,) = make(canary).explain(b"h", b"/", b"GET", "http", head)
    assert verdict.reason == r"header X-Canary is '\xff'"


def test_explain_a_single_route() -> None:
    """The route that takes everything without a look at it is the chosen one here too."""
    assert reasons(route(), host=None, target=b"*") == ["<Verdict routes[0] chosen>"]


def test_verdict() -> None:
    """It is chosen if nothing speaks against it."""
    assert Verdict(0, None).chosen
    assert not Verdict(0, "no").chosen


# what it costs


def count_steps(call: Callable[[], object]) -> int:
    """Count the interpreter's steps in a call: what it costs, without a clock."""
    steps = 0

    def trace(frame: FrameType, event: str, _arg: object) -> Any:
        nonlocal steps
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        steps += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return steps


@pytest.mark.parametrize(
    ("nth", "host", "target", "fields"),
    [
        (lambda index: route(f"h{index:04}.example"), b"h0000.example", b"/a/b", []),
        (lambda index: route(f"*.h{index:04}.example"), b"a.h0000.example", b"/a/b", []),
        (lambda index: route(None, f"/p{index:04}"), b"a.example", b"/p0000/x", []),
        (lambda index: route(f"h{index % 100:02}", f"/p{index:04}/q"), b"h00", b"/p0000/q/x", []),
        (lambda index: route(headers={"X-Tenant": str(index)}), b"a", b"/", ["X-Tenant: 0"]),
        (lambda index: route(methods=(f"M{index}", "GET")), b"a", b"/", []),
        (lambda index: route(listeners=(f"L{index}", "http")), b"a", b"/", []),
        (lambda _index: route(), b"a", b"/", []),
    ],
)
def test_the_cost_does_not_depend_on_the_number_of_routes(
    nth: Callable[[int], Route], host: bytes, target: bytes, fields: list[str]
) -> None:
    """Among ten thousand routes of a kind the search takes the very steps that it takes among two."""
    head = make_head(*fields)
    steps = []
    for count in (2, 10_000):
        table = make(*map(nth, range(count)))

        def ask(table: RouteTable[int] = table) -> int | None:
            return match(table, host, target, head=head)

        assert ask() == 0
        steps.append(count_steps(ask))
    few, many = steps
    assert few == many
    assert few > 0, "steps were counted"


@pytest.mark.parametrize(("host", "target"), [(b"a", b"/" * 8000), (b"a", b"/a" * 4000), (b"a." * 4000, b"/")])
def test_the_cost_is_bounded_by_what_the_routes_look_at(host: bytes, target: bytes) -> None:
    """Of a Host or path longer than any route's only as much is looked at as could be one's."""
    table = make(route("*.www.example.com", "/a/long/path/of/a/route"))

    def ask(host: bytes, target: bytes) -> None:
        assert match(table, host, target) is None

    assert count_steps(lambda: ask(host, target)) < 40 * count_steps(lambda: ask(b"a", b"/"))


def test_many_routes() -> None:
    """Ten thousand routes: each finds its own."""
    big = make(*(route(f"h{index % 100}", f"/p{index}") for index in range(10_000)), route())
    for index in range(0, 10_000, 7):
        assert match(big, b"H%d:80" % (index % 100), b"/p%d/x" % index) == index
        assert match(big, b"h%d" % ((index + 1) % 100), b"/p%d" % index) == 10_000


def test_invented_hosts_are_not_remembered_for_ever() -> None:
    """What is remembered of them is bounded, and forgetting changes nothing."""
    table = make(route("a.example"), route("*.example"))
    for _ in range(2):
        for number in range(1500):
            assert match(table, b"h%d.example" % number) == 1
        assert match(table, b"a.example") == 0
        assert match(table, b"x" * 300 + b".example") == 1
    assert len(table._known) <= 1024
    assert max(map(len, table._known)) <= 255
