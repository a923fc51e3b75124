"""Pins the PROXY protocol, both versions and both directions, on bytes built after HAProxy's proxy-protocol.txt."""

from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyproxy.errors import BadRequest
from pyproxy.proxy import proxy_protocol
from pyproxy.proxy.proxy_protocol import V1_MAX_BYTES, V2_MAX_BYTES, HeaderReader, ProxyHeader, write_v1, write_v2

SIGNATURE = b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a"
V6_ONES = b"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"

Fields = tuple[str, int, str, int]
NOTHING: Fields = ("", 0, "", 0)

ports = st.integers(0, 65535)
v4 = st.ip_addresses(v=4).map(str)
v6 = st.ip_addresses(v=6).filter(lambda address: IPv6Address(address).ipv4_mapped is None).map(str)


def read_header(data: bytes) -> tuple[int, ProxyHeader] | None:
    """Read a header that came at once: how many bytes it took, and what it says."""
    found = HeaderReader().feed(data)
    return None if found is None else (len(data) - len(found[0]), found[1])


def fields(header: ProxyHeader) -> Fields:
    """What a header says."""
    return header.source, header.source_port, header.destination, header.destination_port


def v2(command: int, family: int, block: bytes, length: int | None = None) -> bytes:
    """Write a header of version 2 by the specification, section 2.2, true or not."""
    size = len(block) if length is None else length
    return SIGNATURE + bytes([command, family]) + size.to_bytes(2, "big") + block


def tlv(kind: int, value: bytes) -> bytes:
    """Write a type-length-value."""
    return bytes([kind]) + len(value).to_bytes(2, "big") + value


V4_BLOCK = bytes([192, 0, 2, 1, 198, 51, 100, 2]) + b"\xdc\x04\x01\xbb"
V4_FIELDS: Fields = ("192.0.2.1", 56324, "198.51.100.2", 443)
V6_BLOCK = b"\x20\x01\x0d\xb8" + bytes(11) + b"\x01" + b"\xfd" + bytes(14) + b"\x02" + b"\x00\x01\xff\xff"
V6_FIELDS: Fields = ("2001:db8::1", 1, "fd00::2", 65535)
MAPPED = bytes(10) + b"\xff\xff"

GOLDEN = [
    pytest.param(b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", ("255.255.255.255", 65535) * 2, id="4"),
    pytest.param(b"PROXY TCP6 %b %b 65535 65535\r\n" % (V6_ONES, V6_ONES), (V6_ONES.decode(), 65535) * 2, id="6"),
    pytest.param(b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n", V4_FIELDS, id="an example"),
    pytest.param(b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", ("0.0.0.0", 0) * 2, id="zeros"),
    pytest.param(b"PROXY TCP6 2001:DB8:0::1 fd00::2 1 65535\r\n", V6_FIELDS, id="6, its short form"),
    pytest.param(b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:c633:6402 56324 443\r\n", V4_FIELDS, id="4 within 6"),
    pytest.param(b"PROXY UNKNOWN\r\n", NOTHING, id="unknown, short"),
    pytest.param(b"PROXY UNKNOWN %b %b 65535 65535\r\n" % (V6_ONES, V6_ONES), NOTHING, id="unknown, longest"),
    pytest.param(b"PROXY UNKNOWN \xff what\never\r!\r\n", NOTHING, id="unknown, ignored up to CRLF"),
    pytest.param(v2(0x21, 0x11, V4_BLOCK), V4_FIELDS, id="v2 TCP4"),
    pytest.param(v2(0x21, 0x21, V6_BLOCK), V6_FIELDS, id="v2 TCP6"),
    pytest.param(v2(0x21, 0x21, MAPPED + V4_BLOCK[:4] + MAPPED + V4_BLOCK[4:]), V4_FIELDS, id="v2 4 within 6"),
    pytest.param(v2(0x21, 0x11, V4_BLOCK + tlv(1, b"h2") + tlv(4, b"")), V4_FIELDS, id="v2 with TLVs"),
    pytest.param(v2(0x21, 0x11, V4_BLOCK + tlv(4, bytes(2033))), V4_FIELDS, id="v2 of 2048 bytes"),
    pytest.param(v2(0x20, 0x00, b""), NOTHING, id="v2 LOCAL"),
    pytest.param(v2(0x20, 0x11, V4_BLOCK), NOTHING, id="v2 LOCAL with addresses"),
    pytest.param(v2(0x20, 0xFF, b"\xff\xff"), NOTHING, id="v2 LOCAL, its family is ignored"),
    pytest.param(v2(0x21, 0x00, b""), NOTHING, id="v2 UNSPEC"),
    pytest.param(v2(0x21, 0x00, b"\xff\xff"), NOTHING, id="v2 UNSPEC with anything"),
    pytest.param(v2(0x21, 0x12, V4_BLOCK), NOTHING, id="v2 UDP4"),
    pytest.param(v2(0x21, 0x22, V6_BLOCK), NOTHING, id="v2 UDP6"),
    pytest.param(v2(0x21, 0x31, bytes(216)), NOTHING, id="v2 unix stream"),
    pytest.param(v2(0x21, 0x32, bytes(216) + tlv(4, b"x")), NOTHING, id="v2 unix datagram"),
]


@pytest.mark.parametrize(("data", "expected"), GOLDEN)
@pytest.mark.parametrize("rest", [b"", b"GET / HTTP/1.1\r\n", b"PROXY TCP4 "])
def test_golden_bytes(data: bytes, rest: bytes, expected: Fields) -> None:
    """What the specification shows and allows is read, and what comes behind it is left for HTTP."""
    found = read_header(data + rest)
    assert found is not None
    assert (found[0], fields(found[1])) == (len(data), expected)


@pytest.mark.parametrize(("data", "expected"), GOLDEN)
def test_every_split(data: bytes, expected: Fields) -> None:
    """A header may come in pieces of any size: until its last byte is there, more is wanted."""
    assert [read_header(data[:size]) for size in range(len(data))] == [None] * len(data)
    assert read_header(data) is not None


@pytest.mark.parametrize(("data", "expected"), GOLDEN)
def test_byte_by_byte(data: bytes, expected: Fields) -> None:
    """The header is there with its last byte, and nothing that came before it is lost."""
    reader = HeaderReader()
    found = [reader.feed(data[at : at + 1]) for at in range(len(data))]
    assert found[:-1] == [None] * (len(data) - 1)
    assert found[-1] is not None
    assert (found[-1][0], fields(found[-1][1])) == (b"", expected)


def test_a_dripped_header_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of its many fields costs one step, however it is cut: looking again would be 680 for every byte."""
    count = (V2_MAX_BYTES - len(V4_BLOCK)) // 3
    data = v2(0x21, 0x11, V4_BLOCK + tlv(0xEE, b"") * count)
    steps = 0

    class Counted(int):
        @classmethod
        def from_bytes(cls, *args: Any, **kwargs: Any) -> Any:
            nonlocal steps
            steps += 1
            return int.from_bytes(*args, **kwargs)

    monkeypatch.setattr(proxy_protocol, "int", Counted, raising=False)
    reader = HeaderReader()
    found = [reader.feed(data[at : at + 1]) for at in range(len(data))]
    assert found[-1] is not None
    assert steps == count + 1, "each field's length, and the header's"


def test_the_addresses_of_a_dripped_line_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is the dearest step of it."""
    read: list[str] = []

    def address(text: str) -> IPv4Address:
        read.append(text)
        return IPv4Address(text)

    monkeypatch.setattr(proxy_protocol, "IPv4Address", address)
    data = b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n"
    reader = HeaderReader()
    assert [reader.feed(data[at : at + 1]) for at in range(len(data))][-1] is not None
    assert read == ["192.0.2.1", "198.51.100.2"]


# What is malformed, and at which byte it shows: up to there more bytes might still have made it a header.
MALFORMED = [
    pytest.param(b"GET / HTTP/1.1\r\n\r\n", 1, id="HTTP"),
    pytest.param(b"POST / HTTP/1.1\r\n\r\n", 2, id="POST begins like it"),
    pytest.param(b"\x16\x03\x01\x02\x00", 1, id="TLS"),
    pytest.param(b"\r\nGET / HTTP/1.1\r\n\r\n", 3, id="an empty line"),
    pytest.param(b"proxy TCP4", 1, id="lower case"),
    pytest.param(b"PROXY  TCP4", 7, id="two blanks"),
    pytest.param(b"PROXY TCP5 ", 10, id="unknown protocol"),
    pytest.param(b"PROXY UDP4 1.2.3.4", 8, id="UDP4"),
    pytest.param(b"PROXY UNKNOWNX\r\n", 14, id="more than unknown"),
    pytest.param(b"PROXY TCP4\r\n", 11, id="nothing behind the protocol"),
    pytest.param(b"PROXY TCP4  1.2.3.4 ", 12, id="two blanks later"),
    pytest.param(b"PROXY TCP4 1.2.3 4.3.2.1 1 1\r\n", 17, id="three bytes"),
    pytest.param(b"PROXY TCP4 1.2.3.256 ", 21, id="a byte too large"),
    pytest.param(b"PROXY TCP4 1.2.3.04 4.3.2.1 1 1\r\n", 20, id="leading zero in an address"),
    pytest.param(b"PROXY TCP4 ::1 ::2 1 1\r\n", 15, id="6 in a 4"),
    pytest.param(b"PROXY TCP6 1.2.3.4 ", 19, id="4 in a 6"),
    pytest.param(b"PROXY TCP6 fe80::1%1 ", 19, id="zone"),
    pytest.param(b"PROXY TCP4 localhost", 12, id="name"),
    pytest.param(b"PROXY TCP4 1.2.3.4 4.3.2.1 01 1\r\n", 30, id="leading zero"),
    pytest.param(b"PROXY TCP4 1.2.3.4 4.3.2.1 +1 1\r\n", 28, id="plus sign"),
    pytest.param(b"PROXY TCP4 1.2.3.4 4.3.2.1 -1 1\r\n", 28, id="minus sign"),
    pytest.param(b"PROXY TCP4 1.2.3.4 4.3.2.1 65536 1\r\n", 33, id="port too large"),
    pytest.param(b"PROXY TCP4 1.2.3.4 4.3.2.1 1 1a\r\n", 33, id="hexadecimal port"),
    pytest.param(b"PROXY TCP4 1.2.3.4 4.3.2.1 1 \r\n", 31, id="no port"),
    pytest.param(b"PROXY TCP4 1.2.3.4 4.3.2.1 1\r\n", 30, id="a word missing"),
    pytest.param(b"PROXY TCP4 1.2.3.4 4.3.2.1 1 1 1\r\n", 31, id="a word too many"),
    pytest.param(b"PROXY TCP4 1.2.3.4 4.3.2.1 1 1 \r\n", 31, id="blank at the end"),
    pytest.param(b"PROXY TCP4 1.2.3.4\t4.3.2.1 1 1\r\n", 19, id="tabulator"),
    pytest.param(b"PROXY TCP4 1.2.3.4 4.3.2.1 1 1\nGET ", 31, id="LF alone"),
    pytest.param(b"PROXY TCP4 1.2.3.4 4.3.2.1 1 1\rGET ", 32, id="CR alone"),
    pytest.param(b"PROXY TCP6 %b %b 65535 65535     \r\n" % (V6_ONES, V6_ONES), 103, id="blanks at the end"),
    pytest.param(b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n", V1_MAX_BYTES, id="108 bytes"),
    pytest.param(b"PROXY UNKNOWN " + b"x" * 2000, V1_MAX_BYTES, id="no end"),
    pytest.param(SIGNATURE[:11] + b"\r", 12, id="v2 signature"),
    pytest.param(v2(0x11, 0x11, V4_BLOCK), 13, id="v2 version 1"),
    pytest.param(v2(0x31, 0x11, V4_BLOCK), 13, id="v2 version 3"),
    pytest.param(v2(0x22, 0x11, V4_BLOCK), 13, id="v2 command 2"),
    pytest.param(v2(0x21, 0x10, V4_BLOCK), 14, id="v2 unspecified transport"),
    pytest.param(v2(0x21, 0x13, V4_BLOCK), 14, id="v2 unknown transport"),
    pytest.param(v2(0x21, 0x01, V4_BLOCK), 14, id="v2 stream of no family"),
    pytest.param(v2(0x21, 0x41, V4_BLOCK), 14, id="v2 unknown family"),
    pytest.param(v2(0x21, 0x11, V4_BLOCK, 11), 16, id="v2 length below its addresses"),
    pytest.param(v2(0x21, 0x21, V4_BLOCK), 16, id="v2 TCP6 with addresses of TCP4"),
    pytest.param(v2(0x21, 0x31, bytes(215)), 16, id="v2 unix too short"),
    pytest.param(v2(0x20, 0x00, b"", V2_MAX_BYTES + 1), 16, id="v2 too long"),
    pytest.param(v2(0x21, 0x11, V4_BLOCK + tlv(4, bytes(2034))), 16, id="v2 too long with TLVs"),
    pytest.param(v2(0x21, 0x11, V4_BLOCK + b"\x04"), 16, id="v2 half a TLV"),
    pytest.param(v2(0x21, 0x11, V4_BLOCK + tlv(4, b"x") + b"\x04\x00"), 31, id="v2 half a TLV later"),
    pytest.param(v2(0x21, 0x11, V4_BLOCK + b"\x04\x00\x02x"), 31, id="v2 TLV beyond the end"),
]


@pytest.mark.parametrize(("data", "shows_at"), MALFORMED)
def test_malformed_as_soon_as_it_shows(data: bytes, shows_at: int) -> None:
    """Who connects with something else is told so at the first byte that can't be right, not after a timeout."""
    for size in range(shows_at):
        assert read_header(data[:size]) is None
    for size in range(shows_at, len(data) + 1):
        with pytest.raises(BadRequest, match="PROXY"):
            read_header(data[:size])
    reader = HeaderReader()
    for at in range(shows_at - 1):
        assert reader.feed(data[at : at + 1]) is None
    with pytest.raises(BadRequest, match="PROXY"):
        reader.feed(data[shows_at - 1 : shows_at])


def test_written_by_the_specification() -> None:
    """What backends get is the specification's, byte for byte."""
    assert write_v1(*V4_FIELDS) == b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n"
    assert write_v1(*V6_FIELDS) == b"PROXY TCP6 2001:db8::1 fd00::2 1 65535\r\n"
    assert write_v2(*V4_FIELDS) == v2(0x21, 0x11, V4_BLOCK)
    assert write_v2(*V6_FIELDS) == v2(0x21, 0x21, V6_BLOCK)


@pytest.mark.parametrize(
    ("source", "destination"),
    [("unix:", "192.0.2.1"), ("192.0.2.1", "unix:"), ("", ""), ("-", "-"), ("192.0.2.1", "::1"), ("::1", "192.0.2.1")],
)
def test_without_two_addresses_of_one_family_nothing_is_claimed(source: str, destination: str) -> None:
    """A client on a unix socket or of another family than its destination is UNKNOWN, in v2 of no family."""
    assert write_v1(source, 1, destination, 2) == b"PROXY UNKNOWN\r\n"
    assert write_v2(source, 1, destination, 2) == v2(0x20, 0x00, b"")


def test_zones_and_mapped_addresses_are_written_plainly() -> None:
    """A zone means nothing on another machine, and an IPv4 client is one on any socket."""
    assert write_v1("fe80::1%eth0", 1, "fe80::2%eth0", 2) == b"PROXY TCP6 fe80::1 fe80::2 1 2\r\n"
    assert write_v1("::ffff:192.0.2.1", 1, "198.51.100.2", 2) == b"PROXY TCP4 192.0.2.1 198.51.100.2 1 2\r\n"


@given(st.one_of(st.tuples(v4, ports, v4, ports), st.tuples(v6, ports, v6, ports)), st.binary(max_size=20))
def test_what_is_written_is_read(said: Fields, rest: bytes) -> None:
    """Both versions carry any two addresses of one family unchanged."""
    for data in (write_v1(*said), write_v2(*said)):
        found = read_header(data + rest)
        assert found is not None
        assert (found[0], fields(found[1])) == (len(data), said)


headers = st.one_of(
    st.builds(write_v1, v4, ports, v4, ports),
    st.builds(write_v1, v6, ports, v6, ports),
    st.builds(write_v2, v4, ports, v4, ports),
    st.builds(write_v2, v6, ports, v6, ports),
    st.builds(
        lambda block, fills: v2(0x21, 0x11, block + b"".join(fills)),
        st.binary(min_size=12, max_size=12),
        st.lists(st.builds(tlv, st.integers(0, 255), st.binary(max_size=30)), max_size=3),
    ),
)
changes = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 3), st.integers(0, 255)), max_size=4)


def mutated(data: bytes, edits: list[tuple[int, int, int]]) -> bytes:
    """Replace, remove, insert or cut off at places."""
    mutable = bytearray(data)
    for place, kind, byte in edits:
        at = place % (len(mutable) + 1)
        if kind == 0:
            mutable[at : at + 1] = bytes([byte])
        elif kind == 1:
            del mutable[at : at + 1]
        elif kind == 2:
            mutable[at:at] = bytes([byte])
        else:
            del mutable[at:]
    return bytes(mutable)


def _verdict(data: bytes) -> tuple[int, Fields] | str | None:
    try:
        found = read_header(data)
    except BadRequest:
        return "malformed"
    return None if found is None else (found[0], fields(found[1]))


@given(headers, changes)
def test_mutated_bytes(data: bytes, edits: list[tuple[int, int, int]]) -> None:
    """Whatever comes, it is a header with real addresses, malformed, or wants more; and no byte changes a verdict."""
    data = mutated(data, edits)
    verdicts = [_verdict(data[:size]) for size in range(len(data) + 1)]
    decided = [verdict for verdict in verdicts if verdict is not None]
    assert all(verdict == decided[0] for verdict in decided)
    assert verdicts[: len(verdicts) - len(decided)] == [None] * (len(verdicts) - len(decided))
    for verdict in decided[:1]:
        if isinstance(verdict, tuple):
            used, (source, source_port, destination, destination_port) = verdict
            assert 0 < used <= len(data)
            assert 0 <= source_port <= 65535 >= destination_port >= 0
            assert all(address == "" or _is_address(address) for address in (source, destination))
            assert (source == "") == (destination == "")


def _is_address(text: str) -> bool:
    return str(IPv6Address(text) if ":" in text else IPv4Address(text)) == text


@given(st.binary(max_size=40))
def test_no_bytes_at_all_are_too_strange(data: bytes) -> None:
    """Nothing but a header within the bytes, a wish for more or ``BadRequest`` comes out."""
    verdict = _verdict(data)
    assert verdict is None or isinstance(verdict, str) or verdict[0] <= len(data)


def test_a_wish_for_more_is_bounded() -> None:
    """However a sender goes on, it is never waited for more than the longest header."""
    assert read_header(b"PROXY UNKNOWN " + b"x" * (V1_MAX_BYTES - 15)) is None
    longest = v2(0x21, 0x00, b"", V2_MAX_BYTES)
    assert read_header(longest + bytes(V2_MAX_BYTES - 1)) is None
    found = read_header(longest + bytes(V2_MAX_BYTES + 5))
    assert found is not None
    assert found[0] == 16 + V2_MAX_BYTES


def test_a_header_tells_what_it_says() -> None:
    """For logs and failing tests."""
    assert repr(ProxyHeader("::1", 2, "::3", 4)) == "<ProxyHeader ::1 2 to ::3 4>"
