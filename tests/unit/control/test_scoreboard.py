"""Pins what the shared counters promise: totals never fall, gauges never leak."""

import fcntl
import mmap
import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyproxy.control.scoreboard import Scoreboard
from pyproxy.observe.metrics import map_row

GAUGES = {1, 3}


@pytest.fixture
def board() -> Iterator[Scoreboard]:
    """Two slots of eight columns, two of them gauges."""
    board = Scoreboard(2, 8, GAUGES)
    yield board
    board.close()


def test_what_a_worker_counts_is_in_the_totals(board: Scoreboard) -> None:
    """A worker that mapped its row by the descriptor alone is seen at once, beside the others."""
    first, second = map_row(board.fd, 0, 8), map_row(board.fd, 1, 8)
    first[0] += 3
    second[0] += 4
    second[7] += 1
    assert board.totals() == [7, 0, 0, 0, 0, 0, 0, 1]
    assert board.row(1).tolist() == [4, 0, 0, 0, 0, 0, 0, 1]
    assert board.sums([7, 0]) == [1, 7]


def test_retire_keeps_totals_and_zeroes_gauges(board: Scoreboard) -> None:
    """After a worker's death its counters stay in the sums, its gauges don't, and its row is empty."""
    row = map_row(board.fd, 0, 8)
    for column in range(8):
        row[column] = column + 1
    board.row(1)[1] = 10
    board.retire(0)
    assert board.totals() == [1, 10, 3, 0, 5, 6, 7, 8]
    assert board.row(0).tolist() == [0] * 8


def test_retire_twice_changes_nothing(board: Scoreboard) -> None:
    """A slot whose worker died before it counted anything has nothing to fold in."""
    board.row(0)[0] = 5
    board.retire(0)
    board.retire(0)
    assert board.totals()[0] == 5


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 7), st.integers(0, 1000), st.booleans())))
def test_no_total_ever_falls(steps: list[tuple[int, int, int, bool]]) -> None:
    """Whatever is counted and whoever dies in whatever order, no counter goes down."""
    board = Scoreboard(2, 8, GAUGES)
    before = board.totals()
    for slot, column, amount, dies in steps:
        board.row(slot)[column] += amount
        if dies:
            board.retire(slot)
            assert all(board.row(slot)[gauge] == 0 for gauge in GAUGES)
        now = board.totals()
        assert all(now[c] >= before[c] for c in range(8) if c not in GAUGES)
        before = now
    board.close()


def test_the_size_is_sealed(board: Scoreboard) -> None:
    """Nobody who has the descriptor can cut the file short under the others."""
    with pytest.raises(PermissionError):
        os.ftruncate(board.fd, 0)
    with pytest.raises(PermissionError):
        fcntl.fcntl(board.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)


def test_there_is_a_base_row_beyond_the_slots(board: Scoreboard) -> None:
    """The memory holds one row more than there are workers."""
    with mmap.mmap(board.fd, 0) as shared:
        assert len(shared) == 3 * 8 * 8


def test_close_leaves_the_counters_readable(board: Scoreboard) -> None:
    """The supervisor's last metrics don't need the descriptor."""
    board.row(0)[0] = 1
    board.close()
    board.close()
    assert board.totals()[0] == 1


def test_only_what_is_in_use_is_looked_at(board: Scoreboard) -> None:
    """Sums and folding end where the columns in use end; what is there already stays when more are in use."""
    board.used = 5
    board.row(0)[4], board.row(0)[5] = 40, 50
    assert board.totals() == [0, 0, 0, 0, 40]
    board.retire(0)
    assert board.row(0)[5] == 50
    board.used = 6
    assert board.totals() == [0, 0, 0, 0, 40, 50]


def test_memory_that_nobody_counts_in_is_never_allocated() -> None:
    """Room for thousands of backends costs nothing: looking at the totals doesn't bring the memory into being."""
    board = Scoreboard(2, 1 << 18, ())
    try:
        board.used = 100
        board.row(0)[1] = 1
        for _ in range(2):
            assert board.totals()[1] == 1
            board.retire(0)
        assert os.fstat(board.fd).st_blocks * 512 < 1 << 18
    finally:
        board.close()


def test_clear_lets_some_totals_begin_anew(board: Scoreboard) -> None:
    """What was counted is gone, also what dead workers left behind; what is in flight is still in flight."""
    for slot in range(3):
        for column in range(8):
            board.row(slot)[column] = 9
    board.clear(range(2, 5))
    assert board.totals() == [27, 27, 0, 27, 0, 27, 27, 27]


def test_fold_moves_totals(board: Scoreboard) -> None:
    """They are added to what is there, taken from where they were, and gauges stay."""
    for slot in range(3):
        for column in range(8):
            board.row(slot)[column] = column + 1
    board.fold((0, 1, 2), (4, 3, 6))
    assert board.totals() == [0, 6, 0, 12, 18, 18, 30, 24]
    board.fold((0, 1, 2), (4, 3, 6))
    assert board.totals() == [0, 6, 0, 12, 18, 18, 30, 24]


def test_a_workers_row_is_its_own(board: Scoreboard) -> None:
    """One that counts at this moment would write back what it read: only the base row is changed."""
    for slot in (0, 1):
        board.row(slot)[0] = 5
    board.fold([0], [2])
    board.clear([2])
    assert [board.row(slot)[0] for slot in (0, 1)] == [5, 5]
    board.row(0)[0] += 1
    assert board.sums([0, 2]) == [1, 0]
    board.retire(0)
    board.retire(1)
    assert board.sums([0, 2]) == [1, 0]
