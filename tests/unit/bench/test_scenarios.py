"""The scenarios as data: names that are unique, and bars that can be judged."""

import pytest

from bench.scenarios import FIGURES, SCENARIOS, Scenario

NAMES = [scenario.name for scenario in SCENARIOS]


def test_names_are_unique() -> None:
    """They are arguments, keys and directories."""
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=NAMES)
def test_a_scenario_can_be_judged(scenario: Scenario) -> None:
    """A bar that looks at someone who isn't there would never be missed."""
    by_name = dict(zip(NAMES, SCENARIOS, strict=True))
    assert scenario.figure in FIGURES
    assert "pyproxy" in scenario.contenders
    for bar in scenario.bars:
        assert bar.figure in FIGURES
        assert not bar.to or bar.to in by_name[bar.scenario or scenario.name].contenders


def test_the_quick_ones_have_a_bar_to_nginx() -> None:
    """That is what they are for."""
    for scenario in SCENARIOS:
        assert not scenario.quick or any(bar.to == "nginx" for bar in scenario.bars), scenario.name
