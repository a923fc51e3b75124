"""
Two whole proxies with a link between them: what the pair does when a part of one of them fails, or is asked to go.

Whether, not when: how long things take is for `make lab-measure`.
"""

import os
import signal
import time
from email.message import Message
from time import monotonic
from typing import Any

import pytest

from tests.integration.nginx import require
from tests.lab.namespaces import is_running
from tests.lab.pair import MULTICAST
from tests.lab.process import await_true, hold
from tests.lab.proxy import Proxy, Vipd
from tests.lab.takeover import elect
from tests.lab.topology import GATEWAY, NODES, PORT, VIP, Lab, Watch

pytestmark = pytest.mark.lab

#: Beyond what a takeover with the link takes on a loaded machine, below what one by the lease or by ARP would.
SOON = 3.0


def pair_of(lab: Lab, patience: float = 0.5, **options: Any) -> tuple[Proxy, Proxy, Watch]:
    """Start two proxies, ``a`` as master; they see each other over the link. The client waits ``patience`` seconds."""
    watch = lab.watch(timeout=patience)
    master, backup = elect(
        lambda: Proxy(lab.a, MULTICAST, 100, **options), lambda: Proxy(lab.b, MULTICAST, 100, **options), watch
    )
    assert isinstance(master, Proxy)
    assert isinstance(backup, Proxy)
    assert not lab.b.has_vip(VIP)  # but it is ready, with a listener that is bound to it
    await_true(lambda: {proxy.peer["peer"]["link"] for proxy in (master, backup)} == {"up"}, "no link")
    return master, backup, watch


def test_a_handover_fails_no_request(proxied_lab: Lab) -> None:
    """The master drains, gives the address away and says so over the link: the client notices nothing but the name."""
    master, backup, watch = pair_of(proxied_lab, patience=3.0)
    before = monotonic()
    code, said = master.run_verb("peer", "handover")
    assert code == 0, said
    answered = watch.await_answer("b", before)
    backup.await_state("master")
    master.await_state("backup")
    assert proxied_lab.holders() == ["b"]
    watch.await_answer("b", monotonic() + 0.3)
    assert watch.record.failed(before) == []
    assert answered - before < SOON
    assert not master.complaints + backup.complaints


def test_a_handover_to_nobody_is_refused(proxied_lab: Lab) -> None:
    """A handover to a machine that is in no state to take it is refused with the reason, and changes nothing."""
    master, backup, watch = pair_of(proxied_lab)
    proxied_lab.unplug(proxied_lab.b)
    backup.await_state("fault")
    await_true(lambda: master.peer["peer"]["state"] == "fault", "the link doesn't tell")
    before = monotonic()
    code, said = master.run_verb("peer", "handover")
    assert code == 1
    assert "fault" in said
    assert proxied_lab.holders() == ["a"]
    watch.await_answer("a", monotonic())
    assert watch.record.failed(before) == []


def test_the_address_leaves_a_machine_without_workers(proxied_lab: Lab) -> None:
    """The speaker is well, but nobody answers: after ``no_worker`` the other machine has the address."""
    master, backup, watch = pair_of(proxied_lab)
    before = monotonic()
    with master.without_workers():
        answered = watch.await_answer("b", before)
        backup.await_state("master")
        assert proxied_lab.holders() == ["b"]
        assert answered - before < SOON
    await_true(lambda: master.state == "backup", lambda: f"it doesn't recover: {master.peer}", 30)
    assert proxied_lab.holders() == ["b"]


@pytest.mark.timeout(150)
@pytest.mark.parametrize("seconds", [3, pytest.param(60, marks=pytest.mark.measure)])
def test_a_machine_at_its_limit_stays_what_it_is(proxied_lab: Lab, seconds: int) -> None:
    """As many requests as the proxy can serve, and hogs on every core: the address stays, and no advert is missed."""
    lab = proxied_lab
    master, backup, _ = pair_of(lab, patience=3.0)
    command = [require("wrk"), "-t1", "-c64", f"-d{seconds + 2}s", "--timeout", "10s", f"http://{VIP}:{PORT}/"]
    load = lab.start(lab.client, lab.directory / "client", "wrk", command)
    for _ in range(os.cpu_count() or 1):
        lab.a.start("hog", ["sh", "-c", "while :; do :; done"])
    hold(lambda: lab.holders() == ["a"], seconds, "it moved")
    assert load.wait() == 0
    assert "requests in" in load.log
    assert (master.transitions, backup.transitions) == (["backup", "master"], ["backup"])


def test_a_killed_speaker_moves_nothing(proxied_lab: Lab) -> None:
    """Its spare finds the address, the saved state and no other master, and goes on as if nothing had been."""
    master, backup, watch = pair_of(proxied_lab)
    await_true(lambda: "a spare speaker waits" in master.process.log, "there is no spare")
    _kill(proxied_lab, [master.speaker], master, backup, watch)


def test_a_speaker_that_is_killed_with_its_spare_moves_nothing(proxied_lab: Lab) -> None:
    """
    A cold start comes in time, too, if more adverts than usual may be missed.

    On a loaded machine no process starts within the three of 0.1 s.
    """
    master, backup, watch = pair_of(proxied_lab, down_adverts=60)
    _kill(proxied_lab, master.speakers, master, backup, watch)


def _kill(lab: Lab, pids: list[int], master: Proxy, backup: Proxy, watch: Watch) -> None:
    """Kill processes of the master's speaker, and see that neither the wire nor a client nor the backup minds."""
    capture = lab.capture()
    speaker, before = master.speaker, monotonic()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    await_true(lambda: not any(is_running(pid) for pid in pids), "it lives")
    await_true(
        lambda: master.speaker != speaker and master.state == "master",
        lambda: f"there is no new one:\n{master.process.log}\n{backup.process.log}",
    )
    hold(lambda: lab.holders() == ["a"], 1.5, lambda: f"it moved:\n{master.process.log}\n{backup.process.log}")
    assert not capture.adverts("b", before)
    assert watch.record.failed(before) == []
    assert backup.transitions.count("master") == 0


def test_a_killed_supervisor_loses_the_address(proxied_lab: Lab) -> None:
    """Workers that nobody watches drain, and the speaker gives the address away before anybody has to miss it."""
    master, backup, watch = pair_of(proxied_lab)
    before = monotonic()
    os.kill(master.process.pid, signal.SIGKILL)
    backup.await_state("master")
    await_true(lambda: proxied_lab.holders() == ["b"], "the address stayed")
    assert watch.await_answer("b", before) - before < SOON


@pytest.mark.parametrize("outage", [2.0, pytest.param(30.0, marks=pytest.mark.measure)])
@pytest.mark.parametrize("both_blocked", [False, True], ids=["parted", "blocked"])
def test_no_path_but_the_link(proxied_lab: Lab, outage: float, both_blocked: bool) -> None:
    """
    While the link says that the master is well, missing adverts move nothing, but are told to the operator.

    When the master then really dies, on every path, the backup takes over.
    """
    lab = proxied_lab
    master, backup, watch = pair_of(lab)
    _outage(lab, both_blocked, is_on=True)
    hold(
        lambda: lab.holders() == ["a"],
        outage,
        lambda: f"the address moved:\n{master.process.log}\n{backup.process.log}",
    )
    assert (master.state, backup.state) == ("master", "backup")
    assert backup.peer["alarms"], backup.peer
    lab.power_off(lab.a)
    _outage(lab, both_blocked, is_on=False)
    lab.block(lab.a)
    died = monotonic()
    assert watch.await_answer("b", died) - died < SOON + 2
    backup.await_state("master")


def test_a_drained_backend_stays_drained(proxied_lab: Lab) -> None:
    """What the operator did on the master is in force on the other machine after the address has moved."""
    master, backup, watch = pair_of(proxied_lab)
    code, said = master.run_verb("drain", "web/n1", "--reason", "new kernel")
    assert code == 0, said
    await_true(lambda: _state_of(backup, "n1") == "drain", "the drain didn't cross the link")
    drained = monotonic()
    proxied_lab.power_off(proxied_lab.a)
    backup.await_state("master")
    watch.await_answer("b", monotonic())
    time.sleep(0.3)
    nodes = {request.node for request in watch.record.answers("b", drained)}
    assert nodes == {"n2"}
    assert _state_of(backup, "n1") == "drain"


def test_a_drain_during_an_outage_of_the_link_arrives_later(proxied_lab: Lab) -> None:
    """The link comes back with everything that was said while it was gone."""
    master, backup, _ = pair_of(proxied_lab)
    proxied_lab.cut_link()
    await_true(lambda: backup.peer["peer"]["link"] == "down", "the link seems to live")
    assert master.run_verb("drain", "web/n2")[0] == 0
    assert _state_of(backup, "n2") == "ready"
    proxied_lab.cut_link(cut=False)
    await_true(lambda: _state_of(backup, "n2") == "drain", "the drain didn't cross the link", 30)
    assert proxied_lab.holders() == ["a"]


def test_a_sticky_client_stays_on_its_node(proxied_lab: Lab) -> None:
    """The cookie says on which node a client is; the other machine has the same secret and reads the same."""
    lab = proxied_lab
    nodes = [{"name": name, "address": f"{GATEWAY}:{port}"} for name, port in NODES.items()]
    pool = {"backends": nodes, "sticky": {"cookie": "SRV", "secret": "the same on both machines"}}
    _, backup, watch = pair_of(lab, top={"pools": {"web": pool}})
    clients: list[tuple[Message, str]] = []

    def is_each_node_seen() -> bool:
        clients.append(lab.get())
        return {node for _, node in clients} == set(NODES)

    # The requests of the watch take turns, too, so nobody knows whose turn it is when a client comes.
    await_true(is_each_node_seen, lambda: f"all {len(clients)} clients got one node")
    lab.power_off(lab.a)
    backup.await_state("master")
    watch.await_answer("b", monotonic())
    for headers, node in clients:
        cookie = headers["Set-Cookie"].partition(";")[0]
        again = [lab.get(Cookie=cookie) for _ in range(4)]
        assert {(answer["X-Machine"], where) for answer, where in again} == {("b", node)}


def test_the_speaker_alone_guards_another_program(lab: Lab) -> None:
    """`pyproxy vipd` moves the address of whatever else serves it, here when the operator asks for it."""
    watch = lab.watch()
    master, backup = elect(lambda: Vipd(lab.a, MULTICAST, 100), lambda: Vipd(lab.b, MULTICAST, 100), watch)
    assert isinstance(master, Vipd)
    await_true(lambda: master.peer["peer"]["link"] == "up", "no link")
    code, said = master.run_verb("peer", "handover")
    assert code == 0, said
    backup.await_state("master")
    watch.await_answer("b", monotonic())
    lab.power_off(lab.b)
    watch.await_answer("a", monotonic())


def _state_of(proxy: Proxy, name: str) -> str:
    status, backend = proxy.ask("GET", f"/api/v1/pools/web/backends/{name}")
    assert status == 200, backend
    return str(backend["state"])


def _outage(lab: Lab, both_blocked: bool, *, is_on: bool) -> None:
    if both_blocked:
        for machine in (lab.a, lab.b):
            lab.block(machine, blocked=is_on)
    else:
        lab.part(parted=is_on)
