"""
Two masters at once: noticing it, and adding up how long it lasted.

Must not know how it is resolved (``machine``). A single foreign advert proves nothing: a master that steps down says
so with one of its own.
"""


class DualWatch:
    """Knows since when another master is heard, by its adverts or over the link; times are monotonic seconds."""

    def __init__(self) -> None:
        self.total = 0.0
        self._first: float | None = None  # of the foreign adverts that follow each other
        self._last = 0.0
        self._link_since: float | None = None
        self._since: float | None = None

    def __repr__(self) -> str:
        return f"<DualWatch {'on' if self.is_on else 'off'} {self.total:.3g} s>"

    @property
    def is_on(self) -> bool:
        """Whether there are two masters."""
        return self._since is not None

    def seconds(self, now: float) -> float:
        """How long there have been two masters, all in all."""
        return self.total + (now - self._since if self._since is not None else 0.0)

    def hear(self, now: float, interval: float) -> None:
        """Note a foreign advert while we are master; ``interval`` is what it says."""
        if self._first is None:
            self._first = now
        elif now - self._first >= interval / 2 and self._since is None:
            self._since = self._first
        self._last = now

    def end_adverts(self, now: float) -> None:
        """Note that no foreign advert came for a while."""
        self._first = None
        if self._link_since is None:
            self._close(self._last)

    def hear_link(self, now: float, *, is_master: bool, patience: float) -> bool:
        """Note what the link says of the peer; return whether it has been master too for ``patience``."""
        if not is_master:
            self._link_since = None
            if self._first is None:
                self._close(now)
            return False
        if self._link_since is None:
            self._link_since = now
        if now - self._link_since < patience:
            return False
        if self._since is None:
            self._since = self._link_since
        return True

    def leave(self, now: float) -> None:
        """Note that we are no longer master."""
        self._first = self._link_since = None
        self._close(now)

    def _close(self, end: float) -> None:
        if self._since is not None:
            self.total += max(end - self._since, 0.0)
            self._since = None
