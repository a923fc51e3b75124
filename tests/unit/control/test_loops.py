"""Pins that a backend which is one of our own listeners is recognised, and nothing else."""

import errno
import socket
from pathlib import Path

import pytest

from pyproxy.config.addresses import Address, parse_address
from pyproxy.config.load import load_with_warnings
from pyproxy.control import loops
from pyproxy.control.loops import OwnListener, OwnListeners, warn_of_loops
from pyproxy.errors import ConfigError

OURS = ("10.1.1.1", "127.0.0.1", "127.0.0.2", "::1", "fd00::1")


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the machine have two addresses, and look names up in a table."""
    monkeypatch.setattr(loops, "is_local", lambda host: host in OURS)
    names = {"self.example": ("10.1.1.1",), "other.example": ("10.9.9.9",), "localhost": ("::1", "127.0.0.1")}
    monkeypatch.setattr(loops, "look_up", lambda wanted: {name: names.get(name, ()) for name in wanted})


def own(*binds: str, virtual: tuple[str, ...] = ()) -> OwnListeners:
    """Listen on these addresses."""
    return OwnListeners([OwnListener(bind, parse_address(bind)) for bind in binds], virtual)


@pytest.mark.parametrize(
    ("bind", "address", "is_own"),
    [
        ("10.1.1.1:80", "10.1.1.1:80", True),
        ("10.1.1.1:80", "10.1.1.1:81", False),
        ("10.1.1.1:80", "127.0.0.1:80", False),
        ("0.0.0.0:80", "10.1.1.1:80", True),
        ("0.0.0.0:80", "127.0.0.2:80", True),
        ("0.0.0.0:80", "10.9.9.9:80", False),
        ("0.0.0.0:80", "0.0.0.0:80", True),
        ("127.0.0.1:80", "0.0.0.0:80", True),
        ("10.1.1.1:80", "0.0.0.0:80", False),
        ("0.0.0.0:80", "[::1]:80", False),
        ("0.0.0.0:80", "[::ffff:10.1.1.1]:80", True),
        ("[::]:80", "[fd00::1]:80", True),
        ("[::]:80", "[fd00::2]:80", False),
        ("[::]:80", "10.1.1.1:80", False),
        ("0.0.0.0:80", "10.7.7.7:80", True),  # a virtual address
        ("unix:/run/a.sock", "unix:/run/../run/a.sock", True),
        ("unix:/run/a.sock", "unix:/run/b.sock", False),
        ("unix:/run/a.sock", "10.1.1.1:80", False),
    ],
)
def test_who_connects_there_comes_to_us(bind: str, address: str, is_own: bool) -> None:
    """By the address itself, by all addresses of this machine, by one that may be its own, and by a path."""
    assert bool(own(bind, virtual=("10.7.7.7",)).find(parse_address(address))) == is_own


def test_a_link_to_our_socket_is_our_socket(tmp_path: Path) -> None:
    """What counts is where it leads."""
    (tmp_path / "link").symlink_to(tmp_path / "a.sock")
    assert own(f"unix:{tmp_path}/a.sock").find(Address(path=f"{tmp_path}/link"))
    (tmp_path / "round").symlink_to(tmp_path / "round")
    assert not own(f"unix:{tmp_path}/a.sock").find(Address(path=f"{tmp_path}/round"))


def test_each_backend_of_a_file_that_leads_back_is_warned_of(tmp_path: Path) -> None:
    """Also through a name; what can't be read is told elsewhere."""
    file = tmp_path / "lb.yml"
    file.write_text("""listeners: [{name: http, bind: "0.0.0.0:80"}]
pools:
  web:
    backends:
      - address: 10.1.1.1:80
      - address: 10.9.9.9:80
      - address: self.example:80
      - address: other.example:80
      - address: localhost:80
      - address: unknown.example:80
""")
    loaded = load_with_warnings(file, look=warn_of_loops)
    assert [(item.line, item.column) for item in loaded.warnings] == [(5, 18), (7, 18), (9, 18)]
    assert all("is our own listener http" in item.text for item in loaded.warnings)


def test_addresses_that_are_no_list_are_told_elsewhere(tmp_path: Path) -> None:
    """A file with a wrong type is refused with its line, and no more."""
    file = tmp_path / "lb.yml"
    file.write_text("listeners: [{bind: '127.0.0.1:80'}]\nfailover: {virtual_ips: 5}\n")
    with pytest.raises(ConfigError) as caught:
        load_with_warnings(file, look=warn_of_loops)
    assert "failover.virtual_ips" in [item.path for item in caught.value.problems]


def test_an_address_that_comes_later_is_ours_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was no address of this machine may become one."""
    listeners = own("0.0.0.0:80")
    assert not listeners.find(parse_address("10.9.9.9:80"))
    monkeypatch.setattr(loops, "is_local", lambda host: host == "10.9.9.9")
    assert listeners.find(parse_address("10.9.9.9:80"))


def test_without_a_family_none_of_its_addresses_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel without IPv6 has no sockets of it; nor has a process that has used up its descriptors."""
    monkeypatch.undo()

    def refuse(*_arguments: object) -> None:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    monkeypatch.setattr(socket, "socket", refuse)
    assert not loops.is_local("fd00::1")


def test_the_kernel_knows_which_addresses_are_local(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it lets us bind others or not; nothing is sent."""
    monkeypatch.undo()
    for may_bind_any in (False, True):
        monkeypatch.setattr(loops, "_may_bind_any", lambda _version, value=may_bind_any: value)
        assert loops.is_local("127.0.0.1")
        assert loops.is_local("::")
        assert not loops.is_local("192.0.2.77")


def test_a_lookup_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that can't be found says nothing, and neither does one that takes too long."""
    monkeypatch.undo()
    monkeypatch.setattr(loops, "LOOKUP_SECONDS", 0.0)

    def fail(*_arguments: object, **_named: object) -> None:
        raise socket.gaierror("no such name")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    assert loops.look_up(["nowhere.example"]) in ({}, {"nowhere.example": ()})
