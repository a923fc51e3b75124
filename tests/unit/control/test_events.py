"""Pins what is kept of what happened, where a listener may go on, and that nobody waits for a listener."""

import asyncio
from typing import Any

import pytest

from pyproxy.control.events import Events


def told(events: Events, number: int) -> tuple[str | None, list[Any]]:
    """The note, and the values, of what came after a number."""
    note, found = events.since(number)
    return (None if note is None else note["kind"]), [(n, event["to"]) for n, event in found]


def filled(count: int, kept: int = 3) -> Events:
    """So many events, numbered by their value."""
    events = Events(kept, clock=lambda: 0.25)
    for number in range(1, count + 1):
        events.publish("state", pool="web", backend="a", before="ready", after=number, reason="why", by="me")
    return events


def test_an_event_says_what_became_of_whom() -> None:
    """Every key is there, also without a value."""
    events = filled(1)
    events.publish("stopping")
    (_, first), (_, second) = events.since(0)[1]
    assert first == {
        "at": "1970-01-01T00:00:00.250Z",
        "kind": "state",
        "pool": "web",
        "backend": "a",
        "from": "ready",
        "to": 1,
        "reason": "why",
        "by": "me",
    }
    assert second == dict.fromkeys(first) | {"at": first["at"], "kind": "stopping"}


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (5, (None, [])),
        (4, (None, [(5, 5)])),
        (2, (None, [(3, 3), (4, 4), (5, 5)])),
        (1, ("skipped", [(3, 3), (4, 4), (5, 5)])),
        (0, ("skipped", [(3, 3), (4, 4), (5, 5)])),
        (-1, ("skipped", [(3, 3), (4, 4), (5, 5)])),
    ],
)
def test_a_listener_gets_what_is_kept_and_a_note_about_the_rest(number: int, expected: object) -> None:
    """Of five events three are kept; who has seen the second has missed none."""
    assert told(filled(5), number) == expected


def test_before_anything_has_happened() -> None:
    """Nobody has missed anything, unless he comes from another run."""
    assert told(Events(), 0) == (None, [])
    assert told(Events(), -1) == ("skipped", [])


def test_an_id_leads_back_to_its_event_in_this_run_only() -> None:
    """Another run's, one that is still to come, and nonsense are unknown; 0 is the beginning."""
    events = filled(5)
    assert events.find(events.id_of(4)) == 4
    run = events.id_of(0).removesuffix("0")
    unknown = ["", "4", "-4", f"{run}6", f"{run}", f"{run}²", f"{run}-1", f"{run}{'9' * 5000}", Events().id_of(0)]
    assert [events.find(text) for text in unknown] == [-1] * len(unknown)
    assert events.find("0") == 0


async def test_who_waits_hears_of_the_next_one() -> None:
    """At once if there is one already; and when he is to look up for another reason."""
    events = filled(1)
    await events.changed(0)

    def publish() -> None:
        events.publish("state")

    for call in (publish, events.wake):
        waiting = asyncio.ensure_future(events.changed(events.last))
        await asyncio.sleep(0)
        assert not waiting.done()
        call()
        await asyncio.wait_for(waiting, 5)
