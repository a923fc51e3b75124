"""The generated page docs/configuration.md."""

from pathlib import Path

from pyproxy.config.document import TARGET, render
from pyproxy.config.load import load_text
from pyproxy.config.schema import iter_keys
from pyproxy.config.unavailable import UNAVAILABLE

ROOT = Path(__file__).parents[3]


def test_the_committed_page_is_what_the_generator_prints() -> None:
    """Run ``python -m pyproxy.config.document`` after a change of the model."""
    assert (ROOT / TARGET).read_text(encoding="utf-8") == render()


def test_every_key_is_a_row() -> None:
    """In the table of its section, with its description and whether it is there yet."""
    rows = [line for line in render().splitlines() if line.startswith("| `")]
    assert len(rows) == len(list(iter_keys()))
    refused = {entry.path for entry in UNAVAILABLE}
    for row, key in zip(sorted(rows), sorted(iter_keys(), key=lambda key: f"| `{key.name}`"), strict=True):
        assert row.startswith(f"| `{key.name}`")
    assert sum("yet" in row for row in rows) == len(refused)


def test_the_example_on_the_page_loads() -> None:
    """The first thing that a reader copies works."""
    example = render().split("```yaml\n")[1].split("```")[0]
    assert load_text(example, "page", {}).pools["web"].backends[1].name == "192.168.0.12:80"
