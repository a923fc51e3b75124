"""Random faults, one after another, on both machines of a pair: no gap without a cause, and no address that is lost."""

from random import Random

import pytest

from tests.lab.chaos import GAP, Chaos, Fault, Made, draw, explain
from tests.lab.conftest import StartLab

FAULT = Fault("any", lambda *_: None, (2.0, 1.0))


def gaps(*times: float, role: str = "master") -> list[tuple[float, bool]]:
    """Answers before and after a fault from 10.0 to 15.0; how long each gap was, and whether the fault explains it."""
    found = explain([0.0, *times], [Made(FAULT, role, "a", 10.0, 15.0)])
    return [(round(length, 3), cause is not None) for at, length, cause in found if at]


@pytest.mark.parametrize(
    ("times", "told"),
    [
        pytest.param((10.5, 10.5 + GAP), [], id="too short to be told"),
        pytest.param((10.5, 12.0), [(1.5, True)], id="within the bound"),
        pytest.param((10.5, 12.6), [(2.1, False)], id="beyond the bound"),
        pytest.param((10.5, 12.0, 13.5), [(1.5, True), (1.5, False)], id="two are beyond it together"),
        pytest.param((8.0, 10.0), [(2.0, False)], id="began before the fault"),
        pytest.param((9.95, 11.0), [(1.05, True)], id="the last answer before the fault"),
        pytest.param((15.1, 16.0), [(0.9, False)], id="began after the fault"),
    ],
)
def test_a_gap_has_a_cause_or_none(times: tuple[float, ...], told: list[tuple[float, bool]]) -> None:
    """A fault explains what begins in its time, up to its bound."""
    assert gaps(*times) == told


def test_a_fault_of_the_backup_explains_less() -> None:
    """Nothing has to move for it."""
    assert gaps(10.5, 12.0, role="backup") == [(1.5, False)]


def test_a_seed_decides_fault_machine_and_time() -> None:
    """Whatever the pair does meanwhile."""
    first, second, other = ([draw(dice) for _ in range(20)] for dice in (Random(7), Random(7), Random(8)))
    assert first == second != other
    assert {machine for _, machine, _ in first} == {"a", "b"}


@pytest.mark.lab
@pytest.mark.timeout(420)
def test_no_fault_loses_the_address(start_lab: StartLab) -> None:
    """The pair is whole again after each. How long gaps are says nothing while other tests use the processor."""
    chaos = Chaos(start_lab(), 3)
    chaos.run(10.0)
    assert chaos.made


@pytest.mark.lab
@pytest.mark.measure
@pytest.mark.timeout(420)
def test_no_fault_costs_more_than_it_must(start_lab: StartLab) -> None:
    """Every gap has a cause that explains it; `make lab-chaos` does the same for an hour."""
    chaos = Chaos(start_lab(), 7)
    chaos.run(180.0)
    unexplained = [(length, [str(made) for made in chaos.made]) for _, length, cause in chaos.gaps() if cause is None]
    assert unexplained == []
