"""Pins what the supervisor takes from a configuration."""

import json
from pathlib import Path
from typing import Any

import pytest

from pyproxy.config.load import load_text
from pyproxy.config.model import Config
from pyproxy.control.settings import AdminSettings, make_admin, make_settings
from pyproxy.control.startup import StartError


def config(**changes: Any) -> Config:
    """A small configuration with some keys of the test's own."""
    content = {
        "listeners": [{"bind": "127.0.0.1:80"}],
        "pools": {"web": {"backends": [{"address": "127.0.0.1:81"}]}},
        **changes,
    }
    return load_text(json.dumps(content), "lb.yml", {})


def test_the_default_admin_is_on_loopback_without_a_token() -> None:
    """With nothing said, the API listens where the contract says."""
    settings = make_settings(config(), "lb.yml")
    assert settings.admin == AdminSettings("127.0.0.1", 9900, "", None)
    assert settings.file == "lb.yml"
    assert settings.plain["listeners"][0]["port"] == 80


def test_null_turns_the_api_off() -> None:
    """Without an admin section there is no API at all."""
    assert make_settings(config(admin=None), "lb.yml").admin is None


def test_token_and_unix_path_are_taken_over() -> None:
    """A unix bind becomes a path, the token is the plain text that callers send."""
    settings = make_settings(config(admin={"bind": "unix:/run/x.sock", "token": "a" * 32}), "lb.yml")
    assert settings.admin is not None
    assert settings.admin.path == "/run/x.sock"
    assert settings.admin.token == "a" * 32


def test_the_token_is_in_no_repr_and_not_in_the_plain_data() -> None:
    """What is logged or sent to workers doesn't hold the token."""
    settings = make_settings(config(admin={"bind": "[::1]:9", "token": "sesame" * 8}), "lb.yml")
    assert repr(settings.admin) == "<AdminSettings [::1]:9>"
    assert "sesame" not in repr(settings)


def test_a_bad_token_file_is_found_when_the_file_is_checked(tmp_path: Path) -> None:
    """``pyproxy -t`` comes by here, so it finds this too."""
    with pytest.raises(StartError, match="token_file"):
        make_settings(config(admin={"token_file": str(tmp_path / "none")}), "lb.yml")


def sticky(**section: Any) -> Config:
    """A configuration with sticky sessions."""
    return config(pools={"web": {"backends": [{"address": "127.0.0.1:81"}], "sticky": section}})


def test_sticky_secrets_come_from_the_file_named(tmp_path: Path) -> None:
    """Workers get them with the configuration; what is shown or logged doesn't have them."""
    file = tmp_path / "secret"
    file.write_text("swordfish\nhunter1x\n")
    settings = make_settings(sticky(secret_file=str(file)), "lb.yml")
    assert settings.plain["pools"][0]["sticky"]["secrets"] == ["swordfish", "hunter1x"]
    inline = make_settings(sticky(secret=["swordfish", "hunter1x"]), "lb.yml")
    assert inline.plain == settings.plain
    for each in (settings, inline):
        assert "swordfish" not in repr(each)
        assert "swordfish" not in json.dumps(each.shown)
    assert inline.shown["pools"]["web"]["sticky"]["secret"] == ["**********"] * 2


def test_a_bad_secret_file_is_found_when_the_file_is_checked(tmp_path: Path) -> None:
    """The text names the pool's key. Who only asks the admin API need not be able to read it."""
    bad = sticky(secret_file=str(tmp_path / "none"))
    with pytest.raises(StartError, match=r"pools\.web\.sticky\.secret_file: can't read"):
        make_settings(bad, "lb.yml")
    assert bad.admin is not None
    assert make_admin(bad.admin).port == 9900
