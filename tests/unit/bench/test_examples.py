"""The examples in the docstrings of the benchmark are true."""

import doctest
import importlib
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[3] / "bench"
NAMES = [path.stem for path in sorted(BENCH.glob("*.py")) if ">>> " in path.read_text()]


@pytest.mark.parametrize("name", NAMES)
def test_examples(name: str) -> None:
    """They aren't collected by themselves: scripts are not among the tests."""
    assert doctest.testmod(importlib.import_module(f"bench.{name}")).failed == 0
