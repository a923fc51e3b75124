"""
Ask DNS what a name stands for, once.

Must not know pools, nor what is done with the answer.

c-ares does the asking: unlike the C library it tells how long an answer is good for, and like it, it reads
/etc/hosts, nsswitch.conf and resolv.conf. Each lookup has a channel of its own (60 µs), since a channel keeps
answers for their whole TTL, which may be far more than we want to wait for a change.
"""

import asyncio
import contextlib
import math
import socket
from collections.abc import Sequence
from typing import NamedTuple

import aiodns
import pycares

from pyproxy.config.runtime import Backend
from pyproxy.control.answers import MAX_ADDRESSES, Answer, Service, share_equally, share_services
from pyproxy.errors import PyproxyError

_SERVER_SECONDS = 1.0  # for the first try of a server; the second one gets twice as long
_SERVER_TRIES = 2
_SECONDS = 10.0  # however many servers there are
#: Of one answer so much is looked at: a name server could send thousands of records.
_LOOKED_AT = 4 * MAX_ADDRESSES
_GONE = {pycares.errno.ARES_ENODATA, pycares.errno.ARES_ENOTFOUND}


class LookupFailed(PyproxyError):
    """There is no answer, or an empty one; the text says why."""


class Found(NamedTuple):
    """What a name stands for, for how many seconds, and how many addresses were too many."""

    answer: Answer
    ttl: float
    left_out: int


class Lookup:
    """One configured name, to be asked for again and again."""

    def __init__(self, backend: Backend, servers: Sequence[str]) -> None:
        self.name = backend.host
        self._port = backend.port
        self._is_service = backend.lookup == "srv"
        self._servers = list(servers)
        self._targets: dict[str, tuple[str, ...]] = {}  # last good addresses of a service's targets
        self._good: dict[str, tuple[str, ...]] = {}  # last good addresses of any name

    def __repr__(self) -> str:
        return f"<Lookup {self.name}>"

    async def find(self) -> Found:
        """Ask; raises ``LookupFailed``."""
        try:
            dns = aiodns.DNSResolver(self._servers or None, timeout=_SERVER_SECONDS, tries=_SERVER_TRIES)
            try:
                async with asyncio.timeout(_SECONDS):
                    return await (self._find_services(dns) if self._is_service else self._find_addresses(dns))
            finally:
                await dns.close()
        except TimeoutError:
            raise LookupFailed(f"no answer within {_SECONDS:g} s") from None
        except aiodns.error.DNSError as error:
            raise LookupFailed(error.args[1]) from error
        except pycares.AresError as error:
            raise LookupFailed(str(error)) from error

    async def _find_addresses(self, dns: aiodns.DNSResolver) -> Found:
        hosts, ttl = await self._addresses(dns, self.name)
        return Found(share_equally(hosts, self._port), ttl, max(len(hosts) - MAX_ADDRESSES, 0))

    async def _find_services(self, dns: aiodns.DNSResolver) -> Found:
        result = await dns.query_dns(self.name, "SRV")
        ttl = min((record.ttl for record in result.answer), default=math.inf)
        # A target of "." says that there is no such service.
        records = [data for record in result.answer if isinstance(data := record.data, pycares.SRVRecordData)]
        records = [record for record in records if record.target.rstrip(".")]
        records, left_out = _first_records(records)
        targets = sorted({record.target for record in records})
        found = await asyncio.gather(*(self._find_target(dns, target) for target in targets))
        hosts = {target: hosts for target, (hosts, _) in zip(targets, found, strict=True)}
        self._targets = hosts
        self._good = {target: good for target, good in self._good.items() if target in hosts}
        services = [
            Service(record.priority, record.weight, record.port, hosts[record.target])
            for record in records
            if hosts[record.target]
        ]
        if not services:
            raise LookupFailed("none of its targets has an address" if records else "there is no such service")
        count = len({(host, service.port) for service in services for host in service.hosts})
        left_out += max(count - MAX_ADDRESSES, 0)
        return Found(share_services(services), min(ttl, *(ttl for _, ttl in found)), left_out)

    async def _addresses(self, dns: aiodns.DNSResolver, name: str) -> tuple[tuple[str, ...], float]:
        """Ask for all addresses of a name, IPv4 and IPv6, and for how many seconds that is good."""
        hosts, ttl = await _ask(dns, name, socket.AF_UNSPEC)
        for family in (socket.AF_INET, socket.AF_INET6):
            known = [host for host in self._good.get(name, ()) if _family(host) == family]
            if known and not any(_family(host) == family for host in hosts):
                hosts += await self._still_good(dns, name, family, known)
        self._good[name] = tuple(hosts)
        return _usable(hosts), ttl

    async def _still_good(
        self, dns: aiodns.DNSResolver, name: str, family: socket.AddressFamily, known: list[str]
    ) -> list[str]:
        """Tell whether a kind of address is gone, or only its half of the question failed: then it stays."""
        try:
            return (await _ask(dns, name, family))[0]
        except (aiodns.error.DNSError, pycares.AresError) as error:
            return [] if error.args[0] in _GONE else known
        except LookupFailed:
            return []

    async def _find_target(self, dns: aiodns.DNSResolver, target: str) -> tuple[tuple[str, ...], float]:
        """Look up a target; one that fails keeps its last good addresses, and the others aren't held up."""
        try:
            return await self._addresses(dns, target)
        except (aiodns.error.DNSError, pycares.AresError, LookupFailed):
            return self._targets.get(target, ()), 0.0


def _first_records(records: list[pycares.SRVRecordData]) -> tuple[list[pycares.SRVRecordData], int]:
    """Keep the best records, so many that their targets may all be asked for; say how many targets are left out."""
    records = sorted(records, key=lambda record: (record.priority, -record.weight, record.target, record.port))
    targets = list(dict.fromkeys(record.target for record in records))
    kept = set(targets[:MAX_ADDRESSES])
    return [record for record in records if record.target in kept][:_LOOKED_AT], len(targets) - len(kept)


async def _ask(dns: aiodns.DNSResolver, name: str, family: socket.AddressFamily) -> tuple[list[str], float]:
    """Ask for the addresses of a name, and for how many seconds they are good."""
    result = await dns.getaddrinfo(name, family=family, type=socket.SOCK_STREAM)
    hosts = list(dict.fromkeys(node.addr[0].decode() for node in result.nodes))
    if not hosts:
        raise LookupFailed("it has no address")
    if len(hosts) > _LOOKED_AT:
        hosts = sorted(hosts)[:_LOOKED_AT]  # the same ones each time, however the server rotates them
    return hosts, float(min([node.ttl for node in result.nodes] + [alias.ttl for alias in result.cnames]))


def _usable(hosts: list[str]) -> tuple[str, ...]:
    """
    Leave out what would only fail: addresses of a kind that this machine has no route to, and the second loopback.

    ``localhost`` always has two addresses, but hardly any program listens on both.
    """
    if "127.0.0.1" in hosts:
        hosts = [host for host in hosts if host != "::1"]
    return tuple(host for host in hosts if _has_route(host)) or tuple(hosts)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _has_route(host: str) -> bool:
    with contextlib.suppress(OSError), socket.socket(_family(host), socket.SOCK_DGRAM) as sock:
        sock.connect((host, 9))  # sends nothing
        return True
    return False
