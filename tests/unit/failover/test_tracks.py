"""Checks of the service: when one has failed, what follows for the machine, and how an answer is read."""

import asyncio
import doctest
from collections.abc import Sequence
from typing import Any

import pytest

from pyproxy.failover import tracks as module
from pyproxy.failover.jobs import Result
from pyproxy.failover.settings import Track
from pyproxy.failover.tracks import Tracks, TrackState
from tests.unit.failover.settings import settings

PLAIN: dict[str, Any] = {
    "run": ["is-well"],
    "endpoint": None,
    "url": "",
    "path": "",
    "interval": 0.0,
    "timeout": 1.0,
    "rise": 2,
    "fall": 3,
    "on_fail": "release",
    "by": 50,
}


def track(**changes: Any) -> Track:
    """Make a check, by default a command."""
    return settings(track=[{**PLAIN, **changes}]).track[0]


def test_doctest() -> None:
    """The examples in the documentation are true."""
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize(
    ("results", "verdicts"),
    [
        ("+", [True]),
        ("---", [None, None, False]),
        ("--+", [None, None, True]),
        ("+--+---", [True, True, True, True, True, True, False]),
        ("---+-++", [None, None, False, False, False, False, True]),
    ],
)
def test_a_verdict_takes_results_in_succession(results: str, verdicts: list[bool | None]) -> None:
    """``fall`` failures, ``rise`` successes; what speaks for the present verdict begins the count anew."""
    state, found = TrackState(track()), []
    for result in results:
        before = state.is_ok
        assert state.record("" if result == "+" else "exit status 1") is (state.is_ok != before)
        found.append(state.is_ok)
    assert found == verdicts
    assert state.at is not None


def test_what_fails_releases_or_lowers() -> None:
    """One that has no verdict yet does neither, since a restart is no failure."""
    tracks = Tracks([track(), track(on_fail="lower", by=30), track(on_fail="lower", by=40)], never, lambda: None)
    assert (tracks.failure(), tracks.lowered()) == ("", 0)
    for state in tracks.states:
        state.is_ok, state.detail = False, "exit status 1"
    assert (tracks.failure(), tracks.lowered()) == ("is-well fails: exit status 1", 70)
    tracks.states[0].is_ok = tracks.states[2].is_ok = True
    assert (tracks.failure(), tracks.lowered()) == ("", 30)


async def never(_: Sequence[str], __: float) -> Result:
    """Run nothing."""
    raise AssertionError


async def test_a_command_is_run_again_and_again_and_only_changes_are_told() -> None:
    """By its exit code."""
    results = ["-", "-", "-", "-", "+", "+", "+"]
    done = asyncio.Event()

    async def run(argv: Sequence[str], timeout: float) -> Result:
        assert (argv, timeout) == (("is-well",), 1.0)
        if not results:
            done.set()
            await asyncio.Event().wait()
        return Result(0 if results.pop(0) == "+" else 1, "")

    changes: list[str] = []
    tracks = Tracks([track()], run, lambda: changes.append(tracks.failure()))
    tracks.start()
    await done.wait()
    assert changes == ["is-well fails: exit status 1", ""]
    assert tracks.to_plain()[0] | {"at": 0} == {
        "name": "is-well",
        "ok": True,
        "detail": "ok",
        "at": 0,
        "on_fail": "release",
    }
    await tracks.close()


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "is-well"),
        ({"run": None, "endpoint": {"host": "::1", "port": 80}}, "tcp [::1]:80"),
        (
            {"run": None, "endpoint": {"host": "::1", "port": 80}, "url": "http://[::1]/x", "path": "/x"},
            "http://[::1]/x",
        ),
    ],
)
def test_it_is_named_by_what_it_checks(changes: dict[str, Any], name: str) -> None:
    """The operator wrote it down."""
    assert TrackState(track(**changes)).name == name
