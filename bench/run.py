"""
The benchmark: pyproxy beside other proxies with the same features on, in every scenario, in one run.

Exit code 1 if a bar is missed, 2 if something that should have been measured could not be. A load that this machine
could not send at the rate that was asked for is reported, and is neither. Must not know how a contender is started or
a figure is taken.

The contenders of a scenario all run, each with one worker, on the first core; web nodes and clients share the second.
They take turns (A B C A B C …) so that a noisy neighbour disturbs all of them, and the medians of the rounds are
compared. A contender that isn't installed is skipped by name; one that fails loses its place in that scenario only.
"""

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import measure, nodes, report, stage
from bench.contenders import CONTENDERS, Contender, Running, Task
from bench.scenarios import SCENARIOS, Place, Scenario

RESULTS = Path(__file__).with_name("results")
SECONDS = 2
ROUNDS, ROUNDS_WITHOUT_BAR = 5, 3
QUICK_SECONDS, QUICK_ROUNDS = 1, 3
START_SECONDS = 0.5  # what most contenders take to start, for the estimate
TOOLS = {"nginx": ("nginx", "-v"), "wrk": ("wrk", "-v"), "h2load": ("nghttp2-client", "--version")}


@dataclass
class Turn:
    """A contender that takes part in a scenario."""

    contender: Contender
    running: Running | None = None
    capacity: float = 0.0  # requests a second, where the load depends on it
    cell: report.Cell = field(default_factory=report.Cell)

    def attempt(self, do: Callable[[], None]) -> None:
        """Do a step, unless one before has failed."""
        if self.cell.failed:
            return
        try:
            do()
        except (stage.StageError, OSError, subprocess.SubprocessError) as error:
            first, *rest = str(error).strip().splitlines() or [type(error).__name__]
            # Of a traceback or a log, the last line is the one that says it.
            self.cell.failed = f"{first} {rest[-1]}" if rest else first
            self.cell.is_rate_not_held = isinstance(error, stage.RateNotHeld)


class Progress:
    """One line on a terminal: what is measured now, and how long all of it will still take."""

    def __init__(self, planned: float) -> None:
        self._planned = planned  # seconds, of the load alone
        self._done = 0.0
        self._began = time.monotonic()
        self._shown = sys.stderr.isatty()

    def step(self, text: str, planned: float) -> None:
        """Begin a step of so many seconds; programs that start and end take longer, by how much shows in the end."""
        if self._shown:
            spent = time.monotonic() - self._began
            # As if 10 s had been right, so that the first steps don't decide alone.
            left = (self._planned - self._done) * (spent + 10) / (self._done + 10)
            sys.stderr.write(f"\r\033[K{text}, {left // 60:.0f}:{left % 60:02.0f} left")
            sys.stderr.flush()
        self._done += planned

    def clear(self) -> None:
        """Make room for other output."""
        if self._shown:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()


@dataclass
class Stand:
    """What all scenarios of a run have in common."""

    directory: Path
    stack: contextlib.ExitStack
    progress: Progress
    rounds: int | None
    seconds: int
    quick: bool
    cores: tuple[int, int] = field(default_factory=stage.two_cores)
    ports: dict[Place, tuple[int, ...]] = field(default_factory=dict)

    def pool(self, place: Place) -> tuple[int, ...]:
        """Return the ports of nodes, which run once asked for to the end; idle they cost nothing."""
        kind = "slow" if place.nodes == "fast" else place.nodes
        key = Place(kind, place.backends)
        if key not in self.ports:
            directory = self.directory / f"nodes-{kind}-{place.backends}"
            if kind == "web":
                context = nodes.web_nodes(directory, self.cores[1], place.backends)
            else:
                context = (nodes.slow_nodes if kind == "slow" else nodes.echo_nodes)(self.cores[1], directory)
            self.ports[key] = self.stack.enter_context(context)
        return self.ports[key][1:] if place.nodes == "fast" else self.ports[key]

    def count_rounds(self, scenario: Scenario) -> int:
        """Tell how often a contender is measured."""
        if scenario.demand.kind == "idle":
            return 1  # in a second one, connections would get the memory of those before
        return self.rounds or (QUICK_ROUNDS if self.quick else ROUNDS if scenario.bars else ROUNDS_WITHOUT_BAR)


def main() -> int:
    """Measure, print, write, compare."""
    options = parse()
    stage.raise_file_limit()
    versions, skipped = installed(options.contender)
    contenders = [contender for contender in CONTENDERS if contender.name in versions]
    scenarios, missing = choose(options.scenario, options.quick)
    seconds = options.seconds or (QUICK_SECONDS if options.quick else SECONDS)
    result = report.Result(
        header(options.rounds, seconds, options.quick),
        versions,
        {contender.name: contender.title for contender in contenders},
        skipped=[*skipped, *missing],
    )
    for key, value in [*result.header.items(), *versions.items()]:
        print(f"{key}: {value}")
    print(*result.skipped, "", sep="\n", flush=True)
    with stage.temporary_directory() as directory, contextlib.ExitStack() as stack:
        stand = Stand(directory, stack, Progress(0), options.rounds, seconds, options.quick)
        parts = [(scenario, takers(scenario, contenders, options.quick)) for scenario in scenarios]
        parts = [(scenario, taking) for scenario, taking in parts if taking]
        stand.progress = Progress(
            sum(
                len(taking) * (START_SECONDS + measure.WARM_UP_SECONDS + stand.count_rounds(one) * seconds)
                for one, taking in parts
            )
        )
        for scenario, taking in parts:
            outcome = run_scenario(stand, scenario, taking)
            result.outcomes.append(outcome)
            stand.progress.clear()
            print(report.describe(outcome), flush=True)
    return finish(result, options)


def parse() -> argparse.Namespace:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description="pyproxy beside other proxies, in every scenario.")
    parser.add_argument("--quick", action="store_true", help="under a minute: bars to nginx only, short rounds")
    names = [scenario.name for scenario in SCENARIOS]
    parser.add_argument("--scenario", nargs="+", choices=names, metavar="NAME", help=", ".join(names))
    names = [contender.name for contender in CONTENDERS]
    parser.add_argument("--contender", nargs="+", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--rounds", type=int, help=f"of each contender ({ROUNDS}; {ROUNDS_WITHOUT_BAR} without a bar)")
    parser.add_argument("--seconds", type=int, help=f"length of a round ({SECONDS})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result for machines")
    parser.add_argument("--report", type=Path, metavar="DIRECTORY", help="write report.md, plots and result.json")
    options = parser.parse_args()
    # A part of the whole must not take the place of the last full run.
    if options.report is None and not (options.quick or options.scenario or options.contender):
        options.report = RESULTS
    return options


def installed(wanted: Sequence[str] | None) -> tuple[dict[str, str], list[str]]:
    """Return the versions of the contenders that there are, by name, and a line for each of the others."""
    versions, skipped = {}, []
    for contender in CONTENDERS:
        if wanted and contender.name not in wanted:
            continue
        try:
            versions[contender.name] = contender.version()
        except stage.Missing as missing:
            skipped.append(f"skipped: {contender.name} ({missing})")
    return versions, skipped


def choose(wanted: Sequence[str] | None, quick: bool) -> tuple[list[Scenario], list[str]]:
    """Return the scenarios to run, and a line for each whose load can't be made here."""
    chosen = [one for one in SCENARIOS if (one.name in wanted if wanted else one.quick or not quick)]
    try:
        stage.require("h2load")
    except stage.StageError:
        without = [one for one in chosen if one.demand.kind == "h2load"]
        chosen = [one for one in chosen if one not in without]
        return chosen, [f"skipped: {one.name} (h2load is {stage.Missing('nghttp2-client')})" for one in without]
    return chosen, []


def takers(scenario: Scenario, contenders: Sequence[Contender], quick: bool) -> list[Contender]:
    """Return who takes part in a scenario; in a quick run, whom its bars are about."""
    names = set(scenario.contenders)
    if quick:
        names &= {report.OURS, *(bar.to for bar in scenario.bars)}
    place = scenario.place
    return [
        one
        for one in contenders
        if one.name in names and place.policy in one.policies and (one.routes or place.routes == 1)
    ]


def run_scenario(stand: Stand, scenario: Scenario, contenders: Sequence[Contender]) -> report.Outcome:
    """Start the contenders of a scenario and let them take turns."""
    turns = [Turn(contender) for contender in contenders]
    rounds = stand.count_rounds(scenario)
    directory = stand.directory / scenario.name
    directory.mkdir()
    body = directory / "body"
    body.write_bytes(bytes(scenario.demand.upload_bytes))
    with contextlib.ExitStack() as stack:
        for turn in turns:
            stand.progress.step(f"{scenario.name}: {turn.contender.name}, starting", START_SECONDS)
            turn.attempt(partial(start, stand, stack, scenario, turn, directory))
        for turn in turns:
            stand.progress.step(f"{scenario.name}: {turn.contender.name}, warming up", measure.WARM_UP_SECONDS)
            turn.attempt(partial(warm_up, stand, scenario, turn, body))
        for number in range(rounds):
            for turn in turns:
                stand.progress.step(
                    f"{scenario.name}: {turn.contender.name}, round {number + 1} of {rounds}", stand.seconds
                )
                turn.attempt(partial(measure_round, stand, scenario, turn, body))
    return report.Outcome(scenario, {turn.contender.name: turn.cell for turn in turns})


def start(stand: Stand, stack: contextlib.ExitStack, scenario: Scenario, turn: Turn, directory: Path) -> None:
    """Start the nodes, if they aren't there, and a contender."""
    place = scenario.place
    task = Task(stand.pool(place), place.policy, place.routes)
    where = directory / turn.contender.name.replace(" ", "-")
    turn.running = stack.enter_context(turn.contender.start(where, task, stand.cores[0]))


def warm_up(stand: Stand, scenario: Scenario, turn: Turn, body: Path) -> None:
    """Let a contender serve for a while, and find out what it can do where that is asked for."""
    assert turn.running is not None
    turn.capacity = measure.warm_up(turn.running, scenario.demand, stand.seconds, stand.cores[1], body)


def measure_round(stand: Stand, scenario: Scenario, turn: Turn, body: Path) -> None:
    """Measure a contender once."""
    assert turn.running is not None
    sample = measure.measure_round(turn.running, scenario, stand.seconds, stand.cores, body, turn.capacity)
    turn.cell.samples.append(sample)


def header(rounds: int | None, seconds: int, quick: bool) -> dict[str, str]:
    """Tell what was measured with, and where."""
    cpu = [line.partition(":")[2].strip() for line in _lines(Path("/proc/cpuinfo")) if line.startswith("model name")]
    number = str(rounds or (QUICK_ROUNDS if quick else f"{ROUNDS}, {ROUNDS_WITHOUT_BAR} in scenarios without a bar"))
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "kernel": f"{platform.system()} {platform.release()}",
        "CPU": f"{cpu[0] if cpu else platform.machine()}, {os.cpu_count()} cores",
        "tools": ", ".join(_tools()),
        "rounds": f"{number}, of {seconds} s each",
    }


def _tools() -> Iterator[str]:
    for program, (package, option) in TOOLS.items():
        try:
            path = stage.require(program)
        except stage.StageError:
            yield f"no {program} (Debian: apt-get install {package})"
            continue
        done = subprocess.run([path, option], capture_output=True, text=True, check=False)
        # "nginx version: nginx/1.22.1", "wrk debian/4.1.0-3 [epoll] Copyright …", "h2load nghttp2/1.52.0"
        version = next(word for word in (done.stdout + done.stderr).split() if "/" in word)
        yield f"{program} {version.partition('/')[2]}"


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def finish(result: report.Result, options: argparse.Namespace) -> int:
    """Write what was asked for, and tell how it went."""
    text = json.dumps(report.plain(result), indent=2) + "\n"
    if options.json:
        options.json.write_text(text)
    if options.report:
        options.report.mkdir(parents=True, exist_ok=True)
        (options.report / "result.json").write_text(text)
        write_report(result, options.report)
        print(f"report: {options.report / 'report.md'}\n")
    verdicts = report.verdicts(result.outcomes)
    for verdict in verdicts:
        print(f"bar: {verdict}")
    for line in result.rates_not_held:
        print(f"rate not held: {line}")
    for line in result.failures:
        print(f"failed: {line}")
    if result.failures:
        return 2
    return 0 if all(verdict.met for verdict in verdicts) else 1


def write_report(result: report.Result, directory: Path) -> None:
    """Write the report with its plots."""
    try:
        from bench import plots  # noqa: PLC0415  nobody needs matplotlib to measure
    except ImportError:
        print("no plots: matplotlib is not installed (dependency group bench)")
        written = []
    else:
        written = plots.write(directory, result.outcomes)
    (directory / "report.md").write_text(report.markdown(result, written))


if __name__ == "__main__":
    stage.run(main)
