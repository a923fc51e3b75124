"""Pins who may join the link, and that a frame counts once, in its place, on its connection."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyproxy.errors import LinkRefused
from pyproxy.failover import link_protocol
from pyproxy.failover.link_protocol import Acceptor, Dialler, prove

KEY = b"0123456789abcdef"
HERE, THERE = "boot-here", "boot-there"


def pair(
    key: bytes = KEY,
    dialler_key: bytes = KEY,
    *,
    challenge: bytes = b"c" * 32,
    boot: str = HERE,
    accept_as: str = THERE,
) -> tuple[Dialler, Acceptor]:
    """Two ends that have not met."""
    return Dialler(dialler_key, boot, b"n" * 32), Acceptor(KEY, accept_as, challenge)


def joined(**more: Any) -> tuple[Dialler, Acceptor]:
    """Two ends after the handshake."""
    dialler, acceptor = pair(**more)
    join = dialler.handle(acceptor.hello())
    assert join is not None
    assert not dialler.is_joined
    assert dialler.handle(acceptor.handle_join(join)) is None
    return dialler, acceptor


def test_two_with_the_same_key_understand_each_other() -> None:
    """Both know the other's boot id, and frames come out as they went in."""
    dialler, acceptor = joined()
    assert (dialler.is_joined, acceptor.is_joined) == (True, True)
    assert (dialler.boot, acceptor.boot) == (THERE, HERE)
    for kind, body in (("state", {"a": [1, None, "ü"]}), ("overrides", [])):
        assert acceptor.open(dialler.seal(kind, body)) == (kind, body)


def test_a_dialler_without_the_key_gets_no_proof() -> None:
    """An acceptor is no oracle: it answers only who has shown the key."""
    dialler, acceptor = pair(dialler_key=b"another key 0123")
    join = dialler.handle(acceptor.hello())
    assert join is not None
    with pytest.raises(LinkRefused, match="wrong key"):
        acceptor.handle_join(join)
    assert not acceptor.is_joined


def test_nothing_is_said_to_an_acceptor_without_the_key() -> None:
    """It may guess a proof, or send the dialler's own back."""
    dialler, acceptor = pair()
    join = dialler.handle(acceptor.hello())
    assert join is not None
    for proof in (join["proof"], "00" * 32, "", None, 7, "é" * 64):
        fresh, _ = pair()
        fresh.handle(acceptor.hello())
        with pytest.raises(LinkRefused, match="wrong key"):
            fresh.handle({"type": "welcome", "boot": THERE, "proof": proof})
        with pytest.raises(LinkRefused, match="hasn't shown"):
            fresh.seal("state", {})


def test_a_machine_does_not_talk_to_itself() -> None:
    """Somebody in between may join what it dialled with what it listens on: both ends see their own boot id."""
    dialler, acceptor = pair(accept_as=HERE)
    join = dialler.handle(acceptor.hello())
    assert join is not None
    with pytest.raises(LinkRefused, match="itself"):
        acceptor.handle_join(join)
    parts = (("c" * 32).encode().hex(), ("n" * 32).encode().hex(), HERE, HERE)
    with pytest.raises(LinkRefused, match="itself"):
        dialler.handle({"type": "welcome", "boot": HERE, "proof": prove(KEY, "acceptor", *parts)})


@pytest.mark.parametrize("change", [{"seq": 1}, {"body": '["state",{"a":2}]'}, {"mac": "0" * 64}, {"mac": "é" * 64}])
def test_a_tampered_frame_is_refused(change: dict[str, Any]) -> None:
    """Whatever part of it was changed."""
    dialler, acceptor = joined()
    with pytest.raises(LinkRefused, match="wrong seal"):
        acceptor.open(dialler.seal("state", {"a": 1}) | change)


def test_a_frame_counts_once_and_in_its_place() -> None:
    """Replayed, left out and reordered frames have a good seal and are refused."""
    dialler, acceptor = joined()
    frames = [dialler.seal("state", {"n": number}) for number in range(3)]
    acceptor.open(frames[0])
    for frame in (frames[0], frames[2]):
        with pytest.raises(LinkRefused, match="order"):
            acceptor.open(frame)
    assert acceptor.open(frames[1]) == ("state", {"n": 1})


@pytest.mark.parametrize("more", [{"challenge": b"d" * 32}, {"boot": "boot-later"}, {"accept_as": "boot-later"}])
def test_a_frame_of_another_connection_or_life_is_refused(more: dict[str, Any]) -> None:
    """Another challenge or another boot of either machine makes another seal."""
    before, _ = joined()
    _, acceptor = joined(**more)
    with pytest.raises(LinkRefused, match="wrong seal"):
        acceptor.open(before.seal("state", {}))


def test_a_recorded_handshake_opens_nothing() -> None:
    """Who replays a whole conversation meets another challenge."""
    dialler, acceptor = pair()
    join = dialler.handle(acceptor.hello())
    assert join is not None
    _, later = pair(challenge=b"d" * 32)
    with pytest.raises(LinkRefused, match="wrong key"):
        later.handle_join(join)


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"type": "welcome"},
        {"type": "hello"},
        {"type": "hello", "challenge": 7},
        {"type": "hello", "challenge": "zz" * 32, "version": 1},
        {"type": "hello", "challenge": "00" * 32, "version": 2},
    ],
)
def test_a_hello_that_is_none_is_refused(message: dict[str, Any]) -> None:
    """And so is one of another version."""
    with pytest.raises(LinkRefused):
        pair()[0].handle(message)


@pytest.mark.parametrize("boot", [None, "", "x" * 65, "a\nb", "é", 7])
def test_a_join_without_a_proper_boot_id_is_refused(boot: Any) -> None:
    """It goes into logs."""
    with pytest.raises(LinkRefused, match="boot"):
        pair()[1].handle_join({"type": "join", "nonce": "00" * 32, "boot": boot, "proof": ""})


def test_who_only_listens_must_not_speak() -> None:
    """Each direction has a connection of its own."""
    dialler, acceptor = joined()
    with pytest.raises(LinkRefused, match="listen"):
        dialler.handle(acceptor.hello())


def test_a_frame_before_the_handshake_is_refused() -> None:
    """However it is sealed."""
    dialler, _ = joined()
    with pytest.raises(LinkRefused, match="before"):
        pair()[1].open(dialler.seal("state", {}))


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner, max_size=5)))
def test_whatever_comes_is_refused_and_raises_nothing_else(value: Any) -> None:
    """A stranger's frame ends his connection only."""
    for message in (
        {"type": "join", "nonce": value},
        {"type": "join", "nonce": "00" * 32, "boot": "b", "proof": value},
    ):
        with pytest.raises(LinkRefused):
            pair()[1].handle_join(message)
    for message in ({"type": "sealed", "seq": value}, {"type": "sealed", "seq": 0, "body": "\ud800", "mac": value}):
        with pytest.raises(LinkRefused):
            joined()[1].open(message)


def test_a_body_that_is_too_long_is_the_callers_error() -> None:
    """And costs no number: the next frame is in order."""
    dialler, acceptor = joined()
    with pytest.raises(ValueError, match="too many"):
        dialler.seal("overrides", "x" * link_protocol.MAX_BODY_BYTES)
    assert acceptor.open(dialler.seal("state", {})) == ("state", {})
