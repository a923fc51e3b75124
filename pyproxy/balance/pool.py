"""A named group of backends with one policy: which of them are eligible, and which one is next."""

from collections.abc import Collection, Sequence

from pyproxy.balance.backend import Backend
from pyproxy.balance.policies import POLICIES, Policy


class Pool:
    """
    Pick backends; the eligible ones are worked out when something flips, never on a pick.

    ``offset`` makes the workers' round robins start at different places.
    """

    __slots__ = ("_offset", "_policy", "_policy_name", "backends", "eligible", "name")

    def __init__(self, name: str, policy: str, backends: Sequence[Backend], offset: int = 0) -> None:
        self.name = name
        self.backends = tuple(backends)
        self._policy_name = policy
        self._offset = offset
        self.rebuild()

    def rebuild(self) -> None:
        """Work out anew who is eligible: the primary backends, or the backup tier while there are none."""
        candidates = [backend for backend in self.backends if backend.weight]
        primary = tuple(backend for backend in candidates if not backend.backup)
        self.eligible = primary or tuple(candidates)
        self._policy: Policy | None = None
        if self.eligible:
            self._policy = POLICIES[self._policy_name](self.eligible, self._offset)

    def pick(self, tried: Collection[Backend] = ()) -> Backend | None:
        """
        Give the backend for the next attempt, None if there is none.

        One that is in ``tried`` comes only when every eligible backend is.
        """
        policy = self._policy
        if policy is None:
            return None
        if not tried:
            return policy.pick()
        for _ in self.eligible:
            backend = policy.pick()
            if backend not in tried:
                return backend
        return next((backend for backend in self.eligible if backend not in tried), policy.pick())

    def __repr__(self) -> str:
        return f"<Pool {self.name} {len(self.eligible)}/{len(self.backends)} eligible>"
