"""
What a failover section says that is allowed and can hardly be meant: ``pyproxy -t`` warns of it.

Must not know how failover works beyond what docs/failover.md promises. Each warning is true of the file alone,
whatever the other machine's file says.
"""

from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_interface

from pyproxy.config.compile_failover import link_interval
from pyproxy.config.model import Config
from pyproxy.config.model_failover import Failover, Link
from pyproxy.config.source import Path, Source
from pyproxy.errors import Problem

_TOP = "failover"
_OWNER = 255
_WILDCARDS = {4: {"0.0.0.0"}, 6: {"::"}}

Found = Iterator[tuple[Path, str]]


def failover_warnings(config: Config, source: Source) -> list[Problem]:
    """Give the warnings of a file without problems; none if it has no failover section."""
    failover = config.failover
    if failover is None:
        return []
    found = [item for find in _OF_SECTION for item in find(failover)]
    found += _unreached_addresses(config, failover)
    found += _unused_no_backend(config, failover)
    if failover.link is not None:
        found += [item for find in _OF_LINK for item in find(failover, failover.link)]
    return [source.problem((_TOP, *path), text) for path, text in found]


def _unreached_addresses(config: Config, failover: Failover) -> Found:
    if not config.listeners:
        return  # a speaker that runs alone
    bound = {item.bind.host for item in config.listeners if not item.bind.is_unix}
    for index, text in enumerate(failover.virtual_ips):
        address = ip_interface(text).ip
        if not bound & {str(address), *_WILDCARDS[address.version]}:
            yield ("virtual_ips", index), "no listener is bound to it, so the proxy won't answer there"


def _unused_no_backend(config: Config, failover: Failover) -> Found:
    if not failover.release_when.no_backend:
        return
    path = ("release_when", "no_backend")
    if failover.link is None:
        yield path, "does nothing without a link, which tells what the other machine sees"
    elif all(pool.health is None for pool in config.pools.values()):
        yield path, "does nothing as long as no pool has active checks (health)"


def _owner(failover: Failover) -> Found:
    if failover.priority == _OWNER and failover.preempt is False:
        yield (
            ("priority",),
            "255 takes the addresses at every start, also from a master that is well; preempt: false doesn't apply",
        )


def _no_worker(failover: Failover) -> Found:
    if failover.release_when.no_worker == 0:
        yield (
            ("release_when", "no_worker"),
            "0 gives the addresses away in the moment that a sole worker needs to be started again",
        )


def _single_advert(failover: Failover) -> Found:
    if failover.down_adverts == 1:
        yield ("down_adverts",), "with 1, a single advert that is lost makes a second master"


def _peers(failover: Failover) -> Found:
    virtual = {str(ip_interface(text).ip) for text in failover.virtual_ips}
    for index, peer in enumerate(failover.peers):
        if peer in virtual:
            yield ("peers", index), "is a virtual address, which moves; it must be the other machine's own"
    if not failover.peers and failover.vip_backend == "exec":
        yield (
            ("peers",),
            "is empty, so adverts are multicast, which few clouds carry: both machines become master there",
        )
    families = {ip_address(peer).version for peer in failover.peers}
    for index, text in enumerate(failover.virtual_ips):
        version = ip_interface(text).version
        if families and version not in families:
            yield ("virtual_ips", index), f"peers has no IPv{version} address, so its adverts are multicast"
            families.add(version)


def _link_local(failover: Failover) -> Found:
    for index, text in enumerate(failover.virtual_ips):
        address = ip_interface(text).ip
        if address.version == 6:
            if not address.is_link_local:
                yield (
                    ("virtual_ips", index),
                    "the first IPv6 address should be a link-local one (RFC 9568, 5.2.9); "
                    "other programs may not take our adverts",
                )
            return


def _last_resort(failover: Failover) -> Found:
    for index, guard in enumerate(failover.guards):
        if guard.on_fail == "last_resort" and failover.link is None:
            yield (
                ("guards", index, "on_fail"),
                "without a link, adverts that are lost for split_hold are enough to promote a machine that isn't fit",
            )


def _track(failover: Failover) -> Found:
    if failover.link is not None:
        return
    for index, track in enumerate(failover.track):
        if track.on_fail == "release":
            yield (
                ("track", index, "on_fail"),
                "without a link nobody knows whether the other machine's check passes: what fails on both moves the "
                "addresses there and back",
            )


def _fence(failover: Failover) -> Found:
    if failover.fence is not None and failover.link is None:
        yield ("fence",), "is never run without a link: it is for a link that is dead"


def _lease(failover: Failover) -> Found:
    silence = failover.down_adverts * failover.advert_interval
    if isinstance(failover.lease, float) and failover.lease > silence + failover.advert_interval:
        yield (
            ("lease",),
            f"a machine that hangs keeps the addresses for {failover.lease:g} s, and the other one takes them "
            f"after {silence:g} s and its skew",
        )


def _link_network(failover: Failover, link: Link) -> Found:
    for key, host in (("bind", link.bind.host), ("peer", link.peer.host)):
        address = ip_address(host)
        for text in failover.virtual_ips:
            virtual = ip_interface(text)
            if address == virtual.ip:
                yield ("link", key), "is a virtual address, which moves; the link needs an address of its own"
                return
            if address.version == virtual.version and address in virtual.network:
                yield ("link", key), f"is in the network of {text}; what cuts that network cuts the link, too"
                return
    if link.peer.host in failover.peers:
        yield ("link", "peer"), "is an address of peers; what cuts the path of the adverts cuts the link, too"


def _link_dead_time(failover: Failover, link: Link) -> Found:
    dead = link_interval(failover, link) * link.dead_after
    silence = failover.down_adverts * failover.advert_interval
    if dead > silence + failover.advert_interval:
        yield (
            ("link",),
            f"it counts as dead after {dead:g} s, but adverts as missing after {silence:g} s and the skew; until "
            "then its last word holds a takeover back",
        )


def _undecided(failover: Failover) -> Found:
    if failover.gateway == "off" and not failover.witnesses and failover.link is not None:
        yield (
            ("gateway",),
            "with off and no witnesses nothing decides after split_hold: a peer that is cut off and says over the "
            "link that it is well keeps the addresses",
        )


_OF_SECTION: tuple[Callable[[Failover], Found], ...] = (
    *(_owner, _no_worker, _single_advert, _peers, _link_local),
    *(_last_resort, _track, _fence, _lease, _undecided),
)
_OF_LINK: tuple[Callable[[Failover, Link], Found], ...] = (_link_network, _link_dead_time)
