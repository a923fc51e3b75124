"""Pins which seconds of another process's silence are its own fault."""

import doctest
import os

import pytest

from pyproxy import pulse
from pyproxy.pulse import MAX_STEP, Sight, Silence, look

ASLEEP = Sight(is_runnable=False, cpu=5.0)


def busy(cpu: float) -> Sight:
    """A process that wants a processor."""
    return Sight(is_runnable=True, cpu=cpu)


def test_doctest() -> None:
    """The examples in the documentation are true."""
    assert doctest.testmod(pulse).failed == 0


def watched(*sights: Sight | None) -> float:
    """Look at a process four times a second; the seconds that count in the end."""
    silence = Silence(100.0)
    for number, sight in enumerate(sights, 1):
        silence.watch(100.0 + number / 4, sight)
    return silence.seconds


@pytest.mark.parametrize(
    ("sights", "seconds"),
    [
        pytest.param([ASLEEP] * 8, 2.0, id="stopped, or waiting for what never comes"),
        pytest.param([busy(5.0)] * 80, 0.0, id="starved"),
        pytest.param(
            [busy(5.0 + n / 4) for n in range(8)], 1.75, id="in an endless loop, after one look to compare with"
        ),
        pytest.param([busy(5.0 + n / 40) for n in range(41)], 1.0, id="in a loop, with a tenth of a processor"),
        pytest.param([busy(5.0 + n) for n in range(5)], 1.0, id="many threads can't take more time than there is"),
        pytest.param([busy(5.0)] * 8 + [ASLEEP] * 2, 0.5, id="starved first, then asleep"),
        pytest.param([None] * 8, 0.0, id="gone"),
    ],
)
def test_waiting_for_a_processor_does_not_count(sights: list[Sight | None], seconds: float) -> None:
    """A process that is starved would be replaced by one that is starved."""
    assert watched(*sights) == pytest.approx(seconds)


def test_a_pause_of_the_one_who_looks_counts_little() -> None:
    """The answer may have come meanwhile, and wait to be read."""
    silence = Silence(0.0)
    assert silence.watch(60.0, ASLEEP) == MAX_STEP


def test_a_sign_of_life_begins_it_anew() -> None:
    """What was seen before counts for nothing."""
    silence = Silence(0.0)
    silence.watch(0.25, ASLEEP)
    silence.end(0.4)
    assert silence.seconds == 0.0
    assert silence.watch(0.5, ASLEEP) == pytest.approx(0.1)


def test_this_process_is_seen_at_work() -> None:
    """Whoever looks runs, and has used some time."""
    sight = look(os.getpid())
    assert sight is not None
    assert sight.is_runnable
    assert sight.cpu > 0


def test_a_process_that_is_gone_is_not_seen() -> None:
    """No process has this id."""
    assert look(2**22 + 1) is None
