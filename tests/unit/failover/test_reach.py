"""What a machine reaches, and whether the other machine's word about it counts."""

import pytest

from pyproxy.failover.reach import Comparison, Reach

PATIENCE = 0.4


def see(watch: Comparison, now: float, age: float | None = None, *, is_new: bool = True) -> bool:
    """Our sign is lost, and the peer has just said that its own isn't."""
    watch.observe(False, True, age, now, PATIENCE, is_new=is_new)
    return watch.is_confirmed


@pytest.mark.parametrize("age", [0.05, None])
def test_an_answer_from_after_our_loss_counts(age: float | None) -> None:
    """With a margin; a word without an age is of its own moment."""
    watch = Comparison()
    assert not see(watch, 10.0)
    assert not see(watch, 10.4, age)
    assert see(watch, 10.46, age)


def test_an_old_answer_does_not_become_young_by_waiting() -> None:
    """Neither when it is told again with its age, nor when the same word is looked at again."""
    watch = Comparison()
    assert not see(watch, 10.0, 0.1)
    for now in (11.0, 99.0):
        assert not see(watch, now, 0.1, is_new=False)
    assert not see(watch, 99.0, 89.1)


@pytest.mark.parametrize(("ours", "theirs"), [(False, False), (False, None), (True, True), (None, True)])
def test_it_begins_anew_whenever_the_two_agree(ours: bool | None, theirs: bool | None) -> None:
    """Ours answers, the other one is lost or unknown: in each case nothing is sure any more."""
    watch = Comparison()
    see(watch, 10.0)
    assert see(watch, 11.0)
    watch.observe(ours, theirs, None, 12.0, PATIENCE, is_new=True)
    assert not watch.is_confirmed
    assert not see(watch, 13.0)


def test_of_two_never_both_reach_more() -> None:
    """So the addresses don't go to and fro: whatever is known, at most one of the two is better connected."""
    signs = [Reach(gateway, witnesses) for gateway in (True, False, None) for witnesses in (True, False, None)]
    for one in signs:
        for other in signs:
            assert not (one.is_better_than(other) and other.is_better_than(one))
            assert bool(other.lacks(one)) >= one.is_better_than(other), "and there is a word for it"
