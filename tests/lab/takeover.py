"""
One takeover, measured: the master goes in one way or another, and the client and the wire say what happened.

Must not know who plays the two machines. Used by the tests, which ask whether, and by the measurement, which asks when.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from time import monotonic, sleep

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


@dataclass(frozen=True, slots=True)
class Healed:
    """
    What a healed partition took, in seconds from the first advert that crossed.

    Until the winner announced the address (infinite: not before it answered), until it answered a client that was with
    the loser, and for how long both had the address.
    """

    announced: float
    answered: float
    both: float
    winner_first: bool


def heal(lab: Lab, pair: Pair, loser: Node, winner: Node, seen: tuple[Watch, Capture], parted: float = 0.0) -> Healed:
    """
    Part a pair until both are master and ``parted`` seconds longer, put the client with the loser, and heal.

    The winner's advert mostly crosses first, which is the hard case: a loser that gives way to it without a word leaves
    the winner not knowing that anybody has to be told anything.
    """
    watch, capture = seen
    lab.part()
    winner.await_state("master")
    sleep(parted)
    lab.mislead(pair.address, loser.machine)
    watch.await_answer(loser.machine.name, monotonic())
    since = monotonic()
    await_true(lambda: capture.adverts(loser.machine.name, since), "the loser is silent")
    lab.part(parted=False)
    healed = monotonic()
    await_true(lambda: capture.adverts(after=healed), "both are silent")
    crossed = capture.adverts(after=healed)[0]
    await_true(lambda: not loser.machine.has_vip(pair.address), "the loser kept the address")
    alone = monotonic()
    answered = watch.await_answer(winner.machine.name, crossed.at, 60.0)
    announcements = capture.announcements(pair.address, crossed.at)
    announced = announcements[0].at - crossed.at if announcements else inf
    return Healed(announced, answered - crossed.at, alone - crossed.at, crossed.port == winner.machine.name)
