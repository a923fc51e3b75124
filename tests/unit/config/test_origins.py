"""Pins where values are said to stand."""

from pyproxy.config.origins import find_origins
from pyproxy.config.source import read_source
from pyproxy.config.tree import parse_tree


def test_each_value_has_its_line() -> None:
    """Also what is empty, used twice, or partly from the environment; what has something inside has no place."""
    text = 'a: &x [1, {b: "${N}-${N}-${M:-2}"}]\nc:\n  d: *x\ne: {}\nf:\n'
    root = parse_tree(text)
    assert root is not None
    assert find_origins(read_source(root, {"N": "1"}), "some/where/lb.yml") == {
        ("a", 0): "lb.yml:1",
        ("a", 1, "b"): "lb.yml:1, environment N, environment M",
        ("c", "d", 0): "lb.yml:1",
        ("c", "d", 1, "b"): "lb.yml:1, environment N, environment M",
        ("e",): "lb.yml:4",
        ("f",): "lb.yml:5",
    }
