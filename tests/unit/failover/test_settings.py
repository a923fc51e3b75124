"""The failover section as objects."""

import subprocess
import sys
from dataclasses import FrozenInstanceError, asdict

import pytest

from pyproxy.failover.settings import AuthHmac, Endpoint, Guard, Link, Notify, VipExec, VirtualIp, from_plain
from tests.unit.failover.settings import plain, settings, vips


def test_the_documented_data_becomes_objects() -> None:
    """Lists become tuples and nested mappings objects; nothing of the data is lost."""
    made = settings(
        virtual_ips=vips("10.0.0.1", "fe80::1"),
        peers=["10.0.0.2"],
        witnesses=[{"host": "router.example.com", "port": 443}],
        link={
            "bind": {"host": "10.1.0.1", "port": 9901},
            "peer": {"host": "fd00::2", "port": 9901},
            "key_file": "/etc/key",
            "interval": 0.25,
            "dead_after": 4,
        },
        guards=[{"run": ["grep", "-q"], "timeout": 2.0, "interval": 5.0, "on_fail": "refuse"}],
        notify={"master": ["logger", "m"], "backup": None, "fault": None},
        vip_backend="exec",
        vip_exec={"run": ["/bin/move"], "timeout": 30.0, "interval": 10.0},
        auth_hmac={"mode": "enforce", "replay": "monotonic", "keys": [[7, "/a"], [1, "/b"]]},
        fence=["/bin/off"],
    )
    assert made.virtual_ips == (VirtualIp("10.0.0.1", 32), VirtualIp("fe80::1", 128))
    assert made.witnesses == (Endpoint("router.example.com", 443),)
    assert made.link == Link(Endpoint("10.1.0.1", 9901), Endpoint("fd00::2", 9901), "/etc/key", 0.25, 4)
    assert made.guards == (Guard(("grep", "-q"), 2.0, 5.0, "refuse"),)
    assert made.notify == Notify(("logger", "m"), None, None)
    assert made.vip_exec == VipExec(("/bin/move",), 30.0, 10.0)
    assert made.auth_hmac == AuthHmac("enforce", "monotonic", ((7, "/a"), (1, "/b")))
    assert made.fence == ("/bin/off",)
    with pytest.raises(FrozenInstanceError):
        made.vrid = 2  # type: ignore[misc]


def test_a_key_too_many_or_too_few_is_a_bug() -> None:
    """The data comes from the compiler; a difference between the two must not go unnoticed."""
    with pytest.raises(TypeError):
        from_plain(plain(unknown=1))
    data = plain()
    del data["vrid"]
    with pytest.raises(TypeError):
        from_plain(data)


def test_families_addresses_and_peers_are_told_apart() -> None:
    """Each family is one VRRP instance: its own addresses in the file's order, its own peers."""
    made = settings(virtual_ips=vips("fe80::5", "10.0.0.9", "fd00::1", "10.0.0.1"), peers=["fd00::2", "10.0.0.2"])
    assert made.families == (4, 6)
    assert made.addresses(4) == ("10.0.0.9", "10.0.0.1")
    assert made.addresses(6) == ("fe80::5", "fd00::1")
    assert (made.peers_of(4), made.peers_of(6)) == (("10.0.0.2",), ("fd00::2",))
    assert settings(virtual_ips=vips("fd00::1")).families == (6,)


def test_what_is_logged_reads_like_the_file() -> None:
    """An address has its prefix, an IPv6 endpoint its brackets."""
    assert str(VirtualIp("10.0.0.1", 24)) == "10.0.0.1/24"
    assert (str(Endpoint("fd00::1", 80)), str(Endpoint("a", 80))) == ("[fd00::1]:80", "a:80")


def test_a_link_is_dead_after_the_missed_messages() -> None:
    """``dead_after`` counts messages."""
    link = Link(Endpoint("a", 1), Endpoint("b", 1), "/k", 0.25, 4)
    assert link.dead_time == 1.0


def test_the_settings_are_all_plain_values() -> None:
    """They can be compared and shown whole, for a digest or a log."""
    assert asdict(settings())["garp"] == {"repeat": 5, "delay": 5.0, "refresh": 10.0}


def test_the_room_loads_nothing_of_the_others() -> None:
    """The speaker is a program of its own, on the standard library."""
    code = "import pyproxy.failover.machine, pyproxy.failover.dialect, sys; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name for name in result.stdout.split() if name.startswith("pyproxy.")}
    assert {name.split(".")[1] for name in loaded} == {"failover", "errors"}
    assert not {"asyncio", "socket", "pydantic", "yaml"} & set(result.stdout.split())
