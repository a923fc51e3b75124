"""Pins what becomes of one request: who gets it, how often, what the client and the log are told."""

from dataclasses import replace
from typing import Any

import pytest

from pyproxy.config.runtime import HeaderChanges, Limits, Retry, Route
from pyproxy.observe.metrics import ENDS
from tests.unit.proxy.planes import Stage, make_backend, make_config, make_pool

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n"
OLD = b"GET / HTTP/1.0\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
TWO = (make_backend("a", port=8001), make_backend("b", port=8002))
UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
RST = ConnectionResetError("reset")


def two(**changes: Any) -> Stage:
    """Two backends, so that a second attempt goes elsewhere."""
    return Stage(make_config(make_pool("web", TWO, **changes)))


def retrying(*on: str) -> Retry:
    """Two attempts."""
    return Retry(attempts=2, on=frozenset(on), budget=0.5, min=5)


def test_the_plain_case() -> None:
    """A request goes to a backend and its answer to the client; both connections stay."""
    stage = Stage()
    stage.ask(GET)
    origin = stage.accept()
    assert origin.sent.startswith(b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\n")
    stage.answer(origin, OK)
    assert stage.got == OK
    assert stage.ends == [(200, "--")]
    stage.ask(GET)
    assert not stage.loop.dials, "the connection is used again"
    stage.answer(origin, OK)
    assert stage.got == OK


def test_a_record_for_the_log() -> None:
    """The finished exchange has all that a log line and the metrics need."""
    stage = Stage()
    stage.ask(b"GET /x HTTP/1.1\r\nHost: a\r\nX-Request-Id: theirs\r\n\r\n")
    stage.wait(0.5)
    origin = stage.accept()
    stage.wait(1.0)
    stage.answer(origin, OK[:-1])
    stage.wait(0.25)
    stage.answer(origin, OK[-1:])
    (record,) = stage.plane.finished
    (attempt,) = record.attempts
    assert (record.client, record.listener, record.pool, record.request_id) == (b"192.0.2.1", "http", "web", b"theirs")
    assert (record.status, record.bytes_sent, record.end) == (200, 2, "--")
    assert record.duration == pytest.approx(1.75, abs=0.11)
    assert (attempt.backend, attempt.status) == (b"web1", 200)
    assert attempt.connect_time == pytest.approx(0.5, abs=0.11)
    assert attempt.header_time == pytest.approx(1.5, abs=0.11)
    assert attempt.duration == pytest.approx(1.75, abs=0.11)


def test_counters() -> None:
    """Every end is counted once, in each of the places where someone looks for it."""
    stage = two(retry=retrying("reset"))
    stage.ask(GET)
    stage.answer(stage.accept(), RST)
    stage.answer(stage.accept(), OK)
    row, layout = stage.plane.row, stage.plane.layout
    assert row[layout.codes("http", "web") + 1] == 1
    assert row[layout.end("--")] == 1
    assert row[layout.retries("web")] == 1
    assert [row[layout.backend_total(seat)] for seat in (0, 1)] == [1, 1]
    assert [row[layout.backend_errors(seat)] for seat in (0, 1)] == [1, 0]
    assert [row[layout.backend_codes(seat) + 1] for seat in (0, 1)] == [0, 1]
    assert [row[layout.backend_active(seat)] for seat in (0, 1)] == [0, 0]
    assert sum(row[layout.end(end)] for end in ENDS) == 1


def test_a_made_request_id_is_sent_and_logged() -> None:
    """Without an id of the client's one is made, of 32 hexadecimal digits, anew for each request."""
    stage = Stage()
    stage.ask(GET)
    origin = stage.accept()
    stage.answer(origin, OK)
    stage.ask(GET)
    stage.answer(origin, OK)
    ids = {record.request_id for record in stage.plane.finished}
    assert len(ids) == 2
    assert all(len(each) == 32 and b"X-Request-Id: " + each in origin.sent for each in ids)


# attempts


def test_a_refused_connection_goes_to_another_backend() -> None:
    """Nothing was sent: every method may be tried again, its body still there."""
    stage = two()
    stage.ask(POST + b"body")
    stage.refuse()
    origin = stage.accept()
    assert origin.sent.endswith(b"\r\n\r\nbody")
    stage.answer(origin, OK)
    assert stage.ends == [(200, "--")]
    assert [(attempt.backend, attempt.status) for attempt in stage.plane.finished[0].attempts] == [
        (b"a", 0),
        (b"b", 200),
    ]


def test_a_dead_connection_is_tried_again_only_for_what_may_be_sent_twice() -> None:
    """GET goes elsewhere; POST could have been done already."""
    for raw, retried in ((GET, True), (POST.replace(b"4", b"0"), False), (GET.replace(b"GET", b"PUT"), True)):
        stage = two()
        stage.answer(stage.start(raw), RST)
        assert bool(stage.loop.dials) is retried
        assert not retried or stage.loop.dials[0].address[1] == 8002


def test_a_stale_connection_from_keepalive() -> None:
    """A connection that dies under a request, as stale ones do, costs an attempt and not the request."""
    stage = Stage()
    origin = stage.start(GET)
    stage.answer(origin, OK)
    stage.ask(GET)
    stage.answer(origin, None)
    stage.answer(stage.accept(), OK)
    assert stage.ends == [(200, "--"), (200, "--")]


def test_a_body_that_is_gone_is_not_sent_again() -> None:
    """A body is not kept once it was sent."""
    for early, late in ((b"bo", b""), (b"", b"bo")):
        stage = two()
        origin = stage.start(POST.replace(b"POST", b"PUT") + early)
        stage.ask(late)
        stage.answer(origin, RST)
        assert not stage.loop.dials
        assert stage.ends == [(502, "SH")]


def test_no_second_attempt_after_bytes_went_downstream() -> None:
    """Not even after an interim answer."""
    stage = two(retry=retrying("reset", "503"))
    origin = stage.start(GET)
    stage.answer(origin, b"HTTP/1.1 103 Early Hints\r\n\r\n", RST)
    assert not stage.loop.dials
    assert stage.ends == [(502, "SH")]


def test_attempts_are_counted() -> None:
    """Two attempts are two, then the last error is the answer."""
    stage = two()
    stage.ask(GET)
    stage.refuse()
    stage.wait(3.3)
    assert stage.ends == [(504, "sC")]
    assert not stage.loop.dials


def test_a_gateway_error_can_be_retried() -> None:
    """503 of one backend becomes the answer of the other, without a byte of the first."""
    stage = two(retry=retrying("503"))
    stage.answer(stage.start(GET), b"HTTP/1.1 503 No\r\nContent-Length: 5\r\n\r\nsorry")
    assert stage.got == b""
    stage.answer(stage.accept(), OK)
    assert stage.got == OK


def test_the_last_gateway_error_is_the_answer() -> None:
    """When nothing is left to try, the client gets what the backend said."""
    stage = two(retry=retrying("503"))
    sorry = b"HTTP/1.1 503 No\r\nContent-Length: 5\r\n\r\nsorry"
    stage.answer(stage.start(GET), sorry)
    stage.answer(stage.accept(), sorry)
    assert stage.got == sorry
    assert stage.ends == [(503, "--")]


def test_who_names_no_host_came_to_an_address() -> None:
    """HTTP/1.0 without Host: every backend is told that address, and none its own, which it could lead strangers to."""
    stage = two()
    first = stage.start(OLD)
    assert b"Host: 192.0.2.9\r\n" in first.sent
    stage.answer(first, RST)
    assert b"Host: 192.0.2.9\r\n" in stage.accept().sent


def test_nothing_to_pick() -> None:
    """A pool whose weights are all 0 has nobody: 503, SC, and the connection stays."""
    stage = Stage(make_config(make_pool("web", (make_backend("a", weight=0),))))
    stage.ask(GET)
    assert stage.ends == [(503, "SC")]
    assert not stage.client.is_closing()


def test_no_retry_while_stopping() -> None:
    """Who wants to stop sends nothing again; what was never sent still goes to another backend."""
    stage = two()
    origin = stage.start(GET)
    stage.plane.drain()
    stage.answer(origin, RST)
    assert stage.ends == [(502, "SH")]
    stage = two()
    stage.ask(GET)
    stage.plane.drain()
    stage.refuse()
    stage.answer(stage.accept(), OK)
    assert stage.ends == [(200, "--")]


# refusals of ours


def test_no_route() -> None:
    """404, and the connection goes on."""
    stage = Stage(make_config(routes=(Route("b", None, "web"),)))
    stage.ask(GET)
    assert stage.got.startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert stage.ends == [(404, "PR")]
    assert stage.plane.finished[0].pool == ""
    stage.ask(GET)
    assert len(stage.ends) == 2


@pytest.mark.parametrize("is_chunked", [False, True])
def test_body_limit(is_chunked: bool) -> None:
    """A body exactly as large as allowed passes; one byte more is refused as soon as that is known."""
    limits = Limits(request_line=8192, headers=32768, header_count=100, body=4, connections=0)
    for size, status in ((4, 200), (5, 413)):
        stage = Stage(make_config(limits=limits))
        if is_chunked:
            stage.ask(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            origin = stage.accept()
            stage.ask(b"2\r\nab\r\n", b"%x\r\n%b\r\n0\r\n\r\n" % (size - 2, b"c" * (size - 2)))
        else:
            stage.ask(POST.replace(b"4", b"%d" % size) + b"c" * size)
            if status == 413:
                assert not stage.loop.dials
                origin = None
            else:
                origin = stage.accept()
        if status == 200:
            assert origin is not None
            stage.answer(origin, OK)
        assert stage.ends == [(status, "--" if status == 200 else "PR")]


# answers


def test_head_is_answered_without_a_body() -> None:
    """Also ours."""
    stage = Stage()
    origin = stage.start(GET.replace(b"GET", b"HEAD"))
    stage.answer(origin, OK[:-2])
    assert stage.got == OK[:-2]
    stage.ask(GET.replace(b"GET", b"HEAD"))
    stage.answer(origin, RST)
    stage.refuse()
    assert stage.got.endswith(b"\r\n\r\n")
    assert stage.plane.finished[-1].bytes_sent == 0


@pytest.mark.parametrize("raw", [b"\r\nhello", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"])
def test_a_body_without_length_is_chunked_for_the_new_version(raw: bytes) -> None:
    """The client's framing is ours, and the connection stays, whatever the backend's was."""
    stage = Stage()
    stage.answer(stage.start(GET), b"HTTP/1.1 200 OK\r\n" + raw, None)
    assert stage.got == b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    assert not stage.client.is_closing()


@pytest.mark.parametrize("raw", [b"\r\nhello", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"])
def test_a_body_without_length_ends_the_connection_for_the_old_version(raw: bytes) -> None:
    """HTTP/1.0 has only the end of the connection, which must be an orderly one."""
    stage = Stage()
    keep = OLD[:-2] + b"Connection: keep-alive\r\n\r\n"
    stage.answer(stage.start(keep), b"HTTP/1.1 200 OK\r\n" + raw, None)
    assert stage.got == b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello"
    assert stage.client.is_lost
    assert not stage.client.was_reset


@pytest.mark.parametrize("item", [None, RST])
def test_a_cut_answer_is_cut_for_the_client(item: Exception | None) -> None:
    """Chunked: no last chunk. Known length: too little. Until the end of the connection: a reset instead of an end."""
    cut_chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    for raw, version in ((cut_chunked, b"1.1"), (OK[:-1], b"1.1"), (cut_chunked, b"1.0"), (OK[:-1], b"1.0")):
        stage = Stage()
        stage.answer(stage.start(GET.replace(b"1.1", version)), raw, item)
        assert stage.client.is_lost
        assert b"0\r\n\r\n" not in stage.got
        assert stage.client.was_reset is (raw is cut_chunked and version == b"1.0")
        assert stage.ends == [(200, "SD")]


def test_a_reset_is_no_end_of_a_body() -> None:
    """A body that only the end of the connection ends is cut when that end is a reset."""
    stage = Stage()
    stage.answer(stage.start(GET), b"HTTP/1.1 200 OK\r\n\r\nhello", RST)
    assert stage.ends == [(200, "SD")]
    assert not stage.got.endswith(b"0\r\n\r\n")


def test_trailers_only_for_those_who_take_them() -> None:
    """With TE: trailers they are passed on, else dropped."""
    raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n1\r\na\r\n0\r\nX: y\r\n\r\n"
    for te, tail in ((b"TE: trailers\r\n", b"0\r\nX: y\r\n\r\n"), (b"", b"0\r\n\r\n")):
        stage = Stage()
        stage.answer(stage.start(GET[:-2] + te + b"\r\n"), raw)
        assert stage.got.endswith(b"a\r\n" + tail)


def test_an_answer_gets_a_date() -> None:
    """If it has none; one that is there stays as it is, and what is not the final answer gets none."""
    stage = Stage()
    origin = stage.start(GET)
    stage.answer(origin, b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK)
    stage.ask(GET)
    stage.answer(origin, OK.replace(b"OK\r\n", b"OK\r\ndaTe: Sun, 06 Nov 1994 08:49:37 GMT\r\n"))
    hints, first, second = bytes(stage.client.sent).lower().split(b"http/1.1 ")[1:]
    date = b"date: %b\r\n" % stage.plane.date.lower()
    assert [part.count(b"date: ") for part in (hints, first, second)] == [0, 1, 1]
    assert date in first
    assert b"date: sun, 06 nov 1994" in second


def test_a_route_has_the_last_word_on_the_date() -> None:
    """Also on one that is ours."""
    stage = Stage(make_config(routes=(Route(None, None, "web", response_headers=HeaderChanges((), ("date",))),)))
    stage.answer(stage.start(GET), OK)
    assert b"Date:" not in stage.client.sent


@pytest.mark.parametrize(("status", "is_told"), [(b"426", True), (b"200", False), (b"101", False)])
def test_what_a_client_must_upgrade_to(status: bytes, is_told: bool) -> None:
    """A 426 says it (RFC 9110, 15.5.22); in other answers it is an offer that is ours to make."""
    stage = Stage()
    lines = b" X\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n"
    stage.answer(stage.start(GET), b"HTTP/1.1 " + status + lines)
    assert (b"Connection: upgrade\r\nUpgrade: websocket\r\n" in stage.got) == is_told


def test_interim_answers_are_passed_on() -> None:
    """100 and 103 to clients that know them, the final answer to all."""
    for raw, passed in ((GET, True), (OLD, False)):
        stage = Stage()
        stage.answer(stage.start(raw), b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + OK)
        got = stage.got
        assert got.startswith(b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200") is passed
        assert got.count(b"HTTP/1.1 200") == 1
        assert stage.ends == [(200, "--")]


def test_an_early_answer_ends_the_upload() -> None:
    """The answer goes out at once; the rest of the upload is thrown away, and the connection isn't used again."""
    stage = Stage()
    origin = stage.start(POST + b"a")
    stage.answer(origin, OK)
    assert b"Connection: close" in stage.got
    assert stage.client.is_eof_sent, "the answer can be read before the connection goes"
    assert origin.is_lost
    stage.ask(b"bc", b"d" * 100_000)
    assert stage.ends == [(200, "--")]
    assert stage.client.is_reading()


def test_backend_head_before_the_upload_is_over() -> None:
    """Both directions go on at once; a head that came early still says that the connection won't be kept."""
    stage = Stage()
    origin = stage.start(POST + b"a")
    stage.answer(origin, OK[:-2])
    stage.ask(b"bcd")
    assert origin.sent.endswith(b"abcd")
    stage.answer(origin, OK[-2:])
    assert stage.ends == [(200, "--")]
    assert b"Connection: close" in stage.got


def test_a_long_upload_keeps_an_early_answer_alive() -> None:
    """Bytes that flow to the backend are activity: a body may go both ways for longer than the idle timeout."""
    stage = Stage()
    origin = stage.start(POST.replace(b"4", b"9"))
    stage.answer(origin, OK[:-2])
    for _ in range(9):
        stage.wait(5.0)
        stage.ask(b"x")
    stage.answer(origin, OK[-2:])
    assert stage.ends == [(200, "--")]


def test_a_head_must_be_complete_in_time() -> None:
    """However the head drips, the response timeout runs from the end of the request."""
    stage = Stage()
    origin = stage.start(GET)
    for _ in range(30):
        stage.wait(1.0)
        if not origin.is_lost:
            stage.answer(origin, b"HTTP/1.1 103 Early Hints\r\n\r\n" if _ == 3 else b"")
    assert stage.ends == [(504, "sH")]


def test_a_dripping_body_is_fine() -> None:
    """The idle timeout is between two reads."""
    stage = Stage()
    origin = stage.start(GET)
    stage.answer(origin, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
    for _ in range(9):
        stage.wait(10.0)
        stage.answer(origin, b"x")
    assert stage.ends == [(200, "--")]


def test_keep_alive_is_limited() -> None:
    """The last request that a client's connection may carry is told so."""
    config = make_config()
    stage = Stage(replace(config, client=replace(config.client, max_requests=2)))
    origin = stage.start(GET)
    stage.answer(origin, OK)
    assert b"Connection: close" not in stage.got
    stage.ask(GET)
    stage.answer(origin, OK)
    assert b"Connection: close" in stage.got
    assert stage.client.is_lost


def test_stopping_says_close() -> None:
    """While stopping the answer is whole and the last one."""
    stage = Stage()
    origin = stage.start(GET)
    stage.plane.drain()
    stage.answer(origin, OK)
    got = stage.got
    assert b"Connection: close" in got
    assert got.endswith(b"hi")
    assert stage.client.is_lost
    assert origin.is_lost


def test_an_upgrade_that_is_declined() -> None:
    """Another answer than 101 is an answer; the requests behind it are read."""
    stage = Stage()
    origin = stage.start(UPGRADE + GET)
    stage.answer(origin, OK)
    stage.answer(origin, OK)
    assert stage.ends == [(200, "--"), (200, "--")]
    assert origin.sent.count(b"Upgrade: x") == 1


def test_trusted_sender_in_the_log() -> None:
    """Behind a trusted proxy the log has the client, and the backend the whole chain."""
    stage = Stage(make_config(trusted_proxies=("192.0.2.0/24",)))
    origin = stage.start(GET[:-2] + b"X-Forwarded-For: 6.6.6.6, 1.1.1.1\r\n\r\n")
    assert b"X-Forwarded-For: 6.6.6.6, 1.1.1.1, 192.0.2.1\r\n" in origin.sent
    stage.answer(origin, OK)
    assert stage.plane.finished[0].client == b"1.1.1.1"


def test_an_untrusted_sender_cannot_forge() -> None:
    """What it says of itself doesn't reach the backend."""
    stage = Stage()
    origin = stage.start(GET[:-2] + b"X-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\n\r\n")
    assert b"6.6.6.6" not in origin.sent
    stage.answer(origin, OK)
    assert stage.plane.finished[0].client == b"192.0.2.1"


def test_repr() -> None:
    """Logs say which request it is and how far it has come."""
    stage = Stage()
    stage.ask(GET)
    assert repr(stage.leg.exchange) == "<Exchange <RequestHead GET b'/' HTTP/1.1> DONE/CONNECTING 1 attempts>"
