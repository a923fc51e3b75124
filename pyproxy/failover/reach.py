"""
What of the world outside a machine reaches, and whether the other machine's word that it reaches more counts.

Must not know what follows. There are two signs of being connected, the gateway and the witnesses. Each is True, False
or None: not asked for, or nothing is known yet. What isn't known is held against nobody.

When both machines lose a sign at the same moment (a spanning tree that blocks both ports), each notices it at a time
of its own, and the other one's last word is still that all is well; when it comes back, one sees it before the other.
So the word counts only if it is of an answer that came after both had been known for a while: that the sign doesn't
answer us, and that it answers the other machine.
"""

from typing import NamedTuple


class Reach(NamedTuple):
    """
    What one machine reaches.

    >>> Reach(False, None).is_cut_off, Reach(False, True).is_cut_off, Reach(None, None).is_cut_off
    (True, False, False)
    >>> Reach(True, None).is_better_than(Reach(False, None)), Reach(True, False).is_better_than(Reach(False, True))
    (True, False)
    """

    gateway: bool | None
    witnesses: bool | None  # whether any of them answers

    @property
    def is_cut_off(self) -> bool:
        """Whether something is known to be out of reach, and nothing is reached."""
        return False in self and True not in self

    def is_better_than(self, other: "Reach") -> bool:
        """Whether one sign is reached here and not there, and none there and not here."""
        pairs = list(zip(self, other, strict=True))
        return (True, False) in pairs and (False, True) not in pairs

    def lacks(self, other: "Reach") -> str:
        """Say what the other one reaches and this one doesn't; empty for nothing."""
        if other.gateway is True and self.gateway is False:
            return "the gateway doesn't answer, and the peer reaches it"
        if other.witnesses is True and self.witnesses is False:
            return "no witness answers, and the peer reaches one"
        return ""


class Comparison:
    """Compares what both machines say of one sign; times are monotonic seconds."""

    def __init__(self) -> None:
        self.is_confirmed = False  # it answers the other machine and not us, and that isn't old news
        self._since: float | None = None  # when the two began to differ

    def __repr__(self) -> str:
        return f"<Comparison {'confirmed' if self.is_confirmed else 'not confirmed'} since {self._since}>"

    def observe(
        self, ours: bool | None, theirs: bool | None, age: float | None, now: float, patience: float, *, is_new: bool
    ) -> None:
        """
        Look at both words; ``age`` is that of their last answer, ``is_new`` whether the peer has just said it.

        An answer counts if it came ``patience`` seconds after the two began to differ.
        """
        if ours is not False or theirs is not True:
            self.is_confirmed, self._since = False, None
            return
        if self._since is None:
            self._since = now
        if is_new:
            self.is_confirmed |= now - (age or 0.0) > self._since + patience
