"""
The addresses of lb.yml: what can be bound, dialled or trusted, and which hosts and paths a route takes.

Must not resolve or open anything: texts in, values out.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface, ip_network
from typing import Annotated, Any

from pyproxy.config.runtime import join_address
from pyproxy.config.values import Scalar, parse_text, text

UNIX_SENDERS = "unix:"  # stands among networks for whoever comes in through a unix socket

_PORT = re.compile(r"[0-9]{1,5}")
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)(.*)", re.DOTALL)
_PLAIN_AUTHORITY = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_WITH_PORT = re.compile(r":[0-9]{1,5}$")
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
_DNS_PORT = 53
_MAX_UNIX_PATH_BYTES = 107  # sun_path, less its final NUL


@dataclass(frozen=True, slots=True)
class Address:
    """Host and port, or the path of a unix socket; an IP literal is in its short form, without brackets."""

    host: str = ""
    port: int = 0
    path: str = ""

    @property
    def is_unix(self) -> bool:
        """Whether it is the path of a unix socket."""
        return bool(self.path)

    @property
    def is_ip(self) -> bool:
        """Whether nothing needs to be resolved to use it."""
        return not self.path and is_ip(self.host)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it over IP."""
        return self.is_ip and ip_address(self.host).is_loopback

    @property
    def has_port(self) -> bool:
        """Whether it can be used as it is; a name without a port stands for its SRV records."""
        return bool(self.port) or self.is_unix or self.is_ip

    def __str__(self) -> str:
        if not self.has_port:
            return self.host
        return f"unix:{self.path}" if self.path else join_address(self.host, self.port)


def is_ip(host: str) -> bool:
    """Tell an IP literal (without brackets) from a name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def parse_address(value: Any) -> Address:
    """
    Read ``host:port``, ``[v6]:port`` or ``unix:/path``.

    >>> parse_address("[0:0::1]:80")
    Address(host='::1', port=80, path='')
    """
    plain = parse_text(value) if isinstance(value, str) else ""
    if plain.startswith("unix:"):
        return Address(path=_unix_path(plain.removeprefix("unix:")))
    if match := _URL.fullmatch(plain):
        raise ValueError(_instead_of_url(match))
    if plain.startswith("/"):
        raise ValueError("must be host:port, [v6]:port or unix:/path; did you mean unix: before the path?")
    host, _, port = plain.rpartition(":")
    if not host or not port:
        raise ValueError("must be host:port, [v6]:port or unix:/path")
    if " " in plain or "," in plain or port.endswith((";", "/")):
        raise ValueError("must be host:port and nothing else; weight, backup and all else are keys of their own")
    if not _PORT.fullmatch(port) or int(port) > 65535:
        raise ValueError("must end in a port up to 65535")
    address = Address(_host(host), int(port))
    if not address.has_port:
        raise ValueError("must have a port from 1 to 65535")
    return address


def _instead_of_url(match: re.Match[str]) -> str:
    """Tell who wrote a URL what an address is."""
    scheme, authority, path = match[1].lower(), match[2], match[3]
    port = {"https": ":443", "wss": ":443"}.get(scheme, ":80") if not _WITH_PORT.search(authority) else ""
    text = "must be host:port, not a URL"
    if _PLAIN_AUTHORITY.fullmatch(authority):  # what stands before an @ may be a password
        text += f": write {authority}{port}"
    if scheme in ("https", "wss"):
        text += "; TLS to the backends is the pool's tls, which is not available yet in this version"
    if path.strip("/"):
        text += "; the backend is asked for the path that the client asked for"
    return text


def _unix_path(path: str) -> str:
    if not path.startswith("/") or path.endswith("/"):
        raise ValueError("must name a socket by its full path, such as unix:/run/app.sock")
    if len(path.encode()) > _MAX_UNIX_PATH_BYTES:
        raise ValueError(f"must have a socket path of at most {_MAX_UNIX_PATH_BYTES} bytes")
    return path


def _host(host: str) -> str:
    """Give an IP literal its short form without brackets, a name its lower case."""
    if host.startswith("[") and host.endswith("]"):
        inner = host[1:-1]
        if ":" in inner and "%" not in inner and is_ip(inner):
            return str(ip_address(inner))
        raise ValueError("must have an IPv6 address without a zone between the brackets")
    if ":" in host:
        is_bare = is_ip(host)
        wanted = "brackets around an IPv6 address, such as [::1]:80" if is_bare else "one colon, before the port"
        raise ValueError(f"must have {wanted}")
    return host_name(host)


def host_name(host: str) -> str:
    """Check an IPv4 literal or a DNS name; a name comes back in lower case without its final dot."""
    if is_ip(host):
        return host
    name = host.removesuffix(".").lower()
    labels = name.split(".")
    if not name.isascii():
        raise ValueError("must be written in ASCII; an international name begins with xn--")
    if len(name) > 253 or not all(map(_LABEL.fullmatch, labels)) or labels[-1].isdigit():
        raise ValueError("must have a valid host name or IP address")
    return name


def _bind(value: Any) -> Address:
    wanted = "must be an IP address and port, such as 0.0.0.0:80 or [::]:80 for all of them, or unix:/path"
    port = str(value).removeprefix("*").removeprefix(":")
    if not isinstance(value, bool) and _PORT.fullmatch(port):
        raise ValueError(f"{wanted}; did you mean 0.0.0.0:{port}?")
    address = parse_address(value)
    if not address.is_unix and not address.is_ip:
        raise ValueError(wanted)
    return address


def _dialled(value: Any) -> Address:
    address = parse_address(value)
    if not address.is_unix and address.port == 0:
        raise ValueError("must have a port from 1 to 65535")
    return address


def parse_backend(value: Any) -> Address:
    """
    Read the address of a backend: one to dial, or a name without a port, whose SRV records have the ports.

    >>> parse_backend("app:80"), parse_backend("_http._tcp.app")
    (Address(host='app', port=80, path=''), Address(host='_http._tcp.app', port=0, path=''))
    """
    if isinstance(value, str) and value and ":" not in value and not value.startswith("/") and not is_ip(value):
        return Address(host_name(parse_text(value)))
    return _dialled(value)


def _name_server(value: Any) -> Address:
    if isinstance(value, str) and is_ip(value) and "%" not in value:
        return Address(str(ip_address(value)), _DNS_PORT)
    try:
        return _endpoint(value)
    except ValueError:
        raise ValueError("must be an IP address, or an IP address and port, such as 10.0.0.2 or [fd00::2]:53") from None


def _endpoint(value: Any) -> Address:
    address = _dialled(value)
    if not address.is_ip:
        raise ValueError("must be an IP address and port")
    return address


def _witness(value: Any) -> Address:
    address = _dialled(value)
    if address.is_unix:
        raise ValueError("must be host:port")
    return address


def _network(value: str) -> str:
    if value == UNIX_SENDERS:
        return value
    try:
        network = ip_network(value, strict=False)
    except ValueError:
        raise ValueError("must be an address or network such as 10.0.0.0/8 or fd00::/8") from None
    if ip_address(value.partition("/")[0]) != network.network_address:
        raise ValueError(f"must be a network; did you mean {network}?")
    return str(network)


def _ip(value: str) -> str:
    if not is_ip(value) or "%" in value:
        raise ValueError("must be an IP address")
    return str(ip_address(value))


def _interface(value: str) -> str:
    try:
        return str(ip_interface(value))
    except ValueError:
        raise ValueError("must be an address with its prefix length, such as 192.168.0.10/32") from None


def route_host(host: str) -> str:
    """
    Normalise the host of a route: lower case, no port, a wildcard only as the first label.

    >>> route_host("WWW.Example.com:8080"), route_host("*.example.com"), route_host("[0::1]:80")
    ('www.example.com', '*.example.com', '[::1]')
    """
    if "://" in host or host in ("*", "_") or host.startswith("~"):
        raise ValueError("must be a host name such as www.example.com or *.example.com; leave host out for any")
    if host.startswith("."):
        raise ValueError(
            "must not begin with a dot; *.example.com takes what is below, another route example.com itself"
        )
    bare, colon, port = host.rpartition(":")
    if not colon or host.endswith("]"):
        bare = host
    elif not _PORT.fullmatch(port):
        raise ValueError("must be a host name such as www.example.com or *.example.com")
    if bare.startswith("["):
        return f"[{_host(bare)}]"
    star = "*." if bare.startswith("*.") else ""
    if "*" in bare.removeprefix(star):
        raise ValueError("must have its * as the whole first label, such as *.example.com")
    return star + host_name(bare.removeprefix(star))


def route_path(path: str) -> str:
    """Check a path prefix, written as it is matched: percent-decoded, slashes merged, without dot segments."""
    if path == "*":
        raise ValueError("must begin with /; leave path out for any")
    if not path.startswith("/"):
        hint = "; there are no regular expressions and no exact paths" if path[:1] in ("~", "^", "=") else ""
        raise ValueError(f"must begin with /{hint}")
    if "*" in path:
        before = path.partition("*")[0]
        raise ValueError(f"has a *, but there are no patterns: a path takes all that is below it, so write {before}")
    if "?" in path or "#" in path:
        raise ValueError("must be a path without a query")
    if _ESCAPE.search(path):
        raise ValueError("must be written percent-decoded, as it is matched")
    if "\\" in path:
        raise ValueError("must not contain a backslash; requests with one are refused")
    if {".", ".."} & set(path.split("/")):
        raise ValueError("must not contain . or .. segments; requests are matched without them")
    if "//" in path:
        raise ValueError("must not contain //; requests are matched with slashes merged")
    return path


def _address(parse: Callable[[Any], Address], examples: str) -> Scalar:
    return Scalar("address", parse, str, {"type": "string", "examples": examples.split()})


Bind = Annotated[Address, _address(_bind, "0.0.0.0:80 [::]:80 unix:/run/pyproxy.sock")]
BackendAddress = Annotated[
    Address, _address(parse_backend, "192.168.0.11:80 [fd00::1]:80 app.internal:80 unix:/run/app.sock")
]
NameServer = Annotated[Address, _address(_name_server, "10.0.0.2 [fd00::2]:53")]
Endpoint = Annotated[Address, _address(_endpoint, "10.1.0.1:9901 [fd00::1]:9901")]
Witness = Annotated[Address, _address(_witness, "10.1.0.1:53 router.example.com:443")]
NetworkText = Annotated[str, text("network", check=_network, most=64)]
Ip = Annotated[str, text("IP address", check=_ip, most=64)]
InterfaceAddress = Annotated[str, text("address/prefix", check=_interface, most=64)]
RouteHost = Annotated[str, text("host", check=route_host, most=300)]
RoutePath = Annotated[str, text("path", check=route_path, most=1024)]
