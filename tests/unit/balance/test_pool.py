"""Pins who is eligible in a pool, what a pick gives under limits and for the next attempt, and how it is explained."""

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyproxy.balance.backend import Backend
from pyproxy.balance.policies.policy import IsOpen, Policy
from pyproxy.balance.pool import Pool
from tests.unit.balance.backends import NAMES, backend, policy_of, pool_of

every_policy = pytest.mark.parametrize("policy", NAMES)


def pool(*members: Backend, policy: str = "round_robin", offset: int = 0) -> Pool:
    """Make a pool."""
    return pool_of(policy, members, offset=offset)


def names(count: int, of: Pool) -> list[str]:
    """Pick so many times."""
    picks = [of.pick() for _ in range(count)]
    return [pick.name for pick in picks if pick is not None]


def test_weight_zero_gets_nothing() -> None:
    """A weight of 0 is no share, and no reason to fail while others have one."""
    assert Counter(names(30, pool(backend("a", 0), backend("b", 2), backend("c", 1)))) == {"b": 20, "c": 10}


@every_policy
def test_nobody_eligible(policy: str) -> None:
    """Without backends, or with weights of 0 only, there is no pick."""
    empty = pool(policy=policy)
    assert empty.pick() is None
    assert empty.pick([backend("a")]) is None
    assert empty.explain() == (None, [])
    assert pool(backend("a", 0), backend("b", 0, backup=True), policy=policy).pick() is None


@every_policy
def test_who_comes_after_nobody(policy: str) -> None:
    """A pool that lost all its backends serves again when it has some."""
    only = backend("a")
    of = pool(only, policy=policy)
    of.replace([], 1)
    assert (of.pick(), of.eligible) == (None, ())
    of.replace([only], 1)
    assert of.pick() is only


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


def test_full_primaries_do_not_overflow_to_backups() -> None:
    """Who waits, waits for a primary: backups are for those that are gone."""
    primary = backend("a", max_conns=1)
    tiers = pool(primary, backend("b", backup=True))
    primary.active = 1
    assert tiers.pick() is None
    assert tiers.eligible == (primary,)


def test_a_flip_swaps_one_reference() -> None:
    """Who holds the old tuple still has it: a rebuild doesn't change what somebody goes through."""
    first, second = backend("a"), backend("b")
    both = pool(first, second)
    before = both.eligible
    second.weight = 0
    both.rebuild()
    assert before == (first, second)
    assert both.eligible == (first,)


def test_replace() -> None:
    """Members come and go, weights count in another unit, and who stays is the same object with its past."""
    stays, goes = backend("a"), backend("b")
    of = pool(stays, goes)
    stays.active = 3
    stays.full_weight = 2
    comes = backend("c", 1, max_conns=4)
    of.replace([stays, comes], 2)
    assert (of.backends, of.eligible, of.unit, of.is_limited) == ((stays, comes), (stays, comes), 2, True)
    assert Counter(names(9, of)) == {"a": 6, "c": 3}
    assert stays.active == 3


@every_policy
def test_tried_backends_come_last(policy: str) -> None:
    """The next attempt goes to another backend as long as there is one, however light it is."""
    three = [backend("a", 100), backend("b", 1), backend("c", 1)]
    of = pool(*three, policy=policy)
    for _ in range(50):
        first = of.pick()
        assert first is not None
        second = of.pick([first])
        assert second is not None
        third = of.pick([first, second])
        assert third is not None
        assert {first, second, third} == set(three)
        assert of.pick(three) in three


@every_policy
def test_the_only_backend_is_tried_again(policy: str) -> None:
    """With no other one the same comes again."""
    only = backend("a")
    assert pool(only, policy=policy).pick([only]) is only


def test_tried_ones_that_are_not_eligible_do_not_count() -> None:
    """A backend that has gone in the meantime keeps nobody out."""
    assert pool(backend("a")).pick([backend("a"), backend("z")]) is not None


@every_policy
def test_limits(policy: str) -> None:
    """Nobody gets more than its max_conns, the unlimited one takes the rest, and with all full there is no pick."""
    two, three, free = backend("a", max_conns=2), backend("b", 9, max_conns=3), backend("c")
    of = pool(two, three, free, policy=policy)
    for _ in range(60):
        pick = of.pick()
        assert pick is not None
        pick.active += 1
        of.active += 1
    assert (two.active <= 2, three.active <= 3, free.active >= 55) == (True, True, True)
    of.replace([two, three], 1)
    two.active, three.active = 2, 2
    assert of.pick() is three
    three.active = 3
    assert of.pick() is None
    assert of.pick([two]) is None
    two.active = 1
    assert of.pick() is two


@every_policy
def test_a_tried_one_with_room_comes_before_none(policy: str) -> None:
    """When the only other one is full, the same is tried again; with no room anywhere there is no pick."""
    tried, full = backend("a", max_conns=2), backend("b", max_conns=1)
    of = pool(tried, full, policy=policy)
    full.active = 1
    assert of.pick([tried]) is tried
    tried.active = 2
    assert of.pick([tried]) is None


def test_what_is_in_flight_is_asked_for() -> None:
    """A limit is meant over all workers: what this one has in flight isn't all."""
    first, second = backend("a", max_conns=5), backend("b")
    everywhere = {first: 5, second: 100}
    of = Pool("web", "round_robin", [first, second], in_flight=everywhere.__getitem__)
    assert names(4, of) == ["b"] * 4
    everywhere[first] = 4
    assert set(names(4, of)) == {"a", "b"}


class Spy(Policy):
    """Has nobody to offer, and notes what it is asked for."""

    def __init__(self) -> None:
        self.conditions: list[IsOpen | None] = []

    def pick(self, key: bytes, now: float, is_open: IsOpen | None = None) -> Backend | None:
        self.conditions.append(is_open)
        return None


def test_without_limits_nobody_is_asked() -> None:
    """A pool without max_conns doesn't pay for them."""
    of = pool(backend("a"), backend("b"))
    assert not of.is_limited
    of.policy = spy = Spy()
    of.pick()
    of.pick([backend("a")])
    assert [is_open is None for is_open in spy.conditions] == [True, False, False]
    limited_backup = [backend("a"), backend("b", backup=True, max_conns=1)]
    assert not pool(*limited_backup).is_limited


@every_policy
@given(
    weights=st.lists(st.tuples(st.integers(0, 256), st.booleans(), st.integers(0, 2), st.integers(0, 2)), max_size=6),
    tried=st.sets(st.integers(0, 5)),
    unreachable=st.sets(st.integers(0, 5)),
    offset=st.integers(0, 20),
)
@settings(deadline=None)
def test_a_pick_is_eligible_and_new_if_possible(
    policy: str, weights: list[tuple[int, bool, int, int]], tried: set[int], unreachable: set[int], offset: int
) -> None:
    """
    Whatever is configured, busy and was tried: eligible and with room always, untried if there is one.

    The backups come after the primary ones for whom these were in vain, and nobody that can't be reached comes again.
    """
    members = []
    for index, (weight, backup, max_conns, active) in enumerate(weights):
        members.append(backend(str(index), weight, backup=backup, max_conns=max_conns))
        members[-1].active = active
    of = pool(*members, policy=policy, offset=offset)
    of.active = sum(member.active for member in members)
    past = {members[index] for index in tried if index < len(members)}
    out = {each for each in past if members.index(each) in unreachable}
    with_weight = {each for each in members if each.weight}
    primary = {each for each in with_weight if not each.backup} or with_weight
    room = {each for each in with_weight if not each.max_conns or each.active < each.max_conns}
    first = primary & room
    if past:
        orders = [primary & room - past, room - past, primary & room - out, room - out]
        first = next((order for order in orders if order), set())
    assert of.has_another(out) is bool(with_weight - out if past & out else primary)
    for number in range(5):
        pick = of.pick(tuple(past), str(number).encode(), unreachable=tuple(out))
        assert pick in (first or [None])


def test_workers_begin_at_different_places() -> None:
    """The offset is handed on to the policy."""
    members = [backend("a"), backend("b"), backend("c")]
    assert [names(3, pool(*members, offset=offset)) for offset in (0, 1)] == [["a", "b", "c"], ["b", "c", "a"]]


@pytest.mark.parametrize("policy", ["round_robin", "least_conn"])
def test_a_rebuild_does_not_begin_anew(policy: str) -> None:
    """If the pool flips all the time, it isn't always the first one's turn."""
    of = pool(backend("a"), backend("b"), backend("c"), policy=policy)
    seen = []
    for _ in range(9):
        seen += names(1, of)
        of.rebuild()
    assert Counter(seen) == {"a": 3, "b": 3, "c": 3}


@pytest.mark.parametrize("policy", ["random", "ewma"])
def test_a_rebuild_does_not_repeat_the_dice(policy: str) -> None:
    """The same with random draws."""
    of = pool(*[backend(str(index)) for index in range(10)], policy=policy)
    seen = set()
    for _ in range(40):
        seen |= set(names(1, of))
        of.rebuild()
    assert len(seen) > 5


def test_only_ewma_measures() -> None:
    """A backend has a latency to record if the policy asks for it, and keeps it when the pool changes."""
    for policy in NAMES:
        assert (pool(backend("a"), policy=policy).backends[0].latency is not None) == (policy == "ewma")
    stays = backend("a")
    of = pool(stays, policy="ewma")
    latency = stays.latency
    comes = backend("b")
    of.replace([stays, comes], 1)
    assert stays.latency is latency
    assert comes.latency is not None


# health and state


def flip(of: Pool, on: Backend, health: str = "up", state: str = "ready") -> Pool:
    """Change how a backend stands."""
    on.health, on.state = health, state
    of.rebuild()
    return of


@every_policy
@pytest.mark.parametrize(
    ("health", "state"), [("down", "ready"), ("checking", "ready"), ("up", "drain"), ("up", "maint"), ("down", "maint")]
)
def test_who_is_not_up_and_ready_gets_nothing(policy: str, health: str, state: str) -> None:
    """Neither new requests nor other attempts; what is on its way there isn't known here."""
    first, second = backend("a"), backend("b")
    of = flip(pool(first, second, policy=policy), first, health, state)
    assert set(names(20, of)) == {"b"}
    assert of.pick([second]) is second
    assert not of.is_checking
    flip(of, second, health, state)
    assert (of.pick(), of.eligible) == (None, ())
    assert of.is_checking == (health == "checking")
    assert set(names(20, flip(of, first))) == {"a"}


def test_backups_when_no_primary_is_up() -> None:
    """Down, drained or not yet checked is all the same to them."""
    primary, spare = backend("a"), backend("b", backup=True)
    for health, state in (("down", "ready"), ("checking", "ready"), ("up", "drain")):
        tiers = flip(pool(primary, spare), primary, health, state)
        assert set(names(5, tiers)) == {"b"}
        assert not tiers.is_checking


def test_a_weight_of_0_is_worth_no_waiting() -> None:
    """Its check may end as it will: it would get nothing."""
    of = pool(backend("a", 0))
    assert not flip(of, of.backends[0], "checking").is_checking


def test_try_all_passes_over_health_but_not_over_the_operator() -> None:
    """As long as nobody is up; primaries first."""
    first, second, third, spare = backend("a"), backend("b"), backend("c"), backend("d", backup=True)
    of = Pool("web", "round_robin", [first, second, third, spare], tries_all=True)
    flip(of, first, "down")
    flip(of, second, "checking")
    flip(of, spare, "down")
    assert set(names(20, of)) == {"c"}
    flip(of, third, "up", "drain")
    assert set(names(20, of)) == {"a", "b"}
    assert not of.is_checking
    flip(of, spare)
    assert set(names(20, of)) == {"d"}


# explain


def explained(of: Pool, key: str) -> list[object]:
    """Give one column of the explanation."""
    return [row[key] for row in of.explain()[1]]


def test_explain_says_why_not() -> None:
    """Every backend has a row; who can't be picked has the reason, who can has a score."""
    full, free = backend("b", 2, max_conns=5), backend("c", 4)
    of = Pool("web", "least_conn", [backend("a", 0), full, free, backend("d", 2, backup=True)], unit=2)
    full.active = 5
    free.active = 2
    picked, rows = of.explain()
    assert picked == "c"
    assert rows[1] == {
        "name": "b",
        "address": "10.0.0.1:80",
        "weight": 1,
        "active": 5,
        "eligible": True,
        "score": 7.5,
        "reason": "at max_conns (5 of 5)",
        "slow_start": None,
    }
    assert explained(of, "reason") == [
        *("weight 0: sticky clients only", "at max_conns (5 of 5)", None, "backup: a primary backend is available")
    ]
    assert explained(of, "eligible") == [False, True, True, False]
    assert explained(of, "score") == [None, 7.5, 1.5, None]


def test_explain_says_what_the_operator_wants() -> None:
    """Before anything else: who drained a node knows what to do about it."""
    drained, away, sick = backend("a", 0), backend("b"), backend("c")
    drained.state, away.state, sick.health = "drain", "maint", "down"
    of = pool_of("round_robin", [drained, away, sick, backend("d")])
    assert explained(of, "reason")[:2] == ["drained", "maint"]
    assert explained(of, "eligible") == [False, False, False, True]


def test_explain_gives_the_weight_of_the_file() -> None:
    """What a name's addresses share of a weight is a fraction, a whole weight is an int."""
    weights = explained(pool_of("round_robin", [backend("a", 6), backend("b", 2), backend("c", 0)], unit=3), "weight")
    assert weights == [2, 2 / 3, 0]
    assert [type(weight) for weight in weights] == [int, float, int]


def test_explain_shows_what_is_in_flight_everywhere() -> None:
    """The number that the limit is compared with is the one shown."""
    of = Pool("web", "round_robin", [backend("a", max_conns=3)], in_flight=lambda _: 7)
    assert of.explain()[0] is None
    assert explained(of, "active") == [7]
    assert explained(of, "reason") == ["at max_conns (7 of 3)"]


@every_policy
def test_explain_tells_the_next_pick_and_changes_nothing(policy: str) -> None:
    """Asked any number of times, it names who comes next, and the picks are those of a pool that nobody asked."""

    def make() -> Pool:
        return pool_of(policy, [backend(str(index), 1 + index % 3, max_conns=index % 2) for index in range(20)])

    asked, quiet = make(), make()
    for number in range(60):
        key = str(number).encode()
        told = {asked.explain(key, 1.0)[0] for _ in range(2)}
        pick, other = asked.pick((), key, 1.0), quiet.pick((), key, 1.0)
        assert pick is not None
        assert other is not None
        assert told == {pick.name} == {other.name}
        pick.active += number % 2
        other.active += number % 2


@every_policy
def test_scores_are_of_the_eligible(policy: str) -> None:
    """Each eligible backend has one."""
    of = pool(backend("a"), backend("b", 0), backend("c", 3), policy=policy)
    assert set(policy_of(of).scores(b"", 0.0)) == set(of.eligible)


def test_repr() -> None:
    """Logs say how many can serve."""
    assert repr(pool(backend("a"), backend("b", 0))) == "<Pool web 1/2 eligible>"


def test_a_predicate_that_lies_ends_nothing() -> None:
    """A limit that comes and goes while it is asked for is no endless loop."""
    asked = 0

    def flicker() -> Callable[[Backend], int]:
        def count(_: Backend) -> int:
            nonlocal asked
            asked += 1
            return asked % 2

        return count

    for policy in NAMES:
        of = Pool("web", policy, [backend(str(index), max_conns=1) for index in range(30)], in_flight=flicker())
        asked = 0
        assert of.pick() in {None, *of.backends}
        assert asked < 1000


def test_explain_says_how_a_backend_stands() -> None:
    """The operator's word comes before what the checks say."""
    of = pool(*(backend(name) for name in "abcde"))
    for member, (health, state) in zip(
        of.backends, [("down", "drain"), ("up", "maint"), ("down", "ready"), ("checking", "ready")], strict=False
    ):
        flip(of, member, health, state)
    assert explained(of, "reason") == ["drained", "maint", "down", "checking", None]


def test_the_ejected_get_nothing() -> None:
    """Backups take over when all primaries are passed over, ``try_all`` tries them, and ``explain`` has the word."""
    first, second, backup = backend("a"), backend("b"), backend("c", backup=True)
    tiers = pool(first, second, backup)
    first.ejected = True
    tiers.rebuild()
    assert set(names(10, tiers)) == {"b"}
    assert explained(tiers, "reason")[:2] == ["ejected", None]
    second.ejected = True
    tiers.rebuild()
    assert set(names(10, tiers)) == {"c"}
    backup.ejected = True
    tiers.rebuild()
    assert (tiers.pick(), tiers.is_checking) == (None, False)
    everybody = Pool("web", "round_robin", [first, second], tries_all=True)
    assert set(names(10, everybody)) == {"a", "b"}


def test_nobody_waits_for_the_ejected() -> None:
    """But for one that is checked for the first time, if only that one is left."""
    first, second = backend("a"), backend("b")
    both = pool(first, second)
    first.ejected = True
    second.health = "checking"
    both.rebuild()
    assert (both.eligible, both.is_checking) == ((), True)
