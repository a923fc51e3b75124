"""
What a name stands for: addresses with their shares of its traffic, from what DNS says.

Must not know how it was asked, nor pools and weights.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import NamedTuple

#: A name may have more, which are left out.
MAX_ADDRESSES = 64


class Address(NamedTuple):
    """An IP literal and a port; the shares of all addresses of a name that are no ``backup`` make 1."""

    host: str
    port: int
    share: Fraction = Fraction(1)
    backup: bool = False


#: Sorted, so that the order in which a server rotates its records changes nothing; each address is in it once.
Answer = tuple[Address, ...]


class Service(NamedTuple):
    """A SRV record with the addresses of its target."""

    priority: int
    weight: int
    port: int
    hosts: tuple[str, ...]


def share_equally(hosts: Iterable[str], port: int) -> Answer:
    """
    Share a name's traffic between its addresses.

    >>> [str(address.share) for address in share_equally(["10.0.0.2", "fd00::1", "10.0.0.1"], 80)]
    ['1/3', '1/3', '1/3']
    """
    return share_services([Service(0, 1, port, tuple(dict.fromkeys(hosts)))])


def share_services(services: Sequence[Service]) -> Answer:
    """
    Share a name's traffic as RFC 2782 says: by weight among the records of the lowest priority.

    The others are backups, which share in the same way within their priority. Weights that are all 0 mean
    nothing, so they count as equal. A target's addresses share what is the target's.

    >>> answer = share_services([Service(1, 3, 80, ("10.0.0.1",)), Service(1, 1, 81, ("10.0.0.2", "10.0.0.3"))])
    >>> [(address.port, str(address.share)) for address in answer]
    [(80, '3/4'), (81, '1/8'), (81, '1/8')]
    """
    services = [service for service in services if service.hosts]
    parts: dict[tuple[str, int], tuple[int, Fraction]] = {}
    for priority in sorted({service.priority for service in services}):
        level = [service for service in services if service.priority == priority]
        is_weighted = any(service.weight for service in level)
        for service in level:
            part = Fraction(service.weight if is_weighted else 1, len(service.hosts))
            for host in service.hosts:
                before = parts.get((host, service.port), (priority, Fraction(0)))
                # An address that was seen under a lower priority number stays there.
                if before[0] == priority:
                    parts[host, service.port] = (priority, before[1] + part)
    return _normalise(parts)


def _normalise(parts: dict[tuple[str, int], tuple[int, Fraction]]) -> Answer:
    kept = sorted(parts.items(), key=lambda item: (item[1][0], _order(item[0])))[:MAX_ADDRESSES]
    sums: dict[int, Fraction] = {}
    counts: dict[int, int] = {}
    for _, (priority, part) in kept:
        sums[priority] = sums.get(priority, Fraction(0)) + part
        counts[priority] = counts.get(priority, 0) + 1
    lowest = min(sums, default=0)
    answer = [
        Address(
            host, port, part / sums[priority] if sums[priority] else Fraction(1, counts[priority]), priority != lowest
        )
        for (host, port), (priority, part) in kept
    ]
    return tuple(sorted(answer, key=lambda address: (address.backup, _order((address.host, address.port)))))


def _order(address: tuple[str, int]) -> tuple[int, int, int]:
    host, port = address
    number = ipaddress.ip_address(host.partition("%")[0])
    return number.version, int(number), port
