"""The start message, read."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from pyproxy.failover.__main__ import read_start, set_log_level
from pyproxy.failover.jobs import has_commands
from tests.unit.failover.settings import plain, settings


def start(**changes: Any) -> dict[str, Any]:
    """Make a start message as the supervisor sends it."""
    message = {"type": "start", "settings": plain(**changes), "keys": {}, "boot_id": "ab12", "runtime_dir": "/run/x"}
    return dict(json.loads(json.dumps(message)))


def test_a_start_message_has_everything() -> None:
    """Settings, keys as bytes, and where to keep what survives."""
    message = start()
    message["keys"] = {"link": "00ff", "hmac": [[2, "aa"], [1, "bb"]]}
    beginning = read_start(message)
    assert beginning.settings == settings()
    assert (beginning.link_key, beginning.advert_keys) == (b"\0\xff", ((2, b"\xaa"), (1, b"\xbb")))
    assert (beginning.boot_id, beginning.directory) == ("ab12", Path("/run/x"))


def test_the_digest_is_of_the_settings_alone() -> None:
    """A successor gets another boot id, and adopts; with other settings it doesn't."""
    assert read_start(start()).digest == read_start({**start(), "boot_id": "cd34"}).digest
    assert read_start(start()).digest != read_start(start(priority=101)).digest


def test_without_keys_there_are_none() -> None:
    """Whether the supervisor says so or leaves it out."""
    assert read_start({**start(), "keys": {"link": None, "hmac": None}}).advert_keys == ()


GUARD = {"run": ["true"], "timeout": 2.0, "interval": 5.0, "on_fail": "refuse"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, False),
        ({"guards": [GUARD]}, True),
        ({"fence": ["shoot"]}, True),
        ({"notify": {"master": None, "backup": None, "fault": ["page"]}}, True),
        ({"vip_backend": "exec", "vip_exec": {"run": ["move"], "timeout": 1.0, "interval": 0.0}}, True),
        ({"vip_backend": "none"}, False),
    ],
)
def test_a_runner_is_started_only_for_commands(changes: dict[str, Any], expected: bool) -> None:
    """It is a process more."""
    assert has_commands(settings(**changes)) is expected


@pytest.mark.parametrize(("message", "level"), [({"log_level": "warning"}, "WARNING"), ({}, "INFO")])
def test_it_logs_as_much_as_the_file_says(monkeypatch: pytest.MonkeyPatch, message: dict[str, Any], level: str) -> None:
    """A speaker has no file of its own."""
    root = logging.Logger("root")
    monkeypatch.setattr(logging, "getLogger", lambda: root)
    set_log_level(message)
    assert root.level == getattr(logging, level)
