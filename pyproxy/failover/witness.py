"""
Ask whether this machine is connected: hosts and ports that a connected machine reaches.

Must not know what follows from it. A witness is reached when a TCP connection is accepted, or refused: also a refusal
came from there. Names are looked up in a thread, and the last good answer serves when there is no other, for the name
server may be behind the very path that is in doubt. When a takeover is near, ``hurry`` asks all of them at once and
with less patience.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pyproxy.clock import monotonic, wall
from pyproxy.failover.settings import Endpoint

INTERVAL = 1.0
TIMEOUT = 1.0
LEAST_PATIENCE = 0.01
FALL = 2  # failures in succession until a witness counts as unreachable

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class WitnessState:
    """One witness; ``is_ok`` is None until something is known of it."""

    endpoint: Endpoint
    is_ok: bool | None = None
    failures: int = 0
    detail: str = ""
    at: float | None = None
    address: str = ""  # the last one that the name led to

    def record(self, failure: str) -> bool:
        """Take the result of one attempt, "" is success; whether that changed ``is_ok``."""
        before = self.is_ok
        self.at = wall()
        self.detail = failure
        self.failures = self.failures + 1 if failure else 0
        if not failure:
            self.is_ok = True
        elif self.failures >= FALL:
            self.is_ok = False
        return self.is_ok != before


class Witnesses:
    """
    Ask all witnesses again and again; ``start`` and ``close`` inside a running event loop.

    ``on_answer`` is called when one has answered, ``on_change`` after that when what is known of one has changed.
    """

    def __init__(
        self, endpoints: Sequence[Endpoint], on_change: Callable[[], None], on_answer: Callable[[], None] = lambda: None
    ) -> None:
        self.answered_at: float | None = None  # monotonic; when any of them answered last
        self._on_answer = on_answer
        self.states = [WitnessState(endpoint) for endpoint in endpoints]
        self._on_change = on_change
        self._tasks: list[asyncio.Task[None]] = []
        self._patience = TIMEOUT

    def __repr__(self) -> str:
        return f"<Witnesses {self.verdict()} of {len(self.states)}>"

    def verdict(self) -> bool | None:
        """Whether any is reached; None if there are none, or as long as nothing is known and none is reached."""
        results = [state.is_ok for state in self.states]
        if True in results:
            return True
        return None if None in results or not results else False

    def to_plain(self) -> list[dict[str, Any]]:
        """Write them as JSON can hold them."""
        return [
            {"name": str(state.endpoint), "ok": state.is_ok, "detail": state.detail, "at": state.at}
            for state in self.states
        ]

    def hurry(self, seconds: float) -> None:
        """Find out anew, and within so many seconds; what was known counts no more."""
        if not self.states:
            return
        for task in self._tasks:
            task.cancel()
        for state in self.states:
            state.failures = 0
        self._patience = max(min(TIMEOUT, seconds / (FALL + 1)), LEAST_PATIENCE)
        self.start()

    def start(self) -> None:
        """Begin to ask."""
        self._tasks = [asyncio.ensure_future(self._watch(state)) for state in self.states]

    async def close(self) -> None:
        """Stop asking."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _watch(self, state: WitnessState) -> None:
        while True:
            failure = await _ask(state, self._patience)
            if not failure:
                self.answered_at = monotonic()
                self._on_answer()
            if state.record(failure):
                _log.info("witness %s is %s %s", state.endpoint, "reached" if state.is_ok else "lost:", state.detail)
                self._on_change()
            if state.failures in (0, FALL):
                self._patience = TIMEOUT
            # In a hurry the next attempt follows at once.
            await asyncio.sleep(INTERVAL if self._patience == TIMEOUT else 0)


async def _ask(state: WitnessState, patience: float) -> str:
    """Try once, for at most ``patience`` seconds a step; "" if something answered."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(patience):
            found = await loop.getaddrinfo(state.endpoint.host, state.endpoint.port, type=socket.SOCK_STREAM)
            state.address = str(found[0][4][0])
    if not state.address:
        return "its name can't be looked up"
    family = socket.AF_INET6 if ":" in state.address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.setblocking(False)
            async with asyncio.timeout(patience):
                await loop.sock_connect(sock, (state.address, state.endpoint.port))
    except ConnectionRefusedError:
        return ""
    except TimeoutError:
        return f"no answer within {patience:.3g} s"
    except OSError as error:
        return error.strerror or str(error)
    return ""
