"""The examples of docs/migration.md: every yaml block there that is a whole file."""

import re
from pathlib import Path

import pytest

from pyproxy.config.compile import compile_config
from pyproxy.config.load import load_config
from pyproxy.config.runtime import RuntimeConfig, from_plain

PAGE = Path(__file__).parents[3] / "docs" / "migration.md"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    """Give the page's code blocks of one language."""
    return [text for found, text in _BLOCK.findall(PAGE.read_text()) if found == language]


#: What has both required keys is a whole file.
FILES = [text for text in blocks("yaml") if {"listeners:", "pools:"} <= set(text.splitlines())]


def load(text: str, directory: Path) -> RuntimeConfig:
    """Load a block as the program does."""
    file = directory / "lb.yml"
    file.write_text(text)
    return from_plain(compile_config(load_config(file)))


def test_every_foreign_example_has_ours_beside_it() -> None:
    """The tests below look at something: one whole file for each of nginx's and HAProxy's."""
    assert len(blocks("nginx")) + len(blocks("haproxy")) == len(FILES) == 3


@pytest.mark.parametrize("text", FILES, ids=range(len(FILES)))
def test_an_example_loads(text: str, tmp_path: Path) -> None:
    """Without a problem, down to what a worker runs on; each pool is used by a route."""
    config = load(text, tmp_path)
    assert {route.pool for route in config.routes if route.pool} == {pool.name for pool in config.pools}


@pytest.mark.parametrize("text", FILES, ids=range(len(FILES)))
def test_an_example_keeps_the_addresses_of_the_file_beside_it(text: str, tmp_path: Path) -> None:
    """Each backend's address stands in the foreign file, too, and no server of that one was forgotten."""
    page = PAGE.read_text()
    foreign = _BLOCK.findall(page[: page.index(text)])[-1][1]
    servers = re.findall(r"^ *server(?:-template)? (?:[\w-]+ (?:\d+ )?)?((?:unix:)?[\w./:-]+)", foreign, re.MULTILINE)
    addresses = {backend.address for pool in load(text, tmp_path).pools for backend in pool.backends}
    assert addresses == set(servers)
