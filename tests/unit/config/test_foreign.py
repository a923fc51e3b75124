"""Pins that who comes from nginx or HAProxy is sent to a place that exists."""

import re
from pathlib import Path

from pyproxy.config.explain import FOREIGN_FILE
from pyproxy.config.foreign import FOREIGN_WORDS, foreign_hint
from pyproxy.config.tree import FOREIGN

ROOT = Path(__file__).resolve().parents[3]


def anchors() -> set[str]:
    """The anchors of the headings of docs/migration.md, as GitHub and others make them."""
    headings = re.findall(r"(?m)^##+ (.*)$", (ROOT / "docs" / "migration.md").read_text())
    return {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_anchor_is_there() -> None:
    """A renamed heading must not leave a message behind that leads nowhere."""
    known = anchors()
    assert {anchor for _, anchor in FOREIGN_WORDS.values()} <= known
    for text in (FOREIGN, FOREIGN_FILE):
        assert text.partition("#")[2] in known


def test_a_word_of_theirs_is_told_with_what_it_is_here() -> None:
    """And any other word isn't theirs."""
    assert foreign_hint("upstream") == "; here it is pools: see docs/migration.md#the-words"
    assert "there is no such thing here" in foreign_hint("gzip")
    assert foreign_hint("wieght") == foreign_hint(3) == ""
