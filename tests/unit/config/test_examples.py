"""The ready examples in config/."""

from pathlib import Path

import pytest

from pyproxy.config.compile import compile_config
from pyproxy.config.load import load_config
from pyproxy.config.runtime import from_plain

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted((ROOT / "config").glob("*.yml"))


def test_there_are_examples() -> None:
    """The tests below look at something."""
    assert {"lb.yml", "minimal.yml", "two-apps.yml"} <= {item.name for item in EXAMPLES}


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_an_example_loads(file: Path) -> None:
    """Without a problem, without anything in the environment, down to what a worker runs on."""
    config = from_plain(compile_config(load_config(file)))
    assert config.listeners
    assert {route.pool for route in config.routes} == {pool.name for pool in config.pools}


def test_two_apps_shows_what_it_says() -> None:
    """Hosts, paths, weights, a backup and the JSON log."""
    config = from_plain(compile_config(load_config(ROOT / "config" / "two-apps.yml")))
    assert {route.host for route in config.routes} == {"shop.example.com", "blog.example.com"}
    assert [item.weight for item in config.pools[0].backends] == [3, 1, 1]
    assert [item.backup for item in config.pools[0].backends] == [False, False, True]
    assert (config.access_log.to, config.access_log.format) == ("/var/log/pyproxy/access.log", "json")
