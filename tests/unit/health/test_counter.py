"""Pins when check results become up or down."""

from hypothesis import given
from hypothesis import strategies as st

from pyproxy.health.counter import CheckCounter

counts = st.integers(1, 5)


@given(rise=counts, fall=counts, results=st.lists(st.booleans(), max_size=40))
def test_it_is_the_last_run_that_decides(rise: int, fall: int, results: list[bool]) -> None:
    """Up after ``rise`` good ones in a row, down after ``fall`` bad ones, and as before in between."""
    counter = CheckCounter(rise, fall)
    health, run = "checking", 0
    for number, ok in enumerate(results):
        run = run + 1 if number and results[number - 1] == ok else 1
        before = health
        if number == 0 or run >= (rise if ok else fall):
            health = "up" if ok else "down"
        assert counter.record(ok) == (health != before)
        assert counter.health == health
        assert counter.is_in_balance == ((health == "up") != ok)


def test_before_the_first_result() -> None:
    """Nothing is known, and that is to be changed soon."""
    counter = CheckCounter(2, 3)
    assert (counter.health, counter.is_in_balance) == ("checking", True)
    assert repr(counter) == "<CheckCounter checking None>"
