"""
The plots of the report, as SVG.

Must not know how anything was measured. Everything about a contender's look is in one table, so that it looks the same
in every plot; its colours (Okabe and Ito's) differ for the colour-blind, hatches and marks in grey, too. The same
figures give the same file: nothing random, no date, text as text.
"""

import math
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from bench.report import NGINX, Outcome
from bench.scenarios import MOST_RATE

mpl.use("svg")
SETTINGS: dict[Any, Any] = {  # matplotlib types the keys as a list of all of them
    "svg.hashsalt": "pyproxy",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "hatch.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
}


class Look(NamedTuple):
    """How a contender is drawn."""

    colour: str
    hatch: str
    mark: str
    line: str


LOOKS = {
    "pyproxy": Look("#0072B2", "", "o", "-"),
    "nginx": Look("#000000", "", "s", "-"),
    "nginx tuned": Look("#999999", "", "D", "--"),
    "haproxy": Look("#E69F00", "//", "^", "-."),
    "caddy": Look("#56B4E9", "..", "v", ":"),
    "aiohttp": Look("#D55E00", "xx", "P", "--"),
    "bare pair": Look("#CC79A7", "\\\\", "X", ":"),
}


def write(directory: Path, outcomes: Sequence[Outcome]) -> list[tuple[str, str]]:
    """Write every plot for which there are figures; return file names and titles."""
    plots: tuple[tuple[str, str, Callable[[Sequence[Outcome]], Figure | None]], ...] = (
        ("cpu.svg", "CPU per request relative to nginx", relative_cpu),
        ("latency.svg", f"latency at a fixed rate, at most {MOST_RATE:,.0f}/s", latency),
        ("size.svg", "CPU per request by size of the answer", cpu_by_size),
    )
    written = []
    with mpl.rc_context(SETTINGS):
        for name, title, draw in plots:
            figure = draw(outcomes)
            if figure is not None:
                figure.suptitle(title)
                figure.savefig(directory / name, format="svg", metadata={"Date": None})
                written.append((name, title))
    return written


def relative_cpu(outcomes: Sequence[Outcome]) -> Figure | None:
    """Draw bars up and down from what nginx takes."""
    shown = [one for one in outcomes if one.scenario.shown and one.scenario.figure == "cpu_us" and one.figure(NGINX)]
    shown = [one for one in shown if not math.isnan(one.figure(NGINX))]
    names = [name for name in _names(shown) if name != NGINX]
    if not names:
        return None
    figure, axes = _axes(12, 4.5)
    _bars(axes, names, [one.scenario.title for one in shown], lambda name, group: shown[group].ratio(name), 1.0)
    axes.axhline(1.0, color=LOOKS[NGINX].colour, linewidth=1.2)
    axes.set_ylabel("times nginx, log scale (lower is better)")
    _legend(axes)
    return figure


def latency(outcomes: Sequence[Outcome]) -> Figure | None:
    """Draw p99 beside p50 for each of the fixed rates."""
    shown = [one for one in outcomes if one.scenario.demand.kind == "open_loop"]
    names = _names(shown)
    if not names:
        return None
    figure, axes = _axes(8, 4)
    columns = [(one, percentile) for one in shown for percentile in ("p50_ms", "p99_ms")]
    labels = [f"{percentile[:3]} at {one.scenario.demand.share:.0%} of its capacity" for one, percentile in columns]
    lowest = min(value for one, percentile in columns for name in names if (value := one.figure(name, percentile)) > 0)
    floor = 10 ** math.floor(math.log10(lowest))
    _bars(axes, names, labels, lambda name, group: columns[group][0].figure(name, columns[group][1]), floor)
    axes.set_ylabel("ms, log scale (lower is better)")
    _legend(axes)
    return figure


def cpu_by_size(outcomes: Sequence[Outcome]) -> Figure | None:
    """Draw a line for each contender."""
    shown = sorted(
        (one for one in outcomes if one.scenario.demand.answer_bytes and one.scenario.figure == "cpu_us"),
        key=lambda one: one.scenario.demand.answer_bytes,
    )
    names = _names(shown)
    if not names:
        return None
    figure, axes = _axes(8, 4.5)
    for name in names:
        points = [(one.scenario.demand.answer_bytes, one.figure(name)) for one in shown]
        points = [(size, value) for size, value in points if not math.isnan(value)]
        look = LOOKS[name]
        axes.plot(*zip(*points, strict=True), look.line, color=look.colour, marker=look.mark, label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    sizes = [one.scenario.demand.answer_bytes for one in shown]
    axes.set_xticks(sizes, [_size(size) for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylabel("µs of CPU per request, log scale")
    axes.grid(axis="y", linewidth=0.3)
    _legend(axes)
    return figure


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _names(outcomes: Sequence[Outcome]) -> list[str]:
    """Return whoever has a figure, always in the same order."""
    return [name for name in LOOKS if any(not math.isnan(one.figure(name)) for one in outcomes)]


def _bars(
    axes: Axes, names: Sequence[str], groups: Sequence[str], value: Callable[[str, int], float], base: float
) -> None:
    """Draw a group of bars for each label, from a base that a logarithm can have."""
    axes.set_yscale("log")
    axes.grid(axis="y", linewidth=0.3)
    width = 0.8 / len(names)
    for place, name in enumerate(names):
        look = LOOKS[name]
        heights = [value(name, group) for group in range(len(groups))]
        axes.bar(
            [group + (place + 0.5) * width - 0.4 for group in range(len(groups))],
            [height - base for height in heights],
            width,
            bottom=base,
            color=look.colour,
            hatch=look.hatch,
            edgecolor="black",
            linewidth=0.5,
            label=name,
        )
    axes.set_xticks(range(len(groups)), [textwrap.fill(label, 11) for label in groups], fontsize=8)
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def _legend(axes: Axes) -> None:
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)


def _size(size: int) -> str:
    for unit, name in ((1024**2, "MiB"), (1024, "KiB")):
        if size >= unit:
            return f"{size // unit} {name}"
    return f"{size} B"
