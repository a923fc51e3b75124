"""
Adverts out and in: the raw sockets of every family and the words that they carry.

Must not know states. A packet that isn't believed is counted by ``dialect`` and goes no further.
"""

import asyncio
import logging
from collections.abc import Callable

from pyproxy.clock import monotonic, wall
from pyproxy.errors import FailoverError, PacketInvalid
from pyproxy.failover.dialect import HARMLESS, Arrival, Dialect
from pyproxy.failover.interface import Interface
from pyproxy.failover.packet import Advert
from pyproxy.failover.sockets import Place, VrrpSocket

TELL_EVERY = 60.0  # seconds between two lines of the log about the same trouble
_ROUNDS = 4  # of reading in one drain: a flood must leave time for our own adverts

_log = logging.getLogger(__name__)


class Adverts:
    """
    Send and receive; made inside a running event loop.

    ``on_readable`` is called when packets wait; ``read`` then gives the adverts in them.
    """

    def __init__(self, dialect: Dialect, interface: Interface, on_readable: Callable[[], None]) -> None:
        self._interface = interface
        self._on_readable = on_readable
        self._loop = asyncio.get_running_loop()
        self._sockets: dict[int, VrrpSocket] = {}
        self._built: dict[tuple[int, int, str, str], list[tuple[str, bytes]]] = {}
        self._told: dict[str, float] = {}
        self._set_dialect(dialect)

    def __repr__(self) -> str:
        return f"<Adverts {' '.join(map(repr, self._sockets.values()))}>"

    @property
    def is_ready(self) -> bool:
        """Whether there is a socket, of any family: the others do without."""
        return bool(self._sockets)

    @property
    def own(self) -> frozenset[str]:
        """The addresses that our adverts come from."""
        return frozenset(sock.place.source for sock in self._sockets.values())

    @property
    def rejected(self) -> dict[str, int]:
        """How many adverts were dropped, by reason."""
        return dict(self._dialect.rejected)

    def refresh(self) -> None:
        """Open and close sockets so that they fit the interface as it is now."""
        interface = self._interface
        for family in self._dialect.settings.families:
            source = interface.sources.get(family)
            place = Place(interface.name, interface.index, source) if source is not None and interface.is_up else None
            sock = self._sockets.get(family)
            if sock is not None and sock.place != place:
                self._close(family)
            if place is not None and family not in self._sockets:
                self._open(place)

    def send(self, priority: int) -> None:
        """Send one advert to everyone whom it concerns."""
        for family, sock in self._sockets.items():
            for destination, packet in self._packets(family, priority, sock.place.source):
                if not sock.send(packet, destination):
                    self._tell(f"can't send an advert to {destination}: {sock.send_error}")

    def read(self) -> list[tuple[Advert, str]]:
        """Give the adverts that wait, with their sources; those that aren't believed are only counted."""
        found = []
        for sock in list(self._sockets.values()):
            for _ in range(_ROUNDS):
                arrivals = sock.receive()
                found += [heard for arrival in arrivals if (heard := self._understand(arrival)) is not None]
                if not arrivals:
                    break
        return found

    def reconfigure(self, dialect: Dialect) -> None:
        """Speak otherwise from now on; what was learned of the peer stays."""
        dialect.heard_form.update(self._dialect.heard_form)
        dialect.rejected.update(self._dialect.rejected)
        self._set_dialect(dialect)

    def close(self) -> None:
        """Close all sockets."""
        for family in list(self._sockets):
            self._close(family)

    def _set_dialect(self, dialect: Dialect) -> None:
        self._dialect = dialect
        auth = dialect.settings.auth_hmac
        self._signs = auth is not None and auth.mode != "receive-only"
        self._built.clear()

    def _open(self, place: Place) -> None:
        try:
            sock = VrrpSocket(place)
        except FailoverError as error:
            self._tell(str(error))
            return
        self._sockets = dict(sorted([*self._sockets.items(), (place.family, sock)]))
        self._loop.add_reader(sock.fileno(), self._on_readable)

    def _close(self, family: int) -> None:
        sock = self._sockets.pop(family)
        self._loop.remove_reader(sock.fileno())
        sock.close()

    def _packets(self, family: int, priority: int, source: str) -> list[tuple[str, bytes]]:
        """Give what is to be sent to whom; unsigned adverts are made once and then sent as they are."""
        dialect = self._dialect
        form = dialect.heard_form.get(family, "")
        found = self._built.get((family, priority, source, form))
        if found is None:
            destinations = dialect.destinations(family)
            found = list(zip(destinations, dialect.write(family, priority, source, destinations, wall()), strict=True))
            if not self._signs:
                self._built[family, priority, source, form] = found
        return found

    def _understand(self, arrival: Arrival) -> tuple[Advert, str] | None:
        try:
            return self._dialect.read(arrival, self.own, wall()), arrival.source
        except PacketInvalid as error:
            if error.reason not in HARMLESS:
                count = self._dialect.rejected[error.reason]
                self._tell(f"an advert from {arrival.source} is dropped: {error} ({count} so far)", error.reason)
            return None

    def _tell(self, text: str, kind: str | None = None) -> None:
        now = monotonic()
        if now - self._told.get(kind or text, -TELL_EVERY) >= TELL_EVERY:
            self._told[kind or text] = now
            _log.warning("%s", text)
