"""What every benchmark needs, as far as it needs no other program."""

from bench import stage


def test_ports_are_different() -> None:
    """A thousand nodes need a thousand of them."""
    assert len(set(stage.free_ports(1000))) == 1000
