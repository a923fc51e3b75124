"""The plots: there when there are figures, and the same file for the same figures."""

from pathlib import Path

import pytest

from bench.report import Cell, Outcome
from bench.scenarios import SCENARIOS

pytest.importorskip("matplotlib", reason="the dependency group bench isn't installed")

from bench import plots


def make_outcomes() -> list[Outcome]:
    """Make an outcome of every scenario, with a contender that failed."""
    outcomes = []
    for scenario in SCENARIOS:
        figures = [{"cpu_us": 10.0 + place, "p50_ms": 1.0 + place, "p99_ms": 2.0} for place in range(len(plots.LOOKS))]
        cells = {name: Cell([one]) for name, one in zip(scenario.contenders, figures, strict=False)}
        cells["haproxy"] = Cell(failed="it went away")
        outcomes.append(Outcome(scenario, cells))
    return outcomes


def test_everyone_has_a_look() -> None:
    """A new contender needs a line in the table."""
    assert {name for scenario in SCENARIOS for name in scenario.contenders} == set(plots.LOOKS)
    assert len({look.colour for look in plots.LOOKS.values()}) == len(plots.LOOKS)


def test_plots_are_the_same_for_the_same_figures(tmp_path: Path) -> None:
    """A report that is made again changes nothing in the repository."""
    texts = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        written = plots.write(tmp_path / name, make_outcomes())
        texts.append([(tmp_path / name / file).read_text() for file, _ in written])
    assert len(texts[0]) == 3
    assert texts[0] == texts[1]
    assert ">pyproxy</text>" in texts[0][0], "text is text"
    assert ">haproxy</text>" not in texts[0][0], "who failed is not drawn"


def test_there_is_no_plot_of_nothing(tmp_path: Path) -> None:
    """A run of one scenario has what it has."""
    assert plots.write(tmp_path, []) == []
    assert plots.write(tmp_path, [Outcome(SCENARIOS[0], {"nginx": Cell(failed="it went away")})]) == []
