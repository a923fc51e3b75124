"""Pins which addresses belong to a set of networks."""

from ipaddress import IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyproxy.routing import networks
from pyproxy.routing.networks import Networks, parse_ip

SOME = Networks(["10.0.0.0/8", "fd00::/8", "192.0.2.7/32", "::ffff:198.51.100.0/120", "unix:"])


@pytest.mark.parametrize(
    ("address", "belongs"),
    [
        ("10.1.2.3", True), ("11.0.0.1", False), ("192.0.2.7", True), ("192.0.2.8", False), ("fd00::1", True),
        ("fe80::1", False), ("::ffff:10.0.0.1", True), ("::ffff:11.0.0.1", False), ("fd00::1%eth0", True), ("", False),
        ("-", False), ("10.0.0.1x", False), ("::10.0.0.1", False), ("198.51.100.9", True), ("198.51.101.9", False),
        ("::ffff:198.51.100.9", True), ("unix:", True), ("unix", False), ("unix:/run/x", False),
    ],
)  # fmt: skip
def test_member(address: str, belongs: bool) -> None:
    """By the network, an IPv4 address in IPv6 clothes as what it is; a unix socket only by its own word."""
    assert (address in SOME) is belongs
    assert (address in SOME) is belongs, "and the second time, from memory"


def test_nobody_belongs_to_nothing() -> None:
    """Without networks no address is a member, nor who comes through a unix socket."""
    assert "127.0.0.1" not in Networks([])
    assert "unix:" not in Networks([])
    assert "unix:" not in Networks(["0.0.0.0/0", "::/0"])
    assert "10.0.0.1" not in Networks(["unix:"])


def test_everything() -> None:
    """A network of length 0 has every address of its version, and only those."""
    assert "203.0.113.9" in Networks(["0.0.0.0/0"])
    assert "::1" not in Networks(["0.0.0.0/0"])
    assert "::1" in Networks(["::/0"])
    assert "203.0.113.9" not in Networks(["::/0"])


V4 = st.integers(0x0A000000, 0x0A0000FF)
V6 = st.integers(0xFD << 120, (0xFD << 120) + 255)


@given(st.lists(st.tuples(V4, st.integers(20, 32)), max_size=5), st.lists(st.tuples(V6, st.integers(110, 128))), V4, V6)
def test_agrees_with_the_standard_library(
    v4: list[tuple[int, int]], v6: list[tuple[int, int]], one: int, other: int
) -> None:
    """The lookup by length says what asking network after network says."""
    listed = [ip_network((number, length), strict=False) for number, length in [*v4, *v6]]
    some = Networks(map(str, listed))
    for address in (ip_address(one), IPv6Address(other)):
        assert (str(address) in some) is any(address in network for network in listed)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many addresses are seen, memory stays small, and every answer right; garbage isn't remembered at all."""
    parsed: dict[str, tuple[int, int]] = {}
    monkeypatch.setattr(networks, "_parsed", parsed)
    some = Networks(["10.0.0.0/16"])
    for number in range(10_000):
        assert f"10.0.{number % 256}.{number // 256}" in some
        assert len(parsed) <= 4096
    parsed.clear()
    assert "x" * 20 not in some
    assert "fe80::1%" + "x" * 100 not in some
    assert not parsed


def test_parse_ip() -> None:
    """A zone says nothing of the address itself."""
    assert parse_ip("fe80::1%eth0") == parse_ip("fe80::1")
    assert parse_ip("10.0.0.256") is None
