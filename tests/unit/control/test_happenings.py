"""Pins the words of events: what came, went, was set, is over."""

from dataclasses import replace

from pyproxy.config.runtime import Backend
from pyproxy.control.events import Events
from pyproxy.control.happenings import (
    tell_change,
    tell_ejection,
    tell_flip,
    tell_over,
    tell_return,
    tell_speaker,
    tell_word,
)
from pyproxy.control.overrides import Note, Override
from tests.unit.control.test_overrides import pool

A = Backend("a", "10.0.0.1", 80, 1, backup=False, max_conns=0)


def rows(events: Events) -> list[tuple[object, ...]]:
    """What was told, without its time."""
    return [tuple(event.values())[1:] for _, event in events.since(0)[1]]


def test_each_setting_is_an_event() -> None:
    """And another address is another backend."""
    events = Events()
    before = pool(A, replace(A, name="b"))
    after = pool(replace(A, state="maint", weight=3), replace(A, name="b", port=81))
    tell_change(events, before, after, "why", "me")
    assert rows(events) == [
        ("removed", "web", "b", "10.0.0.1:80", None, "why", "me"),
        ("added", "web", "b", None, "10.0.0.1:81", "why", "me"),
        ("state", "web", "a", "ready", "maint", "why", "me"),
        ("weight", "web", "a", 1, 3, "why", "me"),
    ]


def test_what_is_over_says_who_had_set_it() -> None:
    """A setting with both values, a whole backend in a word."""
    events = Events()
    note = Note("me", "kernel", 1.0)
    tell_over(events, Override("web", "a", "weight", 3, 1, note), "expired")
    tell_over(events, Override("web", "c", "", {"host": "10.0.0.9"}, None, replace(note, reason=None)), "overruled")
    assert rows(events) == [
        ("expired", "web", "a", 3, 1, "weight, set by me (kernel)", None),
        ("overruled", "web", "c", "added", None, "the backend itself, set by me", None),
    ]


def test_a_flip_that_is_none_is_no_event() -> None:
    """Nor is one of a member that has left."""
    events = Events()
    tell_flip(events, "web", A, "up", None)
    tell_flip(events, "web", None, "down", None)
    tell_flip(events, "web", A, "checking", None)
    assert rows(events) == [("health", "web", "a", "up", "checking", None, None)]


def test_a_word_of_the_node_is_its_reason() -> None:
    """If it makes a difference: the operator's may be as strict."""
    events = Events()
    tell_word(events, "web", A, replace(A, state="drain", steered=True))
    tell_word(events, "web", A, A)
    tell_word(events, "web", None, None)
    assert rows(events) == [("state", "web", "a", "ready", "drain", "by the node", None)]


def test_what_the_speaker_says_is_an_event() -> None:
    """A transition with both states, an alarm with its name."""
    events = Events()
    tell_speaker(events, {"kind": "transition", "from": "backup", "to": "master", "reason": "no advert for 3.6 s"})
    tell_speaker(events, {"kind": "alarm", "name": "dual_master", "on": True, "reason": "10.0.0.2 is master too"})
    _, found = events.since(0)
    assert [[event[key] for key in ("kind", "from", "to", "reason")] for _, event in found] == [
        ["failover", "backup", "master", "no advert for 3.6 s"],
        ["alarm", None, "on", "dual_master: 10.0.0.2 is master too"],
    ]


def test_an_ejection_and_its_end_are_events() -> None:
    """With the failures and the time, and with the reason why it is over."""
    events = Events()
    tell_ejection(events, ("web", "a"), 20.0, "5 failures in a row, the last: x")
    tell_return(events, ("web", "a"), "a check passed")
    _, found = events.since(0)
    assert [[event[key] for key in ("kind", "pool", "backend", "to", "reason")] for _, event in found] == [
        ["ejected", "web", "a", "for 20 s", "5 failures in a row, the last: x"],
        ["returned", "web", "a", None, "a check passed"],
    ]
