"""The speaker beside another service, which is checked on both machines: the address is where it is well."""

from time import monotonic
from typing import Any

import pytest

from tests.lab.conftest import StartLab
from tests.lab.namespaces import configure
from tests.lab.pair import MULTICAST
from tests.lab.process import Process, await_true, hold
from tests.lab.proxy import Vipd
from tests.lab.takeover import elect
from tests.lab.topology import PORT, Lab, Watch

pytestmark = [pytest.mark.lab, pytest.mark.timeout(90)]

QUICK = {"interval": 0.2, "timeout": 0.5, "fall": 2}
RUN = ["bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{PORT}"]
HTTP = {"http": f"http://127.0.0.1:{PORT}/", **QUICK}


def pair_of(lab: Lab, *tracks: dict[str, Any], **options: Any) -> tuple[Vipd, Vipd, Watch, dict[str, Process]]:
    """Start the service on both machines, and the speakers with these checks, ``a`` as master."""
    services = {machine.name: machine.serve() for machine in (lab.a, lab.b)}
    watch = lab.watch()
    master, backup = elect(
        lambda: Vipd(lab.a, MULTICAST, 150, track=list(tracks), **options),
        lambda: Vipd(lab.b, MULTICAST, 100, track=list(tracks), **options),
        watch,
    )
    assert isinstance(master, Vipd)
    assert isinstance(backup, Vipd)
    await_true(lambda: master.peer["peer"]["well"] and backup.peer["peer"]["well"], "no link")
    return master, backup, watch, services


@pytest.mark.parametrize(
    "track",
    [HTTP, {"tcp": f"127.0.0.1:{PORT}", **QUICK}, {"run": RUN, **QUICK}],
    ids=["http", "tcp", "run"],
)
def test_the_address_leaves_a_service_that_died(start_lab: StartLab, track: dict[str, Any]) -> None:
    """For the machine where it lives; and it comes back to none where it doesn't."""
    lab = start_lab()
    master, backup, watch, services = pair_of(lab, track)
    died = monotonic()
    services["a"].kill()
    watch.await_answer("b", died)
    assert lab.holders() == ["b"]
    await_true(lambda: master.peer["tracks"][0]["ok"] is False, "the check seems to pass")
    assert "fails" in master.peer["transitions"][-1]["reason"]
    code, said = master.run_verb("peer", "--check")
    assert (code, "track" in said) == (1, True), said
    assert backup.peer["tracks"][0]["ok"] is True


def test_what_fails_on_both_moves_nothing(start_lab: StartLab) -> None:
    """A shared database is no reason to have no address at all."""
    lab = start_lab()
    master, backup, _, services = pair_of(lab, HTTP)
    services["b"].kill()
    await_true(lambda: master.peer["peer"]["well"] is False, "nothing is told")
    services["a"].kill()
    await_true(lambda: master.peer["tracks"][0]["ok"] is False, "the check seems to pass")
    hold(lambda: lab.holders() == ["a"], 3.0, lambda: f"it moved:\n{master.process.log}")
    assert master.run_verb("peer", "--check")[0] == 2
    lab.power_off(lab.a)
    backup.await_state("master")


def test_a_lowered_priority_moves_it_with_preempt(start_lab: StartLab) -> None:
    """And back when the service is well again."""
    lab = start_lab()
    master, backup, watch, services = pair_of(lab, {**HTTP, "on_fail": "lower", "by": 60}, preempt=True)
    services["a"].kill()
    backup.await_state("master")
    assert master.peer["priority"] == 90
    lab.a.serve()
    master.await_state("master")
    watch.await_answer("a", monotonic())
    assert lab.holders() == ["a"]


def test_an_interface_that_is_tracked(start_lab: StartLab) -> None:
    """The machine that has lost its way to the nodes gives the address to the one that has it."""
    lab = start_lab()
    for machine in (lab.a, lab.b):
        space = f"-n {machine.namespace}"
        configure(
            f"{space} link add eth2 type veth peer name node", f"{space} link set node up", f"{space} link set eth2 up"
        )
    master, backup, watch, _ = pair_of(lab, track_interfaces=["eth2"])
    configure(f"-n {lab.a.namespace} link set eth2 down")
    backup.await_state("master")
    watch.await_answer("b", monotonic())
    assert master.peer["transitions"][-1]["reason"] == "interface eth2 is down"
    configure(f"-n {lab.b.namespace} link set eth2 down")
    hold(lambda: lab.holders() == ["b"], 2.0, "it moved")


def test_an_address_that_somebody_else_put_there_is_told(start_lab: StartLab) -> None:
    """By the backup, whose clients would get another machine's answers."""
    lab = start_lab()
    _, backup, _, _ = pair_of(lab, HTTP)
    configure(f"-n {lab.b.namespace} addr add 10.9.0.100/32 dev eth0")
    await_true(lambda: backup.run_verb("peer", "--check")[0] == 2, lambda: f"{backup.peer}", 30)
    assert "stray_address: 10.9.0.100/32 is here without us, who are backup" in backup.run_verb("peer", "--check")[1]
