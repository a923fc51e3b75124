"""Pins what an override makes of the configured backends, when it ends, and what may be read back."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyproxy.config.runtime import Backend, Keepalive, Pool, Queue, Retry, Timeouts
from pyproxy.control import overrides as module
from pyproxy.control.overrides import Note, Override

NOTE = Note("me", None, 100.0)
PINNED = replace(NOTE, pinned=True)


def backend(name: str, weight: int = 1, host: str = "10.0.0.1") -> Backend:
    """A backend as it is configured."""
    return Backend(name, host, 80, weight, backup=False, max_conns=0)


def pool(*backends: Backend, name: str = "web") -> Pool:
    """A pool of these backends."""
    return Pool(
        name,
        "round_robin",
        backends,
        Timeouts(1, 1, 1, 1),
        Retry(1, frozenset(), 0.2, 3),
        Keepalive(1, 1, 1),
        Queue(1, 1),
    )


WEB = pool(backend("a"), backend("b", 3))


def shown(pool: Pool, overrides: module.Overrides) -> list[tuple[str, str, int]]:
    """Name, state and weight of each backend."""
    return [(item.name, item.state, item.weight) for item in module.apply(pool, overrides).backends]


def test_a_patch_changes_what_it_names() -> None:
    """Nothing else of the backend, nor of the others."""
    changed = module.patch(WEB, {}, "a", {"state": "drain", "weight": 7}, NOTE)
    assert shown(WEB, changed) == [("a", "drain", 7), ("b", "ready", 3)]
    assert [(item.target, item.value, item.replaced) for item in changed.values()] == [
        ("web/a/state", "drain", "ready"),
        ("web/a/weight", 7, 1),
    ]


@pytest.mark.parametrize("value", [1, None])
def test_what_is_as_configured_needs_no_override(value: int | None) -> None:
    """Whether it says so or takes the change back."""
    changed = module.patch(WEB, {}, "a", {"weight": 7}, NOTE)
    assert module.patch(WEB, changed, "a", {"weight": value}, NOTE) == {}


def test_a_pinned_one_stays_though_it_says_what_the_file_says() -> None:
    """It holds against what the file will say."""
    changed = module.patch(WEB, {}, "a", {"weight": 1}, PINNED)
    assert shown(pool(backend("a", 5)), changed) == [("a", "ready", 1)]


def test_an_added_backend_comes_last_and_can_be_changed() -> None:
    """Its own weight is what a change of it replaces."""
    added = module.add(WEB, {}, backend("c", 2), NOTE)
    assert shown(WEB, added)[2] == ("c", "ready", 2)
    changed = module.patch(WEB, added, "c", {"weight": 9, "state": "maint"}, NOTE)
    assert shown(WEB, changed)[2] == ("c", "maint", 9)
    assert changed["web", "c", "weight"].replaced == 2
    assert module.remove(WEB, changed, "c", NOTE) == {}


def test_a_removed_backend_takes_its_changes_with_it() -> None:
    """Whoever adds it again begins anew; as it is configured, nothing is overridden any more."""
    removed = module.remove(WEB, module.patch(WEB, {}, "a", {"state": "drain"}, NOTE), "a", NOTE)
    assert shown(WEB, removed) == [("b", "ready", 3)]
    assert list(removed) == [("web", "a", "")]
    assert module.add(WEB, removed, backend("a"), NOTE) == {}
    other = module.add(WEB, removed, backend("a", host="10.9.9.9"), NOTE)
    assert [item.host for item in module.apply(WEB, other).backends] == ["10.9.9.9", "10.0.0.1"]


def test_what_expires_is_gone_with_all_that_depended_on_it() -> None:
    """The weight of an added backend is nobody's when the backend has had its time."""
    added = module.add(WEB, {}, backend("c"), replace(NOTE, expires=200.0))
    changed = module.patch(WEB, added, "c", {"weight": 9}, NOTE)
    assert module.expire([WEB], changed, 199.9) == changed
    assert module.expire([WEB], changed, 200.0) == {}


def test_what_expires_leaves_the_others_alone() -> None:
    """Of one backend another setting, and the same setting of another backend or pool."""
    api = pool(backend("a"), name="api")
    changed = module.patch(WEB, {}, "a", {"weight": 7}, replace(NOTE, expires=200.0))
    changed = module.patch(WEB, changed, "a", {"state": "drain"}, NOTE)
    changed = module.patch(WEB, changed, "b", {"weight": 8}, replace(NOTE, expires=300.0))
    changed = module.patch(api, changed, "a", {"weight": 9}, NOTE)
    assert module.expire([WEB, api], changed, 199.9) == changed
    left = module.expire([WEB, api], changed, 200.0)
    assert changed.keys() - left.keys() == {("web", "a", "weight")}
    assert shown(WEB, left) == [("a", "drain", 1), ("b", "ready", 8)]
    assert shown(api, left) == [("a", "ready", 9)]


@pytest.mark.parametrize(
    ("now", "is_held"),
    [
        pytest.param(WEB, True, id="the same"),
        pytest.param(pool(backend("a", 2), backend("b")), False, id="another value"),
        pytest.param(pool(backend("b", 3)), False, id="no such backend"),
        pytest.param(pool(backend("a"), name="other"), False, id="no such pool"),
        pytest.param(pool(backend("a", 1, host="10.0.0.2")), True, id="another value beside it"),
    ],
)
def test_a_configuration_that_says_something_else_wins(now: Pool, is_held: bool) -> None:
    """Unless it is pinned."""
    for note in (NOTE, PINNED):
        (item,) = module.patch(WEB, {}, "a", {"weight": 7}, note).values()
        held, overruled = module.reconcile([now], [item])
        assert list(held.values()) == ([item] if is_held or note is PINNED else [])
        assert overruled == [other for other in [item] if other.key not in held]


def test_a_whole_backend_is_compared_as_a_whole() -> None:
    """One that was added and is in the file now is the file's; one that was removed and is another now is back."""
    added = module.add(WEB, {}, backend("c"), NOTE)
    assert module.reconcile([WEB], added.values()) == (added, [])
    assert module.reconcile([pool(*WEB.backends, backend("c"))], added.values())[0] == {}
    removed = module.remove(WEB, {}, "a", NOTE)
    assert module.reconcile([WEB], removed.values()) == (removed, [])
    assert module.reconcile([pool(backend("a", 5))], removed.values())[0] == {}
    drained = module.patch(WEB, added, "c", {"state": "drain"}, NOTE)
    assert module.reconcile([WEB], drained.values())[0] == drained
    assert module.reconcile([pool(backend("z"))], drained.values())[0] == drained
    assert list(module.reconcile([pool(backend("c", 9))], drained.values())[0]) == [("web", "c", "state")]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["add", "remove", "drain", "ready", "weight", "restart"]),
            st.sampled_from("abcd"),
            st.integers(0, 3),
        )
    )
)
def test_whatever_is_done_the_overrides_are_what_differs(steps: list[tuple[str, str, int]]) -> None:
    """Names stay unique, everything survives being written, and no override says what the file says."""
    overrides: dict[module.Key, Override] = {}
    for what, name, number in steps:
        found = module.find(module.apply(WEB, overrides), name)
        if what == "add" and found is None:
            overrides = module.add(WEB, overrides, backend(name, number), NOTE)
        elif what == "remove" and found is not None:
            overrides = module.remove(WEB, overrides, name, NOTE)
        elif what == "restart":
            items = [module.from_plain(module.to_plain(item)) for item in overrides.values()]
            assert module.reconcile([WEB], items) == (overrides, [])
        elif found is not None:
            values: dict[str, Any] = {"weight": number} if what == "weight" else {"state": what}
            if what in ("drain", "ready", "weight"):
                overrides = module.patch(WEB, overrides, name, values, NOTE)
                after = module.find(module.apply(WEB, overrides), name)
                assert after is not None
                assert {key: getattr(after, key) for key in values} == values
        names = [item.name for item in module.apply(WEB, overrides).backends]
        assert len(set(names)) == len(names)
        assert all(item.value != item.replaced for item in overrides.values())


GOOD = module.to_plain(*module.patch(WEB, {}, "a", {"weight": 7}, NOTE).values())
ADDED = module.to_plain(*module.add(WEB, {}, backend("c"), NOTE).values())


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        GOOD | {"more": 1},
        GOOD | {"value": -1},
        GOOD | {"value": True},
        GOOD | {"value": "drain"},
        GOOD | {"value": None},
        GOOD | {"setting": "colour"},
        GOOD | {"setting": "state"},
        GOOD | {"pool": 1},
        GOOD | {"by": None},
        GOOD | {"at": "now"},
        GOOD | {"at": float("inf")},
        GOOD | {"expires": 1e300},
        GOOD | {"pinned": 1},
        ADDED | {"value": {"host": "x"}},
        ADDED | {"value": ADDED["value"] | {"port": "80"}},
        ADDED | {"value": ADDED["value"] | {"weight": 1000}},
        ADDED | {"value": ADDED["value"] | {"backup": "no"}},
        ADDED | {"value": 5},
    ],
)
def test_what_is_no_override_is_not_read(data: Any) -> None:
    """Somebody's edit, or another program's file, must not come into force by half."""
    with pytest.raises(ValueError, match="override"):
        module.from_plain(data)
