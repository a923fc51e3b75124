"""What the machine wants done is done, and what fails is told."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import pytest

from pyproxy.errors import VipFailed
from pyproxy.failover import commands as do
from pyproxy.failover import events as on
from pyproxy.failover.adverts import Adverts
from pyproxy.failover.events import State
from pyproxy.failover.hands import Hands, Tools
from pyproxy.failover.jobs import Jobs, Result
from pyproxy.failover.machine import Machine
from pyproxy.failover.neighbours import Neighbours
from pyproxy.failover.notify import Notifier
from pyproxy.failover.report import Report
from pyproxy.failover.settings import VirtualIp
from pyproxy.failover.vips import Vips
from tests.unit.failover.settings import settings

VIPS = (VirtualIp("10.9.0.100", 32),)
STRANGER = "02:00:00:00:00:77"


class FakeTools:
    """Every tool at once: takes down what is done."""

    def __init__(self) -> None:
        self.done: list[Any] = []
        self.events: list[on.Event] = []
        self.told: list[dict[str, Any]] = []
        self.is_held = False
        self.refuses = False
        self.holder: str | None = STRANGER
        self.result = Result(0, "")
        self.report = Report()
        self.machine = Machine(settings())
        self.machine.facts.sources = {4: "10.9.0.1"}
        tools = Tools(
            cast(Adverts, self),
            cast(Vips, self),
            cast(Neighbours, self),
            cast(Notifier, self),
            self.report,
            cast(Jobs, self),
        )
        self.hands = Hands(self.machine, tools, self.events.append, self.told.append, lambda: self.done.append("link"))

    def send(self, priority: int) -> None:
        """Adverts."""
        self.done.append(("send", priority))

    def add(self, vips: Sequence[VirtualIp], lifetime: int | None, reason: str) -> None:
        """Addresses."""
        if self.refuses:
            raise VipFailed("no room")
        self.done.append(("add", vips, lifetime))

    def remove(self, vips: Sequence[VirtualIp], reason: str) -> None:
        """Addresses."""
        if self.refuses:
            raise VipFailed("no way")
        self.done.append(("remove", vips))

    def forget(self) -> None:
        """Neighbours."""
        self.done.append("forget")

    def announce(self, addresses: Iterable[object], repeat: int = 1) -> None:
        """Neighbours."""
        self.done.append(("announce", [str(address) for address in addresses], repeat))

    async def find_holder(self, addresses: Iterable[object]) -> str | None:
        """Neighbours."""
        self.done.append(("find", [str(address) for address in addresses]))
        return self.holder

    def changed(self, state: str, previous: str, reason: str) -> None:
        """Notifications."""
        self.done.append(("notify", previous, state, reason))

    async def run(self, argv: Sequence[str], timeout: float, environ: Mapping[str, str]) -> Result:
        """Commands."""
        self.done.append(("run", argv, timeout, environ["PYPROXY_HOLDER"]))
        return self.result

    async def finish(self) -> None:
        """Let what was begun end."""
        for task in list(self.hands._tasks):
            await task


@pytest.mark.parametrize(
    ("command", "done"),
    [
        (do.SendAdvert(100), [("send", 100)]),
        (do.AddVips(VIPS, 2), ["forget", ("add", VIPS, 2)]),
        (do.RenewLease(VIPS, 2), ["forget", ("add", VIPS, 2)]),
        (do.RemoveVips(VIPS), [("remove", VIPS)]),
        (do.Announce(VIPS, 5), [("announce", ["10.9.0.100"], 5)]),
        (do.AnnounceSelf(), [("announce", ["10.9.0.1"], 1)]),
        (do.TellLink(), ["link"]),
    ],
)
async def test_what_takes_no_time_is_done_at_once(command: do.Command, done: list[Any]) -> None:
    """When ``carry_out`` returns, the next command may build on it."""
    tools = FakeTools()
    tools.hands.carry_out(command)
    assert tools.done == done
    assert (tools.events, tools.told) == ([], [])


async def test_a_renewal_forgets_no_conflict() -> None:
    """Only what was said before the addresses were ours is of no interest."""
    tools = FakeTools()
    tools.is_held = True
    tools.hands.carry_out(do.RenewLease(VIPS, 2))
    assert tools.done == [("add", VIPS, 2)]


async def test_addresses_that_cannot_be_had_are_told_to_the_machine() -> None:
    """It can't be master then."""
    tools = FakeTools()
    tools.refuses = True
    tools.hands.carry_out(do.AddVips(VIPS, 2))
    assert tools.events == [on.VipsFailed("no room")]


async def test_addresses_that_cannot_be_removed_leave_with_their_lease() -> None:
    """There is nothing that the machine could do about it."""
    tools = FakeTools()
    tools.refuses = True
    tools.hands.carry_out(do.RemoveVips(VIPS))
    assert tools.events == []


@pytest.mark.parametrize("holder", [STRANGER, None])
async def test_a_probe_brings_its_answer_as_an_event(holder: str | None) -> None:
    """Whoever it finds, or nobody."""
    tools = FakeTools()
    tools.holder = holder
    tools.hands.carry_out(do.ProbeVips(VIPS))
    await tools.finish()
    assert tools.events == [on.ProbeDone(holder)]


@pytest.mark.parametrize("result", [Result(0, ""), Result(1, "no power switch")])
async def test_a_fence_hears_whom_to_shoot_and_says_whether_it_did(result: Result) -> None:
    """Its output is the reason when it failed."""
    tools = FakeTools()
    tools.result = result
    tools.hands.carry_out(do.Fence(("shoot",), STRANGER, 30.0))
    await tools.finish()
    assert tools.done == [("run", ("shoot",), 30.0, STRANGER)]
    assert tools.events == [on.FenceDone(result.is_ok, result.detail)]


async def test_a_change_of_state_is_told_to_everyone() -> None:
    """The supervisor, the journal and the operator's command."""
    tools = FakeTools()
    tools.hands.carry_out(do.Notify(State.MASTER, State.BACKUP, "no advert"))
    assert tools.done == [("notify", "backup", "master", "no advert")]
    [told] = tools.told
    assert (told["type"], told["kind"], told["from"], told["to"]) == ("event", "transition", "backup", "master")
    assert len(tools.report.transitions) == 1


async def test_an_alarm_is_told_when_it_begins_and_when_it_ends() -> None:
    """With its text, and without."""
    tools = FakeTools()
    tools.hands.carry_out(do.Alarm("split", True, "why"))
    tools.hands.carry_out(do.Alarm("split", False, ""))
    assert [(told["name"], told["on"], told["reason"]) for told in tools.told] == [
        ("split", True, "why"),
        ("split", False, ""),
    ]


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (do.BeginHandover(), {"type": "handover_begin"}),
        (do.RefuseHandover("not fit"), {"type": "handover_refused", "reason": "not fit"}),
        (do.EndHandover(), {"type": "handover_done"}),
    ],
)
async def test_a_handover_is_the_supervisors_affair(command: do.Command, told: dict[str, Any]) -> None:
    """Which drains in between."""
    tools = FakeTools()
    tools.hands.carry_out(command)
    assert tools.told == [told]


async def test_what_is_under_way_at_the_end_is_ended() -> None:
    """No probe answers after the speaker has gone."""
    tools = FakeTools()
    tools.hands.carry_out(do.ProbeVips(VIPS))
    await tools.hands.close()
    assert tools.events == []


def test_every_command_is_known() -> None:
    """One that the hands don't know would be dropped in silence."""
    known = {do.SendAdvert, do.AddVips, do.RenewLease, do.RemoveVips, do.Announce, do.AnnounceSelf, do.ProbeVips}
    known |= {do.Fence, do.TellLink, do.Notify, do.Alarm, do.BeginHandover, do.RefuseHandover, do.EndHandover}
    assert set(do.Command.__args__) == known


@pytest.mark.parametrize(
    ("before", "state", "level"),
    [
        (State.INIT, State.BACKUP, "INFO"),
        (State.BACKUP, State.MASTER, "WARNING"),
        (State.MASTER, State.BACKUP, "WARNING"),
        (State.FAULT, State.BACKUP, "WARNING"),
    ],
)
async def test_only_a_change_that_matters_is_a_warning(
    caplog: pytest.LogCaptureFixture, before: State, state: State, level: str
) -> None:
    """`log_level: warning` shows who was master when, and no start that went well."""
    caplog.set_level("INFO")
    FakeTools().hands.carry_out(do.Notify(state, before, "why"))
    assert [record.levelname for record in caplog.records] == [level]
