"""
Backends that are listeners of this very program: a request to one would come back, again and again.

Must not know what is done about it. Two listeners in a row may be meant, so it is no error by itself.
"""

import socket
import threading
from collections.abc import Iterable
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from os.path import realpath
from pathlib import Path
from typing import Any

from pyproxy.config.addresses import Address, is_ip, parse_address, parse_backend
from pyproxy.config.runtime import Backend
from pyproxy.config.source import Source

LOOKUP_SECONDS = 3.0  # for all names together

_MANY_NAMES = 32


@dataclass(frozen=True, slots=True)
class OwnListener:
    """An address that we listen on, and the name of its listener."""

    name: str
    address: Address


class OwnListeners:
    """All of them, and the ``virtual`` addresses, which may be this machine's at any time."""

    def __init__(self, listeners: Iterable[OwnListener], virtual: Iterable[str] = ()) -> None:
        self._listeners = tuple(listeners)
        self._virtual = frozenset(virtual)

    def __repr__(self) -> str:
        return f"<OwnListeners {', '.join(item.name for item in self._listeners)}>"

    def find(self, address: Address) -> str:
        """Name the listener that somebody comes to who connects to an address, "" if it is none of ours."""
        return next((item.name for item in self._listeners if self._is_at(item.address, address)), "")

    def name_of(self, backend: Backend) -> str:
        """Name the listener that a backend is, "" if it is none of ours, or not looked up yet."""
        return "" if backend.lookup else self.find(Address(backend.host, backend.port, backend.path))

    def has(self, backend: Backend) -> bool:
        """Whether a backend is a listener of ours."""
        return bool(self.name_of(backend))

    def _is_at(self, bound: Address, address: Address) -> bool:
        if bound.is_unix or address.is_unix:
            return bound.is_unix and address.is_unix and _is_same_path(bound.path, address.path)
        if not bound.port or bound.port != address.port or not is_ip(address.host):
            return False
        bound_ip, ip = ip_address(bound.host), ip_address(address.host)
        if ip.version == 6 and ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        if bound_ip.version != ip.version:
            return False
        if bound_ip == ip:
            return True
        # To connect to 0.0.0.0 is to connect to 127.0.0.1.
        if ip.is_unspecified:
            return bound_ip.is_loopback
        return bound_ip.is_unspecified and (str(ip) in self._virtual or is_local(str(ip)))


def is_local(host: str) -> bool:
    """Whether an IP address is one of this machine's, by the kernel's word; nothing is sent."""
    ip = ip_address(host)
    if ip.is_loopback or ip.is_unspecified:
        return True
    family = socket.AF_INET6 if ip.version == 6 else socket.AF_INET
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:  # a machine may have no IPv6
        if _may_bind_any(ip.version):
            probe.connect((host, 9))
            return bool(probe.getsockname()[0] == host)
        probe.bind((host, 0))
        return True
    return False


def warn_of_loops(source: Source) -> None:
    """Warn of each backend in a file that is one of its listeners; names are looked up."""
    data = source.data if isinstance(source.data, dict) else {}
    own = OwnListeners(_listeners(data), _virtual(data))
    backends = dict(_backends(data))
    names = {address.host for address in backends.values() if address.port and not address.is_ip}
    found = look_up(sorted(names)[:_MANY_NAMES])
    for path, address in backends.items():
        hosts = found.get(address.host, ()) if not address.is_ip and not address.is_unix else (address.host,)
        for name in dict.fromkeys(own.find(Address(host, address.port, address.path)) for host in hosts):
            if name:
                source.warn(path, loop_text(name))


def loop_text(listener: str) -> str:
    """Say what a backend of that kind means."""
    return (
        f"is our own listener {listener}: a request that is sent there comes back to this proxy, in a loop unless "
        "another route takes it there"
    )


def look_up(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Look names up as the system does, all at once; who isn't found in time isn't there."""
    waiting: dict[str, Future[tuple[str, ...]]] = {name: Future() for name in names}
    for name, future in waiting.items():
        threading.Thread(target=_look_up, args=(name, future), daemon=True).start()
    wait(waiting.values(), LOOKUP_SECONDS)
    return {name: future.result() for name, future in waiting.items() if future.done()}


def _look_up(name: str, future: "Future[tuple[str, ...]]") -> None:
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        future.set_result(tuple(dict.fromkeys(str(item[4][0]).partition("%")[0] for item in found)))
    except (OSError, UnicodeError):
        future.set_result(())


def _listeners(data: dict[str, Any]) -> Iterable[OwnListener]:
    listeners = data.get("listeners")
    for listener in listeners if isinstance(listeners, list) else []:
        if isinstance(listener, dict):
            with suppress(ValueError):
                address = parse_address(listener.get("bind"))
                name = listener.get("name")
                if address.is_ip or address.is_unix:
                    yield OwnListener(name if isinstance(name, str) else str(address), address)


def _virtual(data: dict[str, Any]) -> list[str]:
    failover = data.get("failover")
    addresses = failover.get("virtual_ips") if isinstance(failover, dict) else None
    texts = addresses if isinstance(addresses, list) else []
    return [text.partition("/")[0] for text in texts if isinstance(text, str)]


def _backends(data: dict[str, Any]) -> Iterable[tuple[tuple[str | int, ...], Address]]:
    pools = data.get("pools")
    for name, pool in pools.items() if isinstance(pools, dict) else []:
        backends = pool.get("backends") if isinstance(pool, dict) else None
        for index, backend in enumerate(backends if isinstance(backends, list) else []):
            if isinstance(backend, dict):
                with suppress(ValueError):
                    yield ("pools", name, "backends", index, "address"), parse_backend(backend.get("address"))


def _is_same_path(one: str, other: str) -> bool:
    return realpath(one) == realpath(other)  # which, other than Path.resolve, takes links that go round


def _may_bind_any(version: int) -> bool:
    """Whether addresses may be bound that this machine doesn't have."""
    with suppress(OSError):
        return Path(f"/proc/sys/net/ipv{version}/ip_nonlocal_bind").read_text().strip() == "1"
    return False
