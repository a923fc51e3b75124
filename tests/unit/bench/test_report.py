"""What is made of rounds: medians, ratios, bars, and the text that people and machines read."""

import json
import math

import pytest

from bench import report
from bench.report import Cell, Outcome, Result
from bench.scenarios import Bar, Demand, Scenario


def make_outcome(*, name: str = "small", bars: tuple[Bar, ...] = (), **cpu_us: list[float]) -> Outcome:
    """Make what came out of a scenario from the rounds of each contender."""
    scenario = Scenario(name, "a small one", tuple(cpu_us), Demand("wrk"), bars=bars, shown=True)
    return Outcome(scenario, {key: Cell([{"cpu_us": value} for value in values]) for key, values in cpu_us.items()})


def make_result(*outcomes: Outcome) -> Result:
    """Make a whole run."""
    names = list(dict.fromkeys(name for outcome in outcomes for name in outcome.cells))
    return Result({"date": "today"}, dict.fromkeys(names, "1.0"), dict.fromkeys(names, "a proxy"), list(outcomes))


def test_a_figure_is_the_median_of_the_rounds() -> None:
    """One round with a noisy neighbour changes nothing."""
    outcome = make_outcome(nginx=[10.0, 90.0, 11.0], pyproxy=[20.0, 5.0, 23.1])
    assert outcome.figure("nginx") == 11.0
    assert outcome.ratio("pyproxy") == 2.0
    assert outcome.cells["nginx"].bounds("cpu_us") == (10.0, 90.0)


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    """Minutes that are slow for everybody change nothing, wherever they begin."""
    outcome = make_outcome(nginx=[10.0, 30.0, 30.0, 10.0, 30.0], pyproxy=[20.0, 20.0, 60.0, 20.0, 60.0])
    assert outcome.ratio("pyproxy") == 2.0
    assert math.isnan(outcome.ratio("pyproxy", "caddy"))


def test_what_was_not_measured_has_no_figure() -> None:
    """Neither who failed, nor who wasn't there, nor what nobody looked at."""
    outcome = make_outcome(nginx=[10.0])
    outcome.cells["caddy"] = Cell([{"cpu_us": 1.0}], failed="it went away")
    assert math.isnan(outcome.figure("caddy"))
    assert math.isnan(outcome.figure("haproxy"))
    assert math.isnan(outcome.figure("nginx", "p99_ms"))
    assert math.isnan(make_outcome(pyproxy=[1.0]).ratio("pyproxy")), "without nginx"


@pytest.mark.parametrize(("ours", "met"), [(16.0, True), (16.1, False)])
def test_a_bar_is_a_ratio(ours: float, met: bool) -> None:
    """As much as the bar allows is good, more is not."""
    outcome = make_outcome(bars=(Bar(1.6, "nginx"),), nginx=[10.0], pyproxy=[ours])
    (verdict,) = report.verdicts([outcome])
    assert verdict.met is met


def test_a_bar_says_by_how_much_it_was_missed() -> None:
    """The line that ends a run names scenario, bar and result."""
    outcome = make_outcome(bars=(Bar(1.6, "nginx"),), nginx=[10.0], pyproxy=[20.0])
    (verdict,) = report.verdicts([outcome])
    assert str(verdict) == "small: CPU at most 1.6 times nginx: 2, MISSED by 25%"


def test_a_bar_may_be_a_figure_by_itself() -> None:
    """A limit that nobody else's result changes."""
    (verdict,) = report.verdicts([make_outcome(bars=(Bar(6.0),), pyproxy=[5.0])])
    assert verdict.met
    assert verdict.value == 5.0


def test_a_bar_may_look_at_another_scenario() -> None:
    """Also at one that comes later."""
    bars = (Bar(1.5, "pyproxy", scenario="alone"),)
    outcomes = [make_outcome(bars=bars, pyproxy=[4.0]), make_outcome(name="alone", pyproxy=[2.0])]
    (verdict,) = report.verdicts(outcomes)
    assert verdict.value == 2.0
    assert not verdict.met


def test_a_bar_without_both_sides_is_not_judged() -> None:
    """Neither met nor missed: the run says elsewhere who was missing."""
    bars = (Bar(1.6, "nginx"), Bar(1.0, "nginx", scenario="elsewhere"))
    assert report.verdicts([make_outcome(bars=bars, pyproxy=[20.0])]) == []
    assert report.verdicts([make_outcome(bars=bars[1:], pyproxy=[20.0], nginx=[10.0])]) == []


def test_a_table_has_the_columns_that_someone_has() -> None:
    """No column of nothing, and nobody is left out."""
    outcome = make_outcome(nginx=[10.0, 12.0], pyproxy=[20.0, 24.0])
    outcome.cells["nginx"].samples = [{"cpu_us": 10.0, "p99_ms": 1.0}, {"cpu_us": 12.0, "p99_ms": 2.0}]
    outcome.cells["caddy"] = Cell(failed="it went away")
    assert report.rows(outcome) == [
        ["", "µs", "(rounds)", "to nginx", "p99 ms"],
        ["nginx", "11.0", "(10.0 to 12.0)", "1.00", "1.50"],
        ["pyproxy", "22.0", "(20.0 to 24.0)", "2.00", ""],
        ["caddy", "failed", "", "", ""],
    ]
    assert "caddy failed: it went away" in report.describe(outcome)


@pytest.mark.parametrize(
    ("value", "text"), [(0.1234, "0.12"), (9.5, "9.50"), (12.34, "12.3"), (1234.5, "1234"), (math.nan, "")]
)
def test_figures_have_three_digits_that_count(value: float, text: str) -> None:
    """More would be noise."""
    assert report.figure_text(make_outcome().scenario, value) == text


def test_what_machines_read_is_json() -> None:
    """Also where there is no number, which JSON would write as NaN."""
    outcome = make_outcome(bars=(Bar(1.6, "nginx"),), nginx=[10.0], pyproxy=[20.0])
    outcome.cells["nginx"].samples = [{"cpu_us": 10.0, "late_p99_ms": math.nan}]
    outcome.cells["caddy"] = Cell(failed="it went away")
    read = json.loads(json.dumps(report.plain(make_result(outcome)), allow_nan=False))
    found = read["scenarios"]["small"]["contenders"]
    assert found["pyproxy"] == {"median": {"cpu_us": 20.0}, "to_nginx": 2.0, "rounds": [{"cpu_us": 20.0}]}
    assert found["nginx"]["median"]["late_p99_ms"] is None
    assert found["caddy"] == {"failed": "it went away"}
    assert read["bars"][0]["met"] is False
    assert read["failures"] == ["small, caddy: it went away"]


def test_the_overview_stands_between_marks() -> None:
    """So that it can be copied into the README as it is."""
    outcome = make_outcome(bars=(Bar(1.6, "nginx"), Bar(2.0, "caddy")), pyproxy=[20.0], nginx=[10.0])
    outcome.cells["caddy"] = Cell(failed="it went away")
    hidden = make_outcome(name="hidden", haproxy=[1.0])
    hidden.scenario = Scenario("hidden", "not shown", (), Demand("wrk"))
    text = report.markdown(make_result(outcome, hidden), [("cpu.svg", "CPU")])
    overview = text[text.index(report.BEGIN) : text.index(report.END)].split("\n")
    assert overview[1:-1] == [
        "|  | pyproxy | nginx | caddy | haproxy | at most |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        "| a small one, µs | 20.0 (2.00) | 10.0 | failed | - | 1.6 times nginx, 2 times caddy |",
    ]
    assert "![CPU](cpu.svg)" in text
    assert "- small, caddy: it went away" in text


def test_a_rate_that_was_not_held_is_no_failure() -> None:
    """It says something of the machine and the hour: it is told, in all forms, apart from what went wrong."""
    outcome = make_outcome(nginx=[10.0])
    outcome.cells["caddy"] = Cell(failed="it went away")
    outcome.cells["pyproxy"] = Cell(failed="only 90 % were sent", is_rate_not_held=True)
    result = make_result(outcome)
    assert result.failures == ["small, caddy: it went away"]
    assert result.rates_not_held == ["small, pyproxy: only 90 % were sent"]
    assert "- rate not held: small, pyproxy: only 90 % were sent" in report.markdown(result, [])
    assert report.plain(result)["rates_not_held"] == result.rates_not_held
