"""Pins which of two machines' changes counts, whatever way they hear of them, and what of it is in force where."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyproxy.control import overrides, replication
from pyproxy.control.overrides import WHOLE, Key, Note, Override
from pyproxy.control.replication import Entry, Replica, Version, begin, force, kept_only, merge, stamp
from tests.unit.control.test_overrides import WEB, backend, pool, shown

NOW = 1000.0
NOTE = Note("me", "why", NOW)
A, B = Replica("aa", "lb1", {}), Replica("bb", "lb2", {})


def entry(key: Key = ("web", "a", "state"), time: int = 1, machine: str = "aa", **more: Any) -> Entry:
    """What one machine says."""
    return Entry(key, Version(time, machine), "lb1", more.pop("value", "drain"), more.pop("note", NOTE), **more)


keys = st.sampled_from([("web", "a", "state"), ("web", "b", "state"), ("api", "a", "state")])
entries = st.builds(
    entry,
    keys,
    st.integers(1, 4),
    st.sampled_from(["aa", "bb"]),
    value=st.sampled_from(["drain", "maint", "ready"]),
    is_gone=st.booleans(),
)
said = st.lists(entries, max_size=6)


def known(*lists: Iterable[Entry]) -> dict[Key, Entry]:
    """All that a machine knows that hears these one after another."""
    mine = A
    for theirs in lists:
        mine, _ = merge(mine, theirs, NOW)
    return dict(mine.entries)


@given(said, said, said)
def test_both_come_to_the_same_whatever_the_order(a: list[Entry], b: list[Entry], c: list[Entry]) -> None:
    """Twice the same is once the same, and it doesn't matter what came first or together."""
    assert known(a, b) == known(b, a)
    assert known(a, a) == known(a)
    assert known(list(known(a, b).values()), c) == known(a, list(known(b, c).values()))


def test_the_later_word_counts_also_when_it_takes_something_back() -> None:
    """What the other machine says late isn't news."""
    late, early = entry(time=2, is_gone=True), entry(time=1)
    for order in ([late, early], [early, late]):
        mine, news = merge(A, order, NOW)
        assert (mine.entries, news) == ({late.key: late}, {late.key})
    assert merge(mine, [early, late], NOW) == (mine, set())


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(["drain", "maint", None])), max_size=6))
def test_two_machines_that_hear_of_each_change_have_the_same_in_force(steps: list[tuple[bool, str | None]]) -> None:
    """Whoever makes it, without echo: what was merged isn't news when it comes back."""
    sides: list[tuple[Replica, dict[Key, Override]]] = [(A, {}), (B, {})]
    for number, (is_first, state) in enumerate(steps):
        here, there = (0, 1) if is_first else (1, 0)
        replica, held = sides[here]
        changed = overrides.patch(WEB, held, "a", {"state": state}, replace(NOTE, by=f"op{here}"))
        replica, fresh = stamp(replica, held, changed, NOW + number)
        sides[here] = replica, changed
        other, other_held = sides[there]
        other, news = merge(other, fresh, NOW)
        sides[there] = other, force([WEB], other_held, other, news, NOW)
        assert merge(sides[here][0], fresh, NOW)[1] == set()
        assert shown(WEB, sides[0][1]) == shown(WEB, sides[1][1])
    assert sides[0][0].entries == sides[1][0].entries


def test_a_change_is_later_than_all_that_its_operator_could_know_of() -> None:
    """Also when this machine's clock is behind."""
    mine, _ = merge(A, [entry(time=5_000_000_000_000)], NOW)
    _, fresh = stamp(mine, {}, overrides.patch(WEB, {}, "a", {"state": "maint"}, NOTE), NOW)
    assert fresh[0].version == (5_000_000_000_001, "aa")


def test_the_other_machines_operator_is_named_with_his_machine() -> None:
    """Our own isn't."""
    mine, news = merge(A, [entry(machine="bb"), entry(("web", "b", "state"))], NOW)
    held = force([WEB], {}, mine, news, NOW)
    assert {item.target: item.note.by for item in held.values()} == {"web/a/state": "me on lb1", "web/b/state": "me"}


def test_what_has_no_place_here_is_kept_until_it_has() -> None:
    """A pool or a backend that only the other file has; a setting of a backend that was added there."""
    added = overrides.plain_of(backend("new"))
    theirs = [
        entry(("api", "a", "state")),
        entry(("web", "new", "state")),
        entry(("web", "gone", "weight"), value=3),
    ]
    mine, news = merge(A, theirs, NOW)
    held = force([WEB], {}, mine, news, NOW)
    assert held == {}
    assert [item.key for item in kept_only([WEB], held, mine, NOW)] == [item.key for item in theirs[:1]] + [
        ("web", "gone", "weight"),
        ("web", "new", "state"),
    ]
    mine, news = merge(mine, [entry(("web", "new", WHOLE), value=added)], NOW)
    held = force([WEB], held, mine, news, NOW)
    assert shown(WEB, held)[-1] == ("new", "drain", 1)
    api = pool(backend("a"), name="api")
    assert shown(api, force([WEB, api], held, mine, set(), NOW)) == [("a", "drain", 1)]


def test_removing_a_backend_takes_back_what_was_said_of_it() -> None:
    """Also what is only kept: a backend of that name that is added later begins anew, on both machines."""
    mine, news = merge(A, [entry(("web", "new", "state"), machine="bb")], NOW)
    held = force([WEB], {}, mine, news, NOW)
    added = overrides.add(WEB, held, backend("new"), NOTE)
    mine, fresh = stamp(mine, held, added, NOW)
    assert {item.key: item.is_gone for item in fresh} == {("web", "new", WHOLE): False, ("web", "new", "state"): True}
    other, news = merge(B, fresh, NOW)
    assert shown(WEB, force([WEB], {}, other, news, NOW))[-1] == ("new", "ready", 1)


def test_a_backend_that_the_other_removed_goes_with_its_settings() -> None:
    """They were in force here as well."""
    held = overrides.patch(WEB, {}, "a", {"weight": 5}, NOTE)
    mine, _ = stamp(A, {}, held, NOW)
    mine, news = merge(mine, [entry(("web", "a", WHOLE), time=2_000_000_000, machine="bb", value=None)], NOW)
    held = force([WEB], held, mine, news, NOW)
    assert [item.target for item in held.values()] == ["web/a"]


def test_what_has_had_its_time_never_comes_back() -> None:
    """Not even from a machine that was away, or whose clock is behind."""
    due = entry(machine="bb", note=replace(NOTE, expires=NOW - 1))
    mine, news = merge(A, [due], NOW)
    assert force([WEB], {}, mine, news, NOW) == {}
    assert kept_only([], {}, mine, NOW) == []


def test_the_file_that_was_edited_later_wins_on_its_machine() -> None:
    """The other machine's entry doesn't bring it back, a new change does, with what is configured here as replaced."""
    held = overrides.patch(WEB, {}, "a", {"weight": 5}, NOTE)
    mine, fresh = stamp(A, {}, held, NOW)
    edited = pool(backend("a", 9), backend("b", 3))
    reconciled, overruled = overrides.reconcile([edited], held.values())
    mine = begin(mine, reconciled, overruled, NOW)
    mine, news = merge(mine, fresh, NOW)
    assert (news, force([edited], {}, mine, news, NOW)) == (set(), {})
    assert [item.key for item in kept_only([edited], {}, mine, NOW)] == [("web", "a", "weight")]
    other, _ = merge(B, fresh, NOW)
    _, later = stamp(other, held, overrides.patch(WEB, held, "a", {"weight": 6}, NOTE), NOW + 1)
    mine, news = merge(mine, later, NOW)
    (item,) = force([edited], {}, mine, news, NOW).values()
    assert (item.value, item.replaced) == (6, 9)


def test_what_is_as_configured_needs_no_override() -> None:
    """The two files differ: what is a change there is nothing here."""
    mine, news = merge(A, [entry(("web", "b", "weight"), value=3, machine="bb")], NOW)
    assert force([WEB], {}, mine, news, NOW) == {}


def test_an_old_journal_gets_versions() -> None:
    """Of the times at which the changes were made."""
    held = overrides.patch(WEB, {}, "a", {"state": "drain"}, NOTE)
    mine = begin(A, held, [], NOW)
    assert mine.entries[("web", "a", "state")].version == (1_000_000_000, "aa")


def test_what_means_nothing_any_more_is_forgotten_after_a_month() -> None:
    """A machine that is on for years mustn't keep every drain; what is in force stays."""
    gone, live = entry(is_gone=True), entry(("web", "b", "state"))
    mine, _ = merge(A, [gone, live], NOW)
    assert set(mine.entries) == {gone.key, live.key}
    mine, _ = merge(mine, [], NOW + replication.KEEP_SECONDS)
    assert set(mine.entries) == {live.key}


def test_there_is_an_end_to_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was taken back goes first, then the oldest."""
    monkeypatch.setattr(replication, "MAX_ENTRIES", 2)
    many = [entry(("web", str(n), "state"), time=n, is_gone=n == 9) for n in range(10)]
    mine, _ = merge(A, many, 0.0)
    assert sorted(mine.entries) == [("web", "7", "state"), ("web", "8", "state")]


@given(entries)
def test_an_entry_travels_as_json(item: Entry) -> None:
    """The mark that the file won here stays here."""
    there = replication.from_plain(replication.to_plain(replace(item, is_overruled=True)))
    assert replication.to_plain(there) == replication.to_plain(item) | ({"value": None} if item.is_gone else {})
    assert not there.is_overruled


@pytest.mark.parametrize(
    "change",
    [
        {"target": ["web", "a"]},
        {"target": ["web", "a", "color"]},
        {"target": ["web", "a", 1]},
        {"version": [1.5, "aa"]},
        {"version": [-1, "aa"]},
        {"version": ["aa", 1]},
        {"host": None},
        {"value": "up"},
        {"value": None},
        {"at": "now"},
        {"expires": -1},
        {"gone": 1},
        {"more": 1},
    ],
)
def test_what_cannot_be_an_entry_is_left_out(change: dict[str, Any]) -> None:
    """A later version of the program may say more than this one understands; the rest counts."""
    good = replication.to_plain(entry())
    assert replication.read_entries([good | change, good]) == ([entry()], 1)
    assert replication.read_entries({"not": "a list"}) == ([], 1)
