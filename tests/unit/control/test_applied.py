"""Pins who is waited for until a change is in force everywhere."""

import asyncio

from pyproxy.control.applied import Applied


async def test_everybody_is_waited_for() -> None:
    """The last one to say it ends the wait."""
    applied = Applied()
    applied.note(0, 1)
    applied.note(1, 1)
    waiting = asyncio.create_task(applied.wait(2, 10.0))
    await asyncio.sleep(0)
    applied.note(0, 2)
    for _ in range(3):
        await asyncio.sleep(0)
    assert not waiting.done()
    applied.note(1, 3)
    assert await waiting == []
    assert applied.oldest(9) == 2


async def test_nobody_is_waited_for_in_vain() -> None:
    """One that ends meanwhile was started with less, and is started again with all."""
    applied = Applied()
    applied.note(0, 1)
    waiting = asyncio.create_task(applied.wait(2, 10.0))
    await asyncio.sleep(0)
    applied.forget(0)
    assert await waiting == []
    assert applied.oldest(9) == 9


async def test_who_is_late_is_named() -> None:
    """Whoever asked can look at that worker."""
    applied = Applied()
    applied.note(0, 2)
    applied.note(3, 1)
    assert await applied.wait(2, 0.0) == [3]
