"""The reasons of our own refusals: which route, pool or limit."""

from pyproxy.balance.backend import Backend
from pyproxy.balance.pool import Pool
from pyproxy.http1.head import RequestHead
from pyproxy.proxy import refusals
from tests.unit.proxy.planes import make_backend


def make_pool(*changes: dict[str, object]) -> Pool:
    """Make a pool of backends that differ in these values."""
    names = [f"web{number}" for number in range(1, len(changes) + 1)]
    configs = [make_backend(name, **values) for name, values in zip(names, changes, strict=True)]  # type: ignore[arg-type]
    return Pool("web", "round_robin", [Backend("web", config) for config in configs])


def test_no_backend_says_what_is_the_matter_with_each() -> None:
    """Down, drained, ejected: an operator sees at once whose doing it is."""
    pool = make_pool({"health": "down"}, {"state": "drain"}, {"ejected": True}, {"state": "maint"})
    assert refusals.no_backend(pool).why == (
        b"no backend is available: web1 down, web2 drained, web3 ejected, web4 maint"
    )


def test_many_backends_are_counted() -> None:
    """Of a thousand only the first are named: a reason is made for each request that is refused."""
    pool = make_pool(*[{"health": "down"}] * 8)
    assert refusals.no_backend(pool).why.endswith(b"web5 down, and 3 more")


def test_a_pool_without_backends() -> None:
    """Names that DNS doesn't know, for instance."""
    assert refusals.no_backend(make_pool()).why == b"no backend is available: pool web has no backends"


def test_no_route_names_what_was_looked_for() -> None:
    """Host, path and method, at a length that fits; the query may hold a secret and decides nothing."""
    head = RequestHead(b"/shop?token=secret")
    head.method, head.host = b"GET", b"h" * 500
    assert refusals.no_route(head).why == b"no route matches: host %b..., path /shop, method GET" % (b"h" * 60)


def test_limits_have_their_numbers() -> None:
    """What was too much, and what is allowed."""
    assert refusals.queue_full(make_pool(), 3, 3).note == b"3 wait for pool web, queue.size is 3"
    assert refusals.queue_timeout(make_pool(), 0.25).note == b"pool web, queue.timeout is 0.25 s"
    assert refusals.body_too_large(11, 10).note == b"11 bytes, the limit is 10"
    assert refusals.forbidden(b"192.0.2.1", 2).why.endswith(b"192.0.2.1 is not in the allow of routes[2]")
