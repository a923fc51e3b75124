"""Pins where the latency-aware policy expects an answer first, and what it does with backends it doesn't know."""

from random import Random

import pytest

from pyproxy.balance.backend import Backend
from pyproxy.balance.latency import FORGOTTEN
from pyproxy.balance.policies.ewma import Ewma
from tests.unit.balance.backends import World, backends, pool_of

NOW = 1000.0


def policy_of(*facts: tuple[int, int, float]) -> Ewma:
    """Make a policy over backends of (weight, active, latency), 0 being unknown."""
    members = backends([weight for weight, _, _ in facts])
    policy = Ewma(members, Random(1))
    for member, (_, active, latency) in zip(members, facts, strict=True):
        member.active = active
        assert member.latency is not None
        if latency:
            member.latency.record(latency, NOW)
    return policy


def chosen(policy: Ewma, now: float = NOW) -> set[str]:
    """Pick many times."""
    picks = [policy.pick(b"", now) for _ in range(100)]
    return {pick.name for pick in picks if pick is not None}


@pytest.mark.parametrize(
    ("first", "second", "best"),
    [
        ((1, 0, 0.001), (1, 0, 0.002), {"0"}),  # the faster of two idle ones
        ((1, 3, 0.001), (1, 0, 0.002), {"1"}),  # the slower one, if the faster is busy enough
        ((1, 1, 0.001), (1, 0, 0.002), {"0", "1"}),  # a tie is a matter of the draw
        ((1, 3, 0.001), (3, 3, 0.001), {"1"}),  # so much in flight is less for a heavier one
        ((1, 0, 0.001), (3, 0, 0.001), {"0", "1"}),  # the weights of idle ones are the draw's matter alone
        ((100, 1, 0.001), (100, 0, 0.001), {"1"}),  # in whatever unit
    ],
)
def test_the_sooner_answer(first: tuple[int, int, float], second: tuple[int, int, float], best: set[str]) -> None:
    """Latency times what is in flight, for the weight."""
    assert chosen(policy_of(first, second)) == best


@pytest.mark.parametrize(
    ("first", "second", "best"),
    [
        ((1, 0, 0.0), (1, 0, 0.001), {"0"}),  # idle: to be found out
        ((1, 0, 0.0), (1, 5, 0.0), {"0"}),
        ((1, 1, 0.0), (1, 0, 0.001), {"1"}),  # its answer is still out: no faster than the other
        ((1, 2, 0.0), (1, 3, 0.001), {"0"}),  # and no slower
        ((1, 2, 0.0), (1, 2, 0.001), {"0", "1"}),
        ((1, 1, 0.0), (1, 2, 0.0), {"0"}),  # two unknown ones: the less busy
        ((1, 0, 0.0), (1, 0, 0.0), {"0", "1"}),
    ],
)
def test_the_unknown(first: tuple[int, int, float], second: tuple[int, int, float], best: set[str]) -> None:
    """Who is unknown is tried once at a time, and gets its share while it owes an answer."""
    assert chosen(policy_of(first, second)) == best


def test_what_was_slow_is_tried_again() -> None:
    """When nothing has been heard of it for long, it is as good as new."""
    policy = policy_of((1, 0, 5.0), (1, 0, 0.001))
    assert chosen(policy) == {"1"}
    fast = policy._backends[1].latency
    assert fast is not None
    fast.record(0.001, NOW + FORGOTTEN)
    assert chosen(policy, NOW + FORGOTTEN) == {"0"}


def test_a_latency_that_is_there_is_kept() -> None:
    """What was measured outlives a change of the pool."""
    members = backends([1, 1])
    Ewma(members, Random(1))
    latencies = [member.latency for member in members]
    Ewma(members, Random(1))
    assert [member.latency for member in members] == latencies
    assert None not in latencies


def test_scores() -> None:
    """Seconds to be expected."""
    assert list(policy_of((3, 6, 0.25), (1, 0, 0.5)).scores(b"", NOW).values()) == [1.25, 0.5]


def test_one_that_never_answers() -> None:
    """From cold, one that hangs holds about its share of what is in flight, and gets nothing more."""
    world = World(pool_of("ewma", backends([1, 1, 1])), 63, lambda on, _: 1e9 if on.name == "0" else 0.001)
    world.run(50_000)
    assert 10 < world.sent["0"] < 32


def test_one_that_answers_no_more() -> None:
    """One that was fast and then hangs doesn't become attractive while its latency decays and is forgotten."""
    world = World(
        pool_of("ewma", backends([1, 1, 1])), 63, lambda on, now: 1e9 if on.name == "0" and now > 5.0 else 0.05
    )
    hangs = world.pool.backends[0]
    while world.now < 5.0:
        world.run(100)
    assert hangs.active > 10
    while world.now < 5.0 + 2 * FORGOTTEN:
        world.run(1000)
        assert hangs.active < 32


def test_silence_under_tunnels_does_not_last() -> None:
    """One that was slow and has long requests in flight is taken for as fast as the other in the end."""
    policy = policy_of((1, 3, 60.0), (1, 4, 0.001))
    fast = policy._backends[1].latency
    assert fast is not None
    assert chosen(policy) == {"1"}
    fast.record(0.001, NOW + 2 * FORGOTTEN)
    assert chosen(policy, NOW + 2 * FORGOTTEN) == {"0"}


def test_refusals_do_not_attract() -> None:
    """One that refuses at once looks slow, not fast."""
    policy = policy_of((1, 0, 0.001), (1, 0, 0.001))
    refusing = policy._backends[0].latency
    assert refusing is not None
    refusing.record_failure(0.0001, NOW)
    assert chosen(policy) == {"1"}


def test_who_recovers_gets_its_share_again() -> None:
    """A backend that was slow for a while serves like the others some time later."""

    def seconds(on: Backend, now: float) -> float:
        return 0.5 if on.name == "0" and now < 20.0 else 0.01

    world = World(pool_of("ewma", backends([1, 1, 1])), 6, seconds)
    while world.now < 20.0:
        world.run(100)
    assert world.sent["0"] < 0.1 * sum(world.sent.values())
    while world.now < 120.0:
        world.run(100)
    world.sent.clear()
    world.run(10_000)
    assert world.sent["0"] > 0.25 * 10_000
