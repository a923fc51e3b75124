"""Listening unix sockets on a real file system: how they are made and unmade."""

import grp
import os
import pwd
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyproxy.config.runtime import Listener
from pyproxy.control.listeners import open_listeners
from pyproxy.control.startup import StartError
from pyproxy.control.unix_sockets import UnixSocket, bind_unix

Bind = Callable[..., UnixSocket]


@pytest.fixture
def bind() -> Iterator[Bind]:
    """Listen on paths; closed when the test ends."""
    bound: list[UnixSocket] = []

    def start(path: Path, mode: int | None = None, owner: str | None = None) -> UnixSocket:
        bound.append(bind_unix(str(path), 16, mode, owner))
        return bound[-1]

    yield start
    for unix in bound:
        unix.sock.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a socket shall be."""
    return tmp_path / "x.sock"


@pytest.mark.parametrize("umask", [0, 0o077])
def test_mode_and_owner_are_right_before_anyone_gets_in(
    umask: int, path: Path, bind: Bind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the umask: a socket that listens has its mode already, and one that doesn't lets nobody in."""
    before: list[int] = []
    listen = socket.socket.listen

    def spy(sock: socket.socket, backlog: int) -> None:
        before.append(stat.S_IMODE(path.stat().st_mode))
        with socket.socket(socket.AF_UNIX) as early, pytest.raises(ConnectionRefusedError):
            early.connect(str(path))
        listen(sock, backlog)

    monkeypatch.setattr(socket.socket, "listen", spy)
    old = os.umask(umask)
    try:
        bind(path, 0o660)
    finally:
        assert os.umask(old) == umask
    assert before == [0o660]
    assert stat.S_IMODE(path.stat().st_mode) == 0o660


def test_without_a_mode_the_umask_decides(path: Path, bind: Bind) -> None:
    """As for any file that the program makes."""
    old = os.umask(0o027)
    try:
        bind(path)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o750


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize(("owner", "gid"), [("daemon", 4321), ("daemon:daemon", grp.getgrnam("daemon").gr_gid)])
def test_the_owner(owner: str, gid: int, path: Path, bind: Bind) -> None:
    """User and group are the given ones; without a group it is whose the directory makes it."""
    os.chown(path.parent, -1, 4321)
    path.parent.chmod(0o2755)
    bind(path, 0o600, owner)
    found = path.stat()
    assert (path.owner(), found.st_gid) == ("daemon", gid)
    assert stat.S_IMODE(found.st_mode) == 0o600


def test_an_owner_that_only_root_can_give_leaves_nothing(
    path: Path, bind: Bind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line says what would help, and a socket of the wrong owner isn't left behind."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "chown", refuse)
    with pytest.raises(StartError, match=r"x\.sock: only root can give it to that owner"):
        bind(path, 0o660, "daemon")
    assert not path.exists()


def test_a_missing_directory_is_named(tmp_path: Path, bind: Bind) -> None:
    """The most likely reason of all, said as it is."""
    with pytest.raises(StartError, match=f"there is no directory {tmp_path}/run"):
        bind(tmp_path / "run" / "x.sock")


def test_a_stale_socket_is_replaced(path: Path, bind: Bind) -> None:
    """What a killed program left behind is no obstacle."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    bind(path)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        assert client.getpeername() == str(path)


def test_a_socket_that_answers_is_left_alone(path: Path, bind: Bind) -> None:
    """Neither a living program's socket nor one with a full queue is taken over."""
    with socket.socket(socket.AF_UNIX) as alive:
        alive.bind(str(path))
        alive.listen(0)
        for _ in range(4):  # nobody accepts: the queue is full after the first of these
            with pytest.raises(StartError, match="in use by another program"):
                bind(path)
        assert path.is_socket()


@pytest.mark.parametrize("kind", ["file", "link", "pipe", "directory"])
def test_what_is_no_socket_is_never_unlinked(kind: str, path: Path, bind: Bind) -> None:
    """A typing error in the path must not cost somebody a file."""
    match kind:
        case "file":
            path.write_text("precious")
        case "link":
            path.symlink_to("elsewhere")
        case "pipe":
            os.mkfifo(path)
        case _:
            path.mkdir()
    before = path.lstat()
    with pytest.raises(StartError, match="taken by something that is no socket"):
        bind(path)
    assert path.lstat() == before


def test_the_path_goes_once_and_only_while_it_is_ours(path: Path, bind: Bind) -> None:
    """It is removed, and what another program then puts there stays, even when we are asked again."""
    ours = bind(path)
    assert repr(ours) == f"<UnixSocket {path}>"
    ours.remove_path()
    assert not path.exists()
    ours.sock.close()
    theirs = bind(path)
    ours.remove_path()
    assert path.is_socket()
    theirs.remove_path()
    theirs.remove_path()
    assert not path.exists()


def test_a_path_that_is_somebody_elses_now_stays(tmp_path: Path, path: Path, bind: Bind) -> None:
    """Who moved ours away and put his own there keeps it."""
    ours = bind(path)
    path.rename(tmp_path / "moved")
    bind(path)
    ours.remove_path()
    assert path.is_socket()
    assert (tmp_path / "moved").is_socket()


def test_all_slots_share_one_socket(path: Path) -> None:
    """A path leads to one socket: every slot gets it, and closing removes the path; twice is as good as once."""
    (listener,) = open_listeners([Listener("web", "", 0, path=str(path), mode=0o600)], slots=3)
    assert listener.address == f"unix:{path}"
    assert len(listener.sockets) == 3
    assert len({id(sock) for sock in listener.sockets}) == 1
    listener.close()
    listener.close()
    assert not path.exists()


def test_all_or_nothing(tmp_path: Path, path: Path) -> None:
    """When a later listener fails nothing is left of the first."""
    good = Listener("good", "", 0, path=str(path))
    with pytest.raises(StartError):
        open_listeners([good, Listener("bad", "", 0, path=str(tmp_path / "no" / "x"))], slots=2)
    with pytest.raises(StartError, match="in use"):
        open_listeners([good, Listener("again", "", 0, path=str(path))], slots=2)
    assert not path.exists()


def test_a_link_in_the_paths_place_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory's owner may put one there at any moment: neither mode nor owner of its target may change."""
    victim, path = tmp_path / "victim", tmp_path / "http.sock"
    victim.touch(0o600)
    before = victim.stat()
    real = socket.socket.bind

    class Racing(socket.socket):
        def bind(self, address: Any) -> None:
            real(self, address)
            path.unlink()
            path.symlink_to(victim)

    monkeypatch.setattr("pyproxy.control.unix_sockets.socket.socket", Racing)
    with pytest.raises(StartError, match="can't listen on"):
        bind_unix(str(path), 1, 0o666, pwd.getpwuid(os.geteuid()).pw_name)
    after = victim.stat()
    assert (after.st_mode, after.st_uid, after.st_ctime_ns) == (before.st_mode, before.st_uid, before.st_ctime_ns)
