"""
What ``instructions.py --scale`` compares: few and many routes, few and many backends.

Must not know how anything is counted.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from bench import stage

ALLOWED = 0.10
ROUTES = 10_000
FEW_BACKENDS, MANY_BACKENDS = 3, 1_000
POLICIES = ("round_robin", "random", "hash")
#: Different targets: with hash they decide which backends are used at all.
TARGETS = 2_000
#: Requests before counting begins, by policy: round robin has met every backend after one round, hash whom it will
#: ever meet after all targets. Random meets 1,000 late: in every third run one is left after 8,000 requests, whose new
#: connection doesn't show among those that are counted.
WARM_UP = {"round_robin": 2 * MANY_BACKENDS, "random": 8 * MANY_BACKENDS, "hash": TARGETS}


class Scenario(NamedTuple):
    """A configuration, the requests sent in turn, and how many of them before and while counting."""

    name: str
    config: dict[str, Any]
    requests: Sequence[bytes]
    warm_up: int
    counted: int


class Pair(NamedTuple):
    """The same thing, small and large."""

    small: Scenario
    large: Scenario


class Cost(NamedTuple):
    """Instructions of a request, and of the periodic work of a second."""

    request: int
    second: int


class Growth(NamedTuple):
    """What a pair costs."""

    small_name: str
    large_name: str
    small: Cost
    large: Cost

    @property
    def share(self) -> float:
        """By how much a request costs more: 0.1 is 10 %."""
        return self.large.request / self.small.request - 1

    @property
    def met(self) -> bool:
        """Whether the bar is met."""
        return self.share <= ALLOWED


def pairs(config: Mapping[str, Any]) -> Iterator[Pair]:
    """Make all pairs from a configuration with one pool, ``web``, whose backends all answer alike."""
    routes, middle = make_routes(ROUTES // 4), ROUTES // 8
    requests = route_requests(middle)
    # The one for everything is a special case that the others have to stand beside, too.
    one_for_all, one = [{"pool": "web"}], [routes[4 * middle + 1]]
    yield Pair(
        Scenario("1 route for everything", {**config, "routes": one_for_all}, requests, 100, 1_000),
        Scenario(f"{ROUTES:,} routes", {**config, "routes": routes}, requests, 100, 1_000),
    )
    yield Pair(
        Scenario("1 route by host and path", {**config, "routes": one}, requests[1:2], 100, 1_000),
        Scenario(f"{ROUTES:,} routes, that one", {**config, "routes": routes}, requests[1:2], 100, 1_000),
    )
    requests = [make_request("www.example.com", f"/items/{number}?page=1") for number in range(TARGETS)]
    for policy in POLICIES:
        small, large = (
            Scenario(
                f"{policy}, {count:,} backends",
                with_backends(config, policy, count),
                requests,
                WARM_UP[policy],
                TARGETS,
            )
            for count in (FEW_BACKENDS, MANY_BACKENDS)
        )
        yield Pair(small, large)


def make_routes(groups: int) -> list[dict[str, Any]]:
    """Make four routes a group: by host, by host and path, by wildcard and path, by a path of some depth."""
    return [
        {**route, "pool": "web"}
        for number in range(groups)
        for route in (
            {"host": f"host{number}.example.com"},
            {"host": f"host{number}.example.com", "path": f"/api{number}"},
            {"host": f"*.tenant{number}.example.org", "path": f"/files/{number}"},
            {"path": f"{'/section' * (number % 5)}/app{number}"},
        )
    ]


def make_request(host: str, target: str) -> bytes:
    """Write a GET request."""
    return f"GET {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: bench/1.0\r\n\r\n".encode()


def route_requests(number: int) -> list[bytes]:
    """Make a request for each of the four routes of a group."""
    return [
        make_request(f"host{number}.example.com", "/index.html"),
        make_request(f"host{number}.example.com", f"/api{number}/items?page=1"),
        make_request(f"www.eu.tenant{number}.example.org", f"/files/{number}/a.txt"),
        make_request("elsewhere.example.net", f"{'/section' * (number % 5)}/app{number}/"),
    ]


def with_backends(config: Mapping[str, Any], policy: str, count: int) -> dict[str, Any]:
    """Have this many backends, which share the addresses of those that there are."""
    pool = config["pools"]["web"]
    addresses = [backend["address"] for backend in pool["backends"]]
    members = [{"name": f"b{number}", "address": addresses[number % len(addresses)]} for number in range(count)]
    hashed = {"hash": "uri"} if policy == "hash" else {}
    return {**config, "pools": {"web": {**pool, **hashed, "policy": policy, "backends": members}}}


def describe(growths: Sequence[Growth]) -> str:
    """Write the result for people."""
    rows = [["instructions", "a request", "growth", f"bar {ALLOWED:.0%}", "(a second, periodic)"]]
    for growth in growths:
        rows.append([growth.small_name, str(growth.small.request), "", "", f"({growth.small.second})"])
        verdict = "met" if growth.met else "MISSED"
        share = f"{growth.share:+.1%}"
        rows.append([growth.large_name, str(growth.large.request), share, verdict, f"({growth.large.second})"])
    return stage.table(rows)
