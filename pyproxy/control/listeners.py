"""
Bind every listening socket, once, for the life of the program.

Must not know who accepts on them: a socket is made for each worker slot and lent to that slot's worker.

Each TCP listener has one SO_REUSEPORT socket a slot, and the kernel spreads connections over them. They stay
open here, so what is queued on a socket survives its worker. Since SO_REUSEPORT would also let a second
program of the same user in, a probe without it comes first: that one fails if anyone listens there already.
A unix socket is one for all slots: its path can lead to one only.

A virtual address is bound whether it is here or not, so that a standby listens before the address comes.
"""

import contextlib
import errno
import os
import socket
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from pyproxy.config.runtime import Listener, join_address
from pyproxy.control.startup import StartError
from pyproxy.control.unix_sockets import UnixSocket, bind_unix

BACKLOG = 4096

# linux/in.h, linux/in6.h: they need no privilege, unlike transparent sockets.
_IP_FREEBIND: Final = 15
_IPV6_FREEBIND: Final = 78


@dataclass(frozen=True, slots=True)
class OpenListener:
    """A listener and its sockets, by worker slot; ``address`` has the port that was really bound."""

    name: str
    address: str
    sockets: tuple[socket.socket, ...]
    unix: UnixSocket | None = None  # if it is one, then it stands in ``sockets`` for every slot

    def close(self) -> None:
        """Close our copies; a worker's own stay open."""
        if self.unix is not None:
            self.unix.remove_path()
        for sock in self.sockets:
            sock.close()


def open_listeners(listeners: Sequence[Listener], slots: int, virtual: Collection[str] = ()) -> list[OpenListener]:
    """
    Bind all of them or none; a failure is a ``StartError`` that names the listener.

    ``virtual`` are addresses that may come and go.
    """
    with contextlib.ExitStack() as stack:
        opened = []
        for listener in listeners:
            try:
                opened.append(_open(listener, slots, is_virtual=listener.host in virtual))
            except OSError as error:
                name = f" ({listener.name})" if listener.name != listener.address else ""
                raise StartError(f"can't listen on {listener.address}{name}: {explain(error)}") from error
            stack.callback(opened[-1].close)
        stack.pop_all()
    return opened


def explain(error: OSError) -> str:
    """Say in an operator's words why binding failed."""
    match error.errno:
        case errno.EADDRINUSE:
            return "the address is already in use by another program"
        case errno.EACCES:
            return "permission denied (a port below 1024 needs root or CAP_NET_BIND_SERVICE)"
        case errno.EADDRNOTAVAIL:
            return "this machine doesn't have that address"
        case errno.EAFNOSUPPORT:
            return "this machine doesn't support that kind of address"
    return os.strerror(error.errno) if error.errno else str(error)


def _open(listener: Listener, slots: int, *, is_virtual: bool) -> OpenListener:
    if listener.path:
        unix = bind_unix(listener.path, BACKLOG, listener.mode, listener.owner)
        return OpenListener(listener.name, listener.address, (unix.sock,) * slots, unix)
    host, port = listener.host, listener.port
    if port:
        _probe(host, port, is_virtual=is_virtual)
    sockets: list[socket.socket] = []
    with contextlib.ExitStack() as stack:
        for _ in range(slots):
            sock = stack.enter_context(_socket(host, is_virtual=is_virtual))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind((host, port))
            # With port 0 the first socket gets a free port, which the others then share.
            port = sock.getsockname()[1]
            sockets.append(sock)
        for sock in sockets:
            sock.listen(BACKLOG)
        stack.pop_all()
    return OpenListener(listener.name, join_address(host, port), tuple(sockets))


def _socket(host: str, *, is_virtual: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # or TIME_WAIT would forbid a quick restart
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    if is_virtual and family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
    elif is_virtual:
        sock.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
    return sock


def _probe(host: str, port: int, *, is_virtual: bool) -> None:
    with _socket(host, is_virtual=is_virtual) as sock:
        sock.bind((host, port))
