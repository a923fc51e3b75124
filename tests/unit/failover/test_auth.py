"""Signatures of adverts."""

import pytest

from pyproxy.failover.auth import (
    Replays,
    Sequencer,
    Signed,
    Trailer,
    age,
    clock_sequence,
    is_genuine,
    is_later,
    make_trailer,
    read_trailer,
)
from pyproxy.failover.packet import packed

KEY = bytes(range(32))
# The examples of draft-cassen-vrrp-auth-hmac; the checksum reads as zero.
V4 = Signed(4, 3, 51, packed("198.51.100.10"))
V4_MESSAGE = bytes.fromhex("3133c80100640000c0000264")
V4_TRAILER = bytes.fromhex("010100006800000080000000 1b84bc4e8e43892dc6d98448f8ee2265")
V6 = Signed(6, 3, 51, packed("fe80::10"))
V6_MESSAGE = bytes.fromhex("3133c80100640000") + packed("fe80::100")
V6_TRAILER = bytes.fromhex("010100006800000080000000 c8c56146ebfd66ee10ec4d8186461b78")
SEQUENCE = 0x6800000080000000
EXAMPLES = [(V4, V4_MESSAGE, V4_TRAILER), (V6, V6_MESSAGE, V6_TRAILER)]


def read(data: bytes) -> Trailer:
    """Read a trailer that is one."""
    trailer = read_trailer(data)
    assert trailer is not None
    return trailer


@pytest.mark.parametrize(("signed", "message", "expected"), EXAMPLES)
def test_the_examples_of_the_draft(signed: Signed, message: bytes, expected: bytes) -> None:
    """Signing makes the draft's bytes, and verifying takes them."""
    assert make_trailer(signed, message, 1, KEY, SEQUENCE) == expected
    assert is_genuine(signed, message, read(expected), KEY)


@pytest.mark.parametrize(("signed", "message", "expected"), EXAMPLES)
def test_every_bit_counts(signed: Signed, message: bytes, expected: bytes) -> None:
    """Changing any bit of the message or of the trailer, the key, the source or the VRID breaks the signature."""
    trailer = read(expected)
    for at in range(len(message) * 8):
        other = bytearray(message)
        other[at // 8] ^= 1 << at % 8
        assert not is_genuine(signed, bytes(other), trailer, KEY)
    for at in range(8, len(expected) * 8):  # the first byte makes it a trailer at all
        changed = bytearray(expected)
        changed[at // 8] ^= 1 << at % 8
        assert not is_genuine(signed, message, read(bytes(changed)), KEY)
    assert not is_genuine(signed, message, trailer, KEY[:-1])
    assert not is_genuine(Signed(signed.family, 3, 52, signed.source), message, trailer, KEY)
    assert not is_genuine(Signed(signed.family, 3, 51, packed("10.0.0.1")), message, trailer, KEY)


def test_what_does_not_begin_like_a_trailer_is_none() -> None:
    """Its first byte is its type."""
    assert read_trailer(b"\2" + V4_TRAILER[1:]) is None


def test_a_sequence_is_the_clock() -> None:
    """Seconds, then parts of 65,536, then a counter."""
    assert clock_sequence(0x68000000 + 0.5) == SEQUENCE
    assert age(SEQUENCE, 0x68000000 + 3.5) == 3.0
    assert age(SEQUENCE, 0x68000000 - 1.5) == -2.0


def test_later_holds_across_the_end_of_the_count() -> None:
    """The seconds overflow in 2106 (RFC 1982)."""
    assert is_later(5, 2**64 - 5)
    assert not is_later(2**64 - 5, 5)
    assert not is_later(7, 7)


@pytest.mark.parametrize("window", [5.0, None])
def test_numbers_grow_though_the_clock_stands_still_or_goes_back(window: float | None) -> None:
    """Each receiver wants a later one than before."""
    sequencer = Sequencer(window)
    numbers = [sequencer.next(wall) for wall in (100.0, 100.0, 100.0, 99.0, 100.5, 101.0)]
    assert numbers == sorted(set(numbers))
    assert numbers[0] == clock_sequence(100.0)
    assert numbers[-1] == clock_sequence(101.0)


def test_a_clock_that_was_set_back_far_starts_the_numbers_again() -> None:
    """Receivers that look at the time would take none of ours for hours."""
    sequencer = Sequencer(5.0)
    sequencer.next(1000.0)
    assert sequencer.next(994.0) == clock_sequence(994.0)


def test_a_clock_that_was_set_back_far_changes_nothing_in_monotonic_mode() -> None:
    """Growth is all that receivers go by there."""
    sequencer = Sequencer(None)
    first = sequencer.next(1000.0)
    assert is_later(sequencer.next(100.0), first)


def test_a_packet_counts_once() -> None:
    """What was recorded on the wire is worth nothing; each source has its own numbers."""
    replays = Replays(5.0)
    number = clock_sequence(100.0)
    assert replays.admit("a", number, 100.0)
    assert not replays.admit("a", number, 100.0)
    assert not replays.admit("a", number - 1, 100.0)
    assert replays.admit("b", number - 1, 100.0)
    assert replays.admit("a", number + 1, 100.0)


def test_a_mark_outside_of_the_window_is_forgotten_in_time_mode_only() -> None:
    """So a sender whose clock was put right is heard again, while a recording is stale by then."""
    ahead = clock_sequence(200.0)
    for window, taken in ((5.0, True), (None, False)):
        replays = Replays(window)
        assert replays.admit("a", ahead, 200.0)
        assert replays.admit("a", clock_sequence(100.0), 100.0) is taken


def test_staleness_is_by_the_window_either_way() -> None:
    """A clock that is ahead is as wrong as one that is behind; monotonic mode doesn't ask."""
    number = clock_sequence(100.0)
    assert [Replays(5.0).is_stale(number, wall) for wall in (94.0, 95.0, 105.0, 106.0)] == [True, False, False, True]
    assert not Replays(None).is_stale(number, 10_000.0)


def test_the_sources_that_are_remembered_are_bounded() -> None:
    """The one that was silent for longest is forgotten first."""
    replays = Replays(None)
    for number in range(64):
        replays.admit(f"s{number}", 10, 0.0)
    replays.admit("s0", 11, 0.0)
    replays.admit("new", 10, 0.0)
    assert not replays.admit("s0", 11, 0.0)
    assert replays.admit("s1", 10, 0.0)
