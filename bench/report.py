"""
From rounds to figures, and from figures to what people and machines read: a table, JSON, a report in Markdown.

Must not know how anything was measured. The plots of the report are in ``plots.py``.
"""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench import stage
from bench.scenarios import FIGURES, Bar, Scenario

NGINX, OURS = "nginx", "pyproxy"
#: What is told of every contender beside the figure that its scenario is about: name, heading, digits.
COLUMNS = (
    ("user_us", "user µs", 1),
    ("system_us", "system µs", 1),
    ("requests_per_second", "requests/s", 0),
    ("capacity_share", "of capacity", 2),
    ("p50_ms", "p50 ms", 2),
    ("p99_ms", "p99 ms", 2),
    ("late_p99_ms", "sent late ms", 2),
    ("slow_share", "slow share at most", 3),
    ("peak_mib", "peak MiB", 1),
    ("others", "others", 2),
)
NOTES = """\
CPU is the user and system time of all processes of a contender; peak memory counts pages that they share in each.
A ratio is the median of the rounds' own ratios, since noise that lasts for minutes disturbs a whole round alike.
"others" is the share of the contender's core that went to programs that have no part in this. Percentiles under wrk
contain the samples that it makes up for what it could not send during a stall; those of uploads and WebSockets are as
the clients saw them; those at a fixed rate count from the instant at which a request was due."""
BEGIN, END = "<!-- benchmark: begin -->", "<!-- benchmark: end -->"


@dataclass
class Cell:
    """What a contender did in a scenario: its rounds, or why there are none."""

    samples: list[Mapping[str, float]] = field(default_factory=list)
    failed: str = ""
    is_rate_not_held: bool = False  # why: its load couldn't be sent in time

    def median(self, figure: str) -> float:
        """Return the median of the rounds; NaN if nobody measured it."""
        values = [sample.get(figure, math.nan) for sample in self.samples]
        return math.nan if self.failed or not values or any(map(math.isnan, values)) else statistics.median(values)

    def bounds(self, figure: str) -> tuple[float, float]:
        """Return the lowest and the highest of the rounds."""
        values = [sample[figure] for sample in self.samples]
        return min(values), max(values)


@dataclass
class Outcome:
    """What came out of a scenario, by contender."""

    scenario: Scenario
    cells: dict[str, Cell]

    def figure(self, contender: str, figure: str = "") -> float:
        """Return a contender's median of a figure, by default the one that the scenario is about; NaN without one."""
        cell = self.cells.get(contender)
        return cell.median(figure or self.scenario.figure) if cell else math.nan

    def ratio(self, contender: str, base: str = NGINX, figure: str = "") -> float:
        """
        Return a contender's figure relative to another one's in the same run: the median of the rounds' own ratios.

        What disturbs one round of everybody, as a noisy minute does, is the same above and below the line there;
        the medians of two contenders may come from different minutes.
        """
        ours, theirs = self.cells.get(contender), self.cells.get(base)
        if ours is None or theirs is None or math.isnan(ours.median(figure or self.scenario.figure)):
            return math.nan
        figure = figure or self.scenario.figure
        pairs = zip(ours.samples, theirs.samples, strict=False)
        ratios = [mine[figure] / other[figure] for mine, other in pairs if other.get(figure)]
        return statistics.median(ratios) if ratios and not math.isnan(theirs.median(figure)) else math.nan


@dataclass(frozen=True)
class Verdict:
    """A bar and what pyproxy came to."""

    scenario: str
    bar: Bar
    value: float

    @property
    def met(self) -> bool:
        """Whether the bar is met."""
        return self.value <= self.bar.limit

    def __str__(self) -> str:
        verdict = "met" if self.met else f"MISSED by {self.value / self.bar.limit - 1:.0%}"
        return f"{self.scenario}: {FIGURES[self.bar.figure]} at most {self.bar}: {self.value:.3g}, {verdict}"


@dataclass
class Result:
    """A whole run."""

    header: dict[str, str]
    versions: dict[str, str]  # of the contenders, by name
    titles: dict[str, str]  # of the contenders, by name
    outcomes: list[Outcome] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    @property
    def failures(self) -> list[str]:
        """What could not be measured, a line each."""
        return self._failed(is_rate_not_held=False)

    @property
    def rates_not_held(self) -> list[str]:
        """What could not be measured because its load couldn't be sent in time, a line each."""
        return self._failed(is_rate_not_held=True)

    def _failed(self, *, is_rate_not_held: bool) -> list[str]:
        return [
            f"{outcome.scenario.name}, {name}: {cell.failed}"
            for outcome in self.outcomes
            for name, cell in outcome.cells.items()
            if cell.failed and cell.is_rate_not_held is is_rate_not_held
        ]


def verdicts(outcomes: Sequence[Outcome]) -> list[Verdict]:
    """Compare with every bar for which both sides were measured."""
    by_name = {outcome.scenario.name: outcome for outcome in outcomes}
    found = []
    for outcome in outcomes:
        for bar in outcome.scenario.bars:
            value = outcome.figure(OURS, bar.figure)
            if bar.scenario:  # measured at another time
                against = by_name.get(bar.scenario)
                base = against.figure(bar.to, bar.figure) if against else math.nan
                value = value / base if base else math.nan
            elif bar.to:
                value = outcome.ratio(OURS, bar.to, bar.figure)
            if not math.isnan(value):
                found.append(Verdict(outcome.scenario.name, bar, value))
    return found


def number(value: float, digits: int) -> str:
    """
    Write a number, or nothing if there is none.

        >>> number(1234.56, 1), number(math.nan, 1)
        ('1234.6', '')
    """
    return "" if math.isnan(value) else f"{value:.{digits}f}"


def figure_text(scenario: Scenario, value: float) -> str:
    """Write a scenario's figure in its unit, with three digits that count."""
    value *= scenario.scale
    if math.isnan(value):
        return ""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def rows(outcome: Outcome) -> list[list[str]]:
    """Make the table of a scenario, heading first, without the columns that nobody has."""
    scenario = outcome.scenario
    columns = [
        (figure, heading, digits)
        for figure, heading, digits in COLUMNS
        if figure != scenario.figure and any(not math.isnan(cell.median(figure)) for cell in outcome.cells.values())
    ]
    table = [["", scenario.unit, "(rounds)", "to nginx", *(heading for _, heading, _ in columns)]]
    for name, cell in outcome.cells.items():
        if cell.failed:
            table.append([name, "failed", *[""] * (len(table[0]) - 2)])
            continue
        low, high = (figure_text(scenario, value) for value in cell.bounds(scenario.figure))
        table.append(
            [
                name,
                figure_text(scenario, cell.median(scenario.figure)),
                f"({low} to {high})",
                number(outcome.ratio(name), 2),
                *(number(cell.median(figure), digits) for figure, _, digits in columns),
            ]
        )
    return table


def describe(outcome: Outcome) -> str:
    """Write a scenario for the terminal."""
    scenario = outcome.scenario
    reasons = [f"{name} failed: {cell.failed}" for name, cell in outcome.cells.items() if cell.failed]
    return "\n".join([f"{scenario.name}: {scenario.title}", stage.table(rows(outcome)), *reasons, ""])


def plain(result: Result) -> dict[str, Any]:
    """Make what is stored as JSON: medians and rounds, None where there is no number."""
    return {
        **result.header,
        "versions": result.versions,
        "scenarios": {outcome.scenario.name: _plain_outcome(outcome) for outcome in result.outcomes},
        "bars": [
            {
                "scenario": verdict.scenario,
                "figure": verdict.bar.figure,
                "limit": verdict.bar.limit,
                "to": verdict.bar.to or None,
                "value": verdict.value,
                "met": verdict.met,
            }
            for verdict in verdicts(result.outcomes)
        ],
        "skipped": result.skipped,
        "failures": result.failures,
        "rates_not_held": result.rates_not_held,
    }


def _plain_outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        "title": outcome.scenario.title,
        "figure": outcome.scenario.figure,
        "contenders": {
            name: {"failed": cell.failed}
            if cell.failed
            else {
                "median": _plain_figures({figure: cell.median(figure) for figure in cell.samples[0]}),
                "to_nginx": _plain_number(outcome.ratio(name)),
                "rounds": [_plain_figures(sample) for sample in cell.samples],
            }
            for name, cell in outcome.cells.items()
        },
    }


def _plain_figures(figures: Mapping[str, float]) -> dict[str, float | None]:
    return {figure: _plain_number(value) for figure, value in figures.items()}


def _plain_number(value: float) -> float | None:
    # JSON has no NaN. Four digits are more than any round is good for.
    return None if math.isnan(value) else float(f"{value:.4g}")


def markdown(result: Result, plots: Sequence[tuple[str, str]]) -> str:
    """Write the report; ``plots`` are file names with what they show."""
    blocks = [
        "# Benchmarks",
        "\n".join(f"- {key}: {value}" for key, value in result.header.items()),
        "\n".join(f"- {name}: {result.titles[name]}; {version}" for name, version in result.versions.items()),
        "\n".join([BEGIN, overview(result), END]),
        *(f"![{title}]({name})" for name, title in plots),
        NOTES,
        "## Bars",
        "\n".join(f"- {verdict}" for verdict in verdicts(result.outcomes)) or "None could be judged.",
        *_missing(result),
        *(block for outcome in result.outcomes for block in _markdown_outcome(outcome)),
    ]
    return "\n\n".join(blocks) + "\n"


def _missing(result: Result) -> Iterator[str]:
    lines = [*result.skipped, *result.failures, *(f"rate not held: {line}" for line in result.rates_not_held)]
    if lines:
        yield "## Not measured"
        yield "\n".join(f"- {line}" for line in lines)


def _markdown_outcome(outcome: Outcome) -> Iterator[str]:
    yield f"## {outcome.scenario.name}: {outcome.scenario.title}"
    yield markdown_table(rows(outcome))


def overview(result: Result) -> str:
    """Make the README's table: a row for each scenario that is shown, a column for each contender."""
    names = list(result.versions)
    table = [["", *names, "at most"]]
    for outcome in result.outcomes:
        if outcome.scenario.shown:
            cells = [_overview_cell(outcome, name) for name in names]
            bars = ", ".join(map(str, outcome.scenario.bars))
            table.append([f"{outcome.scenario.title}, {outcome.scenario.unit}", *cells, bars])
    return markdown_table(table)


def _overview_cell(outcome: Outcome, name: str) -> str:
    cell = outcome.cells.get(name)
    if cell is None:
        return "-"
    if cell.failed:
        return "failed"
    text = figure_text(outcome.scenario, outcome.figure(name))
    ratio = number(outcome.ratio(name), 2)
    return text if name == NGINX or not ratio else f"{text} ({ratio})"


def markdown_table(table: Sequence[Sequence[str]]) -> str:
    """
    Write a table, first row as heading.

        >>> print(markdown_table([["", "a"], ["x", "1"]]))
        |  | a |
        | --- | ---: |
        | x | 1 |
    """
    head, *body = [f"| {' | '.join(row)} |" for row in table]
    return "\n".join([head, f"| --- |{' ---: |' * (len(table[0]) - 1)}", *body])
