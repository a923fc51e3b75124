"""
Which addresses belong to a set of networks, at a cost that doesn't grow with the number of networks.

Theory of operation. Networks of one length are a set of numbers: an address belongs to one of them if what it
begins with is in the set. So there is one lookup for each length that occurs, at most 33 for IPv4. Must not know
what the networks are for.
"""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

#: The address of who came through a unix socket, as nginx writes it.
UNIX: Final = "unix:"

#: How far reading a text costs 2 µs, and clients come again: those seen last are remembered, all forgotten at once.
_PARSED_MAX: Final = 4096
_TEXT_LENGTH_MAX: Final = 45  # of an address without a zone
_parsed: dict[str, tuple[int, int]] = {}

_MAPPED: Final = 96  # so many bits come before the IPv4 address in ::ffff:0:0/96


def parse_ip(text: str) -> tuple[int, int] | None:
    """
    Read an address as version and number, None if it is none; an IPv4-mapped one is the IPv4 address.

    >>> parse_ip("0.0.0.1"), parse_ip("::ffff:0.0.0.1"), parse_ip("::1"), parse_ip("x")
    ((4, 1), (4, 1), (6, 1), None)
    """
    known = _parsed.get(text)
    if known is None:
        try:
            known = _number(ip_address(text))
        except ValueError:
            return None
        if len(text) <= _TEXT_LENGTH_MAX:
            if len(_parsed) >= _PARSED_MAX:
                _parsed.clear()
            _parsed[text] = known
    return known


def _number(address: IPv4Address | IPv6Address) -> tuple[int, int]:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    if mapped is not None:
        address = mapped
    return address.version, int(address)


def _plain(network: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    """Give a network of IPv4-mapped addresses as what it is."""
    if network.version == 6 and network.prefixlen >= _MAPPED:
        version, number = _number(network.network_address)
        if version == 4:
            return IPv4Network((number, network.prefixlen - _MAPPED))
    return network


class Networks:
    """
    A set of networks; ``"unix:"`` may be one of them, for everyone who comes through a unix socket.

    >>> "10.1.2.3" in Networks(["10.0.0.0/8"]), "unix:" in Networks(["10.0.0.0/8"])
    (True, False)
    """

    __slots__ = ("_has_unix", "_v4", "_v6")

    def __init__(self, texts: Iterable[str]) -> None:
        self._has_unix = False
        self._v4: dict[int, set[int]] = {}  # the numbers by how many bits of an address are left out
        self._v6: dict[int, set[int]] = {}
        for text in texts:
            if text == UNIX:
                self._has_unix = True
            else:
                self._add(_plain(ip_network(text)))

    def _add(self, network: IPv4Network | IPv6Network) -> None:
        shift = network.max_prefixlen - network.prefixlen
        numbers = self._v4 if network.version == 4 else self._v6
        numbers.setdefault(shift, set()).add(int(network.network_address) >> shift)

    def __contains__(self, address: str) -> bool:
        if address == UNIX:
            return self._has_unix
        if not self._v4 and not self._v6:
            return False
        parsed = parse_ip(address)
        if parsed is None:
            return False
        version, number = parsed
        for shift, numbers in (self._v4 if version == 4 else self._v6).items():  # noqa: SIM110 (no generator a request)
            if number >> shift in numbers:
                return True
        return False
