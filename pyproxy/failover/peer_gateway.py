"""
Whether the other machine's word that it reaches the gateway counts against us, who don't.

Must not know what follows. When both lose the gateway at the same moment (a spanning tree that blocks both ports),
each notices it at a time of its own, and the other one's last word is still that all is well; when it comes back, one
sees it before the other. So the word counts only if it is of an answer that came after both had been known for a
while: that the gateway doesn't answer us, and that it answers the other machine.
"""

from pyproxy.failover.takeover import Facts, PeerFacts


class PeerGateway:
    """Compares what both machines know of the gateway; times are monotonic seconds."""

    def __init__(self) -> None:
        self.is_confirmed = False  # the gateway answers the other machine and not us, and that isn't old news
        self._since: float | None = None  # when the two began to differ
        self._word: PeerFacts | None = None  # the last one, which says nothing new when it is looked at again

    def __repr__(self) -> str:
        return f"<PeerGateway {'confirmed' if self.is_confirmed else 'not confirmed'} since {self._since}>"

    def observe(self, facts: Facts, now: float, patience: float) -> None:
        """Look at the facts; an answer counts if it came ``patience`` seconds after the two began to differ."""
        peer, before = facts.linked_peer, self._word
        self._word = peer
        if facts.gateway is not False or peer is None or peer.gateway is not True:
            self.is_confirmed, self._since = False, None
            return
        if self._since is None:
            self._since = now
        if peer is not before:
            self.is_confirmed |= now - (peer.gateway_age or 0.0) > self._since + patience
