"""Durations, sizes, percentages, texts and secrets."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyproxy.config.values import (
    did_you_mean,
    duration,
    one_of,
    parse_duration,
    parse_percent,
    parse_secret,
    parse_size,
    parse_text,
    show_duration,
    show_percent,
    show_size,
    size,
    text,
    whole,
)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("250ms", 0.25),
        ("2s", 2.0),
        ("5m", 300.0),
        ("1h", 3600.0),
        ("1.5s", 1.5),
        ("30", 30.0),
        (3, 3.0),
        (0.5, 0.5),
        (0, 0.0),
    ],
)
def test_durations(value: Any, seconds: float) -> None:
    """The contract's units, a bare number is seconds."""
    assert parse_duration(value) == seconds


@pytest.mark.parametrize(
    "value",
    [
        "",
        "5 s",
        "5d",
        "1h30m",
        "-1s",
        "ms",
        "1.s",
        ".5s",
        "1e3s",
        "٣s",
        -1,
        math.inf,
        math.nan,
        True,
        None,
        [],
        {},
    ],
)
def test_bad_durations(value: Any) -> None:
    """Everything else is refused with one text."""
    with pytest.raises(ValueError, match="must be a duration such as"):
        parse_duration(value)


@given(st.integers(0, 10**8).map(lambda n: n / 1000))
def test_durations_come_back_as_shown(seconds: float) -> None:
    """What the program shows can be put into the file."""
    assert parse_duration(show_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("value", "size_bytes"),
    [("512", 512), (512, 512), ("32KiB", 32768), ("1MiB", 2**20), ("2GiB", 2**31), (0, 0)],
)
def test_sizes(value: Any, size_bytes: int) -> None:
    """The contract's units, a bare number is bytes."""
    assert parse_size(value) == size_bytes


@pytest.mark.parametrize("value", ["", "1k", "1KB", "1 KiB", "1.5MiB", "-1", "kib", "1kib", -1, 1.0, True, None, []])
def test_bad_sizes(value: Any) -> None:
    """Powers of ten aren't taken for powers of two."""
    with pytest.raises(ValueError, match="must be a size such as"):
        parse_size(value)


@given(st.integers(0, 2**40))
def test_sizes_come_back_as_shown(size_bytes: int) -> None:
    """What the program shows can be put into the file."""
    assert parse_size(show_size(size_bytes)) == size_bytes


@given(st.one_of(st.text(), st.integers(), st.floats(), st.booleans(), st.none(), st.lists(st.integers())))
def test_scalars_refuse_by_value_error_only(value: Any) -> None:
    """No input makes a parser fail in another way than the one that becomes a problem."""
    for parse in (parse_duration, parse_size, parse_percent, parse_text, parse_secret, whole(1, 9).parse):
        try:
            problem = "" if parse(value) is not None else "parsed to nothing"
        except ValueError as error:
            problem = str(error)
        assert problem == "" or problem.startswith("must ")


def test_bounds_are_allowed_and_what_is_beyond_is_not() -> None:
    """The text shows the bound in the unit of the value."""
    assert duration(1, 60).parse("1s") == 1.0
    assert duration(1, 60).parse(60) == 60.0
    assert size(1024, 2048).parse("2KiB") == 2048
    with pytest.raises(ValueError, match="must be at least 1s"):
        duration(1, 60).parse("999ms")
    with pytest.raises(ValueError, match="must be at most 60s"):
        duration(1, 60).parse(61)
    with pytest.raises(ValueError, match="must be at most 2KiB"):
        size(1024, 2048).parse(2049)


def test_percentages() -> None:
    """A share is written with its sign, so that 20 and 0.2 can't be confused."""
    assert parse_percent("20%") == 0.2
    assert show_percent(parse_percent("12.5%")) == "12.5%"
    for value in ("101%", "-1%", "20", 20, 0.2, None, "%"):
        with pytest.raises(ValueError, match="must be a percentage"):
            parse_percent(value)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (5, "must be a text; quote it"),
        (True, "must be a text; quote it"),
        (None, "must be a text"),
        ([], "must be a text"),
        ("", "must not be empty"),
        ("a\nb", "must not contain control characters"),
        ("a\x7f", "must not contain control characters"),
        ("x" * 11, "must be at most 10 characters long"),
    ],
)
def test_texts(value: Any, problem: str) -> None:
    """A text isn't guessed from a number, and can't break a header or a log line."""
    with pytest.raises(ValueError, match=f"^{problem}$"):
        text("text", most=10).parse(value)


def test_choices_tell_true_from_one() -> None:
    """A boolean among the choices is only met by a boolean."""
    choice = one_of("auto", True, False)
    assert choice.parse(True) is True
    with pytest.raises(ValueError, match="must be one of auto, true, false; did you mean auto"):
        choice.parse("atuo")
    with pytest.raises(ValueError, match="must be one of"):
        choice.parse(1)


def test_suggestions_need_a_near_miss() -> None:
    """Nothing is suggested for what is like nothing, nor searched among very many."""
    assert did_you_mean("BACKENDS", ["backends"]) == "; did you mean backends?"
    assert did_you_mean("zzz", ["backends"]) == ""
    assert did_you_mean(5, ["backends"]) == ""
    assert did_you_mean("backend", [f"backend{n}" for n in range(1000)]) == ""


def test_secrets_are_not_shown() -> None:
    """Neither printing nor formatting tells a secret."""
    secret = parse_secret("hunter2")
    assert "hunter2" not in f"{secret} {secret!r}"
    assert secret.get_secret_value() == "hunter2"
