"""How a command ended, in words."""

import pytest

from pyproxy.failover.jobs import Result


@pytest.mark.parametrize(
    ("result", "is_ok", "detail"),
    [
        (Result(0, ""), True, "exit status 0"),
        (Result(0, "fine\n"), True, "exit status 0: fine"),
        (Result(3, "  one \n\n two\n"), False, "exit status 3: one / two"),
        (Result(-9, ""), False, "ended by signal 9"),
        (Result(-9, "so far", "killed after 2 s"), False, "killed after 2 s: so far"),
        (Result(0, "", "killed after 2 s"), False, "killed after 2 s"),
        (Result(None, "", "can't be started: No such file"), False, "can't be started: No such file"),
        (Result(1, "\x1b[31mred\x00"), False, "exit status 1: ?[31mred?"),
    ],
)
def test_a_result_says_in_one_line_how_it_ended(result: Result, is_ok: bool, detail: str) -> None:
    """What a command prints can't break lines or a terminal."""
    assert (result.is_ok, result.detail) == (is_ok, detail)


def test_a_talkative_command_is_cut_short() -> None:
    """The detail goes into logs, the API and a Nagios line."""
    assert len(Result(1, "x" * 4000).detail) < 250
