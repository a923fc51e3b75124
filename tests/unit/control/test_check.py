"""Pins what -t and the start say of the machine: where it stands in the file, and all of it at once."""

import copy
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pyproxy.config.load import load_with_warnings
from pyproxy.config.source import Source
from pyproxy.control import loops
from pyproxy.control.check import check_machine
from pyproxy.control.loops import warn_of_loops
from pyproxy.errors import ConfigError


def lines(tmp_path: Path, more: dict[str, Any]) -> list[str]:
    """Give the problems of a file, or else its warnings, without place and file."""
    content = {
        "listeners": [{"bind": "127.0.0.1:8080"}],
        "pools": {"web": {"backends": [{"address": "10.0.0.1:80"}]}},
        **more,
    }
    file = tmp_path / "lb.yml"
    file.write_text(yaml.safe_dump(content))
    try:
        loaded = load_with_warnings(file, look=check_machine)
    except ConfigError as error:
        return [f"{item.path}: {item.text}" for item in error.problems]
    return [f"warning {item.path}: {item.text}" for item in loaded.warnings]


def unix(path: str, **more: str) -> dict[str, Any]:
    """Configure one unix listener."""
    return {"listeners": [{"name": "local", "bind": f"unix:{path}", **more}]}


def sticky(file: object) -> dict[str, Any]:
    """Configure a secret in a file."""
    return {"pools": {"web": {"backends": [{"address": "10.0.0.1:80"}], "sticky": {"secret_file": str(file)}}}}


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"user": "no-such-user"}, "user: there is no user 'no-such-user' on this machine"),
        (unix("/no-such/x.sock"), "listeners[0].bind: there is no directory /no-such"),
        (unix("/run/x.sock", owner="nix"), "listeners[0].owner: there is no user 'nix' on this machine"),
        ({"access_log": {"to": "/no-such/log"}}, "access_log.to: there is no directory /no-such"),
        ({"access_log": {"to": "/run/"}}, "access_log.to: /run/ is a directory"),
        ({"state_dir": "/no-such/state"}, "state_dir: there is no directory /no-such"),
        ({"state_dir": "/dev/null"}, "state_dir: /dev/null is no directory"),
        (
            {"state_dir": f"/run/{'x' * 300}"},
            f"state_dir: can't look at /run/{'x' * 300}: File name too long",
        ),
        (
            {"access_log": {"to": f"/{'x' * 300}/log"}},
            f"access_log.to: can't look at /{'x' * 300}: File name too long",
        ),
        ({"admin": {"bind": "unix:/no-such/a"}}, "admin.bind: there is no directory /no-such"),
        (
            {"admin": {"bind": "127.0.0.1:1", "token_file": "/no-such"}},
            "admin.token_file: can't read /no-such: No such file or directory",
        ),
        (sticky("/no-such"), "pools.web.sticky.secret_file: can't read /no-such: No such file or directory"),
        (sticky("/dev/null"), "pools.web.sticky.secret_file: can't read /dev/null: it is not a regular file"),
    ],
)
def test_what_is_missing(tmp_path: Path, more: dict[str, Any], text: str) -> None:
    """Before the start, and not at three in the morning."""
    assert lines(tmp_path, more) == [text]


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ({"state_dir": "/closed/state"}, "state_dir"),
        ({"access_log": {"to": "/closed/log"}}, "access_log.to"),
        (unix("/closed/s"), "listeners[0].bind"),
    ],
)
def test_a_directory_that_is_closed_to_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any], key: str
) -> None:
    """Who checks a file needn't be who may look everywhere."""

    def refuse(path: Path) -> bool:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "is_dir", refuse)
    assert lines(tmp_path, more) == [f"{key}: can't look at /closed: Permission denied"]


def test_all_of_it_at_once_with_what_is_wrong_in_the_file_itself(tmp_path: Path) -> None:
    """In the order of the file, each with its line and column."""
    file = tmp_path / "lb.yml"
    file.write_text(
        "user: no-such-user\nstate_dir: /no-such/state\nwieght: 1\nlisteners:\n  - bind: 127.0.0.1:8080\n"
        "pools:\n  web:\n    backends:\n      - address: http://10.0.0.1\n"
        "    sticky:\n      secret_file: /no-such\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_with_warnings(file, look=check_machine)
    places = [line.removeprefix(f"{file}:").partition(": ")[0] for line in caught.value.lines()]
    assert places == ["1:7", "2:12", "3:1", "9:18", "11:20"]


def test_values_of_a_wrong_type_are_told_elsewhere(tmp_path: Path) -> None:
    """And are no reason to stumble."""
    found = lines(
        tmp_path, {"user": [1], "state_dir": 3, "access_log": 5, "admin": [], "failover": {"auth_hmac": 1, "link": "x"}}
    )
    assert not [line for line in found if "no user" in line or "directory" in line]


EVERYTHING_LOOKED_AT: dict[str, Any] = {
    "user": "root",
    "state_dir": "/run",
    "listeners": [{"name": "a", "bind": "unix:/run/x", "owner": "root"}],
    "access_log": {"to": "/run/log"},
    "pools": {"web": {"backends": [{"name": "b", "address": "10.0.0.1:80"}], "sticky": {"secret_file": "/no-such"}}},
    "admin": {"bind": "unix:/run/a", "token_file": "/no-such"},
    "failover": {
        "interface": "lo",
        "gateway": "auto",
        "witnesses": ["192.0.2.1:53"],
        "virtual_ips": ["192.0.2.10/32"],
        "link": {"key_file": "/no-such"},
        "auth_hmac": {"keys": {"1": "/no-such"}},
    },
}
ODD: tuple[Any, ...] = (
    *(None, True, 7, 1.5, float("inf"), [], [[]], [None], [{}], {}, {"": None}),
    *("", "x", "\x00", "x" * 300, "/" + "x" * 300 + "/y", "unix:/" + "x" * 90, "localhost:80", "[::1", "a:b:c"),
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container inside a value, with each of its keys."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from places(value[key])


def test_no_value_makes_it_stumble(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever stands where: what it says of it is a problem or nothing."""
    monkeypatch.setattr(loops, "look_up", lambda names: dict.fromkeys(names, ("127.0.0.1",)))
    for odd in ODD:
        content = copy.deepcopy(EVERYTHING_LOOKED_AT)
        for container, key in list(places(content)):
            before, container[key] = container[key], odd
            source = Source(content)
            check_machine(source)
            warn_of_loops(source)
            assert all(problem.text for problem in source.problems)
            container[key] = before


def test_nothing_is_made(tmp_path: Path) -> None:
    """Neither the log nor the socket nor the state's directory."""
    more = {**unix(f"{tmp_path}/x.sock"), "access_log": {"to": f"{tmp_path}/log"}, "state_dir": f"{tmp_path}/state"}
    assert lines(tmp_path, more) == []
    assert [path.name for path in tmp_path.iterdir()] == ["lb.yml"]


def test_what_others_could_do_is_a_warning(tmp_path: Path) -> None:
    """A directory that others may write to, and a secret that everybody may read."""
    directory, key = tmp_path / "open", tmp_path / "key"
    directory.mkdir()
    directory.chmod(0o777)
    key.write_text("0123456789abcdef")
    key.chmod(0o644)
    more = {"state_dir": str(directory), "access_log": {"to": f"{directory}/log"}, **sticky(key)}
    found = lines(tmp_path, {**more, **unix(f"{directory}/x.sock")})
    assert [line.partition(": ")[0] for line in found] == [
        "warning access_log.to",
        "warning listeners[0].bind",
        "warning pools.web.sticky.secret_file",
        "warning state_dir",
    ]
    assert all("mode 0777" in line for line in found if "secret_file" not in line)
    key.chmod(0o600)
    directory.chmod(0o755)
    assert lines(tmp_path, more) == []


def test_an_interface_that_is_not_there_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may come later."""
    monkeypatch.setattr("socket.if_nameindex", lambda: [(1, "lo")])
    failover = {"interface": "eth9", "vrid": 51, "virtual_ips": ["192.0.2.10/32"], "priority": 100}
    found = lines(tmp_path, {"failover": failover})
    assert "warning failover.interface: there is no interface eth9 on this machine" in found


def test_a_gateway_that_nobody_finds_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``auto`` without a default route asks nobody; with an address, or with witnesses, somebody is asked."""
    monkeypatch.setattr("socket.if_nameindex", lambda: [(2, "eth0")])
    failover = {"interface": "eth0", "vrid": 51, "virtual_ips": ["192.0.2.10/32"], "priority": 100}
    for has_route, more, is_warned in (
        (False, {}, True),
        (False, {"gateway": "auto"}, True),
        (True, {}, False),
        (False, {"gateway": "192.0.2.1"}, False),
        (False, {"witnesses": ["192.0.2.1:53"]}, False),
    ):
        monkeypatch.setattr("pyproxy.control.check.has_default_route", lambda _name, found=has_route: found)
        found = lines(tmp_path, {"failover": {**failover, **more}})
        assert any("no default route leads through eth0" in line for line in found) is is_warned


def test_a_user_who_can_not_run_the_program_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the folder that is closed; what is a matter of root's is asked of root alone."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr("pyproxy.control.check.closed_to", lambda _credentials: "the folder /root is closed to it")
    assert lines(tmp_path, {"user": "nobody"}) == ["user: 'nobody' can't run pyproxy: the folder /root is closed to it"]
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    assert lines(tmp_path, {"user": "nobody"}) == []
