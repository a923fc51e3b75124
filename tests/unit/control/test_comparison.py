"""Pins what of a file is told to the other machine, and what is asked of it for a diff."""

import asyncio
from typing import Any

import pytest

from pyproxy.admin.control import Unavailable
from pyproxy.control import comparison as module
from pyproxy.control.comparison import Comparison
from pyproxy.control.drift import digests

SECTIONS = {"client": {"keepalive": "75s"}, "routes": []}


class Stage:
    """A comparison, and what it has told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []
        self.comparison = Comparison(SECTIONS, "lb1", {"vrid": 51}, lambda kind, body: self.told.append((kind, body)))

    def hear(self, client: str = "other") -> None:
        """The other machine tells its digests, of which one section may differ."""
        theirs = {"client": client, "routes": digests(SECTIONS)["routes"]}
        assert self.comparison.handle("config", {"digests": theirs, "host": "lb2", "settings": {"vrid": 51}})


def test_the_begin_tells_digests_and_settings() -> None:
    """No section itself."""
    stage = Stage()
    stage.comparison.greet()
    assert stage.told == [("config", {"digests": digests(SECTIONS), "host": "lb1", "settings": {"vrid": 51}})]


def test_nothing_differs_from_what_nobody_has_told() -> None:
    """A machine that is away isn't drift."""
    stage = Stage()
    assert (stage.comparison.drift(), stage.comparison.peer_settings) == ([], None)
    stage.hear()
    assert (stage.comparison.drift(), stage.comparison.peer_settings) == (["client"], {"vrid": 51})
    stage.hear(digests(SECTIONS)["client"])
    assert stage.comparison.drift() == []


async def test_a_diff_asks_for_what_differs() -> None:
    """And for nothing else; an answer to another question isn't taken for this one's."""
    stage = Stage()
    with pytest.raises(Unavailable, match="no link"):
        await stage.comparison.diff()
    stage.hear()
    asking = asyncio.ensure_future(stage.comparison.diff())
    await asyncio.sleep(0)
    ((kind, question),) = stage.told
    assert (kind, question["names"]) == ("config_ask", ["client"])
    for number in (question["id"] + 1, ["x"], None):
        stage.comparison.handle("config_tell", {"id": number, "sections": {}})
    stage.comparison.handle("config_tell", {"id": question["id"], "sections": {"client": {"keepalive": "60s"}}})
    answer = await asking
    assert answer["drift"] == ["client"]
    assert answer["diff"].startswith("--- lb2 (peer): client\n+++ lb1: client\n")
    assert "-  keepalive: 60s\n+  keepalive: 75s" in answer["diff"]


async def test_without_a_difference_nobody_is_asked() -> None:
    """The digests say it all."""
    stage = Stage()
    stage.hear(digests(SECTIONS)["client"])
    assert await stage.comparison.diff() == {"drift": [], "diff": ""}
    assert stage.told == []


async def test_a_diff_that_gets_no_answer_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """And leaves no question behind."""
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.0)
    stage = Stage()
    stage.hear()
    with pytest.raises(Unavailable, match="doesn't answer"):
        await stage.comparison.diff()
    assert stage.comparison._questions == {}


def test_what_is_asked_for_is_told() -> None:
    """And nothing that there isn't."""
    stage = Stage()
    for names, found in ((["client", "secrets", 7], {"client": SECTIONS["client"]}), ("client", {}), (None, {})):
        assert stage.comparison.handle("config_ask", {"id": 5, "names": names})
        assert stage.told.pop() == ("config_tell", {"id": 5, "sections": found})


def test_what_is_for_somebody_else_is_not_taken() -> None:
    """Nor what has another shape than it should."""
    stage = Stage()
    for kind, body in (("overrides", []), ("config", "none"), ("config_ask", None), ("config_tell", 1)):
        assert not stage.comparison.handle(kind, body)


def test_without_sections_there_is_no_digest() -> None:
    """A machine without a link compares nothing."""
    assert Comparison({}, "lb1", {}, lambda _kind, _body: None).digest is None
    assert Stage().comparison.digest is not None
