"""Pins what failover needs beside its section, and what is wrong with a key's file."""

import os
from pathlib import Path

import pytest

from pyproxy.config.load import load_text
from pyproxy.config.model import Config
from pyproxy.config.model_failover import Notify
from pyproxy.control import pair_settings
from pyproxy.control.pair_settings import make_directory, make_pair_settings
from pyproxy.control.startup import StartError
from pyproxy.failover.settings import from_plain

FILE = """
listeners: [{{bind: "0.0.0.0:80"}}]
pools: {{web: {{backends: [{{address: "10.0.0.1:80"}}]}}}}
failover:
  interface: eth0
  virtual_ips: [192.168.0.10/32, 192.168.0.11/24]
  vrid: 51
  link: {{bind: "10.1.0.1:9901", peer: "10.1.0.2:9901", key_file: {key}}}
  auth_hmac: {{keys: {{7: {hmac}, 2: {hmac}}}}}
"""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A file with keys that are there."""
    (tmp_path / "link").write_text("0123456789abcdef\n")
    (tmp_path / "hmac").write_text("hex:00ff\n")
    return load_text(FILE.format(key=tmp_path / "link", hmac=tmp_path / "hmac"), "lb.yml", {})


def test_keys_are_read_in_their_order(config: Config) -> None:
    """The first one signs adverts; nothing of them is in what a log might show."""
    settings = make_pair_settings(config)
    assert settings is not None
    assert settings.keys() == {"link": b"0123456789abcdef".hex(), "hmac": [[7, "00ff"], [2, "00ff"]]}
    assert settings.addresses == ("192.168.0.10", "192.168.0.11")
    assert "pools.web" in settings.sections
    assert settings.log_level == "info"
    assert repr(settings).startswith("<PairSettings vrid 51 on ")
    assert "0123" not in repr(settings)


def test_without_failover_there_is_nothing() -> None:
    """No key is read, no directory needed."""
    assert make_pair_settings(load_text(FILE.partition("failover")[0].format(), "lb.yml", {})) is None


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("link", None, "failover.link.key_file: can't use"),
        ("link", "short", "at least 16 bytes"),
        ("link", "", "is empty"),
        ("hmac", "hex:0", "failover.auth_hmac.keys.7"),
    ],
)
def test_a_key_that_is_no_good_is_a_bad_file(
    config: Config, tmp_path: Path, name: str, content: str | None, words: str
) -> None:
    """With its place in lb.yml, and exit code 2."""
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(StartError, match=words) as caught:
        make_pair_settings(config)
    assert caught.value.exit_code == 2


def test_what_is_told_of_a_command_is_its_program(config: Config) -> None:
    """The other machine and the API need no more; the link isn't encrypted, and a fence has a password."""
    assert config.failover is not None
    failover = config.failover.model_copy(
        update={"fence": ("fence_ipmilan", "-p", "secret"), "notify": Notify(master=("mail", "secret"))}
    )
    settings = make_pair_settings(config.model_copy(update={"failover": failover}))
    assert settings is not None
    assert "secret" in str(settings.speaker)
    assert "secret" not in str(settings.told)
    assert (settings.told["fence"], settings.told["notify"]["master"]) == (["fence_ipmilan"], ["mail"])
    assert from_plain(settings.told).fence == ("fence_ipmilan",)


def test_the_speakers_directory_is_nobody_elses(tmp_path: Path) -> None:
    """Also if it was there, and was open."""
    path = tmp_path / "pyproxy" / "vrid-51-eth0"
    for _ in range(2):
        make_directory(path)
        assert path.stat().st_mode & 0o777 == 0o700
        path.chmod(0o755)
    (tmp_path / "file").touch()
    with pytest.raises(StartError, match="failover: can't use"):
        make_directory(tmp_path / "file" / "vrid-51")


def test_the_speakers_directory_is_not_what_somebody_elses_link_leads_to(tmp_path: Path) -> None:
    """Its mode would be changed, and files written there."""
    (tmp_path / "theirs").mkdir(mode=0o755)
    (tmp_path / "vrid-51").symlink_to(tmp_path / "theirs")
    with pytest.raises(StartError, match="failover: can't use"):
        make_directory(tmp_path / "vrid-51")
    assert (tmp_path / "theirs").stat().st_mode & 0o777 == 0o755


def test_where_run_can_not_be_written_the_state_dir_serves(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory that stays over a boot is second best: the speaker looks at how old its state is."""
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(pair_settings, "RUN", tmp_path / "run")
    with_state = config.model_copy(update={"state_dir": "/var/lib/pyproxy"})
    settings = make_pair_settings(with_state)
    assert settings is not None
    assert settings.directory == tmp_path / "run" / "vrid-51-eth0"
    monkeypatch.setattr(os, "access", lambda *_: False)
    settings = make_pair_settings(with_state)
    assert settings is not None
    assert settings.directory == Path("/var/lib/pyproxy/vrid-51-eth0")
