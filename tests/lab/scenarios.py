"""
What the issue of two machines promises in milliseconds, each as one run in a lab of its own.

Must not know how often a scenario is run or how its figures are shown. Each returns its figures in seconds by name;
counts are plain numbers.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

from tests.lab.namespaces import is_running
from tests.lab.pair import Pair, StartNode
from tests.lab.process import await_true
from tests.lab.proxy import Proxy
from tests.lab.speaker import Speaker
from tests.lab.takeover import FAULTS, elect, heal, measure, observe
from tests.lab.topology import Lab, Watch

Figures = dict[str, float]
PRIORITIES = (150, 100)
NO_WORKER = 0.5  # the default of release_when.no_worker
SETTLED = 6.0  # seconds of partition after which both bursts of announcements are over


class Holders:
    """Who had the address when: looked at as often as it goes, for some milliseconds of precision."""

    def __init__(self, lab: Lab, address: str) -> None:
        self._lab = lab
        self._address = address
        self.seen: list[tuple[float, tuple[str, ...]]] = []

    def look(self) -> None:
        """Look once."""
        self.seen.append((monotonic(), tuple(self._lab.holders(self._address))))

    @property
    def both(self) -> float:
        """How long both had it."""
        return self._duration(("a", "b"))

    @property
    def nobody(self) -> float:
        """How long nobody had it."""
        return self._duration(())

    def _duration(self, who: tuple[str, ...]) -> float:
        return sum(
            later[0] - earlier[0]
            for earlier, later in zip(self.seen, self.seen[1:], strict=False)
            if earlier[1] == later[1] == who
        )


@contextmanager
def holders(lab: Lab, pair: Pair) -> Iterator[Holders]:
    """Keep looking at who has the address."""
    record = Holders(lab, pair.address)
    is_over = threading.Event()

    def look() -> None:
        while not is_over.is_set():
            record.look()

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield record
    finally:
        is_over.set()
        thread.join()


def takeover(start: StartNode, fault: str) -> Callable[[Lab, Pair], Figures]:
    """Make a scenario of a fault of the master, both machines played alike."""

    def run(lab: Lab, pair: Pair) -> Figures:
        lab.a.serve()
        lab.b.serve()
        seen = observe(lab, pair)
        master, backup = elect(
            lambda: start(lab.a, pair, PRIORITIES[0]), lambda: start(lab.b, pair, PRIORITIES[1]), seen[0]
        )
        _any_phase(pair)
        found = measure(lab, pair, master, backup, seen, FAULTS[fault], PRIORITIES[1])
        return {"answered": found.answered, "gap": found.gap, "late": found.late, "served": found.served}

    return run


def healed(start: StartNode) -> Callable[[Lab, Pair], Figures]:
    """Make a scenario of a healed partition, both machines played alike."""

    def run(lab: Lab, pair: Pair) -> Figures:
        lab.a.serve()
        lab.b.serve()
        seen = observe(lab, pair, 0.01)
        loser, winner = elect(lambda: start(lab.a, pair, 100), lambda: start(lab.b, pair, 150), seen[0])
        found = heal(lab, pair, loser, winner, seen, SETTLED)
        return {"answered": found.answered, "both": found.both}

    return run


def hung(lab: Lab, pair: Pair) -> Figures:
    """The master's speaker is frozen."""
    return _lost(lab, pair, lambda master: master.freeze())


def killed_with_supervisor(lab: Lab, pair: Pair) -> Figures:
    """The master's speaker and its supervisor are killed at once."""
    return _lost(lab, pair, lambda master: master.kill())


def _lost(lab: Lab, pair: Pair, lose: Callable[[Speaker], object]) -> Figures:
    lab.a.serve()
    lab.b.serve()
    watch, _ = observe(lab, pair)
    master, _ = elect(lambda: Speaker(lab.a, pair, PRIORITIES[0]), lambda: Speaker(lab.b, pair, PRIORITIES[1]), watch)
    assert isinstance(master, Speaker)
    _any_phase(pair)
    with holders(lab, pair) as seen:
        before = monotonic()
        lose(master)
        answered = watch.await_answer("b", before)
        await_true(lambda: not lab.a.has_vip(pair.address), "the address stayed")
        left = monotonic()
        time.sleep(0.1)
    return {"answered": answered - before, "left": left - before, "both": seen.both, "nobody": seen.nobody}


def handover(lab: Lab, pair: Pair) -> Figures:
    """The master is asked to hand over; a client waits up to 5 s for each answer."""
    master, backup, watch = _proxies(lab, pair, patience=5.0)
    before = monotonic()
    status, answer = master.ask("POST", "/api/v1/peer/handover", {})
    assert status in (200, 202), answer
    answered = watch.await_answer("b", before)
    backup.await_state("master")
    time.sleep(1.0)
    record = watch.record
    return {
        "answered": answered - before,
        "gap": record.largest_gap(before, monotonic() - 0.2),
        "failed": len(record.failed(before)),
    }


def no_workers(lab: Lab, pair: Pair) -> Figures:
    """All workers of the master are killed, and killed again when they come back."""
    master, _, watch = _proxies(lab, pair)
    with master.without_workers():
        before = monotonic()
        answered = watch.await_answer("b", before)
    return {"answered after the delay": answered - before - NO_WORKER}


def killed_speaker(lab: Lab, pair: Pair) -> Figures:
    """The master's speaker is killed; its supervisor lives."""
    master, _, watch = _proxies(lab, pair)
    await_true(lambda: "a spare speaker waits" in master.process.log, "there is no spare")
    capture = lab.capture()
    before = monotonic()
    killed = master.speaker
    os.kill(killed, signal.SIGKILL)
    await_true(lambda: not is_running(killed), "it lives")
    await_true(lambda: capture.adverts(after=before), "nobody is master")
    time.sleep(max(1.0, 2 * pair.down_time(100)))
    adverts = [advert.at for advert in capture.adverts("a", before)]
    silent = adverts[0] - before if adverts else float("inf")
    return {
        "gap": watch.record.largest_gap(before, monotonic() - 0.2),
        "silent": silent,
        "moved": float(bool(capture.adverts("b", before))),
    }


def _proxies(lab: Lab, pair: Pair, patience: float = 0.5, **options: Any) -> tuple[Proxy, Proxy, Watch]:
    lab.serve_nodes()
    watch = lab.watch(pair.address, 0.002, patience)
    master, backup = elect(
        lambda: Proxy(lab.a, pair, PRIORITIES[0], **options),
        lambda: Proxy(lab.b, pair, PRIORITIES[1], **options),
        watch,
    )
    assert isinstance(master, Proxy)
    assert isinstance(backup, Proxy)
    await_true(lambda: {proxy.peer["peer"]["link"] for proxy in (master, backup)} == {"up"}, "no link")
    time.sleep(1.0)  # both know of the other that it is well
    _any_phase(pair)
    return master, backup, watch


def _any_phase(pair: Pair) -> None:
    """Wait until any moment between two adverts."""
    time.sleep(max(pair.interval, 0.1) * (2 + int.from_bytes(os.urandom(1), "big") / 256))
