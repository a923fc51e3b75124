"""Pins how sticky clients are counted: once each, for so long, and not without bound."""

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from pyproxy.control.seen import CLIENTS_MAX, LONGEST_SECONDS, SLOT_SECONDS, Seen


def counts(seen: Seen, now: float, backend: str = "a") -> tuple[int, int]:
    """Those of the last 5 and 60 minutes."""
    return seen.count("web", backend, 300, now), seen.count("web", backend, 3600, now)


def test_a_client_counts_once() -> None:
    """However often it comes, and in whichever worker; one that sticks to two backends counts for both."""
    seen = Seen()
    seen.note("web", "a", [1, 2], 1000.0)
    seen.note("web", "a", [2, 3, 3], 1100.0)
    seen.note("web", "b", [1], 1100.0)
    assert counts(seen, 1100.0) == (3, 3)
    assert counts(seen, 1100.0, "b") == (1, 1)
    assert seen.count("api", "a", 300, 1100.0) == 0
    assert repr(seen) == "<Seen 4 clients>"


def test_who_does_not_come_back_is_forgotten() -> None:
    """After five minutes in the one number, after an hour in the other; who comes back counts anew."""
    seen = Seen()
    seen.note("web", "a", [1, 2], 0.0)
    seen.note("web", "a", [2], 600.0)
    assert counts(seen, 299.0) == (2, 2)
    assert counts(seen, 600.0) == (1, 2)
    assert counts(seen, 600.0 + 300 + SLOT_SECONDS) == (0, 2)
    assert counts(seen, LONGEST_SECONDS + SLOT_SECONDS) == (0, 1)
    assert counts(seen, 600.0 + LONGEST_SECONDS + SLOT_SECONDS) == (0, 0)
    seen.note("web", "a", [], 600.0 + LONGEST_SECONDS + SLOT_SECONDS)
    assert repr(seen) == "<Seen 0 clients>", "nothing is left behind"
    assert seen._pools["web"].counts == {}


def test_there_is_a_bound() -> None:
    """Of each pool those who were seen last are remembered."""
    seen = Seen(most=10)
    seen.note("web", "a", range(8), 0.0)
    seen.note("web", "b", range(4), 60.0)
    seen.note("web", "a", [0], 120.0)
    seen.note("web", "b", [9], 120.0)
    assert counts(seen, 120.0) == (5, 5)
    assert counts(seen, 120.0, "b") == (5, 5)
    assert CLIENTS_MAX == 100_000


@given(visits=st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 5), st.integers(0, 2000)), max_size=40))
def test_as_if_every_visit_were_kept(visits: list[tuple[str, int, int]]) -> None:
    """The sums are those of a list of all visits."""
    seen, now = Seen(), 0
    last: dict[str, dict[int, int]] = defaultdict(dict)
    for backend, client, later in visits:
        now += later
        seen.note("web", backend, [client], now)
        last[backend][client] = now // SLOT_SECONDS
        for name in "ab":
            for seconds in (300, 3600):
                first = now // SLOT_SECONDS - seconds // SLOT_SECONDS
                assert seen.count("web", name, seconds, now) == sum(at >= first for at in last[name].values())
