"""Whether anything that a connected machine reaches is reached."""

import pytest

from pyproxy.failover.settings import Endpoint
from pyproxy.failover.witness import FALL, Witnesses, WitnessState

ENDPOINTS = [Endpoint("192.0.2.1", 80), Endpoint("192.0.2.2", 80)]


def test_one_answer_is_enough_and_one_failure_is_not() -> None:
    """A lost packet is no outage; the failures have to follow each other."""
    state = WitnessState(ENDPOINTS[0])
    assert state.record("")
    assert [state.record("no answer") for _ in range(FALL)] == [False] * (FALL - 1) + [True]
    assert (state.is_ok, state.detail) == (False, "no answer")
    assert state.record("")
    state.record("no answer")
    state.record("")
    assert not state.record("no answer")
    assert state.is_ok


def test_before_it_is_known_nothing_is_said() -> None:
    """Neither reached nor lost."""
    state = WitnessState(ENDPOINTS[0])
    state.record("no answer")
    assert state.is_ok is None


@pytest.mark.parametrize(
    ("results", "verdict"),
    [
        ((True, False), True),
        ((None, True), True),
        ((False, False), False),
        ((None, False), None),
        ((None, None), None),
    ],
)
def test_any_witness_will_do(results: tuple[bool | None, ...], verdict: bool | None) -> None:
    """Only when all are known to be out of reach is the machine cut off."""
    witnesses = Witnesses(ENDPOINTS, lambda: None)
    for state, result in zip(witnesses.states, results, strict=True):
        state.is_ok = result
    assert witnesses.verdict() is verdict


def test_without_witnesses_nothing_is_known() -> None:
    """Which is held against nobody."""
    witnesses = Witnesses([], lambda: None)
    assert witnesses.verdict() is None
    assert witnesses.to_plain() == []
