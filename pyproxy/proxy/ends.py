"""
Who is at the two ends of a client's connection, as the socket or a PROXY header tells it.

Must not know requests: what X-Forwarded-For says of the client is ``routing``'s business.
"""

import asyncio
from typing import Final

from pyproxy.proxy.proxy_protocol import ProxyHeader, write_v1, write_v2

#: What a client on a unix socket is called, as nginx does.
UNIX: Final = "unix:"
_WRITERS: Final = {"v1": write_v1, "v2": write_v2}


def ends_of(transport: asyncio.BaseTransport | None, *, is_unix: bool) -> ProxyHeader:
    """Ask the socket; one that is lost already has no other end any more."""
    if is_unix or transport is None:
        return ProxyHeader(UNIX, 0, UNIX, 0)
    peer = transport.get_extra_info("peername") or ("-", 0)
    sock = transport.get_extra_info("sockname") or ("-", 0)
    return ProxyHeader(peer[0], peer[1], sock[0], sock[1])


def sender_of(transport: asyncio.BaseTransport, *, is_unix: bool) -> str:
    """Ask the socket who has connected, and nothing else: our own end takes another system call."""
    if is_unix:
        return UNIX
    return (transport.get_extra_info("peername") or ("-", 0))[0]


def host_of(address: str, port: int) -> bytes:
    """
    Write an address as a host, with a port that isn't the one that HTTP has anyway.

    >>> host_of("192.0.2.9", 80), host_of("2001:db8::9", 8080), host_of("unix:", 0)
    (b'192.0.2.9', b'[2001:db8::9]:8080', b'localhost')
    """
    if address == UNIX:
        return b"localhost"
    host = b"[%b]" % address.encode() if ":" in address else address.encode()
    return host if port in {0, 80} else b"%b:%d" % (host, port)


def write_proxy_header(version: str, ends: ProxyHeader) -> bytes:
    """Write what ``send_proxy`` begins a connection to a backend with."""
    return _WRITERS[version](ends.source, ends.source_port, ends.destination, ends.destination_port)
