"""Pins what the two readers share where only the shared part shows it."""

import pytest

from pyproxy.http1.head import END
from pyproxy.http1.reader import MessageReader


def test_end_names_itself() -> None:
    """The one event without content can be told in a failing test."""
    assert repr(END) == "END"


@pytest.mark.parametrize("name", ["feed", "begin"])
def test_the_shared_half_reads_nothing_by_itself(name: str) -> None:
    """It is no reader: what a head means is the two halves' business."""
    assert not hasattr(MessageReader, name)
