"""Addresses, networks, and the hosts and paths of routes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from pyproxy.config import addresses
from pyproxy.config.addresses import Address, parse_address, parse_backend, route_host, route_path

BIND = TypeAdapter[Address](addresses.Bind)
BACKEND = TypeAdapter[Address](addresses.BackendAddress)
SERVER = TypeAdapter[Address](addresses.NameServer)
NETWORK = TypeAdapter[str](addresses.NetworkText)


@pytest.mark.parametrize(
    ("value", "address", "shown"),
    [
        ("10.0.0.1:80", Address("10.0.0.1", 80), "10.0.0.1:80"),
        ("[::1]:80", Address("::1", 80), "[::1]:80"),
        ("[2001:DB8:0::1]:8080", Address("2001:db8::1", 8080), "[2001:db8::1]:8080"),
        ("App.Internal.:80", Address("app.internal", 80), "app.internal:80"),
        ("unix:/run/a.sock", Address(path="/run/a.sock"), "unix:/run/a.sock"),
    ],
)
def test_addresses(value: str, address: Address, shown: str) -> None:
    """One address has one form, however it is written."""
    assert parse_address(value) == address
    assert str(address) == shown


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (80, "must be host:port"),
        (None, "must be host:port"),
        ("10.0.0.1", "must be host:port"),
        (":80", "must be host:port"),
        ("10.0.0.1:", "must be host:port"),
        ("10.0.0.1:http", "must end in a port"),
        ("10.0.0.1:65536", "must end in a port"),
        ("10.0.0.1:-1", "must end in a port"),
        ("::1:80", "must have brackets"),
        ("10.0.0.1:80:90", "must have one colon"),
        ("10.0.0.1:80,10.0.0.2:80", "must be host:port and nothing else"),
        ("/run/app.sock", "did you mean unix: before the path"),
        ("[10.0.0.1]:80", "must have an IPv6 address"),
        ("[fe80::1%eth0]:80", "must have an IPv6 address without a zone"),
        ("10.0.0.300:80", "valid host name"),
        ("a..b:80", "valid host name"),
        ("-a:80", "valid host name"),
        ("*:80", "valid host name"),
        ("app:0", "must have a port from 1"),
        ("bücher.example:80", "must be written in ASCII"),
        ("unix:run/a.sock", "must name a socket by its full path"),
        ("unix:", "must name a socket by its full path"),
        ("unix:/" + "x" * 107, "at most 107 bytes"),
    ],
)
def test_bad_addresses(value: Any, problem: str) -> None:
    """The text says what is missing."""
    with pytest.raises(ValueError, match=problem):
        parse_address(value)


def test_only_an_ip_address_can_be_bound() -> None:
    """No name is resolved at start; port 0 takes a free port."""
    assert BIND.validate_python("127.0.0.1:0") == Address("127.0.0.1", 0)
    with pytest.raises(ValidationError, match="must be an IP address and port, such as"):
        BIND.validate_python("localhost:80")


def test_port_zero_cannot_be_dialled() -> None:
    """A backend needs a port of its own."""
    assert BACKEND.validate_python("app:1") == Address("app", 1)
    for value in ("10.0.0.1:0", "app:0"):
        with pytest.raises(ValidationError, match="must have a port from 1 to 65535"):
            BACKEND.validate_python(value)


def test_a_name_without_a_port_stands_for_its_srv_records() -> None:
    """It is shown as it was written; an IP address has no such records."""
    address = BACKEND.validate_python("_HTTP._tcp.App.internal.")
    assert (address, str(address), address.has_port) == (
        Address("_http._tcp.app.internal"),
        "_http._tcp.app.internal",
        False,
    )
    with pytest.raises(ValidationError, match="must be host:port"):
        BACKEND.validate_python("10.0.0.1")
    with pytest.raises(ValidationError, match="valid host name"):
        BACKEND.validate_python("a b")
    with pytest.raises(ValidationError, match="did you mean unix: before the path"):
        BACKEND.validate_python("/run/app.sock")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("10.0.0.2", "10.0.0.2:53"),
        ("10.0.0.2:5353", "10.0.0.2:5353"),
        ("FD00::2", "[fd00::2]:53"),
        ("[fd00::2]:54", "[fd00::2]:54"),
    ],
)
def test_name_servers(value: str, shown: str) -> None:
    """The port of DNS is the default."""
    assert str(SERVER.validate_python(value)) == shown


@pytest.mark.parametrize("value", ["ns.example.com", "ns:53", "10.0.0.2:0", "fe80::1%eth0", "unix:/a", "", 53, None])
def test_bad_name_servers(value: Any) -> None:
    """Who resolves names can't be named by one."""
    with pytest.raises(ValidationError, match="must be an IP address"):
        SERVER.validate_python(value)


@pytest.mark.parametrize(
    ("value", "loopback"),
    [("127.0.0.2:1", True), ("[::1]:1", True), ("0.0.0.0:1", False), ("[::]:1", False), ("app:1", False)],
)
def test_loopback(value: str, *, loopback: bool) -> None:
    """All of 127/8 is loopback, all addresses together are not."""
    assert parse_address(value).is_loopback is loopback


@pytest.mark.parametrize(
    ("host", "normal"),
    [
        ("WWW.Example.COM", "www.example.com"),
        ("example.com:8080", "example.com"),
        ("example.com.", "example.com"),
        ("*.Example.com", "*.example.com"),
        ("[::1]:80", "[::1]"),
        ("10.0.0.1", "10.0.0.1"),
        ("my_host", "my_host"),
    ],
)
def test_route_hosts(host: str, normal: str) -> None:
    """Port and case are ignored."""
    assert route_host(host) == normal


@pytest.mark.parametrize("host", ["*", "www.*.com", "*example.com", "a b", "a/b", "http://a", "a:b", "[x]"])
def test_bad_route_hosts(host: str) -> None:
    """A host that no request can name is refused."""
    with pytest.raises(ValueError, match="must "):
        route_host(host)


@pytest.mark.parametrize("path", ["/", "/api", "/api/", "/a b/ü", "/100%", "/.well-known"])
def test_route_paths(path: str) -> None:
    """Paths stay as they are written."""
    assert route_path(path) == path


@pytest.mark.parametrize("path", ["api", "/a?b", "/a#b", "/a%20b", "/a/../b", "/.", "/a/..", "//", "/a//b", "/a\\b"])
def test_bad_route_paths(path: str) -> None:
    """A path that can't match what requests are matched as is refused."""
    with pytest.raises(ValueError, match="must "):
        route_path(path)


def test_what_nginx_writes_for_any_host_or_path_is_told_what_to_write() -> None:
    """A star alone, and a dot in front."""
    with pytest.raises(ValueError, match="leave path out for any"):
        route_path("*")
    with pytest.raises(ValueError, match=r"must not begin with a dot; \*\.example\.com takes what is below"):
        route_host(".example.com")


@pytest.mark.parametrize(
    ("value", "normal"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.1.2.3", "10.1.2.3/32"),
        ("FD00::/8", "fd00::/8"),
        ("::1", "::1/128"),
        ("unix:", "unix:"),
    ],
)
def test_networks(value: str, normal: str) -> None:
    """A single address is a network of one; all who come in through unix sockets are one, too."""
    assert NETWORK.validate_python(value) == normal


def test_networks_with_host_bits_are_refused_with_the_right_one() -> None:
    """10.0.0.1/8 trusts sixteen million addresses; whoever writes it should see that."""
    with pytest.raises(ValidationError, match=r"did you mean 10\.0\.0\.0/8"):
        NETWORK.validate_python("10.0.0.1/8")


@given(st.text())
def test_any_text_is_an_address_or_a_value_error(value: str) -> None:
    """No text makes a parser fail in another way, and what is shown can be read again."""
    for parse in (route_host, route_path):
        try:
            assert parse(parse(value)) == parse(value)
        except ValueError:
            continue
    for read in (parse_address, parse_backend):
        try:
            address = read(value)
        except ValueError:
            continue
        assert read(str(address)) == address
