"""Pins which backend a client may stick to, and that the others' turns pay for it."""

from collections import Counter

import pytest

from pyproxy.balance.backend import Backend
from pyproxy.balance.pool import Pool
from tests.unit.balance.backends import NAMES, backend, pool_of

KEY = b"10.0.0.1"


def changed(member: Backend, **facts: object) -> Backend:
    """Give a backend other facts."""
    for name, value in facts.items():
        setattr(member, name, value)
    return member


@pytest.mark.parametrize("policy", NAMES)
@pytest.mark.parametrize(
    ("facts", "keeps", "serves"),
    [
        ({}, True, True),
        ({"weight": 0}, True, True),
        ({"state": "drain"}, True, True),
        ({"backup": True}, True, True),
        ({"max_conns": 2, "active": 2}, True, False),
        ({"max_conns": 2, "active": 1}, True, True),
        ({"state": "drain", "max_conns": 2, "active": 2}, True, False),
        ({"health": "checking"}, True, False),
        ({"state": "maint"}, False, False),
        ({"health": "down"}, False, False),
        ({"state": "drain", "health": "down"}, False, False),
    ],
)
def test_who_is_served_by_its_own(policy: str, facts: dict[str, object], *, keeps: bool, serves: bool) -> None:
    """Weight, tier and a drain don't matter; maintenance and failed checks do, a limit only for the moment."""
    own, other = changed(backend("own"), **facts), backend("other")
    pool = pool_of(policy, [own, other])
    assert pool.keeps(own) is keeps
    picked = pool.pick((), KEY, 0.0, own)
    assert (picked is own) is serves or not facts
    assert pool.explain(KEY, 0.0, own)[0] == (own if serves else other).name
    if not serves:
        assert picked is other


@pytest.mark.parametrize("policy", NAMES)
def test_one_that_was_tried_is_not_asked_again(policy: str) -> None:
    """The next attempt is another backend's."""
    own, other = backend("own"), backend("other")
    assert pool_of(policy, [own, other]).pick([own], KEY, 0.0, own) is other


def test_nobody_else_is_needed() -> None:
    """With all drained, those who stick to them are served still; others are not."""
    own = changed(backend("own"), state="drain")
    pool = pool_of("round_robin", [own])
    assert pool.pick(own=own) is own
    assert pool.pick() is None
    assert pool.explain(own=own)[0] == "own"


def test_try_all_keeps_clients_where_they_are() -> None:
    """When health doesn't matter because nobody is up, it doesn't matter for them either."""
    members = [changed(backend(name), health="down") for name in "ab"]
    pool = Pool("web", "round_robin", members, tries_all=True)
    assert pool.keeps(members[1])
    assert [pool.pick(own=members[1]) for _ in range(3)] == [members[1]] * 3


@pytest.mark.parametrize("policy", ["round_robin", "least_conn"])
def test_bound_load_is_charged(policy: str) -> None:
    """New clients go where the sticky ones are not, so that all together have their share."""
    members = [backend("a"), backend("b"), backend("c")]
    pool = pool_of(policy, members)
    counts: Counter[str] = Counter()
    for number in range(300):
        picked = pool.pick(own=members[0] if number % 3 == 0 else None)
        assert picked is not None
        counts[picked.name] += 1
    assert counts == {"a": 100, "b": 100, "c": 100}


def test_a_drained_backend_is_not_charged_to_the_others() -> None:
    """What its sticky clients ask for changes nothing in the order of the others."""
    members = [backend("a"), backend("b"), changed(backend("c"), state="drain")]
    pool = pool_of("round_robin", members)
    picked = []
    for _ in range(4):
        assert pool.pick(own=members[2]) is members[2]
        picked.append(pool.pick())
    assert picked == [members[0], members[1]] * 2
