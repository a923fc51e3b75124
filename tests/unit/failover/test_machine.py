"""The tables of the machine: every state and event is in them, and each change of state is told once."""

from itertools import pairwise

import pytest

from pyproxy.errors import IllegalEvent
from pyproxy.failover import commands as do
from pyproxy.failover import events as on
from pyproxy.failover.events import Event, State
from pyproxy.failover.machine import ILLEGAL, TABLE, TIMERS, Machine
from pyproxy.failover.packet import Advert
from tests.unit.failover.rig import PEER, Rig, alarms, in_state, states
from tests.unit.failover.settings import settings

EVENTS: list[Event] = [
    on.Start(),
    on.Stop(),
    on.AdvertHeard(Advert(4, 3, 51, 90, 1.0, ("10.9.0.100",)), PEER),
    on.PacketDropped("checksum"),
    on.Tick(),
    on.FactsChanged(),
    on.Resumed(1.0),
    on.HandoverRequested(),
    on.DrainDone(),
    on.ProbeDone(None),
    on.FenceDone(True),
    on.VipsFailed("x"),
    on.ConflictSeen("10.9.0.100", "02:00:00:00:00:01"),
    on.Reconfigured(settings()),
]


def test_every_event_is_tried() -> None:
    """The next test is worth what its list is."""
    assert {type(event) for event in EVENTS} == {kind for row in TABLE.values() for kind in row}


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_every_event_is_handled_or_illegal(state: State, event: Event) -> None:
    """Nothing falls through: it works, or the error names machine, state and event."""
    rig = in_state(state.value)
    if (state, type(event)) in ILLEGAL:
        with pytest.raises(IllegalEvent, match=rf"Machine vrid 51.*Start.*{state.value}"):
            rig.give(event)
        return
    commands = rig.give(event)
    assert all(type(command).__module__ == "pyproxy.failover.commands" for command in commands)
    assert len(states(commands)) <= 1
    deadline = rig.machine.next_deadline()
    assert deadline is None or deadline >= rig.now


def test_the_handlers_that_the_tables_name_exist() -> None:
    """They are named by text."""
    for names in (*(row.values() for row in TABLE.values()), TIMERS.values()):
        assert all(callable(getattr(Machine, name)) for name in names)


def test_timers_belong_to_their_states() -> None:
    """After any change of state no timer is armed that nobody handles there."""
    for state in ("init", "backup", "master", "fault"):
        for event in EVENTS:
            if (State(state), type(event)) not in ILLEGAL:
                rig = in_state(state)
                rig.facts.ready_workers = 0
                rig.give(event)
                armed = {(rig.machine.state, timer) for timer in rig.machine._timers}
                assert armed <= set(TIMERS)


def test_one_notice_for_each_change_of_state() -> None:
    """The journal, the notify commands and the state file hang on it."""
    rig = Rig()
    rig.become_master()
    rig.hear(200)
    rig.hear(0)
    rig.wait(1.0)
    rig.know(own_link_up=False)
    rig.know(own_link_up=True)
    rig.give(on.Stop())
    told = [command for _, command in rig.log if isinstance(command, do.Notify)]
    assert [command.state.value for command in told] == [
        "backup",
        "master",
        "backup",
        "master",
        "fault",
        "backup",
        "init",
    ]
    assert all(one.state == two.before for one, two in pairwise(told))
    assert all(command.reason for command in told)


def test_a_machine_shows_what_it_waits_for() -> None:
    """Its repr is what logs and tests read."""
    rig = Rig()
    rig.become_backup()
    assert repr(rig.machine).startswith("<Machine vrid 51 backup priority 100 down@")


def test_alarms_are_told_when_they_change() -> None:
    """The same one again is no news."""
    rig = Rig()
    rig.start()
    more = ["10.9.0.7", "10.9.0.100"]
    assert alarms(rig.hear(150, addresses=more)) == ["addresses_v4"]
    assert "10.9.0.7" in rig.machine.alarms["addresses_v4"]
    assert alarms(rig.hear(150, addresses=more)) == []
    assert alarms(rig.hear(150)) == ["-addresses_v4"]
    rig.hear(150, addresses=more)
    assert "-addresses_v4" in alarms(rig.wait(4.0)), "a peer that is gone has no wrong list"
