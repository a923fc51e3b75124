"""Counting how long there are two masters."""

from pyproxy.failover.duals import DualWatch


def test_one_foreign_advert_is_a_farewell() -> None:
    """A master that steps down sends one; so do two copies of it."""
    watch = DualWatch()
    watch.hear(10.0, 1.0)
    watch.hear(10.001, 1.0)
    assert not watch.is_on
    watch.end_adverts(13.0)
    assert watch.seconds(99.0) == 0.0


def test_adverts_that_go_on_count_from_the_first_to_the_last() -> None:
    """What was in between is what clients felt."""
    watch = DualWatch()
    for moment in (10.0, 11.0, 12.0):
        watch.hear(moment, 1.0)
    assert watch.is_on
    assert watch.seconds(12.5) == 2.5
    watch.end_adverts(15.0)
    assert (watch.is_on, watch.seconds(99.0)) == (False, 2.0)
    watch.hear(20.0, 1.0)
    watch.end_adverts(23.0)
    assert watch.total == 2.0


def test_the_links_word_counts_after_a_while() -> None:
    """A peer that is about to step down says master for a moment longer."""
    watch = DualWatch()
    assert not watch.hear_link(10.0, is_master=True, patience=3.0)
    assert not watch.hear_link(12.9, is_master=True, patience=3.0)
    assert watch.hear_link(13.0, is_master=True, patience=3.0)
    assert watch.seconds(14.0) == 4.0
    assert not watch.hear_link(15.0, is_master=False, patience=3.0)
    assert (watch.is_on, watch.total) == (False, 5.0)


def test_both_ways_are_one_time() -> None:
    """Adverts and link together aren't counted twice; the last of them ends it."""
    watch = DualWatch()
    watch.hear_link(10.0, is_master=True, patience=1.0)
    watch.hear_link(11.0, is_master=True, patience=1.0)
    watch.hear(12.0, 1.0)
    watch.hear(13.0, 1.0)
    watch.hear_link(14.0, is_master=False, patience=1.0)
    assert watch.is_on
    watch.end_adverts(16.0)
    assert (watch.is_on, watch.total) == (False, 3.0)


def test_who_is_no_longer_master_is_no_second_one() -> None:
    """Stepping down ends it at once."""
    watch = DualWatch()
    watch.hear(10.0, 1.0)
    watch.hear(11.0, 1.0)
    watch.leave(11.5)
    assert (watch.is_on, watch.total) == (False, 1.5)
    assert repr(watch) == "<DualWatch off 1.5 s>"
