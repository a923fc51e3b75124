"""
What a backend is told of the client, and who the client is taken for.

A sender outside ``trusted_proxies`` is the client, whatever it claims. Behind trusted ones, X-Forwarded-For is
read from the right: the first address that is not a trusted proxy's is the client.
"""

from collections.abc import Sequence
from typing import Final

from pyproxy.routing.networks import UNIX, Networks, parse_ip

#: What a proxy says of the client: from anyone else it counts for nothing.
FIELDS: Final = frozenset(
    {b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port", b"forwarded", b"x-real-ip"}
)


def without_forwarding(fields: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Leave out what only a trusted sender may say."""
    return [field for field in fields if field[0].lower() not in FIELDS]


def sender_lines(address: bytes, port: int) -> bytes:
    """Write what is the same for every request of a connection from a sender that isn't trusted."""
    return b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: http\r\n%b" % (address, port_line(port))


def port_line(port: int) -> bytes:
    """Write X-Forwarded-Port, nothing for 0: a unix socket has none."""
    return b"X-Forwarded-Port: %d\r\n" % port if port else b""


def host_line(host: bytes | None) -> bytes:
    """Write X-Forwarded-Host, nothing where the client named no host."""
    return b"X-Forwarded-Host: %b\r\n" % host if host is not None else b""


def trusted_lines(fields: Sequence[tuple[bytes, bytes]], address: bytes, port: int, host: bytes | None) -> bytes:
    """Write the forwarding fields of a trusted sender on: its own are kept, For grows, gaps are filled."""
    chain = [value for name, value in fields if name == b"x-forwarded-for"]
    lines = [b"X-Forwarded-For: %b\r\n" % b", ".join([*chain, address])]
    names = {name for name, _ in fields}
    for key, line in (
        (b"x-forwarded-proto", b"X-Forwarded-Proto: http\r\n"),
        (b"x-forwarded-host", host_line(host)),
        (b"x-forwarded-port", port_line(port)),
    ):
        if key not in names:
            lines.append(line)
    lines += [b"%b: %b\r\n" % (_SPELLING[name], value) for name, value in fields if name != b"x-forwarded-for"]
    return b"".join(lines)


_SPELLING = {
    b"x-forwarded-proto": b"X-Forwarded-Proto",
    b"x-forwarded-host": b"X-Forwarded-Host",
    b"x-forwarded-port": b"X-Forwarded-Port",
    b"forwarded": b"Forwarded",
    b"x-real-ip": b"X-Real-IP",
}


def resolve_client(fields: Sequence[tuple[bytes, bytes]], sender: bytes, trusted: Networks) -> bytes:
    """
    Find the client behind a trusted sender, going through X-Forwarded-For from the right.

    An entry that is no address ends the search: what stands left of it is hearsay. ``unix:`` is one, it is what
    nginx and we write for somebody behind a unix socket.
    """
    chain = b",".join(value for name, value in fields if name == b"x-forwarded-for")
    client = sender
    for entry in reversed(chain.split(b",")):
        text = entry.strip().decode("ascii", "replace")
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

    __slots__ = ("_lines", "_port", "_trusted_proxies", "address", "is_trusted")

    def __init__(self, address: str, port: int, trusted_proxies: Networks) -> None:
        self.address = address.encode()
        self._port = port
        self._trusted_proxies = trusted_proxies
        self.is_trusted = address in trusted_proxies
        self._lines = sender_lines(self.address, port)

    def resolve_client(self, fields: Sequence[tuple[bytes, bytes]]) -> bytes:
        """Give the client's address as a trusted sender tells it, else the sender's."""
        return resolve_client(fields, self.address, self._trusted_proxies) if self.is_trusted else self.address

    def scheme(self, fields: Sequence[tuple[bytes, bytes]] | None) -> bytes:
        """Tell how the client asked, ``http`` or ``https``: as a trusted sender says, else as we see it."""
        if self.is_trusted and fields:
            said = {value.strip().lower() for name, value in fields if name == b"x-forwarded-proto"}
            if said == {b"https"}:
                return b"https"
        return b"http"

    def forwarded_lines(self, fields: Sequence[tuple[bytes, bytes]] | None, host: bytes | None) -> bytes:
        """Write what the backend is told about the client."""
        if self.is_trusted:
            return trusted_lines(fields or (), self.address, self._port, host)
        return self._lines + host_line(host)


#: Before a connection is made.
UNKNOWN_SENDER = Sender("-", 0, Networks(()))
