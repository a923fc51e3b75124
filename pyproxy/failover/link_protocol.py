"""
Who may speak on the link, and in which order: the handshake and the seal of every frame, without sockets.

Must not know what is said. Theory of operation. Each machine dials the other and speaks on the connection that it
dialled, so there are two streams, one for each direction, and nobody has to decide whose connection is kept::

    dialler                                   acceptor
       │ <──────────── hello: challenge ─────────── │  32 random bytes
       │ ── join: nonce, boot, proof ─────────────> │  proof over challenge, nonce and both roles' words
       │ <──────────── welcome: boot, proof ─────── │  proof over the same and the acceptor's boot id
       │ ── sealed: seq 0, body, mac ─────────────> │
       │ ── sealed: seq 1, … ─────────────────────> │

The dialler shows first that it has the key, so a stranger gets no proof out of an acceptor; it says nothing else
before the acceptor has shown the same. A proof names its role, so one can't be sent back as the other, and a dialler
refuses an acceptor with its own boot id: that would be itself, through somebody in between.

All frames are sealed with a key of this connection, made of the shared key, the challenge, the nonce and both boot
ids. So a frame of another connection, of an earlier life or of another machine has a wrong seal, and within one
connection the sequence must go up by exactly one: what was replayed, left out or reordered is refused, and the
connection with it. What is said is not secret: it is authentic.
"""

import hmac
import json
from typing import Any, Final

from pyproxy.errors import LinkRefused

VERSION: Final = 1
RANDOM_BYTES: Final = 32  # of a challenge and of a nonce
HANDSHAKE_BYTES: Final = 1024  # the longest frame of somebody who hasn't shown the key
MAX_BODY_BYTES: Final = 16 * 1024 * 1024

_HEX: Final = RANDOM_BYTES * 2
_MAX_BOOT: Final = 64

Message = dict[str, Any]


class Acceptor:
    """The end that was dialled: it listens. ``challenge`` are 32 random bytes that were never used before."""

    __slots__ = ("_boot", "_challenge", "_key", "_seal", "boot")

    def __init__(self, key: bytes, boot: str, challenge: bytes) -> None:
        self._key = key
        self._boot = boot
        self._challenge = challenge.hex()
        self._seal: Seal | None = None
        self.boot = ""  # the dialler's, once it is known

    def __repr__(self) -> str:
        return f"<Acceptor of {self.boot or 'somebody unknown'}>"

    @property
    def is_joined(self) -> bool:
        """Whether the dialler has shown that it has the key."""
        return self._seal is not None

    def hello(self) -> Message:
        """Give what is sent first."""
        return {"type": "hello", "version": VERSION, "challenge": self._challenge}

    def handle_join(self, message: Message) -> Message:
        """Check the dialler's proof, and return ours; raises ``LinkRefused``."""
        nonce, boot = _hex(message, "join", "nonce"), _boot(message)
        parts = (self._challenge, nonce, boot)
        if not _is_same(message.get("proof"), prove(self._key, "dialler", *parts)):
            raise LinkRefused("wrong key")
        if boot == self._boot:
            raise LinkRefused("it is this machine itself")
        self.boot = boot
        self._seal = Seal(self._key, *parts, self._boot)
        return {"type": "welcome", "boot": self._boot, "proof": prove(self._key, "acceptor", *parts, self._boot)}

    def open(self, message: Message) -> tuple[str, Any]:
        """Check a frame and return its kind and its body; raises ``LinkRefused``."""
        if self._seal is None:
            raise LinkRefused("a frame before the handshake")
        return self._seal.open(message)


class Dialler:
    """The end that dialled: it speaks. ``nonce`` are 32 random bytes that were never used before."""

    __slots__ = ("_boot", "_challenge", "_key", "_nonce", "_seal", "boot")

    def __init__(self, key: bytes, boot: str, nonce: bytes) -> None:
        self._key = key
        self._boot = boot
        self._nonce = nonce.hex()
        self._challenge = ""
        self._seal: Seal | None = None
        self.boot = ""  # the acceptor's, once it is known

    def __repr__(self) -> str:
        return f"<Dialler to {self.boot or 'somebody unknown'}>"

    @property
    def is_joined(self) -> bool:
        """Whether the acceptor has shown that it has the key."""
        return self._seal is not None

    def handle(self, message: Message) -> Message | None:
        """Take a step of the handshake, and return what is to be sent; raises ``LinkRefused``."""
        if self._seal is not None:
            raise LinkRefused("it speaks where it should listen")
        if not self._challenge:
            self._challenge = _hex(message, "hello", "challenge")
            if message.get("version") != VERSION:
                raise LinkRefused(f"it speaks another version of the link than {VERSION}")
            proof = prove(self._key, "dialler", self._challenge, self._nonce, self._boot)
            return {"type": "join", "nonce": self._nonce, "boot": self._boot, "proof": proof}
        _must_be(message, "welcome")
        boot = _boot(message)
        parts = (self._challenge, self._nonce, self._boot, boot)
        if not _is_same(message.get("proof"), prove(self._key, "acceptor", *parts)):
            raise LinkRefused("wrong key")
        if boot == self._boot:
            raise LinkRefused("it is this machine itself")
        self.boot = boot
        self._seal = Seal(self._key, *parts)
        return None

    def seal(self, kind: str, body: Any) -> Message:
        """Make a frame; ``ValueError`` if the body is too long, ``LinkRefused`` before the handshake is over."""
        if self._seal is None:
            raise LinkRefused("the other end hasn't shown that it has the key")
        return self._seal.close(kind, body)


class Seal:
    """The frames of one connection in one direction; each end counts for itself."""

    __slots__ = ("_key", "_next")

    def __init__(self, key: bytes, *parts: str) -> None:
        self._key = bytes.fromhex(prove(key, "frames", *parts))
        self._next = 0

    def __repr__(self) -> str:
        return f"<Seal at {self._next}>"

    def close(self, kind: str, body: Any) -> Message:
        """Make the next frame."""
        text = json.dumps([kind, body], separators=(",", ":"))
        if len(text) > MAX_BODY_BYTES:
            raise ValueError(f"{len(text)} bytes are too many for the link")
        number, self._next = self._next, self._next + 1
        return {"type": "sealed", "seq": number, "body": text, "mac": self._mac(number, text)}

    def open(self, message: Message) -> tuple[str, Any]:
        """Check the next frame, and return what is in it."""
        _must_be(message, "sealed")
        number, text = message.get("seq"), message.get("body")
        if not isinstance(text, str) or type(number) is not int or not 0 <= number < 1 << 63:
            raise LinkRefused("a frame without its parts")
        if not _is_same(message.get("mac"), self._mac(number, text)):
            raise LinkRefused("a frame with a wrong seal")
        if number != self._next:
            raise LinkRefused("a frame out of its order")
        self._next += 1
        try:
            kind, body = json.loads(text)
        except (ValueError, TypeError, RecursionError) as error:
            raise LinkRefused("a frame that can't be read") from error
        if not isinstance(kind, str):
            raise LinkRefused("a frame that can't be read")
        return kind, body

    def _mac(self, number: int, text: str) -> str:
        # surrogatepass: what JSON may hold and UTF-8 may not has to be refused by its seal, not by an exception.
        data = number.to_bytes(8, "big") + text.encode("utf-8", "surrogatepass")
        return hmac.digest(self._key, data, "sha256").hex()


def prove(key: bytes, role: str, *parts: str) -> str:
    """Give the proof of having the key; each part with its length before it, so that none can reach into the next."""
    data = b"".join(len(part).to_bytes(2, "big") + part.encode() for part in ("pyproxy link 1", role, *parts))
    return hmac.digest(key, data, "sha256").hex()


def _must_be(message: Message, kind: str) -> None:
    if message.get("type") != kind:
        raise LinkRefused(f"not the {kind} that was due")


def _hex(message: Message, kind: str, name: str) -> str:
    _must_be(message, kind)
    value = message.get(name)
    if not isinstance(value, str) or len(value) != _HEX or not set(value) <= set("0123456789abcdef"):
        raise LinkRefused(f"a {kind} without its {name}")
    return value


def _boot(message: Message) -> str:
    boot = message.get("boot")
    if not isinstance(boot, str) or not 1 <= len(boot) <= _MAX_BOOT or not boot.isascii() or not boot.isprintable():
        raise LinkRefused("no boot id")
    return boot


def _is_same(given: Any, expected: str) -> bool:
    """Compare without telling by the time it takes how much of it is right."""
    return isinstance(given, str) and given.isascii() and hmac.compare_digest(given, expected)
