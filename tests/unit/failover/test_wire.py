"""Pins what is a frame: whole, byte by byte, too long, or none."""

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyproxy.channel import MAX_FRAME_BYTES as CHANNEL_FRAME_BYTES
from pyproxy.errors import FrameInvalid
from pyproxy.failover import wire
from pyproxy.failover.wire import FrameReader, decode, encode

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(), lambda inner: st.lists(inner, max_size=3)
)
messages = st.dictionaries(st.text(max_size=10), json_values, max_size=4)


def test_doctest() -> None:
    """The example in the documentation is true."""
    assert doctest.testmod(wire).failed == 0


def test_both_ends_of_the_socketpair_allow_the_same_length() -> None:
    """What the supervisor may send must not end the speaker, nor the other way round."""
    assert wire.MAX_FRAME_BYTES == CHANNEL_FRAME_BYTES


@given(st.lists(messages, max_size=4), st.integers(1, 7))
def test_frames_arrive_however_they_are_cut(sent: list[dict[str, object]], step: int) -> None:
    """Whole or in pieces, the same messages come out, and nothing is left behind them."""
    data = b"".join(map(encode, sent))
    reader, found = FrameReader(), []
    for start in range(0, len(data), step):
        reader.feed(data[start : start + step])
        while (message := reader.take()) is not None:
            found.append(message)
    assert found == sent
    assert reader.is_empty


def test_a_frame_that_would_be_too_long_is_refused_by_its_length() -> None:
    """Before any of its body is kept."""
    reader = FrameReader(max_bytes=8)
    reader.feed(encode({"a": 1}) + encode({"a": 123}))
    assert reader.take() == {"a": 1}
    with pytest.raises(FrameInvalid, match="9 bytes"):
        reader.take()


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"1", b"\xff", b"[" * 100_000])
def test_what_is_no_json_object_is_no_frame(body: bytes) -> None:
    """Nor does a body that is nested too deeply break the reader."""
    with pytest.raises(FrameInvalid):
        decode(body)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800", {1, 2}])
def test_what_is_not_json_is_not_sent(value: object) -> None:
    """The supervisor's stricter reader would take the whole line for broken."""
    with pytest.raises((ValueError, TypeError)):
        encode({"value": value})
