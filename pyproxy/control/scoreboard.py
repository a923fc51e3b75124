"""
The shared memory in which workers count and the supervisor reads.

Must not know what a column means: it is told which ones are gauges.

One row of int64 a worker slot, written by that slot's worker alone and without a lock, and a base row that
only the supervisor writes. When a worker has died its totals are folded into the base row and its own row
is zeroed: no gauge leaks, no counter falls. What is to be counted in another column, or no longer, is added to
or taken off the base row, where a number may thus be negative: no sum ever is.

Most columns of a row are for backends that may come later. Only the first ``used`` ones are ever looked at:
memory that nobody has touched isn't there, and reading it would be touching it.
"""

import fcntl
import mmap
import os
from collections.abc import Iterable, Sequence

_ITEM = 8  # bytes of an int64


class Scoreboard:
    """``rows`` worker slots of ``columns`` counters each, and the base row behind them."""

    def __init__(self, rows: int, columns: int, gauges: Iterable[int]) -> None:
        self.rows = rows
        self.columns = columns
        self.used = columns
        self._gauges = frozenset(gauges)
        size = (rows + 1) * columns * _ITEM
        self.fd = os.memfd_create("pyproxy-scoreboard", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, size)
        # A worker that cut the file short would crash every other process at its next addition.
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        self._items = memoryview(mmap.mmap(self.fd, size)).cast("q")

    def __repr__(self) -> str:
        return f"<Scoreboard {self.rows} rows {self.used} of {self.columns} columns used>"

    def row(self, slot: int) -> memoryview:
        """The counters of one slot's worker, live."""
        return self._items[slot * self.columns : (slot + 1) * self.columns]

    def totals(self) -> list[int]:
        """The sum over all rows, column by column, of those in use."""
        rows = (self.row(slot)[: self.used].tolist() for slot in range(self.rows + 1))
        return [sum(column) for column in zip(*rows, strict=True)]

    def sums(self, columns: Iterable[int]) -> list[int]:
        """The sum over all rows for some columns only."""
        items, step = self._items, self.columns
        return [sum(items[column::step].tolist()) for column in columns]

    def retire(self, slot: int) -> None:
        """Fold the row of a worker that has ended into the base row; its gauges count no more."""
        base, row = self.row(self.rows), self.row(slot)
        for column, value in enumerate(row[: self.used]):
            if value:
                if column not in self._gauges:
                    base[column] += value
                row[column] = 0

    def clear(self, columns: Sequence[int]) -> None:
        """Let some totals begin at zero, also while they are counted; gauges stay as they are."""
        base = self.row(self.rows)
        for column, value in zip(columns, self.sums(columns), strict=True):
            if value and column not in self._gauges:
                base[column] -= value

    def fold(self, source: Sequence[int], target: Sequence[int]) -> None:
        """Move the totals of some columns to as many others; gauges stay as they are."""
        base = self.row(self.rows)
        for old, new, value in zip(source, target, self.sums(source), strict=True):
            if value and old not in self._gauges:
                base[old] -= value
                base[new] += value

    def close(self) -> None:
        """Close the descriptor; the counters stay readable."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
