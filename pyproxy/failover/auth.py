"""
The signature of an advert: a trailer of 28 bytes, as in draft-cassen-vrrp-auth-hmac and keepalived 2.4.2 and later.

Must not know the rest of an advert, nor read any clock: the wall clock's time is an argument, and this is the only
use that the failover module makes of it.

Theory of operation
===================
::

    type 1 | key id | reserved 2 | seconds 4 | 1/65536 s 2 | counter 2 | HMAC-SHA256, the first 16 bytes

The MAC covers a header that is only thought (family, version, vrid, source), the advert with zeros for its checksum,
and the trailer with zeros for the MAC. The destination isn't in, so that all unicast peers may get the same one.

Seconds, fraction and counter together are one **sequence** of 64 bits. A sender takes the clock or, if that hasn't
moved on, the last one plus one. A receiver wants each one to be later than the last one from the same source, by
serial number arithmetic (RFC 1982). With ``replay: time`` it also wants it to be within a window around its own
clock, so that what was recorded before a restart of the receiver is worth nothing a few seconds later.

A clock that was set back would leave a sender with sequences in the future that nobody takes. With ``time`` it
therefore starts again from its clock once it is ahead by more than the window, and a receiver forgets a mark that
is outside of the window.
"""

import hmac
from dataclasses import dataclass
from struct import Struct

TRAILER_BYTES = 28
MAC_BYTES = 16
TYPE = 1

_PREFIX = Struct("!BBHQ")
_SECOND = 1 << 32
_ALL = 1 << 64
_MAX_SOURCES = 64


@dataclass(frozen=True, slots=True)
class Trailer:
    """A signature as it came."""

    key_id: int
    reserved: int
    sequence: int
    mac: bytes

    @property
    def prefix(self) -> bytes:
        """The bytes in front of the MAC."""
        return _PREFIX.pack(TYPE, self.key_id, self.reserved, self.sequence)


@dataclass(frozen=True, slots=True)
class Signed:
    """What a signature is about besides the advert's own bytes."""

    family: int
    version: int
    vrid: int
    source: bytes  # packed

    def mac(self, key: bytes, message: bytes, prefix: bytes) -> bytes:
        """Make the MAC of a message whose checksum is zero."""
        header = bytes((self.family, self.version, self.vrid, 0)) + self.source.ljust(16, b"\0")
        return hmac.digest(key, header + message + prefix + bytes(MAC_BYTES), "sha256")[:MAC_BYTES]


def read_trailer(data: bytes) -> Trailer | None:
    """Read the 28 bytes behind an advert; None if they are no signature."""
    kind, key_id, reserved, sequence = _PREFIX.unpack_from(data)
    return Trailer(key_id, reserved, sequence, data[_PREFIX.size :]) if kind == TYPE else None


def make_trailer(signed: Signed, message: bytes, key_id: int, key: bytes, sequence: int) -> bytes:
    """Make the trailer of a message whose checksum is zero."""
    prefix = _PREFIX.pack(TYPE, key_id, 0, sequence)
    return prefix + signed.mac(key, message, prefix)


def is_genuine(signed: Signed, message: bytes, trailer: Trailer, key: bytes) -> bool:
    """Whether a trailer is that of the message, whose checksum is zero."""
    return hmac.compare_digest(trailer.mac, signed.mac(key, message, trailer.prefix))


def clock_sequence(wall: float) -> int:
    """
    Give the sequence of a moment, in seconds since 1970.

    >>> hex(clock_sequence(1.5))
    '0x180000000'
    """
    return (int(wall * 65536) << 16) % _ALL


def is_later(sequence: int, than: int) -> bool:
    """Whether one sequence comes after another, also where the count begins anew."""
    return 0 < (sequence - than) % _ALL < _ALL // 2


def age(sequence: int, wall: float) -> float:
    """How many seconds before ``wall`` a sequence was made; negative if its clock is ahead."""
    difference = (clock_sequence(wall) - sequence) % _ALL
    return (difference - _ALL if difference >= _ALL // 2 else difference) / _SECOND


class Sequencer:
    """Numbers the adverts that we sign; ``window`` in seconds, None with ``replay: monotonic``."""

    def __init__(self, window: float | None) -> None:
        self._window = window
        self._last: int | None = None

    def __repr__(self) -> str:
        return f"<Sequencer {self._last}>"

    def next(self, wall: float) -> int:
        """Give the number of the next advert."""
        clock = clock_sequence(wall)
        is_stranded = self._last is not None and self._window is not None and -age(self._last, wall) > self._window
        if self._last is None or is_stranded or is_later(clock, self._last):
            self._last = clock
        else:
            self._last = (self._last + 1) % _ALL
        return self._last


class Replays:
    """The last sequence from each source; only what was found genuine may come here."""

    def __init__(self, window: float | None) -> None:
        self._window = window
        self._marks: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<Replays of {len(self._marks)} sources>"

    def is_stale(self, sequence: int, wall: float) -> bool:
        """Whether a sequence is too far from our clock, either way; never with ``replay: monotonic``."""
        return self._window is not None and abs(age(sequence, wall)) > self._window

    def admit(self, source: str, sequence: int, wall: float) -> bool:
        """Take a sequence if it is later than the last one from there; return whether it was taken."""
        mark = self._marks.pop(source, None)
        if mark is not None and not self.is_stale(mark, wall) and not is_later(sequence, mark):
            self._marks[source] = mark
            return False
        self._marks[source] = sequence
        if len(self._marks) > _MAX_SOURCES:
            del self._marks[next(iter(self._marks))]  # the one that was silent for longest
        return True
