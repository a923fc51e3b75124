"""Pins that a program which its workers' user can't run is told with what is closed."""

import sys
from pathlib import Path

import pytest

from pyproxy.control import reach
from pyproxy.control.reach import closed_to
from pyproxy.control.startup import Credentials

STRANGER = Credentials(54321, 54321, (54321,))


@pytest.fixture
def python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Python in a home, and what else is needed in a place that is open."""
    folder = tmp_path / "home" / "bin"
    folder.mkdir(parents=True)
    (folder / "python").touch()
    for path in (folder / "python", folder, *tmp_path.parents, tmp_path):
        if str(path).startswith(str(tmp_path)):
            path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    monkeypatch.setattr(reach, "_needed", lambda: {tmp_path / "home": 1, folder: 1, folder / "python": 1})
    monkeypatch.setattr(reach, "_can_start", lambda _credentials: False)
    return folder / "python"


def test_what_is_open_is_nothing_to_tell(python: Path) -> None:
    """Nothing is tried then, either."""
    assert closed_to(STRANGER) == ""


def test_a_closed_folder_is_told_with_its_mode(python: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless the user can start the program nevertheless, as by an access control list."""
    home = python.parents[1]
    home.chmod(0o700)
    text = closed_to(STRANGER)
    assert f"the folder {home} is closed to it (mode 0700" in text
    assert "chmod o+x" in text
    monkeypatch.setattr(reach, "_can_start", lambda _credentials: True)
    assert closed_to(STRANGER) == ""


def test_owner_and_group_have_bits_of_their_own(python: Path) -> None:
    """Root has no need of any."""
    found = python.parents[1].stat()
    python.parents[1].chmod(0o700)
    assert closed_to(Credentials(found.st_uid, 54321, ())) == ""
    assert closed_to(Credentials(0, 0, ())) == ""
    python.parents[1].chmod(0o750)
    assert closed_to(Credentials(54321, found.st_gid, ())) == ""
    assert closed_to(Credentials(54321, 54321, (found.st_gid,))) == ""
    assert closed_to(STRANGER) != ""


def test_all_that_a_worker_needs_is_looked_at() -> None:
    """The interpreter, the standard library, the package, and every folder from the root on."""
    needed = reach._needed()
    assert next(iter(needed)) == Path("/")
    for wanted in (Path(sys.executable).absolute(), Path(sys.executable).resolve(), Path(reach.__file__).parents[1]):
        assert wanted in needed


def test_a_folder_that_modules_are_looked_for_in_must_be_listed() -> None:
    """Also one that was gone through before, as the root of a clone is for the package in it."""
    root = Path(reach.__file__).parents[2]
    assert str(root) in sys.path
    assert reach._needed()[root] == 5
