"""Whose advert it is."""

from typing import Any

import pytest

from pyproxy.failover import events as on
from pyproxy.failover.packet import Advert
from pyproxy.failover.strangers import contradiction, stranger_word
from pyproxy.failover.takeover import Facts, PeerFacts
from tests.unit.failover.rig import PEER, Rig, alarms, sent
from tests.unit.failover.settings import settings

SOURCES = frozenset({PEER, "fe80::2"})
STRANGER = "10.9.0.77"


def advert(priority: int = 150, address: str = "10.9.0.100") -> Advert:
    """An advert as the peer might send it."""
    return Advert(4, 3, 51, priority, 1.0, (address,))


def linked(state: str = "master", priority: int = 150, link: Any = "up", **said: Any) -> Facts:
    """What is known when the peer has said this over the link."""
    peer = PeerFacts(state, priority, True, **{"sources": SOURCES, **said})
    return Facts(link=link, peer=peer)


@pytest.mark.parametrize(
    ("facts", "changes", "source", "address", "is_strange"),
    [
        (linked(), {}, PEER, "10.9.0.100", False),
        (linked(), {}, STRANGER, "10.9.0.100", True),
        (linked(link="dead"), {}, STRANGER, "10.9.0.100", True),
        (linked(sources=frozenset()), {}, STRANGER, "10.9.0.100", False),
        (linked(), {}, PEER, "10.9.0.7", False),
        (Facts(link="dead"), {}, STRANGER, "10.9.0.100", False),
        (Facts(), {}, STRANGER, "10.9.0.100", False),
        (Facts(), {}, STRANGER, "10.9.0.7", True),
        (Facts(), {"peers": [PEER]}, PEER, "10.9.0.7", False),
    ],
)
def test_a_stranger_is_who_the_link_does_not_name(
    facts: Facts, changes: dict[str, Any], source: str, address: str, is_strange: bool
) -> None:
    """Without its word he is known by his addresses alone; his own one is in what is said of him."""
    word = stranger_word(settings(**changes), facts, advert(address=address), source)
    assert bool(word) is is_strange
    assert not word or source in word


@pytest.mark.parametrize(
    ("facts", "priority", "is_contrary"),
    [
        (linked(), 150, False),
        (linked(), 255, True),
        (linked("backup"), 150, True),
        (linked(), 0, True),
        (linked(released=True), 0, False),
        (linked("backup"), 0, False),
        (linked(link="dead"), 255, False),
        (Facts(), 255, False),
    ],
)
def test_the_links_word_is_what_an_advert_is_compared_with(facts: Facts, priority: int, is_contrary: bool) -> None:
    """State and priority, as long as the link lives."""
    assert bool(contradiction(facts, advert(priority), PEER)) is is_contrary


def test_a_master_that_is_faster_than_its_link_is_obeyed_when_the_word_comes() -> None:
    """Its advert comes first, and is not a forger's: no alarm, and no second interval with two masters."""
    rig = Rig()
    rig.become_master()
    rig.peer("backup", priority=200, sources=SOURCES)
    assert (rig.hear(200), rig.state) == ([], "master")
    commands = rig.peer("master", priority=200, sources=SOURCES)
    assert (rig.state, alarms(commands)) == ("backup", [])


@pytest.mark.parametrize("state", ["backup", "master", "fault", "init"])
def test_a_stranger_touches_no_timer(state: str) -> None:
    """Whatever he says, in whatever state we are; he is named for as long as he speaks."""
    for priority in (0, 1, 100, 255):
        rig = Rig()
        if state == "master":
            rig.become_master()
        elif state != "init":
            rig.become_backup()
        rig.facts.own_link_up = state != "fault"
        rig.peer("master" if state == "backup" else "backup", priority=150, sources=SOURCES)
        before = rig.machine.next_deadline()
        commands = rig.hear(priority, source=STRANGER)
        assert (rig.state, sent(commands)) == (state, [])
        assert STRANGER in rig.machine.alarms["stranger"]
        rig.machine._timers.pop("stranger", None)  # type: ignore[call-overload]
        assert rig.machine.next_deadline() == before


def test_a_stranger_from_before_the_link_is_forgotten() -> None:
    """He said that his next advert comes in 40 s: that isn't waited for once the link tells who the peer is."""
    rig = Rig()
    rig.start()
    rig.hear(255, source=STRANGER, interval=40.0)
    rig.wait(1.0)
    rig.peer("backup", sources=SOURCES)
    rig.wait(3.7)
    assert rig.state == "master"


def test_farewells_without_end_keep_neither_adverts_nor_the_lease() -> None:
    """Without a link everybody's are answered, but few of them, and each answer does what an advert does."""
    rig = Rig()
    rig.become_master()
    before = len(rig.log)
    for _ in range(1000):
        rig.hear(0, source=STRANGER)
        rig.wait(0.01)
    names = [type(command).__name__ for _, command in rig.log[before:]]
    assert 10 <= names.count("SendAdvert") <= 41
    assert names.count("RenewLease") >= 10


def test_without_a_link_a_second_master_is_named_by_who_heard_the_first() -> None:
    """He is obeyed; who of the two is the peer nobody can tell."""
    rig = Rig()
    rig.become_backup()
    assert alarms(rig.hear(255, source=STRANGER)) == ["stranger"]
    assert STRANGER in rig.machine.alarms["stranger"]
    assert PEER in rig.machine.alarms["stranger"]
    rig.wait(3.2)
    assert "stranger" not in rig.machine.alarms


def test_a_forger_in_the_peers_name_makes_no_two_that_wait() -> None:
    """Each hears the other one as master with 255, and the link says that neither is: the down timer runs on."""
    rig = Rig()
    rig.start()
    rig.peer("backup", sources=SOURCES)
    for _ in range(40):
        rig.wait(0.1)
        rig.give(on.AdvertHeard(advert(255), PEER))
    assert rig.state == "master"
