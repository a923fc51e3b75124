"""Check results to up or down: pure arithmetic on one integer. Must not know what a check is, nor the time."""


class CheckCounter:
    """
    Turn a stream of check results into up or down; the very first result decides alone.

    One integer holds the whole state: below ``rise`` the backend is down, at or above it is up, and a contrary
    result starts the count again (HAProxy's scheme)::

        0 ... rise-1 | rise ... rise+fall-1
          down, sure at 0    up, sure at the top

    >>> check = CheckCounter(rise=2, fall=3)
    >>> check.record(True), check.health
    (True, 'up')
    >>> [check.record(ok) for ok in (False, False, True, False, False, False)]
    [False, False, False, False, False, True]
    >>> [check.record(ok) for ok in (True, False, True, True)], check.health
    ([False, False, False, True], 'up')
    """

    __slots__ = ("_fall", "_rise", "_value")

    def __init__(self, rise: int, fall: int) -> None:
        self._rise = rise
        self._fall = fall
        self._value: int | None = None

    def __repr__(self) -> str:
        return f"<CheckCounter {self.health} {self._value}>"

    @property
    def health(self) -> str:
        """``checking`` before the first result, then ``up`` or ``down``."""
        if self._value is None:
            return "checking"
        return "up" if self._value >= self._rise else "down"

    @property
    def is_in_balance(self) -> bool:
        """Whether the latest results speak against the present state, or nothing is known yet."""
        return self._value not in (0, self._rise + self._fall - 1)

    def record(self, ok: bool) -> bool:
        """Take a result; return whether it changed the health."""
        before = self.health
        top = self._rise + self._fall - 1
        if self._value is None:
            self._value = top if ok else 0
        elif ok:
            self._value = self._value + 1 if self._value < self._rise - 1 else top
        else:
            self._value = self._value - 1 if self._value > self._rise else 0
        return self.health != before
