"""Columns for people. Must not know what is in them."""

from collections.abc import Iterable, Sequence


def align(rows: Iterable[Sequence[str]]) -> list[str]:
    """
    Align the columns of rows.

    >>> align([("a", "b", "c"), ("aaa", "", "c")])
    ['a    b  c', 'aaa     c']
    """
    cells = list(rows)
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
