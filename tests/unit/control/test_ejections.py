"""Pins what becomes of workers' reports: who is passed over, who hears of it, and what ends it."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest

from pyproxy.config.load import load_text
from pyproxy.config.runtime import from_plain
from pyproxy.control.ejections import Ejector
from pyproxy.control.events import Events
from pyproxy.control.members import Members
from pyproxy.control.settings import make_settings
from tests.fakes import FakeLoop

FILE = """
listeners: [{bind: "127.0.0.1:80"}]
routes: [{pool: web}]
pools:
  web:
    backends:
      - {name: a, address: "10.0.0.1:80"}
      - {name: b, address: "10.0.0.2:80"}
      - {name: c, address: "10.0.0.3:80"}
    outlier: {consecutive: 2, eject: 10s, max_eject: 40s}
  off: {backends: [{name: a, address: "10.0.0.9:80"}, {name: b, address: "10.0.0.8:80"}], outlier: false}
"""


class Stage:
    """An ejector over a fake loop, whose clock is the loop's."""

    def __init__(self) -> None:
        config = from_plain(make_settings(load_text(FILE, "lb.yml", {}), "lb.yml").plain)
        self.loop = FakeLoop()
        self.members = Members(config)
        self.changed: list[str] = []
        self.events = Events()
        self.ejector = Ejector(config, self.members, self.changed.append, self.events, clock=self.loop.time)

    def report(self, name: str, pool: str = "web") -> None:
        """A worker says that a backend fails."""
        seat = self.members.seats[pool, name]
        message = {"pool": pool, "seat": seat, "failures": 5, "last": "the backend refused the connection"}
        self.ejector.handle_report(message)

    def report_answers(self, name: str, clients: list[int], paths: list[int], count: int = 5) -> None:
        """A worker says that a backend answers 503 to these."""
        answers = {"count": count, "clients": clients, "paths": paths}
        message = {"pool": "web", "seat": self.seat(name), "failures": 5, "last": "the backend answered 503"}
        self.ejector.handle_report({**message, "answers": answers})

    def ejected(self, pool: str = "web") -> set[str]:
        """Who the workers are told to pass over."""
        return {item["name"] for item in self.members.plain_pool(pool)["backends"] if item["ejected"]}

    def seat(self, name: str) -> int:
        """Where a backend is counted."""
        return self.members.seats["web", name]

    def change(self, name: str, **values: Any) -> None:
        """The operator changes a backend."""
        present = self.members.configured("web")
        backends = [replace(item, **values) if item.name == name else item for item in present.backends]
        self.members.configure(replace(present, backends=tuple(backends)))
        self.ejector.follow("web")

    def flip(self, name: str, health: str) -> None:
        """Checks change the health of a backend."""
        self.members.set_health("web", self.seat(name), health)
        self.ejector.follow("web")


@pytest.fixture
def stage() -> Iterator[Stage]:
    """Three backends that live traffic may eject."""
    stage = Stage()
    with patch("asyncio.get_running_loop", return_value=stage.loop):
        yield stage


def test_a_report_ejects_until_the_time_is_up(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """One line each, one change each; what other workers say meanwhile is nothing new; the second time is longer."""
    caplog.set_level(logging.INFO)
    version = stage.members.version
    stage.report("a")
    stage.report("a")
    assert (stage.ejected(), stage.changed, stage.members.version) == ({"a"}, ["web"], version + 1)
    stage.loop.advance(9.9)
    assert stage.ejected() == {"a"}
    assert stage.ejector.remaining("web", stage.seat("a")) == pytest.approx(0.1)
    stage.loop.advance(0.2)
    assert (stage.ejected(), stage.changed) == (set(), ["web", "web"])
    assert stage.ejector.remaining("web", stage.seat("a")) == 0
    stage.report("a")
    assert [record.getMessage() for record in caplog.records] == [
        "web/a is passed over for 10 s: 5 failures in a row, the last: the backend refused the connection",
        "web/a is no longer passed over, after 10 s: its time is up",
        "web/a is passed over for 20 s: 5 failures in a row, the last: the backend refused the connection",
    ]
    assert stage.ejector.totals == {("web", "a"): 2}


def test_each_has_its_own_time(stage: Stage) -> None:
    """One timer serves them all."""
    stage.report("a")
    stage.loop.advance(4.0)
    stage.report("b")
    stage.loop.advance(6.1)
    assert stage.ejected() == {"b"}
    stage.loop.advance(4.0)
    assert stage.ejected() == set()


def test_the_last_one_stays(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """And is named once a minute, however often it is reported."""
    for name in "abc":
        stage.report(name)
    for _ in range(3):
        stage.loop.now += 1.0
        stage.report("c")
    assert stage.ejected() == {"a", "b"}
    assert sum("web/c can't be spared" in record.getMessage() for record in caplog.records) == 1
    stage.loop.now += 60.0
    stage.report("c")
    assert sum("web/c can't be spared" in record.getMessage() for record in caplog.records) == 2


@pytest.mark.parametrize(
    "change", [{"state": "maint"}, {"state": "drain"}, {"weight": 0}], ids=["maint", "drain", "weight"]
)
def test_when_the_others_go_they_come_back(stage: Stage, change: dict[str, Any]) -> None:
    """The one with the least time left, as soon as nobody else would be available."""
    stage.report("a")
    stage.loop.advance(1.0)
    stage.report("b")
    stage.change("c", **change)
    assert stage.ejected() == {"b"}
    assert stage.changed == ["web", "web", "web"]


def test_when_checks_take_the_others_out(stage: Stage) -> None:
    """The same; and one that is down itself isn't called back for it, nor passed over any more."""
    stage.report("a")
    stage.report("b")
    stage.flip("a", "down")
    assert stage.ejected() == {"b"}
    stage.flip("c", "down")
    assert stage.ejected() == set()


def test_a_check_that_passes(stage: Stage) -> None:
    """If it began after the ejection."""
    stage.loop.advance(100.0)
    stage.report("a")
    stage.ejector.handle_pass("web", stage.seat("a"), stage.loop.now - 1.0)
    assert stage.ejected() == {"a"}
    stage.ejector.handle_pass("web", stage.seat("b"), stage.loop.now)
    stage.ejector.handle_pass("web", stage.seat("a"), stage.loop.now)
    stage.ejector.handle_pass("off", 3, stage.loop.now)
    assert (stage.ejected(), stage.changed) == (set(), ["web", "web"])


def test_the_operator_says_ready(stage: Stage) -> None:
    """It is over, and nothing is held against it: the next time is the first one."""
    stage.report("a")
    stage.ejector.handle_ready("web", "a")
    assert (stage.ejected(), stage.changed) == (set(), ["web", "web"])
    stage.report("a")
    assert stage.ejector.remaining("web", stage.seat("a")) == 10.0
    stage.ejector.handle_ready("off", "a")


@pytest.mark.parametrize("state", ["maint", "drain"])
def test_reports_of_one_that_gets_no_new_clients(stage: Stage, state: str) -> None:
    """A drained one still has its sticky clients; one in maintenance gets nothing anyway."""
    stage.change("a", state=state)
    stage.report("a")
    assert stage.ejected() == ({"a"} if state == "drain" else set())


def test_reports_that_are_late(stage: Stage) -> None:
    """Of one that is down or has left by now, of a pool without ejections, of none at all: nothing happens."""
    gone = stage.seat("a")
    stage.flip("b", "down")
    stage.report("b")
    stage.report("a", pool="off")
    present = stage.members.configured("web")
    stage.members.configure(replace(present, backends=present.backends[1:]))
    for pool in ("web", "nowhere"):
        stage.ejector.handle_report({"pool": pool, "seat": gone, "failures": 5, "last": "x"})
    assert (stage.ejected(), stage.ejected("off"), stage.changed) == (set(), set(), [])
    assert stage.ejector.remaining("off", 0) == 0.0


def test_who_leaves_is_forgotten(stage: Stage) -> None:
    """Another address begins with a clean sheet, also on the same seat and under the same name."""
    stage.report("a")
    stage.change("a", host="10.0.0.7")
    assert stage.ejected() == set()
    stage.report("a")
    assert stage.ejector.remaining("web", stage.seat("a")) == 10.0
    present = stage.members.configured("web")
    stage.members.configure(replace(present, backends=present.backends[1:]))
    stage.ejector.follow("web")
    assert stage.ejector.totals == {}
    stage.ejector.follow("off")
    assert repr(stage.ejector) == "<Ejector {'web': <Ejections []>}>"


def test_closed(stage: Stage) -> None:
    """No timer is left."""
    stage.report("a")
    stage.ejector.close()
    stage.loop.advance(100.0)
    assert stage.ejected() == {"a"}


def test_answers_to_one_client_or_for_one_path_eject_nobody(stage: Stage) -> None:
    """However often, and whichever worker says so; two clients and two paths do, though no worker saw both."""
    for clients, paths in (([1], [1, 2]), ([1], [3])):
        stage.report_answers("a", clients, paths)
    for clients, paths in (([1, 2], [1]), ([3], [1])):
        stage.report_answers("b", clients, paths)
    assert stage.ejected() == set()
    stage.report_answers("a", [2], [1])
    assert stage.ejected() == {"a"}


def test_old_evidence_says_nothing(stage: Stage) -> None:
    """What one client got a while ago isn't held together with what another gets now."""
    stage.report_answers("a", [1], [1])
    stage.loop.advance(11.0)
    stage.report_answers("a", [2], [2])
    assert stage.ejected() == set()


def test_answers_eject_a_third_at_most(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """One of three; who can't be reached is another matter, and when the first is back the next may go."""
    for name in "abc":
        stage.report_answers(name, [1, 2], [1, 2])
    assert stage.ejected() == {"a"}
    assert "web/b can't be spared: as many as answers may eject are passed over: 5 failures in a row" in caplog.text
    assert "too few" not in caplog.text
    stage.report("b")
    assert stage.ejected() == {"a", "b"}
    stage.loop.advance(10.1)
    stage.report_answers("c", [1, 2], [1, 2])
    assert stage.ejected() == {"c"}


def test_failures_that_are_enough_without_answers(stage: Stage) -> None:
    """Two are what it takes here: with two connections refused nobody asks who got the answers."""
    stage.report_answers("a", [1], [1], count=3)
    assert stage.ejected() == {"a"}
    stage.report_answers("b", [1], [1], count=4)
    assert stage.ejected() == {"a"}
