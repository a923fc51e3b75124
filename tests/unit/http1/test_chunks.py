"""Pins where a chunked body ends, however it is written and cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyproxy.http1.chunks import ChunkCounter
from tests.unit.http1.feeding import every_cut

FOLLOWING = b"1\r\n\r\n0\r\n\r\n"
BODIES = {
    "empty": b"0\r\n\r\n",
    "chunks that look like ends": b"5\r\n0\r\n\r\n\r\nb\r\nX: y\r\n\r\n0\r\n\r\n0\r\n\r\n",
    "extensions": b'2;a=b;c="0"\r\nhi\r\n00;d\r\n\r\n',
    "zeros in front": b"0" * 40 + b"a\r\n0123456789\r\n" + b"0" * 40 + b"\r\n\r\n",
    "trailers": b"1\r\na\r\n0\r\nX: y\r\nContent-Length: 3\r\n\r\n",
    "large digits": b"1A\r\n" + b"x" * 26 + b"\r\n01a\r\n" + b"y" * 26 + b"\r\n0\r\n\r\n",
}


def ends_at(segments: list[bytes]) -> int:
    """Give the end over all segments, -1 if there is none."""
    counter, before = ChunkCounter(), 0
    for segment in segments:
        end = counter.find_end(segment)
        if end >= 0:
            return before + end
        before += len(segment)
    return -1


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_the_end(body: bytes) -> None:
    """It is found at once, and not before it is there."""
    for segments in every_cut(body + FOLLOWING):
        assert ends_at(segments) == len(body), segments
    for size in range(len(body)):
        assert ends_at([body[:size]]) == -1


@given(
    chunks=st.lists(st.binary(min_size=1, max_size=40)),
    extension=st.sampled_from([b"", b";a=b", b";0"]),
    trailers=st.lists(st.sampled_from([b"A: b\r\n", b"0:\r\n"])),
    cuts=st.lists(st.integers(0, 300)),
)
def test_any_body(chunks: list[bytes], extension: bytes, trailers: list[bytes], cuts: list[int]) -> None:
    """Whatever is in the chunks, and wherever it is cut."""
    parts = [b"%x%b\r\n%b\r\n" % (len(chunk), extension, chunk) for chunk in chunks]
    body = b"".join([*parts, b"0", extension, b"\r\n", *trailers, b"\r\n"])
    raw = body + FOLLOWING
    places = [0, *sorted(cuts), len(raw)]
    assert ends_at([raw[begin:end] for begin, end in pairwise(places)]) == len(body)


def test_what_is_kept_of_a_line_is_bounded() -> None:
    """Of an extension that comes in pieces nothing is, nor of zeros."""
    for piece in (b"0" * 1000, b"5;" + b"a" * 1000, b"f" * 1000):
        counter = ChunkCounter()
        for _ in range(10):
            assert counter.find_end(piece) == -1
        assert len(counter._line) < 20
