"""Pins what the link says of itself; its life on sockets is for integration tests."""

from types import SimpleNamespace

from pyproxy.failover.link import Link, LinkFacts


def make_link(clock: list[float]) -> Link:
    """A link that has not begun."""
    settings = SimpleNamespace(
        bind=SimpleNamespace(host="10.1.0.1", port=1), peer=SimpleNamespace(host="10.1.0.2", port=1),
        interval=0.25, dead_after=4,
    )  # fmt: skip
    return Link(settings, b"k" * 16, "boot", lambda _state: None, lambda _kind, _body: None, now=lambda: clock[0])


def test_a_link_that_heard_nothing_is_neither_up_nor_dead() -> None:
    """Nobody may conclude anything from it."""
    link = make_link([0.0])
    assert link.facts() == LinkFacts("none", None, is_speaking=False, boot="", refused={})
    assert (link.is_alive, link.is_speaking) == (False, False)
    assert not link.send("overrides", [])
    assert link.facts().to_plain()["state"] == "none"


def test_one_line_for_each_kind_of_refusal(caplog: object) -> None:
    """A stranger who knocks a thousand times fills no disk; all are counted, and after a minute told again."""
    clock = [1000.0]
    link = make_link(clock)
    for _ in range(1000):
        link.refuse("wrong key", "10.1.0.9")
        link.refuse("no boot id", "10.1.0.9")
    assert len(caplog.records) == 2  # type: ignore[attr-defined]
    clock[0] += 60.0
    link.refuse("wrong key", "10.1.0.9")
    assert "1001 so far" in caplog.text  # type: ignore[attr-defined]
    assert link.refused == {"wrong key": 1001, "no boot id": 1000}
