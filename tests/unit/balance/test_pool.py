"""Pins who is eligible in a pool and what a pick gives for the second attempt."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pyproxy.balance.backend import Backend
from pyproxy.balance.pool import Pool
from pyproxy.config.runtime import Backend as BackendConfig


def backend(name: str, weight: int = 1, *, backup: bool = False) -> Backend:
    """Make a backend."""
    return Backend("web", BackendConfig(name, "10.0.0.1", 80, weight, backup, 0))


def pool(*backends: Backend, offset: int = 0) -> Pool:
    """Make a pool."""
    return Pool("web", "round_robin", backends, offset)


def names(count: int, of: Pool) -> list[str]:
    """Pick so many times."""
    picks = [of.pick() for _ in range(count)]
    return [pick.name for pick in picks if pick is not None]


def test_weight_zero_gets_nothing() -> None:
    """A weight of 0 is no share, and no reason to fail while others have one."""
    assert Counter(names(30, pool(backend("a", 0), backend("b", 2), backend("c", 1)))) == {"b": 20, "c": 10}


def test_nobody_eligible() -> None:
    """Without backends, or with weights of 0 only, there is no pick."""
    assert pool().pick() is None
    assert pool(backend("a", 0), backend("b", 0, backup=True)).pick() is None
    empty = pool()
    assert empty.pick([backend("a")]) is None


def test_backup_tier() -> None:
    """Backups get nothing while a primary is eligible, and share by weight when none is."""
    primary, first, second = backend("a"), backend("b", 2, backup=True), backend("c", 1, backup=True)
    tiers = pool(primary, first, second)
    assert set(names(10, tiers)) == {"a"}
    primary.weight = 0
    tiers.rebuild()
    assert Counter(names(9, tiers)) == {"b": 6, "c": 3}
    primary.weight = 1
    tiers.rebuild()
    assert set(names(10, tiers)) == {"a"}


def test_a_flip_swaps_one_reference() -> None:
    """Who holds the old tuple still has it: a rebuild doesn't change what somebody goes through."""
    first, second = backend("a"), backend("b")
    both = pool(first, second)
    before = both.eligible
    second.weight = 0
    both.rebuild()
    assert before == (first, second)
    assert both.eligible == (first,)


def test_tried_backends_come_last() -> None:
    """The next attempt goes to another backend as long as there is one."""
    three = [backend("a", 100), backend("b", 1), backend("c", 1)]
    of = pool(*three)
    for _ in range(50):
        first = of.pick()
        assert first is not None
        second = of.pick([first])
        assert second is not None
        third = of.pick([first, second])
        assert third is not None
        assert {first, second, third} == set(three)
        assert of.pick(three) in three


def test_the_only_backend_is_tried_again() -> None:
    """With no other one the same comes again."""
    only = backend("a")
    assert pool(only).pick([only]) is only


def test_tried_ones_that_are_not_eligible_do_not_count() -> None:
    """A backend that has gone in the meantime keeps nobody out."""
    assert pool(backend("a")).pick([backend("a"), backend("z")]) is not None


@given(
    weights=st.lists(st.tuples(st.integers(0, 256), st.booleans()), max_size=6),
    tried=st.sets(st.integers(0, 5)),
    offset=st.integers(0, 20),
)
def test_a_pick_is_eligible_and_new_if_possible(weights: list[tuple[int, bool]], tried: set[int], offset: int) -> None:
    """Whatever is configured and was tried: eligible always, untried if there is one, none only if there is none."""
    backends = [backend(str(index), weight, backup=backup) for index, (weight, backup) in enumerate(weights)]
    of = pool(*backends, offset=offset)
    past = [backends[index] for index in tried if index < len(backends)]
    primary = {each for each in backends if each.weight and not each.backup}
    eligible = primary or {each for each in backends if each.weight}
    for _ in range(5):
        pick = of.pick(past)
        assert (pick is None) == (not eligible)
        if pick is not None:
            assert pick in eligible
            assert pick not in past or eligible <= set(past)


def test_workers_begin_at_different_places() -> None:
    """The offset is handed on to the policy, also after a rebuild."""
    of = pool(backend("a"), backend("b"), backend("c"), offset=1)
    assert names(3, of) == ["b", "c", "a"]
    of.rebuild()
    assert names(1, of) == ["b"]


def test_repr() -> None:
    """Logs say how many can serve."""
    assert repr(pool(backend("a"), backend("b", 0))) == "<Pool web 1/2 eligible>"
