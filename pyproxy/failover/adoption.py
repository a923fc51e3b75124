"""
Whether a new process may go on as master where the one before it stopped.

Must not know sockets or the machine. Within a down interval nobody else can have taken over, so the saved state alone
is proof. One that is older may still be right: as long as the kernel has the addresses, the lease of the one before
hasn't ended, and a peer that had taken over would say so once in each interval. So in that case this process listens
for a little longer than one.
"""

import asyncio
from collections.abc import Awaitable, Callable

from pyproxy.failover.saved import Keeper

LISTEN = 1.1  # intervals


async def refusal(
    keeper: Keeper,
    lease: float | None,
    interval: float,
    obstacle: Callable[[], str],
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> str:
    """
    Say why it may not, "" if it may.

    ``lease`` is how long the kernel keeps the addresses by itself, None if it does for ever or doesn't have them;
    ``interval`` is that between two adverts. ``obstacle`` says what speaks against it at the moment: the addresses are
    gone, another master is heard.
    """
    if reason := keeper.refusal(keeper.freshness):
        if keeper.refusal(max(lease or 0.0, keeper.freshness)):
            return reason
        if obstacle():
            return f"{obstacle()}, and {reason}"
        await sleep(LISTEN * interval)
    return obstacle()
