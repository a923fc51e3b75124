"""Pins what sticky sessions do to a request: whom it is sent to, what that sees of the cookie, what the client gets."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from pyproxy.config.runtime import Backend, HeaderChanges, Queue, Retry, Route
from pyproxy.proxy.explain import explain
from pyproxy.proxy.sticky import SEEN_MAX, ServedSticky
from tests.fakes import FakeTransport
from tests.unit.proxy.planes import FakePlane, Stage, fake_time, make_backend, make_config, make_pool
from tests.unit.proxy.sticky_stage import NODES, OK, OLD, change, cookie, exchange, get, given, port, stage_of, sticky

RST = ConnectionResetError("reset")


@pytest.fixture(autouse=True)
def _time() -> Iterator[None]:
    with fake_time():
        yield


# the cookie


def test_a_new_client_gets_a_cookie_and_keeps_its_node() -> None:
    """Its next requests go there, and get no other cookie."""
    stage = stage_of()
    served, answer = exchange(stage, get())
    (line,) = given(answer)
    value = cookie(stage.plane, "a")
    assert (served, line) == (8001, b"SRV=%b; Path=/; HttpOnly; SameSite=Lax" % value)
    for _ in range(3):
        served, answer = exchange(stage, get(value))
        assert (served, given(answer)) == (8001, [])


@pytest.mark.parametrize(
    ("changes", "attributes"),
    [
        ({"path": "/app", "domain": "example.com"}, b"; Path=/app; Domain=example.com; HttpOnly; SameSite=Lax"),
        ({"samesite": "strict", "secure": True}, b"; Path=/; HttpOnly; SameSite=Strict; Secure"),
        ({"samesite": "none", "max_age": 90.0}, b"; Path=/; Max-Age=90; HttpOnly; SameSite=None"),
        ({"max_age": 0.25}, b"; Path=/; Max-Age=1; HttpOnly; SameSite=Lax"),
    ],
)
def test_attributes(changes: dict[str, Any], attributes: bytes) -> None:
    """Each is as configured; a short lifetime isn't rounded to one that deletes the cookie."""
    stage = stage_of(config=sticky(**changes))
    assert given(exchange(stage, get())[1]) == [b"SRV=" + cookie(stage.plane, "a") + attributes]


@pytest.mark.parametrize(("secure", "is_secure"), [(None, True), (False, False), (True, True)])
def test_secure_goes_by_how_the_client_came(secure: bool | None, *, is_secure: bool) -> None:
    """As a trusted proxy tells it; what is forced is forced."""
    pool = make_pool("web", NODES, sticky=sticky(secure=secure))
    stage = Stage(make_config(pool, trusted_proxies=("192.0.2.1/32",)))
    assert (b"; Secure" in exchange(stage, get(b"", b"X-Forwarded-Proto: https"))[1]) is is_secure


def test_nobody_else_says_how_the_client_came() -> None:
    """Anybody can write that header."""
    assert b"Secure" not in exchange(stage_of(), get(b"", b"X-Forwarded-Proto: https"))[1]


def test_a_lifetime_is_renewed() -> None:
    """With ``max_age`` each answer has the cookie, so that it ends so long after the last visit."""
    stage = stage_of(config=sticky(max_age=60.0))
    value = cookie(stage.plane, "b")
    served, answer = exchange(stage, get(value))
    assert (served, given(answer)) == (8002, [b"SRV=" + value + b"; Path=/; Max-Age=60; HttpOnly; SameSite=Lax"])


def test_the_old_secret_is_believed_and_replaced() -> None:
    """The client stays and gets the value of the new one."""
    stage = stage_of()
    served, answer = exchange(stage, get(cookie(stage.plane, "c", OLD)))
    assert served == 8003
    assert given(answer)[0].startswith(b"SRV=" + cookie(stage.plane, "c") + b";")


@pytest.mark.parametrize("value", [b"a", b"x" * 27, b"0000.AAAAAAAAAAAAAAAAAAAAAA", b'"', b"%00"])
def test_a_forged_value_is_ignored_and_replaced(value: bytes) -> None:
    """It goes where anybody goes."""
    stage = stage_of()
    served, answer = exchange(stage, get(value))
    assert served == 8001
    assert given(answer)[0].startswith(b"SRV=" + cookie(stage.plane, "a"))


def test_no_node_sees_the_cookie() -> None:
    """Valid or forged, in whichever header; the others arrive as they were."""
    stage = stage_of()
    value = cookie(stage.plane, "b")
    stage.ask(get(b"forged; x=1", b"cookie: y=2; SRV=" + value, b"Cookie: SRV=" + value))
    assert port(stage) == 8002
    origin = stage.accept()
    assert b"SRV" not in origin.sent
    assert b"\r\nCookie: x=1\r\ncookie: y=2\r\nX-Forwarded-For" in origin.sent


def test_a_pool_without_sticky_sessions_leaves_cookies_alone() -> None:
    """It knows of no cookie."""
    stage = Stage(make_config(make_pool("web", NODES)))
    origin = stage.start(get(b"x"))
    assert b"\r\nCookie: SRV=x\r\n" in origin.sent
    stage.answer(origin, OK)
    assert stage.got == OK


def test_the_policy_hash_may_go_by_the_same_cookie() -> None:
    """It looks before the cookie is taken out; two cookies with one name are found in any order."""
    nodes = tuple(make_backend(name, port=8001 + number) for number, name in enumerate("abcdefgh"))
    stage = stage_of(nodes, policy="hash", hash="cookie:SRV")
    ports = {exchange(stage, get(b"key%d" % number))[0] for number in range(40)}
    assert len(ports) > 3


def test_answers_of_a_node_keep_their_own_cookies() -> None:
    """Ours is one more header."""
    stage = stage_of()
    answer = exchange(stage, get(), OK.replace(b"\r\n", b"\r\nSet-Cookie: sid=1\r\nset-cookie: SRV=theirs\r\n", 1))[1]
    assert b"\r\nSet-Cookie: sid=1\r\nset-cookie: SRV=theirs\r\n" in answer
    assert len(given(answer)) == 2


def test_a_route_that_removes_cookies_does_not_remove_ours() -> None:
    """It speaks of the node's answer."""
    pool = make_pool("web", NODES, sticky=sticky())
    route = Route(None, None, "web", response_headers=HeaderChanges(remove=("Set-Cookie",)))
    stage = Stage(make_config(pool, routes=(route,)))
    answer = exchange(stage, get(), OK.replace(b"\r\n", b"\r\nSet-Cookie: sid=1\r\n", 1))[1]
    assert [line[:4] for line in given(answer)] == [b"SRV="]


def test_interim_answers_have_no_cookie() -> None:
    """The final one has it, once."""
    stage = stage_of()
    stage.answer(stage.start(get()), b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK)
    interim, _, final = stage.got.partition(b"\r\n\r\n")
    assert given(interim + b"\r\n") == []
    assert len(given(final)) == 1


def test_an_upgrade_gets_the_cookie() -> None:
    """A WebSocket client comes back with it."""
    stage = stage_of()
    origin = stage.start(get(b"", b"Connection: upgrade", b"Upgrade: x"))
    stage.answer(origin, b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
    assert len(given(stage.got)) == 1


def test_answers_of_our_own_have_no_cookie() -> None:
    """A 502 comes from nobody to stick to."""
    stage = stage_of(NODES[:1], retry=Retry(1, frozenset(), 0.2, 3))
    stage.ask(get())
    stage.refuse()
    assert stage.got.startswith(b"HTTP/1.1 502 ")
    assert not given(stage.got)


# who serves


@pytest.mark.parametrize("facts", [{"state": "drain"}, {"weight": 0}, {"backup": True}])
def test_clients_stay_where_nobody_new_goes(facts: dict[str, Any]) -> None:
    """On a drained node, one of weight 0, and one of the backup tier."""
    stage = stage_of()
    change(stage, "b", **facts)
    value = cookie(stage.plane, "b")
    for _ in range(3):
        served, answer = exchange(stage, get(value))
        assert (served, given(answer)) == (8002, [])
    assert {exchange(stage, get())[0] for _ in range(4)} == {8001, 8003}


@pytest.mark.parametrize("facts", [{"state": "drain"}, {"state": "maint"}, {"weight": 0}])
def test_a_node_that_gets_nobody_new_gives_no_cookie(facts: dict[str, Any]) -> None:
    """It may have been asked before it was taken out: that client is to find another one next time."""
    stage = stage_of(config=sticky(max_age=3600.0))
    origin = stage.start(get())
    change(stage, "a", **facts)
    stage.answer(origin, OK)
    assert (stage.got, given(stage.got)) == (OK, [])


def test_a_drained_node_renews_the_cookies_of_its_own_clients() -> None:
    """With a lifetime: they stay for as long as they come."""
    stage = stage_of(config=sticky(max_age=3600.0))
    change(stage, "a", state="drain")
    served, answer = exchange(stage, get(cookie(stage.plane, "a")))
    assert (served, len(given(answer))) == (8001, 1)


@pytest.mark.parametrize("facts", [{"state": "maint"}, {"health": "down"}, {"ejected": True}])
def test_clients_of_a_lost_node_move_once(facts: dict[str, Any]) -> None:
    """They get the cookie of the one that serves them, and stay there when the old one is back."""
    stage = stage_of()
    value = cookie(stage.plane, "b")
    change(stage, "b", **facts)
    served, answer = exchange(stage, get(value))
    new = given(answer)[0].partition(b";")[0].removeprefix(b"SRV=")
    assert served != 8002
    change(stage, "b")
    assert exchange(stage, get(new))[0] == served


def test_clients_of_a_removed_node_move() -> None:
    """Nobody has that value any more."""
    stage = stage_of()
    value = cookie(stage.plane, "c")
    plain = [
        {field: getattr(item, field) for field in Backend.__slots__} for item in stage.plane.config.pools[0].backends
    ]
    stage.plane.update_pools([{"name": "web", "unit": 1, "backends": plain[:2]}])
    served, answer = exchange(stage, get(value))
    assert served == 8001
    assert len(given(answer)) == 1


def test_a_node_that_is_not_checked_yet_keeps_its_clients() -> None:
    """Another serves for the moment, and the cookie stays as it is."""
    stage = stage_of()
    change(stage, "b", health="checking")
    value = cookie(stage.plane, "b")
    served, answer = exchange(stage, get(value))
    assert (served != 8002, given(answer)) == (True, [])
    change(stage, "b")
    assert exchange(stage, get(value))[0] == 8002


def test_a_refused_connection_moves_the_client() -> None:
    """Another node serves the request, and is the client's from now on."""
    stage = stage_of()
    stage.ask(get(cookie(stage.plane, "b")))
    assert port(stage) == 8002
    stage.refuse()
    served = port(stage)
    stage.answer(stage.accept(), OK)
    assert served != 8002
    (line,) = given(stage.got)
    assert line.startswith(b"SRV=" + cookie(stage.plane, {8001: "a", 8003: "c"}[served]))


def test_a_kept_connection_that_broke_does_not_move_the_client() -> None:
    """The node may just have closed it as idle: another serves this request, the cookie stays."""
    stage = stage_of()
    value = cookie(stage.plane, "b")
    origin = stage.start(get(value))
    stage.answer(origin, OK)
    assert stage.got == OK
    stage.ask(get(value))
    stage.answer(origin, RST)
    assert port(stage) != 8002
    stage.answer(stage.accept(), OK)
    assert stage.got == OK
    stage.ask(get(value))
    assert port(stage) == 8002, "it was not lost"


def test_a_drained_node_that_is_the_last_one_is_tried_again() -> None:
    """As one that is ready would be: its clients are to notice nothing of a kept connection that it closed."""
    stage = stage_of(NODES[:1])
    value = cookie(stage.plane, "a")
    origin = stage.start(get(value))
    stage.answer(origin, OK)
    change(stage, "a", state="drain")
    assert stage.got == OK
    stage.ask(get(value))
    stage.answer(origin, RST)
    stage.answer(stage.accept(), OK)
    assert stage.got == OK


def test_a_drained_node_that_fails_and_is_the_last_one_is_not_tried_for_ever() -> None:
    """The client gets the failure at once: it was the only one that could be reached."""
    stage = stage_of(NODES[:1])
    change(stage, "a", state="drain")
    stage.ask(get(cookie(stage.plane, "a")))
    stage.refuse()
    assert stage.got.startswith(b"HTTP/1.1 502 ")
    assert not stage.loop.dials


def test_a_new_connection_that_broke_moves_the_client() -> None:
    """The node took it and then broke off."""
    stage = stage_of()
    stage.answer(stage.start(get(cookie(stage.plane, "b"))), RST)
    stage.answer(stage.accept(), OK)
    assert len(given(stage.got)) == 1


def test_a_gateway_error_that_is_retried_moves_the_client() -> None:
    """One that isn't is the node's answer, and the client stays."""
    unavailable = OK.replace(b"200 OK", b"503 No")
    for on, moves in (({"503"}, True), ({"connect"}, False)):
        stage = stage_of(retry=Retry(2, frozenset(on), 0.5, 5))
        origin = stage.start(get(cookie(stage.plane, "b")))
        stage.answer(origin, unavailable)
        if moves:
            stage.answer(stage.accept(), OK)
        assert len(given(stage.got)) == moves


def test_another_node_s_failure_does_not_move_the_client() -> None:
    """Its own was only full; the one that stood in failed."""
    nodes = (NODES[0], replace(NODES[1], max_conns=1), NODES[2])
    stage = stage_of(nodes)
    value = cookie(stage.plane, "b")
    stage.start(get(value))
    stage.client = stage.plane.connect()
    stage.ask(get(value))
    assert port(stage) != 8002
    stage.refuse()
    stage.answer(stage.accept(), OK)
    assert stage.got == OK


# max_conns and the queue


def full(*, queue: int = 3) -> tuple[Stage, FakeTransport]:
    """Two nodes that take one request each, of which ``b`` is busy with one of its own clients."""
    nodes = (replace(NODES[0], max_conns=1), replace(NODES[1], max_conns=1))
    stage = stage_of(nodes, queue=Queue(queue, 5.0))
    origin = stage.start(get(cookie(stage.plane, "b")))
    stage.client = stage.plane.connect()
    return stage, origin


def test_a_full_node_keeps_its_clients() -> None:
    """Another serves while there is no room, and the cookie stays."""
    stage, _ = full()
    stage.ask(get(cookie(stage.plane, "b")))
    assert port(stage) == 8001
    stage.answer(stage.accept(), OK)
    assert stage.got == OK


def test_whoever_waits_takes_the_first_room_there_is() -> None:
    """Its own node's if it may choose; nobody who sticks to a node overtakes those who wait."""
    stage, busy = full()
    stage.start(get(cookie(stage.plane, "a")))
    stage.client = first = stage.plane.connect()
    stage.ask(get())
    stage.client = second = stage.plane.connect()
    stage.ask(get(cookie(stage.plane, "b")))
    assert len(stage.plane.pools["web"].line) == 2
    stage.answer(busy, OK)
    assert busy.sent.count(b"GET / ") == 2, "the connection is used again"
    stage.answer(busy, OK)
    assert len(given(bytes(first.sent))) == 1, "the first in the line is a new client"
    stage.answer(busy, OK)
    assert given(bytes(second.sent)) == []
    assert second.sent.endswith(b"\r\n\r\nhi")


@pytest.mark.parametrize(("name", "served"), [("a", 8001), ("b", 8002)])
def test_whoever_waits_prefers_its_own_node(name: str, served: int) -> None:
    """When there is room on both, whosever turn it is."""
    stage, _ = full()
    stage.start(get(cookie(stage.plane, "a")))
    stage.client = stage.plane.connect()
    stage.ask(get(cookie(stage.plane, name)))
    assert not stage.loop.dials
    for backend in stage.plane.pools["web"].pool.backends:
        backend.max_conns = 2
    stage.plane.pools["web"].line.wake()
    stage.plane.run()
    assert port(stage) == served


def test_clients_of_a_drained_node_do_not_wait_for_others() -> None:
    """Who waits can't have that room."""
    stage, _ = full()
    stage.start(get(cookie(stage.plane, "a")))
    stage.client = stage.plane.connect()
    stage.ask(get())
    pool = stage.plane.pools["web"].pool
    pool.backends[1].state = "drain"
    pool.backends[1].max_conns = 0
    pool.rebuild()
    assert len(stage.plane.pools["web"].line) == 1
    stage.client = stage.plane.connect()
    stage.ask(get(cookie(stage.plane, "b")))
    assert port(stage) == 8002


# who is seen


def test_who_comes_back_is_seen() -> None:
    """Clients that came with a valid cookie and got their node, once each, until they are told of."""
    stage = stage_of()
    exchange(stage, get())
    assert stage.plane.take_seen() == {}
    for _ in range(2):
        exchange(stage, get(cookie(stage.plane, "b")))
    (numbers,) = [seen["b"] for seen in stage.plane.take_seen().values()]
    assert len(numbers) == 1
    assert stage.plane.take_seen() == {}


def test_seeing_is_bounded() -> None:
    """An attack from many addresses costs no memory; who is left out comes into a later report."""
    plane = FakePlane(make_config(make_pool("web", NODES)))
    served = ServedSticky(sticky(), plane.pools["web"].pool)
    backend = plane.pools["web"].pool.backends[0]
    for number in range(SEEN_MAX + 5):
        served.note(backend, b"%d" % number)
    assert len(served.take_seen()["a"]) == SEEN_MAX
    served.note(backend, b"%d" % (SEEN_MAX + 1))
    assert len(served.take_seen()["a"]) == 1


# explain


@pytest.mark.parametrize(
    ("value", "facts", "backend", "text"),
    [
        ("", {}, "a", "no cookie SRV: it gets one"),
        ("b", {}, "b", "cookie SRV is of b"),
        ("b", {"state": "drain"}, "b", "cookie SRV is of b"),
        ("b", {"state": "maint"}, "a", "cookie SRV is of b, which is lost (maint): it gets another"),
        ("b", {"health": "down"}, "a", "cookie SRV is of b, which is lost (down): it gets another"),
        ("b", {"ejected": True}, "a", "cookie SRV is of b, which is lost (ejected): it gets another"),
        (
            "b",
            {"health": "checking"},
            "a",
            "cookie SRV is of b, which can't serve now (checking): another does, the cookie stays",
        ),
        ("gone", {}, "a", "cookie SRV is ignored: it is of no backend of this pool, or made up"),
        ("forged", {}, "a", "cookie SRV is ignored: it was made with another secret, or made up"),
    ],
)
def test_explain_says_what_the_cookie_does(value: str, facts: dict[str, Any], backend: str, text: str) -> None:
    """And picks as a request would."""
    stage = stage_of()
    made = {
        "b": cookie(stage.plane, "b"),
        "gone": cookie(stage.plane, "b")[:-1],
        "forged": b"0000.AAAAAAAAAAAAAAAAAAAAAA",
    }
    change(stage, "b", **facts)
    headers = [["Host", "a"], ["Cookie", f"SRV={made[value].decode()}"]] if value else [["Host", "a"]]
    question = {"method": "GET", "url": "/", "headers": headers, "sender": "192.0.2.1"}
    answer = explain(stage.plane, question)
    assert (answer["backend"], answer["sticky"]) == (backend, text)
    assert [row["name"] for row in answer["backends"] if row["picked"]] == [backend]
    assert answer["refused"] is None
    assert stage.plane.take_seen() == {}
    assert exchange(stage, get(made[value] if value else b""))[0] == {"a": 8001, "b": 8002}[backend]


def test_explain_of_a_drained_pool() -> None:
    """Sticky clients are served still, others refused."""
    stage = stage_of(NODES[:1])
    change(stage, "a", state="drain")
    value = cookie(stage.plane, "a").decode()
    question = {"method": "GET", "url": "http://a/", "headers": [["Cookie", f"SRV={value}"]], "sender": "192.0.2.1"}
    assert explain(stage.plane, question)["refused"] is None
    assert explain(stage.plane, {**question, "headers": []})["refused"]["status"] == 503
