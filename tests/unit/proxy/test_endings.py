"""Pins status and termination code of every way in which one request can end, and that afterwards nothing is left."""

from collections.abc import Callable

import pytest

from pyproxy.config.runtime import Retry
from tests.unit.proxy.planes import Stage, make_config, make_pool

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
RST = ConnectionResetError("reset")


def connect_refused(stage: Stage) -> None:
    """The backend refuses."""
    stage.ask(GET)
    stage.refuse()


def connect_timeout(stage: Stage) -> None:
    """The backend doesn't accept."""
    stage.ask(GET)
    stage.wait(3.3)


def out_of_descriptors(stage: Stage) -> None:
    """We can't open another connection."""
    stage.ask(GET)
    stage.refuse(OSError(24, "too many open files"))


def reset_before_the_head(stage: Stage) -> None:
    """The backend resets instead of answering."""
    stage.answer(stage.start(GET), RST)


def closed_before_the_head(stage: Stage) -> None:
    """The backend closes instead of answering."""
    stage.answer(stage.start(GET), None)


def closed_inside_the_head(stage: Stage) -> None:
    """The backend closes inside its head."""
    stage.answer(stage.start(GET), b"HTTP/1.1 200", None)


def response_timeout(stage: Stage) -> None:
    """The backend doesn't answer."""
    stage.start(GET)
    stage.wait(20.3)


def bad_head(stage: Stage) -> None:
    """The backend doesn't speak HTTP."""
    stage.answer(stage.start(GET), b"SSH-2.0\r\n")


def unasked_upgrade(stage: Stage) -> None:
    """The backend switches protocols unasked."""
    stage.answer(stage.start(GET), SWITCHED)


def truncated(stage: Stage) -> None:
    """The backend closes inside the body."""
    stage.answer(stage.start(GET), OK[:-1], None)


def stalled(stage: Stage) -> None:
    """The backend stops inside the body."""
    stage.answer(stage.start(GET), OK[:-1])
    stage.wait(15.3)


def bad_chunk(stage: Stage) -> None:
    """The backend's chunks make no sense."""
    stage.answer(stage.start(GET), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\nxx\r\n")


def gone_while_sending(stage: Stage) -> None:
    """The client leaves inside its body."""
    stage.start(POST + b"ab")
    stage.leave()


def gone_while_connecting(stage: Stage) -> None:
    """The client leaves before there is a backend."""
    stage.ask(GET)
    stage.leave()


def gone_while_waiting(stage: Stage) -> None:
    """The client leaves before the answer."""
    stage.start(GET)
    stage.leave()


def gone_in_the_body(stage: Stage) -> None:
    """The client leaves inside the answer."""
    stage.answer(stage.start(GET), OK[:-1])
    stage.leave(RST)


def body_timeout(stage: Stage) -> None:
    """The client stops inside its body."""
    stage.start(POST + b"ab")
    stage.wait(12.3)


def not_reading(stage: Stage) -> None:
    """The client stops reading."""
    stage.client.window = 0
    stage.answer(stage.start(GET), b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n" + b"x" * 300_000)
    stage.wait(14.3)


def bad_request(stage: Stage) -> None:
    """The client sends nonsense."""
    stage.ask(b"GET / HTTP/1.1\r\n\r\n")


def header_timeout(stage: Stage) -> None:
    """The client stops inside its head."""
    stage.ask(b"GET / HTTP/1.1\r\nHost:")
    stage.wait(10.3)


def refused_method(stage: Stage) -> None:
    """The client asks for what nobody gets."""
    stage.ask(b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n")


def bad_body(stage: Stage) -> None:
    """The client's chunks make no sense."""
    stage.start(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    stage.ask(b"zz\r\n")


def grace_ended(stage: Stage) -> None:
    """The program stops."""
    stage.start(GET)
    stage.plane.drain()
    stage.plane.abandon()


def gone_in_the_head(stage: Stage) -> None:
    """The client leaves inside its head."""
    stage.ask(b"GET / HT")
    stage.leave()


ENDINGS = [
    (connect_refused, 502, "SC"), (connect_timeout, 504, "sC"), (out_of_descriptors, 503, "RC"),
    (reset_before_the_head, 502, "SH"), (closed_before_the_head, 502, "SH"), (closed_inside_the_head, 502, "SH"),
    (response_timeout, 504, "sH"), (bad_head, 502, "PH"), (unasked_upgrade, 502, "PH"), (truncated, 200, "SD"),
    (stalled, 200, "sD"), (bad_chunk, 200, "SD"), (gone_while_sending, 499, "CR"), (gone_while_connecting, 499, "CC"),
    (gone_while_waiting, 499, "CH"), (gone_in_the_body, 200, "CD"), (body_timeout, 408, "cD"), (not_reading, 200, "cD"),
    (bad_request, 400, "PR"), (header_timeout, 408, "cR"), (refused_method, 405, "PR"), (bad_body, 400, "PR"),
    (grace_ended, 503, "PD"), (gone_in_the_head, 499, "CR"),
]  # fmt: skip


@pytest.mark.parametrize(("play", "status", "end"), ENDINGS, ids=[row[0].__name__ for row in ENDINGS])
def test_endings(play: Callable[[Stage], None], status: int, end: str) -> None:
    """Each way to end has its status and code in the log; what the client gets is an answer, or visibly cut."""
    stage = Stage(make_config(make_pool(retry=Retry(1, frozenset(), 0.2, 3))))
    play(stage)
    stage.plane.run()
    assert stage.ends == [(status, end)]
    got = stage.got
    if status == 499:
        assert got == b""
    elif status != 200:
        assert got.startswith(b"HTTP/1.1 %d " % status)
        assert got.endswith(b"\n")
        assert stage.plane.finished[0].bytes_sent == len(got.partition(b"\r\n\r\n")[2])
    else:
        assert stage.client.is_lost
    stage.wait(200.0)
    assert stage.client.is_lost
    assert not stage.plane.sweeper.watched
