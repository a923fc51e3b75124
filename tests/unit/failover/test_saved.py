"""What survives a speaker that dies."""

from pathlib import Path

import pytest

from pyproxy.failover import saved
from pyproxy.failover.saved import Keeper, Saved

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


async def test_the_fresher_of_file_and_supervisor_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that could not be written for a while must not cost the address."""
    monkeypatch.setattr(saved, "boottime", lambda: 110.0)
    stale = Saved("master", 100.0, 90.0, 7, "abc")
    saved.write(tmp_path, stale)
    assert "old" in Keeper(tmp_path, "abc", 3.6).refusal(3.6)
    assert Keeper(tmp_path, "abc", 3.6, MASTER).refusal(3.6) == ""
    saved.write(tmp_path, MASTER)
    assert Keeper(tmp_path, "abc", 3.6, stale).refusal(3.6) == ""


async def test_a_file_that_cannot_be_written_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Once in the log, for as long as it is so in ``problem``; what would be in it is still known."""
    keeper = Keeper(tmp_path / "missing", "abc", 3.6)
    keeper._state = "master"
    value = keeper.now()
    assert value is not None
    keeper._try(value)
    keeper._try(value)
    assert "No such file" in keeper.problem
    assert caplog.text.count("can't write") == 1
    (tmp_path / "missing").mkdir()
    keeper._try(value)
    assert keeper.problem == ""
    assert saved.read(tmp_path / "missing") == value
    keeper.close(1.0)


@pytest.mark.parametrize("data", [None, [], {"state": "master"}, {"state": "master", "since": "x"}])
def test_what_the_supervisor_cannot_know_is_nothing(data: object) -> None:
    """Its first speaker has no predecessor."""
    assert saved.saved_from_plain(data) is None
