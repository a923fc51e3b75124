"""
How long it takes until the address is served again: `make lab-measure`.

Or a part of it: `python -m tests.lab.measure --runs 3 --intervals 0.1 --only kill`. Every run has a lab of its own.
Prints minimum, median and maximum in milliseconds, and the bar where there is one; exits with 1 if one is missed.
"""

import argparse
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.lab import scenarios
from tests.lab.conftest import why_not
from tests.lab.keepalived import Keepalived
from tests.lab.namespaces import reap
from tests.lab.pair import Pair
from tests.lab.speaker import Speaker
from tests.lab.topology import Lab

COUNTS = ("failed", "moved")


class Scenario(NamedTuple):
    """What is run, with the bars of its figures in milliseconds (counts as they are), by advert interval."""

    name: str
    who: str
    run: Callable[[Lab, Pair], scenarios.Figures]
    bars: Callable[[float], dict[str, float]] = lambda _: {}
    intervals: tuple[float, ...] = (1.0, 0.1, 0.05)


def takeover_bars(_: float) -> dict[str, float]:
    """Return the bars of a takeover after the master vanished."""
    return {"late": 20, "served": 10}


def lease_bars(interval: float) -> dict[str, float]:
    """Return the bars of an address that the kernel takes away."""
    return {"both": 20 if interval >= 1 else 1000 + 350}


SCENARIOS = (
    *(
        Scenario(fault, name, scenarios.takeover(start, fault), takeover_bars if is_ours else lambda _: {})
        for fault in ("kill -9", "link down")
        for name, start, is_ours in (("keepalived", Keepalived, False), ("ours", Speaker, True))
    ),
    Scenario("graceful stop", "keepalived", scenarios.takeover(Keepalived, "graceful stop")),
    Scenario("graceful stop", "ours", scenarios.takeover(Speaker, "graceful stop")),
    Scenario("handover", "ours", scenarios.handover, lambda _: {"gap": 100, "failed": 0}, (1.0, 0.1)),
    Scenario("healed partition", "keepalived", scenarios.healed(Keepalived), intervals=(1.0, 0.1)),
    Scenario("healed partition", "ours", scenarios.healed(Speaker), lambda _: {"answered": 500}, (1.0, 0.1)),
    Scenario("no workers", "ours", scenarios.no_workers, lambda _: {"answered after the delay": 200}, (1.0, 0.1)),
    Scenario("speaker killed", "ours", scenarios.killed_speaker, lambda _: {"gap": 100, "moved": 0}, (1.0, 0.1)),
    Scenario("speaker hung", "ours", scenarios.hung, lease_bars, (1.0, 0.1)),
    Scenario("speaker and supervisor killed", "ours", scenarios.killed_with_supervisor, lease_bars, (1.0, 0.1)),
)


def run_once(scenario: Scenario, interval: float) -> scenarios.Figures:
    """Run a scenario in a lab of its own."""
    with tempfile.TemporaryDirectory(prefix="lab-") as directory, Lab(Path(directory)) as lab:
        return scenario.run(lab, Pair(interval=interval))


def row(name: str, values: list[float], bar: float | None) -> tuple[str, bool]:
    """Write minimum, median, maximum and bar of one figure; whether the bar holds in every run."""
    scale = 1 if name in COUNTS else 1000
    ordered = [scale * value for value in sorted(values)]
    holds = bar is None or ordered[-1] <= bar
    text = f"{ordered[0]:.0f} / {statistics.median(ordered):.0f} / {ordered[-1]:.0f}"
    return f"{name} | {text} | {'' if bar is None else f'{bar:.0f}'} | {'' if holds else 'missed'}", holds


def report(scenario: Scenario, interval: float, runs: int) -> bool:
    """Run a scenario and print its figures; whether all bars hold."""
    found: list[scenarios.Figures] = []
    for _ in range(runs):
        try:
            found.append(run_once(scenario, interval))
        except AssertionError as error:
            print(
                f"| {scenario.name} | {scenario.who} | {interval:g} s | failed: {str(error)[:400]!r} ||||", flush=True
            )
    bars = scenario.bars(interval)
    all_hold = len(found) == runs
    for name in found[0] if found else ():
        text, holds = row(name, [figures[name] for figures in found], bars.get(name))
        print(f"| {scenario.name} | {scenario.who} | {interval:g} s | {text} |", flush=True)
        all_hold &= holds
    return all_hold


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--intervals", help="in seconds, separated by commas")
    parser.add_argument("--only", default="", help="a part of the scenario's name")
    parser.add_argument("--who", default="", help="ours or keepalived")
    options = parser.parse_args()
    if reason := why_not():
        sys.stderr.write(f"{reason}\n")
        return 2
    reap()
    wanted = {float(text) for text in options.intervals.split(",")} if options.intervals else None
    print("| event | who | adverts | figure | min / median / max, ms | bar | |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    all_hold = True
    for scenario in SCENARIOS:
        if options.only in scenario.name and options.who in scenario.who:
            for interval in scenario.intervals:
                if wanted is None or interval in wanted:
                    all_hold &= report(scenario, interval, options.runs)
    return 0 if all_hold else 1


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
