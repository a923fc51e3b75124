"""Pins what is checked before the first worker starts, and how each failure is worded."""

import os
import pwd
import resource
from pathlib import Path

import pytest

from pyproxy.control import startup
from pyproxy.control.startup import (
    Credentials,
    StartError,
    find_credentials,
    open_access_log,
    raise_nofile,
    read_secrets,
    read_token,
)


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """A process with a soft limit of 1024 and a hard one of 5000; what is set is appended."""
    values = [(1024, 5000)]
    monkeypatch.setattr(resource, "getrlimit", lambda _which: values[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _which, new: values.append(new))
    return values


def test_the_soft_limit_becomes_the_hard_one(limits: list[tuple[int, int]], caplog: pytest.LogCaptureFixture) -> None:
    """Both numbers are logged, and enough is no reason to warn."""
    with caplog.at_level("INFO"):
        raise_nofile(connections=2000)
    assert limits[-1] == (5000, 5000)
    assert "limit of open files: 5000 (was 1024, hard limit 5000)" in caplog.text
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_a_low_limit_is_a_warning(limits: list[tuple[int, int]], caplog: pytest.LogCaptureFixture) -> None:
    """A limit of connections that the descriptors can't serve, two each, is told at the start."""
    raise_nofile(connections=2500)
    assert "open files are limited to 5000; limits.connections: 2500 may need 5064" in caplog.text


def test_a_limit_that_cannot_be_raised_is_no_reason_to_stop(
    limits: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the system refuses, the program goes on with what it has and says so."""

    def refuse(_which: int, _new: tuple[int, int]) -> None:
        raise ValueError("not allowed")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    raise_nofile(connections=0)
    assert "stays at 1024: not allowed" in caplog.text
    assert "a busy proxy may need" in caplog.text


def test_no_user_means_no_change() -> None:
    """Without ``user`` workers run as who started the program."""
    assert find_credentials(None) is None


def test_an_unknown_user_is_named() -> None:
    """A typing error in ``user`` is told before anything is bound."""
    with pytest.raises(StartError, match="no user 'no-such-user'"):
        find_credentials("no-such-user")


def test_root_gets_uid_gid_and_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker gets the user's own groups, none of root's."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    entry = pwd.getpwnam("daemon")
    found = find_credentials("daemon")
    assert isinstance(found, Credentials)
    assert (found.uid, found.gid) == (entry.pw_uid, entry.pw_gid)
    assert entry.pw_gid in found.groups
    assert 0 not in found.groups


def test_only_root_can_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Someone else gets a clear refusal, unless the user is that someone already."""
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(StartError, match="only root can start workers as 'daemon'"):
        find_credentials("daemon")
    monkeypatch.setattr(os, "geteuid", lambda: pwd.getpwnam("daemon").pw_uid)
    assert find_credentials("daemon") is None


def test_the_log_is_appended_to_and_private(tmp_path: Path) -> None:
    """The file is made with mode 0640, what is in it stays, and programs started later don't get it."""
    path = tmp_path / "access.log"
    umask = os.umask(0o022)
    try:
        for text in (b"one\n", b"two\n"):
            fd = open_access_log(str(path))
            assert fd is not None
            os.write(fd, text)
            assert not os.get_inheritable(fd)
            assert os.get_blocking(fd)
            os.close(fd)
    finally:
        os.umask(umask)
    assert path.read_bytes() == b"one\ntwo\n"
    assert path.stat().st_mode & 0o777 == 0o640


def test_off_and_stdout_open_no_file() -> None:
    """``off`` is none, ``stdout`` a duplicate of descriptor 1."""
    assert open_access_log("off") is None
    fd = open_access_log("stdout")
    assert fd is not None
    assert fd > 2
    assert os.path.sameopenfile(fd, 1)
    os.close(fd)


@pytest.mark.parametrize("kind", ["directory missing", "a directory", "a pipe without a reader"])
def test_a_log_that_cannot_be_opened_is_named(tmp_path: Path, kind: str) -> None:
    """The line names the key and the path, and opening never waits."""
    path = tmp_path / "target"
    if kind == "directory missing":
        path = path / "access.log"
    elif kind == "a directory":
        path.mkdir()
    else:
        os.mkfifo(path)
    with pytest.raises(StartError, match=r"access_log\.to: can't open .*target") as caught:
        open_access_log(str(path))
    assert caught.value.exit_code == 1


def test_the_token_comes_from_its_file_without_the_newline(tmp_path: Path) -> None:
    """An editor's final newline isn't part of the token; the token in the configuration needs no file."""
    path = tmp_path / "token"
    path.write_text("s3cret-word\r\n")
    assert read_token(None, str(path)) == "s3cret-word"
    assert read_token("plain", None) == "plain"
    assert read_token(None, None) is None


@pytest.mark.parametrize("content", [b"", b"\n", b"  \n", b"\xff\xfe\n", b"# mine\ns3cret\n", b"two words", None])
def test_a_token_file_that_is_no_good_is_bad_configuration(tmp_path: Path, content: bytes | None) -> None:
    """Missing, empty, not one word or no text at all: exit code 2, and never an API without a token."""
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StartError, match=r"admin\.token_file") as caught:
        read_token(None, str(path))
    assert caught.value.exit_code == 2


def test_secrets_of_a_file_are_its_lines(tmp_path: Path) -> None:
    """The new one, and perhaps the old one; blanks within are part of them."""
    path = tmp_path / "secret"
    path.write_text("sesame, open\n")
    assert read_secrets("x", str(path), 8) == ("sesame, open",)
    path.write_text("sesame, open\r\nswordfish\r\n\n")
    assert read_secrets("x", str(path), 8) == ("sesame, open", "swordfish")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "x: can't read FILE: No such file or directory"),
        (b"\n", "x: FILE is empty"),
        (b"\xff\xfe1234567\n", "x: can't read FILE: not UTF-8 text"),
        (b"short\n", "x: each line of FILE must have at least 8 printable characters"),
        (b"long enough\n\nlong enough\n", "x: FILE must have one line, or a second one with the old secret"),
        (b"long enough\n\x00\x01\x02\x03\x04\x05\x06\x07", "x: each line of FILE must have at least 8 printable char"),
    ],
)
def test_a_secret_file_that_is_no_good(tmp_path: Path, content: bytes | None, problem: str) -> None:
    """Nothing is signed with a secret that anybody can guess; what is told has nothing of it."""
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StartError) as caught:
        read_secrets("x", str(path), 8)
    assert str(caught.value).startswith(problem.replace("FILE", str(path)))
    assert caught.value.exit_code == 2


def test_log_mode_lets_the_group_read() -> None:
    """Log collectors read by their group."""
    assert startup.LOG_MODE == 0o640
