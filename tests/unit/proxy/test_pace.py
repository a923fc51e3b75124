"""Pins the clocks of the client's connection, and backpressure: whose fault it is when nothing moves."""

import pytest

from tests.unit.proxy.planes import Stage

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
RST = ConnectionResetError("reset")


# deadlines


@pytest.mark.parametrize(
    ("sent", "seconds", "status"),
    [
        (b"", 10, None),
        (b"G", 10, 408),
        (b"GET / HTTP/1.1\r\nX: y\r\n", 10, 408),
        (POST, 12, 408),
        (POST + b"ab", 12, 408),
    ],
)
def test_a_slow_client(sent: bytes, seconds: int, status: int | None) -> None:
    """A head has header_timeout from its first byte, a body body_timeout between reads; nothing sent just closes."""
    stage = Stage()
    stage.ask(sent)
    if stage.loop.dials:
        stage.accept()
    stage.wait(seconds - 0.1)
    assert stage.ends == []
    stage.wait(0.4)
    assert stage.got.startswith(b"HTTP/1.1 408" if status else b"")
    assert [end[0] for end in stage.ends] == ([status] if status else [])
    assert stage.client.has_ended


def test_dripping_does_not_prolong_a_head() -> None:
    """A byte now and then keeps nobody alive: the head must be complete in time."""
    stage = Stage()
    for byte in GET[:11]:
        stage.ask(bytes([byte]))
        stage.wait(1.0)
    assert stage.ends == [(408, "cR")]


def test_dripping_does_prolong_a_body() -> None:
    """body_timeout is between two reads."""
    stage = Stage()
    origin = stage.start(POST)
    for _ in range(4):
        stage.wait(11.0)
        stage.ask(b"x")
    stage.answer(origin, OK)
    assert stage.ends == [(200, "--")]


def test_an_idle_connection_closes_without_a_word() -> None:
    """After keepalive seconds, with no line in the log."""
    stage = Stage()
    stage.answer(stage.start(GET), OK)
    stage.wait(74.8)
    assert not stage.client.is_closing()
    stage.wait(0.5)
    assert stage.client.is_lost
    assert stage.got == OK
    assert len(stage.ends) == 1


def test_blank_lines_are_no_request() -> None:
    """A stray CRLF behind a request, as old browsers send it, doesn't make a waiting connection answer 408."""
    stage = Stage()
    stage.answer(stage.start(GET + b"\r\n"), OK)
    stage.wait(80.0)
    assert stage.got == OK
    assert stage.ends == [(200, "--")]


def test_head_timeout_of_the_next_request() -> None:
    """Each head has its own time, from its own first byte, also when that came with the request before."""
    stage = Stage()
    origin = stage.start(GET + b"GET /")
    stage.wait(15.0)
    stage.answer(origin, OK)
    stage.wait(9.8)
    assert len(stage.ends) == 1
    stage.wait(0.5)
    assert stage.ends[1:] == [(408, "cR")]


def test_waiting_for_the_backend_is_not_the_clients_fault() -> None:
    """While the backend has its time, none of the client's deadlines runs."""
    stage = Stage()
    origin = stage.start(POST + b"body")
    stage.wait(19.0)
    assert stage.ends == []
    stage.answer(origin, OK)
    assert stage.ends == [(200, "--")]


def test_a_slow_reader_is_fine_as_long_as_it_reads() -> None:
    """write_timeout counts only while nothing at all is taken."""
    stage = Stage()
    stage.client.window = 0
    origin = stage.start(GET)
    size = 200_000
    stage.answer(origin, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
    for _ in range(10):
        stage.wait(13.0)
        stage.client.open_window(2000)
        stage.plane.run()
    assert stage.ends == []
    stage.client.open_window()
    stage.plane.run()
    assert stage.ends == [(200, "--")]
    assert stage.got.endswith(b"x" * size)


# backpressure


def test_backpressure_down() -> None:
    """A client that doesn't read stops the backend; one that reads again, starts it."""
    stage = Stage()
    stage.client.window = 0
    origin = stage.start(GET)
    stage.answer(origin, b"HTTP/1.1 200 OK\r\nContent-Length: 600000\r\n\r\n", *[b"x" * 60_000] * 10)
    assert not origin.is_reading()
    assert len(origin.inbox) >= 7
    assert stage.client.peak_buffer_bytes < 200_000
    stage.client.open_window()
    stage.plane.run()
    assert origin.is_reading()
    assert stage.ends == [(200, "--")]


def test_backpressure_up() -> None:
    """A backend that doesn't read stops the client; one that reads again, starts it."""
    stage = Stage()
    origin = stage.start(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 600000\r\n\r\n")
    origin.window = 0
    stage.ask(*[b"x" * 60_000] * 10)
    assert not stage.client.is_reading()
    assert origin.peak_buffer_bytes < 200_000
    origin.open_window()
    stage.plane.run()
    assert origin.sent.endswith(b"\r\n\r\n" + b"x" * 600_000)
    stage.answer(origin, OK)
    assert stage.ends == [(200, "--")]
    assert stage.client.is_reading()


@pytest.mark.parametrize("ending", ["answer", "reset"])
def test_a_connection_reads_again_after_a_backend_that_did_not(ending: str) -> None:
    """The reason to pause ends with the attempt that caused it, however that ends."""
    stage = Stage()
    origin = stage.start(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 120000\r\n\r\n")
    origin.window = 0
    stage.ask(b"x" * 120_000)
    stage.answer(origin, OK if ending == "answer" else RST)
    assert len(stage.ends) == 1
    assert stage.client.is_reading()
    assert origin.is_lost
    stage.ask(GET)
    stage.answer(stage.accept(), OK)
    assert stage.ends[1] == (200, "--")


def test_a_slow_client_is_not_held_against_the_backend() -> None:
    """While the client doesn't read, the backend's idle timeout doesn't run, also when its own writing resumes."""
    stage = Stage()
    size = 300_000
    origin = stage.start(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
    origin.window = 0
    stage.client.window = 0
    stage.ask(b"x" * 100_000)
    stage.answer(origin, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size, b"y" * 100_000)
    origin.open_window(90_000)
    stage.plane.run()
    for _ in range(4):
        stage.wait(6.0)
        stage.client.open_window(1000)
        stage.plane.run()
    assert stage.ends == []
