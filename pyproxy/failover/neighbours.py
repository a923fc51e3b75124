"""
The neighbours on the interface: announce addresses to them, ask who has one, hear of others who claim ours.

Must not know states. Frames are ``neighbour``'s, sockets ``neighbour_socket``'s; here is who listens for what.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from ipaddress import ip_address

from pyproxy.failover.interface import Interface
from pyproxy.failover.neighbour import Claim, announcement, probe, show_mac
from pyproxy.failover.neighbour_socket import NeighbourSocket
from pyproxy.failover.netlink import Ip

PROBE_SECONDS = 0.2
PROBES = 3

_log = logging.getLogger(__name__)


class Neighbours:
    """
    All that goes to and comes from the neighbours; made inside a running event loop.

    ``on_claim`` gets every claim of a watched address that another machine makes.
    """

    def __init__(self, interface: Interface, on_claim: Callable[[Claim], None]) -> None:
        self._interface = interface
        self._on_claim = on_claim
        self._loop = asyncio.get_running_loop()
        self._sockets: dict[int, NeighbourSocket] = {}
        self._watched: frozenset[Ip] = frozenset()
        self._opened: tuple[int, bytes] | None = None  # index and MAC that the sockets were opened for
        self._probes: list[tuple[frozenset[Ip], asyncio.Future[str]]] = []

    def __repr__(self) -> str:
        return f"<Neighbours {len(self._watched)} watched>"

    def watch(self, addresses: Iterable[Ip]) -> None:
        """Hear of these addresses from now on."""
        watched = frozenset(addresses)
        if watched != self._watched:
            self._watched = watched
            self._close_sockets()
        self.refresh()

    def refresh(self) -> None:
        """Open what the interface as it is now allows."""
        interface = self._interface
        wanted = (interface.index, interface.mac) if interface.has_neighbours else None
        if wanted == self._opened:
            return
        self._close_sockets()
        if wanted is None:
            return
        try:
            for family in sorted({address.version for address in self._watched}):
                sock = NeighbourSocket(interface.name, family, self._watched)
                self._sockets[family] = sock
                self._loop.add_reader(sock.fileno(), self._read, sock)
        except OSError as error:
            _log.error("can't listen to the neighbours on %s: %s", interface.name, error.strerror or error)
            self._close_sockets()
            return
        self._opened = wanted

    def announce(self, addresses: Iterable[Ip], repeat: int = 1) -> None:
        """Announce addresses, so many times each, back to back."""
        frames = [(address.version, announcement(self._interface.mac, address)) for address in addresses]
        for _ in range(repeat):
            for family, frame in frames:
                self._send(family, frame)

    def forget(self) -> None:
        """Throw away what waits to be read: it was said before we had the addresses."""
        for sock in self._sockets.values():
            sock.read()

    def ask(self, address: Ip) -> None:
        """Ask who has an address, so that the answer comes to us alone; it is told as a claim."""
        source = self._interface.sources.get(address.version)
        self._send(address.version, probe(self._interface.mac, address, ip_address(source) if source else None))

    async def find_holder(self, addresses: Iterable[Ip]) -> str | None:
        """Ask on the wire who has any of these addresses; the MAC of one that does, None after 200 ms of silence."""
        asked = frozenset(addresses)
        found: asyncio.Future[str] = self._loop.create_future()
        entry = (asked, found)
        self._probes.append(entry)
        try:
            for _ in range(PROBES):
                for address in asked:
                    self._send(address.version, probe(self._interface.mac, address))
                if not self._sockets:
                    return None
                done, _ = await asyncio.wait([found], timeout=PROBE_SECONDS / PROBES)
                if done:
                    return found.result()
            return None
        finally:
            self._probes.remove(entry)
            found.cancel()

    def close(self) -> None:
        """Close all sockets."""
        self._close_sockets()

    def _send(self, family: int, frame: bytes) -> None:
        sock = self._sockets.get(family)
        if sock is not None:
            sock.send(frame)

    def _read(self, sock: NeighbourSocket) -> None:
        for claim in sock.read():
            if claim.mac == self._interface.mac:
                continue
            for asked, found in self._probes:
                if claim.address in asked and not found.done():
                    found.set_result(show_mac(claim.mac))
            self._on_claim(claim)

    def _close_sockets(self) -> None:
        for sock in self._sockets.values():
            self._loop.remove_reader(sock.fileno())
            sock.close()
        self._sockets.clear()
        self._opened = None
