"""Pins the backend's connections: which are kept, which are not, and how new ones are made."""

import logging

import pytest

from pyproxy.config.runtime import Keepalive, Outlier
from tests.unit.proxy.planes import Stage, make_config, make_pool

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
RST = ConnectionResetError("reset")


def keeping(max_idle: int = 2, max_requests: int = 1000) -> Stage:
    """Serve with other bounds for keepalive."""
    return Stage(make_config(make_pool(keepalive=Keepalive(max_idle, 30.0, max_requests))))


def test_a_connection_is_kept_and_used_again() -> None:
    """One after the other, by whichever client comes."""
    stage = keeping()
    origin = stage.start(GET)
    for _ in range(5):
        stage.answer(origin, OK)
        other = stage.plane.connect()
        other.receive(GET)
        stage.plane.run()
    assert not stage.loop.dials
    assert origin.sent.count(b"\r\n\r\n") == 6


@pytest.mark.parametrize(
    "answer",
    [
        OK.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n"),
        OK.replace(b"1.1", b"1.0"),
        OK + b"x",
        OK + OK,
    ],
    ids=["close", "old version", "a byte too many", "two answers"],
)
def test_a_connection_that_is_not_kept(answer: bytes) -> None:
    """What the backend won't keep, or what carries bytes of nobody (fact 6), is closed; the answer is whole."""
    stage = keeping()
    origin = stage.start(GET)
    stage.answer(origin, answer)
    assert stage.ends == [(200, "--")]
    assert stage.got.endswith(b"\r\n\r\nhi")
    assert origin.is_lost
    assert stage.plane.upstreams() == []


@pytest.mark.parametrize("item", [b"x", OK, None, RST])
def test_an_idle_connection_that_says_something_is_dropped(item: bytes | Exception | None) -> None:
    """Unsolicited bytes, FIN or RST: the next request gets a new connection (response-queue poisoning, fact 6)."""
    stage = keeping()
    origin = stage.start(GET)
    stage.answer(origin, OK)
    stage.answer(origin, item)
    assert origin.is_lost
    stage.ask(GET)
    assert len(stage.loop.dials) == 1
    assert stage.got == OK


def test_max_requests() -> None:
    """A connection carries only so many."""
    stage = keeping(max_requests=2)
    origin = stage.start(GET)
    stage.answer(origin, OK)
    assert not origin.is_closing()
    stage.ask(GET)
    stage.answer(origin, OK)
    assert origin.is_lost


def test_max_idle() -> None:
    """Only so many wait; the others are closed."""
    stage = keeping(max_idle=1)
    origins = [stage.start(GET)]
    other = stage.plane.connect()
    other.receive(GET)
    stage.plane.run()
    origins.append(stage.accept())
    for origin in origins:
        stage.answer(origin, OK)
    assert [origin.is_lost for origin in origins] == [False, True]


def test_an_idle_connection_grows_old() -> None:
    """After keepalive.idle it is closed, without anyone's line in the log."""
    stage = keeping()
    origin = stage.start(GET)
    stage.answer(origin, OK)
    stage.wait(29.8)
    assert not origin.is_closing()
    stage.wait(0.5)
    assert origin.is_lost
    assert len(stage.ends) == 1
    stage.ask(GET)
    assert stage.loop.dials


def test_draining_gives_up_idle_connections() -> None:
    """Nobody will use them any more."""
    stage = keeping()
    origin = stage.start(GET)
    stage.answer(origin, OK)
    stage.plane.drain()
    stage.plane.run()
    assert origin.is_lost


def test_small_pieces_are_joined() -> None:
    """Head and body that are there together leave in one write (fact 16)."""
    stage = keeping()
    stage.ask(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n")
    origin = stage.accept()
    assert len(origin.pieces) == 1
    assert origin.pieces[0].endswith(b"\r\n\r\n4\r\nbody\r\n0\r\n\r\n")
    stage.answer(origin, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n")
    assert len(stage.client.pieces) == 1


def test_an_upload_that_the_backend_does_not_take() -> None:
    """A backend that stops reading fails the attempt after the idle timeout, unless it takes a little."""
    stage = keeping()
    origin = stage.start(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n")
    origin.window = 0
    stage.ask(b"x" * 100_000)
    stage.wait(14.0)
    origin.open_window(10)
    stage.wait(14.0)
    assert stage.ends == []
    stage.wait(3.0)
    assert [end[0] for end in stage.ends] == [504]


# dialling


def test_a_dial_takes_its_time() -> None:
    """Connections come up when they do; until timeouts.connect the request waits."""
    stage = keeping()
    stage.ask(GET)
    stage.wait(2.8)
    stage.answer(stage.accept(), OK)
    assert stage.ends == [(200, "--")]


def test_a_dial_of_a_client_that_left_is_given_up() -> None:
    """Nothing comes of it, and nothing is left."""
    stage = keeping()
    stage.ask(GET)
    stage.leave()
    assert stage.loop.dials == []
    assert not stage.plane.sweeper.watched


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_connection_that_comes_up_while_its_client_leaves(turns: int) -> None:
    """Whichever comes first: the connection isn't forgotten, whether anybody told the protocol or not."""
    stage = keeping()
    stage.ask(GET)
    origin = stage.loop.dials[0].accept()
    for _ in range(turns):
        stage.loop.turn()
    stage.client.receive(None)
    stage.plane.run()
    assert origin.is_lost or origin.is_dropped
    assert not stage.plane.sweeper.watched
    assert stage.ends[0][0] == 499


def test_a_dial_given_up_before_connection_made() -> None:
    """The connection is up, but the protocol hears of it only after its exchange has ended: nothing is left of it."""
    stage = keeping()
    stage.ask(GET)
    stage.loop.dials[0].accept()
    stage.plane.abandon()
    stage.plane.run()
    assert stage.ends == [(503, "PD")]
    assert not stage.plane.sweeper.watched


@pytest.mark.parametrize("item", [b"HTTP/1.1 200 OK\r\n\r\n", None, RST])
def test_a_backend_that_does_not_wait_for_the_request(item: bytes | Exception | None) -> None:
    """Bytes, FIN or RST in the very turn in which the connection comes up: an error, or a retry, but no harm."""
    stage = keeping()
    stage.ask(GET)
    origin = stage.loop.dials[0].accept()
    origin.receive(item)
    stage.plane.run()
    while stage.loop.dials:
        stage.refuse()
    assert stage.ends == [(502, stage.ends[0][1])]
    stage.leave()
    assert not stage.plane.sweeper.watched


@pytest.mark.parametrize("number", [23, 24, 105, 12])
def test_no_descriptor_left(number: int) -> None:
    """That is our own trouble: no second attempt, and the log says so."""
    stage = keeping()
    stage.ask(GET)
    stage.refuse(OSError(number, "limit"))
    assert stage.ends == [(503, "RC")]


def test_a_strange_failure_of_a_dial(caplog: pytest.LogCaptureFixture) -> None:
    """What is no OSError is logged with its traceback and costs one exchange."""
    stage = keeping()
    stage.ask(GET)
    dial = stage.loop.dials.pop()
    with caplog.at_level(logging.ERROR):
        dial.waiter.finish(ValueError("strange"))
        stage.plane.run()
    assert stage.ends == [(500, "PH")]
    assert "strange" in caplog.text


def test_repr() -> None:
    """Logs say which backend it is and whom it serves."""
    stage = keeping()
    stage.answer(stage.start(GET), OK)
    assert [repr(leg) for leg in stage.plane.upstreams()] == ["<Upstream web/web1 1 requests None>"]


UPLOADS = {
    "chunked": (b"Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n", b"4\r\nmore\r\n"),
    "length": (b"Content-Length: 100\r\n\r\nbody", b"more"),
}
REFUSED = b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbig\n"


def refuse_upload(framing: str, *said: bytes) -> Stage:
    """Let the node say something and break off, which the next piece of the upload finds out first."""
    first, more = UPLOADS[framing]
    stage = Stage(make_config(make_pool(outlier=Outlier(3, 10.0, 60.0, 1))))
    origin = stage.start(b"POST / HTTP/1.1\r\nHost: a\r\n" + first)
    origin.receive(*said, RST)
    stage.ask(more)
    assert origin.is_lost
    return stage


@pytest.mark.parametrize("framing", UPLOADS)
@pytest.mark.parametrize("cut", [len(REFUSED), 20, 80])
def test_what_was_said_before_a_write_failed_is_heard(framing: str, cut: int) -> None:
    """A node that refuses an upload and closes has answered: the client reads it, and the node isn't to blame."""
    stage = refuse_upload(framing, *filter(None, (REFUSED[:cut], REFUSED[cut:])))
    assert stage.got == REFUSED
    assert stage.ends == [(413, "--")]
    assert (stage.plane.pools["web"].pool.backends[0].failures, stage.loop.dials) == (0, [])
    assert stage.client.is_eof_sent, "it may read the answer, however long it goes on sending"
    assert not stage.client.is_lost
    stage.ask(UPLOADS[framing][1])
    assert not stage.client.is_lost


@pytest.mark.parametrize("framing", UPLOADS)
def test_a_write_that_failed_and_no_word(framing: str) -> None:
    """Is what it was: no answer, and the node's failure."""
    stage = refuse_upload(framing)
    assert stage.ends == [(502, "SH")]
    assert stage.plane.pools["web"].pool.backends[0].failures == 1


@pytest.mark.parametrize(("said", "failures"), [(REFUSED[:-2], 0), (REFUSED.replace(b"413", b"200")[:-2], 1)])
def test_a_refusal_that_was_cut_short_is_still_one(said: bytes, failures: int) -> None:
    """It is cut for the client, who can read it; the node didn't have to wait for the rest, unlike with a 200."""
    stage = refuse_upload("chunked", said)
    assert stage.got == said
    assert [end for _, end in stage.ends] == ["SD"]
    assert stage.plane.pools["web"].pool.backends[0].failures == failures
    assert stage.client.is_eof_sent
    assert not stage.client.is_lost


def test_a_connection_on_which_a_write_failed_is_not_kept() -> None:
    """Its answer was whole and would let it live; the next request, which waits already, gets another one."""
    stage = keeping()
    stage.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody" + GET)
    transport = stage.loop.dials[0].accept()
    transport.window = 0
    stage.plane.run()
    transport.receive(OK, RST)
    stage.plane.run()
    assert stage.ends == [(200, "--")]
    stage.answer(stage.accept(), OK)
    assert stage.ends == [(200, "--")] * 2
    assert len(stage.plane.finished[1].attempts) == 1
