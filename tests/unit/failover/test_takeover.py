"""The rules: who takes, who stays, who gives away, and what crosses the link."""

import json
from dataclasses import replace
from typing import Any

import pytest

from pyproxy.failover.takeover import (
    Facts,
    PeerFacts,
    Silence,
    Verdict,
    decide,
    fault_cause,
    handover_refusal,
    is_isolated,
    is_offered,
    is_well,
    loses_to_peer,
    peer_from_plain,
    peer_to_plain,
    serves_elsewhere,
    yield_cause,
)
from tests.unit.failover.settings import settings

WELL = PeerFacts("master", 150, True, gateway=True, healthy_backends=3)
WITNESS = [{"host": "r", "port": 1}]
TAKE, HOLD, STAY = Verdict.TAKE, Verdict.HOLD, Verdict.STAY


def linked(**peer: Any) -> Facts:
    """Facts with a link that is up to a peer that is master and well, but for this."""
    return Facts(gateway=True, link="up", peer=replace(WELL, **peer))


LONG = Silence(adverts=60.0, link=60.0, held=60.0)
SHORT = Silence(adverts=4.0, link=0.0, held=0.0)


@pytest.mark.parametrize(
    ("facts", "silence", "verdict"),
    [
        # no link, or a dead one
        (Facts(), SHORT, TAKE),
        (Facts(link="dead", peer=WELL), SHORT, TAKE),
        # isolated, unfit
        (Facts(own_link_up=False), LONG, STAY),
        (Facts(gateway=False), SHORT, STAY),
        (Facts(gateway=False), replace(LONG, adverts=44.9), STAY),
        (Facts(gateway=False), LONG, TAKE),
        (Facts(gateway=False), replace(LONG, is_preempting=True), STAY),
        (Facts(gateway=False), replace(SHORT, has_left=True), TAKE),
        (Facts(gateway=False, link="dead", peer=WELL), SHORT, STAY),
        (Facts(gateway=False, link="dead", peer=WELL), LONG, TAKE),
        # blind, with a link: only we, or both
        (replace(linked(state="backup"), gateway=False), LONG, STAY),
        (replace(linked(state="backup", gateway=False), gateway=False), SHORT, TAKE),
        (replace(linked(state="backup", gateway=False), gateway=False, link="dead"), SHORT, TAKE),
        (replace(linked(gateway=False), gateway=False), LONG, HOLD),
        (replace(linked(state="backup", well=False), gateway=False), SHORT, TAKE),
        (replace(linked(state="backup", gateway=None, witnesses=True), gateway=None, witnesses=False), LONG, STAY),
        (replace(linked(gateway=None, witnesses=False), gateway=None, witnesses=True), SHORT, HOLD),
        (replace(linked(gateway=None, witnesses=False), gateway=None, witnesses=True), LONG, TAKE),
        (replace(linked(gateway=False, witnesses=True), gateway=True, witnesses=False), LONG, HOLD),
        (Facts(guards="refuse"), LONG, STAY),
        # what is offered is taken
        (replace(linked(released=True), gateway=False), SHORT, TAKE),
        (replace(linked(state="fault"), gateway=False), SHORT, TAKE),
        (replace(linked(released=True), guards="refuse"), LONG, STAY),
        # the link's word
        (linked(), SHORT, HOLD),
        (linked(), LONG, HOLD),
        (linked(gateway=None), LONG, HOLD),
        (linked(gateway=False), SHORT, HOLD),
        (linked(gateway=False), LONG, TAKE),
        (replace(linked(gateway=False), gateway=None), LONG, HOLD),
        (linked(well=False), SHORT, TAKE),
        (linked(released=True), SHORT, TAKE),
        (linked(state="fault"), SHORT, TAKE),
        (linked(state="backup"), SHORT, TAKE),
        (linked(state="init"), SHORT, TAKE),
        # its farewell
        (linked(), replace(SHORT, has_left=True), TAKE),
        # preemption
        (linked(), replace(SHORT, is_preempting=True), STAY),
        (replace(linked(), healthy_backends=2), replace(SHORT, is_preempting=True), STAY),
        (replace(linked(), healthy_backends=3), replace(SHORT, is_preempting=True), TAKE),
        (Facts(), replace(SHORT, is_preempting=True), TAKE),
        # last resort
        (Facts(guards="last_resort"), SHORT, STAY),
        (Facts(guards="last_resort"), LONG, TAKE),
        (Facts(guards="last_resort", link="dead", peer=WELL), LONG, TAKE),
        (Facts(guards="last_resort", link="dead", peer=WELL), replace(LONG, link=44.0), STAY),
        (Facts(guards="last_resort"), replace(LONG, adverts=44.0), STAY),
        (replace(linked(released=True), guards="last_resort"), LONG, STAY),
        (Facts(guards="last_resort"), replace(LONG, is_preempting=True), STAY),
        (Facts(guards="last_resort", gateway=False), LONG, STAY),
    ],
)
def test_the_takeover_rule(facts: Facts, silence: Silence, verdict: Verdict) -> None:
    """Every line of the rule, with a reason that a person can read."""
    decision = decide(settings(), facts, silence)
    assert decision.verdict == verdict
    assert len(decision.reason) > 10


@pytest.mark.parametrize(
    ("changes", "gateway", "witnesses", "is_cut_off"),
    [
        ({}, None, None, False),
        ({}, True, None, False),
        ({}, False, None, True),
        ({"gateway": "off"}, False, None, False),
        ({"witnesses": WITNESS}, False, True, False),
        ({"witnesses": WITNESS}, True, False, False),
        ({"witnesses": WITNESS}, False, False, True),
        ({"witnesses": WITNESS}, False, None, False),
        ({"witnesses": WITNESS, "gateway": "off"}, None, False, True),
        ({"witnesses": WITNESS, "gateway": "off"}, None, None, False),
    ],
)
def test_isolated_is_who_reaches_nothing_that_it_asks(
    changes: dict[str, Any], gateway: bool | None, witnesses: bool | None, is_cut_off: bool
) -> None:
    """Unknown is not bad: a probe that had no answer yet holds nobody back."""
    assert is_isolated(settings(**changes), Facts(gateway=gateway, witnesses=witnesses)) is is_cut_off


def test_an_offer_is_the_word_of_a_link_that_lives() -> None:
    """What a dead link said last is no offer."""
    assert "released" in is_offered(linked(released=True))
    assert is_offered(linked(state="fault", reason="no worker is ready")) == "the peer is in fault: no worker is ready"
    assert is_offered(linked()) == ""
    assert is_offered(replace(linked(released=True), link="dead")) == ""


@pytest.mark.parametrize(
    ("facts", "is_fit"),
    [
        (Facts(), True),
        (Facts(ready_workers=0), False),
        (Facts(ready_workers=1), True),
        (Facts(own_link_up=False), False),
        (Facts(guards="last_resort"), False),
        (Facts(guards="refuse"), False),
        (Facts(gateway=False), True),
    ],
)
def test_well_is_who_is_fit_to_be_master(facts: Facts, is_fit: bool) -> None:
    """The gateway is told apart, for the rule weighs it against the other's."""
    assert is_well(facts) is is_fit


def cause(facts: Facts, **how: bool) -> str:
    """Why a machine is at fault."""
    return fault_cause(settings(), facts, **{"no_worker": False, "is_master": False, **how})


def test_the_causes_of_a_fault() -> None:
    """Each one by itself; guards bind a backup only."""
    assert cause(Facts()) == ""
    assert cause(Facts(own_link_up=False)) == "interface eth0 is down"
    assert cause(Facts(), no_worker=True) == "no worker is ready"
    assert cause(Facts(guards="refuse", guard_reason="stale")) == "guard refuses: stale"
    assert cause(Facts(guards="refuse"), is_master=True) == ""
    assert cause(Facts(stranger="somebody has it")) == "somebody has it"
    assert cause(Facts(stranger="somebody has it"), is_master=True) == ""
    assert cause(Facts(guards="last_resort")) == ""


@pytest.mark.parametrize(
    ("peer", "how", "is_at_fault"),
    [
        ({"state": "backup"}, {"is_master": True, "is_alone": True}, True),
        ({"state": "backup"}, {"is_master": True, "is_alone": False}, False),
        ({"state": "master"}, {"is_master": True, "is_alone": True}, False),
        ({"state": "backup", "well": False}, {"is_master": True, "is_alone": True}, False),
        ({"state": "backup", "gateway": None}, {"is_master": True, "is_alone": True}, False),
        ({"state": "backup", "gateway": False}, {"is_master": True, "is_alone": True}, False),
        ({"state": "master"}, {"is_fault": True}, True),
        ({"state": "master"}, {}, False),
    ],
)
def test_a_lost_gateway_is_a_fault_of_a_master_whose_peer_has_one(
    peer: dict[str, Any], how: dict[str, bool], is_at_fault: bool
) -> None:
    """And is sure of it, and of nobody else: to go without a better one would leave nobody."""
    assert bool(cause(replace(linked(**peer), gateway=False), **how)) is is_at_fault


@pytest.mark.parametrize(
    ("peer", "why"),
    [
        ({"state": "backup"}, ""),
        ({"state": "master"}, "master"),
        ({"state": "fault", "reason": "guard refuses"}, "fault: guard refuses"),
        ({"state": "backup", "well": False}, "not fit"),
        ({"state": "backup", "gateway": False}, "gateway"),
        ({"state": "backup", "healthy_backends": 0}, "no healthy backend"),
        ({"state": "backup", "healthy_backends": None}, ""),
    ],
)
def test_a_handover_needs_a_fit_peer(peer: dict[str, Any], why: str) -> None:
    """The refusal says what is missing."""
    refusal = handover_refusal(replace(linked(**peer), healthy_backends=2))
    assert why in refusal
    assert bool(refusal) is bool(why)


def test_a_handover_needs_a_link() -> None:
    """Without one nobody knows of the other machine."""
    assert "no link" in handover_refusal(Facts())
    assert "down" in handover_refusal(Facts(link="dead", peer=WELL))
    assert handover_refusal(replace(linked(state="backup", healthy_backends=0), healthy_backends=0)) == ""


@pytest.mark.parametrize(
    ("is_on", "own", "peer", "yields"),
    [
        (True, 0, {"state": "backup", "healthy_backends": 1}, True),
        (False, 0, {"state": "backup", "healthy_backends": 1}, False),
        (True, 1, {"state": "backup", "healthy_backends": 3}, False),
        (True, None, {"state": "backup", "healthy_backends": 3}, False),
        (True, 0, {"state": "backup", "healthy_backends": 0}, False),
        (True, 0, {"state": "backup", "healthy_backends": None}, False),
        (True, 0, {"state": "fault", "healthy_backends": 3}, False),
        (True, 0, {"state": "backup", "well": False}, False),
        (True, 0, {"state": "backup", "gateway": False}, False),
    ],
)
def test_no_backend_gives_to_a_peer_that_sees_more(
    is_on: bool, own: int | None, peer: dict[str, Any], yields: bool
) -> None:
    """Never to one that is no better off."""
    wanted = settings(release_when={"no_worker": 0.5, "no_backend": is_on})
    assert bool(yield_cause(wanted, replace(linked(**peer), healthy_backends=own))) is yields


@pytest.mark.parametrize(
    ("own_gateway", "peer", "goes"),
    [
        (True, {"gateway": True, "priority": 99}, False),
        (True, {"gateway": True, "priority": 101}, True),
        (True, {"gateway": False, "priority": 101}, False),
        (False, {"gateway": True, "priority": 99}, True),
        (None, {"gateway": True, "priority": 99}, False),
        (True, {"priority": 100, "sources": frozenset({"10.9.0.10"})}, True),
        (True, {"priority": 100, "sources": frozenset({"10.9.0.1"})}, False),
        (True, {"priority": 100, "sources": frozenset()}, False),
    ],
)
def test_two_masters_on_a_link_agree_on_who_goes(own_gateway: bool | None, peer: dict[str, Any], goes: bool) -> None:
    """The gateway, then the priority, then the addresses, as numbers."""
    facts = replace(linked(**peer), gateway=own_gateway, sources={4: "10.9.0.9"})
    assert facts.peer is not None
    assert loses_to_peer(facts, facts.peer, 100) is goes
    if facts.peer.sources:
        theirs = Facts(sources={4: next(iter(facts.peer.sources))}, gateway=facts.peer.gateway)
        ours = PeerFacts("master", 100, True, gateway=own_gateway, sources=frozenset(facts.sources.values()))
        assert loses_to_peer(theirs, ours, facts.peer.priority) is not goes


def test_what_is_told_comes_through_json() -> None:
    """The other end has the same facts."""
    peer = PeerFacts("backup", 7, False, "why", True, None, 3, 0.25, 3, frozenset({"10.0.0.1", "fe80::1"}))
    assert peer_from_plain(json.loads(json.dumps(peer_to_plain(peer)))) == peer


def test_another_version_is_understood() -> None:
    """Keys that are new there are passed over, those that are not there yet are unknown."""
    assert peer_from_plain({"state": "init", "priority": 1, "well": True, "new": [1]}) == PeerFacts("init", 1, True)


@pytest.mark.parametrize(
    "change",
    [
        {"state": "king"},
        {"state": None},
        {"priority": "100"},
        {"priority": True},
        {"well": 1},
        {"well": None},
        {"released": None},
        {"gateway": "yes"},
        {"advert_age": "1"},
        {"reason": 5},
        {"sources": "10.0.0.1"},
        {"sources": [1]},
        {"sources": ["here"]},
    ],
)
def test_nonsense_over_the_link_is_refused(change: dict[str, Any]) -> None:
    """Whoever has the key may still be broken."""
    with pytest.raises(ValueError, match=r"state|can't be|does not appear"):
        peer_from_plain({"state": "init", "priority": 1, "well": True, **change})


def test_a_machine_without_a_worker_takes_nothing() -> None:
    """Neither from a dead master nor, preempting, from one that lives; without a proxy there is no question."""
    for silence in (SHORT, LONG, replace(SHORT, is_preempting=True), replace(SHORT, has_left=True)):
        decision = decide(settings(), Facts(ready_workers=0), silence)
        assert (decision.verdict, decision.reason) == (STAY, "no worker is ready")
        assert decide(settings(), Facts(ready_workers=1), silence).verdict == TAKE
        assert decide(settings(), Facts(ready_workers=None), silence).verdict == TAKE


def test_a_machine_whose_supervisor_hangs_leaves_it_to_the_other() -> None:
    """If that one can have the addresses; if nobody else can, its workers still serve."""
    can_take = replace(linked(state="backup"), supervisor_hangs=True)
    assert yield_cause(settings(), can_take) == "the supervisor hangs"
    assert not is_well(can_take)
    for peer in ({"state": "master"}, {"state": "fault"}, {"well": False}, {"gateway": False}):
        assert yield_cause(settings(), replace(linked(**{"state": "backup", **peer}), supervisor_hangs=True)) == ""
    assert yield_cause(settings(), Facts(supervisor_hangs=True)) == ""
    assert decide(settings(), Facts(supervisor_hangs=True), SHORT).verdict == TAKE
    assert decide(settings(), Facts(supervisor_hangs=True), replace(SHORT, is_preempting=True)).verdict == STAY


@pytest.mark.parametrize(
    ("facts", "is_heard", "serves"),
    [
        (linked(), False, True),
        (linked(well=False), True, False),
        (linked(state="backup"), True, False),
        (Facts(link="dead", peer=WELL), True, False),
        (Facts(), True, True),
        (Facts(), False, False),
    ],
)
def test_whether_the_other_machine_serves(facts: Facts, is_heard: bool, serves: bool) -> None:
    """By its word where there is a link, else by its adverts: a machine that may be the last one isn't ended."""
    assert serves_elsewhere(facts, is_heard=is_heard) is serves
