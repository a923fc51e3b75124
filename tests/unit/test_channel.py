"""Pins the framing between supervisor and worker, over a socket pair."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
import pytest

from pyproxy.channel import MAX_FDS, MAX_FRAME_BYTES, Channel


class End:
    """One channel end that keeps what it is told."""

    def __init__(self, sock: socket.socket) -> None:
        self.messages: list[tuple[dict[str, Any], list[int]]] = []
        self.closes = 0
        self.changed = asyncio.Event()
        self.on_message: Callable[[dict[str, Any], list[int]], None] = lambda _message, _fds: None
        self.channel = Channel(sock, self._message, self._close)

    def _message(self, message: dict[str, Any], fds: list[int]) -> None:
        self.messages.append((message, fds))
        self.changed.set()
        self.on_message(message, fds)

    def _close(self) -> None:
        self.closes += 1
        self.changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition that a message or the close brings about."""
        while not condition():
            self.changed.clear()
            await self.changed.wait()


class Pair:
    """A channel end and the raw socket it talks to."""

    def __init__(self) -> None:
        mine, self.raw = socket.socketpair()
        self.raw.setblocking(False)
        self.end = End(mine)


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    """A channel end with a raw socket on the other side."""
    pair = Pair()
    yield pair
    pair.end.channel.close()
    pair.raw.close()


def frame(message: object) -> bytes:
    """Frame a message as the protocol says."""
    body = orjson.dumps(message)
    return len(body).to_bytes(4, "big") + body


def pipe_text(fd: int) -> bytes:
    """Read and close the reading end of a pipe whose writer is closed."""
    with os.fdopen(fd, "rb") as file:
        return file.read()


def filled_pipe(text: bytes) -> int:
    """Make a pipe that holds ``text`` and return its reading end."""
    reader, writer = os.pipe()
    os.write(writer, text)
    os.close(writer)
    return reader


async def test_messages_arrive_in_order_with_their_own_descriptors(pair: Pair) -> None:
    """Of several messages sent at once each gets its own descriptors, first come first served."""
    other = End(pair.raw)
    for index, count in enumerate([2, 0, 1]):
        fds = [filled_pipe(f"{index}.{number}".encode()) for number in range(count)]
        pair.end.channel.send({"n": index}, fds)
        for fd in fds:
            os.close(fd)
    await other.until(lambda: len(other.messages) == 3)
    assert [message["n"] for message, _ in other.messages] == [0, 1, 2]
    texts = [[pipe_text(fd) for fd in fds] for _, fds in other.messages]
    assert texts == [[b"0.0", b"0.1"], [], [b"2.0"]]
    assert [message.get("fds") for message, _ in other.messages] == [2, None, 1]
    other.channel.close()


async def test_byte_by_byte_with_descriptors(pair: Pair) -> None:
    """Frames that come one byte at a time, the descriptors with the first byte of theirs, are the same."""
    stream = [frame({"n": 1, "fds": 1}), frame({"n": 2}), frame({"n": 3, "fds": 2})]
    for data, texts in zip(stream, ([b"one"], [], [b"three", b"four"]), strict=True):
        fds = [filled_pipe(text) for text in texts]
        loop = asyncio.get_running_loop()
        socket.send_fds(pair.raw, [data[:1]], fds)
        for fd in fds:
            os.close(fd)
        for offset in range(1, len(data)):
            await loop.sock_sendall(pair.raw, data[offset : offset + 1])
            await asyncio.sleep(0)
    await pair.end.until(lambda: len(pair.end.messages) == 3)
    assert [message["n"] for message, _ in pair.end.messages] == [1, 2, 3]
    assert [[pipe_text(fd) for fd in fds] for _, fds in pair.end.messages] == [
        [b"one"],
        [],
        [b"three", b"four"],
    ]


async def test_received_descriptors_are_not_inherited(pair: Pair) -> None:
    """A descriptor that came over the channel is closed in programs started later."""
    fd = filled_pipe(b"")
    socket.send_fds(pair.raw, [frame({"fds": 1})], [fd])
    await pair.end.until(lambda: bool(pair.end.messages))
    (received,) = pair.end.messages[0][1]
    assert not os.get_inheritable(received)
    os.close(received)
    os.close(fd)


async def test_a_full_socket_queues_and_keeps_order(pair: Pair) -> None:
    """Sending never blocks: what doesn't fit waits, with its own descriptors, and goes out in order."""
    count, filler = 40, "x" * 100_000
    for index in range(count):
        fd = filled_pipe(str(index).encode())
        pair.end.channel.send({"n": index, "filler": filler}, [fd])
        os.close(fd)  # the channel has its own duplicate
    other = End(pair.raw)
    await other.until(lambda: len(other.messages) == count)
    assert [message["n"] for message, _ in other.messages] == list(range(count))
    assert [pipe_text(fds[0]) for _, fds in other.messages] == [str(index).encode() for index in range(count)]
    other.channel.close()


def open_fds() -> int:
    """How many descriptors this process has."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are all that is wanted


async def test_closing_leaves_no_descriptor_behind() -> None:
    """Queued duplicates and unclaimed arrivals are closed with the channel."""
    before = open_fds()
    pair = Pair()
    fd = filled_pipe(b"")
    for _ in range(20):
        pair.end.channel.send({"filler": "x" * 100_000}, [fd])
    socket.send_fds(pair.raw, [frame({"n": 1, "fds": 1})[:-1]], [fd])
    while not pair.end.channel._buffer:
        await asyncio.sleep(0)
    pair.end.channel.close()
    pair.end.channel.close()
    pair.raw.close()
    os.close(fd)
    assert open_fds() == before
    assert pair.end.closes == 0


async def test_end_of_the_other_side_is_told_once(pair: Pair) -> None:
    """What was said before the end is handled, then on_close is called, once."""
    pair.raw.sendall(frame({"n": 1}))
    pair.raw.close()
    await pair.end.until(lambda: pair.end.closes > 0)
    assert [message["n"] for message, _ in pair.end.messages] == [1]
    pair.end.channel.send({"n": 2})
    pair.end.channel.close()
    assert pair.end.closes == 1


async def test_sending_to_one_who_left_still_hears_its_last_words(pair: Pair) -> None:
    """A failed send doesn't lose the message that the other end wrote before it went."""
    pair.raw.sendall(frame({"type": "failed"}))
    pair.raw.close()
    pair.end.channel.send({"n": 1})
    await pair.end.until(lambda: pair.end.closes > 0)
    assert pair.end.messages == [({"type": "failed"}, [])]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param((MAX_FRAME_BYTES + 1).to_bytes(4, "big"), id="too long"),
        pytest.param(b"\x00\x00\x00\x03{]}", id="no JSON"),
        pytest.param(frame([1]), id="no object"),
        pytest.param(frame({"fds": 1}), id="descriptor missing"),
        pytest.param(frame({"fds": -1}), id="negative"),
        pytest.param(frame({"fds": "1"}), id="not a number"),
        pytest.param(b"\x00\x00\x00\x00", id="empty"),
    ],
)
async def test_what_is_not_a_frame_breaks_the_channel(
    pair: Pair, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """An unreadable frame is logged and ends the channel; nothing after it is believed."""
    pair.raw.sendall(data + frame({"n": 1}))
    await pair.end.until(lambda: pair.end.closes > 0)
    assert pair.end.messages == []
    assert "is broken" in caplog.text


async def test_an_end_within_a_frame_is_logged(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    """A sender that died halfway through a frame leaves a line in the log."""
    pair.raw.sendall(frame({"n": 1})[:-1])
    pair.raw.close()
    await pair.end.until(lambda: pair.end.closes > 0)
    assert "left within a frame" in caplog.text


async def test_a_handler_that_fails_does_not_stop_the_next(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    """An exception in the receiver is logged with the message's type, the next message is handled."""

    def fail(message: dict[str, Any], _fds: list[int]) -> None:
        if message["type"] == "bad":
            raise RuntimeError("no")

    pair.end.on_message = fail
    pair.raw.sendall(frame({"type": "bad"}) + frame({"type": "good"}))
    await pair.end.until(lambda: len(pair.end.messages) == 2)
    assert "'bad' was not handled" in caplog.text


async def test_closing_inside_the_handler_stops_there(pair: Pair) -> None:
    """A receiver that closes the channel doesn't get the frames that had already come."""
    pair.end.on_message = lambda _message, _fds: pair.end.channel.close()
    pair.raw.sendall(frame({"n": 1}) + frame({"n": 2}))
    await pair.end.until(lambda: bool(pair.end.messages))
    assert len(pair.end.messages) == 1
    assert pair.end.closes == 0


async def test_what_does_not_fit_is_refused(pair: Pair) -> None:
    """Too many descriptors are the caller's error, before anything is sent."""
    with pytest.raises(ValueError, match="descriptors"):
        pair.end.channel.send({}, [0] * (MAX_FDS + 1))
    with pytest.raises(BlockingIOError):
        pair.raw.recv(1)


async def test_repr_tells_state(pair: Pair) -> None:
    """The one-line form says whether the channel is open and what waits."""
    assert "0 frames waiting" in repr(pair.end.channel)
    pair.end.channel.close()
    assert repr(pair.end.channel) == "<Channel closed 0 frames waiting>"
