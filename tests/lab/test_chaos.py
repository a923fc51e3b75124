"""Random faults, one after another, on both machines of a pair: no gap without a cause, and no address that is lost."""

import pytest

from tests.lab.chaos import Chaos
from tests.lab.conftest import StartLab

pytestmark = pytest.mark.lab


@pytest.mark.timeout(420)
@pytest.mark.parametrize(("seconds", "seed"), [(10.0, 3), pytest.param(180.0, 7, marks=pytest.mark.measure)])
def test_no_fault_costs_more_than_it_must(start_lab: StartLab, seconds: float, seed: int) -> None:
    """The pair is whole again after each; `make lab-chaos` does the same for an hour."""
    chaos = Chaos(start_lab(), seed)
    chaos.run(seconds)
    unexplained = [(length, [str(made) for made in chaos.made]) for _, length, cause in chaos.gaps() if cause is None]
    assert unexplained == []
