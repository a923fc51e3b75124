"""
Which backends of a pool are passed over, for how long, because live traffic failed on them.

Must not know who counts failures, what a member is, nor the clock: backends are numbers, and the time is an argument.
Theory of operation::

                eject: unless too few others are available
      back ─────────────────────────────────────────────────▶ ejected
        ▲                                                       │
        └───────────────────────────────────────────────────────┘
           its time is up (due) · a check passed that began meanwhile (end_by_check) · too few
           others are left (wanted) · somebody says so (end)

Answers of 502 to 504 are less than a failure: a single URL, or a single client's requests, may bring them forth on
every backend. They count only if together they came to two clients and two paths, over all who report them
(``Evidence``), and eject at most a third of the backends, but one in any case.

The first ejection takes ``eject`` seconds, each further one twice as long, up to ``max_eject``. Whoever has not been
ejected again within ``max_eject`` after coming back begins anew: a node that fails for good is tried about every
``max_eject``, one that had a bad day isn't held to it.
"""

from collections.abc import Collection

from pyproxy.config.runtime import Outlier

#: What was reported longer ago says nothing any more; whoever goes on failing is reported every second.
EVIDENCE_SECONDS = 10.0
_MOST_DOUBLINGS = 30  # 0.1 s, the shortest first time, is years by then


class Evidence:
    """
    To whom a backend gave answers of 502 to 504, as reports of several workers say; at most two of each are kept.

    >>> evidence = Evidence()
    >>> evidence.add([1], [7], now=0.0), evidence.add([2], [7], now=1.0), evidence.add([2], [8], now=2.0)
    (False, False, True)
    >>> evidence.add([2], [8], now=13.0)
    False
    """

    __slots__ = ("_clients", "_paths")

    def __init__(self) -> None:
        self._clients: dict[int, float] = {}  # when it was reported last
        self._paths: dict[int, float] = {}

    def add(self, clients: Collection[int], paths: Collection[int], now: float) -> bool:
        """Take a report, and return whether there are two clients and two paths."""
        for known, new in ((self._clients, clients), (self._paths, paths)):
            for each in [each for each, at in known.items() if now - at > EVIDENCE_SECONDS]:
                del known[each]
            for each in new:
                if each in known or len(known) < 2:
                    known[each] = now
        return len(self._clients) > 1 and len(self._paths) > 1


class Ejections:
    """
    The ejections of one pool.

    >>> ejections = Ejections(Outlier(consecutive=5, eject=10.0, max_eject=25.0, min_available=1))
    >>> ejections.eject(7, able={7, 8}, now=0.0), ejections.eject(8, able={7, 8}, now=1.0)
    (10.0, None)
    >>> ejections.due(10.0), ejections.end(7, now=10.0)
    ([7], 10.0)
    >>> ejections.eject(7, able={7, 8}, now=11.0), ejections.end(7, now=31.0)
    (20.0, 20.0)
    >>> ejections.eject(7, able={7, 8}, now=32.0), ejections.end(7, now=57.0), ejections.eject(7, {7, 8}, now=82.0)
    (25.0, 25.0, 10.0)
    """

    __slots__ = ("_by_answers", "_config", "_evidence", "_past", "_present")

    def __init__(self, config: Outlier) -> None:
        self._config = config
        self._present: dict[int, tuple[float, float]] = {}  # by backend: when it began, when it ends
        self._past: dict[int, tuple[int, float]] = {}  # by backend: how many in a row, when the last one ended
        self._evidence: dict[int, Evidence] = {}
        self._by_answers: set[int] = set()  # of the present ones

    def __repr__(self) -> str:
        return f"<Ejections {sorted(self._present)}>"

    def __contains__(self, backend: int) -> bool:
        return backend in self._present

    @property
    def next_end(self) -> float | None:
        """When the next one is over."""
        return min([end for _, end in self._present.values()], default=None)

    def needs_answers(self, failures: int, answers: int) -> bool:
        """Whether so many failures in a row are enough only together with those of them that were answers."""
        return failures - answers < self._config.consecutive

    def has_evidence(self, backend: int, clients: Collection[int], paths: Collection[int], now: float) -> bool:
        """Take to whom answers came, and return whether they count."""
        return self._evidence.setdefault(backend, Evidence()).add(clients, paths, now)

    def may_eject_for_answers(self, size: int) -> bool:
        """Whether fewer are ejected for answers than may be."""
        return len(self._by_answers) < max(size // 3, 1)

    def eject_for_answers(self, backend: int, able: Collection[int], size: int, now: float) -> float | None:
        """Eject for answers, which is possible for a third of ``size`` backends or for one; else as ``eject``."""
        if not self.may_eject_for_answers(size):
            return None
        seconds = self.eject(backend, able, now)
        if seconds is not None:
            self._by_answers.add(backend)
        return seconds

    def eject(self, backend: int, able: Collection[int], now: float) -> float | None:
        """
        Eject a backend, and return for how many seconds; None if it is already, or can't be spared.

        ``able`` are those that are available but for ejections.
        """
        if backend in self._present:
            return None
        others = [other for other in able if other != backend and other not in self._present]
        if backend in able and len(others) < self._config.min_available:
            return None
        before, ended = self._past.get(backend, (0, now))
        if now - ended >= self._config.max_eject:
            before = 0
        seconds = min(self._config.eject * 2 ** min(before, _MOST_DOUBLINGS), self._config.max_eject)
        self._past[backend] = before + 1, now
        self._present[backend] = now, now + seconds
        return float(seconds)

    def end(self, backend: int, now: float) -> float | None:
        """Let a backend come back, and return after how many seconds; None if it wasn't ejected."""
        present = self._present.pop(backend, None)
        self._by_answers.discard(backend)
        self._evidence.pop(backend, None)
        if present is None:
            return None
        count, _ = self._past[backend]
        self._past[backend] = count, now
        return now - present[0]

    def end_by_check(self, backend: int, began: float, now: float) -> float | None:
        """Do the same for a check that passed, unless it began before the ejection: then it may know nothing of it."""
        present = self._present.get(backend)
        return self.end(backend, now) if present is not None and began >= present[0] else None

    def forget(self, backend: int) -> None:
        """Know nothing of a backend any more."""
        self._present.pop(backend, None)
        self._past.pop(backend, None)
        self._by_answers.discard(backend)
        self._evidence.pop(backend, None)

    def remaining(self, backend: int, now: float) -> float:
        """Give the seconds until a backend comes back; 0 if it isn't ejected."""
        present = self._present.get(backend)
        return max(present[1] - now, 0.0) if present is not None else 0.0

    def due(self, now: float) -> list[int]:
        """Give those whose time is up."""
        return [backend for backend, (_, end) in self._present.items() if end <= now]

    def wanted(self, able: Collection[int]) -> list[int]:
        """Give those that have to come back before their time, since too few others are available, soonest first."""
        missing = self._config.min_available - len([backend for backend in able if backend not in self._present])
        if missing <= 0:
            return []
        found = [backend for backend in able if backend in self._present]
        return sorted(found, key=lambda backend: self._present[backend][1])[:missing]

    def known(self) -> set[int]:
        """Give every backend of which anything is known."""
        return set(self._past) | set(self._evidence)
