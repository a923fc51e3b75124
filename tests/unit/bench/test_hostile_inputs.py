"""What hostile peers send: long enough to measure, and what its name says."""

from collections.abc import Callable, Iterator

import pytest

from bench import hostile_inputs
from bench.hostile_inputs import Input

SIDES = [
    hostile_inputs.from_clients,
    hostile_inputs.with_proxy_header,
    hostile_inputs.from_backends,
    hostile_inputs.to_checks,
    hostile_inputs.to_the_api,
    hostile_inputs.held_by_clients,
    hostile_inputs.held_by_backends,
]


@pytest.mark.parametrize("side", SIDES, ids=lambda side: side.__name__)
def test_every_input_has_a_name_and_bytes(side: Callable[[], Iterator[Input]]) -> None:
    """No two of a side are called the same, and a megabyte is more than any limit of a head or a body's overhead."""
    inputs = list(side())
    assert len({given.name for given in inputs}) == len(inputs)
    for given in inputs:
        assert 100 < len(given.data) < 2_000_000, given.name
        assert given.step == 0 or len(given.data) // given.step <= 8200, f"{given.name} takes too long"


def test_words_never_come_again() -> None:
    """The shortest come first, so that there are as many as possible."""
    filled = hostile_inputs.fill(20_000)
    names = filled.split(b":\r\n")[:-1]
    assert len(set(names)) == len(names) > 3000
    assert 19_990 < len(filled) <= 20_000
    assert names[:2] == [b"a", b"b"]
    assert names[26] == b"aa"
