"""
Processes that live and do nothing, and such as get no processor: only the first are replaced.

At the defaults; whether, not when, but that a client is served again in time.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from pyproxy.pulse import HUNG
from tests.lab.namespaces import is_running
from tests.lab.pair import MULTICAST, Pair
from tests.lab.process import await_true, hold
from tests.lab.proxy import Proxy, signalled_workers
from tests.lab.takeover import elect
from tests.lab.topology import Lab, Watch

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]

DEFAULTS = Pair(interval=1.0)
#: Within which clients are served again, whatever hangs; on a loaded machine all takes longer.
SOON = 5.0


def pair_of(lab: Lab, pair: Pair = DEFAULTS, **options: Any) -> tuple[Proxy, Proxy, Watch]:
    """Start two proxies, ``a`` as master; each has a spare speaker, and sees the other over the link."""
    watch = lab.watch()
    master, backup = elect(
        lambda: Proxy(lab.a, pair, 100, **options), lambda: Proxy(lab.b, pair, 100, **options), watch
    )
    assert isinstance(master, Proxy)
    assert isinstance(backup, Proxy)
    for proxy in (master, backup):
        await_true(lambda proxy=proxy: proxy.peer["peer"]["link"] == "up", "no link")  # type: ignore[misc]
        await_true(lambda proxy=proxy: "a spare speaker waits" in proxy.process.log, "no spare")  # type: ignore[misc]
    return master, backup, watch


class Unready(Proxy):
    """One whose workers need not be ready."""

    def _is_ready(self) -> bool:
        return self.admin_socket.exists()


def stop(*pids: int) -> float:
    """Stop processes, and give the time."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    return monotonic()


def check(proxy: Proxy) -> tuple[int, str]:
    """What monitoring is told."""
    return proxy.run_verb("peer", "--check")


def test_workers_that_hang_lose_the_address_and_are_replaced(proxied_lab: Lab) -> None:
    """A machine that answers nobody is no master, however well its speaker is."""
    master, backup, watch = pair_of(proxied_lab, top={"workers": 2})
    hung = master.workers
    at = stop(*hung)
    assert watch.await_answer("b", at) - at < SOON
    backup.await_state("master")
    assert proxied_lab.holders() == ["b"]
    await_true(lambda: not any(map(is_running, hung)), "they are still there")
    await_true(lambda: master.state == "backup", lambda: f"it isn't fit again: {master.peer}", 30)
    assert master.process.log.count("hangs: it doesn't answer, killing it") == 2


@pytest.mark.measure
def test_one_worker_of_two_that_hangs_moves_nothing(proxied_lab: Lab) -> None:
    """The other one serves, and it is replaced."""
    master, backup, _ = pair_of(proxied_lab, top={"workers": 2})
    hung = master.workers[0]
    stop(hung)
    await_true(lambda: not is_running(hung), "it is still there")
    await_true(lambda: len(master.workers) == 2, "there is no new one", 30)
    assert (master.state, backup.state, proxied_lab.holders()) == ("master", "backup", ["a"])


@pytest.mark.parametrize(
    "pair", [pytest.param(DEFAULTS, marks=pytest.mark.measure, id="1 s"), pytest.param(MULTICAST, id="0.1 s")]
)
def test_a_speaker_that_hangs_is_replaced(proxied_lab: Lab, pair: Pair) -> None:
    """Whether the address stays or moves: somebody has it soon, and the pair is one again."""
    master, backup, watch = pair_of(proxied_lab, pair)
    hung = master.speaker
    at = stop(hung)
    await_true(lambda: not is_running(hung), "it is still there")
    await_true(lambda: master.speaker != hung, "there is no new one")
    await_true(lambda: sorted((master.state, backup.state)) == ["backup", "master"], "they don't agree")
    await_true(lambda: len(proxied_lab.holders()) == 1, "nobody has it, or both")
    assert watch.record.largest_gap(at - 0.1, monotonic() - 0.1) < SOON
    await_true(lambda: check(master)[0] < 2, lambda: check(master)[1], 20)  # the lab's two files differ


def test_a_speaker_that_hangs_is_replaced_on_the_backup(proxied_lab: Lab) -> None:
    """It would not be there when the master dies."""
    lab = proxied_lab
    _, backup, watch = pair_of(lab)
    hung = backup.speaker
    stop(hung)
    await_true(lambda: not is_running(hung), "it is still there")
    await_true(lambda: backup.speaker != hung and backup.state == "backup", "there is no new one")
    await_true(lambda: backup.peer["peer"]["link"] == "up", "no link")
    lab.power_off(lab.a)
    died = monotonic()
    assert watch.await_answer("b", died) - died < SOON + 1.0  # 3.6 s of silence are the adverts' own


@pytest.mark.measure
def test_a_spare_that_hangs_is_replaced(proxied_lab: Lab) -> None:
    """Nobody needs it yet, but it is to be there."""
    master, _, _ = pair_of(proxied_lab)
    spare = int(master.process.log.partition("a spare speaker waits (pid ")[2].partition(")")[0])
    stop(spare)
    await_true(lambda: not is_running(spare), "it is still there", 30)
    await_true(lambda: master.process.log.count("a spare speaker waits") == 2, "there is no new one", 30)
    assert (master.state, proxied_lab.holders()) == ("master", ["a"])


def test_a_supervisor_that_hangs_costs_the_address_and_its_life(proxied_lab: Lab) -> None:
    """Its workers serve until the other machine does; then it ends, for whoever started it to start it again."""
    master, backup, watch = pair_of(proxied_lab)
    at = stop(master.process.pid)
    backup.await_state("master")
    assert watch.await_answer("b", at) - at < SOON
    await_true(lambda: proxied_lab.holders() == ["b"], "two have it")
    assert watch.record.largest_gap(at - 0.1, monotonic() - 0.1) < 1.0
    await_true(lambda: not master.process.is_running, "it is still there")


@pytest.mark.measure
def test_a_supervisor_that_hangs_on_the_last_machine_goes_on_hanging(proxied_lab: Lab) -> None:
    """Nobody else could serve, and its workers do."""
    lab = proxied_lab
    master, _, watch = pair_of(lab)
    lab.power_off(lab.b)
    stop(master.process.pid)
    hold(lambda: lab.holders() == ["a"] and master.process.is_running, 6.0, "it gave up")
    watch.await_answer("a", monotonic())
    os.kill(master.process.pid, signal.SIGCONT)
    assert master.state == "master"


def set_group_nice(pid: int, nice: int) -> None:
    """Set what a whole session weighs, where the kernel weighs sessions first and their processes after that."""
    with suppress(FileNotFoundError):
        Path(f"/proc/{pid}/autogroup").write_text(str(nice))


@contextmanager
def starved(proxy: Proxy, pids: list[int]) -> Iterator[None]:
    """Let some processes of a proxy have hardly any processor, as on a host that is overcommitted; all else runs."""
    cpu = min(os.sched_getaffinity(0))
    threads = [int(thread.name) for pid in pids for thread in Path(f"/proc/{pid}/task").iterdir()]
    # The hog and they share one processor, and it has nearly all of it.
    command = ["taskset", "-c", str(cpu), "nice", "-n", "-20", "sh", "-c", "while :; do :; done"]
    hog = proxy.machine.start("hog", command)
    set_group_nice(hog.pid, -20)
    set_group_nice(proxy.process.pid, 19)
    for thread in threads:
        os.sched_setaffinity(thread, {cpu})
        os.sched_setscheduler(thread, os.SCHED_IDLE, os.sched_param(0))
    try:
        yield
    finally:
        hog.kill()
        set_group_nice(proxy.process.pid, 0)
        for thread in threads:
            os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))


def test_starved_workers_are_not_killed(proxied_lab: Lab) -> None:
    """What would take their place would get no processor either."""
    master, _, watch = pair_of(proxied_lab, top={"workers": 1})
    workers = master.workers
    with starved(master, workers):
        began = monotonic()
        hold(lambda: master.workers == workers, 6.0, lambda: master.process.log)
        silent = watch.record.largest_gap(began, monotonic())
    assert watch.record.failed(began)
    assert silent > HUNG, f"it had enough of the processor: nothing was answered for {silent:.3g} s at most"
    watch.await_answer("a", monotonic())
    assert "hangs" not in master.process.log
    assert master.workers == workers


@pytest.mark.measure
def test_a_speaker_killed_again_and_again_moves_nothing(proxied_lab: Lab) -> None:
    """At 0.1 s adverts, with as much time in between as a spare needs."""
    master, backup, watch = pair_of(proxied_lab, MULTICAST)
    before = monotonic()
    for count in range(2, 6):
        os.kill(master.speaker, signal.SIGKILL)
        await_true(lambda: master.state == "master", "there is no new one")
        await_true(lambda count=count: master.process.log.count("spare speaker waits") >= count, "no spare", 30)  # type: ignore[misc]
        hold(lambda: proxied_lab.holders() == ["a"], 2.5, lambda: f"it moved:\n{master.process.log}")
    assert backup.transitions.count("master") == 0
    assert watch.record.failed(before) == []
    assert "is started again in" not in master.process.log


def test_a_full_disk_is_told_and_costs_nothing(proxied_lab: Lab) -> None:
    """The speaker's state can't be written; its successor goes on all the same."""
    lab = proxied_lab
    lab.small_run(lab.a)
    master, backup, watch = pair_of(lab)
    lab.fill_run(lab.a)
    await_true(lambda: any(alarm["name"] == "state_file" for alarm in master.peer["alarms"]), "nothing is told", 30)
    code, said = check(master)
    assert (code, "No space left on device" in said) == (1, True), said
    hold(lambda: lab.holders() == ["a"], 4.0, "it moved")  # what is in the file is stale
    at = monotonic()
    killed = master.speaker
    os.kill(killed, signal.SIGKILL)
    await_true(lambda: master.speaker != killed and master.state == "master", "there is no new one")
    hold(lambda: lab.holders() == ["a"], 4.0, lambda: f"it moved:\n{master.process.log}")
    assert watch.record.failed(at) == []
    assert backup.transitions.count("master") == 0


def test_a_second_program_for_the_same_router_is_refused(proxied_lab: Lab) -> None:
    """And told who runs it; the first doesn't notice."""
    master, backup, watch = pair_of(proxied_lab)
    at = monotonic()
    code, said = master.run_verb("vipd")
    assert code == 1
    assert f"vrid 51 on eth0 is already run by pid {master.process.pid}" in said
    hold(lambda: proxied_lab.holders() == ["a"], 2.0, "it moved")
    assert watch.record.failed(at) == []
    assert (master.state, backup.state) == ("master", "backup")


def test_a_machine_whose_worker_never_gets_ready_preempts_nobody(proxied_lab: Lab) -> None:
    """Its speaker knows from the first moment that there is none, and a successor of it as well."""
    lab = proxied_lab
    watch = lab.watch()
    well = Proxy(lab.b, DEFAULTS, 100, preempt=True)
    well.await_state("master")
    with signalled_workers(lab.a, signal.SIGSTOP):
        ill = Unready(lab.a, DEFAULTS, 150, preempt=True)
        hold(lambda: lab.holders() == ["b"], 8.0, lambda: f"it is where nobody serves:\n{ill.process.log}")
        ill.await_state("fault")
    assert watch.record.failed(monotonic() - 8.0) == []
