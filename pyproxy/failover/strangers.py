"""
Whose advert it is: the other machine's, or that of somebody who isn't the peer.

Must not know states or timers. Anybody on the network can send an advert, so the link, which has a key, is believed
first: it tells which addresses the peer's adverts come from, and what it is. Without a link there are ``peers`` in
the file; without these too, whoever says that he has our addresses is taken for the other machine, as RFC 9568 has it.
"""

from pyproxy.failover.packet import Advert
from pyproxy.failover.settings import Settings
from pyproxy.failover.takeover import Facts


def stranger_word(settings: Settings, facts: Facts, advert: Advert, source: str) -> str:
    """Say who sent an advert that isn't the peer's, empty if it may be the peer's."""
    who = f"{source} sends adverts for VRID {settings.vrid} with priority {advert.priority}"
    if facts.peer is not None and facts.link != "none" and facts.peer.sources:
        if source in facts.peer.sources:
            return ""
        return f"{who} and isn't the peer, whose adverts come from {_listed(facts.peer.sources)}"
    if source in settings.peers or not advert.addresses:
        return ""
    if set(advert.addresses) & set(settings.addresses(advert.family)):
        return ""
    return f"{who} and other addresses ({_listed(advert.addresses)}): another pair uses our VRID"


def contradiction(facts: Facts, advert: Advert, source: str) -> str:
    """Say how an advert from the peer's address contradicts what the peer says over the link, empty if it doesn't."""
    peer = facts.linked_peer
    if peer is None:
        return ""
    if advert.priority == 0:
        is_contrary = peer.state == "master" and not peer.released
    else:
        is_contrary = peer.state != "master" or advert.priority != peer.priority
    if not is_contrary:
        return ""
    return (
        f"an advert from {source} with priority {advert.priority} isn't the peer's: over the link it says that it is "
        f"{peer.state} with priority {peer.priority}"
    )


def _listed(addresses: "frozenset[str] | tuple[str, ...]") -> str:
    return ", ".join(sorted(addresses)) or "nowhere"
