"""
Ask a worker what would become of a request: the questions that are on their way, and who waits for the answer.

Must not know what is asked, or what the answer means.
"""

import asyncio
from typing import Any, cast

from pyproxy.admin.control import ExplanationView, Question, Unavailable
from pyproxy.control.worker import WorkerState
from pyproxy.control.workers import Workers

DEADLINE = 2.0


class Explainer:
    """Puts each question to the first worker that is ready."""

    def __init__(self, workers: Workers, deadline: float = DEADLINE) -> None:
        self._workers = workers
        self._deadline = deadline
        self._pending: dict[int, tuple[int, asyncio.Future[ExplanationView]]] = {}  # by number: slot, who waits
        self._last = 0

    def __repr__(self) -> str:
        return f"<Explainer {len(self._pending)} pending>"

    async def explain(self, question: Question) -> ExplanationView:
        """Get the answer; raises ``Unavailable`` if there is no worker, or if it ends or takes too long."""
        worker = next((worker for worker in self._workers.alive() if worker.state is WorkerState.READY), None)
        if worker is None:
            raise Unavailable("no worker is ready")
        self._last += 1
        number = self._last
        future: asyncio.Future[ExplanationView] = asyncio.get_running_loop().create_future()
        self._pending[number] = worker.slot, future
        worker.send({"type": "explain", "id": number, "request": question})
        try:
            async with asyncio.timeout(self._deadline):
                return await future
        except TimeoutError:
            raise Unavailable(f"worker {worker.slot} did not answer within {self._deadline:g} s") from None
        finally:
            del self._pending[number]

    def handle_answer(self, message: dict[str, Any]) -> None:
        """Take an answer; one that nobody waits for any more is dropped."""
        _, future = self._pending.get(message["id"], (0, None))
        if future is not None and not future.done():
            future.set_result(cast(ExplanationView, message["result"]))

    def handle_end(self, slot: int) -> None:
        """Note that a worker is gone, with the questions that it was asked."""
        for asked, future in self._pending.values():
            if asked == slot and not future.done():
                future.set_exception(Unavailable(f"worker {slot} ended before it answered"))
