"""
How long takeovers take: `make lab-measure`, or `python -m tests.lab.measure --runs 10 --intervals 1,0.1,0.05`.

Every scenario runs in a lab of its own; prints minimum, median and maximum in milliseconds.
"""

import argparse
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from tests.lab.conftest import why_not
from tests.lab.keepalived import Keepalived
from tests.lab.namespaces import reap
from tests.lab.pair import Pair, StartNode
from tests.lab.takeover import FAULTS, Takeover, elect, measure, observe
from tests.lab.topology import Lab

PRIORITIES = (150, 100)
PLAYERS: dict[str, StartNode] = {"keepalived": Keepalived}


def run_takeover(start: StartNode, pair: Pair, fault: str) -> Takeover:
    """Measure one takeover in a lab of its own, the fault at any moment between two adverts."""
    with tempfile.TemporaryDirectory(prefix="lab-") as directory, Lab(Path(directory)) as lab:
        lab.a.serve()
        lab.b.serve()
        seen = observe(lab, pair)
        master, backup = elect(
            lambda: start(lab.a, pair, PRIORITIES[0]), lambda: start(lab.b, pair, PRIORITIES[1]), seen[0]
        )
        time.sleep(random.uniform(2, 3) * max(pair.interval, 0.1))
        return measure(lab, pair, master, backup, seen, FAULTS[fault], PRIORITIES[1])


def show(seconds: Iterable[float]) -> str:
    """Write minimum, median and maximum in milliseconds."""
    values = sorted(1000 * value for value in seconds)
    return f"{values[0]:.0f} / {statistics.median(values):.0f} / {values[-1]:.0f}"


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--intervals", default="1,0.1,0.05")
    parser.add_argument("--only", help="a part of the scenario's name")
    parser.add_argument("--players", default=",".join(PLAYERS))
    options = parser.parse_args()
    if reason := why_not():
        sys.stderr.write(f"{reason}\n")
        return 2
    reap()
    print("| event | who | adverts | other answers | longest gap | advert late | served after it | failed |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for fault in FAULTS:
        if options.only and options.only not in fault:
            continue
        for interval in map(float, options.intervals.split(",")):
            for player in options.players.split(","):
                runs = [run_takeover(PLAYERS[player], Pair(interval=interval), fault) for _ in range(options.runs)]
                columns = [show(getattr(run, name) for run in runs) for name in ("answered", "gap", "late", "served")]
                failed = sum(run.failed for run in runs)
                print(f"| {fault} | {player} | {interval:g} s | {' | '.join(columns)} | {failed} |", flush=True)
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
