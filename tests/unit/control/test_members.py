"""Pins who is in a pool as names come to stand for other addresses, with which weight, and on which seat."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pyproxy.config.load import load_text
from pyproxy.config.runtime import RuntimeConfig, from_plain
from pyproxy.control import members as members_module
from pyproxy.control.answers import Answer, Service, share_equally, share_services
from pyproxy.control.members import MAX_UNIT, Members
from pyproxy.control.settings import make_settings

PLAIN: dict[str, Any] = make_settings(
    load_text(
        """
        listeners: [{bind: "127.0.0.1:80"}]
        routes: [{pool: web}]
        pools:
          web:
            backends:
              - {name: fixed, address: "10.0.0.1:80", weight: 3}
              - {name: app, address: "app.internal:80", weight: 2, max_conns: 7}
              - {name: spare, address: "spare.internal:81", backup: true}
          other:
            backends:
              - {name: app, address: "app.internal:80"}
              - {name: local, address: "unix:/run/app.sock"}
        """,
        "lb.yml",
        {},
    ),
    "lb.yml",
).plain
CONFIG: RuntimeConfig = from_plain(PLAIN)


def hosts(count: int, first: int = 1) -> Answer:
    """An answer of so many addresses."""
    return share_equally([f"10.1.0.{number}" for number in range(first, first + count)], 80)


def weights(members: Members, pool: str = "web") -> dict[str, float]:
    """The weight of each member as the file would have it."""
    return {backend.name: backend.weight / members.pool(pool).unit for backend in members.pool(pool).backends}


def names(members: Members, pool: str = "web") -> list[str]:
    """The members that workers hear of."""
    return [backend["name"] for backend in members.plain_pool(pool)["backends"]]


def test_before_any_answer_the_names_are_out() -> None:
    """Workers get addresses only; the report still sees the name, as it is configured, with ``lookup``."""
    members = Members(CONFIG)
    assert names(members) == ["fixed"]
    assert [backend.lookup for backend in members.pool("web").backends] == ["", "address", "address"]
    assert set(members.seats) == {("web", "fixed"), ("other", "local")}


def test_one_address_keeps_the_name() -> None:
    """Dashboards know the backend by it, and go on when the address changes: same seat, other address."""
    members = Members(CONFIG)
    assert members.update("web", "app", hosts(1))
    assert names(members) == ["fixed", "app"]
    seat = members.seats["web", "app"]
    assert members.update("web", "app", hosts(1, first=9))
    backend = members.plain_pool("web")["backends"][1]
    assert (backend["host"], backend["port"], backend["lookup"], backend["seat"]) == ("10.1.0.9", 80, "", seat)
    assert backend["max_conns"] == 7


def test_several_addresses_are_a_backend_each() -> None:
    """The name tells both whose they are and where they are; an IPv6 address has its brackets."""
    members = Members(CONFIG)
    members.update("web", "app", share_equally(["10.1.0.1", "fd00::1"], 80))
    assert names(members) == ["fixed", "app[10.1.0.1:80]", "app[[fd00::1]:80]"]
    assert weights(members) == {"fixed": 3, "app[10.1.0.1:80]": 1, "app[[fd00::1]:80]": 1, "spare": 1}


def test_the_unit_makes_the_shares_whole() -> None:
    """A weight of 2 shared by three is two thirds each, exactly, and the others keep theirs beside it."""
    members = Members(CONFIG)
    members.update("web", "app", hosts(3))
    pool = members.plain_pool("web")
    assert pool["unit"] == 3
    assert [backend["weight"] for backend in pool["backends"]] == [9, 2, 2, 2]
    members.update("web", "spare", hosts(2, first=50))
    assert members.pool("web").unit == 6
    members.update("web", "app", hosts(1))
    members.update("web", "spare", hosts(1, first=50))
    assert members.pool("web").unit == 1


def test_the_others_of_a_service_are_backups() -> None:
    """A higher priority number is used only when no primary is left; a share of nothing is still a little."""
    members = Members(CONFIG)
    services = [Service(1, 1, 80, ("10.1.0.1",)), Service(1, 0, 80, ("10.1.0.2",)), Service(2, 1, 80, ("10.1.0.3",))]
    members.update("web", "app", share_services(services))
    found = {backend.host: (backend.weight, backend.backup) for backend in members.pool("web").backends}
    assert found["10.1.0.1"] == (2, False)
    assert found["10.1.0.2"] == (1, False)
    assert found["10.1.0.3"] == (2, True)


def test_a_backup_stays_one() -> None:
    """What the file calls a backup is one whatever DNS says."""
    members = Members(CONFIG)
    members.update("web", "spare", hosts(2))
    assert [backend.backup for backend in members.pool("web").backends] == [False, False, True, True]


def test_a_weight_of_zero_stays_zero() -> None:
    """It means sticky clients only, for every address of the name."""
    plain = {**PLAIN, "pools": [{**pool, "backends": [*pool["backends"]]} for pool in PLAIN["pools"]]}
    plain["pools"][0]["backends"][1] = {**PLAIN["pools"][0]["backends"][1], "weight": 0}
    members = Members(from_plain(plain))
    members.update("web", "app", hosts(2))
    assert weights(members) == {"fixed": 3, "app[10.1.0.1:80]": 0, "app[10.1.0.2:80]": 0, "spare": 1}


def test_a_configured_name_is_nobody_elses() -> None:
    """A backend that the file calls like an address of another one keeps its name; that address is left out."""
    plain = {**PLAIN, "pools": [PLAIN["pools"][0], {**PLAIN["pools"][1]}]}
    local = {**PLAIN["pools"][1]["backends"][1], "name": "app[10.1.0.2:80]"}
    plain["pools"][1]["backends"] = [PLAIN["pools"][1]["backends"][0], local]
    members = Members(from_plain(plain))
    members.update("other", "app", hosts(2))
    assert names(members, "other") == ["app[10.1.0.1:80]", "app[10.1.0.2:80]"]
    assert members.plain_pool("other")["backends"][1]["path"] == "/run/app.sock"


def test_an_answer_that_changes_nothing() -> None:
    """There is no new version and nothing to send."""
    members = Members(CONFIG)
    assert members.update("web", "app", hosts(2))
    version = members.version
    assert not members.update("web", "app", hosts(2))
    assert members.version == version
    assert members.update("other", "app", hosts(2))
    assert members.version == version + 1


def test_the_start_configuration_has_the_members() -> None:
    """A worker that starts late begins with what the others have; the configuration itself is left as it is."""
    members = Members(CONFIG)
    members.update("web", "app", hosts(3))
    config = from_plain(members.start_config(PLAIN))
    assert [backend.name for backend in config.pools[0].backends] == names(members)
    assert config.pools[0].unit == 3
    assert config.pools[0].timeouts == CONFIG.pools[0].timeouts
    assert from_plain(PLAIN) == CONFIG


def test_a_seat_is_free_when_nobody_can_count_there() -> None:
    """Not before every worker goes by the version without the backend, nor while anything is in flight on it."""
    cleared: list[int] = []
    members = Members(CONFIG, cleared.append)
    members.update("web", "app", hosts(1))
    old = members.seats["web", "app"]
    members.update("web", "app", hosts(2))
    members.release(members.version - 1, lambda _seat: True)
    members.release(members.version, lambda seat: seat != old)
    members.update("web", "spare", hosts(1, first=50))
    assert old not in members.seats.values()
    members.release(members.version, lambda _seat: True)
    assert not cleared
    members.update("other", "app", hosts(1))
    assert members.seats["other", "app"] == old
    assert cleared == [old]


def test_who_comes_back_finds_the_old_seat() -> None:
    """A name that flaps keeps its counters, while its seat is being vacated and after, until somebody else needs it."""
    cleared: list[int] = []
    members = Members(CONFIG, cleared.append)
    for is_free in (False, True):
        members.update("web", "app", hosts(2))
        seats = dict(members.seats)
        members.update("web", "app", hosts(1))
        if is_free:
            members.release(members.version, lambda _seat: True)
        members.update("web", "app", hosts(2))
        assert members.seats == seats
    assert not cleared


def test_when_all_seats_are_taken(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """What is too much is left out and said, the rest works, and a seat that becomes free is used."""
    monkeypatch.setattr(members_module, "SPARE_SEATS", 0)
    members = Members(CONFIG)
    assert members.capacity == 5
    members.update("web", "app", hosts(4))
    assert names(members) == ["fixed", *(f"app[10.1.0.{number}:80]" for number in (1, 2, 3))]
    assert "web/app[10.1.0.4:80] gets no traffic" in caplog.text
    members.update("web", "app", hosts(1))
    members.update("web", "spare", hosts(1, first=50))
    assert names(members) == ["fixed"]
    members.release(members.version, lambda _seat: True)
    members.update("web", "spare", hosts(1, first=51))
    assert names(members) == ["fixed", "app", "spare"]


def test_joined_is_when_it_came() -> None:
    """A backend that DNS brought wasn't there since the program's start."""
    clock = iter([1.0, 1.0, 5.0, 9.0, 9.0]).__next__
    members = Members(CONFIG, clock=clock)
    members.update("web", "app", hosts(1))
    assert members.joined["web", "fixed"] == 1.0
    assert members.joined["web", "app"] == 5.0
    members.update("web", "app", hosts(2))
    assert members.joined == {
        ("web", "fixed"): 1.0,
        ("other", "local"): 1.0,
        ("web", "app[10.1.0.1:80]"): 9.0,
        ("web", "app[10.1.0.2:80]"): 9.0,
    }


ANSWERS = st.lists(
    st.builds(
        Service,
        st.integers(0, 1),
        st.integers(0, 100),
        st.just(80),
        st.lists(st.integers(1, 40).map(lambda number: f"10.1.0.{number}"), min_size=1, max_size=12, unique=True).map(
            tuple
        ),
    ),
    min_size=1,
    max_size=4,
).map(share_services)


@given(ANSWERS, ANSWERS)
def test_shares_are_exact_within_rounding(app: Answer, spare: Answer) -> None:
    """Each member's weight is the name's weight times its share, or the nearest whole number of units, at least 1."""
    members = Members(CONFIG)
    members.update("web", "app", app)
    members.update("web", "spare", spare)
    pool = members.pool("web")
    assert 1 <= pool.unit <= MAX_UNIT
    shares: dict[tuple[bool, str], Fraction] = {(address.backup, address.host): 2 * address.share for address in app}
    for backend in pool.backends:
        if not backend.name.startswith("app"):
            continue
        exact = shares[backend.backup, backend.host] * pool.unit
        assert backend.weight == max(1, round(exact))
        assert pool.unit == MAX_UNIT or backend.weight == exact or exact == 0
    assert pool.backends[0].weight == 3 * pool.unit


class Workers(RuleBasedStateMachine):
    """Workers that count, hear of changes late, and end, while names come and go."""

    def __init__(self) -> None:
        super().__init__()
        self.members = Members(CONFIG, self.clear)
        self.applied = [1, 1]
        self.views: list[dict[tuple[str, str], int]] = [dict(self.members.seats)] * 2
        self.history = {1: dict(self.members.seats)}
        self.active: dict[tuple[int, int], list[tuple[str, str]]] = {}  # worker, seat: who is being served there

    def clear(self, seat: int) -> None:
        """Check that nobody counts there."""
        for worker in (0, 1):
            assert not self.active.get((worker, seat))
            assert seat not in self.views[worker].values()

    @rule(pool=st.sampled_from(["web", "other"]), count=st.integers(1, 4), first=st.integers(1, 6))
    def change(self, pool: str, count: int, first: int) -> None:
        """The name stands for something else."""
        self.members.update(pool, "app", hosts(count, first))
        self.history[self.members.version] = dict(self.members.seats)

    @rule(worker=st.integers(0, 1))
    def apply(self, worker: int) -> None:
        """A worker goes by the newest version from now on."""
        self.applied[worker] = self.members.version
        self.views[worker] = self.history[self.members.version]

    @rule(worker=st.integers(0, 1), choice=st.integers(0, 20))
    def begin(self, worker: int, choice: int) -> None:
        """A worker sends a request to a backend that it knows."""
        view = sorted(self.views[worker].items())
        key, seat = view[choice % len(view)]
        self.active.setdefault((worker, seat), []).append(key)

    @precondition(lambda self: any(self.active.values()))
    @rule(choice=st.integers(0, 20))
    def end(self, choice: int) -> None:
        """A request ends."""
        busy = [key for key, serving in sorted(self.active.items()) if serving]
        self.active[busy[choice % len(busy)]].pop()

    @rule()
    def release(self) -> None:
        """The supervisor looks after the seats."""
        self.members.release(
            min(self.applied), lambda seat: not any(self.active.get((worker, seat)) for worker in (0, 1))
        )

    @invariant()
    def no_two_share_a_seat(self) -> None:
        """Neither now, nor in the view of a worker that is behind, nor in what is still in flight."""
        seats = list(self.members.seats.values())
        assert len(seats) == len(set(seats))
        users: dict[int, set[tuple[str, str]]] = {}
        for view in (self.members.seats, *self.views):
            for key, seat in view.items():
                users.setdefault(seat, set()).add(key)
        for (_, seat), serving in self.active.items():
            users.setdefault(seat, set()).update(serving)
        assert all(len(keys) <= 1 for keys in users.values()), users

    @invariant()
    def seats_are_within_bounds(self) -> None:
        """What the layout has room for, and below what was ever used."""
        assert all(0 <= seat < self.members.used <= self.members.capacity for seat in self.members.seats.values())


TestWorkers = Workers.TestCase
