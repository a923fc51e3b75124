"""Whether the other machine's word about its gateway counts."""

from typing import Any

from pyproxy.failover.peer_gateway import PeerGateway
from pyproxy.failover.takeover import Facts, PeerFacts

PATIENCE = 0.4


def lost(**said: Any) -> Facts:
    """Our gateway is lost, and the peer has just said something."""
    return Facts(gateway=False, link="up", peer=PeerFacts("backup", 100, True, **{"gateway": True, **said}))


def test_an_answer_from_after_our_loss_counts() -> None:
    """With a margin; a word without an age is of its own moment."""
    for age in (0.05, None):
        watch = PeerGateway()
        watch.observe(lost(), 10.0, PATIENCE)
        watch.observe(lost(gateway_age=age), 10.4, PATIENCE)
        assert not watch.is_confirmed
        watch.observe(lost(gateway_age=age), 10.46, PATIENCE)
        assert watch.is_confirmed


def test_an_old_answer_does_not_become_young_by_waiting() -> None:
    """Neither when it is told again with its age, nor when the same word is looked at again."""
    watch = PeerGateway()
    facts = lost(gateway_age=0.1)
    for now in (10.0, 11.0, 99.0):
        watch.observe(facts, now, PATIENCE)
    watch.observe(lost(gateway_age=89.1), 99.0, PATIENCE)
    assert not watch.is_confirmed


def test_it_begins_anew_whenever_the_two_agree() -> None:
    """Ours answers, the other one is lost or unknown, the link is dead: in each case nothing is sure any more."""
    others = [lost(gateway=False), lost(gateway=None), lost()]
    others[2].gateway = True
    others.append(lost())
    others[3].link = "dead"
    for facts in others:
        watch = PeerGateway()
        watch.observe(lost(), 10.0, PATIENCE)
        watch.observe(lost(), 11.0, PATIENCE)
        assert watch.is_confirmed
        watch.observe(facts, 12.0, PATIENCE)
        assert not watch.is_confirmed
        watch.observe(lost(), 13.0, PATIENCE)
        assert not watch.is_confirmed
