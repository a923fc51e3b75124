"""What survives a speaker that dies."""

from pathlib import Path

import pytest

from pyproxy.failover import saved
from pyproxy.failover.saved import Saved

MASTER = Saved("master", 100.0, 109.5, 7, "abc")


def test_what_was_written_is_read(tmp_path: Path) -> None:
    """All of it, and nothing is left beside it."""
    saved.write(tmp_path, MASTER)
    assert saved.read(tmp_path) == MASTER
    assert [path.name for path in tmp_path.iterdir()] == [saved.NAME]


@pytest.mark.parametrize("content", ["", "[]", '{"state": "master"}', '{"state": 1, "since": "x"}', "null"])
def test_what_cannot_be_read_is_nothing(tmp_path: Path, content: str) -> None:
    """A file that broke must not keep a speaker from starting."""
    (tmp_path / saved.NAME).write_text(content)
    assert saved.read(tmp_path) is None


def test_nothing_is_there_at_first_and_after_a_removal(tmp_path: Path) -> None:
    """Removing it twice is no error."""
    assert saved.read(tmp_path) is None
    saved.write(tmp_path, MASTER)
    saved.remove(tmp_path)
    saved.remove(tmp_path)
    assert saved.read(tmp_path) is None


@pytest.mark.parametrize(
    ("value", "digest", "now", "word"),
    [
        pytest.param(MASTER, "abc", 110.0, "", id="fresh"),
        pytest.param(MASTER, "abc", 113.2, "old", id="the peer has taken over by now"),
        pytest.param(MASTER, "abc", 5.0, "old", id="from before a restart of the machine"),
        pytest.param(MASTER, "def", 110.0, "settings", id="other settings"),
        pytest.param(Saved("backup", 100.0, 109.5, 7, "abc"), "abc", 110.0, "backup", id="not master"),
        pytest.param(None, "abc", 110.0, "no saved", id="nothing"),
    ],
)
def test_only_a_fresh_master_of_the_same_settings_is_adopted(
    value: Saved | None, digest: str, now: float, word: str
) -> None:
    """Within the down interval nobody else can have taken over."""
    refusal = saved.refusal(value, digest, now, 3.6)
    assert word in refusal
    assert bool(refusal) == bool(word)
