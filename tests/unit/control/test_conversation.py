"""Pins who ends a hand-over, and how: the speaker's word, its refusal, its end, or time."""

import asyncio

import pytest

from pyproxy.admin.changes import Conflict
from pyproxy.admin.control import Unavailable
from pyproxy.control import conversation
from pyproxy.control.conversation import Conversation


async def test_it_may_begin_and_is_done() -> None:
    """In this order."""
    talk = Conversation()
    talk.handle("handover_begin", "")
    await talk.begun()
    assert await talk.meanwhile(asyncio.sleep(0, "emptied")) == "emptied"
    talk.handle("handover_done", "")
    await talk.done()


async def test_a_refusal_ends_what_goes_on_meanwhile() -> None:
    """The other machine may become unfit while this one is being emptied: nobody waits for the grace then."""
    talk = Conversation()
    talk.handle("handover_begin", "")
    work = asyncio.ensure_future(asyncio.Event().wait())
    waiting = asyncio.ensure_future(talk.meanwhile(work))
    await asyncio.sleep(0)
    talk.handle("handover_refused", "the peer is in fault")
    with pytest.raises(Conflict, match="in fault"):
        await waiting
    await asyncio.gather(work, return_exceptions=True)
    assert work.cancelled()


async def test_a_refusal_at_the_begin_is_a_conflict() -> None:
    """With the speaker's reason."""
    talk = Conversation()
    talk.handle("handover_refused", "no link")
    with pytest.raises(Conflict, match="no link"):
        await talk.begun()


async def test_the_end_of_the_speaker_ends_it() -> None:
    """At each step."""
    talk = Conversation()
    talk.fail(Unavailable("the speaker has ended"))
    for step in (talk.begun(), talk.done()):
        with pytest.raises(Unavailable, match="ended"):
            await step


async def test_silence_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may wait for ever."""
    monkeypatch.setattr(conversation, "BEGIN_SECONDS", 0.0)
    with pytest.raises(Unavailable, match="doesn't answer"):
        await Conversation().begun()


async def test_addresses_that_left_by_themselves_end_it() -> None:
    """A speaker that has released them before it was told can't be told any more."""
    talk = Conversation()
    talk.handle("handover_begin", "")
    talk.handle("handover_done", "")
    with pytest.raises(Conflict, match="by itself"):
        await talk.meanwhile(asyncio.Event().wait())
