"""
What a backend is told of the client, and who the client is taken for.

A sender outside ``trusted_proxies`` is the client, whatever it claims. Behind trusted ones, X-Forwarded-For is
read from the right: the first address that is not a trusted proxy's is the client. Names of fields are lower-case here.
"""

import re
from collections.abc import Sequence
from typing import Final

from pyproxy.routing.networks import UNIX, Networks, parse_ip

#: What begins like this a proxy says of the client, beside two others: from anyone else it counts for nothing.
_PREFIX: Final = b"x-forwarded-"
_OTHERS: Final = frozenset({b"forwarded", b"x-real-ip"})
_FOR: Final = b"x-forwarded-for"
_PROTO: Final = b"x-forwarded-proto"
_HOST: Final = b"x-forwarded-host"
_PORT: Final = b"x-forwarded-port"
#: What we write ourselves; the rest of a trusted sender's fields travels on.
_OWN: Final = frozenset({_FOR, _PROTO, _HOST, _PORT})
_BLANKS: Final = b" \t"
#: What a proxy calls a client that came over TLS; ``wss`` for a WebSocket.
_SECURE: Final = frozenset({b"https", b"wss"})
_PORT_NUMBER: Final = re.compile(rb"[0-9]{1,5}")
#: So many proxies a request may have passed; from there on nobody is believed.
_HOPS_MAX: Final = 100
_ENTRY_BYTES_MAX: Final = 128


def without_forwarding(fields: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Leave out what only a trusted sender may say."""
    return [field for field in fields if not _is_forwarding(field[0].lower())]


def _is_forwarding(name: bytes) -> bool:
    return name.startswith(_PREFIX) or name in _OTHERS


def sender_lines(address: bytes, port: int) -> bytes:
    """Write what is the same for every request of a connection from a sender that isn't trusted."""
    return b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: http\r\n%b" % (address, port_line(port))


def port_line(port: int) -> bytes:
    """Write X-Forwarded-Port, nothing for 0: a unix socket has none."""
    return b"X-Forwarded-Port: %d\r\n" % port if port else b""


def host_line(host: bytes | None) -> bytes:
    """Write X-Forwarded-Host, nothing where the client named no host."""
    return b"X-Forwarded-Host: %b\r\n" % host if host is not None else b""


def trusted_lines(fields: Sequence[tuple[bytes, bytes]], address: bytes, host: bytes | None) -> bytes:
    """
    Write the forwarding fields of a trusted sender on: For grows, the others are kept, and gaps are filled.

    Proto, Host and Port describe one URL, the one that the client asked for, so each is one value, the first of its
    list; a port that nobody said is that of the host or the one that the scheme has.
    """
    chain = [members for name, value in fields if name == _FOR and (members := value.strip(b", \t"))]
    proto = _first_member(fields, _PROTO) or b"http"
    host = _first_member(fields, _HOST) or host
    port = _port_of(_first_member(fields, _PORT)) or _port_in(host) or (b"443" if proto.lower() in _SECURE else b"80")
    lines = [
        b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\n" % (b", ".join([*chain, address]), proto),
        host_line(host),
        b"X-Forwarded-Port: %b\r\n" % port,
    ]
    lines += [b"%b: %b\r\n" % (_spelled(name), value) for name, value in fields if name not in _OWN]
    return b"".join(lines)


def _first_member(fields: Sequence[tuple[bytes, bytes]], name: bytes) -> bytes:
    """Give the first member of a list, however many fields it is spread over; empty ones are none."""
    for key, value in fields:
        if key == name:
            for part in value.split(b","):
                member = part.strip(_BLANKS)
                if member:
                    return member
    return b""


def _port_of(text: bytes) -> bytes:
    """Give a port in its shortest form, nothing for what is none."""
    is_port = _PORT_NUMBER.fullmatch(text) is not None and 0 < int(text) < 65536
    return b"%d" % int(text) if is_port else b""


def _port_in(host: bytes | None) -> bytes:
    """Give the port that a host has."""
    if not host or host.endswith(b"]"):
        return b""
    return _port_of(host.rpartition(b":")[2]) if host.find(b":") >= 0 else b""


def _spelled(name: bytes) -> bytes:
    """Write a name as everybody does."""
    return b"X-Real-IP" if name == b"x-real-ip" else name.title()


def resolve_client(fields: Sequence[tuple[bytes, bytes]], sender: bytes, trusted: Networks) -> bytes:
    """
    Find the client behind a trusted sender, going through X-Forwarded-For from the right.

    An entry that is no address ends the search: what stands left of it is hearsay. ``unix:`` is one, it is what
    nginx and we write for somebody behind a unix socket. Only as much is looked at as it takes.
    """
    chain = b",".join([value for name, value in fields if name == _FOR])
    client, end = sender, len(chain)
    for _ in range(_HOPS_MAX):
        while end > 0 and chain[end - 1] in b", \t":
            end -= 1
        if end <= 0:
            break
        start = chain.rfind(b",", 0, end) + 1
        if end - start > _ENTRY_BYTES_MAX:
            break
        text = chain[start:end].strip(_BLANKS).decode("ascii", "replace")
        end = start
        if text != UNIX:
            text = _without_port(text).partition("%")[0]
            if parse_ip(text) is None:
                break
        client = text.encode()
        if text not in trusted:
            break
    return client


def _without_port(text: str) -> str:
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text


class Sender:
    """
    Who is at the other end of a connection: the client, or a proxy that is trusted to tell who the client is.

    ``address`` is ``unix:`` for a unix socket; ``port`` is the one that the connection came in on, 0 for none.
    """

    __slots__ = ("_lines", "_trusted_proxies", "address", "is_trusted")

    def __init__(self, address: str, port: int, trusted_proxies: Networks) -> None:
        self.address = address.encode()
        self._trusted_proxies = trusted_proxies
        self.is_trusted = address in trusted_proxies
        self._lines = sender_lines(self.address, port)

    def resolve_client(self, fields: Sequence[tuple[bytes, bytes]]) -> bytes:
        """Give the client's address as a trusted sender tells it, else the sender's."""
        return resolve_client(fields, self.address, self._trusted_proxies) if self.is_trusted else self.address

    def scheme(self, fields: Sequence[tuple[bytes, bytes]] | None) -> bytes:
        """Tell how the client asked, ``http`` or ``https``: as a trusted sender says, else as we see it."""
        if self.is_trusted and fields and _first_member(fields, _PROTO).lower() in _SECURE:
            return b"https"
        return b"http"

    def forwarded_lines(self, fields: Sequence[tuple[bytes, bytes]] | None, host: bytes | None) -> bytes:
        """Write what the backend is told about the client."""
        if self.is_trusted:
            return trusted_lines(fields or (), self.address, host)
        return self._lines + host_line(host)


#: Before a connection is made.
UNKNOWN_SENDER = Sender("-", 0, Networks(()))
