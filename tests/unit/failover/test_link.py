"""Pins what the link says of itself; its life on sockets is for integration tests."""

import errno
from types import SimpleNamespace

import pytest

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
    assert link.facts() == LinkFacts(
        "none", None, is_speaking=False, boot="", refused={}, fault="nothing was heard yet"
    )
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


def test_why_there_is_no_connection_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """In the system's words, with where to; an unreachable machine fills no log for days."""
    link = make_link([0.0])
    for _ in range(100):
        link.fail(OSError(errno.EHOSTUNREACH, "Connect call failed ('10.1.0.2', 1)"))
        link.fail(ConnectionError("closed by the other end"))
        link.fail(TimeoutError())
    assert [record.getMessage() for record in caplog.records] == [
        "link: can't connect to 10.1.0.2 port 1: No route to host; it is tried again",
        "link: can't connect to 10.1.0.2 port 1: closed by the other end; it is tried again",
        "link: can't connect to 10.1.0.2 port 1: no answer within 2 s; it is tried again",
    ]


def test_what_a_stranger_sends_makes_no_reason_of_its_own() -> None:
    """Or the counts, which the API shows, would grow for as long as somebody sends other nonsense."""
    link = make_link([0.0])
    for size in range(100):
        link.refuse("no handshake", "10.1.0.2", f"a frame of {size} bytes")
    assert link.refused == {"no handshake": 100}


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, ""), "the program of the peer is not running"),
        (OSError(errno.EHOSTUNREACH, ""), "no connection (No route to host)"),
        (TimeoutError(), "no answer within"),
    ],
)
def test_a_dead_link_says_why(error: OSError, why: str) -> None:
    """A crash, a cut cable and a wrong key are told apart, in the takeover's reason too."""
    link = make_link([0.0])
    link.fail(error)
    assert why in link.fault
    link.refuse("wrong key", "10.1.0.9")
    assert why in link.fault, "a stranger's key is nobody's fault"
    link.refuse("wrong key", "10.1.0.2")
    assert link.fault == "refused: wrong key"
