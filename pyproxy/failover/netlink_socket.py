"""
Talk to the kernel about addresses, interfaces and routes, and hear of their changes.

Must not know VRRP, nor when an address is to be held.

A request is answered before ``send`` returns: the kernel does it in the caller's time (add and remove together
take 34 µs) and queues the answer. So requests are plain calls, also in an event loop. Events come on a socket of
their own, which the loop watches.
"""

import errno
import socket
from collections.abc import Callable

from pyproxy.errors import VipFailed
from pyproxy.failover import netlink
from pyproxy.failover.netlink import (
    GROUP_IPV4_ADDRESS,
    GROUP_IPV6_ADDRESS,
    GROUP_LINK,
    AddressState,
    Answer,
    Event,
    Interface,
    Ip,
    LinkState,
    Message,
)

_SOL_NETLINK, _CAP_ACK, _EXT_ACK, _GET_STRICT_CHK = 270, 10, 11, 12
_READ_BYTES = 64 * 1024  # the kernel's dumps come in pieces of at most 32 KiB
_TIMEOUT = 2.0  # for an answer that by all experience is there already
_EVENT_BUFFER_BYTES = 1024 * 1024
_GONE = (errno.EADDRNOTAVAIL, errno.ENODEV)  # what the removal of an absent address says


class Netlink:
    """Requests to the kernel, each done when its method returns; errors are ``VipFailed``."""

    def __init__(self) -> None:
        self._sequence = 0
        self._sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        for option in (_CAP_ACK, _EXT_ACK, _GET_STRICT_CHK):
            self._sock.setsockopt(_SOL_NETLINK, option, 1)
        self._sock.bind((0, 0))
        self._sock.settimeout(_TIMEOUT)

    def __repr__(self) -> str:
        return f"<Netlink {self._sequence} requests>"

    def set_address(self, index: int, address: Interface, lifetime: int | None) -> None:
        """Add an address, or renew its lifetime; None is for ever."""
        seconds = netlink.FOREVER if lifetime is None else lifetime
        _, answer = self._ask(lambda sequence: netlink.set_address(sequence, index, address, seconds))
        if answer.error:
            raise VipFailed(f"can't add {address}: {answer.explain()}")

    def remove_address(self, index: int, address: Interface) -> bool:
        """Remove an address; False if it wasn't there."""
        _, answer = self._ask(lambda sequence: netlink.remove_address(sequence, index, address))
        if answer.error and answer.error not in _GONE:
            raise VipFailed(f"can't remove {address}: {answer.explain()}")
        return not answer.error

    def addresses(self, index: int | None = None) -> list[AddressState]:
        """List the addresses of an interface, or of all."""
        found, answer = self._ask(netlink.dump_addresses)
        if answer.error:
            raise VipFailed(f"can't list addresses: {answer.explain()}")
        events = map(netlink.parse_event, found)
        return [event for event in events if isinstance(event, AddressState) and index in (None, event.index)]

    def link(self, name: str) -> LinkState | None:
        """Look an interface up; None if there is none of that name."""
        found, answer = self._ask(lambda sequence: netlink.get_link(sequence, name), is_dump=False)
        if answer.error == errno.ENODEV:
            return None
        if answer.error:
            raise VipFailed(f"can't look up {name}: {answer.explain()}")
        return next((event for event in map(netlink.parse_event, found) if isinstance(event, LinkState)), None)

    def gateway(self, index: int, version: int) -> Ip | None:
        """Find the default gateway behind an interface, the one with the least metric; None if there is none."""
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        found, answer = self._ask(lambda sequence: netlink.dump_routes(sequence, family, index))
        if answer.error == errno.ENODEV:
            return None
        if answer.error:
            raise VipFailed(f"can't list routes: {answer.explain()}")
        routes = [route for message in found for route in netlink.parse_default_routes(message)]
        return min(
            ((route.metric, route.gateway) for route in routes if route.index == index),
            default=(0, None),
            key=lambda pair: pair[0],
        )[1]

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()

    def _ask(self, build: Callable[[int], bytes], *, is_dump: bool = True) -> tuple[list[Message], Answer]:
        """Send one request, collect what comes until its end; what belongs to an earlier one is passed over."""
        self._sequence += 1
        found: list[Message] = []
        try:
            self._sock.send(build(self._sequence))
            while True:
                for message in netlink.messages(self._sock.recv(_READ_BYTES)):
                    if message.sequence != self._sequence:
                        continue
                    answer = netlink.parse_answer(message)
                    if answer is not None:
                        return found, answer
                    found.append(message)
                if found and not is_dump:
                    return found, Answer(0)
        except OSError as error:
            raise VipFailed(f"netlink: {error}") from error


class Monitor:
    """Hear of addresses and interfaces that come, change and go."""

    def __init__(self) -> None:
        self._sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._sock.setblocking(False)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _EVENT_BUFFER_BYTES)
        self._sock.bind((0, GROUP_LINK | GROUP_IPV4_ADDRESS | GROUP_IPV6_ADDRESS))

    def __repr__(self) -> str:
        return f"<Monitor fd {self._sock.fileno()}>"

    def fileno(self) -> int:
        """Give the descriptor to watch for reading."""
        return self._sock.fileno()

    def read(self) -> list[Event] | None:
        """Take all events that wait, in their order; None if some were lost, so that one must look anew."""
        events: list[Event] = []
        lost = False
        while True:
            try:
                data, _, _, sender = self._sock.recvmsg(_READ_BYTES)
            except (BlockingIOError, InterruptedError):
                return None if lost else events
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                lost = True
                continue
            if sender[0] == 0:  # any process may write to a netlink socket; only the kernel is port 0
                events += [event for event in map(netlink.parse_event, netlink.messages(data)) if event is not None]

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()
