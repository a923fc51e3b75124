"""
What the pair makes of a silent gateway, of witnesses, strangers on its VRID, and a family or an interface that goes.

Whether, not when; but for the last test, which does in the lab what `peer simulate` says, and compares the times.
"""

import json
from contextlib import nullcontext
from time import monotonic
from typing import Any

import pytest

from pyproxy.failover.simulate import BACKEND, FAILURES
from tests.lab.noise import valid_adverts
from tests.lab.pair import MULTICAST, Pair
from tests.lab.process import await_true, hold
from tests.lab.proxy import Proxy
from tests.lab.speaker import Speaker
from tests.lab.topology import GATEWAY, VIP, VIP6, VIP6_LOCAL, Lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]

SILENT = "10.9.0.99"
STRANGER = "10.9.0.3"
BOTH = Pair(virtual_ips=(f"{VIP6_LOCAL}/64", f"{VIP6}/128", f"{VIP}/32"))


def start(lab: Lab, pair: Pair = MULTICAST, **options: Any) -> tuple[Proxy, Proxy]:
    """Start two proxies with a link, ``a`` as master."""
    master = Proxy(lab.a, pair, 100, **options)
    master.await_state("master")
    backup = Proxy(lab.b, pair, 100, **options)
    backup.await_state("backup")
    await_true(lambda: {proxy.peer["peer"]["link"] for proxy in (master, backup)} == {"up"}, "no link")
    return master, backup


def alarms(node: Proxy) -> dict[str, str]:
    """The alarms of a machine, by name."""
    return {alarm["name"]: alarm["text"] for alarm in node.peer["alarms"]}


def test_a_gateway_that_answers_nobody_decides_nothing(proxied_lab: Lab) -> None:
    """From the start on: one becomes master, says what is wrong, and a hand-over arrives."""
    pair = [Proxy(machine, MULTICAST, 100, gateway=SILENT) for machine in (proxied_lab.a, proxied_lab.b)]
    await_true(lambda: len(proxied_lab.holders()) == 1, lambda: f"nobody has it: {[node.peer for node in pair]}")
    master, backup = pair if proxied_lab.holders() == ["a"] else reversed(pair)
    await_true(lambda: "gateway" in alarms(master), lambda: f"no alarm: {master.peer}")
    await_true(lambda: {node.peer["peer"]["link"] for node in pair} == {"up"}, "no link")
    code, said = master.run_verb("peer", "handover", "--reason", "new kernel")
    assert code == 0, said
    backup.await_state("master")
    await_true(lambda: proxied_lab.holders() == [backup.machine.name], "it didn't arrive")
    await_true(
        lambda: "new kernel" in backup.peer["reason"],
        lambda: f"the new master doesn't say why in the old one's words: {backup.peer['reason']}",
    )


def test_a_gateway_that_falls_silent_for_both_stops_no_handover(proxied_lab: Lab) -> None:
    """It stays where it is, and what is handed over is taken."""
    lab, gateway = proxied_lab, "10.9.0.98"
    lab.show("-n", lab.switch, "addr", "add", f"{gateway}/24", "dev", "br0")
    master, backup = start(lab, gateway=gateway)
    await_true(lambda: master.peer["gateway"] and backup.peer["gateway"], "it isn't reached")
    lab.show("-n", lab.switch, "addr", "del", f"{gateway}/24", "dev", "br0")
    await_true(lambda: [node.peer["gateway"] for node in (master, backup)] == [False, False], "nobody notices")
    hold(lambda: lab.holders() == ["a"], 2.0, lambda: f"it moved: {master.peer} {backup.peer}")
    code, said = master.run_verb("peer", "handover")
    assert code == 0, said
    await_true(lambda: lab.holders() == ["b"], lambda: f"it didn't arrive: {backup.peer}")
    hold(lambda: lab.holders() == ["b"], 2.0, lambda: f"it didn't stay: {master.peer} {backup.peer}")


def test_that_nobody_is_master_is_critical(proxied_lab: Lab) -> None:
    """On either machine: each is in order as far as it can be, and the address is nowhere."""
    nodes = start(proxied_lab)
    with nodes[0].without_workers(), nodes[1].without_workers():
        await_true(lambda: not proxied_lab.holders(), "somebody has it")
        for node in nodes:
            await_true(lambda node=node: node.run_verb("peer", "--check")[0] == 2, lambda: str(nodes[0].peer))  # type: ignore[misc]


def test_who_reaches_no_witness_gives_the_addresses_away(proxied_lab: Lab) -> None:
    """There is no default route, so only the witnesses tell that the master's port is blocked."""
    for machine in (proxied_lab.a, proxied_lab.b):
        proxied_lab.show("-n", machine.namespace, "route", "del", "default")
    witnesses = [f"{GATEWAY}:8001", f"{GATEWAY}:8002"]
    master, backup = start(proxied_lab, witnesses=witnesses, split_hold="5s")
    await_true(lambda: backup.peer["witnesses"] and master.peer["witnesses"], "they aren't reached")
    proxied_lab.block(proxied_lab.a)
    await_true(lambda: proxied_lab.holders() == ["b"], lambda: f"it stays: {master.peer} {backup.peer}", 30)
    assert "witness" in backup.peer["reason"]
    assert [state["ok"] for state in master.peer["witness_states"]] == [False, False]


@pytest.mark.parametrize("priority", [0, 255])
@pytest.mark.parametrize("source", [STRANGER, "10.9.0.1", "10.9.0.2"], ids=["stranger", "as master", "as backup"])
def test_with_a_link_a_forger_moves_nothing(proxied_lab: Lab, source: str, priority: int) -> None:
    """Whoever he says that he is: the link is believed, the lease goes on, and an alarm names him."""
    master, backup = start(proxied_lab)
    with valid_adverts(proxied_lab, source, priority) as sent:
        await_true(lambda: sent() > 20, "he isn't heard")
        hold(lambda: proxied_lab.holders() == ["a"], 3.0, lambda: f"it moved: {master.peer} {backup.peer}")
        victim = backup if source == "10.9.0.1" else master
        if not (source == "10.9.0.2" and priority == 0):  # a backup that says farewell says nothing new
            await_true(lambda: source in alarms(victim).get("stranger", ""), lambda: f"no alarm: {victim.peer}")
        assert victim.peer["peer"]["address"] != STRANGER
    assert master.transitions.count("master") == 1
    assert "put back" not in master.process.log


def test_without_a_link_a_flood_of_farewells_stops_no_lease(lab: Lab) -> None:
    """Each is answered, but neither adverts nor the lease wait for their end."""
    master = Speaker(lab.a, MULTICAST, 150)
    master.await_state("master")
    Speaker(lab.b, MULTICAST, 100).await_state("backup")
    with valid_adverts(lab, STRANGER, 0, interval=0.02):
        hold(lambda: lab.holders() == ["a"], 4.0, "it is gone")
    assert "put back" not in master.process.log


def test_without_a_link_a_stranger_who_falls_silent_is_over(lab: Lab) -> None:
    """He can win, as the RFC has it; a down interval after his end one of ours has the addresses again."""
    nodes = [Speaker(lab.a, MULTICAST, 150)]
    nodes[0].await_state("master")
    nodes.append(Speaker(lab.b, MULTICAST, 100))
    nodes[1].await_state("backup")
    with valid_adverts(lab, STRANGER, 255):
        await_true(lambda: not lab.holders(), "he didn't win")
        await_true(
            lambda: any(STRANGER in alarm["text"] for node in nodes for alarm in node.status["alarms"]), "no alarm"
        )
    await_true(lambda: len(lab.holders()) == 1, "nobody has the address", 3 * MULTICAST.down_time(100))


def test_another_pair_on_our_vrid_changes_nothing(lab: Lab) -> None:
    """Its priority is higher, its addresses are others: it is told, and no more."""
    master = Speaker(lab.a, MULTICAST, 100)
    master.await_state("master")
    with valid_adverts(lab, STRANGER, 200, address="10.9.0.77"):
        await_true(lambda: any("another pair" in alarm["text"] for alarm in master.status["alarms"]), "no alarm")
        hold(lambda: lab.holders() == ["a"], 1.0, "it moved")


def test_without_ipv6_the_other_family_goes_on(lab: Lab) -> None:
    """Switched off under a master: its IPv4 address stays, an alarm says what is left out, and all comes back."""
    master = Speaker(lab.a, BOTH, 100)
    master.await_state("master")
    lab.set_ipv6(lab.a, is_on=False)
    await_true(lambda: "family" in {alarm["name"] for alarm in master.status["alarms"]}, "no alarm")
    hold(lambda: lab.a.has_vip(VIP), 2.0, lambda: f"it is gone: {master.status}")
    assert master.state == "master"
    lab.set_ipv6(lab.a, is_on=True)
    lab.show("-n", lab.a.namespace, "addr", "add", f"{lab.a.address6}/64", "dev", "eth0", "nodad")
    await_true(lambda: lab.a.has_vip(VIP6), lambda: f"it didn't come back: {master.status}")


def test_a_renamed_interface_keeps_no_address(lab: Lab) -> None:
    """Without a lease nobody but us could take the address off the interface that has another name now."""
    master = Speaker(lab.a, MULTICAST, 100, lease="off")
    master.await_state("master")
    lab.show("-n", lab.a.namespace, "link", "set", "eth0", "name", "lan0")
    master.await_state("fault")
    assert VIP not in lab.show("-n", lab.a.namespace, "addr", "show")
    assert "no interface eth0" in master.status["reason"]


@pytest.mark.parametrize("is_seen", [True, False], ids=["seen to go", "found to be another one"])
def test_an_interface_that_is_made_anew_is_spoken_on(lab: Lab, is_seen: bool) -> None:
    """Under a master without a lease: in the end the two hear each other, and one of them has the address."""
    master = Speaker(lab.a, MULTICAST, 100, lease="off")
    master.await_state("master")
    backup = Speaker(lab.b, MULTICAST, 100, lease="off")
    backup.await_state("backup")
    if not is_seen:
        master.freeze()
    lab.remake(lab.a)
    if is_seen:
        await_true(lambda: "fault" in master.transitions, "it didn't see it go")
    else:
        master.thaw()

    def is_whole() -> bool:
        states = {node.machine.name: node.state for node in (master, backup)}
        return sorted(states.values()) == ["backup", "master"] and [states[name] for name in lab.holders()] == [
            "master"
        ]

    await_true(is_whole, lambda: f"they don't agree: {master.status} {backup.status}")
    hold(is_whole, 1.5, lambda: f"they don't hear each other: {master.status} {backup.status}")
    assert not master.complaints + backup.complaints


#: What `simulate --fail` is told, and what the lab does for it.
SIMULATED = (*FAILURES, f"{BACKEND}web/n1")


@pytest.mark.parametrize("fail", SIMULATED)
def test_what_is_simulated_happens(proxied_lab: Lab, fail: str) -> None:
    """The same machine has the addresses in the end, and after as long, within a fifth."""
    lab = proxied_lab
    gateways = {"a": "10.9.0.98", "b": "10.9.0.99"}
    for gateway in gateways.values():
        lab.show("-n", lab.switch, "addr", "add", f"{gateway}/24", "dev", "br0")
    pair = Pair(interval=1.0)
    # Long, so that a fifth of it is more than a busy machine's delays.
    options = {"release_when": {"no_worker": "3s"}}
    master = Proxy(lab.a, pair, 100, gateway=gateways["a"], **options)
    master.await_state("master")
    backup = Proxy(lab.b, pair, 100, gateway=gateways["b"], **options)
    backup.await_state("backup")
    await_true(lambda: master.peer["peer"]["advert_age"] is not None and backup.peer["gateway"], "no link")
    await_true(lambda: master.ask("GET", "/api/v1/peer/facts")[1]["facts"]["ready_workers"], "it knows of no worker")
    capture = lab.capture()
    code, said = master.run_verb("peer", "simulate", "--json", "--fail", fail)
    assert code == 0, said
    foreseen = json.loads(said)
    began = monotonic()
    await_true(lambda: capture.adverts("a", began), "no advert")
    failed = monotonic()
    with master.without_workers() if fail == "workers" else nullcontext():
        if fail in ("local", "peer"):
            lab.power_off(lab.a if fail == "local" else lab.b)
        elif fail == "link":
            lab.cut_link()
        elif fail == "gateway":
            lab.show("-n", lab.switch, "addr", "del", f"{gateways['a']}/24", "dev", "br0")
        elif fail.startswith(BACKEND):
            lab.end_node("n1")
        if not foreseen["changes"]:
            hold(lab.a.has_vip, 6.0, lambda: f"foreseen was {foreseen['lines']}")
            return
        assert foreseen["holder"] == "peer"
        await_true(lab.b.has_vip, lambda: f"foreseen was {foreseen['lines']}", 20)
    took = monotonic() - failed
    assert took == pytest.approx(foreseen["after"], rel=0.2), foreseen["lines"]
