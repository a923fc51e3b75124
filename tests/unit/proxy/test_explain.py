"""Pins what is said of a request that isn't sent, on the real data plane; each answer is compared with the deed."""

from collections.abc import Iterator
from typing import Any

import pytest

from pyproxy.config.runtime import Listener, Pool, Queue, Redirect, Route, RuntimeConfig
from pyproxy.proxy.explain import Url, explain
from tests.unit.proxy.planes import FakePlane, Stage, fake_time, make_backend, make_config, make_pool

Answer = dict[str, Any]

LISTENERS = (
    Listener("http", "192.0.2.9", 80),
    Listener("local", "", 0, path="/run/pyproxy.sock"),
    Listener("https", "192.0.2.9", 443),
)


@pytest.fixture(autouse=True)
def _time() -> Iterator[None]:
    with fake_time():
        yield


def ask(
    plane: FakePlane,
    url: str = "http://www.example.com/",
    method: str = "GET",
    sender: str = "192.0.2.1",
    **headers: str,
) -> Answer:
    """Ask; an underscore in a header's name stands for a hyphen."""
    pairs = [[name.replace("_", "-"), value] for name, value in headers.items()]
    row, watched = plane.shared_row.tolist(), list(plane.sweeper.watched)
    answer = explain(plane, {"method": method, "url": url, "headers": pairs, "sender": sender})
    assert plane.shared_row.tolist() == row
    assert list(plane.sweeper.watched) == watched
    return answer


def config(*pools: Pool, **changes: Any) -> RuntimeConfig:
    """Configure three listeners, one of them a unix socket."""
    return make_config(*pools, **{"listeners": LISTENERS, **changes})


def test_the_whole_answer() -> None:
    """The shape is a contract with scripts."""
    web = make_pool("web", (make_backend("a", weight=2), make_backend("b", port=81, backup=True)))
    plane = FakePlane(config(web))
    assert ask(plane, "http://www.example.com/a?b#c") == {
        "listener": "http",
        "client": "192.0.2.1",
        "request": {"method": "GET", "target": "/a?b", "host": "www.example.com"},
        "refused": None,
        "routes": [{"index": 0, "host": None, "path": None, "chosen": True, "reason": None}],
        "others": 0,
        "route": 0,
        "redirect": None,
        "pool": "web",
        "policy": "round_robin",
        "backends": [
            {
                "name": "a",
                "address": "10.0.0.1:8080",
                "weight": 2,
                "active": 0,
                "eligible": True,
                "score": 0.0,
                "reason": None,
                "slow_start": None,
                "picked": True,
            },
            {
                "name": "b",
                "address": "10.0.0.1:81",
                "weight": 1,
                "active": 0,
                "eligible": False,
                "score": None,
                "reason": "backup: a primary backend is available",
                "slow_start": None,
                "picked": False,
            },
        ],
        "backend": "a",
        "sticky": None,
        "queued": 0,
        "worker": 0,
        "notes": [],
    }


def test_the_pick_is_the_next_one_and_asking_takes_no_turn() -> None:
    """However often it is asked, the request goes where it was said that it would."""
    stage = Stage(config(make_pool("web", tuple(make_backend(name, port=port) for port, name in enumerate("abc", 1)))))
    for _ in range(6):
        said = {ask(stage.plane)["backend"] for _ in range(3)}
        origin = stage.start(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        stage.answer(origin, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        assert said == {stage.plane.finished[-1].attempts[0].on.name}


@pytest.mark.parametrize(
    ("url", "sender", "listener", "notes"),
    [
        ("http://h/", "192.0.2.1", "http", []),
        ("https://h/", "192.0.2.1", "https", []),
        ("http://h:443/", "192.0.2.1", "https", []),
        ("HTTPS://[::1]/", "192.0.2.1", "https", []),
        ("http://[::1]:443/", "192.0.2.1", "https", []),
        ("/", "192.0.2.1", "http", []),
        ("https://h/", "unix:", "local", []),
        *(
            (
                f"http://h:{port}/",
                "192.0.2.1",
                "http",
                [f"no listener has port {port}: explained as if it came in on http"],
            )
            for port in (8080, 99999)
        ),
    ],
)
def test_the_listener_is_the_one_with_the_port(url: str, sender: str, listener: str, notes: list[str]) -> None:
    """Else the first that the sender could have reached; a port that nobody has is said to be one."""
    answer = ask(FakePlane(config()), url, sender=sender, Host="h")
    assert (answer["listener"], answer["notes"]) == (listener, notes)


def test_without_a_fitting_listener_the_first_is_taken() -> None:
    """There is always an answer."""
    plane = FakePlane(make_config(listeners=LISTENERS[:1]))
    assert ask(plane, "http://h/", sender="unix:")["listener"] == "http"


def test_a_single_listener_is_never_in_doubt() -> None:
    """Its port may be a mapped one."""
    answer = ask(FakePlane(config(listeners=LISTENERS[:2])), "http://h:8080/")
    assert (answer["listener"], answer["notes"]) == ("http", [])


@pytest.mark.parametrize(
    ("sender", "headers", "client"),
    [
        ("192.0.2.1", {}, "192.0.2.1"),
        ("192.0.2.1", {"X_Forwarded_For": "10.0.0.1"}, "192.0.2.1"),
        ("10.9.9.9", {"X_Forwarded_For": "203.0.113.5, 10.8.8.8"}, "203.0.113.5"),
        ("10.9.9.9", {}, "10.9.9.9"),
        ("unix:", {"X_Forwarded_For": "203.0.113.5"}, "203.0.113.5"),
    ],
)
def test_the_client_is_found_behind_trusted_proxies(sender: str, headers: dict[str, str], client: str) -> None:
    """By the code that finds it for the log."""
    plane = FakePlane(config(trusted_proxies=("10.0.0.0/8", "unix:")))
    assert ask(plane, sender=sender, **headers)["client"] == client


@pytest.mark.parametrize(
    ("method", "url", "headers", "refused"),
    [
        ("GET", "http://h/", {"Content_Length": "x"}, (400, "Content-Length is no number")),
        ("GET", "http://h/", {"Transfer_Encoding": "gzip"}, (501, "the transfer coding is not supported")),
        (
            "GET",
            "http://h/",
            {"Expect": "x" * 40_000},
            (431, "the request header fields are too large: limits.headers is 32768 bytes"),
        ),
        ("GET", "http://h/" + "x" * 9000, {}, (414, "the request line is too long: limits.request_line is 8192 bytes")),
        ("GET", "/", {}, (400, "no Host")),
        ("GET", "http://h\\/", {}, (400, "bad Host")),
        ("get", "http://h/", {}, (501, None)),
        ("GET", "http://h/a/%2e%2e/b", {}, (400, "encoded dot segment in the path")),
        ("CONNECT", "http://h:443/", {}, (405, "the method is not allowed: CONNECT")),
        ("TRACE", "http://h/", {}, (405, "the method is not allowed: TRACE")),
    ],
)
def test_a_request_that_would_be_refused(
    method: str, url: str, headers: dict[str, str], refused: tuple[int, str | None]
) -> None:
    """By the reader of the byte path, in its words."""
    answer = ask(FakePlane(config()), url, method, **headers)
    status, reason = refused
    assert answer["refused"]["status"] == status
    assert reason is None or answer["refused"]["reason"] == reason
    assert answer["request"]["method"] == method
    assert (answer["pool"], answer["backend"]) == (None, None)


def test_routes_are_judged_in_order() -> None:
    """What fits in host and path is shown with what it lost by, the rest is counted."""
    routes = (
        Route(None, None, "web"),
        Route("www.example.com", "/api/", "web", methods=("POST",)),
        Route("www.example.com", None, "web"),
        Route("other.example.com", None, "web"),
        Route("www.example.com", "/api/", "web", headers=(("X-Canary", "1"),)),
        Route(None, "/other", "web"),
    )
    answer = ask(FakePlane(config(routes=routes)), "http://www.example.com/api/users")
    assert [(row["index"], row["chosen"]) for row in answer["routes"]] == [
        (1, False),
        (4, False),
        (2, True),
        (0, False),
    ]
    assert (answer["routes"][0]["host"], answer["routes"][0]["path"]) == ("www.example.com", "/api/")
    assert "POST" in answer["routes"][0]["reason"]
    assert (answer["route"], answer["others"]) == (2, 2)


def test_no_route() -> None:
    """A 404, with the routes that came near."""
    routes = (Route("h", "/a", "web"), Route("h", None, "web", methods=("PUT",)))
    answer = ask(FakePlane(config(routes=routes)), "http://h/b")
    assert answer["refused"] == {"status": 404, "reason": "no route matches: host h, path /b, method GET"}
    assert (answer["route"], answer["others"], len(answer["routes"])) == (None, 1, 1)


def test_a_client_that_is_not_allowed() -> None:
    """The route is named; no pool is looked at."""
    plane = FakePlane(config(routes=(Route(None, None, "web", allow=("10.0.0.0/8",)),)))
    answer = ask(plane)
    assert answer["refused"] == {
        "status": 403,
        "reason": "the client's address is not allowed: 192.0.2.1 is not in the allow of routes[0]",
    }
    assert (answer["route"], answer["pool"], answer["backends"]) == (0, None, [])
    assert ask(plane, sender="10.0.0.1")["refused"] is None


def test_a_redirect() -> None:
    """The location as it would be sent."""
    routes = (Route(None, None, None, redirect=Redirect("https://$host$request_uri", 308)),)
    answer = ask(FakePlane(config(routes=routes)), "http://WWW.example.com:80/a%20b?c")
    assert answer["redirect"] == {"status": 308, "location": "https://www.example.com/a%20b?c"}
    assert (answer["refused"], answer["pool"], answer["backend"]) == (None, None, None)


def test_a_body_that_is_too_large() -> None:
    """What the request announces is compared with the route's limit."""
    plane = FakePlane(config(routes=(Route(None, None, "web", body_limit=10),)))
    assert ask(plane, method="POST", Content_Length="11")["refused"]["status"] == 413
    assert ask(plane, method="POST", Content_Length="10")["refused"] is None


def test_policy_hash_looks_at_the_key() -> None:
    """Who comes with the same key is told the same backend, others are spread."""
    names = tuple(make_backend(f"web{number}", port=number + 1) for number in range(8))
    plane = FakePlane(config(make_pool("web", names, policy="hash", hash="header:X-User")))
    first = [ask(plane, X_User=str(user))["backend"] for user in range(30)]
    assert [ask(plane, X_User=str(user))["backend"] for user in range(30)] == first
    assert len(set(first)) > 3


def test_nothing_is_available() -> None:
    """A pool whose backends all have weight 0."""
    answer = ask(FakePlane(config(make_pool("web", (make_backend("a", weight=0),)))))
    assert answer["refused"] == {"status": 503, "reason": "no backend is available: a weight 0: sticky clients only"}
    assert answer["backends"][0]["reason"] == "weight 0: sticky clients only"


def test_a_request_that_would_wait() -> None:
    """No backend and no refusal, until the queue is full; the backend's limit is the reason."""
    stage = Stage(config(make_pool("web", (make_backend("a", max_conns=1),), queue=Queue(size=1, timeout=5.0))))
    plane = stage.plane
    origin = stage.start(b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = ask(plane)
    assert (answer["refused"], answer["backend"], answer["queued"]) == (None, None, 0)
    assert answer["backends"][0]["reason"] == "at max_conns (1 of 1)"
    waiting = plane.connect(("192.0.2.2", 50_000))
    waiting.receive(b"GET /2 HTTP/1.1\r\nHost: x\r\n\r\n")
    plane.run()
    answer = ask(plane)
    assert (answer["refused"]["status"], answer["queued"]) == (503, 1)
    assert "max_conns" in answer["refused"]["reason"]
    stage.answer(origin, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


def test_a_request_that_would_be_refused_but_for_a_backup() -> None:
    """The queue is full: for once the backup is an overflow."""
    backends = (make_backend("a", max_conns=1), make_backend("b", port=81, backup=True, max_conns=1))
    stage = Stage(config(make_pool("web", backends, queue=Queue(size=1, timeout=5.0))))
    plane = stage.plane
    busy, backup = plane.pools["web"].pool.backends
    plane.shared_row[busy.columns.active] = 1
    assert ask(plane)["backend"] is None
    plane.shared_row[plane.layout.queued("web")] = 1
    answer = ask(plane)
    assert (answer["refused"], answer["backend"]) == (None, "b")
    assert [row["picked"] for row in answer["backends"]] == [False, True]
    plane.shared_row[backup.columns.active] = 1
    assert ask(plane)["refused"]["status"] == 503


def test_nobody_overtakes_those_who_wait() -> None:
    """There is room, but who came before gets it."""
    stage = Stage(config(make_pool("web", (make_backend("a", max_conns=1),))))
    plane = stage.plane
    plane.shared_row[plane.layout.queued("web")] = 1  # in whichever worker
    answer = ask(plane)
    assert (answer["refused"], answer["backend"], answer["queued"]) == (None, None, 1)
    assert [row["picked"] for row in answer["backends"]] == [False]
    assert answer["backends"][0]["reason"] is None


def test_with_several_workers_it_is_said_whose_turn_is_told() -> None:
    """Each has its own."""
    assert ask(FakePlane(config(workers=4)))["notes"] == ["as worker 0 of 4 sees it; each picks for itself"]


@pytest.mark.parametrize(
    ("text", "authority", "target", "port"),
    [
        ("http://h", "h", "/", 80),
        ("https://h?a/b", "h", "/?a/b", 443),
        ("HTTP://h:81/x#y?z", "h:81", "/x", 81),
        ("http://[::1]/", "[::1]", "/", 80),
        ("http://[::1]:81", "[::1]:81", "/", 81),
        ("http://h:/", "h:", "/", 80),
        ("http://h:123456/", "h:123456", "/", 80),
        ("/a?b#c", "", "/a?b", 0),
        ("//a", "", "//a", 0),
        ("/a://b", "", "/a://b", 0),
    ],
)
def test_urls(text: str, authority: str, target: str, port: int) -> None:
    """Taken apart as a client does."""
    url = Url(text)
    assert (url.authority, url.target, url.port) == (authority, target, port)


def test_a_sender_that_is_not_trusted_is_told_that_its_word_counts_for_nothing() -> None:
    """Else one would wonder why a condition on it isn't met."""
    note = "x-forwarded-proto from 192.0.2.1 doesn't count: it is not in trusted_proxies"
    assert ask(FakePlane(config()), X_Forwarded_Proto="https")["notes"] == [note]
    trusting = FakePlane(config(trusted_proxies=("192.0.2.0/24",)))
    assert ask(trusting, X_Forwarded_Proto="https")["notes"] == []
