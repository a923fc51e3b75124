"""What the two machines of a pair are told alike, and what VRRP promises for it. Knows no implementation."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tests.lab.topology import VIP, VIP6, VIP6_LOCAL, Machine


@dataclass(frozen=True, slots=True)
class Pair:
    """Settings that both machines share; ``interval`` is in seconds."""

    interval: float = 0.1
    version: int = 3
    virtual_ips: tuple[str, ...] = (f"{VIP}/32",)
    unicast: bool = False
    preempt: bool = False
    vrid: int = 51

    @property
    def is_ipv6(self) -> bool:
        """Whether the adverts go over IPv6."""
        return ":" in self.virtual_ips[0]

    @property
    def address(self) -> str:
        """The virtual address that clients use."""
        return self.virtual_ips[-1].partition("/")[0]

    def skew(self, priority: int) -> float:
        """Return how much longer than the down adverts a backup waits."""
        return (256 - priority) / 256 * (1.0 if self.version == 2 else self.interval)

    def down_time(self, priority: int) -> float:
        """Return how long after the last advert a backup takes over."""
        return 3 * self.interval + self.skew(priority)


MULTICAST = Pair()
KINDS = {
    "v3": MULTICAST,
    "unicast": Pair(unicast=True),
    "v2": Pair(interval=1.0, version=2),  # whole seconds only
    "ipv6": Pair(virtual_ips=(f"{VIP6_LOCAL}/64", f"{VIP6}/128")),
}


class Node(Protocol):
    """One machine's part in the pair, whoever plays it."""

    machine: Machine

    @property
    def transitions(self) -> list[str]:
        """The states that it entered."""
        ...

    @property
    def complaints(self) -> list[str]:
        """What its log says about packets that it refused, or about itself."""
        ...

    @property
    def state(self) -> str:
        """``master``, ``backup``, ``fault``, or empty before it has one."""
        ...

    def await_state(self, state: str) -> None:
        """Wait until it is in a state."""
        ...

    def stop(self) -> None:
        """Let it give the address away and end."""
        ...

    def kill(self) -> None:
        """Kill -9 of all its processes at once."""
        ...


StartNode = Callable[[Machine, Pair, int], Node]
