"""
A leg: what the client's and the backend's connection have in common, which is flow control and a deadline.

Must not know HTTP. Theory of operation. Backpressure is a cross wire: when one leg can't write, the other
stops reading. A leg may be told to stop for several reasons at once; it reads again when none is left::

    client ──read──> [downstream] ──write──> [upstream] ──> backend
                        ^ pause_reading(WRITE_FULL)  │ pause_writing()
                        └────────────────────────────┘

A paused transport sees neither FIN nor RST, so whoever pauses a leg makes sure that a deadline runs on one
of the two. A deadline that expires while a leg can't write is believed only if nothing at all was taken since.
"""

import asyncio
import fcntl
import os
import select
import struct
import termios
from collections.abc import Iterator
from typing import Final, cast

FOREVER: Final = float("inf")
#: A body is in memory for at most this much a leg, and what one read brings (256 KB) on top.
WRITE_BUFFER_HIGH_BYTES: Final = 64 * 1024
WRITE_BUFFER_LOW_BYTES: Final = 16 * 1024
#: What a transport reads at once.
READ_BYTES: Final = 256 * 1024
#: So often at most is read from a connection that broke: more than a receive buffer holds.
LAST_READS_MAX: Final = 64

# Why a leg doesn't read: bits, and plain integers, because an IntFlag takes 400 ns for one "&".
WRITE_FULL: Final = 1  # the other leg's buffer is full
NOT_CONNECTED: Final = 2  # there is no other leg yet
PIPELINED: Final = 4  # what was read must wait for its turn
SPLICED: Final = 8  # its bytes go another way, see splice


class Leg:
    """
    One connection of the byte path; ``deadline`` is in monotonic seconds and watched by the sweeper.

    Its children are protocols in all but name: a class compiled by mypyc can't have asyncio.Protocol for a base,
    and uvloop asks for the methods only.
    """

    __slots__ = ("_unsent_bytes", "deadline", "paused_for", "transport", "write_paused")

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.deadline = FOREVER
        self.paused_for = 0  # reasons; 0 = the leg reads
        self.write_paused = False
        self._unsent_bytes = 0  # when the write deadline was set

    def take_transport(self, transport: asyncio.BaseTransport) -> asyncio.Transport:
        """Keep the transport; uvloop's have all methods of asyncio.Transport without being one."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(WRITE_BUFFER_HIGH_BYTES, WRITE_BUFFER_LOW_BYTES)
        return self.transport

    def pause_reading(self, reason: int) -> None:
        """Stop reading until this reason, too, is gone."""
        if not self.paused_for and self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()
        self.paused_for |= reason

    def resume_reading(self, reasons: int) -> None:
        """Take reasons away."""
        if self.paused_for:
            self.paused_for &= ~reasons
            if not self.paused_for and self.transport is not None and not self.transport.is_closing():
                self.transport.resume_reading()

    @property
    def is_open(self) -> bool:
        """Whether the connection is up and not being closed."""
        return self.transport is not None and not self.transport.is_closing()

    def await_drain(self, deadline: float) -> None:
        """Watch what is unsent: it must shrink before ``deadline``."""
        self._unsent_bytes = self._count_unsent()
        self.deadline = deadline

    def has_drained_some(self) -> bool:
        """Whether the other side took anything since ``await_drain``."""
        return self.transport is not None and self._count_unsent() < self._unsent_bytes

    @property
    def unsent_bytes(self) -> int:
        """What the transport has not handed to the kernel yet."""
        return self.transport.get_write_buffer_size() if self.transport is not None else 0

    @property
    def unread_bytes(self) -> int:
        """What has come and lies in the kernel, while the transport is there."""
        found = fcntl.ioctl(self.fileno(), termios.FIONREAD, b"\0\0\0\0") if self.transport is not None else b"\0\0\0\0"
        return int(struct.unpack("i", found)[0])

    def has_news(self) -> bool:
        """Whether bytes or the connection's end are in the kernel already, or it is closed."""
        if not self.is_open:
            return True
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN | select.POLLRDHUP)
        return bool(poll.poll(0))

    def read_unread(self) -> Iterator[bytes]:
        """
        Read from the kernel what came before the connection broke.

        For ``connection_lost`` after an error: it comes as soon as a write fails, while what the other side said before
        it closed may still lie here, where it stays even after a RST. The transport itself reads no more.
        """
        for _ in range(LAST_READS_MAX):
            try:
                data = os.read(self.fileno(), READ_BYTES)
            except OSError:
                return
            if not data:
                return
            yield data

    def fileno(self) -> int:
        """Give the socket's descriptor; the transport must be there."""
        assert self.transport is not None
        return int(self.transport.get_extra_info("socket").fileno())

    def _count_unsent(self) -> int:
        """Add up our buffer and the kernel's, which holds megabytes before ours even begins to fill."""
        if self.transport is None:
            return 0
        queued = struct.unpack("i", fcntl.ioctl(self.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))[0]
        return self.unsent_bytes + int(queued)
