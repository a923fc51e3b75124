"""Pins who is told to be at the ends of a connection."""

from pyproxy.proxy.ends import ends_of, write_proxy_header
from pyproxy.proxy.proxy_protocol import HeaderReader, ProxyHeader
from tests.fakes import FakeLoop, FakeTransport


def test_a_socket_tells_both_ends() -> None:
    """Address and port of either."""
    transport = FakeTransport(FakeLoop(), None, peer=("192.0.2.1", 50_000))
    ends = ends_of(transport, is_unix=False)
    assert (ends.source, ends.source_port) == ("192.0.2.1", 50_000)
    assert ends.destination_port == 80


def test_a_unix_socket_has_no_addresses() -> None:
    """It is called what nginx calls it, and a PROXY header says that nothing is known."""
    transport = FakeTransport(FakeLoop(), None, peer=("", 0))
    ends = ends_of(transport, is_unix=True)
    assert ends.source == "unix:"
    assert write_proxy_header("v1", ends) == b"PROXY UNKNOWN\r\n"


def test_both_versions_say_the_same() -> None:
    """What one end writes, another reads."""
    ends = ProxyHeader("192.0.2.1", 50_000, "192.0.2.9", 80)
    for version in ("v1", "v2"):
        found = HeaderReader().feed(write_proxy_header(version, ends))
        assert found is not None
        assert (found[1].source, found[1].source_port) == ("192.0.2.1", 50_000)
        assert (found[1].destination, found[1].destination_port) == ("192.0.2.9", 80)
