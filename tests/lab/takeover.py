"""
One takeover, measured: the master goes in one way or another, and the client and the wire say what happened.

Must not know who plays the two machines. Used by the tests, which ask whether, and by the measurement, which asks when.
"""

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from tests.lab.capture import Capture
from tests.lab.pair import Node, Pair
from tests.lab.process import await_true
from tests.lab.topology import Lab, Watch

Fault = Callable[[Lab, Node], object]

FAULTS: dict[str, Fault] = {
    "kill -9": lambda _, node: node.kill(),
    "link down": lambda lab, node: lab.unplug(node.machine),
    "graceful stop": lambda _, node: node.stop(),
}


@dataclass(frozen=True, slots=True)
class Takeover:
    """
    What a takeover took, in seconds.

    ``answered`` is from the fault to the other machine's first answer, ``gap`` the longest time in which nobody
    answered, ``late`` how long after the time that VRRP prescribes the new master's first advert came (negative after
    an advert with priority 0), ``served`` from that advert to the first answer.
    """

    answered: float
    gap: float
    late: float
    served: float
    failed: int


def observe(lab: Lab, pair: Pair, interval: float = 0.002) -> tuple[Watch, Capture]:
    """Start to look, on the wire and as a client of the pair."""
    return lab.watch(pair.address, interval), lab.capture()


def elect(start: Callable[[], Node], start_other: Callable[[], Node], watch: Watch) -> tuple[Node, Node]:
    """Start the first node and let it become master, then the other as its backup."""
    master = start()
    master.await_state("master")
    backup = start_other()
    backup.await_state("backup")
    watch.await_answer(master.machine.name)
    return master, backup


def measure(
    lab: Lab, pair: Pair, master: Node, backup: Node, seen: tuple[Watch, Capture], fault: Fault, priority: int
) -> Takeover:
    """Make the fault and wait until the other machine answers."""
    watch, capture = seen
    name, other = master.machine.name, backup.machine.name
    before = monotonic()
    fault(lab, master)
    answered = watch.await_answer(other, before)
    await_true(lambda: capture.adverts(other, before), "no advert of the new master")
    advert = capture.adverts(other, before)[0].at
    last = [heard.at for heard in capture.adverts(name) if heard.at < advert][-1]
    record = watch.record
    return Takeover(
        answered=answered - before,
        gap=record.largest_gap(before - pair.interval, answered + 0.001),
        late=advert - last - pair.down_time(priority),
        served=answered - advert,
        failed=len(record.failed(before)),
    )
