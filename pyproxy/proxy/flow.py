"""
A leg: what the client's and the backend's connection have in common, which is flow control and a deadline.

Must not know HTTP. Theory of operation. Backpressure is a cross wire: when one leg can't write, the other
stops reading. A leg may be told to stop for several reasons at once; it reads again when none is left::

    client ──read──> [downstream] ──write──> [upstream] ──> backend
                        ^ pause_reading(WRITE_FULL)  │ pause_writing()
                        └────────────────────────────┘

A paused transport sees neither FIN nor RST, so whoever pauses a leg makes sure that a deadline runs on one
of the two. A deadline that expires while a leg can't write is believed only if the buffer hasn't shrunk.
"""

import asyncio
from enum import IntFlag
from typing import Final, cast

FOREVER: Final = float("inf")
#: A body is in memory for at most this much a leg, and what one read brings (256 KB) on top.
WRITE_BUFFER_HIGH_BYTES: Final = 64 * 1024
WRITE_BUFFER_LOW_BYTES: Final = 16 * 1024


class Pause(IntFlag):
    """Why a leg doesn't read."""

    NONE = 0
    WRITE_FULL = 1  # the other leg's buffer is full
    NOT_CONNECTED = 2  # there is no other leg yet
    PIPELINED = 4  # what was read must wait for its turn


class Leg(asyncio.Protocol):
    """One connection of the byte path; ``deadline`` is in monotonic seconds and watched by the sweeper."""

    __slots__ = ("_paused", "_unsent_bytes", "deadline", "transport", "write_paused")

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.deadline = FOREVER
        self._paused = Pause.NONE
        self.write_paused = False
        self._unsent_bytes = 0  # when the write deadline was set

    def take_transport(self, transport: asyncio.BaseTransport) -> asyncio.Transport:
        """Keep the transport; uvloop's have all methods of asyncio.Transport without being one."""
        self.transport = cast(asyncio.Transport, transport)
        return self.transport

    def pause_reading(self, reason: Pause) -> None:
        """Stop reading until this reason, too, is gone."""
        if not self._paused and self.is_open:
            self.transport.pause_reading()  # type: ignore[union-attr]
        self._paused |= reason

    def resume_reading(self, reason: Pause) -> None:
        """Take one reason away."""
        if self._paused:
            self._paused &= ~reason
            if not self._paused and self.is_open:
                self.transport.resume_reading()  # type: ignore[union-attr]

    @property
    def is_reading(self) -> bool:
        """Whether nothing keeps this leg from reading."""
        return not self._paused

    @property
    def is_open(self) -> bool:
        """Whether the connection is up and not being closed."""
        return self.transport is not None and not self.transport.is_closing()

    def await_drain(self, deadline: float) -> None:
        """Watch the write buffer: it must shrink before ``deadline``."""
        self._unsent_bytes = self.transport.get_write_buffer_size() if self.transport else 0
        self.deadline = deadline

    def has_drained_some(self) -> bool:
        """Whether the write buffer shrank since ``await_drain``."""
        return self.transport is not None and self.transport.get_write_buffer_size() < self._unsent_bytes

    def on_deadline(self, now: float) -> None:
        """Act on an expired deadline; the sweeper has made sure that the socket was looked at before."""
        raise NotImplementedError
