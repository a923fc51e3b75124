"""Pins the client's connection: order of requests, its deadlines, what it does when it ends."""

import gc
from dataclasses import replace
from typing import Any

import pytest

from pyproxy.config.runtime import Limits, Route
from pyproxy.http1.head import RequestHead
from pyproxy.http1.request import RequestReader
from pyproxy.http1.response import ResponseReader
from pyproxy.proxy.exchange import Exchange
from pyproxy.proxy.plane import REFUSED_MAX
from tests.fakes import FakeTransport
from tests.unit.proxy.network import Asked, Client
from tests.unit.proxy.planes import Stage, make_config

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
RST = ConnectionResetError("reset")


def limited(**changes: Any) -> Stage:
    """Serve with other limits."""
    config = make_config()
    return Stage(replace(config, limits=replace(config.limits, **changes)))


def nowhere() -> Stage:
    """Serve nothing but 404."""
    return Stage(make_config(routes=(Route("b", None, "web"),)))


def answer_all(stage: Stage, origin: FakeTransport, count: int) -> None:
    """Answer one request after the other, each only when it has come."""
    for index in range(count):
        assert origin.sent.count(b"\r\n\r\n") == index + 1, "the next request waits for the answer"
        stage.answer(origin, OK)


# order


@pytest.mark.parametrize("segments", [1, 2, 7, 1000])
def test_pipelined_requests_are_answered_in_order_one_at_a_time(segments: int) -> None:
    """However they are cut; afterwards the connection reads again."""
    raw = b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % index for index in range(6))
    size = -(-len(raw) // segments)
    stage = Stage()
    stage.ask(*(raw[at : at + size] for at in range(0, len(raw), size)))
    origin = stage.accept()
    answer_all(stage, origin, 6)
    assert stage.got == OK * 6
    assert [record.head.target for record in stage.plane.finished if record.head] == [b"/%d" % i for i in range(6)]
    assert stage.client.is_reading()
    stage.ask(GET)
    assert origin.sent.count(b"\r\n\r\n") == 7


def test_thousands_in_one_segment() -> None:
    """They are read in slices: what isn't served yet is bytes, not parsed heads, and reading stops meanwhile."""
    stage = Stage()
    stage.ask(GET * 4000)
    origin = stage.accept()
    assert not stage.client.is_reading()
    waiting = stage.leg._events
    assert 0 < len(waiting) < 1000
    assert all(isinstance(event, RequestHead) for event in waiting)
    for _ in range(4000):
        stage.answer(origin, OK)
    assert stage.ends == [(200, "--")] * 1000
    assert stage.client.is_lost, "1000 requests are all that a connection carries"


def test_thousands_of_own_answers_do_not_recurse() -> None:
    """Answers that need no backend are made in a loop, not one inside the other."""
    config = make_config(routes=(Route("b", None, "web"),))
    stage = Stage(replace(config, client=replace(config.client, max_requests=10_000)))
    stage.ask(GET * 3000)
    assert stage.ends == [(404, "PR")] * 3000


def test_who_does_not_read_answers_is_not_asked_for_more() -> None:
    """Small requests with our own answers, never read: what waits to be sent must stay bounded."""
    config = make_config(routes=(Route("b", None, "web"),))
    stage = Stage(replace(config, client=replace(config.client, max_requests=10**6)))
    stage.client.window = 0
    for _ in range(100):
        stage.ask(GET * 100)
    assert stage.client.peak_buffer_bytes < 200_000
    stage.wait(200.0)
    assert stage.client.is_lost


def test_a_backend_is_not_read_for_a_client_that_still_has_an_answer_to_read() -> None:
    """An answer of ours fills the buffer; the next answer's body must not pile up behind it."""
    stage = Stage(make_config(routes=(Route("a", None, "web"),)))
    stage.client.window = 0
    stage.ask(GET)
    origin = stage.accept()
    body = b"x" * 65_000
    stage.answer(origin, b"HTTP/1.1 200 OK\r\nContent-Length: 65000\r\n\r\n" + body)
    stage.ask(GET.replace(b"Host: a", b"Host: b") * 5, GET)
    for _ in range(20):
        stage.answer(origin, b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n" if _ == 0 else body)
    assert stage.client.peak_buffer_bytes < 250_000


@pytest.mark.parametrize("second", [b"0\r\n\r\n", b"1\r\na\r\n0\r\n\r\n"], ids=["empty", "one-byte"])
def test_a_chunked_request_behind_another_in_one_segment(second: bytes) -> None:
    """Two requests are never taken for one with its body, whatever the second one's body is."""
    stage = Stage()
    upload = b"POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + second
    origin = stage.start(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n" + upload)
    stage.answer(origin, OK)
    stage.answer(origin, OK)
    assert [line.split(b" ")[:2] for line in bytes(origin.sent).split(b"\r\n") if line.endswith(b"HTTP/1.1")] == [
        [b"GET", b"/1"],
        [b"POST", b"/2"],
    ]
    assert bytes(origin.sent).endswith(b"\r\n\r\n" + second)
    assert stage.ends == [(200, "--"), (200, "--")]


def test_bodies_and_requests_in_one_segment() -> None:
    """What follows a body in the same segment waits, and is read."""
    stage = Stage()
    stage.ask((POST + b"body") * 3 + GET)
    origin = stage.accept()
    for _ in range(4):
        stage.answer(origin, OK)
    assert origin.sent.count(b"body") == 3
    assert stage.ends == [(200, "--")] * 4
    assert stage.client.is_reading()


@pytest.mark.parametrize("cut", [1, 50, 90, 100_000])
def test_a_post_in_any_pieces_leaves_the_connection_reading(cut: int) -> None:
    """Whether the body came with the head, before the backend was there, or later."""
    for early in (True, False):
        stage = Stage()
        raw = POST + b"body"
        stage.client.receive(*(raw[at : at + cut] for at in range(0, len(raw), cut)))
        if early:
            stage.plane.run()
        else:
            while not stage.loop.dials:
                stage.loop.turn()
        stage.answer(stage.accept(), OK)
        assert stage.ends == [(200, "--")]
        assert stage.client.is_reading()


def test_an_error_behind_a_good_request_waits_for_its_turn() -> None:
    """The good request is answered first, then the bad one refused."""
    stage = Stage()
    stage.ask(GET + b"NONSENSE\r\n\r\n")
    origin = stage.accept()
    assert stage.ends == []
    stage.answer(origin, OK)
    assert stage.ends == [(200, "--"), (400, "PR")]
    assert stage.got.startswith(OK + b"HTTP/1.1 400 ")


def test_a_large_body_is_not_kept() -> None:
    """Before there is a backend only what one read brought is kept; then it goes through."""
    stage = Stage()
    stage.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
    stage.ask(b"x" * 250_000, b"y" * 250_000)
    assert len(stage.client.inbox) == 1, "the second piece stays in the kernel"
    origin = stage.accept()
    assert not stage.client.inbox
    assert origin.sent.endswith(b"y" * 250_000)


def test_a_body_passes_without_a_copy() -> None:
    """The object that was read is the object that is written, both ways, when it is large."""
    stage = Stage()
    origin = stage.start(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
    up, down = b"u" * 50_000, b"d" * 50_000
    stage.ask(up, up)
    assert sum(piece is up for piece in origin.pieces) == 2
    stage.answer(origin, b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", down, down)
    assert sum(piece is down for piece in stage.client.pieces) == 2


# the end


def test_a_refusal_lingers() -> None:
    """Our half ends, so that the answer is read; what still comes is thrown away; silence or a FIN ends it."""
    stage = Stage()
    stage.ask(b"NONSENSE\r\n\r\n")
    assert stage.client.is_eof_sent
    stage.ask(b"more" * 10_000, GET)
    assert not stage.client.is_closing()
    assert stage.ends == [(400, "PR")]
    stage.wait(5.3)
    assert stage.client.is_lost
    again = Stage()
    again.ask(b"NONSENSE\r\n\r\n")
    again.leave()
    assert again.client.is_lost
    assert again.ends == [(400, "PR")]


def test_lingering_is_bounded() -> None:
    """A client that never stops sending is thrown out in the end."""
    stage = Stage()
    stage.ask(b"NONSENSE\r\n\r\n")
    for _ in range(40):
        stage.ask(b"more")
        stage.wait(1.0)
    assert stage.client.is_lost


def test_dropping_bytes_of_an_unframed_answer_is_visible() -> None:
    """A client that must take the end of the connection for the end of the body sees RST when it isn't (fact 3)."""
    stage = Stage()
    stage.client.window = 30
    origin = stage.start(b"GET / HTTP/1.0\r\n\r\n")
    stage.answer(origin, b"HTTP/1.1 200 OK\r\n\r\nlong body", None)
    assert stage.ends == [(200, "--")]
    stage.wait(15.0)
    assert stage.client.is_lost
    assert stage.client.was_reset


@pytest.mark.parametrize("error", [None, RST])
def test_a_client_that_leaves(error: Exception | None) -> None:
    """FIN and RST mean the same: nobody waits, the backend's connection goes, nothing is written any more."""
    stage = Stage()
    origin = stage.start(GET)
    stage.leave(error)
    assert stage.client.is_lost
    assert origin.is_lost
    assert stage.got == b""
    assert stage.ends == [(499, "CH")]
    assert stage.plane.connections == 0


def test_an_idle_client_leaves_no_line() -> None:
    """A connection that was only kept open, or only opened, ends without a word."""
    stage = Stage()
    stage.leave()
    assert stage.ends == []
    assert stage.plane.row[stage.plane.layout.connections("http")] == 0
    assert stage.plane.row[stage.plane.layout.connections_total("http")] == 1


def test_connection_limit() -> None:
    """One connection more than allowed is told so and lingers; when one goes there is room again."""
    stage = limited(connections=1)
    second = stage.plane.connect()
    assert second.sent.startswith(b"HTTP/1.1 503 ")
    assert second.is_eof_sent
    assert stage.ends == [(503, "RC")]
    stage.leave()
    second.receive(None)
    stage.plane.run()
    third = stage.plane.connect()
    assert third.sent == b""


def test_connection_limit_is_also_for_those_who_send_at_once() -> None:
    """A request that arrives with the connection doesn't get it past the limit."""
    stage = limited(connections=1)
    transport = FakeTransport(stage.loop, stage.plane.accept("http")())
    transport.receive(GET)
    transport.start()
    transport.poll()
    stage.plane.run()
    assert transport.sent.startswith(b"HTTP/1.1 503 ")
    assert not stage.loop.dials


def test_refused_connections_take_nobody_s_place() -> None:
    """However many are refused and stay, the next within the limit is served; only those within it are counted."""
    stage = limited(connections=2)
    second = stage.plane.connect()
    refused = [stage.plane.connect() for _ in range(100)]
    assert all(one.sent.startswith(b"HTTP/1.1 503 ") for one in refused)
    assert stage.plane.row[stage.plane.layout.connections("http")] == 2
    second.receive(None)
    stage.plane.run()
    third = stage.plane.connect()
    assert third.sent == b""
    assert not third.is_eof_sent


def test_refused_connections_are_bounded_in_number_and_time() -> None:
    """A few may read their answer in peace, the others close at once; a byte now and then keeps none of them."""
    stage = limited(connections=1)
    refused = [stage.plane.connect() for _ in range(100)]
    stage.plane.run()
    assert sum(not one.is_closing() for one in refused) == REFUSED_MAX
    assert not refused[-1].is_closing()
    for _ in range(3):
        for one in refused:
            if not one.is_closing():
                one.receive(b"x")
        stage.wait(0.5)
    assert all(one.is_lost for one in refused)
    assert stage.plane.connections == 1


def test_those_who_linger_are_not_counted() -> None:
    """A client that was refused and stays takes no place of the limit, until its end and after it."""
    stage = limited(connections=1)
    stage.ask(b"NONSENSE\r\n\r\n")
    assert not stage.client.is_closing()
    second = stage.plane.connect()
    assert second.sent == b""
    stage.wait(6.0)
    assert stage.client.is_lost
    assert stage.plane.row[stage.plane.layout.connections("http")] == 1
    assert stage.plane.connections == 1


# stopping


def test_drain() -> None:
    """Idle connections close at once; new ones may still send a first request for a moment."""
    stage = Stage()
    stage.answer(stage.start(GET), OK)
    fresh = stage.plane.connect()
    stage.plane.drain()
    stage.plane.run()
    assert stage.client.is_lost
    assert not fresh.is_closing()
    fresh.receive(GET)
    stage.plane.run()
    stage.answer(stage.accept(), OK)
    assert b"Connection: close" in fresh.sent
    assert fresh.is_lost


def test_drain_does_not_wait_for_those_who_say_nothing() -> None:
    """Connections without a request, and those that only linger, are gone within a little more than a second."""
    stage = Stage()
    lingering = stage.plane.connect()
    lingering.receive(b"NONSENSE\r\n\r\n")
    stage.plane.run()
    stage.plane.drain()
    stage.wait(1.5)
    assert stage.plane.connections == 0


def test_abandon_ends_everything() -> None:
    """When the grace is over: who waits gets 503, who reads an answer sees it cut."""
    stage = Stage()
    origin = stage.start(GET)
    stage.answer(origin, OK[:-1])
    waiting = stage.plane.connect()
    waiting.receive(GET)
    stage.plane.run()
    stage.plane.drain()
    stage.plane.abandon()
    stage.plane.run()
    assert sorted(stage.ends) == [(200, "PD"), (503, "PD")]
    assert waiting.sent.startswith(b"HTTP/1.1 503 ")
    assert stage.plane.connections == 0
    assert stage.client.is_lost


def test_a_crash_costs_one_connection(caplog: pytest.LogCaptureFixture) -> None:
    """An exception of ours is logged once, with a traceback; the client gets 500, everybody else goes on."""
    stage = Stage()
    stage.plane.contains_crashes = True
    other = stage.plane.connect()
    stage.plane.routes = None  # type: ignore[assignment]
    stage.ask(GET)
    assert stage.client.is_lost
    assert [(status, end) for status, end in stage.ends] == [(500, "PH")]
    assert caplog.text.count("Traceback") == 1
    assert not other.is_closing()


def test_the_model_client_sees_what_it_should() -> None:
    """The checks of the wired test do fail when an answer is wrong."""
    stage = Stage()
    client = Client(stage.client)
    client.ask(Asked(1, target=b"/1"))
    client.send(1000)
    stage.plane.run()
    stage.answer(stage.accept(), b"HTTP/1.1 200 OK\r\nX-Answer: 2.0\r\nContent-Length: 0\r\n\r\n")
    with pytest.raises(AssertionError):
        client.check()


def test_everything_is_freed_without_the_garbage_collector() -> None:
    """Parsers hold on to their readers: a lost connection lets go of both, and nothing waits for a collection."""

    def alive() -> int:
        return sum(isinstance(each, RequestReader | ResponseReader | Exchange) for each in gc.get_objects())

    stage = Stage()
    gc.collect()
    before = alive()
    gc.disable()
    try:
        for _ in range(10):
            transport = stage.plane.connect()
            transport.receive(GET)
            stage.plane.run()
            stage.answer(stage.accept(), OK, None)
            transport.receive(None)
            stage.plane.run()
            del transport
        stage.plane.finished.clear()
        assert alive() == before
    finally:
        gc.enable()


def test_repr() -> None:
    """Logs say who it is and what it does."""
    assert repr(Stage().leg) == "<Downstream 192.0.2.1 HTTP 0 requests None>"


def test_limits_are_the_configured_ones() -> None:
    """The reader gets the limits of the configuration."""
    stage = limited(header_count=1)
    stage.ask(GET[:-2] + b"X: y\r\n\r\n")
    assert stage.ends == [(431, "PR")]
    assert isinstance(stage.plane.limits, Limits)
