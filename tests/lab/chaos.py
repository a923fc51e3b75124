"""
An hour of random faults: `make lab-chaos MINUTES=60`, or `python -m tests.lab.chaos --minutes 3 --seed 7`.

Two proxies at the defaults, a client every 10 ms, and one fault after another. The seed decides which fault comes, on
which machine, and how long it is held; which of the two is master then is the pair's own doing. Each fault is undone,
then the pair has to be whole again: one master, one backup, one holder that answers.

At the end comes a report of every gap of more than 100 ms between two answers, with its cause: the fault in whose time
it begins. All gaps of one fault together may be as long as its kind says; what goes beyond that, and a gap that begins
in the time of no fault, is unexplained.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any

from tests.lab.conftest import why_not
from tests.lab.namespaces import reap
from tests.lab.noise import malformed_adverts
from tests.lab.pair import Pair
from tests.lab.process import await_true
from tests.lab.proxy import Proxy
from tests.lab.topology import Lab, Machine

PAIR = Pair(interval=1.0)
GAP = 0.1  # seconds between two answers that are told
WHOLE_SECONDS = 60.0  # within which the pair is whole again after a fault
PATIENCE = 1.0  # of the client, which sends the next request all the same
LOADED = 0.5  # seconds by which a busy machine is later than it should be
#: What all gaps of a fault may last together: nothing has to move, or it is handed over ...
BRIEF = LOADED
#: ... the machine itself finds that it can't serve: workers are silent for 1 s and 0.25 s, none is ready for 0.5 s ...
GIVEN = 1.75 + LOADED
#: ... only its silence tells, 3.6 s at these adverts ...
DOWN = PAIR.down_time(100) + LOADED
#: ... or its gateway, which doesn't answer four questions, and answers the other machine after that; when the way is
#: free again, both have the address for an interval.
CUT_OFF = 5.0 + PAIR.interval + LOADED

Undo = ExitStack


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of fault; ``most`` is what its gaps may last together, on the master and on the backup."""

    name: str
    make: Callable[["Chaos", Proxy, Undo], object]
    most: tuple[float, float] = (DOWN, BRIEF)


@dataclass(slots=True)
class Made:
    """A fault that was made, and when the pair was whole again after it."""

    fault: Fault
    role: str
    machine: str
    begin: float
    end: float = 0.0

    @property
    def most(self) -> float:
        """What its gaps may last together."""
        return self.fault.most[0 if self.role == "master" else 1]

    def __str__(self) -> str:
        return f"{self.fault.name} on {self.machine}, the {self.role}"


class Chaos:
    """One run in a lab; ``made`` are the faults so far."""

    def __init__(self, lab: Lab, seed: int) -> None:
        self.lab = lab
        self.made: list[Made] = []
        self._dice = Random(seed)
        for machine in (lab.a, lab.b):
            lab.small_run(machine)
        lab.serve_nodes()
        self._options: dict[str, Any] = {"top": {"workers": 2}}
        self.watch = lab.watch(timeout=PATIENCE)
        self.proxies = {"a": Proxy(lab.a, PAIR, **self._options)}
        self.proxies["a"].await_state("master")  # so that a seed finds the same machine in the same role
        self.proxies["b"] = Proxy(lab.b, PAIR, **self._options)
        self.await_whole()

    def __repr__(self) -> str:
        return f"<Chaos {len(self.made)} faults>"

    def run(self, seconds: float) -> None:
        """Make faults until the time is over; the last one is undone as well."""
        until = monotonic() + seconds
        while monotonic() < until:
            self.step()

    def step(self) -> None:
        """Make one fault, and see that the pair survives it."""
        fault, name, held = draw(self._dice)
        proxy = self.proxies[name]
        made = Made(fault, proxy.state, name, monotonic())
        self.made.append(made)
        with ExitStack() as undo:
            fault.make(self, proxy, undo)
            time.sleep(held)
        self.await_whole()
        made.end = monotonic()
        print(f"{made.end - made.begin:6.1f} s  {made}, held for {held:.1f} s", flush=True)  # noqa: T201 - the report

    def await_whole(self) -> None:
        """Wait until the pair is one again, and start what has ended."""
        for name, proxy in self.proxies.items():
            if not proxy.process.is_running:
                self.proxies[name] = Proxy(proxy.machine, PAIR, **self._options)
        await_true(
            self._is_whole, lambda: f"the pair isn't whole again after {self.made[-1:]}: {self._story()}", WHOLE_SECONDS
        )
        self.watch.await_answer(self.lab.holders()[0], monotonic())

    def restart(self, machine: Machine, **options: Any) -> None:
        """Start a proxy that has ended, perhaps with another file."""
        self.proxies[machine.name] = Proxy(machine, PAIR, **{**self._options, **options})

    def gaps(self) -> list[tuple[float, float, Made | None]]:
        """Give each gap: when it began, how long it was, and its cause, None if none explains it."""
        times = sorted(answer.ended for answer in self.watch.record.answers())
        return explain(times, self.made)

    def _is_whole(self) -> bool:
        with suppress(OSError):
            views = [proxy.peer for proxy in self.proxies.values()]
            is_linked = all(view["peer"]["link"] == "up" and view["peer"]["well"] for view in views)
            return (
                is_linked
                and sorted(view["state"] for view in views) == ["backup", "master"]
                and len(self.lab.holders()) == 1
                and all("a spare speaker waits" in proxy.process.log for proxy in self.proxies.values())
            )
        return False

    def _story(self) -> str:
        logs = "\n".join(f"{name}:\n{proxy.process.log[-3000:]}" for name, proxy in self.proxies.items())
        return f"{self.lab.holders()}\n{logs}"


def draw(dice: Random) -> tuple[Fault, str, float]:
    """Draw a fault, the machine, and for how many seconds it is held."""
    return dice.choice(FAULTS), dice.choice("ab"), dice.uniform(0.1, 8)


def explain(times: list[float], faults: list[Made]) -> list[tuple[float, float, Made | None]]:
    """
    Find the gaps between answers: when each began, how long it was, and the fault that explains it, None if none does.

    The last answer before a fault may be as old as a gap that isn't told.
    """
    found: list[tuple[float, float, Made | None]] = []
    spent = [0.0] * len(faults)
    for earlier, later in pairwise(times):
        length = later - earlier
        if length <= GAP:
            continue
        found.append((earlier, length, None))
        # The later one, where one began as the other ended.
        for number in reversed(range(len(faults))):
            if faults[number].begin - GAP <= earlier <= faults[number].end:
                spent[number] += length
                if spent[number] <= faults[number].most:
                    found[-1] = (earlier, length, faults[number])
                break
    return found


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _stop_then_continue(pids: list[int], undo: Undo) -> None:
    """Stop processes; who isn't killed for it goes on in the end."""
    _signal(pids, signal.SIGSTOP)
    undo.callback(_signal, pids, signal.SIGCONT)


def _kill_all(_: Chaos, proxy: Proxy, __: Undo) -> None:
    proxy.kill()


def _restart(chaos: Chaos, proxy: Proxy, _: Undo) -> None:
    proxy.stop()
    chaos.restart(proxy.machine)


def _drift(chaos: Chaos, proxy: Proxy, undo: Undo) -> None:
    """Run with another file for a while."""
    proxy.stop()
    chaos.restart(proxy.machine, top={"workers": 2, "client": {"keepalive": "5s"}})
    undo.callback(_drift_end, chaos, proxy.machine)


def _drift_end(chaos: Chaos, machine: Machine) -> None:
    chaos.proxies[machine.name].stop()
    chaos.restart(machine)


def _hand_over(_: Chaos, proxy: Proxy, __: Undo) -> None:
    """From the backup it is refused."""
    proxy.run_verb("peer", "handover", "--reason", "chaos")


def _flood(chaos: Chaos, proxy: Proxy, undo: Undo) -> None:
    undo.enter_context(malformed_adverts(chaos.lab, proxy.machine.other.address))


def _full(chaos: Chaos, proxy: Proxy, undo: Undo) -> None:
    """Fill the disk, and end the speaker that can't write its state."""
    chaos.lab.fill_run(proxy.machine)
    undo.callback((proxy.machine.directory / "run" / "filler").unlink)
    time.sleep(4.0)
    _signal([proxy.speaker], signal.SIGKILL)


def _with(name: str, off: str, **undone: Any) -> Callable[[Chaos, Proxy, Undo], object]:
    """Make a fault of the network by one method of the lab, and undo it by another or with other arguments."""

    def make(chaos: Chaos, proxy: Proxy, undo: Undo) -> None:
        getattr(chaos.lab, name)(proxy.machine)
        undo.callback(getattr(chaos.lab, off), proxy.machine, **undone)

    return make


def _cut(chaos: Chaos, _: Proxy, undo: Undo) -> None:
    chaos.lab.cut_link()
    undo.callback(chaos.lab.cut_link, cut=False)


def _part(chaos: Chaos, _: Proxy, undo: Undo) -> None:
    """The link alone still connects them."""
    chaos.lab.part()
    undo.callback(chaos.lab.part, parted=False)


FAULTS = (
    Fault("kill -9 of the speaker", lambda _, proxy, __: _signal([proxy.speaker], signal.SIGKILL), (BRIEF, BRIEF)),
    Fault("kill -9 of the speaker and its spare", lambda _, proxy, __: _signal(proxy.speakers, signal.SIGKILL)),
    Fault("kill -9 of a worker", lambda _, proxy, __: _signal(proxy.workers[:1], signal.SIGKILL), (BRIEF, BRIEF)),
    Fault("kill -9 of the workers", lambda _, proxy, __: _signal(proxy.workers, signal.SIGKILL), (GIVEN, BRIEF)),
    Fault("kill -9 of the supervisor", lambda _, proxy, __: proxy.process.send(signal.SIGKILL), (GIVEN, BRIEF)),
    Fault("kill -9 of everything", _kill_all),
    Fault("a speaker that hangs", lambda _, proxy, undo: _stop_then_continue([proxy.speaker], undo)),
    Fault("a worker that hangs", lambda _, proxy, undo: _stop_then_continue(proxy.workers[:1], undo)),
    Fault("workers that hang", lambda _, proxy, undo: _stop_then_continue(proxy.workers, undo), (GIVEN, BRIEF)),
    Fault(
        "a supervisor that hangs", lambda _, proxy, undo: _stop_then_continue([proxy.process.pid], undo), (BRIEF, BRIEF)
    ),
    Fault(
        "a machine that hangs",
        lambda _, proxy, undo: _stop_then_continue([proxy.process.pid, *proxy.workers, *proxy.speakers], undo),
    ),
    Fault("a link that is cut", _cut, (BRIEF, BRIEF)),
    Fault("a cable that is pulled", _with("unplug", "plug"), (GIVEN, BRIEF)),
    Fault("a port that is blocked", _with("block", "block", blocked=False), (CUT_OFF, BRIEF)),
    Fault("adverts that don't come", _part, (BRIEF, BRIEF)),
    Fault("a flood of bad adverts", _flood, (BRIEF, BRIEF)),
    Fault("a hand-over", _hand_over, (BRIEF, BRIEF)),
    Fault("a restart", _restart, (BRIEF, BRIEF)),
    Fault("another file", _drift, (BRIEF, BRIEF)),
    Fault("a full disk", _full, (BRIEF, BRIEF)),
)


def report(chaos: Chaos) -> int:
    """Print every gap with its cause; how many have none."""
    unexplained = 0
    start = chaos.made[0].begin if chaos.made else 0.0
    for at, length, cause in chaos.gaps():
        unexplained += cause is None
        print(f"gap of {length * 1000:6.0f} ms at {at - start:7.1f} s: {cause or 'UNEXPLAINED'}")  # noqa: T201
    record = chaos.watch.record
    failed = len(record.failed())
    print(f"{len(chaos.made)} faults, {len(record.requests)} requests, {failed} failed, {unexplained} gaps unexplained")  # noqa: T201
    return unexplained


@contextmanager
def _lab() -> Iterator[Lab]:
    with tempfile.TemporaryDirectory() as directory, Lab(Path(directory)) as lab:
        yield lab


def main() -> int:
    """Run, and report also when it ends badly; the exit code is 1 for a lost address or an unexplained gap."""
    parser = argparse.ArgumentParser(description="Random faults on both machines, and what clients see of them.")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "big"))
    arguments = parser.parse_args()
    if (reason := why_not()) is not None:
        parser.error(reason)
    reap()
    print(f"seed {arguments.seed}", flush=True)  # noqa: T201 - the report
    with _lab() as lab:
        chaos = Chaos(lab, arguments.seed)
        try:
            chaos.run(arguments.minutes * 60)
        except AssertionError as error:
            print(f"LOST: {error}")  # noqa: T201 - the report
            report(chaos)
            return 1
        return 1 if report(chaos) else 0


if __name__ == "__main__":
    sys.exit(main())
