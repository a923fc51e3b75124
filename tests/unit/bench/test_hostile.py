"""What is made of what hostile inputs cost."""

from bench.hostile import Row, Tally, chosen, describe, segments_us
from bench.hostile_inputs import Input


def test_the_worst_comes_first() -> None:
    """By how near it is to its bar, whatever the unit, and with a word for what misses it."""
    rows = [
        Row("cheap", 10, 0.2, 0.1, 0.5, "us"),
        Row("held", 10, 12.0, 10.0, 5.0, "bytes"),
        Row("dear", 10, 0.5, 0.5, 0.5, "us"),
    ]
    _, *lines = describe(rows).splitlines()
    assert [line.split()[0] for line in lines] == ["held", "dear", "cheap"]
    assert [line.split()[-1] for line in lines] == ["MISSED", "met", "met"]


def test_inputs_are_chosen_by_their_full_name() -> None:
    """The side that sends them is a part of it; nothing wanted is everything."""
    inputs = [Input("head: a", b""), Input("body: b", b"")]
    assert [given.name for given in chosen("client", inputs, "^client: h")] == ["client: head: a"]
    assert len(list(chosen("client", inputs, ""))) == 2


def test_a_large_input_is_read_in_pieces() -> None:
    """What was sent at once may well be read in several steps, and these are allowed for."""
    assert segments_us(Tally(bytes=640 * 1024, segments=1)) == 10 * segments_us(Tally(bytes=1, segments=1))
