"""What may block is done by a thread."""

import logging
import threading

from pyproxy.failover.background import MAX_WAITING, Background, format_line


def test_work_is_done_in_order() -> None:
    """And all of it before the end."""
    done: list[int] = []
    background = Background("test")
    for number in range(100):
        background.do(lambda number=number: done.append(number))  # type: ignore[misc]
    background.close(10)
    assert done == list(range(100))


def test_a_blocked_writer_costs_lines_and_nothing_else() -> None:
    """Whoever hands over never waits; what doesn't fit is counted."""
    gate = threading.Event()
    background = Background("test")
    background.do(lambda: gate.wait(10))
    for _ in range(MAX_WAITING + 50):
        background.do(lambda: None)
    assert background.dropped >= 49
    gate.set()
    background.close(10)


def test_a_failing_write_does_not_end_the_thread() -> None:
    """A full disk may be empty again."""
    done: list[int] = []
    background = Background("test")

    def fail() -> None:
        raise OSError("full")

    background.do(fail)
    background.do(lambda: done.append(1))
    background.close(10)
    assert (done, background.dropped) == ([1], 1)


def test_a_record_is_one_line() -> None:
    """What a message quotes can't forge another."""
    record = logging.LogRecord("x", logging.WARNING, "", 0, "from %s", ("a\nb",), None)
    record.created, record.msecs = 1.5, 500.0
    assert format_line(record) == "1970-01-01T00:00:01.500Z warning vipd: from a\\nb\n"
