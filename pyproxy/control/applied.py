"""
Which version of the members each worker goes by, and waiting until all go by the newest.

Must not know what changed, or how a worker is told.
"""

import asyncio


class Applied:
    """The versions, by the slot of each worker that lives."""

    def __init__(self) -> None:
        self._versions: dict[int, int] = {}
        self._changed = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Applied {self._versions}>"

    def note(self, slot: int, version: int) -> None:
        """Take what a worker goes by now."""
        self._versions[slot] = version
        self._wake()

    def forget(self, slot: int) -> None:
        """Note that a worker is gone."""
        self._versions.pop(slot, None)
        self._wake()

    def oldest(self, default: int) -> int:
        """Give the oldest version that any worker may still go by, ``default`` without workers."""
        return min(self._versions.values(), default=default)

    async def wait(self, version: int, seconds: float) -> list[int]:
        """Wait until every worker goes by this version or a later one; return the slots that don't in time."""
        try:
            async with asyncio.timeout(seconds):
                while self.oldest(version) < version:
                    await self._changed.wait()
        except TimeoutError:
            pass
        return sorted(slot for slot, found in self._versions.items() if found < version)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
