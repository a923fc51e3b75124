"""Pins flow control of one leg: it reads exactly as long as there is no reason not to."""

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pyproxy.proxy.flow import FOREVER, NOT_CONNECTED, PIPELINED, WRITE_FULL, Leg
from tests.fakes import FakeLoop, FakeTransport

REASONS = (WRITE_FULL, NOT_CONNECTED, PIPELINED)


class Taking(Leg):
    """A leg that keeps its transport, and what it read."""

    __slots__ = ("data", "paused_at")

    def __init__(self) -> None:
        super().__init__()
        self.data = b""
        self.paused_at: list[int] = []

    def connection_made(self, transport: object) -> None:
        """Take the transport."""
        assert isinstance(transport, FakeTransport)
        self.take_transport(transport)

    def data_received(self, data: bytes) -> None:
        """Keep it."""
        self.data += data

    def pause_writing(self) -> None:
        """Note how much was waiting."""
        assert self.transport is not None
        self.paused_at.append(self.transport.get_write_buffer_size())


def leg_and_transport() -> tuple[Taking, FakeTransport]:
    """Connect a leg."""
    leg = Taking()
    transport = FakeTransport(FakeLoop(), leg)
    transport.start()
    return leg, transport


class Reading(RuleBasedStateMachine):
    """Reasons come and go in any order, also several at once and twice."""

    def __init__(self) -> None:
        super().__init__()
        self.leg, self.transport = leg_and_transport()
        self.reasons: set[int] = set()

    @rule(reason=st.sampled_from(REASONS))
    def pause(self, reason: int) -> None:
        """Add a reason."""
        self.leg.pause_reading(reason)
        self.reasons.add(reason)

    @rule(reasons=st.sets(st.sampled_from(REASONS), min_size=1))
    def resume(self, reasons: set[int]) -> None:
        """Take some away, whether they were there or not."""
        self.leg.resume_reading(sum(reasons))
        self.reasons -= reasons

    @invariant()
    def reads_without_a_reason_not_to(self) -> None:
        """The transport is told exactly when it changes."""
        assert self.transport.is_reading() == (not self.reasons)
        assert bool(self.leg.paused_for) == bool(self.reasons)


TestReading = Reading.TestCase


def test_reasons_are_bits_of_their_own() -> None:
    """No reason contains another."""
    assert sum(REASONS) == WRITE_FULL | NOT_CONNECTED | PIPELINED
    assert all(reason for reason in REASONS)


@given(st.lists(st.sampled_from(REASONS), max_size=5))
def test_a_closing_transport_is_left_alone(reasons: list[int]) -> None:
    """Reading isn't begun again on a connection that is being closed."""
    leg, transport = leg_and_transport()
    for reason in reasons:
        leg.pause_reading(reason)
    transport.close()
    leg.resume_reading(sum(set(reasons)))
    leg.pause_reading(WRITE_FULL)
    assert not transport.is_reading()
    assert not leg.is_open


def test_without_a_transport_nothing_happens() -> None:
    """Before the connection and after its loss every call is harmless."""
    leg = Taking()
    leg.pause_reading(WRITE_FULL)
    leg.resume_reading(WRITE_FULL)
    leg.await_drain(5.0)
    assert not leg.is_open
    assert not leg.has_drained_some()
    assert leg.deadline == 5.0
    assert Taking().deadline == FOREVER


def test_drain() -> None:
    """A write deadline is believed only if the other side took nothing at all since."""
    leg, transport = leg_and_transport()
    transport.window = 0
    transport.write(b"x" * 1000)
    leg.await_drain(7.0)
    assert leg.deadline == 7.0
    transport.poll()
    assert not leg.has_drained_some()
    transport.open_window(1)
    transport.poll()
    assert leg.has_drained_some()
    leg.await_drain(8.0)
    assert not leg.has_drained_some()


def test_write_buffer_limits() -> None:
    """Explicit limits, so that a body takes little memory whatever the loop's default is."""
    leg, transport = leg_and_transport()
    transport.window = 0
    for _ in range(70):
        transport.write(b"x" * 1000)
    assert leg.paused_at == [66_000]


def test_fact_12_pausing_inside_connection_made_is_ignored() -> None:
    """As with uvloop: reading begins after connection_made whatever was said there, so the fake is honest."""

    class Pauses(Taking):
        __slots__ = ()

        def connection_made(self, transport: object) -> None:
            super().connection_made(transport)
            self.pause_reading(PIPELINED)

    transport = FakeTransport(FakeLoop(), Pauses())
    transport.start()
    assert transport.is_reading()
