"""
The network interface that the addresses belong to: whether it is up, and from which addresses VRRP is spoken there.

Must not know VRRP's states. What the kernel tells is kept as a picture; when its events were lost or said that
something changed, the whole picture is taken anew: that is two requests, and nothing can be missed.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_address

from pyproxy.failover.netlink import ETHERNET, FOREVER, AddressState, Event, Ip, LinkState
from pyproxy.failover.netlink_socket import Monitor, Netlink
from pyproxy.failover.settings import Settings

_log = logging.getLogger(__name__)


class Interface:
    """
    One interface, by its name: it may go and come back with another index.

    ``refresh`` after ``Monitor`` events; ``on_address`` gets each event about an address, after the picture is new.
    """

    def __init__(self, settings: Settings, netlink: Netlink) -> None:
        self.name = settings.interface
        self.index = 0
        self.mac = b""
        self.is_up = False
        self.has_missed_events = False  # in the last reading
        self.sources: dict[int, str] = {}
        self.lost_track = ""  # which of the interfaces that are tracked is down, in words
        self.monitor = Monitor()  # before the first look, so that nothing is missed in between
        self._settings = settings
        self._netlink = netlink
        is_owner = settings.priority == 255  # then adverts may come from a virtual address
        self._passing = frozenset[str]() if is_owner else frozenset(vip.address for vip in settings.virtual_ips)
        self._kind = 0
        self.refresh()

    def __repr__(self) -> str:
        return f"<Interface {self.name} {'up' if self.is_up else 'down'} {sorted(self.sources.values())}>"

    @property
    def has_neighbours(self) -> bool:
        """Whether neighbours are found by ARP and ND."""
        return self.is_up and self._kind == ETHERNET and len(self.mac) == 6

    @property
    def fault(self) -> str:
        """Say why adverts can be sent in none of the families that the addresses have, empty if they can in one."""
        if not self.index:
            return f"there is no interface {self.name}"
        if not self.is_up:
            return f"interface {self.name} is down"
        return "" if self.sources else f"interface {self.name} has no address to speak VRRP from"

    def refresh(self) -> bool:
        """Look anew; whether anything is different."""
        before = (self.index, self.mac, self.is_up, self.sources, self.lost_track)
        link = self._netlink.link(self.name)
        self._take(link)
        addresses = self._netlink.addresses(self.index) if link is not None else []
        self.sources = {
            family: source
            for family in self._settings.families
            if (source := choose_source(family, addresses, self._settings)) is not None
        }
        self.lost_track = self._lost_track()
        after = (self.index, self.mac, self.is_up, self.sources, self.lost_track)
        if after != before:
            self._tell(before[2], before[3])
        return after != before

    def read_events(self, on_address: Callable[[AddressState], None]) -> bool:
        """Take what the monitor has heard; whether the picture changed."""
        events = self.monitor.read()
        self.has_missed_events = events is None
        is_changed = (events is None or any(map(self._concerns_us, events))) and self.refresh()
        for event in events or ():
            if isinstance(event, AddressState) and event.index == self.index:
                on_address(event)
        return is_changed

    def close(self) -> None:
        """Stop listening."""
        self.monitor.close()

    def _concerns_us(self, event: Event) -> bool:
        """Whether the picture may be another one: a busy host has many interfaces, and a lease is renewed often."""
        if isinstance(event, LinkState):
            return event.index == self.index or event.name in (self.name, *self._settings.track_interfaces)
        return event.index == self.index and str(event.address.ip) not in self._passing

    def _lost_track(self) -> str:
        found = ((name, self._netlink.link(name)) for name in self._settings.track_interfaces)
        return next((f"interface {name} is down" for name, link in found if link is None or not link.is_up), "")

    def _take(self, link: LinkState | None) -> None:
        self.index = link.index if link is not None else 0
        self.mac = link.mac if link is not None else b""
        self.is_up = link is not None and link.is_up
        self._kind = link.kind if link is not None else 0

    def _tell(self, was_up: bool, sources: dict[int, str]) -> None:
        if self.is_up != was_up:
            _log.info("interface %s is %s", self.name, "up" if self.is_up else "down" if self.index else "not there")
        if self.sources != sources:
            _log.info("adverts come from %s", ", ".join(self.sources.values()) or "nowhere")
        missing = [str(family) for family in self._settings.families if family not in self.sources]
        if self.is_up and missing:
            _log.warning("interface %s has no IPv%s address to speak VRRP from", self.name, " and IPv".join(missing))


def choose_source(family: int, addresses: Sequence[AddressState], settings: Settings) -> str | None:
    """
    Choose the address that adverts come from; None if there is none.

    Virtual addresses don't serve, for they leave. Multicast over IPv6 wants a link-local one (RFC 9568, 5.1.2.1);
    with peers it is one of their network, if there is any.
    """
    virtual = {ip_address(vip.address) for vip in settings.virtual_ips}
    of_family = [state for state in addresses if state.address.version == family and state.is_usable]
    own = [state for state in of_family if state.address.ip not in virtual]
    if settings.priority == 255:  # the owner's own addresses are the virtual ones
        own += [state for state in of_family if state.address.ip in virtual and state.lifetime == FOREVER]
    peers = [ip_address(peer) for peer in settings.peers_of(family)]
    candidates = [state.address.ip for state in own if any(peer in state.address.network for peer in peers)]
    candidates += _by_scope((state.address.ip for state in own), wants_link_local=family == 6)
    return str(candidates[0]) if candidates else None


def _by_scope(addresses: Iterable[Ip], *, wants_link_local: bool) -> list[Ip]:
    """Sort those of the wanted scope to the front; for IPv6 the others don't serve at all."""
    found = sorted(addresses, key=lambda address: address.is_link_local != wants_link_local)
    return [address for address in found if address.is_link_local] if wants_link_local else found
