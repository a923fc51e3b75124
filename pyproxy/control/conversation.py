"""
One hand-over as it is talked about with the speaker: may it begin, is it done, or was it refused.

Must not know how the program is emptied in between, nor why the speaker refuses.
"""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from pyproxy.admin.changes import Conflict
from pyproxy.admin.control import Unavailable
from pyproxy.errors import PyproxyError

BEGIN_SECONDS = 2.0  # that the speaker has to find out whether the other machine is fit
DONE_SECONDS = 5.0  # that it has to release the addresses

_Result = TypeVar("_Result")


class Conversation:
    """The speaker's answers as futures; a refusal, or its end, ends whatever is awaited."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._begun: asyncio.Future[None] = loop.create_future()
        self._done: asyncio.Future[None] = loop.create_future()
        for future in (self._begun, self._done):
            future.add_done_callback(_look_at)

    def __repr__(self) -> str:
        return f"<Conversation begun {self._begun.done()} done {self._done.done()}>"

    def handle(self, kind: str, reason: str) -> None:
        """Take what the speaker says."""
        if kind == "handover_begin" and not self._begun.done():
            self._begun.set_result(None)
        elif kind == "handover_done" and not self._done.done():
            self._done.set_result(None)
        elif kind == "handover_refused":
            self.fail(Conflict(reason or "the speaker refuses"))

    def fail(self, error: PyproxyError) -> None:
        """End it."""
        for future in (self._begun, self._done):
            if not future.done():
                future.set_exception(error)

    async def begun(self) -> None:
        """Wait until it may begin; ``Conflict`` if it may not, ``Unavailable`` if nobody says."""
        await _within(self._begun, BEGIN_SECONDS, "the speaker doesn't answer")

    async def done(self) -> None:
        """Wait until the addresses are released."""
        await _within(self._done, DONE_SECONDS, "the speaker hasn't released the addresses in time")

    async def meanwhile(self, work: Awaitable[_Result]) -> _Result:
        """Do something until it is done, or until the speaker has refused after all."""
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait((task, self._done), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                self._done.result()  # raises, unless it has released them by itself
            else:
                return task.result()
            raise Conflict("the speaker has released the addresses by itself")
        finally:
            task.cancel()


def _look_at(future: "asyncio.Future[None]") -> None:
    """Keep the loop from complaining of an error that nobody has waited for."""
    if not future.cancelled():
        future.exception()


async def _within(future: "asyncio.Future[None]", seconds: float, problem: str) -> None:
    try:
        await asyncio.wait_for(asyncio.shield(future), seconds)
    except TimeoutError:
        raise Unavailable(problem) from None
