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
from pyproxy.control.members import MAX_UNIT, Label, Members
from pyproxy.control.scoreboard import Scoreboard
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
    """Dashboards know the backend by it, and go on when the address changes."""
    members = Members(CONFIG)
    assert members.update("web", "app", hosts(1))
    assert names(members) == ["fixed", "app"]
    assert members.update("web", "app", hosts(1, first=9))
    backend = members.plain_pool("web")["backends"][1]
    assert (backend["host"], backend["port"], backend["lookup"]) == ("10.1.0.9", 80, "")
    assert backend["max_conns"] == 7


def test_who_is_ourselves_is_told_to_the_workers() -> None:
    """By the address that a name has at the moment."""
    members = Members(CONFIG, is_own=lambda backend: backend.host == "10.1.0.2")
    for first, is_own in ((1, False), (2, True)):
        members.update("web", "app", hosts(1, first))
        (plain,) = [item for item in members.plain_pool("web")["backends"] if item["host"].startswith("10.1.")]
        assert plain["is_own"] is is_own


def test_another_address_has_a_seat_of_its_own() -> None:
    """What is in flight on the old one isn't in the way of the new one, but the name's counters are those of both."""
    folded: list[tuple[int, int]] = []
    members = Members(CONFIG, fold=lambda source, target: folded.append((source, target)))
    members.update("web", "app", hosts(1))
    old = members.seats["web", "app"]
    members.update("web", "app", hosts(1, first=9))
    new = members.seats["web", "app"]
    assert old != new
    assert members.all_seats()["web", "app"] == [new, old]
    members.release(members.version, lambda seat: seat != old)
    assert not folded
    members.release(members.version, lambda _seat: True)
    assert folded == [(old, new)]
    assert members.all_seats()["web", "app"] == [new]


def test_an_address_keeps_its_seat_under_another_name() -> None:
    """A second address beside it, or the loss of that, is no reason to forget what is in flight on it."""
    members = Members(CONFIG)
    members.update("web", "app", hosts(1))
    seat = members.seats["web", "app"]
    members.update("web", "app", hosts(2))
    assert members.seats["web", "app[10.1.0.1:80]"] == seat
    assert members.seats["web", "app[10.1.0.2:80]"] != seat
    members.update("web", "app", hosts(1))
    assert members.all_seats()["web", "app"] == [seat]


def test_the_same_address_of_two_names_is_two_seats() -> None:
    """Each has its own max_conns and its own counters, in another pool as well as in the same."""
    members = Members(CONFIG)
    for pool, name in (("web", "app"), ("web", "spare"), ("other", "app")):
        members.update(pool, name, hosts(1))
    assert len(set(members.seats.values())) == len(members.seats) == 5


def test_what_a_name_that_is_gone_has_counted_is_nobodys() -> None:
    """It isn't folded into another one, and is its own again if it comes back while the seat is leaving."""
    folded: list[tuple[int, int]] = []
    members = Members(CONFIG, fold=lambda source, target: folded.append((source, target)))
    members.update("web", "app", hosts(1))
    seat = members.seats["web", "app"]
    members.update("web", "app", hosts(2, first=5))
    assert not any(seat in seats for seats in members.all_seats().values())
    members.update("web", "app", hosts(1, first=9))
    assert seat in members.all_seats()["web", "app"]
    members.update("web", "app", hosts(2, first=5))
    members.release(members.version, lambda _seat: True)
    assert not folded


def test_another_name_begins_anew_on_a_seat_that_had_left() -> None:
    """What the address has counted as ``app[10.1.0.2:80]`` must not show up as requests of ``app`` at once."""
    cleared: list[int] = []
    for is_free, meanwhile in ((False, hosts(1)), (True, hosts(1)), (True, hosts(2, first=8))):
        members = Members(CONFIG, cleared.append)
        members.update("web", "app", hosts(2))
        seat = members.seats["web", "app[10.1.0.2:80]"]
        members.update("web", "app", meanwhile)
        if is_free:
            members.release(members.version, lambda _seat: True)
        members.update("web", "app", hosts(1, first=2))
        assert members.seats["web", "app"] == seat
        assert cleared == [seat]
        cleared.clear()


def test_a_name_that_lived_on_elsewhere_has_its_counts_with_it() -> None:
    """What rests on the seat of its former address was shown by another life of the name."""
    cleared: list[int] = []
    members = Members(CONFIG, cleared.append)
    members.update("web", "app", hosts(1))
    seat = members.seats["web", "app"]
    members.update("web", "app", hosts(2, first=5))
    members.release(members.version, lambda _seat: True)
    members.update("web", "app", hosts(1, first=5))
    assert not cleared
    members.update("web", "app", hosts(1))
    assert members.seats["web", "app"] == seat
    assert cleared == [seat]


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
    assert found["10.1.0.1"] == (2 * MAX_UNIT, False)
    assert found["10.1.0.2"] == (1, False)
    assert found["10.1.0.3"] == (2 * MAX_UNIT, True)


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
    members.update("web", "app", hosts(2, first=5))
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
    """An address that flaps keeps its counters: while its seat is vacated, and after until somebody else needs it."""
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
    assert names(members) == ["fixed", "app"]
    members.release(members.version, lambda _seat: True)
    members.update("web", "spare", hosts(1, first=51))
    assert names(members) == ["fixed", "app", "spare"]


def test_joined_is_when_it_came() -> None:
    """A backend that DNS brought wasn't there since the program's start."""
    now = 1.0
    members = Members(CONFIG, clock=lambda: now)
    assert members.joined == {"web": {"fixed": 1.0}, "other": {"local": 1.0}}
    now = 5.0
    members.update("web", "app", hosts(1))
    now = 7.0
    members.update("web", "app", hosts(1, first=2))
    assert members.joined["web"] == {"fixed": 1.0, "app": 5.0}
    now = 9.0
    members.update("web", "app", hosts(2))
    assert members.joined["web"] == {"fixed": 1.0, "app[10.1.0.1:80]": 9.0, "app[10.1.0.2:80]": 9.0}


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


Place = tuple[str, str]  # pool and address: no two names of it have the same here
TOTAL, ACTIVE = 0, 1


def columns(seat: int) -> range:
    """A seat of two counters."""
    return range(2 * seat, 2 * seat + 2)


class Workers(RuleBasedStateMachine):
    """Workers that count, hear of changes late, and die, while names come and go."""

    def __init__(self) -> None:
        super().__init__()
        self.members = Members(CONFIG, self.clear, self.fold)
        size = 2 * self.members.capacity
        self.board = Scoreboard(2, size, range(ACTIVE, size, 2))
        self.owners: dict[Place, Label] = {}  # the name that a place has, or had when it left
        self.expected: dict[Label, int] = {}  # what a name must have counted, from what it began with
        self.note_change()
        self.applied = [1, 1]
        self.views = [self.places(), self.places()]
        self.serving: list[tuple[int, Place, int]] = []  # worker, place and seat of each request

    def teardown(self) -> None:
        """Close the shared memory."""
        self.board.close()

    def clear(self, seat: int) -> None:
        """Let a seat's counters begin anew."""
        self.board.clear(columns(seat))

    def fold(self, source: int, target: int) -> None:
        """Check that nobody counts on a seat any more, and fold it."""
        assert source not in [seat for _, _, seat in self.serving]
        assert source not in [seat for view in self.views for seat in view.values()]
        self.board.fold(columns(source), columns(target))

    def places(self) -> dict[Place, int]:
        """The addresses that are members, with their seats."""
        pools = [self.members.pool(name) for name in ("web", "other")]
        return {(pool.name, b.address): b.seat for pool in pools for b in pool.backends if not b.lookup}

    def shown(self, label: Label, counter: int) -> int:
        """What a name's counter is shown as."""
        seats = self.members.all_seats()[label]
        return sum(self.board.sums(columns(seat)[counter] for seat in seats))

    def note_change(self) -> None:
        """Note whose the places are now, and what names that are new begin with."""
        self.board.used = 2 * self.members.used
        for name in ("web", "other"):
            for backend in self.members.pool(name).backends:
                if not backend.lookup:
                    self.owners[name, backend.address] = (name, backend.name)
        self.expected = {label: self.expected.get(label, self.shown(label, TOTAL)) for label in self.members.seats}

    def count(self, worker: int, place: Place, seat: int) -> None:
        """A worker counts, and so must the name that the place has or had last."""
        self.board.row(worker)[columns(seat)[TOTAL]] += 1
        if self.owners[place] in self.expected:
            self.expected[self.owners[place]] += 1

    @rule(pool=st.sampled_from(["web", "other"]), numbers=st.sets(st.integers(1, 4), min_size=1, max_size=3))
    def change(self, pool: str, numbers: set[int]) -> None:
        """The name stands for something else."""
        self.members.update(pool, "app", share_equally([f"10.1.0.{number}" for number in sorted(numbers)], 80))
        self.note_change()

    @rule(number=st.integers(1, 4))
    def move(self, number: int) -> None:
        """The name has one address."""
        self.change("web", {number})

    @rule(worker=st.integers(0, 1))
    def apply(self, worker: int) -> None:
        """A worker goes by the newest version from now on."""
        self.applied[worker] = self.members.version
        self.views[worker] = self.places()

    @rule(worker=st.integers(0, 1), choice=st.integers(0, 20))
    def begin(self, worker: int, choice: int) -> None:
        """A worker sends a request to a backend that it knows."""
        view = sorted(self.views[worker].items())
        place, seat = view[choice % len(view)]
        self.serving.append((worker, place, seat))
        self.board.row(worker)[columns(seat)[ACTIVE]] += 1
        self.count(worker, place, seat)

    @precondition(lambda self: self.serving)
    @rule(choice=st.integers(0, 20))
    def end(self, choice: int) -> None:
        """A request ends, and counts once more."""
        worker, place, seat = self.serving.pop(choice % len(self.serving))
        self.count(worker, place, seat)
        self.board.row(worker)[columns(seat)[ACTIVE]] -= 1

    @rule(worker=st.integers(0, 1))
    def die(self, worker: int) -> None:
        """A worker dies with all that it serves; the next one begins with what holds now."""
        self.serving = [request for request in self.serving if request[0] != worker]
        self.board.retire(worker)
        self.apply(worker)

    @rule()
    def release(self) -> None:
        """The supervisor looks after the seats."""
        self.members.release(min(self.applied), lambda seat: self.board.sums([columns(seat)[ACTIVE]]) == [0])

    @invariant()
    def no_two_addresses_share_a_seat(self) -> None:
        """Neither now, nor in the view of a worker that is behind, nor in what is still in flight."""
        users: dict[int, set[Place]] = {}
        for view in (self.places(), *self.views):
            for place, seat in view.items():
                users.setdefault(seat, set()).add(place)
        for _, place, seat in self.serving:
            users.setdefault(seat, set()).add(place)
        assert all(len(places) == 1 for places in users.values()), users

    @invariant()
    def an_address_has_what_is_in_flight_on_it(self) -> None:
        """Its max_conns is held by all that goes there, whatever its name was then, and by nothing else."""
        for place, seat in self.places().items():
            in_flight = sum(served == place for _, served, _ in self.serving)
            assert self.board.sums([columns(seat)[ACTIVE]]) == [in_flight]

    @invariant()
    def a_name_counts_everything_once(self) -> None:
        """While it lives its counters never fall, and nothing is lost, doubled, or another one's."""
        assert {label: self.shown(label, TOTAL) for label in self.members.seats} == self.expected
        for label in self.expected:
            owned = sum(self.owners[place] == label for _, place, _ in self.serving)
            assert self.shown(label, ACTIVE) == owned

    @invariant()
    def seats_are_within_bounds(self) -> None:
        """What the layout has room for, and below what was ever used."""
        assert all(0 <= seat < self.members.used <= self.members.capacity for seat in self.members.seats.values())


TestWorkers = Workers.TestCase
