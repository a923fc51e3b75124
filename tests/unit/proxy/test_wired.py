"""
The byte path as a whole, wired to fake transports: clients and origins do anything at any moment.

Whatever they do: an exchange finishes once, counters come back to zero, nobody gets a byte that isn't theirs or
an answer that only looks whole, no connection is forgotten, and silence ends everything in bounded time.
"""

from dataclasses import asdict

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pyproxy.config.runtime import Keepalive, Limits, Retry, Route
from pyproxy.proxy.downstream import Downstream
from pyproxy.proxy.flow import FOREVER
from pyproxy.proxy.outcome import QUEUED, REQUEST_BODY
from pyproxy.proxy.upstream import Upstream
from tests.fakes import FakeDial, FakeTransport
from tests.unit.proxy.network import SEGMENT_BYTES, Asked, Client, Origin, segments, write_answer
from tests.unit.proxy.planes import FakePlane, make_backend, make_config, make_pool

BACKENDS = {"a": 8001, "b": 8002}
HIGH, LOW = 300, 100
ANSWER_KINDS = (
    "length",
    "length",
    "chunked",
    "until-close",
    "interim",
    "close",
    "no-content",
    "unavailable",
    "garbage",
)
SIZES = st.sampled_from([0, 1, 5, 40, 550, 4000, 6000])
EVERYTHING = 100_000
CUTS = st.sampled_from([1, 7, 60, 200, EVERYTHING, EVERYTHING, EVERYTHING, EVERYTHING])
#: Something happens only if the dice shows 0: what ends everything must be rare, or nothing gets far.
DICE = st.integers(0, 7)
PICKS = st.integers(0, 1000)
WINDOWS = st.sampled_from([None, None, None, 400])


class Network(RuleBasedStateMachine):
    """One worker, a few clients, two backends."""

    def __init__(self) -> None:
        super().__init__()
        self.clients: list[Client] = []
        self.origins: list[Origin] = []
        self.asked: dict[int, Asked] = {}
        self.ends_well = False
        self.client_window: int | None = None
        self.origin_window: int | None = None

    @initialize(
        ends_well=st.booleans(),
        windows=st.lists(WINDOWS, min_size=2, max_size=2),
        max_conns=st.sampled_from([0, 0, 1, 2]),
        send_proxy=st.sampled_from([None, None, "v1"]),
    )
    def begin(self, ends_well: bool, windows: list[int | None], max_conns: int, send_proxy: str | None) -> None:
        """Begin with somebody to talk to, and decide how much clients and origins read unless told to."""
        self.ends_well = ends_well
        self.client_window, self.origin_window = windows
        self.send_proxy = send_proxy
        self.members = [make_backend(name, port=port, max_conns=max_conns) for name, port in BACKENDS.items()]
        retry = Retry(attempts=2, on=frozenset({"connect", "reset", "timeout", "503"}), budget=0.5, min=2)
        keepalive = Keepalive(max_idle=1, idle=30.0, max_requests=3)
        pool = make_pool("web", tuple(self.members), retry=retry, keepalive=keepalive, send_proxy=send_proxy)
        limits = Limits(request_line=8192, headers=32768, header_count=100, body=5000, connections=0)
        config = make_config(pool, routes=(Route(None, "/web", "web"),), limits=limits)
        self.plane = FakePlane(config)
        self.loop = self.plane.fake_loop
        self.loop.write_buffer_limits = (HIGH, LOW)
        self.backends = list(self.plane.pools["web"].pool.backends)  # all that have ever been there
        self.connect()

    @property
    def ends(self) -> list[Client | Origin]:
        """Everybody out there."""
        return [*self.clients, *self.origins]

    # clients

    @precondition(lambda self: len(self.clients) < 4 and not self.plane.draining)
    @rule()
    def connect(self) -> None:
        """Let another client connect."""
        self.clients.append(Client(self.plane.connect(("192.0.2.1", 50_000 + len(self.clients)))))
        self.clients[-1].transport.window = self.client_window

    @rule(
        pick=PICKS,
        method=st.sampled_from([b"GET", b"GET", b"HEAD", b"POST", b"PUT", b"PUT"]),
        version=st.sampled_from([b"1.1", b"1.1", b"1.0"]),
        size=SIZES,
        is_chunked=st.booleans(),
        connection=st.sampled_from([b"", b"", b"", b"close", b"keep-alive"]),
        problem=st.sampled_from(["", "", "", "", "", "", "", "malformed", "no route", "no route"]),
        cut=CUTS,
    )
    def ask(
        self,
        *,
        pick: int,
        method: bytes,
        version: bytes,
        size: int,
        is_chunked: bool,
        connection: bytes,
        problem: str,
        cut: int,
    ) -> None:
        """Queue a request on a connection and send some of it."""
        number = len(self.asked)
        body = (b"[%d]" % number * 2000)[:size] if method in {b"POST", b"PUT"} else b""
        asked = Asked(number, method, version, body, connection=connection)
        asked.is_malformed = problem == "malformed"
        asked.target = b"/%b/%d" % (b"none" if problem == "no route" else b"web", number)
        asked.is_chunked = is_chunked and method in {b"POST", b"PUT"} and version == b"1.1"
        self._ask(pick, asked, cut)

    @rule(pick=PICKS, dice=DICE)
    def flood(self, pick: int, dice: int) -> None:
        """Queue many small requests that need no backend, and send them in one segment."""
        if dice == 0:
            for _ in range(25):
                number = len(self.asked)
                self._ask(pick, Asked(number, target=b"/none/%d" % number), 0)
            self.clients[pick % len(self.clients)].send(EVERYTHING)

    @rule(pick=PICKS, cut=CUTS, dice=DICE)
    def ask_for_upgrade(self, pick: int, cut: int, dice: int) -> None:
        """Queue a request that may become a tunnel."""
        if dice < 2:
            number = len(self.asked)
            self._ask(pick, Asked(number, target=b"/web/%d" % number, upgrade=True), cut)

    def _ask(self, pick: int, asked: Asked, cut: int) -> None:
        client = self.clients[pick % len(self.clients)]
        if client.may_ask:
            self.asked[asked.number] = asked
            client.ask(asked)
            client.send(cut)

    @rule(pick=PICKS, cut=CUTS)
    def send(self, pick: int, cut: int) -> None:
        """Send more of what is queued."""
        self.clients[pick % len(self.clients)].send(cut)

    @rule(pick=PICKS, is_reset=st.booleans(), dice=DICE)
    def leave(self, pick: int, is_reset: bool, dice: int) -> None:
        """Let a client go."""
        client = self.clients[pick % len(self.clients)]
        if not client.has_left and dice < 2:
            client.has_left = True
            client.transport.receive(ConnectionResetError("reset") if is_reset else None)

    @rule(pick=PICKS, count=st.sampled_from([0, 1, 150, 1000, None]), is_origin=st.booleans())
    def read(self, pick: int, count: int | None, is_origin: bool) -> None:
        """Let one end stop reading, or read some of what waits for it."""
        ends: list[Client | Origin] = [*(self.origins if is_origin else self.clients)]
        if ends:
            transport = ends[pick % len(ends)].transport
            if transport.window is None and count is not None:
                transport.window = count
            else:
                transport.open_window(count)

    # backends

    @precondition(lambda self: self.loop.dials)
    @rule(pick=PICKS, answer=st.sampled_from(["accept", "accept", "accept", "refuse", "out of descriptors"]))
    def dial(self, pick: int, answer: str) -> None:
        """Let a connect end."""
        dial = self.loop.dials[pick % len(self.loop.dials)]
        if answer == "accept":
            self._accept(dial)
        else:
            dial.refuse(None if answer == "refuse" else OSError(24, "too many open files"))

    def _accept(self, dial: FakeDial) -> None:
        self.origins.append(Origin(dial.accept(), self.asked))
        self.origins[-1].transport.window = self.origin_window

    @precondition(lambda self: any(origin.next_asked() for origin in self.origins))
    @rule(pick=PICKS, kind=st.sampled_from(ANSWER_KINDS), size=SIZES, cut=CUTS)
    def answer(self, pick: int, kind: str, size: int, cut: int) -> None:
        """Let an origin begin to answer; the request need not be there in whole."""
        origins = [origin for origin in self.origins if origin.next_asked()]
        origin = origins[pick % len(origins)]
        self._answer(origin, kind, size)
        origin.send(cut)

    def _answer(self, origin: Origin, kind: str, size: int) -> None:
        asked = origin.next_asked()
        assert asked is not None
        if asked.upgrade and size != 1:
            kind = "upgrade"
            origin.tunnelled = asked
            origin.client = next(client for client in self.clients if asked in client.asked)
            origin.client.tunnel = origin
        origin.begin(write_answer(asked, kind, size))

    @rule(kind=st.sampled_from(ANSWER_KINDS), size=SIZES)
    def serve_all(self, kind: str, size: int) -> None:
        """Go a long way at once."""
        self.serve(kind, size)

    def serve(self, kind: str, size: int) -> None:
        """Send everything that is queued, let every connect succeed, answer every request."""
        for client in self.clients:
            client.send(EVERYTHING)
        self.loop.run()
        while self.loop.dials:
            self._accept(self.loop.dials[0])
        self.loop.run()
        for origin in self.origins:
            if origin.next_asked():
                self._answer(origin, kind, size)
            origin.send(EVERYTHING)
        self.loop.run()

    @precondition(lambda self: self.origins)
    @rule(pick=PICKS, cut=CUTS)
    def answer_more(self, pick: int, cut: int) -> None:
        """Send more of an answer."""
        self.origins[pick % len(self.origins)].send(cut)

    @precondition(lambda self: self.origins)
    @rule(pick=PICKS, what=st.sampled_from(["finish", "finish", "reset", "chatter"]), dice=DICE)
    def misbehave(self, pick: int, what: str, dice: int) -> None:
        """End a backend's connection, or say something unasked on it."""
        origin = self.origins[pick % len(self.origins)]
        if dice > 2:
            return
        if what == "reset":
            origin.reset()
        elif what == "finish":
            origin.finish()
        else:
            self._chatter(origin)

    def _chatter(self, origin: Origin) -> None:
        """Say something on an idle connection: when it meets a request, nobody could tell it from the answer."""
        leg = origin.transport.protocol
        assert isinstance(leg, Upstream)
        if leg.exchange is None and origin.client is None and not (origin.has_left or self.loop.has_work):
            origin.has_left = True
            origin.transport.receive(b"HTTP/1.1 200 OK\r\nX-Answer: stray\r\nContent-Length: 0\r\n\r\n")
            self.loop.run()
            assert origin.transport.is_lost

    @precondition(lambda self: any(client.tunnel for client in self.clients))
    @rule(pick=PICKS, is_origin=st.booleans(), size=SIZES)
    def talk(self, pick: int, is_origin: bool, size: int) -> None:
        """Send through a tunnel, once its 101 has arrived."""
        client = next(client for client in self.clients if client.tunnel is not None)
        origin = client.tunnel
        assert origin is not None
        data = (b"<%d>" % pick * 2000)[:size]
        if b"HTTP/1.1 101" not in client.transport.sent or not data:
            return
        if is_origin and not origin.has_left:
            origin.tunnel_sent += data
            origin.transport.receive(*segments(data))
        elif not is_origin and not client.has_left:
            client.tunnel_sent += data
            client.transport.receive(*segments(data))

    # everybody

    @rule()
    def run(self) -> None:
        """Let the loop come to rest."""
        self.plane.run()

    @rule()
    def turn(self) -> None:
        """Take a single turn of the loop, so that things happen in between."""
        self.loop.turn()

    @rule(seconds=st.sampled_from([0.2, 0.2, 0.2, 2.0, 2.0, 11.0, 16.0, 31.0]))
    def wait(self, seconds: float) -> None:
        """Let time pass; a long time in one leap, or the sweeper's many looks would take most of the test."""
        self.loop.stall(self.loop.now + seconds - 0.2)
        self.loop.advance(0.2)

    @precondition(lambda self: self.asked)
    @rule(dice=DICE)
    def drain(self, dice: int) -> None:
        """Stop, sometimes by force."""
        if dice == 0 and not self.plane.draining:
            self.plane.drain()
        elif dice == 1 and self.plane.draining:
            self.plane.abandon()

    @precondition(lambda self: self.asked)
    @rule(dice=DICE, names=st.sampled_from(["ab", "ab", "a", "b", ""]), moves=st.booleans())
    def change_members(self, dice: int, names: str, moves: bool) -> None:
        """Let backends leave, come back, or have another address."""
        if dice == 0:
            members = [
                {**asdict(member), "seat": seat, "port": member.port + 10 * moves}
                for seat, member in enumerate(self.members)
                if member.name in names
            ]
            self.plane.update_pools([{"name": "web", "unit": 1, "backends": members}])
            present = self.plane.pools["web"].pool.backends
            self.backends += [backend for backend in present if backend not in self.backends]

    # what must always hold

    @invariant()
    def everybody_gets_what_is_theirs(self) -> None:
        """Answers in order, of the right request, never only looking whole; requests not altered on the way."""
        for client in self.clients:
            client.check()
        owners = {asked.number: port for port, client in enumerate(self.clients, 50_000) for asked in client.asked}
        for origin in self.origins:
            seen = origin.check()
            assert origin.source_port is not None or not self.send_proxy or not seen
            assert origin.source_port is None or {owners[asked.number] for asked in seen} <= {origin.source_port}

    @invariant()
    def counters_agree(self) -> None:
        """Exchanges finish once; gauges say what is there; no count is below zero."""
        plane = self.plane
        assert len({id(exchange) for exchange in plane.finished}) == len(plane.finished)
        assert all(exchange.finished for exchange in plane.finished)
        open_now = [client for client in self.clients if not client.transport.is_lost]
        assert plane.connections == len(open_now)
        for backend in self.backends:
            in_flight = [
                leg.exchange
                for leg in plane.downstreams()
                if leg.exchange is not None
                and leg.exchange.attempts
                and leg.exchange.attempts[-1].on is backend
                and (leg.exchange.upstream is not None or leg.exchange._dial is not None)
            ]
            assert backend.active == len(in_flight)
            assert plane.row[backend.columns.active] == sum(
                each.active for each in self.backends if each.columns.active == backend.columns.active
            )
            assert not backend.max_conns or backend.active <= backend.max_conns
            assert len(backend.keepalive) <= 1
        served = plane.pools["web"]
        assert served.pool.active == sum(backend.active for backend in self.backends)
        queued = [leg.exchange for leg in plane.downstreams() if leg.exchange and leg.exchange.response is QUEUED]
        assert len(served.line) == served.line.count() == len(queued)

    @invariant()
    def buffers_are_bounded(self) -> None:
        """
        Nobody who doesn't read makes us remember more than a buffer and what one read brought.

        What lies in the kernel when a connection breaks is read at once; that is a receive buffer's worth at most.
        """
        late = max((end.transport.late_bytes for end in self.ends), default=0)
        for end in self.ends:
            assert end.transport.peak_buffer_bytes < HIGH + SEGMENT_BYTES + 500 + late

    @invariant()
    def nothing_is_forgotten(self) -> None:
        """At rest: somebody's deadline runs for each leg, a leg reads unless the other can't write."""
        if self.loop.has_work:
            return
        plane = self.plane
        idle = [leg for leg in plane.upstreams() if leg.is_open and leg.exchange is None]
        kept = [backend.keepalive for backend in self.backends]
        kept += [own.keepalive for leg in plane.downstreams() for own in (leg.own or {}).values()]
        assert len(idle) == sum(map(len, kept)), idle
        for downstream in plane.downstreams():
            self._check_downstream(downstream)
        for leg in plane.upstreams():
            if leg.is_open:
                other = leg.exchange.downstream.deadline if leg.exchange is not None else FOREVER
                assert min(leg.deadline, other) < FOREVER, f"no deadline: {leg!r}"
                self._check_upstream(leg)

    def _check_downstream(self, leg: Downstream) -> None:
        exchange = leg.exchange
        deadlines = [leg.deadline]
        if exchange is not None:
            deadlines += [part.deadline for part in (exchange.upstream, exchange._dial) if part is not None]
            if exchange.response is QUEUED:
                deadlines.append(self.plane.pools["web"].line.deadline)
        if leg.is_open:
            assert min(deadlines) < FOREVER, f"no deadline: {leg!r}"
            assert leg.transport is not None
            if exchange is None and not leg.write_paused:
                assert leg.transport.is_reading(), f"reads never again: {leg!r}"
        elif leg.transport is not None:
            assert leg.deadline < FOREVER, f"closes never: {leg!r}"

        if exchange is not None and exchange.request is REQUEST_BODY and leg.is_open:
            upstream = exchange.upstream
            assert leg.transport is not None
            assert upstream is None or upstream.write_paused or leg.transport.is_reading(), f"stuck: {leg!r}"

    def _check_upstream(self, leg: Upstream) -> None:
        transport = leg.transport
        assert isinstance(transport, FakeTransport)
        if leg.exchange is not None and leg.exchange.downstream.write_paused:
            assert not transport.is_reading(), f"reads for nobody: {leg!r}"
        elif not transport.has_read_eof:
            assert transport.is_reading(), f"stuck: {leg!r}"

    # the end

    def teardown(self) -> None:
        """From wherever it went: everything can still end well, or if nobody does anything any more, somehow."""
        if not self.clients:
            return
        self.loop.run()
        if self.ends_well:
            self._cooperate()
        self._be_silent()

    def _cooperate(self) -> None:
        for _ in range(60):
            for end in self.ends:
                end.transport.open_window()
                end.send(EVERYTHING)
            self.loop.run()
            self.serve("length", 5)
            for origin in self.origins:
                if origin.answer is not None and origin.answer.ends_with_connection:
                    origin.finish()
        # Tunnels may hold every place for good: who waits is refused in time, then its client's next request waits.
        for _ in range(len(self.asked)):
            if len(self.plane.pools["web"].line):
                self.loop.advance(6.0)
        for client in self.clients:
            whole = client.check()
            if not (client.has_left or client.transport.is_lost or client.transport.has_ended or client.tunnel):
                assert whole == [asked.number for asked in client.asked], "not everybody was answered"

    def _be_silent(self) -> None:
        for _ in range(200):
            watched = self.plane.sweeper.watched
            if not watched:
                break
            deadline = min(each.deadline for each in watched)
            assert deadline < FOREVER, watched
            self.loop.stall(deadline)
            self.loop.advance(0.2)
            self.nothing_is_forgotten()
        assert not self.plane.sweeper.watched
        assert all(end.transport.is_lost for end in self.ends)
        self.counters_agree()
        self.everybody_gets_what_is_theirs()
        row, layout = self.plane.row, self.plane.layout
        assert all(row[column] == 0 for column in layout.gauges - {layout.loop_lag_ns})
        assert sum(row[layout.end(end)] for end in self.plane.end_columns) == len(self.plane.finished)


Network.TestCase.settings = settings(
    max_examples=1000,
    stateful_step_count=50,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],  # explaining takes longer than reading
    suppress_health_check=[HealthCheck.too_slow],
)
# A thousand storms take half a minute on an idle machine, and must not be called inconsistent on a busy one.
TestNetwork = pytest.mark.timeout(300)(Network.TestCase)
